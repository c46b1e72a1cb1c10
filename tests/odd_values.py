"""Values that no argument expects, or few do; and how a table says which argument takes which."""

import datetime
import decimal
import fractions
import pathlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas

import tts_jax as tts


class Plain:
    """An object of no kind."""

    def __repr__(self):
        return "Plain()"


class Unprintable:
    """An object whose text has several lines."""

    def __repr__(self):
        return "first\nsecond"


def identity(x):
    return x


KEY = jax.random.key(0)
STEP = tts.SmoothStep(0.2)
TARGET = tts.PiecewiseConstant([0.3, 0.6], [1.0, 0.0, 2.0])
PROBLEM = tts.Regression(TARGET)
NETWORK = tts.ShallowNetwork([[0.5], [-0.5]], [[0.2], [0.7]], 0.0, STEP)

VALUES = {
    "None": None,
    "text": "text",
    "empty text": "",
    "a number as text": "1e-3",
    "bytes": b"bytes",
    "an empty list": [],
    "an empty tuple": (),
    "an empty mapping": {},
    "a mapping": {"a": 1.0},
    "a set": {0.25, 0.5},
    "a list of one": [0.5],
    "a tuple": (0.25, 0.5),
    "a decreasing list": [0.5, 0.25],
    "a list of one value twice": [0.5, 0.5],
    "a list of three": [0.25, 0.5, 0.75],
    "a list of 10**400": [10**400, 1],
    "a list of text": ["a", "b"],
    "a list of None": [None, None],
    "a list of booleans": [True, False],
    "a ragged list": [[0.1], [0.2, 0.3]],
    "a range": range(1, 3),
    "a generator": (0.1 * k for k in range(3)),
    "an object": Plain(),
    "an object of two lines": Unprintable(),
    "a function": identity,
    "a function of NumPy": np.sin,
    "a class": tts.SmoothStep,
    "a module": np,
    "Ellipsis": ...,
    "a slice": slice(3),
    "NotImplemented": NotImplemented,
    "an exception": ValueError("it"),
    "True": True,
    "False": False,
    "a boolean of NumPy": np.bool_(True),
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "a NaN of NumPy": np.float32("nan"),
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "0.0": 0.0,
    "1e-320": 1e-320,
    "1e300": 1e300,
    "2**31": 2**31,
    "2**63": 2**63,
    "10**400": 10**400,
    "-10**400": -(10**400),
    "complex": 1 + 2j,
    "a complex number of NumPy": np.complex64(1),
    "a date": np.datetime64("2024-01-01"),
    "a time difference": np.timedelta64(3, "s"),
    "a date of Python": datetime.date(2024, 1, 1),
    "a timestamp of pandas": pandas.Timestamp("2024-01-01"),
    "NA of pandas": pandas.NA,
    "NaT of pandas": pandas.NaT,
    "a key": KEY,
    "two keys": jax.random.split(KEY),
    "an older key": jax.random.PRNGKey(0),
    "an array of shape (0,)": np.array([]),
    "an array of shape (1,)": np.array([0.5]),
    "an array of shape (2, 2)": np.ones((2, 2)),
    "an array of shape (0, 3)": np.ones((0, 3)),
    "an array of shape (1, 1, 1)": np.ones((1, 1, 1)),
    "an array of int8": np.array([1, 2], np.int8),
    "an array of float16": np.array([0.25, 0.5], np.float16),
    "an array of booleans": np.array([True, False]),
    "an array of complex numbers": np.array([1j, 2.0]),
    "an array of objects": np.array([Plain(), None], object),
    "an array of text": np.array(["0.1", "0.2"]),
    "an array of dates": np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"),
    "an array with NaN": np.array([0.25, np.nan]),
    "a masked array": np.ma.masked_array([0.25, 0.5], [True, False]),
    "a record": np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "a series of pandas": pandas.Series([0.25, 0.5], name="rate"),
    "a series with a missing value": pandas.Series([0.25, None], name="rate"),
    "a series of text": pandas.Series(["a", "b"], name="rate"),
    "a categorical of pandas": pandas.Categorical(["a", "b"]),
    "a table of pandas": pandas.DataFrame({"a": [0.25, 0.5], "b": ["x", "y"]}),
    "an empty table of pandas": pandas.DataFrame(),
    "a path": pathlib.Path("nowhere"),
    "an activation": STEP,
    "a target": TARGET,
    "a problem": PROBLEM,
    "a network": NETWORK,
    "a dynamics": tts.TwoTimescaleLimit(),
    "a list of targets": [TARGET, TARGET],
    "an integer": 2,
    "an int8": np.int8(2),
    "an int64": np.int64(2),
    "a float16": np.float16(0.5),
    "a float32": np.float32(0.5),
    "an array without axes": np.array(0.5),
    "an array of JAX without axes": jnp.array(0.5),
    "an object array without axes": np.array(0.5, object),
    "a decimal": decimal.Decimal("0.5"),
    "a fraction": fractions.Fraction(1, 2),
}

# Kinds of values by their names, for what an argument takes.
COUNTS = "an integer", "an int8", "an int64"
SCALARS = *COUNTS, "a float16", "a float32", "an array without axes", "an array of JAX without axes"
POSITIVE = *SCALARS, "1e300", "2**31", "2**63"
NOT_NEGATIVE = *POSITIVE, "0", "0.0", "1e-320"
NUMBERS = *NOT_NEGATIVE, "-1", "-0.5"
ONE = "a list of one", "an array of shape (1,)"
INTEGERS = "a range", "an array of int8"
TWO = *INTEGERS, "a tuple", "an array of float16", "a series of pandas"
BITS = "an older key"
"""Two integers, the second of them 0 or both."""
LISTS = *ONE, *TWO, "a list of three"
DOWN, TWICE = "a decreasing list", "a list of one value twice"
EMPTY = "an empty list", "an empty tuple", "an array of shape (0,)"
ROWS = "an array of shape (2, 2)"
TRUTHS = "True", "False", "a boolean of NumPy"
KEYS = "a key", "an older key"
FUNCTIONS = "a function", "a function of NumPy", "an activation", "a target", "a network"
TEXTS = "text", "a number as text"
PATHS = *TEXTS, "a path"


class Argument(NamedTuple):
    good: Any
    takes: frozenset[str] = frozenset()
    """Of the odd values."""
    untried: frozenset[str] = frozenset()


def of(good: Any, *takes: str, untried: Iterable[str] = ()) -> Argument:
    return Argument(good, frozenset(takes), frozenset(untried))


called = partial(of, untried=FUNCTIONS)
"""A function of the user's: another one fails in its own words when it is called."""
costly = partial(
    of,
    untried=(
        *("an integer", "an int64", "an array without axes", "2**31", "2**63", "1e300", "0.0"),
        *("a range", "a list of three", "an array of shape (1,)", "a series of pandas", "a target"),
    ),
)
"""Where each value that is taken means a run; others of their kind are tried."""

Calls = dict[str, Callable[[], tuple[Callable[..., Any], dict[str, Argument]]]]
"""By name: what is called, and its arguments, made when they are asked for."""

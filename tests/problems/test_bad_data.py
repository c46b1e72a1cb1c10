"""Data that would lose a part of itself is refused, by the place where it does."""

import decimal

import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import reference

import tts_jax as tts

X, Y = np.linspace(0, 1, 4)[:, None], np.arange(4.0)
DAYS = pandas.Series(pandas.date_range("2026-01-01", periods=4))
TABLE = pandas.DataFrame({"left": [0.5, 1.5, np.nan, 3.0], "right": 1.0, "kind": list("abca"), "day": DAYS})


def replayed(x):
    model = tts.ShallowNetwork([[1.0]], [[0.5]], 0.0, tts.SmoothStep(0.1))
    problem = tts.Regression(tts.PiecewiseConstant([0.5], [0, 1]))
    return tts.simulate(tts.SGD(1.0, 0.1), model, problem, [0.1], samples=(x, Y))


KINDS = {"Dataset": lambda x: tts.Dataset(x, Y), "NormDataset": lambda x: tts.NormDataset(x, Y), "samples": replayed}


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X + 0j, ["x must be real numbers", "complex"]),
        (jnp.asarray(X + 0j), ["x must be real numbers", "complex"]),
        (np.ma.masked_greater(X, 0.5), ["masked array", "mask"]),
        (DAYS.to_numpy()[:, None], ["dates", "timedelta64"]),
        (DAYS.diff().to_numpy()[:, None], ["time differences", "divide"]),
        (np.array([[1.0], [np.nan], [1.0], [2.0]]), ["x must be finite", "nan in row 1, column 0"]),
        (np.array([["1"]] * 4), ["x must be real numbers", "text (1)"]),
        (np.array([["1"]] * 4, object), ["'1' in row 0, column 0"]),
        ([[1.0], [2.0, 3.0], [1.0], [2.0]], ["rows of different lengths"]),
        (TABLE[["left", "right"]], ["column 'left' of x must be finite", "nan at index 2"]),
        (TABLE[["right", "kind"]], ["column 'kind' of x must be real numbers", "'a'"]),
        (TABLE[["right", "day"]], ["column 'day' of x must be real numbers", "dates"]),
        (
            pandas.DataFrame({"n": [1, None, 3, 4]}, dtype="Int64"),
            ["column 'n' of x must be finite", "at index 1"],
        ),
        ({"left": X}, ["x must be real numbers", "got dict"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_refuses(kind, x, said):
    reference.refuses(lambda: KINDS[kind](x), *said)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (Y + 1j, ["y must be real numbers", "complex"]),
        (np.ma.masked_equal(Y, 2.0), ["y must be real numbers", "masked"]),
        (np.array([0.0, 1.0, np.inf, np.nan]), ["y must be finite", "inf at index 2"]),
        (DAYS, ["y must be real numbers", "dates"]),
        (pandas.Series([True, None, False, True]), ["y must be finite", "missing value at index 1"]),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("loss", [None, lambda prediction, label: prediction * label])
def test_refuses_labels(y, said, loss):
    reference.refuses(lambda: tts.Dataset(X, y, loss), *said)


def test_what_can_be_converted_is():
    for x in (X.tolist(), np.ma.masked_array(X, False), pandas.DataFrame(X), X.astype(object)):
        np.testing.assert_array_equal(tts.Dataset(x, Y).x, X)
    for y in (pandas.Series(Y).astype("Int64"), [decimal.Decimal(k) for k in range(4)], range(4), jnp.arange(4)):
        assert tts.Dataset(X, y).y.dtype == float
        np.testing.assert_array_equal(tts.Dataset(X, y).y, Y)
    np.testing.assert_array_equal(tts.Dataset(X, Y > 1).y, [0, 0, 1, 1])

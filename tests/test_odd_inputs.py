"""Some thousand odd inputs: each is refused in one line of ours, or taken for what it is.

Every argument of every public name is given every odd value in turn, the others being good.
"""

import pathlib
import re
import traceback
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import xarray
from matplotlib.figure import Figure
from odd_nouns import NOUNS
from odd_values import VALUES, Argument
from odd_verbs import VERBS

import tts_jax as tts

CALLS = NOUNS | VERBS
PACKAGE = str(pathlib.Path(tts.__file__).parent)
NOT_OURS = re.compile(r"(unexpected|missing|multiple values).* argument")
"""What Python says of a call that fits no signature is as good."""


def fault(error: Exception, argument: str) -> str | None:
    """What is wrong with a refusal."""
    said = str(error)
    if not isinstance(error, ValueError | TypeError | FileNotFoundError | IndexError):
        return f"an accident: {type(error).__name__}"
    if isinstance(error, TypeError) and NOT_OURS.search(said):
        return None
    if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE):
        return f"of another library: {type(error).__name__} {said[:100]!r}"
    if "\n" in said:
        return f"of many lines: {said[:100]!r}"
    if not re.search(rf"\bgot\b|\b{argument.replace('_', '[_ ]')}\b", said):
        return f"names neither what was got nor {argument}: {said[:100]!r}"
    return None


def plain(value: Any) -> Any:
    """Numbers as Python has them; everything else as it is."""
    is_array = isinstance(value, np.generic | np.ndarray | jax.Array | pandas.Series) and not is_key(value)
    return np.asarray(value).tolist() if isinstance(value, range) or (is_array and value.size) else value


def is_key(value: Any) -> bool:
    return value.dtype == np.uint32 or jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, xarray.Dataset):
        return one.equals(other)
    if isinstance(one, Figure):
        return isinstance(other, Figure)
    (leaves, structure), (others, its) = jax.tree.flatten(one), jax.tree.flatten(other)
    return structure == its and all(map(equal, leaves, others))


def equal(leaf: Any, other: Any) -> bool:
    return np.array_equal(leaf, other, equal_nan=np.asarray(leaf).dtype.kind == "f")


def refusal(call, given: dict[str, Any]) -> Exception | None:
    try:
        call(**given)
    except Exception as error:
        return error
    return None


def outcome(call, good: dict[str, Any], name: str, argument: Argument, odd: str) -> str | None:
    """What is wrong with how one value is treated."""
    try:
        got = call(**good | {name: VALUES[odd]})
    except Exception as error:
        said = fault(error, name)
        return f"refused, though {name} takes it: {error}" if odd in argument.takes else said
    if odd not in argument.takes:
        return "accepted in silence"
    return None if same(got, call(**good | {name: plain(VALUES[odd])})) else "taken for something else"


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_odd_values(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    call, arguments = CALLS[name]()
    good = {argument: value.good for argument, value in arguments.items()}
    with jax.numpy_dtype_promotion("standard"):
        faults = [
            f"{name}, {argument} = {odd}: {said}"
            for argument, value in arguments.items()
            for odd in VALUES.keys() - value.untried
            if (said := outcome(call, good, argument, value, odd))
        ]
        if "unknown" not in str(refusal(call, good | {"unknown": 1})):
            faults.append(f"{name} takes an unknown argument")
    assert not faults, "\n".join(sorted(faults))


def test_every_public_name_is_called():
    named = {re.split(r"[ .(]", name.removeprefix(module))[0] for name in CALLS for module in ("", "plot.", "theory.")}
    without_arguments = {"Erf", "Heaviside", "ReLU"}
    results = {"Stats", "Status"}
    assert set(tts.NOUNS) - named == without_arguments | results
    drawn = {name for name, of in vars(tts.plot).items() if callable(of) and not name.startswith("_")}
    assert drawn <= {name.removeprefix("plot.") for name in CALLS}

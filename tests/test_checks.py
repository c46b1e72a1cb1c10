"""Checks of the input: what passes unchanged, what is refused, and that tracers pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from tts_jax import _checks as checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (checks.positive, [1e-300, 1, np.float32(0.5), jnp.array([0.1, 2.0])]),
        (checks.non_negative, [0.0, 0, 1e300, jnp.zeros(2)]),
        (checks.finite, [-1.0, 0, [1.0, 2.0], jnp.array([])]),
        (checks.count, [1, np.int64(7)]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_good_values_come_back(check, good):
    for value in good:
        np.testing.assert_array_equal(check("name", value), value)


@pytest.mark.parametrize(
    ("check", "bad", "said"),
    [
        (checks.positive, 0.0, ("positive", "got 0.0")),
        (checks.positive, -1e-9, ("positive", "got -1e-09")),
        (checks.positive, NAN, ("got nan",)),
        (checks.positive, jnp.array([1.0, 0.0]), ("got [1. 0.]",)),
        (checks.non_negative, -0.5, ("not negative", "got -0.5")),
        (checks.non_negative, INF, ("finite", "got inf")),
        (checks.finite, [1.0, NAN], ("finite", "got [ 1. nan]")),
        (checks.finite, -INF, ("got -inf",)),
        (checks.count, 0, ("integer", "at least 1", "got 0")),
        (checks.count, 2.0, ("integer", "got 2.0")),
        (checks.count, True, ("integer", "got True")),
        (checks.count, "3", ("integer", "got '3'")),
    ],
)
def test_bad_values_are_refused_by_name(check, bad, said):
    reference.refuses(lambda: check("size", bad), "size must be", *said)


def test_count_from_another_bound():
    assert checks.count("n", 0, at_least=0) == 0
    reference.refuses(lambda: checks.count("n", 1, at_least=2), "at least 2", "got 1")


@pytest.mark.parametrize("check", [checks.positive, checks.non_negative, checks.finite])
def test_traced_values_pass(check):
    """They cannot be looked at, alone or inside a list."""
    assert jax.jit(lambda x: check("x", x))(-0.0) == 0
    assert jax.vmap(lambda x: checks.as_float(check("x", [x, 1.0])))(jnp.array([NAN])).shape == (1, 2)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0, 1.0], np.linspace(0, 1, 5), (1, 2)])
def test_good_times(times):
    got = checks.slow_times(times)
    assert got.dtype == jnp.float64
    np.testing.assert_array_equal(got, times)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1.0, ("shape ()",)),
        ([], ("shape (0,)",)),
        (np.zeros((2, 2)), ("shape (2, 2)",)),
        ([-0.5, 1.0], ("not negative", "-0.5")),
        ([0.0, NAN], ("finite", "nan")),
        ([0.0, INF], ("finite", "inf")),
        ([0.0, 2.0, 1.0, 3.0], ("decrease", "got 2.0 before 1.0 at index 1")),
    ],
)
def test_bad_times(times, said):
    reference.refuses(lambda: checks.slow_times(times), "slow_times must", *said)


def test_traced_times_pass():
    np.testing.assert_array_equal(jax.jit(checks.slow_times)(jnp.array([1.0, 0.0])), [1, 0])


def test_writable_folder(tmp_path):
    folder = checks.writable_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert checks.writable_folder(str(folder)) == folder


def test_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    reference.refuses(lambda: checks.writable_folder(tmp_path / "file" / "b"), str(tmp_path / "file" / "b"))

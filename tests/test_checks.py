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
        (checks.positive, [1e-300, 1, np.float32(0.5), jnp.array(0.1)]),
        (checks.non_negative, [0.0, 0, 1e300, jnp.zeros(())]),
        (checks.number, [-1.0, 0, np.array(2.0)]),
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
        (checks.non_negative, -0.5, ("not negative", "got -0.5")),
        (checks.non_negative, INF, ("finite", "got inf")),
        (checks.number, NAN, ("finite", "got nan")),
        (checks.finite, [1.0, NAN], ("finite", "got nan at index 1")),
        (checks.finite, [[1.0, 2.0], [INF, 3.0]], ("got inf in row 1, column 0",)),
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


SCALARS = checks.positive, checks.non_negative, checks.number


@pytest.mark.parametrize("check", [*SCALARS, checks.finite])
def test_traced_values_pass(check):
    """They cannot be looked at."""
    assert jax.jit(lambda x: check("x", x))(-0.0) == 0
    assert jax.vmap(lambda x: check("x", x))(jnp.array([NAN])).shape == (1,)


def test_traced_values_in_a_list_pass():
    assert jax.vmap(lambda x: checks.as_float(checks.finite("x", [x, 1.0])))(jnp.array([NAN])).shape == (1, 2)


@pytest.mark.parametrize("check", SCALARS)
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([1e-3, 1e-2], "one number, got shape (2,)"),
        ([1e-3], "one number, got shape (1,)"),
        (np.ones((2, 2)), "one number, got shape (2, 2)"),
        ([], "one number, got shape (0,)"),
        (True, "real numbers, got truth values (True): pass a number"),
        (jnp.array(True), "real numbers, got truth values: pass a number"),
        (1 + 0j, "real numbers, got complex numbers ((1+0j))"),
        (jnp.array(1j), "real numbers, got complex numbers"),
        ("1e-3", "real numbers, got text (1e-3)"),
        (np.datetime64("2026-01-01"), "real numbers, got dates (2026-01-01)"),
        (None, "real numbers, got NoneType"),
        ({"a": 1.0}, "real numbers, got dict"),
        (abs, "real numbers, got abs"),
        (jax.random.key(0), "real numbers, got random keys"),
        (np.ma.masked_array(1.0, True), "real numbers, got a masked array"),
        ([1.0, [2.0]], "an array, got rows of different lengths"),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(check, bad, said):
    reference.refuses(lambda: check("size", bad), f"size must be {said}")


@pytest.mark.parametrize("bad", [jnp.ones(2), jnp.array(True), jnp.array(1j)])
def test_traced_values_that_are_no_numbers_are_refused(bad):
    reference.refuses(lambda: jax.jit(lambda x: checks.positive("size", x))(bad), "size must be")


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ([1, 2], float),
        (3, float),
        (0.5, float),
        (np.arange(3), float),
        (jnp.arange(3), float),
        (np.float32([1.5]), np.float32),
        (jnp.float32(1.5), np.float32),
    ],
    ids=str,
)
def test_leaves_are_floats(given, dtype):
    """Those that are keep their type."""
    got = checks.leaf("weights", given)
    assert isinstance(got, jax.Array)
    assert got.dtype == dtype
    assert not got.weak_type
    np.testing.assert_array_equal(got, given)


def test_one_key():
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert checks.random_key("key", key) is key
    for bad, said in (
        (0, "got 0"),
        (jax.random.split(jax.random.key(0), 3), "shape (3,)"),
        (np.zeros(2), "got array([0., 0.])"),
    ):
        reference.refuses(lambda bad=bad: checks.random_key("key", bad), said, "jax.random.key(0)")


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0, 1.0], np.linspace(0, 1, 5), (1, 2)])
def test_good_times(times):
    got = checks.slow_times(times)
    assert got.dtype == jnp.float64
    np.testing.assert_array_equal(got, times)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1.0, ("shape ()",)),
        ([True], ("truth values",)),
        ([], ("shape (0,)",)),
        (np.zeros((2, 2)), ("shape (2, 2)",)),
        ([-0.5, 1.0], ("not negative", "-0.5")),
        ([0.0, NAN], ("finite", "nan")),
        ([0.0, INF], ("finite", "inf")),
        ([0.0, 2.0, 1.0, 3.0], ("decrease", "got 2.0 before 1.0 at index 1")),
        ([0.0, 1.0j], ("real numbers", "complex")),
        (np.ma.masked_array([0.0, 1.0], [False, True]), ("masked",)),
        (np.array(["2026-01-01"], "datetime64[D]"), ("dates",)),
        ("0 1", ("text",)),
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

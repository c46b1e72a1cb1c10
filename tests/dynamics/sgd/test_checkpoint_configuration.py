"""What a checkpoint, or the store of a sweep, takes for another configuration."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import pytest

from tts_jax._fingerprint import fingerprint


def scaled(scale):
    def function(x, *, by=scale):
        return by * x

    return function


def multiple(a):
    return lambda x: a * x


class Scale:
    def __init__(self, by):
        self.by = by

    def apply(self, x):
        return self.by * x


DIFFERENT = {
    "what a method belongs to": (Scale(2).apply, Scale(3).apply),
    "an attribute": (Scale(2), Scale(3)),
    "a number": (lambda x: 2 * x, lambda x: 3 * x),
    "a text": (lambda x: x["a"], lambda x: x["b"]),
    "a number in a function within": (lambda x: (lambda y: 2 * y)(x), lambda x: (lambda y: 3 * y)(x)),
    "numbers of a set": (lambda x: x in {1, 2}, lambda x: x in {1, 3}),
    "an operation": (lambda x: x + 2, lambda x: x * 2),
    "a name": (lambda x: jnp.sin(x), lambda x: jnp.cos(x)),
    "a default": (lambda x, a=2: a * x, lambda x, a=3: a * x),
    "a default by name": (scaled(2.0), scaled(3.0)),
    "a closure": (multiple(2), multiple(3)),
    "a function under jit": (jax.jit(lambda x: 2 * x), jax.jit(lambda x: 3 * x)),
    "a function under vmap": (jax.vmap(lambda x: 2 * x), jax.vmap(lambda x: 3 * x)),
    "a function with its own derivative": (jax.custom_jvp(lambda x: 2 * x), jax.custom_jvp(lambda x: 3 * x)),
    "a function with arguments": (functools.partial(max, 1), functools.partial(max, 2)),
    "a keyword of it": (functools.partial(max, default=1), functools.partial(max, default=2)),
    "a range": (range(3), range(4)),
    "a key": ({"a": 1}, {"b": 1}),
    "a sign": (0.0, -0.0),
    "a nesting": ([1, [2]], [[1], 2]),
    "a kind of number": (1, 1.0),
    "a truth value": (1, True),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_configurations_that_differ_in(what):
    one, other = DIFFERENT[what]
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint([one]) != fingerprint([other])
    assert fingerprint(one) == fingerprint(one)


def test_the_same_made_twice():
    for first, second in ((scaled(2.0), scaled(2.0)), tuple(jax.jit(scaled(2.0)) for _ in range(2))):
        assert first is not second
        assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize("package", ["tts-jax", "jax"])
def test_another_version_is_another_configuration(monkeypatch, package):
    before, version = fingerprint(1), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == package else version(name))
    assert fingerprint(1) != before


def test_another_device_is_another_configuration(monkeypatch):
    before = fingerprint(1)
    monkeypatch.setattr(jax, "default_backend", lambda: "abacus")
    assert fingerprint(1) != before

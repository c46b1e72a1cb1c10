"""An activation or a target of a user's is asked once whether its degree and its kinks are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import tts_jax as tts
from tts_jax import _pieces as pieces, activations
from tts_jax._fingerprint import MadeFrom
from tts_jax.activations import AbstractActivation
from tts_jax.targets import AbstractTarget

STEPS = tts.Regression(tts.PiecewiseConstant([0.5], [0.0, 1.0]))


def own(of_degree, value, kinks=lambda positions, width: positions):
    """Another class each time."""

    class Own(AbstractActivation):
        width: jax.Array
        degree = of_degree

        def __call__(self, z):
            return value(z, self.width)

        def kinks(self, positions):
            return kinks(positions, self.width)

    return Own(jnp.array(0.3))


def square(z, width):
    return jnp.where(z > 0, z, 0.0) ** 2


def bump(z, width):
    return jnp.clip(1 - jnp.abs(z) / width, 0.0, 1.0)


def edges(positions, width):
    return jnp.concatenate([positions - width, positions, positions + width])


def network(activation):
    return tts.ShallowNetwork(jnp.array([[1.0], [-2.0]]), jnp.array([[0.2], [0.7]]), None, activation)


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        (own(1, square), ["degree 1", "say degree = 2"]),
        (own(0, square), ["degree 0", "say degree = 2"]),
        (own(1, bump), ["degree 1", "name all of its kinks"]),
        (own(0, bump, edges), ["say degree = 1"]),
        (own(1, bump, lambda positions, width: edges(positions[:1], width)), ["name all of its kinks"]),
        (own(0, lambda z, width: jnp.where(z >= 0.05, 1.0, 0.0)), ["degree 0", "name all of its kinks"]),
        (own(2, lambda z, width: jnp.log(z)), ["degree 2"]),
    ],
    ids=["1 for 2", "0 for 2", "two kinks missing", "0 for 1", "kinks of one neuron", "a jump elsewhere", "not finite"],
)
def test_a_wrong_degree_or_wrong_kinks_are_refused(activation, said):
    for meet in (
        lambda: STEPS.risk(network(activation)),
        lambda: STEPS.check(network(activation)),
        lambda: tts.teacher(network(activation)),
        lambda: tts.distance(network(activation), network(tts.ReLU())),
    ):
        reference.refuses(meet, "Own says", *said)


@pytest.mark.parametrize("activation", [own(2, square), own(3, square), own(1, bump, edges)])
def test_right_ones_pass(activation):
    """Also those of too high a degree, whose risk is right."""
    model = network(activation)

    def residual(x):
        return (float(model(x)) - (x >= 0.5)) ** 2

    kinks = np.concatenate([[0.5], *(np.asarray(activation.kinks(u)) for u in np.array([[0.2], [0.7]]))])
    assert STEPS.risk(model) == pytest.approx(reference.integral(residual, kinks), abs=1e-9)


@pytest.mark.parametrize(
    "activation", [tts.SmoothStep(1e-6), tts.SmoothStep(0.4), tts.ReLU(), tts.Heaviside()], ids=repr
)
def test_those_of_the_package_would_pass(activation):
    """They are never asked."""
    pieces._once(type(activation), MadeFrom(activation), pieces._compare_polynomial, activations._on_the_interval)


def test_one_is_asked_once_and_nothing_while_tracing(monkeypatch):
    asked = []
    monkeypatch.setattr(pieces, "misfit", lambda *given: asked.append(given) or (np.zeros(1), 1.0))
    activation = own(1, square)
    jax.jit(lambda width: STEPS.risk(network(type(activation)(width))))(0.3)
    assert not asked
    for _ in range(2):
        STEPS.check(network(activation))
    STEPS.check(network(type(activation)(jnp.array(0.3))))
    assert len(asked) == 1


class Parabola(AbstractTarget):
    shift: float
    degree = 1

    @property
    def kinks(self):
        return jnp.zeros(0)

    def __call__(self, x):
        return (x - self.shift) ** 2


def test_a_target_is_asked_too():
    reference.refuses(lambda: tts.Regression(Parabola(0.5)), "Parabola says", "degree 1", "say degree = 2")
    reference.refuses(lambda: tts.Regression(tts.Additive([STEPS.target, Parabola(0.5)])), "say degree = 2")


@pytest.mark.parametrize("activation", [tts.ReLU(), own(1, bump, edges)], ids=["ReLU", "bump"])
@pytest.mark.usefixtures("annotations_off")
def test_the_limit_is_of_steps(activation):
    model = tts.ShallowNetwork(jnp.ones((2, 1)), jnp.array([[0.2], [0.7]]), 0.0, activation)
    reference.refuses(lambda: tts.simulate(tts.TwoTimescaleLimit(), model, STEPS, [0.0, 1.0]), "got")


@pytest.mark.usefixtures("annotations_off")
@pytest.mark.parametrize("exact", [tts.teacher, lambda network: tts.distance(network, network)])
def test_an_activation_that_is_no_piecewise_polynomial_is_refused(exact):
    network = tts.ShallowNetwork([[1.0]], [[0.5]], None, jnp.tanh)
    reference.refuses(lambda: exact(network), "piecewise polynomials", "got tanh")

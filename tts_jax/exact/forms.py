"""The risk to second order, as the closed forms give it."""

from typing import NamedTuple

from jaxtyping import Array, Float


class NormalEquations(NamedTuple):
    """`R = a^T gram a - 2 cross^T a + square`, with the bias as entry 0 of `a` where the network has one."""

    gram: Float[Array, "n n"]
    cross: Float[Array, " n"]
    square: Float[Array, ""]


class Gradient(NamedTuple):
    """By what the network is linear in (the bias first, where there is one), and by the ravelled rest."""

    d_a: Float[Array, " n"]
    d_u: Float[Array, " m"]


class Hessian(NamedTuple):
    """The blocks of second derivatives, with the rows and columns of `Gradient`."""

    d_aa: Float[Array, "n n"]
    d_au: Float[Array, "n m"]
    d_uu: Float[Array, "m m"]

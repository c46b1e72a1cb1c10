"""The gradient flow: which equation, which solver, its linear algebra."""

from .flow import GradientFlow as GradientFlow

"""Integrators that Diffrax lacks, written as Diffrax solvers."""

from .rodas5p import Rodas5P as Rodas5P
from .shifted import AbstractShiftedJacobian as AbstractShiftedJacobian, DenseJacobian as DenseJacobian

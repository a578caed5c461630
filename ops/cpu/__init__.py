"""Kernels for the CPU, in pure JAX."""

from ._tuning import Tuning as Tuning

"""Populations without input."""

from ._poisson import PoissonSource as PoissonSource

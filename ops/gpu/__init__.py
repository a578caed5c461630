"""Kernels for NVIDIA GPUs, in Mosaic GPU (jax >= 0.11.2)."""

from ._platform import csr as csr
from ._platform import delayed_csr as delayed_csr
from ._platform import fixed_indegree as fixed_indegree
from ._platform import fixed_outdegree as fixed_outdegree
from ._platform import jit as jit
from ._tuning import Tuning as Tuning

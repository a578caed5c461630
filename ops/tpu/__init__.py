"""Kernels for TPUs, in Pallas: on SparseCores where there are some, else on the TensorCore.

Only products of spikes have some, in float32, by CSR, fixed out-degree, random and dense matrices;
others are XLA's, with a warning. Transposed products, as of a gradient, are XLA's by choice,
without one: they are of floats that are seldom 0, and gathers, which XLA does well.
"""

from ._platform import csr as csr
from ._platform import delayed_csr as delayed_csr
from ._platform import dense as dense
from ._platform import fixed_indegree as fixed_indegree
from ._platform import fixed_outdegree as fixed_outdegree
from ._platform import jit as jit
from ._tuning import Tuning as Tuning

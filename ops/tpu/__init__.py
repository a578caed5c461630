"""Kernels for TPUs, in Pallas: on SparseCores where there are some, else on the TensorCore."""

from ._platform import csr as csr
from ._platform import dense as dense
from ._platform import fixed_outdegree as fixed_outdegree
from ._platform import jit as jit
from ._tuning import Tuning as Tuning

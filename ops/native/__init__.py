"""Kernels for the CPU that Numba compiles, as fast as a loop in C.

They take the place of those of pure JAX where Numba is installed, which is imported when the first
of them is used.
"""

from ._choose import preferred as preferred
from ._delayed import DELAYED_CSR as DELAYED_CSR
from ._jit import JIT as JIT
from ._stored import CSR as CSR
from ._stored import FIXED_INDEGREE as FIXED_INDEGREE
from ._stored import FIXED_OUTDEGREE as FIXED_OUTDEGREE

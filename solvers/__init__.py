"""Exponential integrators that work with diffrax: `purebrain.solvers`."""

if __name__ == "solvers":
    raise ImportError("Import `purebrain.solvers`; `solvers` alone is a folder of the source tree.")

from ._exp_euler import ExpEuler as ExpEuler
from ._functions import phi_1 as phi_1
from ._functions import x_over_expm1 as x_over_expm1

"""Functions that Numba compiles: imported when the first of them is needed, and nowhere else."""

from ._stamp import STAMP as STAMP

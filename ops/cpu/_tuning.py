"""How the CPU kernels are run."""

import dataclasses

from .._check import check_flag


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the CPU kernels are run; none of it changes what is computed but for rounding.

    **Arguments:** `native`: whether kernels that Numba compiles are used, where it is installed;
    otherwise all are compiled by XLA.

    **Raises:** `TypeError` for a choice that is no boolean.

        >>> Tuning(native=False).native
        False
    """

    native: bool = True

    def __post_init__(self):
        check_flag("native", self.native)

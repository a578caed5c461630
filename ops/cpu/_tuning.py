"""How the CPU kernels are run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the CPU kernels are run; none of it changes what is computed but for rounding.

    **Arguments:** `native`: whether kernels that Numba compiles are used, where it is installed;
    otherwise all are compiled by XLA.

        >>> Tuning(native=False).native
        False
    """

    native: bool = True

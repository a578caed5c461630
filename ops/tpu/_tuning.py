"""How the kernels are cut to the machine."""

import dataclasses

from .._check import check_flag, check_whole, is_number, shown


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the TPU kernels are cut to the machine; it changes no result beyond rounding.

    **Arguments:**

    - `in_flight`: rows on their way from HBM at once.
    - `width`: synapses of a CSR row fetched at once, at most.
    - `private`: SparseCore: up to this many targets of all rows of a batch, each subcore adds into
      an accumulator of its own; above, all subcores of a core stream into one.
    - `block`: TensorCore: rows of 128 targets that one matrix product adds to.
    - `dense_share`: a dense matrix is read by rows while this share of the neurons spikes at most,
      and multiplied above.
    - `interpret`: run by Pallas' interpreter on any machine: for tests.

    **Raises:** `ValueError` for a number out of range, `TypeError` for a choice that is no boolean.

        >>> Tuning(in_flight=8).in_flight
        8
    """

    in_flight: int = 4
    width: int = 512
    private: int = 4096
    block: int = 256
    dense_share: float = 1 / 16
    interpret: bool = False

    def __post_init__(self):
        check_whole("in_flight", self.in_flight, 1, 32)
        check_whole("width", self.width, 128, 4096, multiple=128)
        check_whole("private", self.private, 0, 2**31 - 1)
        check_whole("block", self.block, 8, 4096, multiple=8)
        if not is_number(self.dense_share) or not 0 <= self.dense_share <= 1:
            raise ValueError(
                f"dense_share: {shown(self.dense_share)}; it must be a number in [0, 1]."
            )
        check_flag("interpret", self.interpret)

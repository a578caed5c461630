"""How the kernels are cut to the machine."""

import dataclasses


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

    **Raises:** `ValueError` for a number out of range.

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
        if not 1 <= self.in_flight <= 32:
            raise ValueError(f"in_flight: {self.in_flight}; it must be in [1, 32].")
        if self.width % 128 or not 128 <= self.width <= 4096:
            raise ValueError(f"width: {self.width}; it must be a multiple of 128 up to 4096.")
        if self.private < 0:
            raise ValueError(f"private: {self.private}; it must be at least 0.")
        if self.block % 8 or not 8 <= self.block <= 4096:
            raise ValueError(f"block: {self.block}; it must be a multiple of 8 up to 4096.")
        if not 0 <= self.dense_share <= 1:
            raise ValueError(f"dense_share: {self.dense_share}; it must be in [0, 1].")

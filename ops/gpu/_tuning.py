"""How the GPU kernels are launched."""

import dataclasses

from .._check import check_flag, check_whole, is_whole, shown

WARP = 32  # lanes that run together
BLOCK = 128  # threads of a program: one warpgroup, of which Mosaic has no fraction


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the GPU kernels are launched; none of it changes what is computed but for rounding.

    **Arguments:**

    - `programs`: blocks of 128 threads launched at most. The default fills the largest GPUs; each
      takes as many rows as it takes to serve all.
    - `lanes`: threads that share a row of synapses: 1, 2, 4, 8, 16 or 32. Fewer suit short rows.
    - `deterministic`: sums over synapses in a fixed order, by sorting, instead of atomic additions
      in the order in which they happen to arrive. The same bits every run, at several times the
      cost.
    - `chunk`: synapses sorted at once in deterministic mode, which bounds its memory.
    - `interpret`: run by Pallas' interpreter on any machine, with one lane: for tests.

    **Raises:** `ValueError` for a number out of range, `TypeError` for a choice that is no boolean.

        >>> Tuning(lanes=8).lanes
        8
    """

    programs: int = 2048
    lanes: int = WARP
    deterministic: bool = False
    chunk: int = 1 << 18
    interpret: bool = False

    def __post_init__(self):
        if not is_whole(self.lanes) or self.lanes not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"lanes: {shown(self.lanes)}; it must be 1, 2, 4, 8, 16 or 32.")
        check_whole("programs", self.programs, 1, 1 << 16)
        check_whole("chunk", self.chunk, 1, 1 << 28)
        check_flag("deterministic", self.deterministic)
        check_flag("interpret", self.interpret)

"""What tells one state of these sources from another."""

import zlib
from pathlib import Path

# A constant of every function: to tell whether what it kept on disk is still right, Numba looks at
# a function's own file alone. So only whole functions are kept, not what they are made of.
HERE = Path(__file__).parent
SOURCES = [
    *sorted(HERE.glob("*.py")),
    HERE.parent / "_kinds.py",
    HERE.parent.parent / "_jit_matrix.py",
    HERE.parent.parent / "_jit_weights.py",
]
STAMP = zlib.crc32(b"".join(path.read_bytes() for path in SOURCES))

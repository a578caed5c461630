"""What tells one state of these sources from another."""

import zlib
from pathlib import Path

# Of all sources here, and a constant of every function: to tell whether what it kept on disk is
# still right, Numba looks at a function's own file alone.
STAMP = zlib.crc32(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
)

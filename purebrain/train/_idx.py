"""The IDX format of MNIST and its successors."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

TYPES = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The array of an IDX file, gzipped or not.

    **Raises:** `ValueError` for a file of another format, truncated, or with bytes left over;
    `FileNotFoundError`.

    LeCun, Cortes, Burges: The MNIST database (its format: two zero bytes, the type, the number of
    axes, the sizes in 32 bits, the values, all with the high byte first).
    """
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: a truncated or damaged gzip file ({error}).") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES:
        raise ValueError(
            f"{path}: starts with {data[:4].hex(' ')}, but an IDX file with 00 00, a type "
            f"({', '.join(f'{t:02x}' for t in TYPES)}) and the number of axes."
        )
    start, dtype = 4 + 4 * data[3], TYPES[data[2]]
    if len(data) < start:
        raise ValueError(f"{path}: truncated: {len(data)} bytes, in the header.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", data[3], 4))
    size = start + int(np.prod(shape, dtype=np.uint64)) * dtype.itemsize
    if len(data) != size:
        kind = "truncated" if len(data) < size else "too long"
        raise ValueError(f"{path}: {kind}: {len(data)} bytes, but shape {shape} makes {size}.")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_labelled_images(
    images: str | os.PathLike, labels: str | os.PathLike, *, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images and their labels, from two IDX files.

    **Returns:** images (n, height, width), uint8; labels (n,), int32, 0 to `classes` - 1.

    **Raises:** as `read_idx`, and `ValueError` for other shapes or labels out of range.
    """
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.dtype != np.uint8 or 0 in x.shape:
        raise ValueError(f"{images}: {x.dtype}{list(x.shape)}; images are uint8[n, height, width].")
    if y.shape != x.shape[:1]:
        raise ValueError(f"{labels}: shape {y.shape}, for {len(x)} images in {images}.")
    return x, check_labels(str(labels), y, classes)


def check_labels(name: str, y: np.ndarray, classes: int) -> np.ndarray:
    """Labels as int32; anything but whole numbers from 0 to `classes` - 1 is an error."""
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{name}: {y.dtype}; labels are whole numbers.")
    if y.size and not (0 <= y.min() and y.max() < classes):
        at = int(np.flatnonzero((y < 0) | (y >= classes))[0])
        raise ValueError(f"{name}: label {y[at]} at position {at}; there are {classes} classes.")
    return y.astype(np.int32)

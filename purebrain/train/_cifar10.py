"""The binary files of CIFAR-10."""

import os
from pathlib import Path

import numpy as np

from ._idx import check_labels

RECORD = 1 + 3 * 32 * 32


def read_cifar10(*paths: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of CIFAR-10's binary version, files one after the other.

    **Arguments:** `paths`: such as `data_batch_1.bin`.

    **Returns:** images (n, 3, 32, 32), uint8, the channels red, green, blue; labels (n,), int32, 0
    to 9.

    **Raises:** `ValueError` for no file, one that is empty or no whole number of records of 3,073
    bytes, or labels above 9; `FileNotFoundError`.

    Krizhevsky (2009), Learning multiple layers of features from tiny images (a record is a label,
    then 1,024 bytes of each channel, row by row).
    """
    if not paths:
        raise ValueError("paths: none; write read_cifar10('data_batch_1.bin', ...).")
    images, labels = [], []
    for path in paths:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        if data.size == 0 or data.size % RECORD:
            raise ValueError(
                f"{path}: {data.size} bytes; it must be a whole number of records of {RECORD}: is "
                "it truncated, or not the binary version?"
            )
        records = data.reshape(-1, RECORD)
        labels.append(check_labels(str(path), records[:, 0], 10))
        images.append(records[:, 1:].reshape(-1, 3, 32, 32))
    return np.concatenate(images), np.concatenate(labels)

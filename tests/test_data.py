"""Readers of IDX and CIFAR-10 files, and batches: what is read is what was written, or an error."""

import gzip
import struct

import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from purebrain import train

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)
LABELS = np.array([0, 9, 3, 3, 1], np.uint8)


def idx(array, kind=0x08, letter="B"):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + struct.pack(f">{array.size}{letter}", *array.reshape(-1).tolist())


def put(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("kind", "letter", "dtype"),
    [
        (0x08, "B", "u1"),
        (0x09, "b", "i1"),
        (0x0B, "h", "i2"),
        (0x0C, "i", "i4"),
        (0x0D, "f", "f4"),
        (0x0E, "d", "f8"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_of_every_type(kind, letter, dtype, zipped, tmp_path):
    array = RNG.integers(-100, 100, (2, 3, 4)) if dtype != "u1" else IMAGES
    data = idx(array, kind, letter)
    path = put(tmp_path, "a.idx", gzip.compress(data) if zipped else data)
    got = train.read_idx(path)
    assert got.dtype == np.dtype(dtype) and got.dtype.isnative
    assert (got == array).all()


def test_labelled_images(tmp_path):
    x, y = put(tmp_path, "x", idx(IMAGES)), put(tmp_path, "y", idx(LABELS))
    images, labels = train.read_labelled_images(x, y, classes=10)
    assert (images == IMAGES).all() and labels.tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match=r"y: label 9 at position 1; there are 9 classes"):
        train.read_labelled_images(x, y, classes=9)
    with pytest.raises(ValueError, match=r"y: uint8\[5\]; images are uint8\[n, height, width\]"):
        train.read_labelled_images(y, y, classes=10)
    few = put(tmp_path, "few", idx(LABELS[:4]))
    with pytest.raises(ValueError, match=r"few: shape \(4,\), for 5 images"):
        train.read_labelled_images(x, few, classes=10)
    negative = put(tmp_path, "n", idx(LABELS.astype(int) - 1, 0x09, "b"))
    with pytest.raises(ValueError, match="label -1 at position 0"):
        train.read_labelled_images(x, negative, classes=10)
    floats = put(tmp_path, "f", idx(LABELS, 0x0D, "f"))
    with pytest.raises(ValueError, match="float32; labels are whole numbers"):
        train.read_labelled_images(x, floats, classes=10)
    empty = put(tmp_path, "e", idx(IMAGES[:0])), put(tmp_path, "z", idx(LABELS[:0]))
    with pytest.raises(ValueError, match=r"e: uint8\[0, 4, 3\]"):
        train.read_labelled_images(*empty, classes=10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with"),
        (b"\0\0", "starts with 00 00"),
        (b"\1\0\x08\x01\0\0\0\0", "starts with 01 00 08 01"),
        (b"\0\0\x07\x01\0\0\0\0", "starts with 00 00 07 01, but an IDX file with 00 00, a type"),
        (idx(IMAGES)[:10], "truncated: 10 bytes, in the header"),
        (idx(IMAGES)[:-1], r"truncated: 75 bytes, but shape \(5, 4, 3\) makes 76"),
        (idx(IMAGES) + b"\0", "too long: 77 bytes"),
        (gzip.compress(idx(IMAGES))[:-9], "damaged gzip"),
        (gzip.compress(idx(IMAGES))[:12], "damaged gzip"),
        (b"\x1f\x8b" + b"\0" * 30, "damaged gzip"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: 16 bytes"),
    ],
    ids=range(11),  # compressed bytes hold the time
)
def test_idx_refuses_anything_else(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train.read_idx(put(tmp_path, "a.idx", data))


def test_cifar10(tmp_path):
    images = RNG.integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    labels = np.array([7, 0, 9], np.uint8)
    records = [
        bytes([label]) + b"".join(channel.tobytes() for channel in image)
        for label, image in zip(labels, images, strict=True)
    ]
    one, two = put(tmp_path, "1.bin", b"".join(records[:2])), put(tmp_path, "2.bin", records[2])
    x, y = train.read_cifar10(one, two)
    assert (x == images).all() and (y == labels).all()
    with pytest.raises(ValueError, match="6145 bytes; it must be a whole number of records"):
        train.read_cifar10(put(tmp_path, "3.bin", b"".join(records[:2])[:-1]))
    with pytest.raises(ValueError, match="0 bytes"):
        train.read_cifar10(put(tmp_path, "4.bin", b""))
    with pytest.raises(ValueError, match="label 10 at position 0; there are 10 classes"):
        train.read_cifar10(put(tmp_path, "5.bin", b"\x0a" + records[0][1:]))
    with pytest.raises(ValueError, match="paths: none"):
        train.read_cifar10()


def test_an_epoch_has_each_sample_at_most_once_in_an_order_of_its_key():
    data = {"x": np.arange(10.0), "y": np.arange(10)}
    batches = train.Batches(data, 3)
    epoch = list(batches(jr.key(0)))
    assert len(epoch) == len(batches) == 3
    seen = np.concatenate([b["y"] for b in epoch])
    assert len(set(seen.tolist())) == 9
    assert all((b["x"] == b["y"]).all() for b in epoch)
    again = np.concatenate([b["y"] for b in batches(jr.key(0))])
    other = np.concatenate([b["y"] for b in batches(jr.key(1))])
    assert (seen == again).all() and (seen != other).any()
    late = [b["y"].tolist() for b in batches(jr.key(0), start=2)]
    assert late == [epoch[2]["y"].tolist()]


def test_encoding_gets_a_key_of_the_batch_not_of_the_way_there():
    batches = train.Batches(np.arange(8), 2, lambda batch, key: (batch, jr.uniform(key)))
    noise = [float(b[1]) for b in batches(jr.key(0))]
    assert len(set(noise)) == 4
    assert [float(b[1]) for b in batches(jr.key(0), start=1)] == noise[1:]


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (np.zeros(0), 1, "size: 1; a batch of 0 samples"),
        (np.zeros(3), 0, "size: 0; a batch of 3 samples has 1 to 3"),
        (np.zeros(3), 4, "size: 4"),
        (np.array([[0.0, 1.0], [2.0, np.nan]]), 1, r"data: nan at \(1, 1\); it must be finite"),
        ((np.zeros(3), np.array([1.0, np.inf, 0.0])), 1, r"data: inf at \(1,\)"),
        ((np.zeros(3), np.zeros(4)), 1, r"data: arrays of lengths \[\(3,\), \(4,\)\]"),
        ((), 1, "data: arrays of lengths"),
        (np.float64(1), 1, "data: arrays of lengths"),
    ],
)
def test_batches_refuse(data, size, message):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            train.Batches(data, size)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)

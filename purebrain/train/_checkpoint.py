"""Checkpoints: a pytree of arrays in a file that is whole or refused.

    magic | SHA-256 of all that follows | length of the header | header (JSON) | arrays

The header lists the arrays by path, shape and dtype. A file is written beside its name and renamed,
so that a crash leaves the one before.
"""

import hashlib
import json
import os
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

T = TypeVar("T")
MAGIC = b"purebrain checkpoint 1\n"


class CheckpointError(ValueError):
    """A checkpoint that is truncated, damaged, or of another model."""


def save_checkpoint(path: str | os.PathLike, tree: Any, **meta) -> None:
    """Writes the arrays of a pytree, and `meta` (what JSON can hold); atomic.

    Keys of `jax.random.key` are arrays too. What is no JAX array is the program's, and not written.
    """
    path, arrays = Path(path), _arrays(tree)
    header = json.dumps({"arrays": [_kind(a) for a in arrays], "meta": meta}).encode()
    body = [len(header).to_bytes(8, "little"), header, *(a.tobytes() for _, a in arrays)]
    digest = hashlib.sha256(b"".join(body)).digest()
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.writelines([MAGIC, digest, *body])
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike, like: T) -> tuple[T, dict]:
    """What `save_checkpoint` wrote, in a tree `like` the one written.

    **Returns:** `like` with the file's arrays, every bit of them, and `meta`.

    **Raises:** `CheckpointError` for a file that is truncated or damaged, or whose arrays are not
    those of `like`; `FileNotFoundError`.

        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(f"{folder}/a.ckpt", {"w": jnp.arange(3.0)}, step=7)
        ...     tree, meta = load_checkpoint(f"{folder}/a.ckpt", {"w": jnp.zeros(3)})
        >>> tree["w"].tolist(), meta
        ([0.0, 1.0, 2.0], {'step': 7})
    """
    data = Path(path).read_bytes()
    if not data.startswith(MAGIC):
        raise CheckpointError(f"{path}: not a checkpoint of purebrain.")
    digest, body = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path}: truncated or damaged; take an earlier checkpoint.")
    end = 8 + int.from_bytes(body[:8], "little")
    header, arrays = json.loads(body[8:end]), _arrays(like)
    for written, wanted in zip_longest(header["arrays"], map(_kind, arrays)):
        if written != wanted:
            raise CheckpointError(
                f"{path}: {_show(written)} was written where this model has {_show(wanted)}."
            )
    dynamic, static = eqx.partition(like, eqx.is_array)
    leaves = []
    for leaf, (_, a) in zip(jtu.tree_leaves(dynamic), arrays, strict=True):
        new = jnp.asarray(np.frombuffer(body, a.dtype, a.size, end).reshape(a.shape))
        leaves.append(jr.wrap_key_data(new, impl=jr.key_impl(leaf)) if _is_key(leaf) else new)
        end += a.nbytes
    dynamic = jtu.tree_unflatten(jtu.tree_structure(dynamic), leaves)
    return eqx.combine(dynamic, static), header["meta"]


def _arrays(tree) -> list[tuple[str, np.ndarray]]:
    leaves = jtu.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return [
        (jtu.keystr(path), np.asarray(jr.key_data(a) if _is_key(a) else a)) for path, a in leaves
    ]


def _is_key(a) -> bool:
    return jnp.issubdtype(a.dtype, jax.dtypes.prng_key)


def _kind(named: tuple[str, np.ndarray]) -> list:
    name, a = named
    return [name, a.dtype.name, list(a.shape)]


def _show(kind: list | None) -> str:
    return "nothing" if kind is None else f"{kind[0] or 'an array'}: {kind[1]}{kind[2]}"

"""Operators in blocks."""

from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ._check import (
    check_size,
    check_values,
    checked_events,
    checked_values,
    shown,
)
from ._operator import AbstractOperator, check_operator, joined
from ._spikes import Spikes


class Block(AbstractOperator):
    """W in blocks: `Block([[a, b], [c, None]])`; None is a block of zeros.

    **Arguments:** `blocks`: rows of operators. Those of one row have one n_pre, those of one column
    one n_post; each row and each column needs an operator that says so.

    **Raises:** `ValueError` for rows of several lengths, sizes that disagree, a row or a column
    of None alone, or 2^31 neurons in all; `TypeError` for what is no rows of operators.

        >>> from purebrain.ops import OneToOne
        >>> op = Block([[OneToOne(1.0, 2), OneToOne(5.0, 2)], [None, OneToOne(1.0, 2)]])
        >>> op.mv(jnp.array([True, False, True, False])).tolist()
        [1.0, 0.0, 6.0, 0.0]
    """

    blocks: tuple[tuple[AbstractOperator | None, ...], ...]
    row_sizes: tuple[int, ...] = eqx.field(static=True)
    column_sizes: tuple[int, ...] = eqx.field(static=True)
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, blocks):
        rows = _items("blocks", blocks)
        self.blocks = tuple(_items(f"blocks[{n}]", row) for n, row in enumerate(rows))
        for n, row in enumerate(self.blocks):
            for m, op in enumerate(row):
                if op is not None:
                    check_operator(f"blocks[{n}][{m}]", op)
        lengths = {len(row) for row in self.blocks}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                f"blocks: rows of {sorted(lengths)} blocks; all must have as many, at least one: "
                "Block([[a, b], [c, None]])."
            )
        self.row_sizes = _sizes("row", "n_pre", self.blocks)
        columns = tuple(zip(*self.blocks, strict=True))
        self.column_sizes = _sizes("column", "n_post", columns)
        sizes = zip(("n_pre", "n_post"), (self.row_sizes, self.column_sizes), strict=True)
        self.n_pre, self.n_post = (check_size(f"blocks: {n} in all", sum(of)) for n, of in sizes)

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        parts = [
            s.neurons(at) if isinstance(s, Spikes) else s[at] for at in _slices(self.row_sizes)
        ]
        out = []
        for column, at in enumerate(_slices(self.column_sizes)):
            part = y[at]
            for row, events in zip(self.blocks, parts, strict=True):
                op = row[column]
                part = part if op is None else op.mv_add(part, events)
            out.append(part)
        return jnp.concatenate(out)

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        parts = [x[at] for at in _slices(self.column_sizes)]
        return jnp.concatenate(
            [
                sum(op.mv_t(part) for op, part in zip(row, parts, strict=True) if op is not None)
                for row in self.blocks
            ]
        )

    def as_matrix(self):
        return jnp.block(
            [
                [
                    jnp.zeros((n_pre, n_post), self.dtype) if op is None else op.as_matrix()
                    for op, n_post in zip(row, self.column_sizes, strict=True)
                ]
                for row, n_pre in zip(self.blocks, self.row_sizes, strict=True)
            ]
        )

    def as_coo(self):
        found = []
        for row, rows in zip(self.blocks, _slices(self.row_sizes), strict=True):
            for op, columns in zip(row, _slices(self.column_sizes), strict=True):
                if op is not None:
                    pre, post, weight = op.as_coo()
                    found.append((pre + rows.start, post + columns.start, weight))
        return joined(found)


def _items(name: str, line) -> tuple:
    if not isinstance(line, Iterable):
        raise TypeError(
            f"{name}: {shown(line)}; it must be a list, of rows: Block([[a, b], [c, None]])."
        )
    return tuple(line)


def _sizes(kind: str, name: str, lines) -> tuple[int, ...]:
    sizes = []
    for n, line in enumerate(lines):
        known = {getattr(op, name) for op in line if op is not None}
        if len(known) != 1:
            raise ValueError(
                f"blocks: {kind} {n} has operators of {name} {sorted(known)}; it needs at least "
                f"one, and all alike."
            )
        sizes.append(known.pop())
    return tuple(sizes)


def _slices(sizes) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

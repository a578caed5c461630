"""The interface of all connectivities."""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import (
    EventRows,
    Events,
    ValueRows,
    Values,
    as_number,
    check_rows,
    check_type,
    check_values,
    checked_events,
    checked_values,
    masked,
)
from ._spikes import Spikes


class AbstractOperator(eqx.Module):
    """A connectivity: the linear map y_j = sum_i s_i W_ij from pre- to post-synaptic neurons.

    `W_ij` is the summed weight of all synapses from i to j. The pre-synaptic values `s` are floats
    (spikes of a surrogate among them), booleans, or packed `ops.Spikes`; time follows the non-zero
    ones. Ids are validated on the host when an operator is made, and never again. The matrix is
    linear in `weight`, where an operator has one.

    An operator is an argument of `jax.jit`, as any pytree: `jax.jit(lambda op, s: op.mv(s))`, or
    `eqx.filter_jit(op.mv)`; its bound methods have no hash, which `jax.jit(op.mv)` would need.
    """

    n_pre: eqx.AbstractVar[int]
    n_post: eqx.AbstractVar[int]

    __array_ufunc__ = None  # NumPy's arrays leave `array * op` to `__rmul__`

    @property
    def dtype(self):
        """The precision of the weights, and so of the result (`mv_t` of wider values: theirs)."""

        def is_part(a):
            return isinstance(a, AbstractOperator) and a is not self

        leaves = jax.tree.leaves(self, is_leaf=is_part)
        return jnp.result_type(*(a.dtype for a in leaves if is_part(a) or eqx.is_inexact_array(a)))

    @abc.abstractmethod
    def mv_add(self, y: Float[Array, " n_post"], s: Events) -> Float[Array, " n_post"]:
        """y + s W, added in place where the compiler can."""

    def mv_add_where(
        self, y: Float[Array, " n_post"], s: Array | Spikes, where: Array, lo: int = 0
    ) -> Float[Array, " n_post"]:
        """y + s W for the values at `where`, the others left out: what a surrogate of bounded
        support emits, of which only some have a derivative. The transposed product of `CSR` and
        `FixedOutdegree` then visits those rows alone, on a CPU. The values may be those of a
        larger population, of which the operator's neurons are those from `lo` on."""
        s = masked(s, where, lo, self.n_pre, y.dtype)
        return self.mv_add(y, s[lo : lo + self.n_pre])

    @abc.abstractmethod
    def mv_t(self, x: Values) -> Float[Array, " n_pre"]:
        """W x: what each pre-synaptic neuron sees of its targets."""

    @abc.abstractmethod
    def as_matrix(self) -> Float[Array, "n_pre n_post"]:
        """W, dense (for tests and small networks)."""

    @abc.abstractmethod
    def as_coo(self) -> tuple[np.ndarray, np.ndarray, Array]:
        """Every synapse as (pre ids, post ids, weight, a scalar or one each), on the host."""

    def mv(self, s: Events) -> Float[Array, " n_post"]:
        """s W, from zero."""
        return self.mv_add(jnp.zeros(self.n_post, self.dtype), s)

    def mm(self, s: EventRows) -> Float[Array, "batch n_post"]:
        """S W for a batch of rows, in one walk over all events."""
        check_rows("s", s, self.n_pre, "mv")
        return jax.vmap(self.mv)(s)

    def mm_t(self, x: ValueRows) -> Float[Array, "batch n_pre"]:
        """X W^T for a batch of rows."""
        check_rows("x", x, self.n_post, "mv_t")
        return jax.vmap(self.mv_t)(x)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_pre, n_post)."""
        return self.n_pre, self.n_post

    def __add__(self, other: "AbstractOperator") -> "AbstractOperator":
        """The operator of the summed matrices."""
        if not isinstance(other, AbstractOperator):
            return NotImplemented
        return Sum(self, other)

    def __mul__(self, factor) -> "AbstractOperator":
        """The operator of the matrix times a number."""
        if isinstance(factor, AbstractOperator) or getattr(factor, "ndim", 0) != 0:
            return NotImplemented
        return _scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self) -> "AbstractOperator":
        """The operator of the matrix times -1."""
        return _scaled(self, -1.0)

    def __sub__(self, other: "AbstractOperator") -> "AbstractOperator":
        """The operator of the difference of the matrices."""
        return self + -other if isinstance(other, AbstractOperator) else NotImplemented

    def __truediv__(self, divisor) -> "AbstractOperator":
        """The operator of the matrix times 1 / `divisor`."""
        if isinstance(divisor, AbstractOperator) or getattr(divisor, "ndim", 0) != 0:
            return NotImplemented
        return _scaled(self, as_number(1 / as_number(divisor, "divisor"), "1 / divisor"))

    def __getitem__(self, index) -> "AbstractOperator":
        """Rows and columns of the matrix: `op[lo:hi]`, `op[lo:hi, lo:hi]`."""
        return _part(self, index)

    def as_linear_operator(self):
        """The map s -> s W as a `lineax.AbstractLinearOperator`, of the matrix W^T.

        So lineax solves with it (`lineax.linear_solve(op.as_linear_operator(), y,
        lineax.GMRES(rtol, atol))`), and its `.T` is the map x -> W x.
        """
        import lineax

        like = jax.ShapeDtypeStruct((self.n_pre,), self.dtype)
        return lineax.FunctionLinearOperator(self.mv, like)


class Sum(AbstractOperator):
    """W = sum of the terms' matrices: what `op_1 + op_2` gives.

    **Arguments:** `terms`: operators of one shape.

    **Raises:** `ValueError` for terms of several shapes, or none; `TypeError` for other terms.
    """

    terms: tuple[AbstractOperator, ...]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, *terms):
        for n, term in enumerate(terms):
            check_operator(f"terms[{n}]", term)
        shapes = {term.shape for term in terms}
        if len(shapes) != 1:
            raise ValueError(
                f"terms: shapes {sorted(shapes)}; they must be at least one, all alike."
            )
        self.terms = terms
        self.n_pre, self.n_post = shapes.pop()

    def mv_add(self, y, s):
        for term in self.terms:
            y = term.mv_add(y, s)
        return y

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return sum(term.mv_t(x) for term in self.terms)

    def as_matrix(self):
        return sum(term.as_matrix() for term in self.terms)

    def as_coo(self):
        return joined([term.as_coo() for term in self.terms])


class Scaled(AbstractOperator):
    """W = factor times the operator's matrix: what `factor * op` gives where synapses have weights
    of their own, of half precision, or operators of theirs (else its weight is the product).

    The factor has a derivative. A product takes a pass over the post-synaptic neurons more.
    """

    op: AbstractOperator
    factor: Float[Array, ""]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, op, factor):
        check_operator("op", op)
        self.op, self.factor = op, as_number(factor, "factor")
        self.n_pre, self.n_post = op.shape

    @property
    def dtype(self):
        return self.op.dtype

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        return y + self.factor.astype(y.dtype) * self.op.mv_add(jnp.zeros_like(y), s)

    def mv_t(self, x):
        out = self.op.mv_t(x)
        return self.factor.astype(out.dtype) * out

    def as_matrix(self):
        return self.factor.astype(self.dtype) * self.op.as_matrix()

    def as_coo(self):
        pre, post, weight = self.op.as_coo()
        return pre, post, self.factor.astype(self.dtype) * weight


class Part(AbstractOperator):
    """Rows `rows` and columns `columns` of W: what `op[lo:hi, lo:hi]` gives.

    The synapses stay where they are: time follows the events of the rows, with a pass over the
    neurons of the side that is cut; memory is the whole operator's.
    """

    op: AbstractOperator
    rows: tuple[int, int] = eqx.field(static=True)
    columns: tuple[int, int] = eqx.field(static=True)
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, op, rows, columns):
        self.op, self.rows, self.columns = op, rows, columns
        self.n_pre, self.n_post = rows[1] - rows[0], columns[1] - columns[0]

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        if self.n_pre < self.op.n_pre:
            s = self._pad(s.to_dense() if isinstance(s, Spikes) else s, self.rows, 0)
        if self.n_post == self.op.n_post:
            return self.op.mv_add(y, s)
        return y + self.op.mv_add(jnp.zeros(self.op.n_post, y.dtype), s)[slice(*self.columns)]

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return self.op.mv_t(self._pad(x, self.columns, 1))[slice(*self.rows)]

    def _pad(self, a, bounds, axis):
        return jnp.pad(a, (bounds[0], self.op.shape[axis] - bounds[1]))

    def as_matrix(self):
        return self.op.as_matrix()[slice(*self.rows), slice(*self.columns)]

    def as_coo(self):
        pre, post, weight = self.op.as_coo()
        inside = (self.rows[0] <= pre) & (pre < self.rows[1])
        inside &= (self.columns[0] <= post) & (post < self.columns[1])
        pre, post = pre[inside] - self.rows[0], post[inside] - self.columns[0]
        return pre, post, weight[inside] if weight.ndim else weight


def check_operator(name: str, op) -> None:
    """Refuses what is no operator."""
    check_type(name, op, AbstractOperator, "ops.Dense(weight)")


def _scaled(op: AbstractOperator, factor) -> AbstractOperator:
    """`factor * op`."""
    factor = as_number(factor, "factor")
    names = {field.name for field in dataclasses.fields(op)}
    weight = getattr(op, "weight", None) if "weight" in names else None
    # A matrix that is not stored has two at most; in half precision the product may be no number.
    if not isinstance(weight, jax.Array) or weight.size > 2 or weight.dtype.itemsize < 4:
        return Scaled(op, factor)
    return eqx.tree_at(lambda op: op.weight, op, weight * factor.astype(weight.dtype))


def _part(op: AbstractOperator, index) -> AbstractOperator:
    """`op[index]`, an operator."""
    index = index if isinstance(index, tuple) else (index,)
    if len(index) > 2 or not all(isinstance(i, slice) and i.step in (None, 1) for i in index):
        raise IndexError(
            f"op[{index}]: it must be slices without stride, op[lo:hi] or op[lo:hi, lo:hi]."
        )
    bounds = []
    for i, n in zip((*index, slice(None))[:2], op.shape, strict=True):
        lo, hi, _ = i.indices(n)
        bounds.append((lo, max(lo, hi)))
    return Part(op, *bounds)


def joined(parts):
    pre, post, weights = zip(*parts, strict=True)
    each = [jnp.broadcast_to(w, p.shape) for w, p in zip(weights, pre, strict=True)]
    return np.concatenate(pre), np.concatenate(post), jnp.concatenate(each)

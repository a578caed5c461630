"""The random matrices of brainpylib 0.1.10, drawn by its own CPU binary (extra `brainpylib`).

Networks built on BrainPy's just-in-time connectivity are reproduced draw for draw. No matrix is
kept: every call draws it again from its seed. There are two, with different synapses. In the one
(`outdim_parallel=True`) each post-synaptic neuron in turn draws its pre-synaptic ones: the first
is `stride`, the next `stride` further, with strides uniform on 1 to clen = 2 ceil(1 / p) - 1. In
the other (`False`) each pre-synaptic neuron draws its post-synaptic ones. So the density is
1 / ceil(1 / p), not p, and the drawn neuron 0 is never among them.

brainpylib's 36 functions are `void f(void** out, const void** in)`: one output, the product, and
pointers to operands, of which v is the vector, of n_in values, and integers are uint32:

    homo                      v, weight, clen, seed, n_out, n_in
    uniform, normal           v, low, high (or mean, sd), clen, seed, n_out, n_in
    the same, event_ and      v, clen, low, high (or mean, sd), seed, n_out, n_in
      not atomic_

`atomic_` draws for one v after the other, the rest for one output after the other: the transpose of
either is the other with n_out and n_in exchanged. `event_` is used on booleans only: of floats it
takes whatever is not zero for a one. (On Linux all 36 were run against a reimplementation; in the
wheels for macOS and Windows the operands were read off the machine code, and draws are those of
another C++ library. Some versions of BrainPy pass the order of the second line to the functions of
the third, which then see next to no synapses: the one case that is not reproduced.)

The binary is GPL-3.0; it is loaded without brainpylib's Python, which needs a JAX of 2023.
"""

import ctypes
import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import (
    as_number,
    check_flag,
    check_probability,
    check_seed,
    check_size,
    check_values,
    checked_events,
    checked_values,
    concrete,
    gather,
    scatter,
)
from ._family import Kernels, Layout, family
from ._operator import AbstractOperator
from ._spikes import unpack_bits

VERSION = "0.1.10"
CAPSULE = b"xla._CUSTOM_CALL_TARGET"


class Form(NamedTuple):
    """Which matrix: what brainpylib's functions are called and given."""

    weights: str  # in the function's name: homo, uniform or normal
    ones: tuple[float, ...] | float  # the weight parameters that make every synapse 1
    dtype: np.dtype
    clen: int
    seed: int
    outdim_parallel: bool


def prob_homo(
    weight, p: float, n_pre: int, n_post: int, *, seed: int, outdim_parallel: bool = True
) -> "RandomMatrix":
    """One weight for all synapses: BrainPy's `mv_prob_homo` and `event_mv_prob_homo`.

        purebrain.ops.brainpylib.prob_homo(0.6, 0.02, 3200, 4000, seed=1)

    **Arguments:** `weight`: one number; `p`: the connection probability that BrainPy is given, at
    least 2**-20 (see above for what comes of it); `n_pre`, `n_post`: the numbers of neurons;
    `seed`: brainpylib's, 0 to 2**32 - 1; `outdim_parallel`: which of the two matrices, drawn post-
    or pre-synaptic neuron by neuron (BrainPy's layers call it `not atomic`).

    **Returns:** the operator, drawn in float32 or float64, as the weight is. Each is a matrix of
    its own: random weights take as many words as they have digits, and 1 / p is rounded as in
    BrainPy (which shows at p = 1 / 49). Products are computed in it, whatever is asked for.

    **Raises:** `ImportError` unless brainpylib 0.1.10 is installed on Python 3.11; `ValueError` or
    `TypeError` for arguments other than these.
    """
    return _make("homo", 1.0, {"weight": weight}, p, n_pre, n_post, seed, outdim_parallel)


def prob_uniform(
    low, high, p: float, n_pre: int, n_post: int, *, seed: int, outdim_parallel: bool = True
) -> "RandomMatrix":
    """Weights uniform on [low, high): BrainPy's `mv_prob_uniform`, `event_mv_prob_uniform`.

    W_ij = low + (high - low) u_ij; the operator's `weight` is [low, high]. For the other arguments
    and the errors see `prob_homo`.
    """
    operator = _make(
        "uniform", (1.0, 1.0), {"low": low, "high": high}, p, n_pre, n_post, seed, outdim_parallel
    )
    host = concrete(operator.weight)
    if host is not None and host[0] > host[1]:
        raise ValueError(f"high: {high} is below low: {low}.")
    return operator


def prob_normal(
    mean, sd, p: float, n_pre: int, n_post: int, *, seed: int, outdim_parallel: bool = True
) -> "RandomMatrix":
    """Normal weights: BrainPy's `mv_prob_normal` and `event_mv_prob_normal`.

    W_ij = mean + sd z_ij; the operator's `weight` is [mean, sd]. For the other arguments and the
    errors see `prob_homo`.
    """
    operator = _make(
        "normal", (1.0, 0.0), {"mean": mean, "sd": sd}, p, n_pre, n_post, seed, outdim_parallel
    )
    host = concrete(operator.weight)
    if host is not None and host[1] < 0:
        raise ValueError(f"sd: {sd}; a standard deviation must not be negative.")
    return operator


class RandomMatrix(AbstractOperator):
    """A random matrix of brainpylib's, made by `prob_homo`, `prob_uniform` or `prob_normal`.

    Every call draws all of it, whatever the spikes, and once more for each row of a batch; nothing
    is kept. It is bilinear in `weight` and the spikes, so derivatives are calls of the same binary:
    what of a result belongs to low is the product with (low, high) = (1, 0), without differences.
    `as_matrix` asks the binary for the products with unit vectors: for small networks.
    """

    weight: Float[Array, "*parameters"]
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    form: Form = eqx.field(static=True)

    @property
    def layout(self) -> Layout:
        """What the kernels need to know at compile time."""
        return Layout(self.n_pre, self.n_post, self.weight.shape, form=self.form)

    def mv_add(self, y, s):
        check_values("y", y, self.n_post)
        s = checked_events(s, self.n_pre, y.dtype)
        return scatter(FAMILY, self.layout, y, s, self.weight.astype(y.dtype))

    def mv_t(self, x):
        x = checked_values(x, self.n_post, self.dtype)
        return gather(FAMILY, self.layout, self.weight.astype(x.dtype), x)

    def as_matrix(self):
        if self.n_pre <= self.n_post:
            return self.mm(jnp.eye(self.n_pre, dtype=self.weight.dtype))
        return self.mm_t(jnp.eye(self.n_post, dtype=self.weight.dtype)).T

    def as_coo(self):
        with jax.ensure_compile_time_eval():
            ones = jnp.asarray(self.form.ones, self.weight.dtype)
            there = eqx.tree_at(lambda op: op.weight, self, ones).as_matrix()
        pre, post = (ids.astype(np.int32) for ids in np.nonzero(np.asarray(there)))
        return pre, post, self.as_matrix()[pre, post] if self.weight.ndim else self.weight


def _make(name, ones, parameters, p, n_pre, n_post, seed, outdim_parallel):
    _functions()
    n_pre, n_post = check_size("n_pre", n_pre), check_size("n_post", n_post)
    values = [as_number(value, key) for key, value in parameters.items()]
    weight = jnp.stack(values) if len(values) > 1 else values[0]
    p, seed = check_probability(p), check_seed(seed)
    if p < 2**-20:
        raise ValueError(f"p: {p}; a connection probability must be in [2**-20, 1].")
    dtype = np.dtype(weight.dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"weight: {dtype}; brainpylib has binaries for float32 and float64 only.")
    clen = 2 * int(np.ceil(1 / dtype.type(p))) - 1
    form = Form(name, ones, dtype, clen, seed, check_flag("outdim_parallel", outdim_parallel))
    return RandomMatrix(weight=weight, n_pre=n_pre, n_post=n_post, form=form)


# ---- the binary ----------------------------------------------------------------------------------


def _find() -> importlib.machinery.ModuleSpec:
    """The extension module of the one version whose operands are known, not yet loaded."""
    if sys.version_info[:2] != (3, 11):
        raise ImportError(
            f"brainpylib {VERSION} needs Python 3.11, this is {sys.version_info[0]}."
            f"{sys.version_info[1]}: there are no binaries for any newer one."
        )
    try:
        found = importlib.metadata.distribution("brainpylib")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            'brainpylib is not installed: pip install "purebrain[brainpylib]" (there are binaries '
            "for Linux on x86-64, macOS and Windows)."
        ) from None
    if found.version != VERSION:
        raise ImportError(
            f"brainpylib {found.version} is installed, but it must be {VERSION}, the one whose "
            'binary is known: pip install "purebrain[brainpylib]".'
        )
    folder = str(found.locate_file("brainpylib"))
    spec = importlib.machinery.PathFinder.find_spec("brainpylib.cpu_ops", [folder])
    if spec is None:
        raise ImportError(f"brainpylib {VERSION} has no binary for this platform in {folder}.")
    return spec


@functools.cache
def _functions() -> dict[str, Callable]:
    spec = _find()
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    pointers = ctypes.POINTER(ctypes.c_void_p)
    function = ctypes.CFUNCTYPE(None, pointers, pointers)
    return {name: function(pointer(f, CAPSULE)) for name, f in module.registrations().items()}


def _call(function: Callable, form: Form, n_out: int, clen_first: bool, v, w) -> np.ndarray:
    """The product of each row of `v`, on the host."""
    v, w = np.asarray(v), np.asarray(w)
    v = np.ascontiguousarray(v if v.dtype == bool else v.astype(form.dtype))
    weights = np.empty((len(v), math.prod(w.shape[1:]), 1), form.dtype)
    weights[...] = w.reshape(len(w), *weights.shape[1:])
    clen, seed, *sizes = np.array([form.clen, form.seed, n_out, v.shape[1]], np.uint32)[:, None]
    out = np.empty((len(v), n_out), form.dtype)
    for row, weight, product in zip(v, weights, out, strict=True):
        parameters = (clen, *weight) if clen_first else (*weight, clen)
        operands = [a.ctypes.data for a in (row, *parameters, seed, *sizes)]
        pointers = (ctypes.c_void_p * len(operands))(*operands)
        function((ctypes.c_void_p * 1)(product.ctypes.data), pointers)
    return out.astype(w.dtype)


# ---- the kernels ---------------------------------------------------------------------------------


def _product(layout, v, w, n_out, by_output):
    form, event = layout.form, v.dtype == bool
    name = "cpu_" + "event_" * event + "matvec_" + "atomic_" * (not by_output)
    name += f"prob_{form.weights}_" + {4: "float", 8: "double"}[form.dtype.itemsize]
    function = _functions()[name + "_bool" * event]
    clen_first = event and by_output and form.weights != "homo"
    call = functools.partial(_call, function, form, n_out, clen_first)
    shape = jax.ShapeDtypeStruct((v.shape[0], n_out), w.dtype)
    return jax.pure_callback(call, shape, v, w, vmap_method="sequential")


def _forward(layout, s, w):
    if s.dtype == jnp.uint32:
        s = unpack_bits(s, 32 * s.shape[-1])[:, layout.lo : layout.lo + layout.n_pre]
    return _product(layout, s, w, layout.n_post, layout.form.outdim_parallel)


def _scatter(layout, y, s, w):
    return y + _forward(layout, s, w.astype(y.dtype))


def _gather(layout, w, x):
    return _product(layout, x, w.astype(x.dtype), layout.n_pre, not layout.form.outdim_parallel)


def _outer(layout, s, x):
    size = math.prod(layout.synapses)
    units = jnp.eye(size, dtype=x.dtype).reshape(size, 1, *layout.synapses)
    parts = [jnp.sum(_forward(layout, s, unit) * x, -1) for unit in units]
    return jnp.stack(parts, -1).reshape(x.shape[0], *layout.synapses)


def _elsewhere(*_):
    raise NotImplementedError(
        "brainpylib: the binary is for the CPU only, and on a GPU brainpylib draws other matrices. "
        'Run on the CPU: with jax.default_device(jax.devices("cpu")[0]).'
    )


FAMILY = family(
    "brainpylib",
    Kernels(_elsewhere, _elsewhere, _elsewhere),
    cpu=Kernels(_scatter, _gather, _outer),
)

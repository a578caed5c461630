"""Each pair connected with one probability, and no synapse stored."""

from typing import Any

import equinox as eqx

from .._init import Normal, Uniform
from ..ops import JIT, jit_homogeneous, jit_normal, jit_uniform
from ..ops._check import check_probability
from . import _check as check


def jit(p, weight, *, key) -> "JITRule":
    """Connects each pair of neurons with probability p, independently, and stores no synapse.

    Rows are made from a hash whenever a neuron spikes: networks of millions fit in memory. On a CPU
    this takes as long as stored synapses (`connect.fixed_prob`) or up to twice as long, and two to
    three and a half times without Numba.

    **Arguments:**

    - `p`: probability, in [0, 1].
    - `weight`: one number for all synapses, `pb.Uniform(low, high)` or `pb.Normal(mean, sd)`, whose
      parameters have derivatives.
    - `key`: a JAX PRNG key. The same key gives the same synapses, whatever the device or `weight`.

    **Returns:** a rule: `rule(n_pre, n_post)` is an `ops.JIT`.

    **Raises:** `ValueError` or `TypeError` for arguments other than these.

        >>> import jax
        >>> op = jit(80 / 4_000_000, 0.6, key=jax.random.key(0))(4_000_000, 4_000_000)
        >>> round(float(op.degree.mean()))
        80
    """
    if not isinstance(weight, Normal | Uniform):
        weight = check.weights(weight, ())
    return JITRule(check_probability(p), weight, check.seed("jit", key))


class JITRule(eqx.Module):
    p: float = eqx.field(static=True)
    weight: Any
    seed: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, n_pre, n_post, same=None) -> JIT:
        n_pre, n_post = check.sizes(n_pre, n_post, same, True)
        word = 0
        for part in self.seed:
            word = (word * 0x9E3779B1 + part) % 2**32
        return _made(self.weight, self.p, n_pre, n_post, seed=word)


def _made(weight, *args, seed):
    if isinstance(weight, Normal):
        return jit_normal(weight.mean, weight.sd, *args, seed=seed)
    if isinstance(weight, Uniform):
        return jit_uniform(weight.low, weight.high, *args, seed=seed)
    return jit_homogeneous(weight, *args, seed=seed)

"""The diagonal linear part of a vector field."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu


def linearise(terms, t, h, y, args, linear):
    """f and the diagonal of df/dy at (t, y), both with the structure of `y`.

    The diagonal is `linear(t, y, args)`, or where that is None comes from one `jvp` a leaf: the
    derivative of a leaf's vector field along ones in that leaf. That is the diagonal where entries
    of a leaf do not see each other, as neurons do not.
    """
    if linear is not None:
        # diffrax solves backwards over -t with h < 0, which only its own terms know of.
        return terms.vf(t, y, args), linear(jnp.where(h < 0, -t, t), y, args)
    leaves, tree = jtu.tree_flatten(y)

    def own(k, leaf):
        """The k-th leaf of the vector field, as a function of the k-th leaf of the state."""
        state = jtu.tree_unflatten(tree, [*leaves[:k], leaf, *leaves[k + 1 :]])
        return jtu.tree_leaves(terms.vf(t, state, args))[k]

    pairs = [
        jax.jvp(lambda z, k=k: own(k, z), (leaf,), (jnp.ones_like(leaf),))
        for k, leaf in enumerate(leaves)
    ]
    f, diagonal = zip(*pairs, strict=True) if pairs else ((), ())
    return jtu.tree_unflatten(tree, f), jtu.tree_unflatten(tree, diagonal)


def times(h, y):
    """h y in the types of `y`."""
    return jtu.tree_map(lambda leaf: jnp.asarray(h, leaf.dtype) * leaf, y)

"""Kernels as one thread sees them: scalars, loops, loads and stores by any index, atomics.

Mosaic GPU computes on arrays spread over the threads of a block, and has no load or addition by an
array of indices. But its scalars are values of each thread. So a kernel that gets its thread's
number as a scalar is a kernel as in CUDA, in plain `jnp` and `lax`: rows of any length need no
padding and no masks, and the compiler sees every address. What is not plain `jnp` is a `Machine`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import mosaic_gpu as plgpu

from . import _device as device
from ._tuning import BLOCK, WARP


class Machine(NamedTuple):
    """What a kernel's thread is, and can do beside `jnp`: on the device or in the interpreter."""

    thread: Array  # its number among all
    n_threads: int
    lane: Array  # its number in its warp
    lanes: int  # how many threads share a row
    add: Callable  # (ref, index, value): ref[index] += value, whatever other threads do
    reserve: Callable  # (ref, n) -> the old ref[0], of which n more are then taken
    group_sum: Callable  # value -> the sum over the threads that share the row


def _on_device(programs, lanes):
    thread = device.thread()
    lane = lax.rem(thread, jnp.int32(WARP))
    total = partial(device.group_sum, lanes=lanes)
    return Machine(thread, programs * BLOCK, lane, lanes, device.add, device.reserve, total)


def _interpreted(programs):
    # One thread a program, one program after the other.
    def add(ref, index, value):
        ref[index] = ref[index] + value

    def reserve(ref, n):
        old = ref[0]
        ref[0] = old + n
        return old

    thread = lax.axis_index("program")
    return Machine(thread, programs, jnp.int32(0), 1, add, reserve, lambda value: value)


def launch(tuning, name, body, threads, inputs, outputs):
    """Runs `body(machine, *input refs, *output refs)` on as many threads as the tuning allows of
    those that have work; returns the outputs.

    `inputs` is a tuple of pytrees of arrays. An output is an array that is updated in place, or the
    shape and type of one that is written.
    """
    block = 1 if tuning.interpret else BLOCK
    programs = max(1, min(tuning.programs, -(-threads // block)))
    flat, tree = jax.tree.flatten(inputs)
    state = [jax.new_ref(a) for a in outputs if isinstance(a, Array)]
    made = [a for a in outputs if not isinstance(a, Array)]

    def kernel(*refs):
        given, refs = refs[: len(flat)], refs[len(flat) :]
        updated, written = iter(refs[: len(state)]), iter(refs[len(state) :])
        outs = [next(updated if isinstance(a, Array) else written) for a in outputs]
        machine = _interpreted(programs) if tuning.interpret else _on_device(programs, tuning.lanes)
        body(machine, *jax.tree.unflatten(tree, given), *outs)

    kernel.__name__ = f"purebrain_{name.strip('_')}"
    results = plgpu.kernel(
        kernel,
        out_type=tuple(made),
        grid=(programs,),
        grid_names=("program",),
        interpret=vars(plgpu)["InterpretGPUParams"]() if tuning.interpret else None,
        compiler_params=plgpu.CompilerParams(
            lowering_semantics=plgpu.LoweringSemantics.Lane,
            # A barrier in a loop of which each thread has its own count would wait for ever, and
            # none is needed: no thread reads what another wrote.
            unsafe_no_auto_barriers=True,
        ),
    )(*flat, *state)
    written, updated = iter(results), iter(state)
    return [next(updated)[...] if isinstance(a, Array) else next(written) for a in outputs]


def split(flat, n: int):
    """(row, column) of a place in an array with rows of n."""
    return lax.div(flat, jnp.int32(n)), lax.rem(flat, jnp.int32(n))


def when(condition, do):
    """Calls `do` where the condition holds, which None always does."""
    if condition is None:
        do()
    else:
        lax.cond(condition, do, lambda: None)


def strided(first, stop, step: int, visit, *carry):
    """Folds `carry = visit(n, *carry)` over n = first, first + step, ... below `stop`."""

    def body(state):
        n, *carry = state
        return n + jnp.int32(step), *(visit(n, *carry) or ())

    return lax.while_loop(lambda state: state[0] < stop, body, (first, *carry))[1:]

"""The weights of a random matrix (`_jit_matrix`)."""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..._jit_matrix import FRACTION_BITS, GOLDEN, ROUNDS
from .._kinds import UNIFORM
from ._jit_columns import mix

i32, u32 = np.int32, np.uint32
A, B, C = ROUNDS + 1, ROUNDS + 2, ROUNDS + 3  # the keys of the draws


@intrinsic
def popcount(typing, x):
    """The number of set bits."""

    def code(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int32(types.uint32), code


@njit(error_model="numpy", fastmath={"contract"}, forceinline=True)  # see `combine`
def put_weights(out, law, keys, first, n, coefficients):
    """Puts the weights of synapses first to first + n - 1, `_jit_matrix.combine` of their draws."""
    a, high, low = coefficients[0], coefficients[1], coefficients[2]
    number = out.dtype.type
    k1, k2, k3, k4 = u32(keys[A] | u32(1)), keys[B], u32(keys[B] | u32(1)), keys[C]
    for j in range(n):
        k = u32(first + j)
        one = mix(u32(u32(k * k1) + k2))
        if law == UNIFORM:
            draw = i32(one >> u32(32 - FRACTION_BITS))
        else:
            two = mix(u32(u32(k * k3) + k4))
            three = mix(u32(one ^ u32(two * u32(GOLDEN))))
            dither = i32(i32(three >> u32(16)) - i32(three & u32(0xFFFF)))
            count = i32(popcount(one) + popcount(two))
            steps = i32(i32(i32(count - i32(32)) * i32(65536)) + dither)
            z = i32(i32(steps >> i32(2)) - i32(i32(i32(steps >> i32(7)) * i32(169)) >> i32(10)))
            t = i32(z >> i32(6))
            cube = i32(i32(i32(i32(t * t) >> i32(10)) * t) >> i32(10))
            draw = i32(z + i32(i32(i32(cube - i32(i32(3) * t)) * i32(335)) >> i32(12)))
        d_low = number(i32(draw & i32(1023)))
        d_high = number(i32(draw - i32(draw & i32(1023))))
        out[j] = (((low * d_low + low * d_high) + high * d_low) + high * d_high) + a

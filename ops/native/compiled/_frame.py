"""What compiled functions need of XLA's calls.

The structures are those of jaxlib's `include/xla/ffi/api/c_api.h`, taken as words of 8 bytes.
"""

from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FUNCTION = types.voidptr(types.voidptr)  # of a call frame; gives null, or an error

VERSION = 0 | 3 << 32  # of the interface, 0.3; later ones keep all that is here
EXTENSION, API, OPERANDS, RESULTS = 1, 2, 9, 14  # of a call frame
DATA, RANK, DIMENSIONS = 3, 4, 5  # of an array
ERROR_CREATE = 6  # of the API
METADATA = 1  # a kind of extension
OUT_OF_RANGE = 11
MESSAGE = (
    "an id of the connectivity is out of bounds: it was made of traced arrays, which cannot be "
    "validated. Make the operator outside jit, and pass it."
)

WORD, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()


@intrinsic
def pointer(typing, address):
    """An address as a pointer, for `numba.carray`."""

    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], BYTES)

    return types.voidptr(types.int64), code


@intrinsic
def address_of(typing, pointer):
    """A pointer as an address."""

    def code(context, builder, signature, args):
        return builder.ptrtoint(args[0], WORD)

    return types.int64(types.voidptr), code


@intrinsic
def word(typing, address, k):
    """Word k from an address on."""

    def code(context, builder, signature, args):
        return builder.load(builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]]))

    return types.int64(types.int64, types.int64), code


@intrinsic
def put(typing, address, k, value):
    """Sets word k from an address on."""

    def code(context, builder, signature, args):
        place = builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]])
        builder.store(args[2], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@intrinsic
def trailing_zeros(typing, word):
    """The number of the lowest bit that is set, if one is."""

    def code(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


@intrinsic
def prefetch(typing, array, k):
    """Fetches the line of element k of an array, which may lie beyond its end, into the cache."""

    def code(context, builder, signature, args):
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(start, [args[1]]), BYTES)
        kind = ir.FunctionType(ir.VoidType(), [BYTES, *[ir.IntType(32)] * 3])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [place, *(ir.Constant(ir.IntType(32), x) for x in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@intrinsic
def out_of_bounds(typing, frame):
    """The error that a function gives which met an id out of bounds."""

    def code(context, builder, signature, args):
        def field(base, k):
            return builder.load(builder.gep(base, [ir.Constant(WORD, k)]))

        # {size, extension, message, code}
        given = cgutils.alloca_once(builder, WORD, 4)
        message = builder.ptrtoint(context.insert_const_string(builder.module, MESSAGE), WORD)
        values = [ir.Constant(WORD, 32), ir.Constant(WORD, 0), message]
        for k, value in enumerate([*values, ir.Constant(WORD, OUT_OF_RANGE)]):
            builder.store(value, builder.gep(given, [ir.Constant(WORD, k)]))
        api = builder.inttoptr(
            field(builder.inttoptr(args[0], WORD.as_pointer()), API), WORD.as_pointer()
        )
        create = ir.FunctionType(BYTES, [BYTES]).as_pointer()
        create = builder.inttoptr(field(api, ERROR_CREATE), create)
        return builder.call(create, [builder.bitcast(given, BYTES)])

    return types.voidptr(types.int64), code


@njit
def data(frame, kind, k):
    """Where operand or result k lies."""
    return pointer(word(word(word(frame, kind), k), DATA))


@njit
def in_place(frame):
    """Whether the first result is in the place of the first operand."""
    return word(word(word(frame, RESULTS), 0), DATA) == word(word(word(frame, OPERANDS), 0), DATA)


@njit
def size(frame, kind, k):
    """How many numbers it has."""
    array = word(word(frame, kind), k)
    n = 1
    for d in range(word(array, RANK)):
        n *= word(word(array, DIMENSIONS), d)
    return n


@njit
def array(frame, kind, k, dtype):
    """It, flat."""
    return carray(data(frame, kind, k), size(frame, kind, k), dtype)


@njit
def is_question(frame, stamp):
    """Whether XLA asks for the version of the interface; then it is told. (`stamp`: see there.)"""
    extension = word(frame, EXTENSION)
    asks = extension != 0 and word(extension, 1) & 0xFFFFFFFF == METADATA
    if asks:
        put(word(extension, 3), 3, VERSION)
    return asks

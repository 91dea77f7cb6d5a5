"""Vector instructions written as formulas: an expression on :class:`Lanes` emits LLVM code for all lanes at once.

Numba's own vectoriser keeps no accumulators in registers across a matrix product and interleaves no long chains of
dependent operations. The kernels whose speed depends on that are therefore written with explicit vectors: 64 bytes of
float64 or float32 each, which the compiler splits into whatever registers the processor has.

A kernel is a Python function of :class:`Memory` (arrays) and :class:`Lanes` (scalars), made callable from compiled code
by :func:`kernel`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

BYTES = 64  # of a vector
_FLAGS = ("contract", "nsz", "arcp")  # what may be done to real operations

# Functions that call kernels: arrays are borrowed from the caller, for counting references to them costs more than a
# kernel does, and so does passing dozens of arrays to a function that is not inlined.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": set(_FLAGS),
    "_nrt": False,
}
jit = nb.njit(cache=True, **_OPTIONS)
inlined = nb.njit(inline="always", **_OPTIONS)

_I32, _I64, _F32, _F64 = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


class Lanes:
    """A vector, or a scalar, in a function under construction; operators act on each lane.

    Python numbers in an expression become constants of the vector's type. Real operations may be fused and reordered
    as far as signs of zero go; integers are unsigned and wrap.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    @property
    def count(self) -> int:
        """Number of lanes; 0 for a scalar."""
        kind = self.value.type
        return kind.count if isinstance(kind, ir.VectorType) else 0

    @property
    def element(self) -> Any:
        """LLVM type of one lane."""
        return self.value.type.element if self.count else self.value.type

    @property
    def single(self) -> bool:
        """Whether the lanes are float32, or integers of that size."""
        return self.element in (_F32, _I32)

    def like(self, other: Any) -> Any:
        """Return ``other``, Lanes or a number, as an LLVM value of this one's type."""
        if not isinstance(other, Lanes):
            constant = ir.Constant(self.element, other)
            return ir.Constant(self.value.type, [constant] * self.count) if self.count else constant
        if self.element == _F32 and other.element == _F64:
            other = type(self)(self.builder, self.builder.fptrunc(other.value, _F32))
        return other.spread(self.count).value if self.count and not other.count else other.value

    def spread(self, count: int) -> Lanes:
        """Return this scalar in ``count`` lanes."""
        zeros = ir.Constant(ir.VectorType(_I32, count), [ir.Constant(_I32, 0)] * count)
        empty = ir.Constant(ir.VectorType(self.element, count), ir.Undefined)
        first = self.builder.insert_element(empty, self.value, ir.Constant(_I32, 0))
        return type(self)(self.builder, self.builder.shuffle_vector(first, empty, zeros))

    def _combined(self, other: Any, real: str | None, whole: str | None, swapped: bool = False) -> Lanes:
        pair = (self.value, self.like(other))
        left, right = pair[::-1] if swapped else pair
        if isinstance(self.element, ir.IntType):
            return type(self)(self.builder, getattr(self.builder, str(whole))(left, right))
        return type(self)(self.builder, getattr(self.builder, str(real))(left, right, flags=_FLAGS))

    def __add__(self, other: Any) -> Lanes:
        return self._combined(other, "fadd", "add")

    def __sub__(self, other: Any) -> Lanes:
        return self._combined(other, "fsub", "sub")

    def __mul__(self, other: Any) -> Lanes:
        return self._combined(other, "fmul", "mul")

    def __truediv__(self, other: Any) -> Lanes:
        return self._combined(other, "fdiv", None)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._combined(other, "fdiv", None, swapped=True)

    def __and__(self, other: Any) -> Lanes:
        return self._combined(other, None, "and_")

    def __or__(self, other: Any) -> Lanes:
        return self._combined(other, None, "or_")

    def __xor__(self, other: Any) -> Lanes:
        return self._combined(other, None, "xor")

    def __lshift__(self, other: int) -> Lanes:
        return self._combined(other, None, "shl")

    def __rshift__(self, other: int) -> Lanes:
        return self._combined(other, None, "lshr")

    def _as(self, element: Any) -> Any:
        return ir.VectorType(element, self.count) if self.count else element

    def bits(self) -> Lanes:
        """Return the bits of real lanes as integers."""
        return type(self)(self.builder, self.builder.bitcast(self.value, self._as(_I32 if self.single else _I64)))

    def floats(self) -> Lanes:
        """Return integer lanes read as the bits of reals of the same size."""
        return type(self)(self.builder, self.builder.bitcast(self.value, self._as(_F32 if self.single else _F64)))

    def narrow(self) -> Lanes:
        """Return the low halves of 64-bit integers: of each 16, the first and the last 8 in turn."""
        # In this order, and written so, two operations narrow two vectors; to truncate each and join them takes five.
        firsts = [self.part(i, 8) & 0xFFFFFFFF for i in range(0, self.count, 16)]
        lasts = [self.part(i + 8, 8) << 32 for i in range(0, self.count, 16)]
        both = joined([first | last for first, last in zip(firsts, lasts, strict=True)])
        return type(self)(self.builder, self.builder.bitcast(both.value, ir.VectorType(_I32, self.count)))

    def reals(self, plus: float = 0.0) -> Lanes:
        """Return integers below 2³² as reals of the same size, plus 0 or ½."""
        if self.single:
            value = type(self)(self.builder, self.builder.uitofp(self.value, self._as(_F32)))
            return value + plus if plus else value
        # processors without AVX-512 convert no 64-bit integers: put them into the mantissa of 2^52
        return (self | (0x433 << 52)).floats() - (2.0**52 - plus)

    def plus(self, numbers: Sequence[int]) -> Lanes:
        """Return integer lanes, each with its number added."""
        added = [ir.Constant(self.element, number) for number in numbers]
        return self + type(self)(self.builder, ir.Constant(self.value.type, added))

    def halves(self, *, high: bool) -> Lanes:
        """Return 64-bit integers with both halves replaced by the high, or the low, one."""
        count = max(self.count, 1)
        parts = ir.VectorType(_I32, 2 * count)
        picked = [ir.Constant(_I32, i | 1 if high else i & ~1) for i in range(2 * count)]
        split = self.builder.bitcast(self.value, parts)
        mixed = self.builder.shuffle_vector(split, split, ir.Constant(parts, picked))
        return type(self)(self.builder, self.builder.bitcast(mixed, self.value.type))

    def wide_product(self, multiplier: int) -> tuple[Lanes, Lanes]:
        """Return the high and the low words of products of words, the low halves of 64-bit lanes; other halves vary."""
        product = (self & 0xFFFFFFFF) * multiplier
        return product.halves(high=True), product

    def joined(self, other: Lanes) -> Lanes:
        """Return the lanes of this vector followed by those of ``other``."""
        order = ir.Constant(ir.VectorType(_I32, 2 * self.count), [ir.Constant(_I32, i) for i in range(2 * self.count)])
        return type(self)(self.builder, self.builder.shuffle_vector(self.value, other.value, order))

    def part(self, first: int, count: int) -> Lanes:
        """Return lanes ``first`` to ``first + count`` (exclusive)."""
        order = ir.Constant(ir.VectorType(_I32, count), [ir.Constant(_I32, first + i) for i in range(count)])
        return type(self)(self.builder, self.builder.shuffle_vector(self.value, self.value, order))

    def sqrt(self) -> Lanes:
        """Return the square root of each lane."""
        suffix = ("f32" if self.single else "f64") if not self.count else f"v{self.count}f{32 if self.single else 64}"
        signature = ir.FunctionType(self.value.type, [self.value.type])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.sqrt.{suffix}")
        return type(self)(self.builder, self.builder.call(function, [self.value]))

    def at_least(self, bound: Any) -> Lanes:
        """Return the larger of each lane and ``bound``; a NaN stays a NaN."""
        value = self.like(bound)
        below = self.builder.fcmp_ordered("<", self.value, value)
        return type(self)(self.builder, self.builder.select(below, value, self.value))

    def zero_where_below(self, other: Lanes, bound: float) -> Lanes:
        """Return each lane, or 0 where that of ``other`` is less than ``bound``."""
        below = self.builder.fcmp_ordered("<", other.value, other.like(bound))
        return type(self)(self.builder, self.builder.select(below, self.like(0.0), self.value))

    def any_below(self, bound: float) -> Lanes:
        """Return a scalar bool: whether some real lane is less than ``bound``."""
        if self.count * (4 if self.single else 8) > BYTES:  # a minimum costs less than a comparison
            half = self.count // 2
            first, last = self.part(0, half).value, self.part(half, half).value
            less = self.builder.fcmp_ordered("<", first, last)
            return type(self)(self.builder, self.builder.select(less, first, last)).any_below(bound)
        flags = self.builder.fcmp_ordered("<", self.value, self.like(bound))
        packed = self.builder.bitcast(flags, ir.IntType(self.count))
        return type(self)(self.builder, self.builder.icmp_unsigned("!=", packed, ir.Constant(packed.type, 0)))


class Memory:
    """A one-dimensional array in a function under construction."""

    def __init__(self, builder: Any, data: Any, element: Any) -> None:
        self.builder = builder
        self.data = data
        self.element = element

    @property
    def width(self) -> int:
        """Number of elements in a vector of 64 bytes."""
        return BYTES // (4 if self.element == _F32 else 8)

    def since(self, index: Lanes) -> Memory:
        """Return the array from ``index`` on."""
        return Memory(self.builder, self.builder.gep(self.data, [index.value]), self.element)

    def zeros(self) -> Lanes:
        """Return a vector of zeros."""
        return Lanes(self.builder, ir.Constant(ir.VectorType(self.element, self.width), [0.0] * self.width))

    def load(self, index: Lanes, shift: int = 0) -> Lanes:
        """Return the vector whose first element is at ``index`` plus ``shift`` vectors."""
        kind = ir.VectorType(self.element, self.width)
        pointer = self.builder.bitcast(self._at(index, shift), kind.as_pointer())
        return Lanes(self.builder, self.builder.load(pointer, align=BYTES // self.width))

    def store(self, value: Lanes, index: Lanes, shift: int = 0) -> None:
        """Write a vector at ``index`` plus ``shift`` vectors."""
        pointer = self.builder.bitcast(self._at(index, shift), value.value.type.as_pointer())
        self.builder.store(value.value, pointer, align=BYTES // self.width)

    def scalar(self, index: Lanes) -> Lanes:
        """Return the element at ``index``."""
        return Lanes(self.builder, self.builder.load(self.builder.gep(self.data, [index.value])))

    def _at(self, index: Lanes, shift: int) -> Any:
        return self.builder.gep(self.data, [(index + shift * self.width).value if shift else index.value])


class Variable:
    """A value that a loop changes."""

    def __init__(self, start: Lanes) -> None:
        self.builder = start.builder
        self._slot = cgutils.alloca_once_value(start.builder, start.value)

    def get(self) -> Lanes:
        """Return the present value."""
        return Lanes(self.builder, self.builder.load(self._slot))

    def set(self, value: Lanes) -> None:
        """Change the value."""
        self.builder.store(value.value, self._slot)


@contextmanager
def loop(count: Lanes) -> Iterator[Lanes]:
    """Emit what the body emits as a loop over 0, …, count − 1."""
    with cgutils.for_range(count.builder, count.value) as found:
        yield Lanes(count.builder, found.index)


def joined(vectors: Sequence[Lanes]) -> Lanes:
    """Return the lanes of all vectors, whose number is a power of two."""
    if len(vectors) == 1:
        return vectors[0]
    return joined([a.joined(b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)])


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """Return Σ c_n x^n, lowest order first, by Horner's rule."""
    result = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        result = x * result + coefficient
    return result


def kernel(write: Callable[..., Lanes | None], returns: Any = types.void) -> Any:
    """Return ``write`` as a function that compiled code can call.

    Arrays (C-contiguous, one axis) arrive as :class:`Memory`, floats and integers as scalar :class:`Lanes`; the result
    is what ``write`` returns, of numba type ``returns``.
    """

    def typed(typing_context: Any, *given: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            wrapped: list[Memory | Lanes] = []
            for kind, value in zip(signature.args, values, strict=True):
                if isinstance(kind, types.Array):
                    data = context.make_array(kind)(context, builder, value).data
                    wrapped.append(Memory(builder, data, context.get_data_type(kind.dtype)))
                else:
                    wrapped.append(Lanes(builder, value))
            result = write(*wrapped)
            return context.get_dummy_value() if result is None else result.value

        plain = [types.int64 if isinstance(kind, types.Integer) else kind for kind in given]
        return returns(*plain), code

    # numba takes the number of arguments from here
    parameters = inspect.signature(write).parameters.values()
    context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    typed.__name__ = write.__name__
    return intrinsic(typed)


def _array_at(element: Any) -> Any:
    """Return a function of compiled code: the C-contiguous array of a shape that begins at an address."""

    @intrinsic
    def array_at(typing_context: Any, address: Any, shape: Any) -> Any:
        kind = types.Array(element, len(shape), "C")

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            first, given = values
            lengths = [
                context.cast(builder, length, own, types.intp)
                for length, own in zip(cgutils.unpack_tuple(builder, given), shape.types, strict=True)
            ]
            itemsize = ir.Constant(_I64, element.bitwidth // 8)
            strides = [itemsize]
            for length in lengths[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            result = context.make_array(kind)(context, builder)
            data = builder.inttoptr(first, context.get_data_type(element).as_pointer())
            populate_array(result, data=data, shape=lengths, strides=strides, itemsize=itemsize, meminfo=None)
            return result._getvalue()

        return kind(types.int64, shape), code

    return array_at


floats, integers = _array_at(types.float64), _array_at(types.int64)


@intrinsic
def _flat(typing_context: Any, address: Any) -> Any:
    """Return the array of float64 that begins at an address, of unknown length."""
    kind = types.Array(types.float64, 1, "C")

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        itemsize = ir.Constant(_I64, 8)
        result = context.make_array(kind)(context, builder)
        data = builder.inttoptr(values[0], _F64.as_pointer())
        length = [ir.Constant(_I64, 2**60)]
        populate_array(result, data=data, shape=length, strides=[itemsize], itemsize=itemsize, meminfo=None)
        return result._getvalue()

    return kind(types.int64), code


flat: Any = _flat


def addresses(arrays: Any) -> Any:
    """Return a named tuple of arrays and integers as one record, in which an array is its address.

    A record is passed to a function as one pointer; a tuple of dozens of arrays is passed as hundreds of numbers, and
    compiling that takes longer than all the rest. Functions get the arrays back by :data:`floats` and
    :data:`integers`; the caller keeps them alive.
    """
    record = np.zeros(1, [(name, np.int64) for name in arrays._fields])[0]
    for name, value in zip(arrays._fields, arrays, strict=True):
        assert not isinstance(value, np.ndarray) or (value.flags.c_contiguous and value.itemsize == 8), name
        record[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return record

"""What the path engine's functions call, for CUDA: the names of ``lanes``, and arrays at addresses.

A thread has one lane of a vector; LANES threads, neighbours in a warp, are the vector. The memory's layout is that of
the CPU, so that the threads of a vector read and write 64 bytes in a row. In the simulator a block is one vector.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda as _cuda

from srkverify.engines.cuda_device import SIMULATED
from srkverify.engines.rng import LANES

cuda: Any = _cuda  # whose types are not what they are said to be

THREADS = LANES if SIMULATED else 128  # of a block

located: Any = cuda.jit(device=True)  # for what asks which thread it is

if SIMULATED:

    def device(function: Any) -> Any:
        """Return a function as it is, which is faster than what the simulator makes of it."""
        return function

    inlined = device

    _allocations: list[tuple[int, int]] = []

    def address_of(array: Any) -> int:
        """Return where a device array begins."""
        first = int(array._ary.ctypes.data)
        end = first + array.nbytes
        _allocations[:] = [one for one in _allocations if one[1] <= first or one[0] >= end] + [(first, end)]
        _view.cache_clear()
        return first

    @lru_cache(maxsize=1 << 16)
    def _view(address: int, shape: tuple[int, ...] | None, kind: Any) -> Any:
        if address == 0:  # nothing, where the CPU has memory that a GPU does not need
            return None
        ends = [last for first, last in _allocations if first <= address < last]
        end = ends[0] if ends else address
        count = (end - address) // 8 if shape is None else int(np.prod(shape))
        assert address + 8 * count <= end
        if count == 0:
            return np.empty(shape, np.float64)
        whole = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), (count,))
        return whole if shape is None else whole.reshape(shape)

    def flat(address: Any) -> Any:
        """Return the array of float64 that begins at an address, up to the end of what was allocated."""
        return _view(int(address), None, ctypes.c_double)

    def floats(address: Any, shape: Any) -> Any:
        """Return an array at an address."""
        return _view(int(address), tuple(map(int, shape)), ctypes.c_double)

    def integers(address: Any, shape: Any) -> Any:
        """Return an array at an address."""
        return _view(int(address), tuple(map(int, shape)), ctypes.c_int64)

    def opened(records: Any, i: Any) -> Any:
        """Return one of the records, for a thread to read."""
        record = records._item._ary[i]
        return SimpleNamespace(**{name: int(record[name]) for name in record.dtype.names})

else:
    from numba.core import cgutils
    from numba.cuda import types as _types
    from numba.cuda.extending import intrinsic
    from numba.cuda.np.arrayobj import populate_array

    device: Any = cuda.jit(device=True)  # type: ignore[no-redef]
    inlined: Any = cuda.jit(device=True, inline="always")  # type: ignore[no-redef]  # for what returns an array
    types: Any = _types
    _I64 = ir.IntType(64)

    def address_of(array: Any) -> int:
        """Return where a device array begins."""
        return int(array.__cuda_array_interface__["data"][0])

    def _pointer(context: Any, builder: Any, address: Any, element: Any) -> Any:
        """Return the generic pointer of an address, which is known to be in global memory."""
        kind = context.get_data_type(element)
        return builder.addrspacecast(builder.inttoptr(address, ir.PointerType(kind, 1)), kind.as_pointer())

    # Lengths of these arrays are said to be 0: to a negative index numba adds the length, and this way that is nothing.

    def _array_at(element: Any) -> Any:
        @intrinsic
        def array_at(typing_context: Any, address: Any, shape: Any) -> Any:
            kind = types.Array(element, len(shape), "A")

            def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                first, given = values
                lengths = [
                    context.cast(builder, length, own, types.intp)
                    for length, own in zip(cgutils.unpack_tuple(builder, given), shape.types, strict=True)
                ]
                itemsize = ir.Constant(_I64, 8)
                strides = [itemsize]
                for length in lengths[:0:-1]:
                    strides.insert(0, builder.mul(strides[0], length))
                result = context.make_array(kind)(context, builder)
                data, nothing = _pointer(context, builder, first, element), [ir.Constant(_I64, 0)] * len(lengths)
                populate_array(result, data=data, shape=nothing, strides=strides, itemsize=itemsize, meminfo=None)
                return result._getvalue()

            return kind(types.int64, shape), code

        return array_at

    floats, integers = _array_at(types.float64), _array_at(types.int64)

    @intrinsic
    def _flat(typing_context: Any, address: Any) -> Any:
        kind = types.Array(types.float64, 1, "C")

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            # Functions that take arrays from addresses are the long ones. Inlined wherever they are called, they make
            # a kernel of four times the size, which takes four times as long to compile.
            builder.function.attributes.add("noinline")
            itemsize, nothing = ir.Constant(_I64, 8), ir.Constant(_I64, 0)
            result = context.make_array(kind)(context, builder)
            data = _pointer(context, builder, values[0], types.float64)
            populate_array(result, data=data, shape=[nothing], strides=[itemsize], itemsize=itemsize, meminfo=None)
            return result._getvalue()

        return kind(types.int64), code

    flat: Any = _flat  # type: ignore[no-redef]

    @device
    def opened(records: Any, i: Any) -> Any:
        """Return one of the records, for a thread to read."""
        return records[i]


@located
def own_lane() -> Any:
    """Return this thread's lane."""
    return cuda.threadIdx.x % LANES


@located
def own_lanes() -> Any:
    """Return the lanes of a vector that this thread works on."""
    lane = cuda.threadIdx.x % LANES
    return range(lane, lane + 1)


@located
def own_share(count: Any) -> Any:
    """Return which of ``count`` things that all threads have in common this thread works on."""
    return range(cuda.grid(1), count, cuda.gridsize(1))


@located
def _mask() -> Any:
    """Return which threads of the warp have the vector's lanes."""
    return 255 << (cuda.threadIdx.x % 32 // LANES * LANES)


if SIMULATED:

    @located
    def together() -> None:
        """Wait for the threads of the vector's other lanes; then each sees what the others have written."""
        cuda.syncthreads()

    @located
    def anywhere(flag: Any) -> Any:
        """Return whether a flag is set on some thread of the vector."""
        return cuda.syncthreads_or(flag) != 0

else:

    @located
    def together() -> None:
        """Wait for the threads of the vector's other lanes; then each sees what the others have written."""
        cuda.syncwarp(_mask())

    @located
    def anywhere(flag: Any) -> Any:
        """Return whether a flag is set on some thread of the vector."""
        return cuda.any_sync(_mask(), flag)


@device
def fill(out: Any, at: Any, count: Any, value: Any) -> None:
    """Write ``value`` to ``count`` vectors."""
    first = at + own_lane()
    for i in range(count):
        out[first + i * LANES] = value


@device
def copy(out: Any, at: Any, count: Any, x: Any, x_at: Any) -> None:
    """Copy ``count`` vectors."""
    lane = own_lane()
    for i in range(count):
        out[at + i * LANES + lane] = x[x_at + i * LANES + lane]


@device
def assign(out: Any, at: Any, value: Any) -> None:
    """Write ``value`` to one vector."""
    out[at + own_lane()] = value


@device
def add_scaled(out: Any, at: Any, factor: Any, x: Any, x_at: Any) -> None:
    """Add ``factor`` times a vector."""
    lane = own_lane()
    out[at + lane] += x[x_at + lane] * factor


@device
def add_product(out: Any, at: Any, x: Any, x_at: Any, y: Any, y_at: Any) -> None:
    """Add the product of two vectors."""
    lane = own_lane()
    out[at + lane] += x[x_at + lane] * y[y_at + lane]


@device
def subtract_product(out: Any, at: Any, x: Any, x_at: Any, y: Any, y_at: Any) -> None:
    """Subtract the product of two vectors."""
    lane = own_lane()
    out[at + lane] -= x[x_at + lane] * y[y_at + lane]


@device
def multiply(out: Any, at: Any, x: Any, x_at: Any) -> None:
    """Multiply by a vector."""
    lane = own_lane()
    out[at + lane] *= x[x_at + lane]


@device
def divide(out: Any, at: Any, x: Any, x_at: Any) -> None:
    """Divide by a vector."""
    lane = own_lane()
    out[at + lane] /= x[x_at + lane]


@device
def root(out: Any, at: Any, x: Any, x_at: Any) -> None:
    """Replace a vector by the root of the larger of itself and another one."""
    lane = own_lane()
    value, least = out[at + lane], x[x_at + lane]
    out[at + lane] = math.sqrt(least if value < least else value)


@device
def rotate(out: Any, p: Any, q: Any, count: Any, stride: Any, cosine: Any, c: Any, s: Any) -> None:
    """Rotate ``count`` pairs of vectors, the next pair ``stride`` behind: (u, v) becomes (c u − s v, s u + c v)."""
    lane = own_lane()
    cos, sin = cosine[c + lane], cosine[s + lane]
    for i in range(count):
        left, right = out[i * stride + p + lane], out[i * stride + q + lane]
        out[i * stride + p + lane] = cos * left - sin * right
        out[i * stride + q + lane] = sin * left + cos * right

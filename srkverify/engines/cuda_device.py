"""Random words, normals and exponentials for CUDA: the CPU's formulas on scalars (``cuda_numbers``).

So there is one definition of them. Words are those of the CPU to the last bit, and normals those to rounding.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda

from srkverify.engines import rng, vecmath
from srkverify.engines.cuda_numbers import Number, Scalar, reciprocal
from srkverify.engines.panels import _LOWEST

SIMULATED = bool(cuda.config.ENABLE_CUDASIM)

device: Any = cuda.jit(device=True, **({} if SIMULATED else {"forceinline": True}))

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


def _normals(form: Any) -> Callable[..., list[Any]]:
    """Return the formula of two normals: from x, the shift of ``rng._root_log``, and the angle's word."""

    def pair(x: Any, shift: Any, word: Any) -> list[Any]:
        angle = word if form is rng._SINGLE else word.widened()
        return list(rng._turned(rng._root_log(x, shift, form), angle, form))

    return pair


def _double(low: Any, high: Any) -> list[Any]:
    """2³² h + l + ½ if that is below 2⁵²."""
    return [((high.widened() << 32) | low.widened()).reals(plus=0.5)]


def _single(low: Any, high: Any) -> list[Any]:
    return [high.reals() * 2.0**32 + low.reals(plus=0.5)]


def _weight(x: Any) -> list[Any]:
    """e^x, 0 if that is tiny."""
    return [vecmath.exp_lanes(x).zero_where_below(x, _LOWEST[x.single])]


def _reciprocal(x: Any) -> list[Any]:
    return [reciprocal(x)]


def _words(*words: Any) -> list[Any]:
    return rng._philox(list(words[:4]), list(words[4:]))


if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    _allocating, _dynamic = threading.Lock(), FakeCUDAShared.array

    def _shared(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        """Return a block's shared array, one for all of its threads; the simulator's own may give two threads two."""
        if shape == 0:
            return _dynamic(self, shape, dtype)
        caller = sys._getframe(1)
        place = (caller.f_code.co_filename, caller.f_lineno)
        with _allocating:
            return self._allocations.setdefault(place, np.empty(shape, dtype))

    FakeCUDAShared.array = _shared

    def _compiled(formula: Callable[..., list[Any]], kinds: str, out: str) -> Any:
        def function(*given: Any) -> Any:
            numbers = [Number(kind, np.asarray(one).item()) for kind, one in zip(kinds.split(), given, strict=True)]
            results = [np.uint32(one.value) if out == "u4" else one.value for one in formula(*numbers)]
            return results[0] if len(results) == 1 else tuple(results)

        return function

    def word(value: Any) -> Any:
        """Return an integer's low word."""
        return np.uint32(int(value) & 0xFFFFFFFF)

    def load(array: Any, at: Any) -> Any:
        """Return an entry of an array."""
        assert at >= 0
        return array[at]

    def store(array: Any, at: Any, value: Any) -> None:
        """Write an entry of an array."""
        assert at >= 0
        array[at] = value

    def four(array: Any, at: Any) -> Any:
        """Return four entries of an array, from a multiple of four on."""
        return tuple(array[at : at + 4])

else:
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    _TYPES = {"u4": types.uint32, "f8": types.float64, "f4": types.float32}

    def _compiled(formula: Callable[..., list[Any]], kinds: str, out: str) -> Any:
        """Return a formula as a function of device code, of numbers of these kinds."""
        own, count = [_TYPES[kind] for kind in kinds.split()], _RESULTS[formula]

        def typed(*given: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                results = [one.value for one in formula(*(Scalar(builder, value) for value in values))]
                return results[0] if count == 1 else context.make_tuple(builder, signature.return_type, results)

            return (_TYPES[out] if count == 1 else types.UniTuple(_TYPES[out], count))(*own), code

        # numba takes the number of arguments from here
        names = ["typing_context", *(f"x{i}" for i in range(len(own)))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        return intrinsic(typed)

    @device
    def word(value: Any) -> Any:
        """Return an integer's low word."""
        return np.uint32(value & 0xFFFFFFFF)

    def _place(context: Any, builder: Any, array: Any, values: Any) -> Any:
        return builder.gep(context.make_array(array)(context, builder, values[0]).data, [values[1]])

    @intrinsic
    def load(typing_context: Any, array: Any, at: Any) -> Any:
        """Return an entry of an array, whose index is not negative."""

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.load(_place(context, builder, array, values))

        return array.dtype(array, types.int64), code

    @intrinsic
    def store(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
        """Write an entry of an array, whose index is not negative."""

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            builder.store(values[2], _place(context, builder, array, values))
            return context.get_dummy_value()

        return types.void(array, types.int64, array.dtype), code

    @intrinsic
    def four(typing_context: Any, array: Any, at: Any) -> Any:
        """Return four entries of an array, from a multiple of four on: 16 bytes with each instruction."""

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(array)(context, builder, values[0]).data
            element = context.get_data_type(array.dtype)
            width = 4 if element == _F32 else 2
            kind, results = ir.VectorType(element, width), []
            for first in range(0, 4, width):
                place = builder.gep(data, [builder.add(values[1], ir.Constant(_I64, first))])
                vector = builder.load(builder.bitcast(place, kind.as_pointer(data.type.addrspace)), align=16)
                results += [builder.extract_element(vector, ir.Constant(_I32, i)) for i in range(width)]
            return context.make_tuple(builder, signature.return_type, results)

        return types.UniTuple(array.dtype, 4)(array, types.int64), code


_PAIRS = {"float64": _normals(rng._DOUBLE), "float32": _normals(rng._SINGLE)}
_RESULTS: dict[Any, int] = {_words: 4, _PAIRS["float64"]: 2, _PAIRS["float32"]: 2}
_RESULTS |= dict.fromkeys((_double, _single, _weight, _reciprocal), 1)

# Four words of a counter of four words and a key of two.
philox = _compiled(_words, "u4 u4 u4 u4 u4 u4", "u4")
normals = {
    "float64": _compiled(_PAIRS["float64"], "f8 f8 u4", "f8"),
    "float32": _compiled(_PAIRS["float32"], "f4 f4 u4", "f4"),
}
plus_half = {"float64": _compiled(_double, "u4 u4", "f8"), "float32": _compiled(_single, "u4 u4", "f4")}
# e^x of a number that is not above 0, and 0 where the CPU has 0.
weight = {"float64": _compiled(_weight, "f8", "f8"), "float32": _compiled(_weight, "f4", "f4")}
# 1/x of a normal number.
inverse = {"float64": _compiled(_reciprocal, "f8", "f8"), "float32": _compiled(_reciprocal, "f4", "f4")}


@device
def block(seed: Any, particle: Any, step: Any, stream: Any, group: Any, second: Any) -> Any:
    """Return the four words of a place, or those of cut-off tails if ``second`` is 1, not 0; of integers of 64 bits."""
    return philox(
        word(particle),
        word((particle >> 32) | (second << 31)),
        word(step),
        word((stream << 24) | group),
        word(seed),
        word(seed >> 32),
    )


def kind(dtype: str) -> Any:
    """Return what names the type of an array."""
    return np.dtype(dtype) if SIMULATED else getattr(types, dtype)


def drawer(dtype: str) -> Any:
    """Return the device function that draws the normals of a group of four coordinates."""
    form = {"float64": rng._DOUBLE, "float32": rng._SINGLE}[dtype]
    real = np.dtype(dtype).type
    usual, tail = (real(2**form.mantissa + form.bias + bits) for bits in (32, 64))
    pair, real_of, rare, none = normals[dtype], plus_half[dtype], np.uint32(rng._RARE), np.uint32(0)

    @device
    def draw(seed: Any, particle: Any, step: Any, stream: Any, group: Any) -> Any:
        w0, w1, w2, w3 = block(seed, particle, step, stream, group, 0)
        x, y, x_shift, y_shift = real_of(w0, none), real_of(w2, none), usual, usual
        if w0 < rare or w2 < rare:
            m0, _, m2, _ = block(seed, particle, step, stream, group, 1)
            if w0 < rare:
                x, x_shift = real_of(m0, w0), tail
            if w2 < rare:
                y, y_shift = real_of(m2, w2), tail
        a, b = pair(x, x_shift, w1)
        c, d = pair(y, y_shift, w3)
        return a, b, c, d

    return draw


if SIMULATED:

    @device
    def exchanged(value: Any, distance: Any) -> Any:
        """Return the value of the thread at a distance, of which ``distance`` is the only bit."""
        return from_lane(value, cuda.threadIdx.x ^ distance)

    @device
    def from_lane(value: Any, lane: Any) -> Any:
        """Return the value of another thread of the warp; here of the block."""
        places = cuda.shared.array(256, np.float64)
        cuda.syncthreads()
        places[cuda.threadIdx.x] = value
        cuda.syncthreads()
        return type(value)(places[lane])

else:

    @device
    def exchanged(value: Any, distance: Any) -> Any:
        """Return the value of the thread at a distance, of which ``distance`` is the only bit."""
        return cuda.shfl_xor_sync(0xFFFFFFFF, value, distance)

    @device
    def from_lane(value: Any, lane: Any) -> Any:
        """Return the value of another thread of the warp, by the thread's place in its block."""
        return cuda.shfl_sync(0xFFFFFFFF, value, lane & 31)

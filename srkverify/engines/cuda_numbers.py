"""Numbers that the CPU's formulas are called with to run in one thread: for a GPU, and for numba's simulator.

``rng`` and ``vecmath`` write their formulas on :class:`~srkverify.engines.simd.Lanes`, whose operators emit LLVM code.
On a GPU their arguments are :class:`Scalar`, which emit code for one thread; in the simulator :class:`Number`, which
compute. Words are of 32 bits, which is what a GPU multiplies. Divisions and roots are a first guess by the special
function unit and a step of third order, for arguments that are known to be normal numbers: a division as IEEE wants it
takes three times as many instructions, and branches.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from llvmlite import ir

from srkverify.engines.simd import Lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FORMATS = {"f8": "<d", "f4": "<f", "u8": "<Q", "u4": "<I"}


class Scalar(Lanes):
    """A number of one thread in a kernel under construction."""

    __slots__ = ()

    def _call(self, name: str, *given: Any) -> Scalar:
        function = ir.FunctionType(self.element, [self.element] * len(given))
        found = self.builder.module.globals.get(name) or ir.Function(self.builder.module, function, name)
        return Scalar(self.builder, self.builder.call(found, [self.like(value) for value in given]))

    def _guess(self, instruction: str) -> Scalar:
        letter, size = ("f", "f32") if self.single else ("d", "f64")
        kind = ir.FunctionType(self.element, [self.element])
        code = ir.InlineAsm(kind, f"{instruction}.approx.ftz.{size} $0, $1;", f"={letter},{letter}")
        return Scalar(self.builder, self.builder.call(code, [self.value]))

    def fused(self, factor: Any, term: Any) -> Scalar:
        """Return the product with ``factor`` plus ``term``, rounded once."""
        return self._call(f"llvm.fma.{'f32' if self.single else 'f64'}", self, factor, term)

    def __truediv__(self, other: Any) -> Lanes:
        return self * reciprocal(Scalar(self.builder, self.like(other)))

    def __rtruediv__(self, other: Any) -> Lanes:
        return reciprocal(self) * other

    def sqrt(self) -> Lanes:
        """Return the square root."""
        return root(self)

    def guessed_reciprocal(self) -> Scalar:
        """Return 1/x to 20 bits at least."""
        return self._guess("rcp")

    def guessed_root(self) -> Scalar:
        """Return 1/√x to 20 bits at least."""
        return self._guess("rsqrt")

    def wide_product(self, multiplier: int) -> tuple[Lanes, Lanes]:
        """Return the high and the low word of a product."""
        builder = self.builder
        product = builder.mul(builder.zext(self.value, _I64), ir.Constant(_I64, multiplier))
        high = builder.trunc(builder.lshr(product, ir.Constant(_I64, 32)), _I32)
        return Scalar(builder, high), Scalar(builder, builder.trunc(product, _I32))

    def halves(self, *, high: bool) -> Lanes:
        """Return the number with both halves replaced by the high, or the low, one."""
        return (self & 0xFFFFFFFF00000000) | (self >> 32) if high else (self & 0xFFFFFFFF) | (self << 32)

    def widened(self) -> Lanes:
        """Return a word in 64 bits."""
        return Scalar(self.builder, self.builder.zext(self.value, _I64))


class Number:
    """What :class:`Scalar` emits code for, computed: ``kind`` is u4, u8, f4 or f8."""

    __slots__ = ("kind", "value")

    value: Any

    def __init__(self, kind: str, value: Any) -> None:
        self.kind = kind
        self.value = value if kind == "f8" else np.float32(value) if kind == "f4" else value & self._most(kind)

    @staticmethod
    def _most(kind: str) -> int:
        return (1 << (8 * int(kind[1]))) - 1

    @property
    def single(self) -> bool:
        """Whether it has 32 bits."""
        return self.kind[1] == "4"

    def _like(self, other: Any) -> Any:
        value = other.value if isinstance(other, Number) else other
        return np.float32(value) if self.kind == "f4" else float(value) if self.kind == "f8" else int(value)

    def _new(self, value: Any) -> Number:
        return Number(self.kind, value)

    def __add__(self, other: Any) -> Number:
        return self._new(self.value + self._like(other))

    def __sub__(self, other: Any) -> Number:
        return self._new(self.value - self._like(other))

    def __mul__(self, other: Any) -> Number:
        return self._new(self.value * self._like(other))

    def __truediv__(self, other: Any) -> Number:
        return self * reciprocal(self._new(self._like(other)))

    def __rtruediv__(self, other: Any) -> Number:
        return Number(self.kind, reciprocal(self).value) * other

    def __and__(self, other: Any) -> Number:
        return self._new(self.value & self._like(other))

    def __or__(self, other: Any) -> Number:
        return self._new(self.value | self._like(other))

    def __xor__(self, other: Any) -> Number:
        return self._new(self.value ^ self._like(other))

    def __lshift__(self, other: int) -> Number:
        return self._new(self.value << other)

    def __rshift__(self, other: int) -> Number:
        return self._new(self.value >> other)

    def _read_as(self, kind: str) -> Number:
        return Number(kind, struct.unpack(_FORMATS[kind], struct.pack(_FORMATS[self.kind], self.value))[0])

    def bits(self) -> Number:
        """Return a real's bits."""
        return self._read_as(f"u{self.kind[1]}")

    def floats(self) -> Number:
        """Return the real of these bits."""
        return self._read_as(f"f{self.kind[1]}")

    def reals(self, plus: float = 0.0) -> Number:
        """Return an integer as a real of the same size, plus a constant."""
        return Number(f"f{self.kind[1]}", self.value) + plus

    def halves(self, *, high: bool) -> Number:
        """Return the number with both halves replaced by the high, or the low, one."""
        half = self.value >> 32 if high else self.value & 0xFFFFFFFF
        return self._new(half << 32 | half)

    def wide_product(self, multiplier: int) -> tuple[Number, Number]:
        """Return the high and the low word of a product."""
        product = self.value * multiplier
        return self._new(product >> 32), self._new(product)

    def widened(self) -> Number:
        """Return a word in 64 bits."""
        return Number("u8", self.value)

    def fused(self, factor: Any, term: Any) -> Number:
        """Return the product with ``factor`` plus ``term``; here it is rounded twice."""
        return self * factor + term

    def sqrt(self) -> Number:
        """Return the square root."""
        return self._new(root(self).value)

    def _guess(self, value: float) -> Number:
        # Of 64 bits the special function unit returns the upper half.
        return self._new(value) if self.single else (self._new(value).bits() & 0xFFFFFFFF00000000).floats()

    def guessed_reciprocal(self) -> Number:
        """Return 1/x to 20 bits at least."""
        return self._guess(1.0 / self.value if self.value != 0.0 else math.inf)

    def guessed_root(self) -> Number:
        """Return 1/√x to 20 bits at least."""
        return self._guess(1.0 / math.sqrt(self.value) if self.value > 0.0 else math.nan)

    def at_least(self, bound: Any) -> Number:
        """Return the larger of the number and ``bound``; a NaN stays a NaN."""
        return self._new(bound if self.value < self._like(bound) else self.value)

    def zero_where_below(self, other: Number, bound: float) -> Number:
        """Return the number, or 0 if ``other`` is less than ``bound``."""
        return self._new(0.0 if other.value < bound else self.value)


def reciprocal(x: Any) -> Any:
    """1/x of a normal number, to rounding, from a guess of 20 bits."""
    guess = x.guessed_reciprocal()
    if x.single:  # the guess is good to one place
        return guess
    error = (x * -1.0).fused(guess, 1.0)
    return guess.fused(error.fused(error, error), guess)


def root(x: Any) -> Any:
    """√x of a positive normal number, to rounding, from a guess of 20 bits of 1/√x."""
    guess = x.guessed_root()
    if x.single:
        return x * guess
    error = (x * -1.0).fused(guess * guess, 1.0)
    return x * (guess * error).fused(error.fused(0.375, 0.5), guess)

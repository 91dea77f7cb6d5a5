"""Elementary functions that LLVM can vectorise: branch-free polynomials on plain arithmetic and bit operations."""

from __future__ import annotations

from typing import Any

import numba as nb
from numba.core import types
from numba.extending import intrinsic

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01  # ln 2 with trailing zero bits, so that k·_LN2_HIGH is exact
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5·2^52: adding it leaves the nearest integer in the low bits
_FLOOR = -708.0  # below, e^x is no longer a normal number: it becomes 3e-308, not 0


@intrinsic
def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.int64), code


@intrinsic
def _bits_of_float(typing_context: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.int64))

    return types.int64(types.float64), code


@nb.njit(inline="always")
def exp(x: Any) -> Any:
    """e^x for x ≤ 709 with relative error ≤ 4e−16; arguments below −708 count as −708.

    x = k ln 2 + r with |r| ≤ ln(2)/2; e^r is its Taylor polynomial (remainder
    1e−17), 2^k is put into the exponent bits.
    """
    clipped = max(x, _FLOOR)
    shifted = clipped * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (clipped - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _float_of_bits((_bits_of_float(shifted) + 1023) << 52)  # type: ignore[call-arg]

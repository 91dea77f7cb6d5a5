"""Elementary functions without branches, for vectors and scalars: polynomials, plain arithmetic and bit operations."""

from __future__ import annotations

from numba.core import types

from srkverify.engines.simd import Lanes, kernel, polynomial

_LOG2_E = 1.4426950408889634

# For float64 and float32: 1.5·2^mantissa (adding it leaves the nearest integer in the low bits), ln 2 in two parts (the
# first with trailing zero bits, so that its small multiples are exact), the least exponent, mantissa bits and bias, and
# the minimax polynomial of e^r for |r| ≤ ln(2)/2 (relative error 2e−16 and 2e−9).
_DOUBLE = (
    6755399441055744.0,
    (6.93147180369123816490e-01, 1.90821492927058770002e-10),
    -708.0,
    (52, 1023),
    (
        1.0,
        1.0000000000000064,
        0.4999999999999729,
        0.16666666666557753,
        0.04166666666842429,
        0.008333333384661874,
        0.0013888888499571463,
        0.00019841171388766825,
        2.4801917248222667e-05,
        2.763976653070209e-06,
        2.7488597573880046e-07,
    ),
)
_SINGLE = (
    12582912.0,
    (0.693359375, -2.12194440e-4),
    -87.0,
    (23, 127),
    (
        1.0000000005541032,
        1.00000003632185,
        0.49999992080982336,
        0.16666420174500624,
        0.04166822531319326,
        0.008374815535914458,
        0.0013836859860470695,
    ),
)


def exp_lanes(x: Lanes) -> Lanes:
    """e^x for x ≤ 709 (float32: 88) with relative error ≤ 5e−16 (2e−7); arguments below −708 (−87) count as that.

    x = k ln 2 + r with |r| ≤ ln(2)/2; e^r is a polynomial, 2^k is put into the exponent bits.
    """
    rounding, (high, low), floor, (mantissa, bias), coefficients = _SINGLE if x.single else _DOUBLE
    clipped = x.at_least(floor)
    shifted = clipped * _LOG2_E + rounding
    k = shifted - rounding
    r = (clipped - k * high) - k * low
    power = ((shifted.bits() + bias) << mantissa).floats()
    return polynomial(r, coefficients) * power


exp = kernel(exp_lanes, types.float64)  # of one float64, in compiled code; loops over it vectorise

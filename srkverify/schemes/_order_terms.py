"""The algebra of order conditions: polynomials in derivatives of a drift and in Gaussians, truncated by grade.

In the coordinates of docs/order_conditions.md the reverse process is dZ = m du + dW with m = ∇ log p and p_u = −½ Δp,
so that m_u = −m m′ − ½ m″. A *monomial* is (a, e_0, …, e_4): z^a m^{e_0} m′^{e_1} … at the base point (0, 0). Its grade
is Σ (1 + j) e_j; because z ~ √h, it goes with the power (grade + 1)/2 of the step where it is part of a length.
A *series* maps monomials to polynomials in independent N(0, 1), and those map sorted tuples of indices to coefficients,
one for each window of the tableau.
"""

from __future__ import annotations

from math import factorial, prod

import numpy as np

from srkverify._check import Array

Monomial = tuple[int, ...]
Gaussians = dict[tuple[int, ...], Array]
Series = dict[Monomial, Gaussians]
Polynomial = dict[Monomial, Array]

ONE: Monomial = (0, 0, 0, 0, 0, 0)
POSITION: Monomial = (1, 0, 0, 0, 0, 0)
DRIFT: Monomial = (0, 1, 0, 0, 0, 0)


def grade(monomial: Monomial) -> int:
    """Σ (1 + j) e_j."""
    return sum(j * e for j, e in enumerate(monomial))


def add(target: Series, other: Series, factor: Array | float = 1.0) -> None:
    """Add ``factor`` times ``other`` to ``target``, in place."""
    for monomial, gaussians in other.items():
        held = target.setdefault(monomial, {})
        for key, value in gaussians.items():
            held[key] = held[key] + factor * value if key in held else factor * value


def times(one: Series, other: Series, limit: int) -> Series:
    """Product up to grade ``limit`` and the first power of z."""
    result: Series = {}
    for a, first in one.items():
        for b, second in other.items():
            if grade(a) + grade(b) > limit or a[0] + b[0] > 1:
                continue
            held = result.setdefault(tuple(x + y for x, y in zip(a, b, strict=True)), {})
            for i, x in first.items():
                for j, y in second.items():
                    key = tuple(sorted(i + j)) if i and j else i or j
                    held[key] = held[key] + x * y if key in held else x * y
    return result


def mean(series: Series) -> Polynomial:
    """Return the expectation over the Gaussians."""
    result: Polynomial = {}
    for monomial, gaussians in series.items():
        for key, value in gaussians.items():
            powers = [key.count(index) for index in set(key)]
            if all(power % 2 == 0 for power in powers):
                odd = prod(prod(range(1, power, 2)) for power in powers)
                result[monomial] = result[monomial] + odd * value if monomial in result else odd * value
    return result


def slope(polynomial: Polynomial) -> Polynomial:
    """∂/∂z, and m^{(5)} and higher powers are beyond every limit in use."""
    result: Polynomial = {}
    for monomial, value in polynomial.items():
        for j, e in enumerate(monomial):
            if e == 0 or j == len(monomial) - 1:
                continue
            new = list(monomial)
            new[j] -= 1
            if j:
                new[j + 1] += 1
            _put(result, tuple(new), e * value)
    return result


def raised(polynomial: Polynomial, by: Monomial) -> Polynomial:
    """Product with a monomial, up to the first power of z."""
    pairs = ((tuple(x + y for x, y in zip(a, by, strict=True)), value) for a, value in polynomial.items())
    return {monomial: value for monomial, value in pairs if monomial[0] < 2}


def transposed(polynomial: Polynomial) -> Polynomial:
    """−D = −(∂/∂z + m), for ∫ p μ f′ = ∫ p f (−D μ)."""
    result: Polynomial = {}
    for part in (slope(polynomial), raised(polynomial, DRIFT)):
        for monomial, value in part.items():
            _put(result, monomial, -value)
    return result


def drift_derivatives(limit: int) -> dict[tuple[int, int], dict[Monomial, float]]:
    """∂_u^i ∂_z^j m as polynomials, for all i and j with 1 + 2i + j ≤ limit."""
    table: dict[tuple[int, int], Polynomial] = {(0, 0): {DRIFT: np.array(1.0)}}
    i = 0
    while True:
        for j in range(limit - 2 * i - 1):
            table[i, j + 1] = slope(table[i, j])
        if 3 + 2 * i > limit:
            return {key: {a: float(b) for a, b in value.items()} for key, value in table.items()}
        table[i + 1, 0] = _later(table[i, 0])
        i += 1


def _later(polynomial: Polynomial) -> Polynomial:
    """∂/∂u, by m_u = −m m′ − ½ m″ and the chain rule."""
    result: Polynomial = {}
    for monomial, value in polynomial.items():
        for j, e in enumerate(monomial):
            if e == 0 or j == 0:
                continue
            change: Polynomial = {(0, 1, 1, 0, 0, 0): np.array(-1.0), (0, 0, 0, 1, 0, 0): np.array(-0.5)}
            for _ in range(j - 1):
                change = slope(change)
            rest = list(monomial)
            rest[j] -= 1
            for new, factor in raised(change, tuple(rest)).items():
                _put(result, new, e * value * factor)
    return result


def drift_at(point: Series, time: Array, limit: int) -> Series:
    """m(time, z + point), from the base point, up to grade ``limit``."""
    table = drift_derivatives(limit)
    result: Series = {}
    power: Series = {ONE: {(): np.ones_like(time)}}
    for j in range(limit):
        if j:
            power = times(power, point, limit - 1 - j)
        for i in range((limit - 1 - j) // 2 + 1):
            factor = time**i / (factorial(i) * factorial(j))
            for monomial, number in table[i, j].items():
                add(result, times({monomial: {(): factor * number}}, power, limit))
    return result


def law_defect(move: Series, time: Array, order: int) -> Polynomial:
    """R with ∫ p_0(z) E f(z + move) dz − ∫ p_time f = ∫ p_0 f′ R, up to grade 2·order − 1.

    R = Σ_n (−D)^{n−1} E[moveⁿ]/n! − Σ_j (−time/2)^j/j! (−D)^{2j−1} 1.
    """
    result: Polynomial = {}
    power: Series = {ONE: {(): np.ones_like(time)}}
    for n in range(1, 2 * order + 1):
        power = times(power, move, 2 * order - n)
        part = {monomial: value / factorial(n) for monomial, value in mean(power).items()}
        if n % 2 == 0:
            _put(part, ONE, -((-time / 2.0) ** (n // 2)) / factorial(n // 2))
        for _ in range(n - 1):
            part = transposed(part)
        for monomial, value in part.items():
            _put(result, monomial, value)
    return result


def carried(defect: Polynomial, time: Array, squared: Array, order: int) -> Polynomial:
    """Return what the exact process adds to a defect: of R f′, R (a m f′ + ½ λ² f″)′ with a = ½ (1 + λ²).

    ``squared`` is λ². The process's generator acts on f; up to the first power of the time and grade 2·order − 1.
    """
    half, limit = 0.5 * (1.0 + squared), 2 * order - 1
    low = {monomial: value * time for monomial, value in defect.items() if grade(monomial) + 2 <= limit}
    result: Polynomial = {}
    parts = [
        (half, raised(low, (0, 0, 1, 0, 0, 0))),
        (half, transposed(raised(low, DRIFT))),
        (0.5 * squared, transposed(transposed(low))),
    ]
    for factor, part in parts:
        for monomial, value in part.items():
            _put(result, monomial, factor * value)
    return result


def _put(polynomial: Polynomial, monomial: Monomial, value: Array) -> None:
    polynomial[monomial] = polynomial[monomial] + value if monomial in polynomial else value

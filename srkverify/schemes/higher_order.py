"""Higher-order sampler of the probability flow (Li, Zhou, Wei & Chen, arXiv 2506.24042): interpolation, refined."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schedules import check_times
from srkverify.schemes import _linear as linear
from srkverify.schemes._linear import STATE, Form
from srkverify.tableau import Tableau, assemble


def higher_order(times: ArrayLike, order: int = 2, refinements: int | None = None) -> Tableau:
    """Lagrange interpolation of the flow's integrand through ``order`` nodes, their points refined in succession.

    In q = 1 − e^{−2t} the probability flow is d(e^t Y)/dq = −½ e^{3t} s. The integrand is interpolated through
    q_i = q_0 − (i/order)(q_0 − q_1), i < order, and points are refined together: with A_ij and b_j the integrals of
    Lagrange's basis over (0, i/order) and (0, 1),

        U_i = e^{h_i} (Y + ½ (e^{2h} − 1) Σ_j A_ij e^{−3h_j} S_j),
        Y' = e^h (Y + ½ (e^{2h} − 1) Σ_j b_j e^{−3h_j} S_j),

    h_i the time from the step's start to node i, with the scores of the former refinement on the right, at first S_0 in
    place of all. The paper's abstract names the ingredients, Lagrange interpolation and successive refinement of the
    flow's integral, and other papers of the authors the variable q; the nodes and the count of refinements are derived
    here, for the paper's text was not at hand. Deterministic; 1 + (order − 1)·refinements evaluations a step; KL ~
    K^{−2·order}, on Gaussians and mixtures.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    order : int
        Number of nodes, 1 to 4.
    refinements : int or None
        How often the points are evaluated, ≥ 1; None for order − 1, with which the order is reached.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times or an option is out of its range.
    """
    grid = check_times(times)
    count = _check.integer("order", order, at_least=1, below=5)
    rounds = max(count - 1, 1) if refinements is None else _check.integer("refinements", refinements, at_least=1)
    h = grid[:-1] - grid[1:]
    integrals = [_integrals(count, stop) for stop in range(count + 1)]
    reach = [0.5 * np.log1p(i / count * np.expm1(2.0 * h)) for i in range(count)]  # h_i

    def slope(node: int, stage: int) -> Form:
        return 0.5 * np.expm1(2.0 * h) * np.exp(-3.0 * reach[node]) * linear.score(stage)

    slopes = [slope(node, 0) for node in range(count)]
    rows = [STATE.row(time=grid[:-1])]
    for _ in range(rounds if count > 1 else 0):
        fresh = [slopes[0]]
        for i in range(1, count):
            fresh.append(slope(i, len(rows)))
            rows.append((np.exp(reach[i]) * _moved(slopes, integrals[i])).row(time=grid[:-1] - reach[i]))
        slopes = fresh
    output = np.exp(h) * _moved(slopes, integrals[count])
    name = f"higher_order_{count}" + ("" if rounds == max(count - 1, 1) else f"_refined_{rounds}")
    return assemble(name, grid, rows, output.row())


def _moved(slopes: list[Form], weights: list[float]) -> Form:
    return sum((weight * slope for weight, slope in zip(weights, slopes, strict=True)), start=STATE)


def _integrals(count: int, stop: int) -> list[float]:
    """Integrals from 0 to stop/count of Lagrange's basis with the nodes 0, 1/count, …; exact, so that none is 1e−17."""
    result = []
    for j in range(count):
        polynomial = [Fraction(1)]  # in units of 1/count, by rising powers
        for i in range(count):
            if i != j:
                shifted = [Fraction(0), *polynomial]
                polynomial = [(a - i * b) / (j - i) for a, b in zip(shifted, [*polynomial, Fraction(0)], strict=True)]
        result.append(float(sum(c * Fraction(stop) ** (n + 1) / (n + 1) for n, c in enumerate(polynomial)) / count))
    return result

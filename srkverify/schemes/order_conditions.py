"""Order conditions: the weak order that a tableau must have, read off its coefficients.

The law of the output is compared with the reverse process's law by expansion, over windows of steps long enough to hold
what the tableau remembers; docs/order_conditions.md derives it. KL ~ K^{−2p} for weak order p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srkverify import _check
from srkverify._check import Array
from srkverify.schemes import _order_run
from srkverify.schemes._order_terms import Monomial, grade
from srkverify.tableau import Drawn, Tableau

LAWS = ("general", "linear")
HIGHEST = 3  # the algebra's derivatives of the drift reach this far
LARGEST = 8.0  # C: a condition of order p holds if its residual is at most C times the steps' relative length
_SYMBOLS = ("z", "m", "m'", "m''", "m'''", "m''''")


@dataclass(frozen=True)
class Condition:
    """One condition: a monomial in the drift m and its derivatives may not be left over.

    Attributes
    ----------
    name : the monomial; z is the position, left over where a scheme's linear part is not exact.
    order : the order q that needs it; what a violated condition leaves over in a step is of size κ^q.
    residual : Σ_k |defect_k| / Σ_k κ_k^q, O(1) if violated.
    allows : the highest order, up to 3, that the condition leaves to the tableau.
    kept : how many times as large the defect might be for ``allows`` (inf if a violation of the least order).
    broken : how many times too large it is for the next order (inf if none was examined).
    linear : whether it is also one of linear scores, where m″ = 0.
    """

    name: str
    order: int
    residual: float
    allows: int
    kept: float
    broken: float
    linear: bool


@dataclass(frozen=True)
class OrderConditions:
    """All conditions of a tableau.

    Attributes
    ----------
    name : the tableau's.
    step : κ, the mean of its steps' relative lengths, weighted by κ; decisions need C κ ≪ 1.
    conditions : those of orders 1 to ``highest``.
    order : weak order on general targets: KL ~ K^{−2·order}.
    order_linear : weak order on Gaussian targets.
    highest : the highest order examined; an order that is as high may be higher.
    """

    name: str
    step: float
    conditions: tuple[Condition, ...]
    order: int
    order_linear: int
    highest: int

    def margin(self, law: str = "general") -> float:
        """Factor by which all defects could grow, or the one that decides shrink, before the order were another."""
        chosen = [c for c in self.conditions if law == "general" or c.linear]
        order = self.order if law == "general" else self.order_linear
        kept = [self._room(c, order) for c in chosen]
        broken = [c.broken for c in chosen if c.allows == order]
        return min([*kept, max(broken, default=np.inf)], default=np.inf)

    @staticmethod
    def _room(condition: Condition, order: int) -> float:
        return condition.kept if condition.allows == order and condition.order <= order else np.inf


def order_conditions(tableau: Tableau | Drawn, highest: int = HIGHEST, samples: int | None = None) -> OrderConditions:
    """Return a tableau's order conditions and their residuals.

    Steps have the relative lengths κ_k = max(U_k, noise)/u_k in the clock u of docs/order_conditions.md, with U_k the
    step's part of what is left of the clock, u_k, and the noise that which the output adds. A tableau may have order p
    if Σ_k |defect_k| ≤ C Σ_k κ_k^{p+1}, C = 8, for each monomial: the sum lets a few steps, the first of a multistep
    scheme for example, be of one order less. On fine grids only the threshold tells κ^p from κ^{p+1}:
    ``.margin()`` says by which factor.

    Parameters
    ----------
    tableau : Tableau or Drawn
        On a fine grid: thousands of steps. A scheme that depends on the number of steps (EDM's churn) is taken as it
        is on this grid. A sampler that draws its tableau must be without memory.
    highest : int
        Highest order to examine, 1 to 3.
    samples : int or None
        How many steps to examine beside the first and last ones, evenly spread; None for all.

    Raises
    ------
    ValueError
        If ``highest`` or ``samples`` is out of range, a drawn sampler remembers evaluations, or evaluations are made
        out of order in time.
    """
    top = _check.integer("highest", highest, at_least=1, below=HIGHEST + 1)
    some = None if samples is None else _check.integer("samples", samples, at_least=1)
    members = tableau.members if isinstance(tableau, Drawn) else (tableau,)
    weights = tableau.weights if isinstance(tableau, Drawn) else np.ones(1)
    if isinstance(tableau, Drawn) and tableau.memory > 0:
        raise ValueError(f"tableau must be without memory if it is drawn in each step; {tableau.name} remembers")
    defects: dict[Monomial, Array] = {}
    noise, counts = np.zeros(tableau.steps), np.ones(tableau.steps)
    for weight, member in zip(weights, members, strict=True):
        own, counts = _order_run.defects(member, top, some)
        noise += weight * np.square(member.noise).sum(axis=1)
        for monomial, value in own.items():
            defects[monomial] = defects.get(monomial, 0.0) + weight * value
    h = tableau.times[:-1] - tableau.times[1:]
    room = -np.expm1(-2.0 * tableau.times[:-1])
    lengths = np.maximum(-np.expm1(-2.0 * h), np.exp(-2.0 * h) * noise) / room
    conditions = [
        _condition(monomial, defects[monomial], lengths, counts, top) for monomial in sorted(defects, key=_place)
    ]
    return OrderConditions(
        name=tableau.name,
        step=float(counts @ lengths**2 / (counts @ lengths)),
        conditions=tuple(conditions),
        order=min((c.allows for c in conditions), default=top),
        order_linear=min((c.allows for c in conditions if c.linear), default=top),
        highest=top,
    )


def weak_order(tableau: Tableau | Drawn, law: str = "general") -> int:
    """Return the weak order, 0 to 3, that a tableau on a fine grid must have: KL ~ K^{−2·order}.

    Parameters
    ----------
    tableau : Tableau or Drawn
    law : str
        ``"general"``, or ``"linear"`` for Gaussian targets, whose scores are linear.

    Raises
    ------
    ValueError
        As :func:`order_conditions`, or if ``law`` is unknown.
    """
    kind = _check.choice("law", law, LAWS)
    result = order_conditions(tableau)
    return result.order if kind == "general" else result.order_linear


def _order(monomial: Monomial) -> int:
    return grade(monomial) // 2 + 1


def _place(monomial: Monomial) -> tuple[int, ...]:
    return (_order(monomial), *(-e for e in monomial))


def _condition(monomial: Monomial, defect: Array, lengths: Array, counts: Array, top: int) -> Condition:
    size, q = float(counts @ np.abs(defect)), _order(monomial)
    ratios = [size / float(counts @ lengths ** (p + 1)) / LARGEST for p in range(q, top + 1)]
    passed = 0
    while passed < len(ratios) and ratios[passed] <= 1.0:
        passed += 1
    name = " ".join(symbol if e == 1 else f"({symbol})^{e}" for symbol, e in zip(_SYMBOLS, monomial, strict=True) if e)
    return Condition(
        name=name or "1",
        order=q,
        residual=size / float(counts @ lengths**q),
        allows=q - 1 + passed,
        kept=1.0 / max(ratios[passed - 1], 1e-300) if passed else np.inf,
        broken=ratios[passed] if passed < len(ratios) else np.inf,
        linear=not any(monomial[3:]),
    )

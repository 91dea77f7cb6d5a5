"""What the study of total variation says: exponents in d and K, and how loose Pinsker's inequality is."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isnan, pi, sqrt

from studies._study import Report, Row, Table, Tables
from studies._theorems import powers

DETERMINED = 0.3  # width of the interval of an exponent that the verdict quotes
GAUSSIAN_RATIO = sqrt(2.0 / pi)  # TV/√(KL/2) if log q/p is N(τ²/2, τ²) with small τ: τ/√(2π) over τ/2


def report(tables: Tables, options: Namespace) -> Report:
    """Return a table of all families and samplers, and the verdict."""
    fits = tables["_fits"]
    rows = [
        [
            fit["family"],
            fit["scheme"],
            _interval(fit, "p_first"),
            _interval(fit, "p_last"),
            _interval(fit, "a"),
            _interval(fit, "cost_d"),
            _interval(fit, "cost_eps"),
            powers(fit["theorem_d"], fit["theorem_eps"]),
            f"{_number(fit['ratio_first'])} → {_number(fit['ratio_last'])}",
        ]
        for fit in fits
    ]
    header = [
        "family",
        "scheme",
        "K^−p, d = 1",
        "largest d",
        "TV ~ d^",
        "K* ~ d^",
        "(1/ε)^",
        "Pinsker",
        "ratio: d = 1 → largest",
    ]
    title = (
        "Total variation (in d: at the largest K), the steps K* to TV ≤ ε and the theorem's, and the ratio TV/√(KL/2)"
    )
    shown = [Table(title, header, rows)]
    return Report(shown if fits else [], _verdict(fits) if fits else ["No cell is done: no verdict."])


def _interval(fit: Row, name: str) -> str:
    value, low, high = (fit[f"{name}{end}"] for end in ("", "_low", "_high"))
    if isnan(value):
        return "–"
    return f"{value:.2f}" if isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float) -> str:
    return "–" if isnan(value) else f"{value:.3f}"


def _span(fits: Sequence[Row], name: str) -> str:
    """Return the range of an exponent over the families that determine it."""
    known = [fit[name] for fit in fits if fit[f"{name}_high"] - fit[f"{name}_low"] <= DETERMINED]
    if not known:
        return "(unknown)"
    low, high = (f"{bound if abs(bound) >= 0.005 else 0.0:.2f}" for bound in (min(known), max(known)))
    return low if low == high else f"({low} to {high})"


def _verdict(fits: Sequence[Row]) -> list[str]:
    low = min((fit["ratio_low"] for fit in fits if not isnan(fit["ratio_low"])), default=float("nan"))
    high = max((fit["ratio_high"] for fit in fits if not isnan(fit["ratio_high"])), default=float("nan"))
    lines = [
        f"Pinsker is loose by a constant: TV/√(KL/2) = {_number(low)} to {_number(high)} wherever TV ≤ 0.2; a normal "
        f"log-ratio has {GAUSSIAN_RATIO:.3f}."
    ]
    for scheme in dict.fromkeys(fit["scheme"] for fit in fits):
        own = [fit for fit in fits if fit["scheme"] == scheme]
        first, last = (f"K^−{_span(own, name)}" for name in ("p_first", "p_last"))
        orders = f"{first} at d = {own[0]['first_dimension']}, {last} at the largest d, ~ d^{_span(own, 'a')}"
        steps = f"d^{_span(own, 'cost_d')} (1/ε)^{_span(own, 'cost_eps')}"
        bound = powers(own[0]["theorem_d"], own[0]["theorem_eps"])
        lines.append(f"{scheme}: TV ~ {orders}; TV ≤ ε in {steps} steps; the theorem with Pinsker: {bound}.")
    return lines

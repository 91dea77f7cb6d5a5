"""What the study of random mixtures says: ratios of KL to a rival's, and whether they hold on every law."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isfinite, isnan

from studies._study import Report, Row, Table, Tables


def report(tables: Tables, options: Namespace) -> Report:
    """Return a table for each grid and budget, and the verdict."""
    places = list(dict.fromkeys((row["grid"], row["evaluations"]) for row in tables["_ratios"]))
    if not places:
        return Report([], ["No cell is done: no verdict."])
    shown = [_table(*place, tables["_ratios"]) for place in places]
    return Report(shown, _verdict(tables["_ratios"], options.against))


def _table(grid: str, budget: int, summary: Sequence[Row]) -> Table:
    rows = [
        [
            row["scheme"],
            _number(row["kl"]),
            f"{_number(row['mean'])} ({_number(row['low'])} … {_number(row['high'])})",
            _number(row["median"]),
            _number(row["worst"]),
            f"{row['won']}/{row['laws']}",
        ]
        for row in sorted(summary, key=_place)
        if (row["grid"], row["evaluations"]) == (grid, budget)
    ]
    title = f"{grid} grid, {budget} score evaluations: KL over that of {summary[0]['against']}, over random mixtures"
    return Table(title, ["scheme", "KL", "mean ratio (95%)", "median", "worst", "smaller"], rows, left=1)


def _place(row: Row) -> float:
    return float("inf") if isnan(row["mean"]) else float(row["mean"])


def _number(value: float) -> str:
    return "–" if isnan(value) else "∞" if not isfinite(value) else f"{value:.2g}"


def _verdict(summary: Sequence[Row], against: str) -> list[str]:
    lines = []
    for scheme in dict.fromkeys(row["scheme"] for row in summary if row["scheme"] != against):
        own = [row for row in summary if row["scheme"] == scheme and row["laws"] > 0]
        if not own:
            continue
        won, laws = sum(row["won"] for row in own), sum(row["laws"] for row in own)
        means = [row["mean"] for row in own]
        lines.append(
            f"{scheme}: KL {_number(min(means))} to {_number(max(means))} times that of {against} (geometric means); "
            f"smaller in {won} of {laws} places, at worst {_number(max(row['worst'] for row in own))} times."
        )
    return lines

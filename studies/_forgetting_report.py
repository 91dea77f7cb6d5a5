"""What the study of forgetting says: KL made and KL left, run by run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isfinite, isnan

from studies._study import Report, Row, Table, Tables


def report(tables: Tables, options: Namespace) -> Report:
    """Return a table a grid, and the verdict."""
    runs = tables["_runs"]
    if not runs:
        return Report([], ["No cell is done: no verdict."])
    shown = [_table(grid, runs) for grid in dict.fromkeys(row["grid"] for row in runs)]
    return Report(shown, [_verdict(scheme, runs) for scheme in dict.fromkeys(row["scheme"] for row in runs)])


def _table(grid: str, runs: Sequence[Row]) -> Table:
    lines = [
        [
            row["law"],
            row["scheme"],
            _number(row["made"]),
            _number(row["peak"]),
            _number(row["peak_noise"]),
            _number(row["left"]),
            _share(row["kept"]),
        ]
        for row in runs
        if row["grid"] == grid
    ]
    title = f"{grid} grid: KL against q_t along the run (nats), and the variance of the noise where it was largest"
    return Table(title, ["target", "scheme", "made", "largest", "there noise", "left", "kept"], lines)


def _verdict(scheme: str, runs: Sequence[Row]) -> str:
    shares = [row["kept"] for row in runs if row["scheme"] == scheme and not isnan(row["kept"])]
    if not shares:
        return f"{scheme}: KL is not finite along any run."
    return f"{scheme}: of the KL that steps make {_share(min(shares))} to {_share(max(shares))} are left at the end."


def _number(value: float) -> str:
    return "–" if isnan(value) else "∞" if not isfinite(value) else f"{value:.2g}"


def _share(value: float) -> str:
    return "–" if isnan(value) else f"{100.0 * value:.0f}%" if value > 0.1 else f"{100.0 * value:.2g}%"

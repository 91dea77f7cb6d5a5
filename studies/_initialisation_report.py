"""What the study of the initialisation says: rates in T, the horizons that balance it, and what they gain."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isnan

from studies._study import Report, Row, Table, Tables


def report(tables: Tables, options: Namespace) -> Report:
    """Return a table of rates, one of optimal horizons, and the verdict."""
    shown = []
    if tables["_rates"]:
        shown.append(_rate_table(tables["_rates"]))
    if tables[""]:
        shown.append(_horizon_table(tables))
    return Report(shown, _verdict(tables) or ["No cell is done: no verdict."])


def _rate_table(fits: Sequence[Row]) -> Table:
    names = {"kl_start": "at the start", "kl_output": "left at the output"}
    rows = [
        [fit["family"], names[fit["of"]], f"{fit['dimension']:g}", _interval(fit, "rate"), f"{fit['constant']:.3g}"]
        for fit in fits
    ]
    return Table("KL ~ C e^−rT of a start from N(0, I)", ["family", "where", "d", "r [95%]", "C (nats)"], rows)


def _horizon_table(tables: Tables) -> Table:
    steps = sorted({row["steps"] for row in tables[""]})
    rows = []
    for fit in tables["_growth"]:
        own = {
            row["steps"]: row
            for row in tables[""]
            if all(row[name] == fit[name] for name in ("family", "dimension", "scheme"))
        }
        best = [f"{own[k]['horizon']:.2f}{'*' * own[k]['at_edge']}" if k in own else "–" for k in steps]
        gain = own[max(own)]["kl_usual"] / own[max(own)]["kl"] if own else float("nan")
        rows.append(
            [fit["family"], fit["scheme"], f"{fit['dimension']:g}", *best, _interval(fit, "slope"), f"{gain:.2f}"]
        )
    header = ["family", "scheme", "d", *(f"T*, K = {k}" for k in steps), "T* ~ b log K: b [95%]", "gain over T = 6"]
    return Table("Horizons of least KL from N(0, I), and KL at T = 6 over KL there at the largest K", header, rows)


def _interval(fit: Row, name: str) -> str:
    if isnan(fit[name]):
        return "–"
    return f"{fit[name]:.2f}" if isnan(fit["low"]) else f"{fit[name]:.2f} [{fit['low']:.2f}, {fit['high']:.2f}]"


def _span(values: Sequence[float]) -> str:
    known = [value for value in values if not isnan(value)]
    if not known:
        return "unknown"
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{low} to {high}"


def _verdict(tables: Tables) -> list[str]:
    lines = []
    for family in dict.fromkeys(fit["family"] for fit in tables["_rates"]):
        start, output = (
            _span([fit["rate"] for fit in tables["_rates"] if (fit["family"], fit["of"]) == (family, of)])
            for of in ("kl_start", "kl_output")
        )
        lines.append(f"{family}: KL(q_T ‖ N(0, I)) ~ e^−rT with r = {start}; of it at the output: r = {output}.")
    most = max((row["steps"] for row in tables[""]), default=0)
    for scheme in dict.fromkeys(row["scheme"] for row in tables[""]):
        last = [row for row in tables[""] if row["scheme"] == scheme and row["steps"] == most]
        slopes = [fit["slope"] for fit in tables["_growth"] if fit["scheme"] == scheme]
        best, gain = _span([row["horizon"] for row in last]), _span([row["kl_usual"] / row["kl"] for row in last])
        lines.append(
            f"{scheme}: at K = {most} the best horizon is T* = {best}, growing by {_span(slopes)} for each factor e in "
            f"K; KL at T = 6 is larger by a factor {gain}."
        )
    return lines

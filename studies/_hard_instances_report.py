"""What the search for hard instances says: the worst found, how near to the theorem's exponent, and DDPM there."""

from __future__ import annotations

from argparse import Namespace
from math import isnan

from studies._study import Report, Row, Table, Tables
from studies._theorems import SRK_THEOREM


def report(tables: Tables, options: Namespace) -> Report:
    """Return tables of what the searches found, and the verdict."""
    shown = []
    if tables[""]:
        rows = [
            [
                row["shape"],
                row["grid"],
                f"{row['steps']}",
                f"{row['seed']}",
                f"{row['constant']:.4g} ± {row['constant_error']:.1g}",
                f"{row['constant_2k']:.3g}, {row['constant_4k']:.3g}",
                f"{row['ddpm_ratio']:.2f}",
                row["target"] + " *" * row["at_bound"],
            ]
            for row in tables[""]
        ]
        header = [
            "directions",
            "grid",
            "K",
            "seed",
            "KL·K²/d",
            "at 2K, 4K",
            "DDPM/SRK",
            "worst direction found, * at a bound",
        ]
        shown.append(Table("Largest constants found, nats", header, rows))
    if tables["_envelope"]:
        rows = [[row["shape"], _interval(row, "p"), _interval(row, "exponent", "")] for row in tables["_envelope"]]
        header = ["directions", "largest KL ~ K^−p: p", "K* ~ d^(1/p)"]
        shown.append(Table("Envelope: copies of the worst direction at each K", header, rows, left=1))
    if tables["_exponents"]:
        names = ("exponent", "late", "log_free", "counted", "ddpm")
        rows = [
            [f"{row['seed']}", *(_interval(row, name) for name in names), f"{row['ddpm_ratio']:.2f}", row["target"]]
            for row in tables["_exponents"]
        ]
        header = [
            "seed",
            "√(d C) ~ d^",
            "last four d",
            "log divided out",
            "K* counted",
            "DDPM's",
            "DDPM/SRK",
            "family, D = d/10",
        ]
        shown.append(Table("Largest exponents found", header, rows, left=1))
    return Report(shown, _verdict(tables) or ["No cell is done: no verdict."])


def worst(rows: list[Row], key: str) -> Row | None:
    """Return the row with the largest value."""
    known = [row for row in rows if not isnan(row[key])]
    return max(known, key=lambda row: float(row[key]), default=None)


def _interval(row: Row, name: str, prefix: str | None = None) -> str:
    low, high = (row[f"{name if prefix is None else prefix}_{end}".lstrip("_")] for end in ("low", "high"))
    return f"{row[name]:.3f}" if isnan(low) else f"{row[name]:.3f} [{low:.3f}, {high:.3f}]"


def _verdict(tables: Tables) -> list[str]:
    lines = []
    for grid in dict.fromkeys(row["grid"] for row in tables[""]):
        # At one K an error may pass through zero: the constants at 4K are compared.
        found = worst([row for row in tables[""] if row["grid"] == grid], "constant_4k")
        if found is not None:
            several = [row["ddpm_ratio"] for row in tables[""] if row["grid"] == grid]
            lines.append(
                f"Largest KL·K²/d found for {found['scheme']} on the {grid} grid: {found['constant_4k']:.3g} nats at "
                f"K = {4 * found['steps']}, on copies of {found['target']}. DDPM's KL is {min(several):.3g} to "
                f"{max(several):.3g} times as large on the directions found."
            )
    if tables["_envelope"]:
        spans = "; ".join(f"{row['shape']} {_interval(row, 'exponent', '')}" for row in tables["_envelope"])
        lines.append(f"Envelope at fixed T and δ: copies of the worst direction have K* ~ d^(1/p), 1/p = {spans}.")
    found = worst(tables["_exponents"], "exponent")
    if found is not None:
        below = SRK_THEOREM[0] - found["exponent"]
        bare, counted = (_interval(found, name) for name in ("log_free", "counted"))
        lines.append(
            f"Largest exponent found of √(d C(d)), C = KL·K² at fixed K: {_interval(found, 'exponent')}, {below:.2f} "
            f"below the theorem's {SRK_THEOREM[0]:g}; {bare} with the grid's logarithm divided out; of K* itself, "
            f"counted at smaller d: {counted}. At the largest d DDPM needs {found['ddpm_ratio']:.3g} times the steps, "
            f"with exponent {found['ddpm']:.3f}."
        )
    if lines:
        lines.append("A search is no proof: it bounds the worst case from below.")
    return lines

"""What the study of step convergence says: orders in KL and TV, constants, and the evaluations that levels take."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isfinite, isnan

from studies._study import Report, Row, Table, Tables


def report(tables: Tables, options: Namespace) -> Report:
    """Return a table for each target, and the verdict."""
    targets = list(dict.fromkeys(row["target"] for row in tables[""]))
    shown = [_table(target, tables) for target in targets]
    return Report(shown, _verdict(targets, tables) if targets else ["No cell is done: no verdict."])


def find(rows: Sequence[Row], **wanted: object) -> Row | None:
    """Return the row with these values, or None."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def _table(target: str, tables: Tables) -> Table:
    rows = []
    for scheme in dict.fromkeys(row["scheme"] for row in tables[""] if row["target"] == target):
        curve = [row for row in tables[""] if (row["target"], row["scheme"]) == (target, scheme)]
        each = curve[-1]["nfe"] / curve[-1]["steps"]
        kl, tv = (find(tables["_orders"], target=target, scheme=scheme, of=of) for of in ("kl", "tv"))
        reached = [row["nfe"] for row in tables["_reached"] if (row["target"], row["scheme"]) == (target, scheme)]
        spent = ["–" if nfe is None else f"{nfe:.0f}" for nfe in reached]
        constant = "–" if kl is None or isnan(kl["constant"]) else f"{kl['constant']:.2g} K^{-kl['nominal']:g}"
        rows.append([scheme, f"{each:.0f}", _order(kl), _window(kl), constant, _order(tv), *spent])
    header = ["scheme", "evals/step", "KL ~ K^−p", "K", "C K^−p", "TV ~ K^−p", "KL 1e-2", "1e-4", "1e-6"]
    return Table(f"{target}: orders, and score evaluations to reach a KL (nats)", header, rows, left=1)


def _order(fit: Row | None) -> str:
    if fit is None or isnan(fit["order"]):
        return "–"
    width = 0.5 * (fit["high"] - fit["low"])
    return f"{fit['order']:.2f}" if isnan(width) else f"{fit['order']:.2f} ± {width:.2f}"


def _window(fit: Row | None) -> str:
    return "–" if fit is None or fit["first"] is None else f"{fit['first']}–{fit['last']}"


def _verdict(targets: Sequence[str], tables: Tables) -> list[str]:
    schemes = list(dict.fromkeys(row["scheme"] for row in tables[""]))
    lines = _advantage(targets, tables, "srk", "ddpm")
    for scheme in schemes:
        fits = [fit for fit in tables["_orders"] if fit["scheme"] == scheme and not isnan(fit["order"])]
        spans = []
        for of in ("kl", "tv"):
            orders = [fit["order"] for fit in fits if fit["of"] == of]
            spans.append(f"{min(orders):.2f} to {max(orders):.2f}" if orders else "not determined")
        lines.append(f"{scheme}: order {spans[0]} in KL, {spans[1]} in TV, over {len(targets)} targets.")
    for level in dict.fromkeys(row["kl"] for row in tables["_reached"]):
        best = [name for name in (_cheapest(tables, target, level) for target in targets) if name]
        if best:
            count = {name: best.count(name) for name in sorted(set(best), key=best.count, reverse=True)}
            winners = ", ".join(f"{name} ({number} of {len(best)})" for name, number in count.items())
            lines.append(f"Fewest evaluations to KL = {level:g}: {winners}.")
    return lines


def _advantage(targets: Sequence[str], tables: Tables, better: str, worse: str) -> list[str]:
    """Return a sentence on KL ratios of two schemes at equal K, the largest that both have."""
    ratios = []
    for target in targets:
        both = [
            {row["steps"]: row["kl"] for row in tables[""] if (row["target"], row["scheme"]) == (target, scheme)}
            for scheme in (worse, better)
        ]
        common = [k for k in both[0] if k in both[1] and isfinite(both[0][k]) and both[1][k] > 0.0]
        if common:
            ratios.append(both[0][max(common)] / both[1][max(common)])
    if not ratios:
        return []
    return [
        f"KL of {worse} over that of {better} at the largest K: {min(ratios):.3g} to {max(ratios):.3g}, "
        "a factor where their orders agree. At fixed d the theorems' bounds are K^−2 for SRK and K^−1 for DDPM."
    ]


def _cheapest(tables: Tables, target: str, level: float) -> str | None:
    known = [
        (row["nfe"], row["scheme"])
        for row in tables["_reached"]
        if row["target"] == target and row["kl"] == level and row["nfe"] is not None
    ]
    return min(known)[1] if known else None

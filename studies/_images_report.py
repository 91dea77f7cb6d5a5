"""What the study of images says: distances by budget, and evaluations that a sampler takes for DDPM's distance."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import inf, isfinite
from statistics import median

import numpy as np

from studies._curves import crossing
from studies._study import Report, Row, Table, Tables

DDPM = ("ddpm", "ddpm_beta", "ddpm_posterior")
_CLEAR = 3.0  # errors above zero make a distance that curves are compared at
_APART = 2.0  # joint errors between two distances of which one is then the larger
_DRAWS = 400  # of both curves' errors, for an interval
_INTERVAL = (2.5, 97.5)  # per cent
_TINY = 1e-12


def saved(rows: Sequence[Row]) -> list[Row]:
    """Return, for each DDPM, budget and other sampler, the evaluations in which that comes to DDPM's Fréchet distance.

    ``needed`` by power laws between budgets: the place from which on the other's distance stays below; None beyond its
    last budget, and at most the first budget where it is below from there on. ``low`` and ``high`` are the 2.5th and
    97.5th percentiles of the same with all distances drawn anew from normal laws with their errors, infinite if that is
    beyond the last budget. A distance that is less than its error counts as its error: nothing is claimed that was not
    measured. ``open``: None is needed only since errors are too large to show that it is reached; the last distance is
    not two errors above DDPM's. DDPM's distances within three errors of zero are left out.
    """
    curves: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["nfe"]):
        if not np.isnan(row["frechet"]):
            curves.setdefault((row["target"], row["scheme"]), []).append(row)
    found = []
    for (target, base), theirs in curves.items():
        if base not in DDPM:
            continue
        for goal in theirs:
            if not (isfinite(goal["frechet"]) and goal["frechet"] > _CLEAR * goal["frechet_error"]):
                continue
            for (other_target, scheme), ours in curves.items():
                if other_target == target and scheme not in DDPM:
                    needed, low, high = _needed(ours, goal)
                    found.append(
                        {
                            "target": target,
                            "ddpm": base,
                            "nfe": goal["nfe"],
                            "frechet": goal["frechet"],
                            "frechet_error": goal["frechet_error"],
                            "scheme": scheme,
                            "needed": needed,
                            "low": low,
                            "high": high,
                            "open": needed is None and ours[-1]["frechet"] - goal["frechet"] < _limit(ours[-1], goal),
                            "first": ours[0]["nfe"],
                        }
                    )
    return found


def _needed(ours: Sequence[Row], goal: Row) -> tuple[float | None, float, float]:
    """Return the evaluations to DDPM's distance, and their interval."""
    places = [row["nfe"] for row in ours]
    values = np.array([row["frechet"] for row in ours], dtype=np.float64)
    errors = np.array([0.0 if row["frechet"] == inf else row["frechet_error"] for row in ours])
    generator = np.random.default_rng(0)
    drawn = values + errors * generator.standard_normal((_DRAWS, len(values)))
    levels = goal["frechet"] + goal["frechet_error"] * generator.standard_normal(_DRAWS)
    least = np.maximum(errors, _TINY)
    again = [
        crossing(zip(places, np.maximum(line, least), strict=True), max(level, _TINY))
        for line, level in zip(drawn, levels, strict=True)
    ]
    ordered = [inf if place is None else place for place in again]
    # An order statistic, which needs no arithmetic with what is infinite.
    low, high = (float(np.percentile(ordered, part, method="nearest")) for part in _INTERVAL)
    return crossing(zip(places, np.maximum(values, least), strict=True), goal["frechet"]), low, high


def report(tables: Tables, options: Namespace) -> Report:
    """Return the distances and the verdict."""
    rows = [row for row in tables[""] if not np.isnan(row["frechet"])]
    if not rows:
        return Report([], ["No cell with distances is done: no verdict."])
    targets = list(dict.fromkeys(row["target"] for row in rows))
    floors = {row["target"]: row["frechet"] for row in tables["_floors"]}
    shown = [_distances(target, [row for row in rows if row["target"] == target], floors) for target in targets]
    return Report([*shown, _evaluations(tables["_saved"])], _verdict(rows, tables["_saved"], targets))


def _distances(target: str, rows: Sequence[Row], floors: dict[str, float]) -> Table:
    budgets = sorted({row["evaluations"] for row in rows})
    known = {(row["scheme"], row["evaluations"]): row for row in rows}
    lines = [
        [scheme, *(_with_error(known.get((scheme, budget))) for budget in budgets)]
        for scheme in dict.fromkeys(row["scheme"] for row in rows)
    ]
    title = f"Fréchet distance on pixels by evaluations, {target}"
    if target in floors:
        title += f"; plain distance of {rows[0]['particles']} exact draws: {floors[target]:.2g}"
    return Table(title, ["scheme", *map(str, budgets)], lines, left=1)


def _evaluations(found: Sequence[Row]) -> Table:
    schemes = list(dict.fromkeys(row["scheme"] for row in found))
    groups: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in found:
        groups.setdefault((row["target"], row["ddpm"], row["nfe"]), {})[row["scheme"]] = row
    lines = [
        [target, base, str(nfe), *(_place(group.get(scheme)) for scheme in schemes)]
        for (target, base, nfe), group in groups.items()
    ]
    title = (
        "Evaluations for the Fréchet distance that DDPM has with a budget (≤: the sampler's first budget is enough; "
        "beyond: more than its last; open: its errors are too large to say)"
    )
    return Table(title, ["target", "DDPM", "budget", *schemes], lines, left=2)


def _verdict(rows: Sequence[Row], found: Sequence[Row], targets: Sequence[str]) -> list[str]:
    lines = []
    for target in targets:
        for base in DDPM:
            mine = [row for row in found if (row["target"], row["ddpm"], row["scheme"]) == (target, base, "srk")]
            if mine:
                said = "; ".join(_said(row) for row in mine)
                lines.append(f"{target}, SRK for the Fréchet distance of {base}: {said}.")
        lines.extend(_fewest(target, [row for row in found if row["target"] == target]))
        lines.extend(_best(target, [row for row in rows if row["target"] == target]))
    lines.extend(_overall(found))
    return lines


def _overall(found: Sequence[Row]) -> list[str]:
    lines = []
    for base in DDPM:
        pairs = [row for row in found if row["ddpm"] == base and row["scheme"] == "srk"]
        if pairs:
            ratios = [(inf if row["needed"] is None else row["needed"]) / row["nfe"] for row in pairs]
            fewer = sum(row["high"] < row["nfe"] for row in pairs)
            more = sum(row["low"] > row["nfe"] for row in pairs)
            lines.append(
                f"SRK against {base}: {median(ratios):.2f} times its evaluations (median of {len(pairs)} budgets and "
                f"targets); fewer beyond doubt on {fewer}, more on {more}."
            )
    return lines


def _fewest(target: str, found: Sequence[Row]) -> list[str]:
    """Say who needs the fewest evaluations for the least distance of a DDPM that is clear of zero."""
    if not found:
        return []
    goal = min(found, key=lambda row: row["frechet"])
    field = [row for row in found if (row["ddpm"], row["nfe"]) == (goal["ddpm"], goal["nfe"])]
    # Whom it takes more than the last budget, or whose errors leave it open, comes last.
    order = sorted(field, key=lambda row: inf if row["needed"] is None else row["needed"])
    said = [f"{row['scheme']} {_place(row)}" for row in order]
    return [f"{target}, evaluations for what {goal['ddpm']} has with {goal['nfe']}: {', '.join(said)}."]


def _best(target: str, rows: Sequence[Row]) -> list[str]:
    """Say who has the least distance at each budget, and whether the error leaves it open who else."""
    parts = []
    for budget in sorted({row["evaluations"] for row in rows}):
        field = sorted((row for row in rows if row["evaluations"] == budget), key=lambda row: row["frechet"])
        first = field[0]
        if first["frechet"] <= _CLEAR * first["frechet_error"]:
            continue  # within its error of zero: no order
        near = [row for row in field[1:] if row["frechet"] - first["frechet"] < _limit(row, first)]
        names = " or ".join(row["scheme"] for row in [first, *near])
        parts.append(f"{budget}: {names}")
    return [f"{target}, least Fréchet distance at a budget: {'; '.join(parts)}."] if parts else []


def _limit(one: Row, other: Row) -> float:
    return _APART * _joint(one, other)


def _joint(one: Row, other: Row) -> float:
    return float(np.hypot(one["frechet_error"], other["frechet_error"]))


def _said(row: Row) -> str:
    if row["needed"] is None:
        return f"{row['nfe']} not reached [{_number(row['low'])}, {_number(row['high'])}]"
    most = "at most " if row["needed"] == row["first"] else ""
    gain = round(row["nfe"] - row["needed"])
    gained = "none saved" if gain == 0 else f"{gain} saved" if gain > 0 else f"{-gain} more"
    return f"{most}{row['needed']:.0f} [{_number(row['low'])}, {_number(row['high'])}] for {row['nfe']}, {gained}"


def _place(row: Row | None) -> str:
    if row is None:
        return "–"
    if row["needed"] is None:
        return "open" if row["open"] else "beyond"
    return f"≤{row['first']}" if row["needed"] == row["first"] else f"{row['needed']:.0f}"


def _number(value: float) -> str:
    return f"{value:.0f}" if isfinite(value) else "∞"


def _with_error(row: Row | None) -> str:
    if row is None:
        return "–"
    if not isfinite(row["frechet"]):
        return "infinite"
    return f"{row['frechet']:.2g} ± {row['frechet_error']:.1g}"

"""How KL grows with the error of the score: coefficients, interference, and what is left of a scheme's lead."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log, nan, sqrt
from typing import Any

from studies._study import Row

_RESOLVED = 20.0  # numerical errors that a difference of KLs must be, to be used


def growth(rows: Sequence[Row], span: float) -> list[Row]:
    """Return, for each cell, the coefficient c of ε², the interference κ, and the ε at which KL has doubled.

    ``span`` is T − δ, so that span·ε² is what Girsanov's theorem makes of the error.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["kind"], row["scheme"], row["steps"]), []).append(row)
    return [_growth(sorted(group, key=lambda row: row["epsilon"]), span) for group in groups.values()]


def _growth(ladder: Sequence[Row], span: float) -> Row:
    first = ladder[0]
    known = [row for row in ladder if abs(row["excess"]) > _RESOLVED * row["excess_error"]]
    c, c_error = _coefficient(known)
    kappa = nan
    if known and known[0]["kl_minus"] is not None and c > 0.0 and first["kl"] > 0.0:
        row = known[0]
        kappa = (row["kl_plus"] - row["kl_minus"]) / (4.0 * row["epsilon"] * sqrt(c * first["kl"]))
    return {
        **{name: first[name] for name in ("target", "kind", "scheme", "steps", "nfe", "kl", "kl_error")},
        "c": c,
        "c_error": c_error,
        "kept": c / span,
        "kept_error": c_error / span,
        "interference": kappa,
        "doubled": doubled(first["kl"], [row["epsilon"] for row in ladder], [row["worst"] for row in ladder]),
        "points": len(known),
    }


def _coefficient(known: Sequence[Row]) -> tuple[float, float]:
    """Return c of excess = c ε² + c′ ε⁴ from the two smallest resolved sizes, and how far it is off at most.

    That is what the second size changed, and numerical errors.
    """
    if len(known) < 2:
        return nan, nan
    one, two = known[:2]
    square, other = one["epsilon"] ** 2, two["epsilon"] ** 2
    plain = one["excess"] / square
    c = plain - (two["excess"] / other - plain) * square / (other - square)
    return c, abs(c - plain) + 2.0 * one["excess_error"] / square


def doubled(plain: float, sizes: Sequence[float], worst: Sequence[float]) -> float:
    """Return the ε from which on KL of the worse sign stays above twice KL_0; by a power law between sizes.

    Below the smallest size what is added is taken to grow as it does there; NaN beyond the largest.
    """
    added = [value - plain for value in worst]
    at = _stays(added, plain)
    if not all(map(isfinite, added)) or at == len(added):
        return nan
    low, high = (at - 1, at) if at > 0 else (0, 1)
    if len(sizes) < 2 or min(added[low], added[high]) <= 0.0:  # nothing is added at the size before
        return float(sizes[at])
    slope = log(added[high] / added[low]) / log(sizes[high] / sizes[low])
    return float(sizes[low] * (plain / added[low]) ** (1.0 / slope))


def _stays(values: Sequence[float], level: float) -> int:
    """Return the index from which on values are above a level; their number if the last is not."""
    at = len(values)
    while at > 0 and values[at - 1] > level:
        at -= 1
    return at


def leads(rows: Sequence[Row]) -> list[Row]:
    """Return how far each scheme is ahead of DDPM at as many evaluations, in KL of the worse sign.

    ``lead`` is the ratio of KLs without error, ``lost`` the ε from which on it is below 2, ``behind`` below 1.
    """
    ladders: dict[tuple[Any, ...], dict[float, Row]] = {}
    for row in rows:
        evaluations = row["steps"] * round(row["nfe"] / row["steps"])
        ladders.setdefault((row["target"], row["kind"], row["scheme"], evaluations), {})[row["epsilon"]] = row
    found = []
    for (target, kind, scheme, evaluations), own in ladders.items():
        base = ladders.get((target, kind, "ddpm", evaluations), {})
        sizes = sorted(set(own) & set(base))
        if scheme == "ddpm" or not sizes:
            continue
        ratios = [_ratio(base[size]["worst"], own[size]["worst"]) for size in sizes]
        first = _ratio(base[sizes[0]]["kl"], own[sizes[0]]["kl"])
        lost, behind = (_falls(first, sizes, ratios, level) for level in (2.0, 1.0))
        found.append(
            {
                "target": target,
                "kind": kind,
                "scheme": scheme,
                "evaluations": evaluations,
                "lead": first,
                "lost": lost,
                "behind": behind,
                "largest": sizes[-1],
                "lead_at_largest": ratios[-1],
            }
        )
    return found


def _ratio(base: float, own: float) -> float:
    return base / own if isfinite(base) and isfinite(own) and own > 0.0 else nan


def _falls(first: float, sizes: Sequence[float], ratios: Sequence[float], level: float) -> float:
    """Return the ε from which on a ratio that is above ``level`` without error stays below; NaN if it does not.

    By a power law between sizes; the smallest if it is below there.
    """
    at = _stays([-ratio for ratio in ratios], -level)
    if not first > level or at == len(sizes) or not all(map(isfinite, ratios)):
        return nan
    if at == 0:
        return float(sizes[0])
    share = log(ratios[at - 1] / level) / log(ratios[at - 1] / ratios[at])
    return float(sizes[at - 1] * (sizes[at] / sizes[at - 1]) ** share)

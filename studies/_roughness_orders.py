"""Orders of KL in 1/K against the stiffness of a grid: measured, in bins, where they break, and by theory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, sqrt

import numpy as np

from studies._study import Row

NOMINAL = {"srk_third_point": 4.0, "srk_third_point_1": 4.0, "dpmpp_2m_sde": 4.0}  # orders of KL; of the others 2
_BINS = 3  # a decade of b, of the curves


def orders(rows: Sequence[Row]) -> list[Row]:
    """Return p of KL ~ K^−p between neighbouring numbers of steps, with the interval that errors of KL leave."""
    groups: dict[tuple[str, str, float, float], list[Row]] = {}
    for row in rows:
        if row["kl"] is not None and row["kl"] > 0.0:
            groups.setdefault((row["grid"], row["scheme"], row["variance"], row["early_stop"]), []).append(row)
    found = []
    for (grid, scheme, variance, stop), group in groups.items():
        for few, many in pairwise(sorted(group, key=lambda row: row["steps"])):
            gap = log(many["steps"] / few["steps"])
            order = log(few["kl"] / many["kl"]) / gap
            unsure = (few["error"] / few["kl"] + many["error"] / many["kl"]) / gap
            found.append(
                {
                    "grid": grid,
                    "scheme": scheme,
                    "variance": variance,
                    "early_stop": stop,
                    "steps": few["steps"],
                    "to_steps": many["steps"],
                    "stiffness": sqrt(few["stiffness"] * many["stiffness"]),
                    "order": order,
                    "low": order - unsure,
                    "high": order + unsure,
                }
            )
    return found


def curves(known: Sequence[Row]) -> list[Row]:
    """Return the median order and its range over targets and K, in bins of stiffness."""
    bins: dict[tuple[str, str, int], list[Row]] = {}
    for row in known:
        place = int(np.floor(_BINS * np.log10(row["stiffness"])))
        bins.setdefault((row["grid"], row["scheme"], place), []).append(row)
    found = []
    first = {key[:2]: place for place, key in reversed(list(enumerate(bins)))}  # kinds in the order of the rows
    for (grid, scheme, _), group in sorted(bins.items(), key=lambda item: (first[item[0][:2]], item[0][2])):
        values = [row["order"] for row in group]
        stiff = exp(sum(log(row["stiffness"]) for row in group) / len(group))
        middle = {"stiffness": stiff, "order": float(np.median(values)), "low": min(values), "high": max(values)}
        found.append({"grid": grid, "scheme": scheme, **middle, "points": len(group)})
    return found


def breaks(known: Sequence[Row]) -> list[Row]:
    """Return b from which on the order stays below half its nominal value, for each target.

    It is interpolated in log b; None if the order is nowhere above half, or not below it at the largest b.
    """
    groups: dict[tuple[str, str, float, float], list[Row]] = {}
    for row in known:
        groups.setdefault((row["grid"], row["scheme"], row["variance"], row["early_stop"]), []).append(row)
    found = []
    for (grid, scheme, variance, stop), group in groups.items():
        half = 0.5 * NOMINAL.get(scheme, 2.0)
        course = sorted((log(row["stiffness"]), row["order"]) for row in group)
        last = max((place for place, (_, order) in enumerate(course) if order >= half), default=-1)
        crossed = None
        if 0 <= last < len(course) - 1:
            (x, above), (y, below) = course[last : last + 2]
            crossed = exp(x + (y - x) * (above - half) / (above - below))
        label = {"grid": grid, "scheme": scheme, "variance": variance, "early_stop": stop}
        ends = {"least_stiffness": exp(course[0][0]), "most_stiffness": exp(course[-1][0])}
        found.append({**label, "half_order": half, "stiffness": crossed, **ends})
    return found


def theory(known: Sequence[Row]) -> list[Row]:
    """Return DDPM's KL, and its order, over the b of the uniform grids, by theory to leading order.

    The variance of the output is too large by a factor 1 + b, so that KL is that of two Gaussians; b ~ 1/K.
    """
    places = [row["stiffness"] for row in known if row["grid"] == "uniform"]
    even = np.geomspace(min(places), max(places), 60) if places else np.zeros(0)
    kl = 0.5 * (np.log1p(even) - even / (1.0 + even))
    order = 0.5 * (even / (1.0 + even)) ** 2 / kl  # its logarithmic derivative in b
    return [
        {"stiffness": float(stiff), "kl": float(value), "order": float(slope)}
        for stiff, value, slope in zip(even, kl, order, strict=True)
    ]

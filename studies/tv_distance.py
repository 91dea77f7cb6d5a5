"""How loose is Pinsker's inequality for SRK, and is total variation ~ 1/K or better, in d.

TV(q_δ, output) and √(KL/2), which bounds it, are exact on families of targets in dimension up to 10^5, on a ladder of
K, from the exact q_T. The law TV ~ C d^a K^−p is fitted where TV is small; the steps to TV ≤ ε follow, beside those
that the theorems give through Pinsker. Method and results: docs/studies/tv_distance.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, nan, sqrt

from srkverify import schedules
from srkverify.complexity import Exponent
from srkverify.divergence import Divergence, output_density, reduce
from srkverify.divergence.total_variation import total_variation
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import Density, Resolution
from srkverify.schemes import SCHEMES
from srkverify.tableau import Tableau
from srkverify.targets.families import FAMILIES
from studies import _command, _tv_distance_report
from studies._common_slope import common_slope
from studies._curves import crossing
from studies._kl_table import KLTable
from studies._run import run_command
from studies._study import Row, Study, Tables
from studies._theorems import theorem

SCHEME_NAMES = ("ddpm", "ddpm_posterior", "srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde")
DIMENSIONS = (1, 10, 100, 1_000, 10_000, 100_000)
STEPS = (8, 16, 24, 32, 48, 64, 96, 128, 192)
EPSILONS = (0.2, 0.1, 0.05, 0.02, 0.01)
TAIL = 100.0  # the last two decades of d
SMALL = 0.2  # TV up to here: beyond, it bends to 1
RESOLVED = 20.0  # a number that enters a fit, over its error
_RELATIVE = 2e-3


@dataclass(frozen=True)
class Cell:
    """One sampler with one number of steps on a family, in all dimensions: they may share densities."""

    family: str
    scheme: str
    steps: int
    dimensions: tuple[int, ...]

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        dear = {"dpmpp_2m_sde": 0.6, "srk_third_point_1": 2.0}.get(self.scheme, 0.15)
        mixture = 0.02 if self.family == "gaussian_decaying" else dear * (self.steps / 64) ** 1.3
        return 0.02 + mixture * (len(self.dimensions) if self.family == "rough" else 2)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows."""
    dimensions = tuple(sorted(options.dimensions))
    return [
        Cell(family, scheme, steps, dimensions)
        for family in options.families
        for scheme in options.schemes
        for steps in sorted(options.steps)
    ]


def solve(cell: Cell) -> list[Row]:
    """Return a row for each dimension; an unstable sampler has infinite KL and TV 1, with a note."""
    family, table = FAMILIES[cell.family], KLTable(_RELATIVE)

    @lru_cache(maxsize=64)
    def known(parameters: bytes, times: bytes, resolution: Resolution) -> list[Density]:
        return []  # filled by the first who asks

    def density(tableau: Tableau, mixture: Mixture1D, resolution: Resolution, start: str) -> Density:
        parameters = b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.variances))
        kept = known(parameters, tableau.times.tobytes(), resolution)
        if not kept:
            kept.append(output_density(tableau, mixture, resolution, start))
        return kept[0]

    rows = []
    for dimension in cell.dimensions:
        blocks = reduce(family.target(dimension))
        horizon, stop = family.horizon(dimension), family.early_stop(dimension)
        tableau = SCHEMES[cell.scheme](schedules.exponential(horizon, stop, cell.steps))
        kl, tv, note = table.kl(blocks, cell.scheme, horizon, stop, cell.steps), Divergence(1.0, nan, "unstable"), ""
        try:
            tv = total_variation(blocks, tableau, absolute=1e-10, relative=_RELATIVE, most_work=2e7, density=density)
        except ValueError as problem:
            if not str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
                raise
            note = str(problem)
        pinsker = sqrt(0.5 * kl.value)
        rows.append(
            {
                "family": cell.family,
                "scheme": cell.scheme,
                "dimension": dimension,
                "steps": cell.steps,
                "nfe": tableau.nfe,
                "kl": kl.value,
                "kl_error": kl.error,
                "tv": tv.value,
                "tv_error": tv.error,
                "pinsker": pinsker,
                "ratio": tv.value / pinsker if 0.0 < pinsker < inf else nan,
                "note": note,
            }
        )
    return rows


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows, and for each family and sampler the fitted law and the ratios."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["scheme"]), []).append(row)
    return {"": list(rows), "_fits": [summary(family, scheme, group) for (family, scheme), group in groups.items()]}


def small(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose TV is far from 1, and known, as is KL."""
    return [
        row
        for row in rows
        if not row["note"]
        and row["tv"] <= SMALL
        and row["tv"] > RESOLVED * row["tv_error"]
        and row["kl"] > RESOLVED * row["kl_error"]
    ]


def summary(family: str, scheme: str, rows: Sequence[Row]) -> Row:
    """Fit slopes of TV in K and in d and of K* in both, and say between what the ratios TV/√(KL/2) lie.

    Orders in K are fitted to the last rungs at the smallest and at the largest d where TV is small on three; the
    exponent in d to the last two decades of d, at the three largest K; those of K*, read off each dimension's curve, to
    all d and ε.
    """
    used = small(rows)
    ends = sorted({row["dimension"] for row in used})
    rungs = sorted({row["steps"] for row in used})[-3:]
    last = [row for row in used if row["steps"] in rungs and row["dimension"] >= max(ends) / TAIL]
    reached = [
        (dimension, epsilon, found)
        for dimension in sorted({row["dimension"] for row in rows})
        for epsilon in EPSILONS
        if (found := _steps_to(rows, dimension, epsilon)) is not None
    ]
    places, epsilons, steps = ([each[column] for each in reached] for column in range(3))
    orders = [order for d in ends if (order := _order([row for row in used if row["dimension"] == d])) is not None]
    exponents = {
        "p_first": orders[0] if orders else None,
        "p_last": orders[-1] if orders else None,
        "a": _slope(*([row[name] for row in last] for name in ("dimension", "tv", "steps"))),
        "cost_d": _slope(places, steps, epsilons),
        "cost_eps": _slope([1.0 / epsilon for epsilon in epsilons], steps, places),
    }
    a, b = theorem(scheme)
    ratios = {d: [row["ratio"] for row in used if row["dimension"] == d and isfinite(row["ratio"])] for d in ends}
    every = [ratio for each in ratios.values() for ratio in each]
    return {
        "family": family,
        "scheme": scheme,
        **{
            f"{name}{end}": nan if found is None else getattr(found, part)
            for name, found in exponents.items()
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        },
        "theorem_d": a,
        "theorem_eps": b,
        "ratio_low": min(every, default=nan),
        "ratio_high": max(every, default=nan),
        "ratio_first": ratios[ends[0]][-1] if ends and ratios[ends[0]] else nan,
        "ratio_last": ratios[ends[-1]][-1] if ends and ratios[ends[-1]] else nan,
        "first_dimension": ends[0] if ends else None,
        "last_dimension": ends[-1] if ends else None,
    }


def _steps_to(rows: Sequence[Row], dimension: int, epsilon: float) -> float | None:
    """Return K from which on TV ≤ ε in one dimension; None if the ladder does not bracket it."""
    curve = [(row["steps"], row["tv"]) for row in rows if row["dimension"] == dimension]
    found = crossing(curve, epsilon)
    return None if found is None or found <= min(curve)[0] else found


def _order(rows: Sequence[Row]) -> Exponent | None:
    """Return p of TV ~ K^−p over the last rungs of one curve, four at most; None if there are fewer than three."""
    last = sorted((row["steps"], row["tv"]) for row in rows)[-4:]
    if len(last) < 3:
        return None
    slope = common_slope([steps for steps, _ in last], [tv for _, tv in last])
    return Exponent(-slope.value, -slope.high, -slope.low, slope.points)


def _slope(places: Sequence[float], values: Sequence[float], groups: Sequence[float] | None = None) -> Exponent | None:
    """Return the slope that groups share; None if no group has two places."""
    labels = groups or [0.0] * len(places)
    if not any(len({x for x, y in zip(places, labels, strict=True) if y == label}) > 1 for label in set(labels)):
        return None
    return common_slope(places, values, labels)


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    parser.add_names("families", "family", FAMILIES)
    parser.add_names("schemes", "scheme", SCHEMES, SCHEME_NAMES)
    parser.add_integers("dimensions", "dimension", 1, 1_000_000, DIMENSIONS)
    parser.add_integers("steps", "steps", 2, 4096, STEPS)


STUDY = Study(
    name="tv_distance",
    described=__doc__ or "",
    example="python -m studies.tv_distance --families product_mixture,two_point --schemes ddpm,srk --dimensions 1,1e3",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_tv_distance_report.report,
    add_options=add_options,
    full={"families": tuple(FAMILIES), "schemes": SCHEME_NAMES, "dimensions": DIMENSIONS, "steps": STEPS},
    quick={
        "families": ("product_mixture", "two_point", "low_rank"),
        "dimensions": (1, 100, 10_000),
        "steps": (16, 32, 64, 128),
    },
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

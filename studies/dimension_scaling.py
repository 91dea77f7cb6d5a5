"""Does SRK's bound K = Õ(d^{3/2}/ε) hold, how loose is it, and what is SRK's advantage over DDPM.

For each family of targets, sampler, dimension d and accuracy ε, the number of steps K* from which on KL ≤ ε² is found
from exact KLs; the exponents of K* in d and 1/ε stand beside the theorems' (arXiv 2410.04760: d^{3/2}/ε for SRK,
d/ε² for DDPM). Samplers start from the exact q_T, so that discretisation alone is measured. Method and results:
docs/studies/dimension_scaling.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from srkverify.complexity import ExponentFit, KLCurve, fit_exponents, measured_curve, steps_to_reach
from srkverify.divergence import Divergence, reduce
from srkverify.schedules import exponential
from srkverify.schemes import SCHEMES
from srkverify.targets.families import FAMILIES
from studies import _command, _scaling_report
from studies._kl_table import KLTable, score_evaluations
from studies._run import run_command
from studies._study import Row, Study, Tables
from studies._theorems import theorem

FAMILY_NAMES = tuple(FAMILIES)
SCHEME_NAMES = ("ddpm", "exponential_euler", "srk", "srk_martingale", "srk_third_point")
DIMENSIONS = (1, 10, 100, 1_000, 10_000, 100_000)
EPSILONS = (0.3, 0.1, 0.03, 0.01)
LADDER = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 192, 256)
QUICK: dict[str, tuple[Any, ...]] = {
    "families": ("product_mixture", "two_point", "gaussian_decaying", "low_rank"),
    "dimensions": (1, 100, 10_000),
    "epsilons": (0.3, 0.1, 0.03),
    "ladder": tuple(steps for steps in LADDER if steps <= 192),
}
EXACT_UP_TO = 16


@dataclass(frozen=True)
class Cell:
    """The curves KL(K) of one scheme on one family, in all dimensions: they share most of their blocks."""

    family: str
    scheme: str
    dimensions: tuple[int, ...]
    epsilons: tuple[float, ...]
    ladder: tuple[int, ...]
    exact_up_to: int
    horizon: float | None
    early_stop: float | None

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        tableau = SCHEMES[self.scheme](exponential(2.0, 0.5, 3))
        a_curve = 2.0 if tableau.memory else 0.2 if tableau.stage_noise.any() else 0.03
        if self.family == "gaussian_decaying":  # the one without a mixture
            return 0.05 + 4e-6 * sum(self.dimensions)
        return a_curve * (len({self.times(dimension) for dimension in self.dimensions}) + 1)

    def times(self, dimension: int) -> tuple[float, float]:
        """Return the horizon and the early stop in a dimension."""
        family = FAMILIES[self.family]
        return (
            family.horizon(dimension) if self.horizon is None else self.horizon,
            family.early_stop(dimension) if self.early_stop is None else self.early_stop,
        )


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If an early stop is not before its horizon.
    """
    dimensions, epsilons = tuple(sorted(options.dimensions)), tuple(sorted(options.epsilons, reverse=True))
    settings = (dimensions, epsilons, tuple(sorted(options.ladder)), options.exact_up_to)
    grid = [
        Cell(family, scheme, *settings, options.horizon, options.early_stop)
        for family in options.families
        for scheme in options.schemes
    ]
    for cell in grid:
        for horizon, stop in map(cell.times, reversed(dimensions)):
            if stop >= horizon:
                raise ValueError(
                    f"argument --horizon: horizon must be > the early stop, {stop:g} for {cell.family}; got {horizon:g}"
                )
    return grid


def solve(cell: Cell) -> list[Row]:
    """Return the rows of K*(ε) and of the curves; a dimension beyond the engines gives rows with a note."""
    table = KLTable()
    # A block is evaluated where it comes up first; in which dimension that is may show in the last digit.
    solved = {dimension: _solved(cell, dimension, table) for dimension in sorted(cell.dimensions, reverse=True)}
    return [row for dimension in cell.dimensions for row in solved[dimension]]


def _solved(cell: Cell, dimension: int, table: KLTable) -> list[Row]:
    blocks = reduce(FAMILIES[cell.family].target(dimension))
    horizon, early_stop = cell.times(dimension)
    evaluated: dict[int, Divergence] = {}

    def kl(steps: int) -> Divergence:
        if steps not in evaluated:
            evaluated[steps] = table.kl(blocks, cell.scheme, horizon, early_stop, steps)
        return evaluated[steps]

    label = {"family": cell.family, "scheme": cell.scheme, "dimension": dimension}
    each, extra = score_evaluations(cell.scheme, horizon)
    curve: KLCurve | None = None
    rows: list[Row] = []
    for epsilon in cell.epsilons:
        row = {"kind": "cost", **label, "epsilon": epsilon, "horizon": horizon, "early_stop": early_stop}
        try:
            if curve is None:
                curve = measured_curve(kl, cell.ladder, cell.epsilons, nfe_per_step=each, extra_nfe=extra)
            found = steps_to_reach(curve, epsilon, kl, cell.exact_up_to)
        except ValueError as problem:
            empty = dict.fromkeys(("steps", "steps_low", "steps_high"))
            unknown = dict.fromkeys(("nfe", "nfe_low", "nfe_high", "kl", "kl_error", "first_rung"))
            rows.append({**row, **empty, "how": "none", **unknown, "note": str(problem)})
            continue
        counts = {"": found.steps, "_low": found.steps_low, "_high": found.steps_high}
        rows.append(
            {
                **row,
                **{f"steps{end}": steps for end, steps in counts.items()},
                "how": found.how,
                **{f"nfe{end}": curve.nfe(steps) for end, steps in counts.items()},
                "kl": found.kl,
                "kl_error": found.kl_error,
                "first_rung": found.first_rung,
                "note": "",
            }
        )
    for steps, point in sorted(evaluated.items()):
        numbers = {"steps": steps, "nfe": each * steps + extra, "kl": point.value, "kl_error": point.error}
        rows.append({"kind": "curve", **label, **numbers})
    return rows


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return the rows of K*, of the curves, and of the exponents fitted to K*."""
    costs, curves = (
        [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == kind]
        for kind in ("cost", "curve")
    )
    return {"": costs, "_curves": curves, "_fits": fits(costs)}


def fits(rows: Sequence[Row]) -> list[Row]:
    """Fit exponents of steps and of score evaluations, for each family and scheme."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["scheme"]), [])
        # K* = 1 says only that one step is enough: the floor of K, not a point of the scaling.
        if row["steps"] is not None and row["steps"] > 1:
            groups[row["family"], row["scheme"]].append(row)
    fitted = []
    for (family, scheme), group in groups.items():
        if not group:
            continue
        bound = theorem(scheme)
        for cost in ("steps", "nfe"):
            dimensions, epsilons, costs = ([row[key] for row in group] for key in ("dimension", "epsilon", cost))
            fit = fit_exponents(dimensions, epsilons, costs)
            for variable, kind, exponent in _exponents(fit):
                fitted.append(
                    {
                        "family": family,
                        "scheme": scheme,
                        "cost": cost,
                        "variable": variable,
                        "fit": kind,
                        "exponent": exponent.value,
                        "low": exponent.low,
                        "high": exponent.high,
                        "points": exponent.points,
                        "theorem": bound[variable == "inverse_epsilon"],
                        "scatter": fit.scatter,
                    }
                )
    return fitted


def _exponents(fit: ExponentFit) -> list[tuple[str, str, Any]]:
    return [
        ("dimension", "joint", fit.dimension),
        ("dimension", "smallest epsilon", fit.dimension_at_smallest_epsilon),
        ("inverse_epsilon", "joint", fit.inverse_epsilon),
        ("inverse_epsilon", "largest dimension", fit.inverse_epsilon_at_largest_dimension),
    ]


def add_options(command: _command.Parser) -> None:
    """Add the grid's options."""
    add = command.add_argument
    command.add_names("families", "family", FAMILIES)
    command.add_names("schemes", "scheme", SCHEMES, SCHEME_NAMES)
    command.add_integers("dimensions", "dimension", 1, 1_000_000, DIMENSIONS)
    add(
        "--epsilons",
        type=_command.listed(_command.number("epsilon", above=0.0, below=1.0)),
        metavar="E,…",
        help=f"accuracies: KL ≤ ε² (default: {','.join(map(str, EPSILONS))})",
    )
    add(
        "--ladder",
        type=_command.listed(_command.integer("steps", 1, 1 << 16)),
        metavar="K,…",
        help=f"steps K at which KL is evaluated (default: {','.join(map(str, LADDER))})",
    )
    add(
        "--exact-up-to",
        type=_command.integer("steps", 0, 1 << 16),
        default=EXACT_UP_TO,
        metavar="K",
        help=f"K* up to here is found by evaluating candidates, above by interpolation (default: {EXACT_UP_TO})",
    )
    add(
        "--horizon",
        type=_command.number("horizon", above=0.0),
        metavar="T",
        help="forward time of the start (default: 6; 6 + ½ log d for two_point_growing)",
    )
    add(
        "--early-stop",
        type=_command.number("early stop", above=0.0),
        metavar="δ",
        help="forward time of the end (default: 0.01; 0.01/d for rough)",
    )


STUDY = Study(
    name="dimension_scaling",
    described=__doc__ or "",
    example="python -m studies.dimension_scaling --families product_mixture,rough --schemes ddpm,srk \\\n"
    "    --dimensions 1,10,1e3 --epsilons 0.1,0.01 --out scaling",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_scaling_report.report,
    add_options=add_options,
    full={
        "families": FAMILY_NAMES,
        "schemes": SCHEME_NAMES,
        "dimensions": DIMENSIONS,
        "epsilons": EPSILONS,
        "ladder": LADDER,
    },
    quick=QUICK,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

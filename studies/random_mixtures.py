"""Does the league's order hold on random mixtures: KL of its leaders over that of a published rival, law by law.

The league's targets are chosen, and so is what a sampler's coefficients were fitted to. Here are random mixtures on a
line, none of either kind. At the same budget of score evaluations the exact KL of each sampler is divided by that of a
rival; reported are the mean over laws, in logarithms and with an interval, the share of laws on which the rival is
beaten, and the worst law. Method and results: docs/studies/random_mixtures.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import median

from srkverify.divergence import Divergence, block_kl
from srkverify.divergence.reduction import reduce
from srkverify.schemes import INFORMED, SCHEMES
from studies import _command, _random_mixtures_report
from studies._geometric_mean import geometric_mean
from studies._league_targets import GRIDS, entrant, memory, steps_within
from studies._random_laws import random_law
from studies._run import run_command
from studies._study import Row, Study, Tables

LEADERS = (
    *("srk", "srk_martingale", "srk_third_point_1", "srk_third_order", "srk_third_order_fitted"),
    *("srk_third_order_informed", "dpmpp_2m_sde", "sa_p2", "seeds_3"),
)
_NAMES = (*SCHEMES, *INFORMED)
_RELATIVE = 1e-2
_MOST_WORK = 5e6


@dataclass(frozen=True)
class Cell:
    """One sampler with one budget of evaluations, on one law: the ``law``-th from ``seed``."""

    law: int
    seed: int
    grid: str
    scheme: str
    evaluations: int
    horizon: float
    early_stop: float

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        return 0.8 if memory(self.scheme) > 1 else 0.04


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the early stop is not before the horizon, or a sampler remembers so much that its exact KL is too dear.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    schemes = dict.fromkeys([*options.schemes, options.against])
    for scheme in schemes:
        if memory(scheme) > 2:
            option = "--schemes" if scheme in options.schemes else "--against"
            raise ValueError(f"{option} must remember at most two evaluations, for more is too dear; got {scheme}")
    return [
        Cell(law, options.seed, grid, scheme, budget, options.horizon, options.early_stop)
        for law in range(options.laws)
        for grid in options.grids
        for budget in sorted(options.evaluations)
        for scheme in schemes
        if steps_within(scheme, budget, options.horizon) > 0
    ]


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell; where the sampler is unstable KL is infinite and a note says so."""
    steps = steps_within(cell.scheme, cell.evaluations, cell.horizon)
    target = random_law(cell.law, cell.seed)
    tableau = entrant(cell.scheme, target, GRIDS[cell.grid](cell.horizon, cell.early_stop, steps))
    found, note = Divergence(inf, 0.0, "none"), ""
    try:
        (block,) = reduce(target)
        found = block_kl(block, tableau, absolute=1e-13, relative=_RELATIVE, most_work=_MOST_WORK)
    except ValueError as problem:
        if not str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            raise
        note = str(problem)
    return [
        {
            "law": cell.law,
            "grid": cell.grid,
            "evaluations": cell.evaluations,
            "scheme": cell.scheme,
            "nfe": tableau.nfe,
            "kl": found.value,
            "kl_error": found.error,
            "note": note,
        }
    ]


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows, each with its KL over that of the rival, and their summary for each grid, budget and sampler."""
    rival = {_place(row): row["kl"] for row in rows if row["scheme"] == options.against}
    shown = [{**row, "ratio": _ratio(row["kl"], rival.get(_place(row), nan))} for row in rows]
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in shown:
        groups.setdefault((row["grid"], row["evaluations"], row["scheme"]), []).append(row)
    summary = [
        {"grid": grid, "evaluations": budget, "scheme": scheme, "against": options.against, **spread(group)}
        for (grid, budget, scheme), group in groups.items()
    ]
    return {"": shown, "_ratios": summary}


def _place(row: Row) -> tuple[int, str, int]:
    return row["law"], row["grid"], row["evaluations"]


def _ratio(value: float, other: float) -> float:
    return value / other if other > 0.0 and isfinite(other) else nan


def spread(rows: Sequence[Row]) -> Row:
    """Summarise ratios over laws: geometric mean with a 95% interval of Student's t, median, worst, and laws won.

    A law on which the sampler is unstable is in the median, in the worst and not won; it has no place in a mean.
    """
    ratios = [row["ratio"] for row in rows if row["ratio"] > 0.0]
    mean, low, high = geometric_mean([ratio for ratio in ratios if ratio < inf])
    return {
        "laws": len(ratios),
        "mean": mean,
        "low": low,
        "high": high,
        "median": median(ratios) if ratios else nan,
        "worst": max(ratios, default=nan),
        "won": sum(ratio < 1.0 for ratio in ratios),
        "kl": geometric_mean([row["kl"] for row in rows if 0.0 < row["kl"] < inf])[0],
    }


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    add("--laws", type=_command.integer("laws", 1, 10_000), metavar="N", help="random mixtures (24)")
    add("--seed", type=_command.integer("seed", 0, 2**63 - 1), metavar="S", help="of the laws (2; 1 is the fit's)")
    parser.add_names("schemes", "scheme", _NAMES, LEADERS)
    add("--against", type=_command.name_of("scheme", _NAMES), metavar="NAME", help="the rival (dpmpp_2m_sde)")
    add(
        "--evaluations",
        type=_command.listed(_command.integer("evaluations", 2, 4096)),
        metavar="N,…",
        help="budgets of score evaluations (16,32)",
    )
    add("--grids", type=_command.listed(_command.name_of("grid", GRIDS)), metavar="NAME,…", help=", ".join(GRIDS))
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="random_mixtures",
    described=__doc__ or "",
    example="python -m studies.random_mixtures --laws 50 --schemes srk,srk_third_order_fitted --evaluations 16",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_random_mixtures_report.report,
    add_options=add_options,
    full={
        "laws": 24,
        "seed": 2,
        "schemes": LEADERS,
        "against": "dpmpp_2m_sde",
        "evaluations": (16, 32),
        "grids": tuple(GRIDS),
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={"laws": 6, "evaluations": (16,), "grids": ("exponential",)},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

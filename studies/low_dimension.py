"""Does SRK inherit DDPM's adaptation to low dimension: do its steps depend on the intrinsic k and not on the ambient d.

The target is k copies of a mixture on the line, or k directions of variance 1, and d − k directions of variance 0 or
nearly 0; no coordinate system is singled out, for samplers commute with rotations. KL is exact and is the sum of an
intrinsic and an ambient part. K*, the number of steps from which on KL ≤ ε², is measured with k fixed and d growing to
10^6, and with d fixed and k growing; its exponents in d and in k say who adapts. DDPM with posterior variance does
(arXiv 2405.14861); two schemes of this study, whose stage noise is made for it, show what SRK needs. Method and
results: docs/studies/low_dimension.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srkverify import schedules, schemes
from srkverify.complexity import measured_curve, steps_to_reach
from srkverify.divergence import Divergence, block_kl
from srkverify.divergence.reduction import Block, GaussianBlock, MixtureBlock
from srkverify.engines.mixture1d import Mixture1D
from studies import _command, _low_dimension_report
from studies._common_slope import common_slope
from studies._kl_table import score_evaluations
from studies._run import run_command
from studies._study import Row, Study, Tables

SCHEMES = (
    "ddpm",
    "ddpm_beta",
    "ddpm_posterior",
    "srk",
    "srk_martingale",
    "srk_adapted",
    "srk_third_point",
    "srk_third_point_adapted",
    "srk_third_point_1",
    "dpmpp_2m_sde",
)
INTRINSICS = ("mixture", "gaussian")
LADDER = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024)
DIMENSIONS = (4, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
RANKS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
EXACT_UP_TO = 16
TAIL = 100.0  # the last two decades, where exponents are nearest to the asymptotics
_RELATIVE, _MOST_WORK = 5e-3, 2e7  # of a mixture's KL: K* is good to half of that


@dataclass(frozen=True)
class Cell:
    """One sampler on one kind of target: K* for d growing with k = ``rank``, and for k growing with d = ``dimension``.

    KL of all its targets is made of two curves, the KL of one intrinsic and of one ambient direction.
    """

    scheme: str
    intrinsic: str
    ambient_variance: float
    rank: int
    dimensions: tuple[int, ...]
    dimension: int
    ranks: tuple[int, ...]
    epsilons: tuple[float, ...]
    ladder: tuple[int, ...]
    horizon: float
    early_stop: float

    @property
    def cost(self) -> float:
        """Processor seconds, roughly: of the intrinsic mixture's densities."""
        if self.intrinsic == "gaussian":
            return 0.3
        return (9.0 if self.scheme == "srk_third_point_1" else 0.8) * (max(self.ladder) / 1024) ** 1.5


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the horizon is not after the early stop, or no dimension is above the rank.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    dimensions = tuple(sorted(d for d in options.dimensions if d >= options.rank))
    ranks = tuple(sorted(k for k in options.ranks if k <= options.dimension))
    if not dimensions or not ranks:
        raise ValueError(
            "--dimensions must hold one that is >= --rank, and --ranks one that is <= --dimension; "
            f"got {options.dimensions} and {options.rank}, {options.ranks} and {options.dimension}"
        )
    return [
        Cell(
            scheme,
            intrinsic,
            variance,
            options.rank,
            dimensions,
            options.dimension,
            ranks,
            tuple(sorted(options.epsilons, reverse=True)),
            tuple(sorted(options.ladder)),
            options.horizon,
            options.early_stop,
        )
        for intrinsic in options.intrinsics
        for variance in options.ambient_variances
        for scheme in options.schemes
    ]


def solve(cell: Cell) -> list[Row]:
    """Return rows of two kinds: "unit", the KL of one direction with K steps, and "cost", K* of one target."""
    directions = _directions(cell)
    known: dict[tuple[str, int], Divergence] = {}

    def unit(part: str, steps: int) -> Divergence:
        if (part, steps) not in known:
            known[part, steps] = _kl(cell, directions[part], steps)
        return known[part, steps]

    def kl(rank: int, dimension: int, steps: int) -> Divergence:
        counts = {part: count for part, count in (("intrinsic", rank), ("ambient", dimension - rank)) if count}
        parts = [(count, unit(part, steps)) for part, count in counts.items()]
        value, error = (sum(n * getattr(one, name) for n, one in parts) for name in ("value", "error"))
        return Divergence(value, error, "gaussian+quadrature")

    each, besides = score_evaluations(cell.scheme, cell.horizon)
    label = {"scheme": cell.scheme, "intrinsic": cell.intrinsic, "ambient_variance": cell.ambient_variance}
    sweeps = [("d", cell.rank, d) for d in cell.dimensions] + [("k", k, cell.dimension) for k in cell.ranks]
    rows: list[Row] = []
    for varied, rank, dimension in sweeps:

        def total(steps: int, rank: int = rank, dimension: int = dimension) -> Divergence:
            return kl(rank, dimension, steps)

        curve = None
        for epsilon in cell.epsilons:
            row = {"kind": "cost", **label, "varied": varied, "rank": rank, "dimension": dimension, "epsilon": epsilon}
            try:
                curve = curve or measured_curve(total, cell.ladder, cell.epsilons)
                found = steps_to_reach(curve, epsilon, total, EXACT_UP_TO)
            except ValueError as problem:
                empty = dict.fromkeys(("steps", "steps_low", "steps_high", "nfe"))
                rows.append({**row, **empty, "how": "none", "ambient_share": None, "note": str(problem)})
                continue
            ambient = (dimension - rank) * unit("ambient", found.steps).value if dimension > rank else 0.0
            rows.append(
                {
                    **row,
                    "steps": found.steps,
                    "steps_low": found.steps_low,
                    "steps_high": found.steps_high,
                    "nfe": each * found.steps + besides,
                    "how": found.how,
                    "ambient_share": min(1.0, ambient / found.kl) if found.kl > 0.0 else 0.0,
                    "note": "",
                }
            )
    for part in directions:
        for steps in cell.ladder:
            if part == "ambient" or (part, steps) in known:
                one, row = unit(part, steps), {"kind": "unit", **label, "part": part, "steps": steps}
                rows.append({**row, "kl": one.value, "error": one.error})
    return rows


def _directions(cell: Cell) -> dict[str, Block]:
    ones = np.ones(1)
    blocks: dict[str, Block] = {"ambient": GaussianBlock(np.array([cell.ambient_variance]), 0.0 * ones, ones)}
    if cell.intrinsic == "gaussian":
        return {"intrinsic": GaussianBlock(ones, 0.0 * ones, ones), **blocks}
    line = Mixture1D(np.array([0.4, 0.6]), np.array([-1.5, 1.5]), np.array([0.25, 0.25]))
    return {"intrinsic": MixtureBlock(line, 1), **blocks}


def _kl(cell: Cell, block: Block, steps: int) -> Divergence:
    tableau = schemes.SCHEMES[cell.scheme](schedules.exponential(cell.horizon, cell.early_stop, steps))
    try:
        found = block_kl(block, tableau, absolute=0.0, relative=_RELATIVE, most_work=_MOST_WORK)
    except ValueError as problem:
        if str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            return Divergence(np.inf, 0.0, "unstable")
        raise
    return found if np.isfinite(found.value) else Divergence(np.inf, 0.0, "unstable")


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return K* of every target, the KL of single directions, and the exponents."""
    kinds = {
        kind: [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == kind]
        for kind in ("cost", "unit")
    }
    return {"": kinds["cost"], "_directions": kinds["unit"], "_fits": fits(kinds["cost"])}


def fits(costs: Sequence[Row]) -> list[Row]:
    """Fit the exponents of K* in d and in k, over the whole grid and over its last two decades."""
    groups: dict[tuple[str, str, float, str], list[Row]] = {}
    for row in costs:
        groups.setdefault((row["scheme"], row["intrinsic"], row["ambient_variance"], row["varied"]), []).append(row)
    fitted = []
    for (scheme, intrinsic, variance, varied), group in groups.items():
        variable = "dimension" if varied == "d" else "rank"
        # K* = 1 says only that one step is enough: the floor of K, not a point of the scaling.
        solved = [row for row in group if row["steps"] is not None and row["steps"] > 1]
        largest = max((row[variable] for row in solved), default=0)
        for kind, least in (("all", 0.0), ("tail", largest / TAIL)):
            used = [row for row in solved if row[variable] >= least]
            if len({row[variable] for row in used}) < 2:
                continue
            places, epsilons, steps = ([row[key] for row in used] for key in (variable, "epsilon", "steps"))
            exponent = common_slope(places, steps, groups=epsilons)
            fitted.append(
                {
                    "scheme": scheme,
                    "intrinsic": intrinsic,
                    "ambient_variance": variance,
                    "variable": varied,
                    "fit": kind,
                    "exponent": exponent.value,
                    "low": exponent.low,
                    "high": exponent.high,
                    "points": exponent.points,
                }
            )
    return fitted


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add, numbers = parser.add_argument, _command.listed(_command.integer("steps", 1, 1 << 14))
    dimension = _command.integer("dimension", 1, 100_000_000)
    known = schemes.SCHEMES
    add("--schemes", type=_command.listed(_command.name_of("scheme", known)), metavar="NAME,…", help=", ".join(known))
    add(
        "--intrinsics",
        type=_command.listed(_command.name_of("intrinsic", INTRINSICS)),
        metavar="NAME,…",
        help="what each intrinsic direction holds: mixture, gaussian (default: both)",
    )
    add(
        "--ambient-variances",
        type=_command.listed(_command.number("variance", at_least=0.0)),
        metavar="V,…",
        help="variances of the ambient directions (default: 0,0.0001)",
    )
    add("--rank", type=dimension, metavar="K", help="k while d grows (default: 4)")
    add("--dimensions", type=_command.listed(dimension), metavar="D,…", help="d with k = --rank (default: 4 … 10^6)")
    add("--dimension", type=dimension, metavar="D", help="d while k grows (default: 10^4)")
    add("--ranks", type=_command.listed(dimension), metavar="K,…", help="k with d = --dimension (default: 1 … 10^4)")
    add(
        "--epsilons",
        type=_command.listed(_command.number("epsilon", above=0.0, below=1.0)),
        metavar="E,…",
        help="accuracies: KL ≤ ε² (default: 0.3,0.1,0.03)",
    )
    add("--ladder", type=numbers, metavar="K,…", help="steps K at which KL is evaluated (default: 2 … 1024)")
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="low_dimension",
    described=__doc__ or "",
    example="python -m studies.low_dimension --schemes ddpm_posterior,srk,srk_adapted --ambient-variances 0,1e-3",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_low_dimension_report.report,
    add_options=add_options,
    full={
        "schemes": SCHEMES,
        "intrinsics": INTRINSICS,
        "ambient_variances": (0.0, 1e-4),
        "rank": 4,
        "dimensions": DIMENSIONS,
        "dimension": 10_000,
        "ranks": RANKS,
        "epsilons": (0.3, 0.1, 0.03),
        "ladder": LADDER,
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={
        "dimensions": (4, 100, 10_000, 1_000_000),
        "ranks": (1, 10, 100, 1_000, 10_000),
        "epsilons": (0.3, 0.1),
        "ladder": tuple(steps for steps in LADDER if steps <= 256),
    },
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

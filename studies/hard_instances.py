"""Which targets are hardest for SRK: how large can the exponent in d and the constant KL·K²/d become.

KL adds over independent directions, so that the worst product target is copies of the worst single one, and at fixed
horizon and early stop the envelope of all such targets is d times the largest KL of a direction. Searches over the
parameters of mixtures look for that, at several K, on the exponential grid and on an optimised one; another, over
families whose separation, weights, variances and early stop are powers of d, for the largest exponent of K* in d. What
is found is evaluated anew to full accuracy, with DDPM beside it. A search proves nothing; it says how near to the
theorem's 3/2 one comes. Method and results: docs/studies/hard_instances.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, nan, sqrt

from scipy.optimize import differential_evolution

from srkverify import schedules
from srkverify.complexity import Exponent
from srkverify.optimal_grid import optimal_grid
from studies import _command, _hard_instances_report
from studies._common_slope import common_slope
from studies._curves import crossing
from studies._grids import kl_on
from studies._hard_instances_targets import (
    SHAPES,
    Family,
    best_grid,
    described,
    family_bounds,
    family_of,
    one_direction,
    resampled,
    robust_kl,
)
from studies._run import run_command
from studies._study import Row, Study, Tables, seed_of

GRIDS = ("exponential", "optimised")
STEPS = (16, 32, 64)
DIMENSIONS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
LATE = 4  # the last of them, for the exponent in the end
EPSILON = 0.3
_COUNTED = 1_000  # up to this d K* itself is found at the end
_LOOSE, _TIGHT = 2e-2, 1e-6  # relative accuracy within the search, and of what is reported
_HORIZON, _STOP = 6.0, 0.01


@dataclass(frozen=True)
class Cell:
    """One search: for a constant, over the directions of a shape on a grid; for an exponent, over families."""

    goal: str  # "constant" or "exponent"
    scheme: str
    shape: str
    grid: str
    steps: int
    seed: int
    budget: int  # evaluations of the objective, roughly
    dimensions: tuple[int, ...] = ()  # for an exponent

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        each = 0.001 if self.shape == "gaussian" else 0.02 * (self.steps / 64) ** 1.3
        return 0.5 + self.budget * each * (
            3.0 if self.goal == "exponent" else 12.0 if self.grid == "optimised" else 1.0
        )


def cells(options: Namespace) -> list[Cell]:
    """Return the searches, each with as many seeds as asked for; grids are optimised at the middle K only.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions.
    """
    steps = sorted(options.steps)
    middle = steps[len(steps) // 2]
    seeds = range(options.seeds)
    constants = [
        Cell("constant", options.scheme, shape, "exponential", k, seed, options.budget)
        for shape in SHAPES
        for k in steps
        for seed in seeds
    ]
    tuned = [
        Cell("constant", options.scheme, shape, "optimised", middle, seed, options.budget)
        for shape in SHAPES
        for seed in seeds
    ]
    dimensions = tuple(sorted(options.dimensions))
    if len(dimensions) < 2:
        raise ValueError(f"--dimensions must hold at least 2, for an exponent; got {dimensions}")
    families = [
        Cell("exponent", options.scheme, "family", "exponential", steps[-1], seed, 2 * options.budget, dimensions)
        for seed in seeds
    ]
    return [*constants, *tuned, *families]


def solve(cell: Cell) -> list[Row]:
    """Return what a search found: a row "constant", or one "exponent" and a "curve" of rows by d."""
    return _constant(cell) if cell.goal == "constant" else _exponent(cell)


def search(objective: object, bounds: Sequence[tuple[float, float]], cell: Cell) -> list[float]:
    """Return where ``objective`` is largest within ``bounds``, by differential evolution from the cell's own seed."""
    population = max(5, round(cell.budget / (8 * len(bounds))))
    found = differential_evolution(
        lambda place: -objective(place),  # type: ignore[operator]
        bounds,
        maxiter=max(1, cell.budget // (population * len(bounds)) - 1),
        popsize=population,
        init="halton",
        polish=False,
        tol=1e-4,
        seed=seed_of(cell) % 2**32,
    )
    return [float(value) for value in found.x]


def at_bound(place: Sequence[float], bounds: Sequence[tuple[float, float]]) -> bool:
    """Whether a search ended within 2% of the end of a parameter's range, so that a wider one might have more."""
    return any(min(x - low, high - x) < 0.02 * (high - low) for x, (low, high) in zip(place, bounds, strict=True))


def _constant(cell: Cell) -> list[Row]:
    """Search for the direction with the largest KL·K²."""
    bounds, steps = SHAPES[cell.shape], cell.steps

    def objective(place: Sequence[float]) -> float:
        block = one_direction(cell.shape, place)
        if cell.grid == "exponential":
            value = kl_on(schedules.exponential(_HORIZON, _STOP, steps), [block], cell.scheme, _LOOSE).value
        else:
            value = best_grid([block], cell.scheme, _HORIZON, _STOP, steps, _LOOSE)[1]
        # An unstable sampler is no hard instance: K is too small there for any bound.
        return log(max(value, 1e-300)) if isfinite(value) else -inf

    place = search(objective, bounds, cell)
    block = one_direction(cell.shape, place)
    times = schedules.exponential(_HORIZON, _STOP, steps)
    if cell.grid == "optimised":
        times, before = best_grid([block], cell.scheme, _HORIZON, _STOP, steps, _LOOSE)
        tuned = optimal_grid(
            lambda grid: robust_kl(grid, [block], cell.scheme, _LOOSE), _HORIZON, _STOP, steps, 3, most_evaluations=60
        )
        if tuned.value < before:
            times = tuned.times
    found, rival = (kl_on(times, [block], scheme, _TIGHT, 1e9) for scheme in (cell.scheme, "ddpm"))
    finer, finest = (kl_on(resampled(times, many * steps), [block], cell.scheme, 1e-4) for many in (2, 4))
    return [
        {
            "kind": "constant",
            "scheme": cell.scheme,
            "shape": cell.shape,
            "grid": cell.grid,
            "steps": steps,
            "seed": cell.seed,
            "target": described(block),
            "constant": found.value * steps**2,
            "constant_error": found.error * steps**2,
            "ddpm_ratio": rival.value / found.value,
            "constant_2k": finer.value * (2 * steps) ** 2,
            "constant_4k": finest.value * (4 * steps) ** 2,
            "at_bound": at_bound(place, bounds),
        }
    ]


def _exponent(cell: Cell) -> list[Row]:
    """Search for the family with the largest exponent of K* = √(d C(d))/ε in d, C(d) = KL·K² of a direction."""
    ends = cell.dimensions[0], cell.dimensions[-1]

    def constant(family: Family, dimension: int, scheme: str, relative: float) -> float:
        block, horizon, stop = family.at(dimension)
        times = schedules.exponential(horizon, stop, cell.steps)
        return kl_on(times, [block], scheme, relative).value * cell.steps**2

    def objective(place: Sequence[float]) -> float:
        family = family_of(place)
        first, last = (constant(family, d, cell.scheme, _LOOSE) for d in ends)
        return 0.5 + 0.5 * log(last / first) / log(ends[1] / ends[0]) if isfinite(first + last) and first > 0 else -inf

    family = family_of(search(objective, family_bounds(), cell))
    curve: list[Row] = []
    for dimension in cell.dimensions:
        _, horizon, stop = family.at(dimension)
        own, rival = (constant(family, dimension, scheme, 1e-3) for scheme in (cell.scheme, "ddpm"))
        span = horizon - 1.0 - log(stop)  # the grid's own logarithm: its steps are span/K long, or shorter
        counted = _counted(family, dimension, cell.scheme) if dimension <= _COUNTED else None
        curve.append(
            {
                "kind": "curve",
                "scheme": cell.scheme,
                "seed": cell.seed,
                "dimension": dimension,
                "constant": own,
                "ddpm_constant": rival,
                "span": span,
                "steps": sqrt(dimension * own) / EPSILON,
                "ddpm_steps": sqrt(dimension * rival) / EPSILON,
                "counted": counted,
            }
        )
    dimensions = [row["dimension"] for row in curve]
    exponents = {
        "exponent": common_slope(dimensions, [row["steps"] for row in curve]),
        "log_free": common_slope(dimensions, [row["steps"] / row["span"] for row in curve]),
        "late": common_slope(dimensions[-LATE:], [row["steps"] for row in curve[-LATE:]]),
        "ddpm": common_slope(dimensions, [row["ddpm_steps"] for row in curve]),
    }
    known = [(row["dimension"], row["counted"]) for row in curve if row["counted"] is not None]
    exponents["counted"] = (
        common_slope([d for d, _ in known], [steps for _, steps in known])
        if len(known) > 1
        else Exponent(nan, nan, nan, len(known))
    )
    return [
        {
            "kind": "exponent",
            "scheme": cell.scheme,
            "seed": cell.seed,
            "target": family.described,
            **{
                f"{name}{end}": getattr(found, part)
                for name, found in exponents.items()
                for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            },
            "ddpm_ratio": curve[-1]["ddpm_steps"] / curve[-1]["steps"],
        },
        *curve,
    ]


def _counted(family: Family, dimension: int, scheme: str) -> float | None:
    """Return K from which on d·KL ≤ ε², between half-octave rungs by a power law; None beyond the last, 1024."""
    block, horizon, stop = family.at(dimension)
    rungs = [round(2.0 ** (half / 2)) for half in range(4, 21)]
    curve: list[tuple[float, float]] = []
    for steps in rungs:
        value = dimension * kl_on(schedules.exponential(horizon, stop, steps), [block], scheme, 1e-2).value
        curve.append((steps, sqrt(value)))
        if len(curve) > 1 and max(curve[-1][1], curve[-2][1]) < EPSILON / 1.5:
            break  # two rungs in a row, far below: a dip has one
    return crossing(curve, EPSILON)


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the constants, the exponents, and the curves by d; of each search all seeds."""
    tables = {
        kind: [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == kind]
        for kind in ("constant", "exponent", "curve")
    }
    return {
        "": tables["constant"],
        "_envelope": envelope(tables["constant"]),
        "_exponents": tables["exponent"],
        "_curves": tables["curve"],
    }


def envelope(constants: Sequence[Row]) -> list[Row]:
    """Return, for each shape, p of the largest KL of a direction ~ K^−p, and 1/p, the exponent in d of copies' K*."""
    rows = []
    for shape in dict.fromkeys(row["shape"] for row in constants):
        largest: dict[int, float] = {}
        for row in constants:
            if row["shape"] == shape and row["grid"] == "exponential":
                largest[row["steps"]] = max(row["constant"] / row["steps"] ** 2, largest.get(row["steps"], 0.0))
        if len(largest) > 1:
            slope = common_slope(list(largest), list(largest.values()))
            p, low, high = -slope.value, -slope.high, -slope.low
            rows.append(
                {"shape": shape, "p": p, "p_low": low, "p_high": high, "exponent": 1.0 / p}
                | {"low": 1.0 / high, "high": 1.0 / low, "points": slope.points}
            )
    return rows


def add_options(parser: _command.Parser) -> None:
    """Add what a search takes."""
    add = parser.add_argument
    add(
        "--scheme",
        type=_command.name_of("scheme", ("srk", "srk_martingale", "srk_third_point", "exponential_euler")),
        metavar="NAME",
        help="whose hard instances are looked for (default: srk)",
    )
    add(
        "--steps",
        type=_command.listed(_command.integer("steps", 8, 1024)),
        metavar="K,…",
        help=f"numbers of steps of the searches (default: {','.join(map(str, STEPS))})",
    )
    add(
        "--dimensions",
        type=_command.listed(_command.integer("dimension", 10, 10_000_000)),
        metavar="D,…",
        help=f"dimensions over which the exponent is looked for (default: {','.join(f'{d:g}' for d in DIMENSIONS)})",
    )
    add("--seeds", type=_command.integer("seeds", 1, 1000), metavar="N", help="searches of each kind (default: 2)")
    add(
        "--budget",
        type=_command.integer("budget", 40, 1_000_000),
        metavar="N",
        help="evaluations of a search, roughly; twice for an exponent (default: 120)",
    )


STUDY = Study(
    name="hard_instances",
    described=__doc__ or "",
    example="python -m studies.hard_instances --scheme srk_martingale --seeds 8 --budget 1000",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_hard_instances_report.report,
    add_options=add_options,
    full={"scheme": "srk", "steps": STEPS, "seeds": 2, "budget": 120, "dimensions": DIMENSIONS},
    quick={"steps": (16, 32), "seeds": 1, "budget": 40, "dimensions": DIMENSIONS[::2]},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Where higher order breaks down as the early stop δ → 0 and the components' variance v → 0.

A mixture of two narrow components on the line; KL is exact. V = 1 − (1 − v) e^{−2τ} is the variance of a component of
q_τ. The score falls there with slope 1/V, steeper by (1 − v) e^{−2τ}/V than that of N(0, 1): times the length h of a
step that is its stiffness, which a local expansion needs to be small. A stiff step matters as far as the output
remembers it: b is the largest stiffness times correlation with the output on a grid. KL and its order in 1/K, between
K and 2K, are measured against b on uniform, exponential and optimised grids. Method and results:
docs/studies/roughness.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log

import numpy as np

import srkverify as sv
from srkverify._check import Array
from srkverify.divergence import reduce
from srkverify.divergence.reduction import Block
from srkverify.optimal_grid import optimal_grid
from srkverify.schedules import warped
from srkverify.schemes import SCHEMES
from studies import _command, _roughness_report
from studies._grids import GRIDS, kl_on
from studies._roughness_orders import breaks, curves, orders, theory
from studies._run import run_command
from studies._study import Row, Study, Tables

SCHEME_NAMES = ("ddpm", "srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde")
GRID_NAMES = ("uniform", "exponential", "optimal")
STOPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
VARIANCES = (0.0, 0.01, 0.1)
STEPS = (8, 16, 32, 64, 128, 256)
MOST_WITH_MEMORY = 64  # steps of schemes whose exact KL is that of a density in two dimensions
# The optimal shape has the least geometric mean of DDPM's KL at these K. Its errors have one sign; SRK's have both,
# so that a grid can be found on which they cancel at one K, and no order is to be seen.
TUNED_FOR, TUNED_AT, KNOTS = "ddpm", (32, 64), 3
_MOST_WORK = 1e8  # of one KL: some are small beside the densities that cancel in them


@dataclass(frozen=True)
class Cell:
    """KL of a scheme on one target and one kind of grid, with all numbers of steps."""

    scheme: str
    variance: float
    early_stop: float
    grid: str
    steps: tuple[int, ...]
    horizon: float
    mean: float
    tuned_for: str
    tuned_at: tuple[int, ...]
    knots: int

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        fine = self.early_stop < 5e-3 and self.variance < 0.05
        each = {"ddpm": 4e-3, "srk": 0.02, "srk_martingale": 0.02}.get(self.scheme, 0.03)
        if _remembers(self.scheme):
            each = 0.5 if fine else 0.04
        if self.grid == "uniform" and fine:
            each *= 3.0
        return each * len(self.steps) + (0.5 if self.grid == "optimal" else 0.0)


def _remembers(name: str) -> bool:
    return SCHEMES[name](sv.schedules.exponential(2.0, 0.5, 3)).memory > 0


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows: every variance, and those in ratio to the early stop.

    Raises
    ------
    ValueError
        If an early stop is not before the horizon, or a ratio makes a variance of 1 or more.
    """
    if max(options.early_stops) >= options.horizon:
        raise ValueError(f"--horizon must be > all --early-stops; got {options.horizon:g}, {options.early_stops}")
    if max(options.early_stops) * max(options.ratios, default=0.0) >= 1.0:
        raise ValueError(f"--ratios must be < 1 over the largest of --early-stops; got {options.ratios}")
    pairs = {
        (variance, stop): None
        for stop in options.early_stops
        for variance in (*options.variances, *(ratio * stop for ratio in options.ratios))
    }
    ladder = sorted(options.steps)

    def ladder_of(scheme: str, grid: str) -> tuple[int, ...]:
        most = MOST_WITH_MEMORY if _remembers(scheme) else ladder[-1]
        # Far below the K for which it was found, the shape is not that of a good grid.
        least = min(TUNED_AT) // 2 if grid == "optimal" else ladder[0]
        return tuple(steps for steps in ladder if least <= steps <= most)

    return [
        Cell(
            scheme,
            variance,
            stop,
            grid,
            ladder_of(scheme, grid),
            options.horizon,
            options.mean,
            *((options.tuned_for, TUNED_AT, KNOTS) if grid == "optimal" else ("", (), 0)),
        )
        for grid in options.grids
        for variance, stop in pairs
        for scheme in options.schemes
    ]


def stiffness(times: Array, variance: float) -> tuple[Array, Array]:
    """Return the stiffness of each step, at its end where the score is steepest, and the output's memory of it.

    The memory is the correlation of X_τ at the step's end with X_δ, in one component.
    """
    kept = np.exp(-2.0 * times)
    total = variance * kept - np.expm1(-2.0 * times)
    stiff = (times[:-1] - times[1:]) * (1.0 - variance) * kept[1:] / total[1:]
    return stiff, np.exp(times[-1] - times[1:]) * np.sqrt(total[-1] / total[1:])


def solve(cell: Cell) -> list[Row]:
    """Return a row for every number of steps; one with a note if the engine cannot hold the density."""
    blocks = reduce(sv.GaussianMixture([0.4, 0.6], [[-cell.mean], [cell.mean]], cell.variance))
    lone = reduce(sv.GaussianMixture([1.0], [[cell.mean]], cell.variance))
    span = cell.horizon, cell.early_stop
    warp = _tuned(cell, blocks) if cell.grid == "optimal" else None
    rows: list[Row] = []
    for steps in cell.steps:
        times = GRIDS[cell.grid](*span, steps) if warp is None else warped(*span, steps, warp)
        found, component = (kl_on(times, each, cell.scheme, most_work=_MOST_WORK) for each in (blocks, lone))
        known, (stiff, memory) = isfinite(found.value), stiffness(times, cell.variance)
        rows.append(
            {
                "scheme": cell.scheme,
                "grid": cell.grid,
                "variance": cell.variance,
                "early_stop": cell.early_stop,
                "steps": steps,
                "stiffness": float((stiff * memory).max()),
                "stiffest_step": float(stiff.max()),
                "kl": found.value if known else None,
                "error": found.error if known else None,
                "component_kl": component.value,
                "warp": None if warp is None else " ".join(f"{value:.6g}" for value in warp),
                "note": "" if known else "no KL: the density spreads over more grid points than the engine holds",
            }
        )
    return rows


def _tuned(cell: Cell, blocks: Sequence[Block]) -> Array:
    """Return the warp of least geometric mean of KL at ``tuned_at``."""

    def mean(times: Array) -> float:
        values = [kl_on(_resized(times, steps), blocks, cell.tuned_for).value for steps in cell.tuned_at]
        return exp(sum(map(log, values)) / len(values)) if min(values) > 0.0 and max(values) < inf else inf

    return optimal_grid(mean, cell.horizon, cell.early_stop, max(cell.tuned_at), cell.knots).warp


def _resized(times: Array, steps: int) -> Array:
    """Return the grid of the same shape with fewer steps, for its clock is even in the number of the step."""
    return times[:: (len(times) - 1) // steps]


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows, the orders between K and 2K, their course in the stiffness, where they break, and the theory."""
    known = orders(rows)
    return {
        "": list(rows),
        "_orders": known,
        "_curves": curves(known),
        "_breaks": breaks(known),
        "_theory": theory(known),
    }


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    parser.add_names("schemes", "scheme", SCHEMES, SCHEME_NAMES)
    grids = (*GRIDS, "optimal")
    add("--grids", type=_command.listed(_command.name_of("grid", grids)), metavar="NAME,…", help=", ".join(grids))
    add(
        "--early-stops",
        type=_command.listed(_command.number("early stop", above=0.0)),
        metavar="δ,…",
        help="forward times of the end (default: 0.1,0.01,0.001,1e-4,1e-6)",
    )
    add(
        "--variances",
        type=_command.listed(_command.number("variance", at_least=0.0, below=1.0)),
        metavar="V,…",
        help="of the components (default: 0,0.01,0.1)",
    )
    add(
        "--ratios",
        type=_command.listed(_command.number("ratio", above=0.0)),
        metavar="R,…",
        help="variances in units of each early stop (default: 1)",
    )
    add(
        "--steps",
        type=_command.listed(_command.integer("steps", 2, 1 << 12)),
        metavar="K,…",
        help=f"steps (default: 8,16,…,256; up to {MOST_WITH_MEMORY} for schemes with memory)",
    )
    add(
        "--tuned-for",
        type=_command.name_of("scheme", SCHEMES),
        default=TUNED_FOR,
        metavar="NAME",
        help=f"scheme whose KL the optimal grid makes small (default: {TUNED_FOR})",
    )
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--mean", type=_command.number("mean", above=0.0), metavar="M", help="components at ±M (1)")


STUDY = Study(
    name="roughness",
    described=__doc__ or "",
    example="python -m studies.roughness --schemes ddpm,srk --early-stops 0.01 --variances 0.1,0.01,1e-3,1e-4,0",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_roughness_report.report,
    add_options=add_options,
    full={
        "schemes": SCHEME_NAMES,
        "grids": GRID_NAMES,
        "early_stops": STOPS,
        "variances": VARIANCES,
        "ratios": (1.0,),
        "steps": STEPS,
        "horizon": 6.0,
        "mean": 1.0,
    },
    quick={
        "schemes": ("ddpm", "srk", "srk_third_point"),
        "early_stops": (1e-1, 1e-2, 1e-4),
        "variances": (0.0, 0.1),
        "steps": (8, 16, 32, 64, 128),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Does the bound hold for the KL of paths, which its proof bounds, and is DDPM's d/K against SRK's 1/K² seen there.

For random mixtures and a product, each sampler, dimension d and number of steps K, the KL of whole paths under the
forward process from those of the sampler's chain is estimated from simulated paths, and the KL of the output beside
it. The law C d^a K^−p fitted to it gives K* ~ d^{a/p} (1/ε)^{2/p}, beside the theorems' d/ε² for DDPM and d^{3/2}/ε
for SRK (arXiv 2410.04760). Samplers start from the exact q_T. Method and results: docs/studies/path_scaling.md.
"""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, nan
from typing import Any

import srkverify as sv
from srkverify.divergence import PathDivergence, UnreliableEstimateWarning, reduce
from srkverify.divergence.sampled import LEAST_INNER
from srkverify.schemes import COMPARED, SCHEMES
from srkverify.tableau import Tableau
from studies import _command, _path_report
from studies._kl_table import KLTable
from studies._mixtures import FAMILIES
from studies._power_law import fit_power_law
from studies._run import run_command
from studies._study import Row, Study, Tables
from studies._theorems import theorem

STEPS = (16, 32, 64, 128, 256)
QUICK: dict[str, tuple[Any, ...] | float] = {
    "families": ("product_mixture", "diagonal_10", "full_2"),
    "dimensions": (4, 16, 64),
    "steps": (16, 32, 64),
    "budget": 0.03,
}
HORIZON, EARLY_STOP = 6.0, 0.01
BUDGET = 0.1  # processor seconds a cell
INNER = LEAST_INNER  # paths a start: more would serve the KL of the output alone, for a start gives path KL but one
MOST_RELATIVE_ERROR = 0.25  # of what a fit uses: beyond, a logarithm is biased
_AIM = 0.04
_PILOT_STARTS, _LEAST_STARTS = 32, 128

_EXACT = KLTable()  # what a process has evaluated: the product's block is the same in every dimension


@dataclass(frozen=True)
class Cell:
    """One sampler with one number of steps on a family in one dimension.

    Attributes
    ----------
    family, scheme, dimension, steps
    particles : paths, or None for as many as accuracy needs and ``budget`` pays for.
    budget : processor seconds, roughly.
    seed : of the whole grid; the cell's own are made from it.
    """

    family: str
    scheme: str
    dimension: int
    steps: int
    particles: int | None
    budget: float
    seed: int

    @property
    def a_start(self) -> float:
        """Processor seconds of a start with its paths, roughly."""
        return 1e-6 * (INNER + 1) * self.steps * FAMILIES[self.family].microseconds(self.dimension)

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        if self.particles is not None:
            return self.a_start * self.particles / INNER
        return max(self.budget, self.a_start * _PILOT_STARTS)

    def own_seed(self, purpose: str) -> int:
        """Return a seed of the cell's own, whatever else the grid holds and however many particles it takes."""
        name = f"{self.seed} {self.family} {self.scheme} {self.dimension} {self.steps} {purpose}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows."""
    return [
        Cell(family, scheme, dimension, steps, options.particles, options.budget, options.seed)
        for family in options.families
        for scheme in options.schemes
        for dimension in sorted(options.dimensions or FAMILIES[family].dimensions)
        for steps in sorted(options.steps)
    ]


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell; a sampler whose output law is beyond double precision gives one with a note."""
    tableau = SCHEMES[cell.scheme](sv.schedules.exponential(HORIZON, EARLY_STOP, cell.steps))
    target = FAMILIES[cell.family].target(cell.dimension)
    exact = None
    if cell.family == "product_mixture":
        exact = _EXACT.kl(reduce(target), cell.scheme, HORIZON, EARLY_STOP, cell.steps)
    started = time.perf_counter()
    found, note = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableEstimateWarning)  # its reasons are kept in the row
            found = estimate(cell, target, tableau)
    except ValueError as problem:
        note = str(problem)
    return [
        {
            "family": cell.family,
            "scheme": cell.scheme,
            "dimension": cell.dimension,
            "steps": cell.steps,
            "nfe": tableau.nfe,
            "path_kl": found and found.path_kl,
            "path_error": found and found.path_error,
            "bound": "upper" if tableau.stage_noise.any() else "exact",
            "marginal_kl": found and found.value,
            "marginal_error": found and found.error,
            "standard_error": found and found.standard_error,
            "exact_kl": exact and exact.value,
            "exact_error": exact and exact.error,
            "check": found and found.check.value,
            "check_error": found and found.check.error,
            "ess": found and found.ess,
            "starts": found and found.starts,
            "inner": found and found.inner,
            "doubts": "; ".join(found.doubts) if found else "",
            "seconds": round(time.perf_counter() - started, 3),
            "note": note,
        }
    ]


def estimate(cell: Cell, target: sv.targets.Target, tableau: Tableau) -> PathDivergence:
    """Return the estimate from the cell's particles, or from as many as its accuracy needs and the budget pays for.

    A pilot run tells how many that is. Where path KL is small, its variance from one path is up to twice itself.
    """

    def kl(particles: int, purpose: str) -> PathDivergence:
        seed = cell.own_seed(purpose)
        return sv.kl(target, tableau, "path", particles=particles, seed=seed, inner=INNER, threads=1, progress=False)

    if cell.particles is not None:
        return kl(cell.particles, "run")
    affordable = int(cell.budget / cell.a_start)
    if affordable <= _LEAST_STARTS:
        return kl(INNER * max(affordable, _PILOT_STARTS), "run")
    pilot = kl(INNER * _PILOT_STARTS, "pilot")
    copies = cell.dimension if cell.family == "product_mixture" else 1
    variance = _PILOT_STARTS * (pilot.path_error / copies) ** 2
    least = max(pilot.path_kl / copies, 0.5 * variance)
    wanted = variance / (_AIM * least) ** 2 if least > 0.0 else inf
    return kl(INNER * int(min(max(wanted, _LEAST_STARTS), affordable)), "run")


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return the rows, and the laws fitted to them."""
    return {"": rows, "_fits": fits(rows)}


def fits(rows: Sequence[Row]) -> list[Row]:
    """Fit power laws to path and marginal KL, for each family and scheme, to all K and to the upper half of them."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["scheme"]), []).append(row)
    rungs = sorted({row["steps"] for row in rows})
    windows = {"all": rungs, "upper half": rungs[-max(2, (len(rungs) + 1) // 2) :]}
    return [
        _fit(family, scheme, quantity, window, [row for row in group if row["steps"] in kept])
        for (family, scheme), group in groups.items()
        for quantity in ("path", "marginal")
        for window, kept in windows.items()
    ]


def _fit(family: str, scheme: str, quantity: str, window: str, rows: Sequence[Row]) -> Row:
    found = [(row["dimension"], row["steps"], *_value(row, quantity)) for row in rows]
    used = [each for each in found if each[2] > 0.0 and each[3] <= MOST_RELATIVE_ERROR * each[2]]
    dimensions, steps, values, errors = ([each[column] for each in used] for column in range(4))
    law = fit_power_law(dimensions, steps, values, errors)
    a, b = theorem(scheme)
    named = {"a": law.dimension, "p": law.steps, "cost_d": law.cost_dimension, "cost_eps": law.cost_accuracy}
    return {
        "family": family,
        "scheme": scheme,
        "quantity": quantity,
        "window": window,
        **{
            f"{name}{end}": getattr(exponent, part)
            for name, exponent in named.items()
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        },
        "theorem_d": a,
        "theorem_eps": b,
        "constant": law.constant,
        "log_dk": sum(log(each[0] * each[1]) for each in used) / max(1, len(used)),
        "scatter": law.scatter,
        "points": law.points,
        "left_out": len(found) - law.points,
    }


def _value(row: Row, quantity: str) -> tuple[float, float]:
    """Return a KL and its error, exact where it is known; NaN where there is none."""
    keys = ("path_kl", "path_error") if quantity == "path" else ("marginal_kl", "marginal_error")
    if quantity == "marginal" and row["exact_kl"] is not None:
        keys = ("exact_kl", "exact_error")
    value, error = (row[key] for key in keys)
    return (value, error) if value is not None and isfinite(value) else (nan, inf)


def add_options(command: _command.Parser) -> None:
    """Add the grid's options."""
    add = command.add_argument
    command.add_names("families", "family", FAMILIES)
    command.add_names("schemes", "scheme", SCHEMES)
    affordable = "4, 16, … up to what each family can afford, 256 to 16"
    command.add_integers("dimensions", "dimension", 1, 1_000, affordable)
    command.add_integers("steps", "steps", 2, 1 << 16, STEPS)
    add(
        "--particles",
        type=_command.integer("particles", 4 * INNER, 1 << 40),
        metavar="N",
        help=f"paths of every cell, {INNER} of a start (default: what {100 * _AIM:g}%% accuracy of path KL needs)",
    )
    add(
        "--budget",
        type=_command.number("budget", above=0.0),
        metavar="S",
        help=f"processor seconds that a cell may take, roughly, unless --particles is given (default: {BUDGET:g})",
    )
    add(
        "--seed",
        type=_command.integer("seed", 0, 1 << 53),
        default=0,
        metavar="N",
        help="of all that is random but the targets (default: 0)",
    )


STUDY = Study(
    name="path_scaling",
    described=__doc__ or "",
    example="python -m studies.path_scaling --quick\n"
    "python -m studies.path_scaling --families diagonal_10,full_10 --schemes ddpm,srk \\\n"
    "    --dimensions 4,16,64 --steps 32,64,128,256,512 --budget 5 --out paths",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_path_report.report,
    add_options=add_options,
    full={"families": tuple(FAMILIES), "schemes": COMPARED, "steps": STEPS, "budget": BUDGET},
    quick=QUICK,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

"""What does starting from N(0, I) cost, against e^{−2T} d, and which horizon T balances it.

KL(q_T ‖ N(0, I)) and what the exact reverse process has left of it at the early stop are computed exactly, against T.
For each sampler and K the horizon of least KL, from that start and on the exponential grid, is found by optimisation:
a longer one wastes steps. Its growth in K and d and its gain over T = 6 follow. Method and results:
docs/studies/initialisation.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, nan

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import linregress
from scipy.stats import t as student

import srkverify as sv
from srkverify.complexity import Exponent
from srkverify.divergence import start_kl
from srkverify.schemes import SCHEMES
from srkverify.targets.families import FAMILIES
from studies import _command, _initialisation_report
from studies._run import run_command
from studies._study import Row, Study, Tables

FAMILY_NAMES = ("product_mixture", "two_point", "gaussian_decaying")
SCHEME_NAMES = ("ddpm", "srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde")
DIMENSIONS = (4, 100, 10_000)
STEPS = (16, 32, 64, 128)
HORIZONS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
USUAL = 6.0
_TAIL = 3.0  # forward times from which on rates are fitted
_SEARCHED = (0.4, 14.0)
_SCANNED = 13  # horizons at which the search looks first: KL may have several minima
_CLOSE = 0.02  # of T*
_RELATIVE = 2e-3


@dataclass(frozen=True)
class Cell:
    """One target: with a horizon alone, the law at the start; with a sampler and K, the horizon of least KL."""

    family: str
    dimension: int
    early_stop: float
    horizon: float | None
    scheme: str | None
    steps: int | None

    @property
    def cost(self) -> float:
        """Processor seconds, roughly: thirty KLs for a search."""
        if self.steps is None or self.scheme is None:
            return 0.03
        if self.family == "gaussian_decaying":
            return 0.1 + 2e-5 * self.dimension
        return 0.1 + (3.0 if self.scheme == "dpmpp_2m_sde" else 0.8) * (self.steps / 64) ** 1.4


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows."""
    targets = [(family, d) for family in options.families for d in sorted(options.dimensions)]
    starts = [
        Cell(family, d, options.early_stop, horizon, None, None)
        for family, d in targets
        for horizon in sorted(options.horizons)
    ]
    searches = [
        Cell(family, d, options.early_stop, None, scheme, steps)
        for family, d in targets
        for scheme in options.schemes
        for steps in sorted(options.steps)
    ]
    return starts + searches


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell, of kind "start" or "balance"."""
    return [_start(cell) if cell.scheme is None else _balance(cell)]


def _start(cell: Cell) -> Row:
    assert cell.horizon is not None
    target = FAMILIES[cell.family].target(cell.dimension)
    at_start = start_kl(target, cell.horizon)
    left = start_kl(target, cell.horizon, seen_at=cell.early_stop)
    return {
        "kind": "start",
        "family": cell.family,
        "dimension": cell.dimension,
        "horizon": cell.horizon,
        "kl_start": at_start.value,
        "kl_start_error": at_start.error,
        "kl_output": left.value,
        "kl_output_error": left.error,
        "bound": cell.dimension * exp(-2.0 * cell.horizon),
    }


def _balance(cell: Cell) -> Row:
    """Find T* by a scan and a search about its best; KL there, at the usual T, and from the exact start."""
    assert cell.scheme is not None
    assert cell.steps is not None
    target, scheme, steps = FAMILIES[cell.family].target(cell.dimension), SCHEMES[cell.scheme], cell.steps

    def kl(horizon: float, start: str = "normal") -> float:
        tableau = scheme(sv.schedules.exponential(horizon, cell.early_stop, steps))
        try:
            return sv.kl(target, tableau, start=start, absolute=1e-14, relative=_RELATIVE).value
        except ValueError as problem:
            if not str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
                raise
            return inf

    scanned = np.geomspace(*_SEARCHED, _SCANNED)
    values = [kl(float(horizon)) for horizon in scanned]
    best = int(np.argmin(values))
    around = scanned[max(0, best - 1)], scanned[min(_SCANNED - 1, best + 1)]
    found = minimize_scalar(
        lambda t: log(max(kl(float(t)), 1e-300)), bounds=around, method="bounded", options={"xatol": _CLOSE}
    )
    horizon, value = float(found.x), exp(float(found.fun))
    if values[best] <= value:
        horizon, value = float(scanned[best]), values[best]
    return {
        "kind": "balance",
        "family": cell.family,
        "dimension": cell.dimension,
        "scheme": cell.scheme,
        "steps": steps,
        "horizon": horizon,
        "kl": value,
        "kl_exact_start": kl(horizon, "exact"),
        "kl_usual": kl(USUAL),
        "at_edge": bool(best in (0, _SCANNED - 1)),
    }


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the optima, the laws at the start, and the fits of both."""
    starts, optima = (
        [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == kind]
        for kind in ("start", "balance")
    )
    return {"": optima, "_starts": starts, "_rates": rates(starts), "_growth": growth(optima)}


def rates(starts: Sequence[Row]) -> list[Row]:
    """Fit KL ~ C e^{−rT}, at the start and at the output, to the later horizons of each target."""
    fitted = []
    for family, d in dict.fromkeys((row["family"], row["dimension"]) for row in starts):
        tail = [row for row in starts if (row["family"], row["dimension"]) == (family, d) and row["horizon"] >= _TAIL]
        for of in ("kl_start", "kl_output"):
            known = [(row["horizon"], log(row[of])) for row in tail if row[of] > 20.0 * row[f"{of}_error"]]
            slope = line([time for time, _ in known], [value for _, value in known])
            constant = exp(known[-1][1] - round(slope.value) * known[-1][0]) if known and isfinite(slope.value) else nan
            fitted.append(
                {
                    "family": family,
                    "dimension": d,
                    "of": of,
                    "rate": -slope.value,
                    "low": -slope.high,
                    "high": -slope.low,
                    "constant": constant,
                    "points": slope.points,
                }
            )
    return fitted


def growth(optima: Sequence[Row]) -> list[Row]:
    """Fit T* = a + b log K for each target and sampler."""
    fitted = []
    for family, d, scheme in dict.fromkeys((row["family"], row["dimension"], row["scheme"]) for row in optima):
        own = [
            row
            for row in optima
            if (row["family"], row["dimension"], row["scheme"]) == (family, d, scheme) and not row["at_edge"]
        ]
        slope = line([log(row["steps"]) for row in own], [row["horizon"] for row in own])
        fitted.append(
            {
                "family": family,
                "dimension": d,
                "scheme": scheme,
                "slope": slope.value,
                "low": slope.low,
                "high": slope.high,
                "points": slope.points,
            }
        )
    return fitted


def line(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Exponent:
    """Least-squares slope with its Student-t interval; NaN where the data do not determine it."""
    if len(set(x)) < 2:
        return Exponent(nan, nan, nan, len(x))
    fit = linregress(x, y)
    half = float(student.ppf(0.5 + 0.5 * confidence, len(x) - 2)) * float(fit.stderr) if len(x) > 2 else nan
    return Exponent(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, len(x))


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    parser.add_names("families", "family", FAMILIES, FAMILY_NAMES)
    parser.add_names("schemes", "scheme", SCHEMES, SCHEME_NAMES)
    parser.add_integers("dimensions", "dimension", 1, 1_000_000, DIMENSIONS)
    parser.add_integers("steps", "steps", 2, 4096, STEPS)
    add(
        "--horizons",
        type=_command.listed(_command.number("horizon", above=0.0)),
        metavar="T,…",
        help="horizons at which the start's own error is computed (default: 0.5 … 8)",
    )
    add("--early-stop", type=_command.number("early stop", above=0.0, below=0.4), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="initialisation",
    described=__doc__ or "",
    example="python -m studies.initialisation --families product_mixture --schemes ddpm,srk --steps 32,64,128,256",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_initialisation_report.report,
    add_options=add_options,
    full={
        "families": FAMILY_NAMES,
        "schemes": SCHEME_NAMES,
        "dimensions": DIMENSIONS,
        "steps": STEPS,
        "horizons": HORIZONS,
        "early_stop": 0.01,
    },
    quick={"dimensions": (4, 100), "steps": (16, 32, 64), "schemes": ("ddpm", "srk", "srk_martingale")},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

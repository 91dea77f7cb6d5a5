"""Does SRK's bound K = Õ(d^{3/2}/ε) hold, how loose is it, and what is SRK's advantage over DDPM.

For each family of targets, sampler, dimension d and accuracy ε, the number of steps K* from which on KL ≤ ε² is found
from exact KLs; the exponents of K* in d and 1/ε stand beside the theorems' (arXiv 2410.04760: d^{3/2}/ε for SRK,
d/ε² for DDPM). Samplers start from the exact q_T, so that discretisation alone is measured. Method and results:
docs/studies/dimension_scaling.md.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import dimension_scaling as figure
from srkverify.complexity import ExponentFit, KLCurve, fit_exponents, measured_curve, steps_to_reach
from srkverify.divergence import Divergence, reduce
from srkverify.schemes import SCHEMES
from srkverify.targets.families import FAMILIES
from studies import _command, _scaling_report
from studies._kl_table import KLTable, score_evaluations
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

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One curve KL(K): a family in one dimension under one scheme."""

    family: str
    scheme: str
    dimension: int
    horizon: float
    early_stop: float


@dataclass(frozen=True)
class Results:
    """What a run computes: rows of K*, of the KL curves and of the fitted exponents; and whether of all cells."""

    rows: list[Row]
    curves: list[Row]
    fits: list[Row]
    complete: bool


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, dearest dimensions first.

    Raises
    ------
    ValueError
        If an early stop is not before its horizon.
    """
    grid = []
    for dimension in sorted(options.dimensions, reverse=True):
        for scheme in options.schemes:
            for name in options.families:
                family = FAMILIES[name]
                horizon = family.horizon(dimension) if options.horizon is None else options.horizon
                stop = family.early_stop(dimension) if options.early_stop is None else options.early_stop
                if stop >= horizon:
                    raise ValueError(
                        f"argument --horizon: horizon must be > the early stop, {stop:g} for {name}; got {horizon:g}"
                    )
                grid.append(Cell(name, scheme, dimension, horizon, stop))
    return grid


def run(options: Namespace) -> Results:
    """Compute every cell of the grid, in parallel; an interrupt returns the cells that are done."""
    table, grid = KLTable(), cells(options)
    done: dict[Cell, tuple[list[Row], list[Row]]] = {}
    with _command.workers(os.cpu_count(), len(grid), "curve") as (pool, bar):
        futures: dict[Future[tuple[list[Row], list[Row]]], Cell] = {
            pool.submit(solve, cell, options, table): cell for cell in grid
        }
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            bar.update()
    order = [
        (family, scheme, dimension)
        for family in options.families
        for scheme in options.schemes
        for dimension in sorted(options.dimensions)
    ]
    by_name = {(cell.family, cell.scheme, cell.dimension): result for cell, result in done.items()}
    rows = [row for name in order if name in by_name for row in by_name[name][0]]
    curves = [row for name in order if name in by_name for row in by_name[name][1]]
    return Results(rows, curves, fits(rows), len(done) == len(grid))


def solve(cell: Cell, options: Namespace, table: KLTable) -> tuple[list[Row], list[Row]]:
    """Return the rows of K*(ε) and of the curve of one cell; a cell beyond the engines gives rows with a note."""
    blocks = reduce(FAMILIES[cell.family].target(cell.dimension))
    evaluated: dict[int, Divergence] = {}

    def kl(steps: int) -> Divergence:
        if steps not in evaluated:
            evaluated[steps] = table.kl(blocks, cell.scheme, cell.horizon, cell.early_stop, steps)
        return evaluated[steps]

    label = {"family": cell.family, "scheme": cell.scheme, "dimension": cell.dimension}
    epsilons = sorted(options.epsilons, reverse=True)
    each, extra = score_evaluations(cell.scheme)
    curve: KLCurve | None = None
    rows = []
    for epsilon in epsilons:
        row = {**label, "epsilon": epsilon, "horizon": cell.horizon, "early_stop": cell.early_stop}
        try:
            if curve is None:
                curve = measured_curve(kl, options.ladder, epsilons, nfe_per_step=each, extra_nfe=extra)
            found = steps_to_reach(curve, epsilon, kl, options.exact_up_to)
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
    points = [
        {**label, "steps": steps, "nfe": each * steps + extra, "kl": point.value, "kl_error": point.error}
        for steps, point in sorted(evaluated.items())
    ]
    return rows, points


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


def write(results: Results, options: Namespace, elapsed: float) -> list[Path]:
    """Write rows, curves, fits and metadata; return their paths."""
    stem = options.out / "dimension_scaling"
    tables = {"": results.rows, "_curves": results.curves, "_fits": results.fits}
    written = []
    for suffix, rows in tables.items():
        written.append(Path(f"{stem}{suffix}.csv"))
        _command.write_rows(written[-1], rows)
    written.append(Path(f"{stem}.json"))
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    _command.write_metadata(written[-1], settings, seconds=round(elapsed, 1))
    return written


def parser() -> _command.Parser:
    """Return the command line."""
    described = (__doc__ or "").strip()
    result = _command.Parser(
        prog="python -m studies.dimension_scaling",
        description=described,
        epilog="example:\n  python -m studies.dimension_scaling --families product_mixture,rough \\\n"
        "      --schemes ddpm,srk --dimensions 1,10,1e3 --epsilons 0.1,0.01 --out scaling",
    )
    add = result.add_argument
    add(
        "--families",
        type=_command.listed(_command.name_of("family", FAMILIES)),
        metavar="NAME,…",
        help=f"families of targets (default: all): {', '.join(FAMILIES)}",
    )
    add(
        "--schemes",
        type=_command.listed(_command.name_of("scheme", SCHEMES)),
        metavar="NAME,…",
        help=f"samplers (default: {', '.join(SCHEME_NAMES)}); known: {', '.join(SCHEMES)}",
    )
    add(
        "--dimensions",
        type=_command.listed(_command.integer("dimension", 1, 1_000_000)),
        metavar="D,…",
        help=f"dimensions (default: {','.join(f'{d:g}' for d in DIMENSIONS)})",
    )
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
    result.add_output_options()
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    command = parser()
    options = command.parse_args(argv)
    full = {
        "families": FAMILY_NAMES,
        "schemes": SCHEME_NAMES,
        "dimensions": DIMENSIONS,
        "epsilons": EPSILONS,
        "ladder": LADDER,
    }
    _command.fill_in(options, full, QUICK)
    options.ladder = tuple(sorted(options.ladder))
    started = time.perf_counter()
    try:
        results = run(options)
        # Rows first: what comes after may fail, and nothing computed is to be lost.
        files = write(results, options, time.perf_counter() - started)
        print(_scaling_report.report(results.rows, results.fits))
        if any(row["steps"] is not None for row in results.rows):
            files += figure.save(results.rows, options.out)
    except (ValueError, OSError) as problem:
        command.error(str(problem))
    print("\nWritten: " + " ".join(str(path) for path in files))
    return 0 if results.complete else 130  # what shells report of an interrupted command


if __name__ == "__main__":
    sys.exit(main())

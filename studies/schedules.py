"""What the KL-optimal time grid is for a target and a scheme, and what it gains over the grids in use.

KL is exact; it is minimised over grids that are uniform in a warped log-SNR, with a few parameters
(srkverify.optimal_grid). Beside the optimum stand exponential, uniform, cosine, linear-β and uniform log-SNR grids: the
factor in KL, and the steps that they need for the same KL. Each optimum is tried on all other targets and schemes and
with more steps, which says whether one shape serves them all. Method and results: docs/studies/schedules.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import inf, isfinite, log, sqrt

import numpy as np

import srkverify as sv
from srkverify._check import Array
from srkverify.complexity import KLCurve, steps_to_reach
from srkverify.divergence import Divergence, reduce
from srkverify.divergence.reduction import Block
from srkverify.optimal_grid import optimal_grid
from srkverify.schemes import SCHEMES
from srkverify.targets import Target
from srkverify.targets.families import FAMILIES
from studies import _command, _schedules_report
from studies._grids import GRIDS, kl_on, step_density
from studies._run import run_command
from studies._study import Row, Study, Tables

TARGETS: dict[str, Callable[[], Target]] = {
    "overlapping": lambda: sv.GaussianMixture([0.4, 0.6], [[-0.75], [0.75]], 0.25),
    "narrow": lambda: sv.GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.01),
    "gaussian_decaying": lambda: FAMILIES["gaussian_decaying"].target(100),
    "low_rank": lambda: FAMILIES["low_rank"].target(16),
}
SCHEME_NAMES = ("ddpm", "srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde")
STEPS = (16, 32, 64)
LADDER = (8, 16, 32, 64, 128, 256, 512)  # of the grids in use, on which the equivalent number of steps is read off
_DENSITY_POINTS, _DENSITY_STEPS = 49, 4000


@dataclass(frozen=True)
class Cell:
    """KL of a scheme on a target: on the grids in use, at all ``steps``; or optimised, at the one there is.

    ``kind`` is "named" or "optimal", or "shapes": the step densities of the grids in use. The optimum is found with
    each number of ``parameters``; that of the most is tried with ``factors`` times the steps, and on the other
    ``targets`` and ``schemes``.
    """

    kind: str
    target: str
    scheme: str
    steps: tuple[int, ...]
    horizon: float
    early_stop: float
    parameters: tuple[int, ...] = ()
    factors: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """Processor seconds, roughly: milliseconds a KL, times how many are evaluated."""
        if self.kind == "shapes":
            return 0.01
        each = _seconds(self.target, self.scheme)
        if self.kind == "named":
            return each * len(GRIDS) * sum(sqrt(steps / 32) for steps in self.steps)
        others = sum(_seconds(target, scheme) for target in self.targets for scheme in self.schemes)
        return 35.0 * each * sum(self.parameters) + others


def _seconds(target: str, scheme: str) -> float:
    if target == "gaussian_decaying":
        return 1e-3
    return {"dpmpp_2m_sde": 0.02, "ddpm": 4e-3}.get(scheme, 0.01) * (2.5 if target == "narrow" else 1.0)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the horizon is not after the early stop.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    span = options.horizon, options.early_stop
    steps, parameters = tuple(sorted(options.steps)), tuple(sorted(options.parameters))
    pairs = [(target, scheme) for target in options.targets for scheme in options.schemes]
    ladder = tuple(sorted({*options.ladder, *steps}))
    named = [Cell("named", target, scheme, ladder, *span) for target, scheme in pairs]
    others = tuple(options.targets), tuple(options.schemes)
    return [Cell("shapes", "", "", (), *span), *named] + [
        Cell("optimal", target, scheme, (count,), *span, parameters, (2, 4), *others)
        for target, scheme in pairs
        for count in steps
    ]


def solve(cell: Cell) -> list[Row]:
    """Return rows of KL; for an optimum also of its transfer and of its step density."""
    if cell.kind == "shapes":
        return [row for name, grid in GRIDS.items() for row in _density_rows(cell, name, grid)]
    blocks = reduce(TARGETS[cell.target]())
    if cell.kind == "named":
        found = {
            (name, steps): kl_on(grid(cell.horizon, cell.early_stop, steps), blocks, cell.scheme)
            for name, grid in GRIDS.items()
            for steps in cell.steps
        }
        return [_row(cell, steps, name, one) for (name, steps), one in found.items()]
    return _optimised(cell, blocks)


def _optimised(cell: Cell, blocks: Sequence[Block]) -> list[Row]:
    (steps,), rows = cell.steps, []
    span = cell.horizon, cell.early_stop
    for parameters in cell.parameters:
        best = optimal_grid(lambda times: kl_on(times, blocks, cell.scheme).value, *span, steps, parameters)
        one = kl_on(best.times, blocks, cell.scheme)
        more = {"parameters": parameters, "start": best.start, "evaluations": best.evaluations}
        rows.append({**_row(cell, steps, "optimal", one), **more, "warp": " ".join(f"{s:.6g}" for s in best.warp)})
    # Tried elsewhere: the optimum of the most parameters, and the grids in use beside it.
    warp, donor = best.warp, {"from_target": cell.target, "from_scheme": cell.scheme, "from_steps": steps}
    law = {target: reduce(TARGETS[target]()) for target in cell.targets}
    trials = [(cell.target, cell.scheme, factor * steps) for factor in cell.factors]
    trials += [(target, scheme, steps) for target in cell.targets for scheme in cell.schemes]
    for target, scheme, count in trials:
        one = kl_on(sv.schedules.warped(*span, count, warp), law[target], scheme)
        to = {"target": target, "scheme": scheme, "steps": count}
        rows.append({"kind": "transfer", **donor, **to, "kl": one.value, "error": one.error})
    return rows + _density_rows(cell, "optimal", partial(sv.schedules.warped, warp=warp))


def _row(cell: Cell, steps: int, grid: str, one: Divergence) -> Row:
    label = {"target": cell.target, "scheme": cell.scheme, "steps": steps, "grid": grid}
    more = {"parameters": None, "start": None, "evaluations": 1, "warp": None}
    return {"kind": "kl", **label, "kl": one.value, "error": one.error, **more}


def _density_rows(cell: Cell, name: str, grid: Callable[..., Array]) -> list[Row]:
    """Return the share of steps per unit of half log-SNR."""
    label = {"target": cell.target, "scheme": cell.scheme, "steps": sum(cell.steps), "grid": name}
    places, density = step_density(grid(cell.horizon, cell.early_stop, _DENSITY_STEPS), _DENSITY_POINTS)
    return [
        {"kind": "density", **label, "log_snr": float(place), "density": float(value)}
        for place, value in zip(places, density, strict=True)
    ]


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return KL on every grid, gains, orders, what optima are worth elsewhere, and step densities."""
    kinds: dict[str, list[Row]] = {"kl": [], "transfer": [], "density": []}
    for row in rows:
        kinds[row["kind"]].append({key: value for key, value in row.items() if key != "kind"})
    best, usual = optima(kinds["kl"]), {_place(row): row for row in kinds["kl"] if row["grid"] == "exponential"}
    for row in kinds["transfer"]:
        own, other = (known.get(_place(row)) for known in (best, usual))
        row["regret"] = row["kl"] / own["kl"] if own else None
        row["gain"] = other["kl"] / row["kl"] if other else None
    return {
        "": kinds["kl"],
        "_gains": gains(kinds["kl"]),
        "_orders": orders(kinds["kl"]),
        "_transfer": kinds["transfer"],
        "_density": kinds["density"],
    }


def _place(row: Row) -> tuple[str, str, int]:
    return row["target"], row["scheme"], row["steps"]


def optima(rows: Sequence[Row]) -> dict[tuple[str, str, int], Row]:
    """Return the optimum of the most parameters of each target, scheme and K."""
    found: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        if row["grid"] == "optimal" and isfinite(row["kl"]):
            key = _place(row)
            if key not in found or row["parameters"] > found[key]["parameters"]:
                found[key] = row
    return found


def gains(rows: Sequence[Row]) -> list[Row]:
    """Return the factor in KL of each optimum against each grid in use, and the steps that grid needs for its KL."""
    curves: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["grid"] != "optimal":
            curves.setdefault((row["target"], row["scheme"], row["grid"]), []).append(row)
    found = []
    for (target, scheme, steps), best in optima(rows).items():
        for grid in GRIDS:
            curve = sorted(curves.get((target, scheme, grid), []), key=lambda row: row["steps"])
            same = [row for row in curve if row["steps"] == steps]
            if not same:
                continue
            label = {"target": target, "scheme": scheme, "steps": steps, "grid": grid}
            factor = same[0]["kl"] / best["kl"]
            found.append(
                {**label, "kl": same[0]["kl"], "optimal_kl": best["kl"], "factor": factor, **_as_many(curve, best)}
            )
    return found


def _as_many(curve: Sequence[Row], best: Row) -> Row:
    """Return how many times the optimum's steps a grid in use needs for its KL."""
    columns = {key: np.array([row[key] for row in curve]) for key in ("steps", "kl", "error")}
    try:
        found = steps_to_reach(KLCurve(columns["steps"], columns["kl"], columns["error"]), sqrt(best["kl"]))
    except ValueError:  # already below at the first rung, or not to be extrapolated
        return dict.fromkeys(("times_steps", "times_steps_low", "times_steps_high"), None) | {"how": "none"}
    counts = (found.steps, found.steps_low, found.steps_high)
    names = ("times_steps", "times_steps_low", "times_steps_high")
    return {name: count / best["steps"] for name, count in zip(names, counts, strict=True)} | {"how": found.how}


def orders(rows: Sequence[Row]) -> list[Row]:
    """Return the local order −Δ log KL/Δ log K of each grid between neighbouring numbers of steps with an optimum."""
    best = optima(rows)
    known = {
        (row["target"], row["scheme"], row["steps"], row["grid"]): row["kl"] for row in rows if row["grid"] in GRIDS
    }
    known |= {(*key, "optimal"): row["kl"] for key, row in best.items()}
    found = []
    for target, scheme in dict.fromkeys(key[:2] for key in best):
        ladder = sorted(steps for *pair, steps in best if pair == [target, scheme])
        for low, high in pairwise(ladder):
            for grid in (*GRIDS, "optimal"):
                ends = [known.get((target, scheme, steps, grid), inf) for steps in (low, high)]
                if all(isfinite(kl) and kl > 0.0 for kl in ends):
                    label = {"target": target, "scheme": scheme, "grid": grid, "steps": low, "to_steps": high}
                    found.append({**label, "order": log(ends[0] / ends[1]) / log(high / low)})
    return found


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add, steps = parser.add_argument, _command.listed(_command.integer("steps", 2, 1 << 12))
    add(
        "--targets",
        type=_command.listed(_command.name_of("target", TARGETS)),
        metavar="NAME,…",
        help=", ".join(TARGETS),
    )
    add(
        "--schemes",
        type=_command.listed(_command.name_of("scheme", SCHEMES)),
        metavar="NAME,…",
        help=", ".join(SCHEMES),
    )
    add("--steps", type=steps, metavar="K,…", help="steps for which the grid is optimised (default: 16,32,64)")
    add("--ladder", type=steps, metavar="K,…", help="steps of the grids in use (default: 8,16,…,512)")
    add(
        "--parameters",
        type=_command.listed(_command.integer("parameters", 2, 16)),
        metavar="M,…",
        help="numbers of knots of the warp, one less are free; the largest is the optimum (default: 2,4)",
    )
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="schedules",
    described=__doc__ or "",
    example="python -m studies.schedules --targets narrow --schemes ddpm,srk --steps 16,128 --parameters 2,4,8",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_schedules_report.report,
    add_options=add_options,
    full={
        "targets": tuple(TARGETS),
        "schemes": SCHEME_NAMES,
        "steps": STEPS,
        "ladder": LADDER,
        "parameters": (2, 4),
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={
        "targets": ("overlapping", "gaussian_decaying"),
        "schemes": ("ddpm", "srk", "srk_third_point"),
        "steps": (16, 32),
        "ladder": (8, 16, 32, 64, 128),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

"""How much of an error does the rest of the run forget: KL of the state against q_t all along the run.

Proofs add up what each step does wrong. But later steps also forget: two laws that go through the same step come nearer
to each other. Here is the exact KL between q_t and the law of the sampler's state at t, for times t along the run.
Where it rises steps err, where it falls they forget more than they err. Method and results: docs/studies/forgetting.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, nan

import numpy as np

from srkverify.schemes import SCHEMES
from studies import _command, _forgetting_report
from studies._league_targets import GRIDS, LAWS, law_kl, memory, steps_within
from studies._run import run_command
from studies._study import Row, Study, Tables

LAWS_SHOWN = ("unimodal", "overlapping", "unequal", "multiscale")
SAMPLERS = ("ddpm", "srk", "srk_martingale", "dpmpp_2m_sde", "srk_third_order_fitted")
_RELATIVE = 1e-2


@dataclass(frozen=True)
class Cell:
    """One sampler with one budget of evaluations on one law: its whole run, seen at ``points`` of it."""

    law: str
    grid: str
    scheme: str
    evaluations: int
    points: int
    horizon: float
    early_stop: float

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        return self.points * (0.5 if memory(self.scheme) > 1 else 0.02)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the early stop is not before the horizon, or a sampler remembers so much that its exact KL is too dear, or
        has no step within the budget.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    for scheme in options.schemes:
        if memory(scheme) > 2:
            raise ValueError(f"--schemes must remember at most two evaluations, for more is too dear; got {scheme}")
        if steps_within(scheme, options.evaluations, options.horizon) == 0:
            raise ValueError(f"--evaluations must pay for a step of {scheme}; got {options.evaluations}")
    return [
        Cell(law, grid, scheme, options.evaluations, options.points, options.horizon, options.early_stop)
        for law in options.laws
        for grid in options.grids
        for scheme in options.schemes
    ]


def solve(cell: Cell) -> list[Row]:
    """Return a row for each point of the run; where KL has no value it is infinite and a note says why."""
    steps = steps_within(cell.scheme, cell.evaluations, cell.horizon)
    tableau = SCHEMES[cell.scheme](GRIDS[cell.grid](cell.horizon, cell.early_stop, steps))
    rows = []
    for count in np.unique(np.linspace(1, steps, min(cell.points, steps)).round().astype(int)).tolist():
        part = tableau.first(count)
        found, note = law_kl(cell.law, part, 1e-14, _RELATIVE)
        rows.append(
            {
                "law": cell.law,
                "grid": cell.grid,
                "scheme": cell.scheme,
                "steps": steps,
                "step": count,
                "time": float(part.times[-1]),
                "noise": float(np.expm1(2.0 * part.times[-1])),
                "kl": found.value,
                "kl_error": found.error,
                "note": note,
            }
        )
    return rows


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows, and of each run what was made, what is left and where KL was largest."""
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["law"], row["grid"], row["scheme"]), []).append(row)
    summary = [
        {"law": law, "grid": grid, "scheme": scheme, **account(sorted(run, key=lambda row: row["step"]))}
        for (law, grid, scheme), run in runs.items()
    ]
    return {"": list(rows), "_runs": summary}


def account(run: Sequence[Row]) -> Row:
    """Add up one run, its rows in the order of steps.

    ``made`` is the sum of all rises of KL from a point to the next. It is a lower bound to the KL of paths, to which
    each step adds at least the rise of the marginals' KL (the chain rule, and data processing). ``kept`` is the share
    of it that is left at the end.
    """
    values = [0.0, *(row["kl"] for row in run)]
    if not all(map(isfinite, values)):
        return {"made": inf, "peak": inf, "peak_noise": nan, "left": values[-1], "kept": nan}
    made = sum(max(0.0, after - before) for before, after in pairwise(values))
    peak = max(run, key=lambda row: row["kl"])
    return {
        "made": made,
        "peak": peak["kl"],
        "peak_noise": peak["noise"],
        "left": values[-1],
        "kept": values[-1] / made if made > 0.0 else nan,
    }


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    add("--laws", type=_command.listed(_command.name_of("law", LAWS)), metavar="NAME,…", help=", ".join(LAWS))
    add("--grids", type=_command.listed(_command.name_of("grid", GRIDS)), metavar="NAME,…", help=", ".join(GRIDS))
    parser.add_names("schemes", "scheme", SCHEMES, SAMPLERS)
    add("--evaluations", type=_command.integer("evaluations", 2, 4096), metavar="N", help="score evaluations (64)")
    add("--points", type=_command.integer("points", 2, 4096), metavar="N", help="of a run at which KL is found (32)")
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="forgetting",
    described=__doc__ or "",
    example="python -m studies.forgetting --laws overlapping,separated --schemes srk,dpmpp_2m_sde --evaluations 128",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_forgetting_report.report,
    add_options=add_options,
    full={
        "laws": LAWS_SHOWN,
        "grids": ("exponential",),
        "schemes": SAMPLERS,
        "evaluations": 64,
        "points": 32,
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={"laws": LAWS_SHOWN[1:3], "schemes": SAMPLERS[:4], "evaluations": 32, "points": 16},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

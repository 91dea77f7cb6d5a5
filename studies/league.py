"""Which sampler reaches an accuracy with the fewest score evaluations: all of them, nine targets, two grids.

The exact KL between q_δ and the sampler's output, from the exact q_T, on a ladder of budgets of score evaluations: each
sampler takes as many steps as the budget pays for. Between rungs KL is a power law; beyond the last one the evaluations
that a KL takes are not known, and counted as more than all others. Method and results: docs/studies/league.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, log, nan
from statistics import median

from studies import _command, _league_report
from studies._curves import crossing
from studies._league_schedulers import SCHEDULERS, edition
from studies._league_targets import (
    ENTRANTS,
    GRIDS,
    LAWS,
    SLOW,
    TARGETS,
    UNRANKED,
    entrant,
    law_kl,
    memory,
    origin,
    plays,
    steps_within,
    terms,
)
from studies._run import run_command
from studies._study import Row, Study, Tables

RUNGS = (8, 16, 32, 64, 128, 256)  # score evaluations
LEVELS = (1e-2, 1e-4, 1e-6, 1e-8)  # nats
RANKED = 1e-4  # the level that ranks
RESOLVED = 20.0  # a KL that enters an order, over its numerical error
_RELATIVE, _RELATIVE_DEAR = 1e-3, 1e-2  # accuracy of a KL; dear with a memory of two evaluations
_DEARER = {"multiscale": 2.0, "separated": 5.0}  # than other laws


@dataclass(frozen=True)
class Cell:
    """One sampler with one budget of evaluations, on one law; ``edition`` is the version of diffusers, if it is its."""

    law: str
    grid: str
    scheme: str
    evaluations: int
    horizon: float
    early_stop: float
    edition: str = ""

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        return terms(self.scheme, self.law).seconds * _DEARER.get(self.law, 1.0)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows; laws that targets share once.

    Raises
    ------
    ValueError
        If the early stop is not before the horizon, or no sampler has an exact KL on any target.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    grid = [
        Cell(TARGETS[target].law, name, scheme, rung, options.horizon, options.early_stop, _edition(scheme))
        for target in options.targets
        for name in options.grids
        for scheme in options.schemes
        for rung in sorted(options.evaluations)
        if _wanted(scheme, target, rung, options)
    ]
    if not grid:
        raise ValueError("--schemes must hold a sampler with an exact KL on one of --targets and --evaluations")
    return list(dict.fromkeys(grid))


def _edition(scheme: str) -> str:
    return edition() if scheme in SCHEDULERS else ""


def _wanted(scheme: str, target: str, rung: int, options: Namespace) -> bool:
    if scheme in SCHEDULERS and not edition():
        return False
    if not plays(scheme, target) or steps_within(scheme, rung, options.horizon) == 0:
        return False
    found = terms(scheme, TARGETS[target].law)
    if found.slow and target not in options.slow_targets:
        return False
    return options.unlimited or found.first <= rung <= found.last


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell; where the sampler is unstable or not resolved KL is infinite and a note says so."""
    steps = steps_within(cell.scheme, cell.evaluations, cell.horizon)
    times = GRIDS[cell.grid](cell.horizon, cell.early_stop, steps)
    tableau = entrant(cell.scheme, LAWS[cell.law].make(), times)
    found, note = law_kl(cell.law, tableau, 1e-13, _RELATIVE_DEAR if memory(cell.scheme) > 1 else _RELATIVE)
    return [
        {
            "law": cell.law,
            "grid": cell.grid,
            "scheme": cell.scheme,
            "evaluations": cell.evaluations,
            "steps": steps,
            "nfe": tableau.nfe,
            "kl": found.value,
            "kl_error": found.error,
            "note": note,
        }
    ]


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows by target, what each sampler reaches on each target and grid, and the ranking."""
    shown = [
        {"target": target, **row, "kl": TARGETS[target].copies * row["kl"]}
        | {"kl_error": TARGETS[target].copies * row["kl_error"]}
        for target in options.targets
        for row in rows
        if row["law"] == TARGETS[target].law and plays(row["scheme"], target)
    ]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in shown:
        groups.setdefault((row["target"], row["grid"], row["scheme"]), []).append(row)
    reached = [
        {"target": target, "grid": grid, "scheme": scheme, **reaches(group)}
        for (target, grid, scheme), group in groups.items()
    ]
    return {"": shown, "_reached": reached, "_ranking": ranking(reached)}


def reaches(rows: Sequence[Row]) -> Row:
    """Return the evaluations to each level, None beyond the ladder's last rung, and the order of the last two rungs."""
    curve = sorted((row["nfe"], row["kl"]) for row in rows)
    clear = sorted(
        (row["nfe"], row["kl"]) for row in rows if isfinite(row["kl"]) and row["kl"] > RESOLVED * row["kl_error"]
    )
    order = nan
    if len(clear) >= 2 and clear[-1][1] > 0.0:
        (few, high), (many, low) = clear[-2:]
        order = log(high / low) / log(many / few)
    return {
        **{_reaching(level): crossing(curve, level) for level in LEVELS},
        "most": curve[-1][0],
        "order": order,
        "each": max(1, round(rows[-1]["nfe"] / rows[-1]["steps"])),
    }


def ranking(reached: Sequence[Row]) -> list[Row]:
    """Return a row a sampler, fewest evaluations to the ranking level first; those that cover fewer pairs come last.

    Of the pairs of a target and a grid that a sampler covers: medians of the evaluations to each level, infinite where
    half of the pairs are beyond its ladder; ``over_best``, the median of its evaluations over the fewest of any
    sampler on the same pair, which can be compared between samplers that cover different pairs; the pairs won. What
    diffusers has of a sampler, and what is told of the target, is compared with all and wins nothing: the one would win
    with its twin, the other knows more.
    """
    key = _reaching(RANKED)
    best: dict[tuple[str, str], float] = {}
    for row in reached:
        pair = row["target"], row["grid"]
        if origin(row["scheme"]) in UNRANKED:
            continue
        best[pair] = min(best.get(pair, inf), _spent(row, key))
    found = []
    for scheme in dict.fromkeys(row["scheme"] for row in reached):
        mine = [row for row in reached if row["scheme"] == scheme]
        spent = {level: _middle([_spent(row, level) for row in mine]) for level in map(_reaching, LEVELS)}
        goals = [best.get((row["target"], row["grid"]), inf) for row in mine]
        alone = origin(scheme) not in UNRANKED
        ratios = [_spent(row, key) / goal for row, goal in zip(mine, goals, strict=True) if isfinite(goal)]
        orders = [row["order"] for row in mine if not isnan(row["order"])]
        found.append(
            {
                "scheme": scheme,
                "origin": origin(scheme),
                "each": mine[0]["each"],
                "pairs": len(mine),
                **spent,
                "over_best": _middle(ratios) if ratios else nan,
                "order": median(orders) if orders else nan,
                "won": alone * sum(_spent(row, key) <= goal < inf for row, goal in zip(mine, goals, strict=True)),
                "most": min(row["most"] for row in mine),  # of ladders that differ: what is beyond any is beyond this
            }
        )
    most = max((row["pairs"] for row in found), default=0)
    return sorted(
        found,
        key=lambda row: (
            row["pairs"] < most,
            row[key],
            inf if isnan(row["over_best"]) else row["over_best"],
            row[_reaching(LEVELS[0])],
        ),
    )


def _reaching(level: float) -> str:
    return f"nfe_{level:.0e}"


def _spent(row: Row, key: str) -> float:
    return inf if row[key] is None else float(row[key])


def _middle(values: Sequence[float]) -> float:
    """Return the median in logarithms: the geometric mean of the middle two, infinite if either is."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float((low * high) ** 0.5) if isfinite(high) else inf


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    targets = _command.listed(_command.name_of("target", TARGETS))
    described = "; ".join(f"{name}: {entry.described}" for name, entry in TARGETS.items())
    rung = _command.integer("evaluations", 4, 4096)
    add("--targets", type=targets, metavar="NAME,…", help=f"{described} (default: all)")
    add("--grids", type=_command.listed(_command.name_of("grid", GRIDS)), metavar="NAME,…", help=f"{', '.join(GRIDS)}")
    parser.add_names("schemes", "scheme", ENTRANTS)
    add("--evaluations", type=_command.listed(rung), metavar="N,…", help=f"the ladder (default: {RUNGS})")
    add("--unlimited", action="store_true", help="all rungs on mixtures for all samplers: hours")
    add("--slow-targets", type=targets, metavar="NAME,…", help=f"mixtures on which these play: {', '.join(SLOW)}")
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="league",
    described=__doc__ or "",
    example="python -m studies.league --targets overlapping,separated --schemes ddpm,srk,dpmpp_2m_sde",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_league_report.report,
    add_options=add_options,
    full={
        "targets": tuple(TARGETS),
        "grids": tuple(GRIDS),
        "schemes": tuple(ENTRANTS),
        "evaluations": RUNGS,
        "slow_targets": ("unimodal", "overlapping", "three_modes", "product_1000"),
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={
        "targets": ("unimodal", "overlapping", "unequal", "anisotropic", "product_1000"),
        "grids": ("exponential",),
        "evaluations": RUNGS[1:5],
        "slow_targets": (),
    },
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

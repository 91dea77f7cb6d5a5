"""How fast do KL and TV fall with the number of steps K: every sampler, several targets, fitted orders.

KL and total variation between q_δ and the sampler's output are exact, on a ladder of K, from the exact q_T, so that
discretisation alone is measured. The order p of KL ~ C K^−p is fitted to the last rungs, where local slopes have
settled, with a 95% interval; the evaluations that KL = 10⁻², 10⁻⁴ and 10⁻⁶ take are read off the curve. Method and
results: docs/studies/step_convergence.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, log, nan
from statistics import median

import srkverify as sv
from srkverify.divergence import Divergence
from srkverify.schemes import COMPARED, SCHEMES
from srkverify.targets import GaussianMixture, Product, Target
from studies import _command, _step_convergence_report
from studies._common_slope import common_slope
from studies._curves import crossing
from studies._run import run_command
from studies._study import Row, Study, Tables

GRIDS: dict[str, Callable[[float, float, int], sv.schedules.Array]] = {
    "exponential": sv.schedules.exponential,
    "uniform": sv.schedules.uniform,
    "cosine": sv.schedules.cosine,
    "linear_beta": sv.schedules.linear_beta,
}
STEPS = (4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
LEVELS = (1e-2, 1e-4, 1e-6)  # nats
FEWEST, MOST = 3, 5  # rungs of a fit
UNSETTLED = 1.35  # local slopes that differ from the last ones' median by more belong to no fit
RESOLVED = 20.0  # a KL that enters a fit, over its numerical error
_RELATIVE = 1e-4


def _line(weights: Sequence[float], means: Sequence[float], variances: Sequence[float]) -> GaussianMixture:
    return GaussianMixture(weights, [[mean] for mean in means], [[variance] for variance in variances])


_OVERLAPPING = _line((0.4, 0.6), (-1.5, 1.5), (0.25, 0.25))
TARGETS: dict[str, tuple[str, Callable[[], Target]]] = {
    "overlapping": ("0.4 N(−1.5, ¼) + 0.6 N(1.5, ¼)", lambda: _OVERLAPPING),
    "separated": ("0.3 N(−4, 0.05) + 0.7 N(4, 0.05)", lambda: _line((0.3, 0.7), (-4.0, 4.0), (0.05, 0.05))),
    "three_modes": (
        "0.2 N(−3, 0.1) + 0.5 N(0, 0.5) + 0.3 N(2, 0.2)",
        lambda: _line((0.2, 0.5, 0.3), (-3.0, 0.0, 2.0), (0.1, 0.5, 0.2)),
    ),
    "gaussian": ("N(1, ¼)", lambda: GaussianMixture([1.0], [[1.0]], 0.25)),
    "product_100": ("100 copies of overlapping", lambda: Product([_OVERLAPPING], [100])),
    "low_rank": (
        "4 copies of overlapping, 96 point masses",
        lambda: Product([_OVERLAPPING, GaussianMixture([1.0], [[0.0]], 0.0)], [4, 96]),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One sampler with one number of steps on one target."""

    target: str
    scheme: str
    grid: str
    steps: int
    horizon: float
    early_stop: float

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        if self.target == "gaussian":
            return 0.005
        each = 3.6 if _has_memory(self.scheme) else 0.35
        return 0.01 + each * (self.steps / 512) ** 1.5


def _has_memory(scheme: str) -> bool:
    return SCHEMES[scheme](sv.schedules.exponential(2.0, 0.5, 2)).memory > 0


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the early stop is not before the horizon.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    most = {scheme: options.memory_up_to if _has_memory(scheme) else inf for scheme in options.schemes}
    return [
        Cell(target, scheme, options.grid, steps, options.horizon, options.early_stop)
        for target in options.targets
        for scheme in options.schemes
        for steps in sorted(options.steps)
        if steps <= most[scheme]
    ]


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell; where the sampler is unstable KL is infinite, TV unknown, and a note says so."""
    target = TARGETS[cell.target][1]()
    tableau = SCHEMES[cell.scheme](GRIDS[cell.grid](cell.horizon, cell.early_stop, cell.steps))
    kl, tv, note = Divergence(inf, 0.0, "unstable"), Divergence(nan, nan, "unstable"), ""
    try:
        kl = sv.kl(target, tableau, absolute=1e-13, relative=_RELATIVE)
        tv = sv.tv(target, tableau, absolute=1e-9, relative=_RELATIVE)
    except ValueError as problem:
        if not str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            raise
        note = str(problem)
    return [
        {
            "target": cell.target,
            "scheme": cell.scheme,
            "grid": cell.grid,
            "steps": cell.steps,
            "nfe": tableau.nfe,
            "kl": kl.value,
            "kl_error": kl.error,
            "tv": tv.value,
            "tv_error": tv.error,
            "note": note,
        }
    ]


def fold(rows: Sequence[Row], options: Namespace) -> Tables:
    """Return the rows, the orders, and the evaluations at which levels of KL are reached."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["scheme"]), []).append(row)
    named = [({"target": target, "scheme": scheme}, group) for (target, scheme), group in groups.items()]
    return {
        "": list(rows),
        "_orders": [{**name, "of": of, **order(group, of)} for name, group in named for of in ("kl", "tv")],
        "_reached": [
            {**name, "kl": level, "nfe": evaluations(group, level)} for name, group in named for level in LEVELS
        ],
    }


def order(rows: Sequence[Row], of: str) -> Row:
    """Fit value ~ C K^−p to the last rungs whose local slopes have settled; NaN if there are fewer than three.

    C belongs to the even p (whole, for TV) that is nearest, and to the last rung.

    Rungs whose value is not well above its error are left out. Going back from the last, the fit takes rungs, five at
    most, while the local slope stays within a factor of the median of the last three: so it stops at a dip, where
    an error changes sign, and where the asymptotics end.
    """
    values = {row["steps"]: row[of] for row in sorted(rows, key=lambda row: row["steps"]) if _known(row, of)}
    steps = list(values)
    slopes = [local_slope(values, before, after) for before, after in pairwise(steps)]
    empty = dict.fromkeys(("order", "low", "high", "nominal", "constant", "local"), nan)
    if len(steps) < FEWEST or min(slopes[-2:]) <= 0.0:
        return {**empty, "first": None, "last": None, "points": 0}
    typical, count = median(slopes[-3:]), 2
    while count < min(MOST - 1, len(slopes)) and typical / UNSETTLED <= slopes[-count - 1] <= typical * UNSETTLED:
        count += 1
    used = steps[-count - 1 :]
    found = common_slope(used, [values[k] for k in used])
    multiple = 2 if of == "kl" else 1
    nominal = multiple * round(-found.value / multiple)
    constant = values[used[-1]] * float(used[-1]) ** nominal
    return {
        "order": -found.value,
        "low": -found.high,
        "high": -found.low,
        "nominal": nominal,
        "constant": constant,
        "local": slopes[-1],
        "first": used[0],
        "last": used[-1],
        "points": len(used),
    }


def local_slope(values: dict[int, float], before: int, after: int) -> float:
    """Return p between two numbers of steps."""
    return log(values[before] / values[after]) / log(after / before)


def _known(row: Row, of: str) -> bool:
    value, error = row[of], row[f"{of}_error"]
    return isfinite(value) and value > RESOLVED * error and value > 0.0


def evaluations(rows: Sequence[Row], level: float) -> float | None:
    """Return the evaluations from which on KL ≤ ``level``; None if no rung is beyond."""
    return crossing([(row["nfe"], row["kl"]) for row in rows], level)


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    add(
        "--targets",
        type=_command.listed(_command.name_of("target", TARGETS)),
        metavar="NAME,…",
        help="; ".join(f"{name}: {described}" for name, (described, _) in TARGETS.items()),
    )
    parser.add_names("schemes", "scheme", SCHEMES)
    parser.add_integers("steps", "steps", 2, 4096, "4 … 512, two rungs an octave")
    add(
        "--memory-up-to",
        type=_command.integer("steps", 2, 4096),
        metavar="K",
        help="most steps of samplers that remember an evaluation, whose exact KL costs more (default: 256)",
    )
    add("--grid", type=_command.name_of("grid", GRIDS), metavar="NAME", help=", ".join(GRIDS))
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (6)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.01)")


STUDY = Study(
    name="step_convergence",
    described=__doc__ or "",
    example="python -m studies.step_convergence --targets overlapping,separated --schemes ddpm,srk --steps 16,32,64",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_step_convergence_report.report,
    add_options=add_options,
    full={
        "targets": tuple(TARGETS),
        "schemes": COMPARED,
        "steps": STEPS,
        "memory_up_to": 256,
        "grid": "exponential",
        "horizon": 6.0,
        "early_stop": 0.01,
    },
    quick={"targets": ("overlapping", "gaussian", "low_rank"), "steps": STEPS[2:11]},
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

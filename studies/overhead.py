"""What a step of SRK costs over one of DDPM, in its parts noise, score and update, and where the difference vanishes.

The particle engine runs samplers on mixtures of 1 to 1024 components, all in turns and on one thread, and processor
time is counted for each particle, coordinate and step. What a part costs is the difference between runs of tableaus
that differ in it alone. As the score grows dearer, SRK's extra cost (a second normal vector and its update, no score
evaluation) stays what it is, and the ratio of the two goes to 1. Method and results: docs/studies/overhead.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

import srkverify as sv
from srkverify._check import Array
from srkverify.schemes import SCHEMES
from srkverify.tableau import Tableau
from studies import _command, _overhead_report
from studies._overhead_report import AGAIN, REFERENCE, whole
from studies._run import run_command
from studies._study import Row, Study, Tables, seed_of
from studies._turns import in_turns, machine, median

HORIZON, EARLY_STOP = 6.0, 0.01
COMPONENTS = tuple(2**power for power in range(11))
DIMENSIONS = (2, 16, 128)
COVARIANCES = ("isotropic", "diagonal")
SCHEME_NAMES = ("srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde")
STEPS, ROUNDS = 32, 21
LEAST_ROUNDS = 7
MILLISECONDS = 6.0  # of a run
_TOGETHER = 512  # particles at most that the engine advances together, ...
_BLOCK = 1 << 14  # ... and numbers: what is done once for them all is to be shared by as many as can be


@dataclass(frozen=True)
class Cell:
    """All samplers on one mixture, in turns, on one machine."""

    covariance: str
    dimension: int
    components: int
    schemes: tuple[str, ...]
    rounds: int
    milliseconds: float
    seed: int
    machine: str

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        score, rest = self._nanoseconds()
        evaluations = 2 + sum(map(_evaluations, self.schemes))
        a_round = self.particles(True) * (score * evaluations + 1.3 * rest * (2 + len(self.schemes)))
        return 0.1 + 1e-9 * self.rounds * STEPS * (a_round + 4.0 * rest * self.particles(False))

    def particles(self, scored: bool) -> int:
        """Return the particles of a run, enough to last; runs without a score need more."""
        score, rest = self._nanoseconds()
        least = min(_TOGETHER, _BLOCK // self.dimension)
        wanted = 1e6 * self.milliseconds / (STEPS * (rest + score if scored else rest))
        return 64 * -(-int(max(wanted, least)) // 64)

    def _nanoseconds(self) -> tuple[float, float]:
        """Nanoseconds of a particle and step, roughly: of the score and of the rest."""
        dimension, components = whole(self.dimension), whole(self.components)
        each = 1.0 + 0.08 * dimension if self.covariance == "isotropic" else 0.8 + 0.2 * dimension
        return components * each, 1.3 * dimension


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows."""
    settings = (options.schemes, options.rounds, options.milliseconds, options.seed, machine())
    return [
        Cell(covariance, dimension, components, *settings)
        for covariance in options.covariances
        for dimension in sorted(options.dimensions)
        for components in sorted(options.components)
    ]


def solve(cell: Cell) -> list[Row]:
    """Return a row for each scheme, and one for each part of a step.

    Raises
    ------
    ValueError
        On another machine than the cell's.
    """
    if cell.machine != machine():
        raise ValueError(f"machine must be that of the cell, {cell.machine!r}; got {machine()!r}")
    target = mixture(cell.covariance, cell.components, cell.dimension, cell.seed)
    schemes = {name: SCHEMES[name](_times()) for name in (REFERENCE, *cell.schemes)}
    schemes = {REFERENCE: schemes[REFERENCE], AGAIN: schemes[REFERENCE], **schemes}
    bare = {(name, "bare"): tableau for name, tableau in without_score(schemes[REFERENCE]).items()}
    tableaus: dict[Any, Tableau] = {**schemes, **bare}
    runs = {name: _run(target, tableau, cell.particles(name in schemes), cell) for name, tableau in tableaus.items()}
    spent = in_turns(runs, cell.rounds, seed_of(cell, "order"))
    for name in runs:
        spent[name] *= 1e9 / (cell.particles(name in schemes) * cell.dimension * STEPS)
    label = {"machine": cell.machine, "covariance": cell.covariance, "dimension": cell.dimension}
    label |= {"components": cell.components, "rounds": cell.rounds}
    rows = [
        {
            **label,
            "kind": "scheme",
            "name": name,
            "evaluations": _evaluations(name.split()[0]),
            "particles": cell.particles(True),
            **_named("ns", spent[name]),
            **_named("ratio", spent[name] / spent[REFERENCE]),
            **_named("extra_ns", spent[name] - spent[REFERENCE]),
        }
        for name in schemes
    ]
    return rows + [
        {**label, "kind": "part", "name": name, **_named("ns", values)} for name, values in parts(spent).items()
    ]


def without_score(ddpm: Tableau) -> dict[str, Tableau]:
    """Return tableaus that evaluate no score, each with one thing more than the one before.

    "moved": the state times a number. "drawn": besides, a normal vector that is not used. "noisy": the same, used.
    "twice": besides, a second one, as SRK's tableau has.
    """
    shape = (ddpm.steps, ddpm.evaluated.shape[1])
    noisy = replace(ddpm, name="noisy", scores=np.zeros(shape), evaluated=np.zeros(shape, dtype=bool), noise_paths=None)
    return {
        "moved": _with_noises(noisy, 0),
        "drawn": replace(noisy, noise=np.zeros_like(noisy.noise)),
        "noisy": noisy,
        "twice": _with_noises(noisy, 2),
    }


def parts(spent: Mapping[Any, Array]) -> dict[str, Array]:
    """Return what each part of a step costs, by differences of runs of the same round.

    The first three add up to DDPM. "second noise" is that of a run without a score, to compare with what SRK costs over
    DDPM, of which "second update" is the rest.
    """
    moved, drawn, noisy, twice = (spent[name, "bare"] for name in ("moved", "drawn", "noisy", "twice"))
    found = {
        "noise": drawn - moved,
        "update": moved + (noisy - drawn),
        "score": spent[REFERENCE] - noisy,
        "second noise": twice - noisy,
    }
    if "srk" in spent:
        found["second update"] = spent["srk"] - spent[REFERENCE] - (twice - noisy)
    return found


def mixture(covariance: str, components: int, dimension: int, seed: int) -> sv.GaussianMixture:
    """Return a mixture whose components overlap a little, with unequal weights and variances."""
    generator = np.random.default_rng([seed, components, dimension])
    weights = np.linspace(1.0, 2.0, components)
    means = generator.standard_normal((components, dimension)) * (4.0 / np.sqrt(dimension))
    if covariance == "isotropic":
        return sv.GaussianMixture(weights / weights.sum(), means, np.linspace(0.2, 0.3, components))
    return sv.GaussianMixture(weights / weights.sum(), means, generator.uniform(0.1, 0.5, (components, dimension)))


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return the schemes, the parts and the laws fitted to them."""
    schemes, shares = (
        [{key: value for key, value in row.items() if key != "kind"} for row in rows if row["kind"] == kind]
        for kind in ("scheme", "part")
    )
    return {"": schemes, "_parts": shares, "_fits": _overhead_report.fits(schemes)}


def _times() -> Array:
    return sv.schedules.exponential(HORIZON, EARLY_STOP, STEPS)


@lru_cache(maxsize=64)
def _evaluations(scheme: str) -> int:
    """Score evaluations of a step of a long run."""
    return round(SCHEMES[scheme](_times()).nfe / STEPS)


def _with_noises(tableau: Tableau, count: int) -> Tableau:
    """Return a tableau with ``count`` noises: the engine draws as many, whatever their coefficients are."""

    def columns(table: Array) -> Array:
        kept = min(count, table.shape[-1])
        return np.concatenate([table[..., :kept], np.zeros((*table.shape[:-1], count - kept))], axis=-1)

    return replace(tableau, noise=columns(tableau.noise), stage_noise=columns(tableau.stage_noise), noise_paths=None)


def _run(target: sv.GaussianMixture, tableau: Tableau, particles: int, cell: Cell) -> Callable[[], Iterator[object]]:
    """Return what makes a run; the run itself, tables and checks apart, is the iterator's one step."""
    return partial(
        sv.sample_blocks,
        target,
        tableau,
        particles,
        seed_of(cell, "particles"),
        block=particles,
        start="normal",  # an exact one takes longer the more components there are
        threads=1,
        progress=False,
    )


def _named(name: str, values: Array) -> Row:
    return dict(zip((name, f"{name}_low", f"{name}_high"), median(values), strict=True))


def add_options(command: _command.Parser) -> None:
    """Add the grid's options."""
    add = command.add_argument
    add(
        "--covariances",
        type=_command.listed(_command.name_of("covariance", COVARIANCES)),
        metavar="NAME,…",
        help="of the components: isotropic, diagonal (default: isotropic)",
    )
    add(
        "--schemes",
        type=_command.listed(_command.name_of("scheme", [name for name in SCHEMES if name != REFERENCE])),
        metavar="NAME,…",
        help=f"samplers beside ddpm (default: {', '.join(SCHEME_NAMES)}); known: {', '.join(SCHEMES)}",
    )
    add(
        "--dimensions",
        type=_command.listed(_command.integer("dimension", 1, 4096)),
        metavar="D,…",
        help=f"dimensions (default: {','.join(map(str, DIMENSIONS))})",
    )
    add(
        "--components",
        type=_command.listed(_command.integer("components", 1, 1 << 14)),
        metavar="C,…",
        help="components of the mixtures: what a score costs (default: 1,2,4,…,1024)",
    )
    add(
        "--rounds",
        type=_command.integer("rounds", LEAST_ROUNDS, 10_000),
        metavar="N",
        help=f"runs of each sampler on each mixture, in turns (default: {ROUNDS})",
    )
    add(
        "--milliseconds",
        type=_command.number("milliseconds", above=0.0, below=1e4),
        metavar="MS",
        help=f"processor time of a run, roughly and at least (default: {MILLISECONDS:g})",
    )
    add(
        "--seed",
        type=_command.integer("seed", 0, 1 << 53),
        default=0,
        metavar="N",
        help="of mixtures, random numbers and the order of runs (default: 0)",
    )


STUDY = Study(
    name="overhead",
    described=__doc__ or "",
    example="python -m studies.overhead --quick\n"
    "python -m studies.overhead --covariances diagonal --dimensions 64 --components 1,10,100 --rounds 31",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_overhead_report.report,
    add_options=add_options,
    full={
        "covariances": ("isotropic",),
        "schemes": SCHEME_NAMES,
        "dimensions": DIMENSIONS,
        "components": COMPONENTS,
        "rounds": ROUNDS,
        "milliseconds": MILLISECONDS,
    },
    quick={"components": (1, 8, 64, 512), "dimensions": (2, 128), "rounds": 9, "milliseconds": 5.0},
    workers=1,  # cells that run beside each other would slow each other down
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

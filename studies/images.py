"""How many score evaluations does SRK save over DDPM on images, at equal Fréchet distance, when scores are exact.

Mixtures made of real images that Python packages carry, fitted or with every image a component: no network and no
download. All samplers start from the exact q_T and share a Brownian path, and so does a fine run that stands for the
exact law. Distances: Fréchet on pixels (exact moments) and on wavelet scattering, sliced Wasserstein, energy; all
squared, without the bias of finite samples. Method and results: docs/studies/images.md.
"""

from __future__ import annotations

import base64
import sys
from argparse import Namespace
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import inf, nan
from typing import Any

import numpy as np

import srkverify as sv
from srkverify import distances
from srkverify._check import Array
from srkverify.engines.gaussian import deviations
from srkverify.schemes import SCHEMES
from srkverify.tableau import Tableau
from studies import _command, _images_report
from studies._grids import GRIDS
from studies._images_data import DATA
from studies._images_features import scattering
from studies._images_targets import TARGETS, Problem, problem
from studies._kl_table import score_evaluations
from studies._run import run_command
from studies._study import Row, Study, Tables

MEASURES = ("frechet", "features", "sliced", "energy")
EXACT = "exact"  # in place of a sampler: draws of the law itself, and the fine run's images
DEFAULT_SCHEMES = (
    "ddpm",
    "ddpm_beta",
    "ddpm_posterior",
    "srk",
    "srk_martingale",
    "srk_third_point_1",
    "srk_third_order",
    "dpmpp_2m_sde",
    "sa_p2",
    "seeds_3",
    "ddim_eta0",
)
DEFAULT_TARGETS = ("digits_fitted", "digits_empirical", "patches_fitted", "mnist_fitted", "mnist_empirical")
SHOWN = 4  # images of a sampler at a budget
FINE, FINE_SCHEME = 200, "srk_third_point_1"  # steps and sampler of the fine run
_DIRECTIONS = 64  # of the sliced distance
_BLOCKS, _SCALES = {8: 2, 28: 4}, {8: 2, 28: 3}  # of the scattering, by the images' side
_ALIKE = 1e-10  # relative: times so near each other are one
_AXES = np.diag([1.0, -1.0, -1.0])
_MANY = 8192  # exact draws, for the moments of features
_NOT_FINITE = "tableau must keep samples finite"  # the engine's words


@dataclass(frozen=True)
class Cell:
    """One sampler with one budget of evaluations on a target; or ``EXACT``, whose rows are what is compared with.

    ``common`` are the numbers of steps of all runs on the target: the path that they share is drawn on all their grids.
    """

    target: str
    scheme: str
    evaluations: int
    particles: int
    grid: str
    horizon: float
    early_stop: float
    seed: int
    common: tuple[int, ...] = (FINE,)

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        evaluations = FINE if self.scheme == EXACT else self.evaluations
        wide = 2.5 if DATA[TARGETS[self.target].data].side > 8 else 1.0
        return 0.1 + self.particles * (TARGETS[self.target].seconds * evaluations + 2e-4 * wide)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows.

    Raises
    ------
    ValueError
        If the early stop is not before the horizon, or no budget pays for a step.
    """
    if options.early_stop >= options.horizon:
        raise ValueError(f"--horizon must be > --early-stop = {options.early_stop:g}; got {options.horizon:g}")
    counts = {
        steps_within(scheme, budget, options.horizon) for scheme in options.schemes for budget in options.evaluations
    }
    common = tuple(sorted({FINE} | counts - {0}))
    return [
        Cell(
            target,
            scheme,
            budget,
            SHOWN if TARGETS[target].shown_only else options.particles,
            options.grid,
            options.horizon,
            options.early_stop,
            options.seed,
            common,
        )
        for target in options.data
        for scheme in (EXACT, *options.schemes)
        for budget in ((0,) if scheme == EXACT else sorted(options.evaluations))
        if scheme == EXACT or steps_within(scheme, budget, options.horizon) > 0
    ]


def steps_within(scheme: str, evaluations: int, horizon: float) -> int:
    """Return the most steps from ``horizon`` that take at most ``evaluations``, 0 if none does."""
    each, besides = score_evaluations(scheme, horizon)
    return max(0, (evaluations - besides) // each)


def solve(cell: Cell) -> list[Row]:
    """Return the row of a cell: distances with their errors, and the first images as bytes in base 64."""
    its = problem(cell.target)
    row: Row = {
        "target": cell.target,
        "scheme": cell.scheme,
        "evaluations": cell.evaluations,
        "steps": 0,
        "nfe": 0,
        "particles": cell.particles,
        "coupled": True,
        **{name: value for measure in MEASURES for name, value in ((measure, nan), (f"{measure}_error", nan))},
        "note": "",
        "side": its.side,
        "images": "",
    }
    path = _path(cell.grid, cell.horizon, cell.early_stop, cell.common)
    fine = _fine(cell.target, cell.particles, cell.grid, path, cell.seed)
    if cell.scheme == EXACT:
        if not TARGETS[cell.target].shown_only:
            row |= _floors(cell, its, fine)
        return [row | {"images": encoded(its.pixels(fine[:SHOWN]))}]
    steps = steps_within(cell.scheme, cell.evaluations, cell.horizon)
    tableau = SCHEMES[cell.scheme](GRIDS[cell.grid](cell.horizon, cell.early_stop, steps))
    row |= {"steps": steps, "nfe": tableau.nfe}
    try:
        found, row["coupled"] = _run(its, tableau, cell.particles, path, cell.seed)
    except ValueError as problem_:
        if not str(problem_).startswith(_NOT_FINITE):
            raise
        return [row | {"note": str(problem_), **dict.fromkeys(MEASURES, inf)}]
    if not TARGETS[cell.target].shown_only:
        row |= _distances(cell, its, found, fine, row["coupled"])
    return [row | {"images": encoded(its.pixels(found[:SHOWN]))}]


def encoded(images: Array) -> str:
    """Return images with values in [−1, 1] as grey values from 0 to 255 in base 64, one byte a pixel, in order."""
    grey = np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return base64.b64encode(grey.tobytes()).decode("ascii")


@cache
def _path(grid: str, horizon: float, early_stop: float, common: tuple[int, ...]) -> tuple[float, ...]:
    """Return the times of the common path: those of all grids, those once that agree to rounding."""
    times = np.sort(np.concatenate([GRIDS[grid](horizon, early_stop, steps) for steps in common]))[::-1]
    ends = (times[0], times[-1])
    inner = times[(times < ends[0] * (1.0 - _ALIKE)) & (times > ends[1] * (1.0 + _ALIKE))]
    apart = np.append(True, inner[1:] < inner[:-1] * (1.0 - _ALIKE))
    return (ends[0], *inner[apart].tolist(), ends[1])


@lru_cache(maxsize=4)
def _fine(target: str, particles: int, grid: str, path: tuple[float, ...], seed: int) -> Array:
    """Return the coordinates of a run of many steps, on the path of all others; remembered by the process."""
    tableau = SCHEMES[FINE_SCHEME](GRIDS[grid](path[0], path[-1], FINE))
    return _run(problem(target), tableau, particles, path, seed)[0]


def _coupled(tableau: Tableau) -> Tableau:
    """Return a tableau whose noises are functionals of a path: those that it states, or some, as its law is the same.

    What a scheme does not state is taken as for SRK: the first noise is the path's first coordinate in each step, and
    the next ones the negatives of the others. Runs are then coupled in good approximation.
    """
    count = tableau.noise.shape[1]
    if tableau.noise_paths is not None or count > len(_AXES):
        return tableau
    return replace(tableau, noise_paths=np.broadcast_to(_AXES[:count], (tableau.steps, count, len(_AXES))))


def _run(its: Problem, tableau: Tableau, particles: int, path: tuple[float, ...], seed: int) -> tuple[Array, bool]:
    """Return coordinates (n, d) at the end of a run, and whether its noise is that of the common path.

    White dimensions are not simulated: a sampler maps N(0, σ² I) to N(0, v I) there, with v known to rounding.
    """
    tableau = _coupled(tableau)
    coupled = tableau.noise_paths is not None
    settings: dict[str, Any] = {"path_times": np.array(path) if coupled else None, "threads": 1, "progress": False}
    inside = sv.sample(its.mixture, tableau, particles, seed, **settings)
    if its.white == 0:
        return np.asarray(inside, dtype=np.float64), coupled
    excess = float(deviations(tableau, np.array([its.variance])).variance[0])
    noise = np.random.default_rng([seed, its.white]).standard_normal((particles, its.white))
    return np.hstack([inside, np.sqrt(_variance(its, float(tableau.times[-1])) * (1.0 + excess)) * noise]), coupled


def _variance(its: Problem, time: float) -> float:
    """Variance of the white noise at a forward time."""
    return float(np.exp(-2.0 * time) * its.variance - np.expm1(-2.0 * time))


def _distances(cell: Cell, its: Problem, found: Array, fine: Array, coupled: bool) -> Row:
    """Return the distances of a sampler's output from the exact law."""
    rank = its.mixture.dimension
    mean, covariance = distances.moments(its.mixture, cell.early_stop)
    # A loose coupling adds more noise than it takes away: the better of two estimates of the same number.
    estimates = [distances.frechet(found[:, :rank], mean, covariance)]
    if coupled:
        estimates.append(distances.frechet(found[:, :rank], mean, covariance, coupled=fine[:, :rank]))
    pixels = min(estimates, key=lambda one: one.error)
    ours = _features(its, found)
    path = _path(cell.grid, cell.horizon, cell.early_stop, cell.common)
    theirs = _fine_features(cell.target, cell.particles, cell.grid, path, cell.seed)
    measured = {
        "frechet": pixels,
        "features": distances.frechet(ours, *_feature_moments(cell.target, cell.early_stop), coupled=theirs),
        "sliced": distances.sliced_wasserstein(found, fine, directions=_DIRECTIONS),
        "energy": distances.energy(found, fine, paired=True),
    }
    row: Row = {}
    for name, one in measured.items():
        row |= {name: one.value, f"{name}_error": one.error}
    if its.white:  # exactly √v of standard normals, as the exact law
        scales = [float(np.linalg.norm(points[:, rank:])) for points in (found, fine)]
        row["frechet"] += its.white * _variance(its, cell.early_stop) * (scales[0] / scales[1] - 1.0) ** 2
    return row


def _floors(cell: Cell, its: Problem, fine: Array) -> Row:
    """Return the plain distances of independent exact draws, which no sampler can be told apart from the law below."""
    draws = _exact(its, cell.particles, cell.seed + 1, cell.early_stop)
    mean, covariance = distances.moments(its.mixture, cell.early_stop)
    full = np.diag(np.full(its.side**2, _variance(its, cell.early_stop)))
    full[: len(mean), : len(mean)] = covariance
    centre = np.append(mean, np.zeros(its.white))
    features = distances.frechet(_features(its, draws), *_feature_moments(cell.target, cell.early_stop))
    sliced = distances.sliced_wasserstein(draws, fine, directions=_DIRECTIONS)
    return {
        "frechet": distances.gaussian_frechet(draws.mean(axis=0), np.cov(draws.T), centre, full),
        "features": features.plain,
        "sliced": sliced.plain,
        "energy": distances.energy(draws, fine).plain,
    }


def _exact(its: Problem, count: int, seed: int, time: float) -> Array:
    """Return coordinates (n, d) of independent exact draws."""
    inside = its.mixture.sample(count, seed, time)
    noise = np.random.default_rng([seed, its.white, 1]).standard_normal((count, its.white))
    return np.hstack([inside, np.sqrt(_variance(its, time)) * noise])


def _features(its: Problem, points: Array) -> Array:
    return scattering(its.pixels(points), its.side, _BLOCKS[its.side], _SCALES[its.side])


@lru_cache(maxsize=4)
def _fine_features(target: str, particles: int, grid: str, path: tuple[float, ...], seed: int) -> Array:
    """Return the features of the fine run; remembered by the process."""
    return _features(problem(target), _fine(target, particles, grid, path, seed))


@cache
def _feature_moments(target: str, time: float) -> tuple[Array, Array]:
    """Return mean and covariance of the features, of many exact draws: only how far moments are off is measured."""
    its = problem(target)
    values = _features(its, _exact(its, _MANY, 2**31, time))
    return values.mean(axis=0), np.cov(values.T)


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return the distances, their floors, the evaluations that each sampler takes for DDPM's distance, the images."""
    numbers = [{name: value for name, value in row.items() if name not in ("side", "images")} for row in rows]
    runs = [row for row in numbers if row["scheme"] != EXACT]
    floors = [row for row in numbers if row["scheme"] == EXACT and not TARGETS[row["target"]].shown_only]
    return {
        "": runs,
        "_floors": [{name: row[name] for name in ("target", "particles", *MEASURES)} for row in floors],
        "_saved": _images_report.saved(runs),
        "_grids": [{name: row[name] for name in ("target", "scheme", "evaluations", "side", "images")} for row in rows],
    }


def add_options(parser: _command.Parser) -> None:
    """Add the study's grid."""
    add = parser.add_argument
    described = "; ".join(f"{name}: {entry.described}" for name, entry in TARGETS.items())
    targets = _command.listed(_command.name_of("target", TARGETS))
    budget = _command.integer("evaluations", 1, 1000)
    add("--data", type=targets, metavar="NAME,…", help=f"{described} (default: {', '.join(DEFAULT_TARGETS)})")
    parser.add_names("schemes", "scheme", SCHEMES, DEFAULT_SCHEMES)
    add("--evaluations", type=_command.listed(budget), metavar="N,…", help="budgets (default: 5,10,20,50,200)")
    add("--particles", type=_command.integer("particles", 64, 10**6), metavar="n", help="(default: 1024)")
    add("--grid", type=_command.name_of("grid", GRIDS), metavar="NAME", help=f"{', '.join(GRIDS)} (default: log_snr)")
    add("--horizon", type=_command.number("horizon", above=0.0), metavar="T", help="forward time of the start (5)")
    add("--early-stop", type=_command.number("early stop", above=0.0), metavar="δ", help="of the end (0.001)")
    add("--seed", type=_command.integer("seed", 0, 2**30), metavar="N", help="of start and noise (default: 0)")


STUDY = Study(
    name="images",
    described=__doc__ or "",
    example="python -m studies.images --data digits_empirical --schemes ddpm,srk --particles 4096",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_images_report.report,
    add_options=add_options,
    needs={"sklearn": "images", "mlxtend": "images"},
    full={
        "data": DEFAULT_TARGETS,
        "schemes": DEFAULT_SCHEMES,
        "evaluations": (5, 10, 20, 50, 200),
        "particles": 1024,
        "grid": "log_snr",
        "horizon": 5.0,
        "early_stop": 1e-3,
        "seed": 0,
    },
    quick={
        "data": ("digits_fitted",),
        "schemes": (
            "ddpm",
            "ddpm_beta",
            "srk",
            "srk_martingale",
            "srk_third_point_1",
            "srk_third_order",
            "dpmpp_2m_sde",
        ),
        "evaluations": (5, 10, 20, 50),
        "particles": 256,
    },
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

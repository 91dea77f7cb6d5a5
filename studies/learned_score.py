"""What does a network's score, learned from images, cost each sampler, and does it cost higher order more.

Small networks learn the score of 8×8 digits by denoising, for a few lengths of training. What they learn from has an
exact score, that of a mixture with a component for each image, so that their error in L²(q_t) is measured, on images
that they have seen and on others. Then the KL of paths, which bounds that of the output, of samplers with the exact
score, with the networks' and with a part of the error of the last, beside the sum of both terms of the theorems:
discretisation and ∫ E|ŝ − s|² dt. Needs the extras torch and images. Method and results: docs/studies/learned_score.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import srkverify as sv
from srkverify._check import Array
from srkverify.divergence import score_errors
from srkverify.schemes import SCHEMES
from srkverify.score import Score
from studies import _command, _learned_score_report
from studies._learned_score_network import EARLY_STOP, HORIZON, laws, trained
from studies._run import run_command
from studies._study import Row, Study, Tables

DEFAULT_SCHEMES = (
    "ddpm",
    "exponential_euler",
    "ddpm_posterior",
    "srk",
    "srk_martingale",
    "srk_third_point",
    "seeds_2",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
)
_FEWER = 6  # times fewer paths where stages see noise: each costs a Jacobian a step
_INNER = 8  # draws of it a step
_TIMES, _SAMPLES, _SAMPLE_STEPS = 96, 10, 64
_LEVELS = 16  # of grey, of the samples that a table holds


@dataclass(frozen=True)
class Cell:
    """All samplers with one network.

    Attributes
    ----------
    training, width : optimiser steps, and neurons of a hidden layer.
    shares : of its error that samplers see: the score is s + share·(ŝ − s); the last network's cell has 0 too, the
        exact score, and compares path by path.
    schemes, steps : samplers and their numbers of steps.
    paths : of a KL, a sixth of them where stages see noise.
    points : of each time, at which scores are compared.
    seed : of all that is random.
    """

    training: int
    width: int
    shares: tuple[float, ...]
    schemes: tuple[str, ...]
    steps: tuple[int, ...]
    paths: int
    points: int
    seed: int

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        each = sum(8e-4 if _noisy(scheme) else 1.6e-4 for scheme in self.schemes)
        paths = self.paths * len(self.shares) * sum(self.steps)
        return 4.0 + 1.2e-5 * self.training * self.width + paths * each / _FEWER


def cells(options: Namespace) -> list[Cell]:
    """Return the grid: networks in the order of their training."""
    lengths = sorted(options.training)
    last = tuple(sorted({1.0, 0.0, *options.shares}, reverse=True))
    grid = (tuple(options.schemes), tuple(sorted(options.steps)), options.paths, options.points, options.seed)
    return [Cell(length, options.width, last if length == lengths[-1] else (1.0,), *grid) for length in lengths]


def solve(cell: Cell) -> list[Row]:
    """Return rows of three tables, by their key "table": KLs, errors of the score at each time, and samples."""
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    with threadpool_limits(1):
        found = trained(laws().trained, cell.training, cell.width, cell.seed)
        rows = _divergences(cell, found) + _errors(cell, cell.training, found) + _samples(cell, cell.training, found)
        if 0.0 in cell.shares:
            rows += _errors(cell, 0, _exact()) + _samples(cell, 0, _exact())
    return rows


def _exact() -> Score:
    return Score.from_law(laws().trained)


def _mixed(found: Score, share: float) -> Score:
    """Return s + share·(ŝ − s)."""
    exact = _exact()
    if share in (0.0, 1.0):
        return found if share else exact

    def function(points: Array, time: float) -> Array:
        return (1.0 - share) * exact(points, time) + share * found(points, time)

    def jacobian(points: Array, time: float) -> Array:
        return (1.0 - share) * exact.jacobian_at(points, time) + share * found.jacobian_at(points, time)

    return Score(function, exact.dimension, law=exact.law, jacobian=jacobian, name=found.name)


def _divergences(cell: Cell, found: Score) -> list[Row]:
    """Return KLs; with what the score adds to each, if the exact one is of this cell: paths are the same."""
    rows: list[Row] = []
    law = laws().trained
    plain: dict[tuple[str, int], Array | None] = {}
    for share in sorted(cell.shares):
        score = _mixed(found, share)
        for steps in cell.steps:
            grid = sv.schedules.exponential(HORIZON, EARLY_STOP, steps)
            off = score_errors(law, score, grid, particles=cell.points, seed=cell.seed).of_ddpm
            for scheme in cell.schemes:
                tableau = SCHEMES[scheme](grid)
                paths = cell.paths // _FEWER if _noisy(scheme) else cell.paths
                bound = sv.kl(
                    law, tableau, "path", score=score, particles=paths, seed=cell.seed, inner=_INNER, progress=False
                )
                exact = plain.setdefault((scheme, steps), bound.values if share == 0.0 else None)
                gap = None if exact is None else bound.values - exact
                rows.append(
                    {
                        "table": "",
                        "training": cell.training if share else 0,
                        "share": share or 1.0,
                        "scheme": scheme,
                        "steps": steps,
                        "nfe": tableau.nfe,
                        "stage_noise": bound.stage_noise,
                        "paths": paths,
                        "kl": bound.value,
                        "kl_error": bound.error,
                        "added": None if gap is None else float(gap.mean()),
                        "added_error": None if gap is None else float(gap.std(ddof=1) / np.sqrt(paths)),
                        "of_ddpm": off.value,
                        "of_ddpm_error": off.error,
                    }
                )
    return rows


def _errors(cell: Cell, training: int, score: Score) -> list[Row]:
    """Compare a score with the exact ones of both laws at many times."""
    grid = sv.schedules.exponential(HORIZON, EARLY_STOP, _TIMES)
    both = (laws().trained, laws().held_out)
    seen, unseen = (score_errors(law, score, grid, particles=cell.points, seed=cell.seed + 1) for law in both)
    return [
        {
            "table": "_errors",
            "training": training,
            "time": float(grid[k]),
            "seen": float(seen.squared[k]),
            "seen_error": float(seen.errors[k]),
            "unseen": float(unseen.squared[k]),
            "unseen_error": float(unseen.errors[k]),
            "norm": float(seen.norms[k]),
        }
        for k in range(_TIMES)
    ]


def _samples(cell: Cell, training: int, score: Score) -> list[Row]:
    """Return a few samples, and how far they are from the nearest image of each set, over the root of d."""
    tableau = sv.schemes.srk_martingale(sv.schedules.exponential(HORIZON, EARLY_STOP, _SAMPLE_STEPS))
    drawn = sv.sample(score, tableau, _SAMPLES, cell.seed, start="normal", progress=False)
    near = [
        np.sqrt(((drawn[:, None] - law.means) ** 2).mean(axis=2)).min(axis=1)
        for law in (laws().trained, laws().held_out)
    ]
    levels = np.clip(np.rint((drawn + 1.0) * _LEVELS / 2.0), 0, _LEVELS).astype(int)
    return [
        {
            "table": "_samples",
            "training": training,
            "sample": i,
            "seen": float(near[0][i]),
            "unseen": float(near[1][i]),
            "pixels": " ".join(map(str, levels[i])),
        }
        for i in range(_SAMPLES)
    ]


def _noisy(scheme: str) -> bool:
    return bool(SCHEMES[scheme]([3.0, 2.0, 1.0]).stage_noise.any())


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return KLs, with what the score adds to each, errors by time, networks by their errors, and samples."""
    tables: Tables = {"": [], "_errors": [], "_samples": []}
    for row in rows:
        tables[row["table"]].append({key: value for key, value in row.items() if key != "table"})
    networks = _learned_score_report.networks(tables["_errors"])
    return {
        "": _learned_score_report.added(tables[""], networks),
        "_networks": networks,
        "_errors": tables["_errors"],
        "_samples": tables["_samples"],
    }


def add_options(command: _command.Parser) -> None:
    """Add the grid's options."""
    command.add_names("schemes", "scheme", SCHEMES, DEFAULT_SCHEMES)
    command.add_integers("steps", "steps", 2, 1 << 12, (16, 32, 64))
    add, integer = command.add_argument, _command.integer
    add(
        "--training",
        type=_command.listed(integer("training", 1, 1 << 24)),
        metavar="N,…",
        help="optimiser steps, a network for each (default: 300,2000,8000; 3 ms each)",
    )
    add("--width", type=integer("width", 1, 1 << 14), default=256, metavar="N", help="of the hidden layers (256)")
    add(
        "--shares",
        type=_command.listed(_command.number("share", above=0.0)),
        metavar="A,…",
        help="of the last network's error, besides all of it, that samplers see too (default: 0.1)",
    )
    add("--paths", type=integer("paths", 256, 1 << 24), metavar="N", help="of a KL, a sixth with stage noise (512)")
    add("--points", type=integer("points", 2, 1 << 24), metavar="N", help="of each time, for errors (256)")
    add("--seed", type=integer("seed", 0, 1 << 53), default=0, metavar="N", help="of all that is random (0)")


STUDY = Study(
    name="learned_score",
    described=__doc__ or "",
    example="python -m studies.learned_score --quick\n"
    "python -m studies.learned_score --training 1000,30000 --width 512 --schemes ddpm,srk,dpmpp_2m_sde --out long",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_learned_score_report.report,
    add_options=add_options,
    needs={"torch": "torch", "sklearn": "images"},
    full={
        "schemes": DEFAULT_SCHEMES,
        "steps": (16, 32, 64),
        "training": (300, 2000, 8000),
        "shares": (0.1,),
        "paths": 512,
        "points": 256,
    },
    quick={
        "schemes": ("ddpm", "ddpm_posterior", "srk_martingale", "dpmpp_2m_sde"),
        "steps": (8, 16),
        "training": (100, 500),
        "shares": (),
        "paths": 256,
        "points": 64,
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

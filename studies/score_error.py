"""How does KL grow with the error of the score, is the theorems' additive ε_score² right, and which scheme is robust.

Each sampler is run with scores that are off by a given ε_score in L²: fresh noise in each evaluation, a relative
error, an error of the Jacobian, a mixture fitted slightly wrong, and waves. KL of the output is exact. Averaged over
the sign of the error it is KL_0 + c ε², whose c is compared, at several K, with the KL of paths that Girsanov's theorem
allows for the error. Samplers start from the exact q_T. Method and results: docs/studies/score_error.md.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np

import srkverify as sv
from srkverify import perturbed
from srkverify._check import Array
from srkverify.divergence import block_kl
from srkverify.divergence.score_error import pairs, squared_error
from srkverify.schemes import SCHEMES
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture, Product, Target
from studies import _command, _score_error_report
from studies._run import run_command
from studies._score_error_growth import growth, leads
from studies._study import Row, Study, Tables

HORIZON, EARLY_STOP = 6.0, 0.01
SIZES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DEFAULT_SCHEMES = (
    "ddpm",
    "exponential_euler",
    "srk",
    "srk_martingale",
    "srk_third_point",
    "srk_third_point_1",
    "dpmpp_2m_sde",
)
KINDS: dict[str, str] = {
    "noise": "fresh N(0, a²/σ_t²) noise in each evaluation and coordinate",
    "relative": "(1 ± a) s",
    "jacobian": "s ± a x",
    "model": "the score of a mixture with weights, means and variances slightly off",
    "wave_1": "s ± a sin(x/σ_t + 0.7)/σ_t",
    "wave_2": "s ± a sin(2x/σ_t + 0.7)/σ_t",
    "wave_4": "s ± a sin(4x/σ_t + 0.7)/σ_t",
    "wave_8": "s ± a sin(8x/σ_t + 0.7)/σ_t",
}
TARGETS: dict[str, Target] = {
    "two_modes": GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25),
    "three_modes": GaussianMixture([0.2, 0.5, 0.3], [[-3.0], [0.0], [2.0]], [0.1, 0.5, 0.2]),
    "gaussian": Product([GaussianMixture([1.0], [[1.0]], v) for v in (1.0 / 4.0, 1.0 / 16.0)]),
}
# Processor seconds of a KL, and of each of its steps.
_SECONDS = {
    "ddpm": (5e-3, 0.0),
    "srk": (2e-3, 3.4e-4),
    "srk_martingale": (2e-3, 3.4e-4),
    "srk_third_point": (1e-2, 3.5e-4),
    "srk_third_point_1": (1e-2, 1.4e-3),
    "dpmpp_2m_sde": (3.5e-2, 1.5e-4),
}
_SPAN = HORIZON - EARLY_STOP
_RELATIVE, _ABSOLUTE = 1e-7, 1e-11  # of a KL; differences of KLs are what counts


@dataclass(frozen=True)
class Cell:
    """One sampler with one number of steps on a target, with one kind of error in all its sizes."""

    target: str
    kind: str
    scheme: str
    steps: int
    sizes: tuple[float, ...]

    @property
    def cost(self) -> float:
        """Processor seconds, roughly."""
        runs = 1.0 + len(self.sizes) * (1.0 if self.kind == "noise" else 2.0)
        wave = self.kind.startswith("wave")
        if self.target == "gaussian" and not wave:
            return 1e-4 * self.steps * runs
        fixed, by_step = _SECONDS.get(self.scheme, _SECONDS["ddpm"])
        return runs * (fixed + by_step * self.steps) * (1.5 if wave else 1.0)


def covered(target: str, kind: str, scheme: str) -> bool:
    """Whether the exact engines take it: noise that is remembered they take on Gaussians alone."""
    return kind != "noise" or target == "gaussian" or not _remembers(scheme)


def cells(options: Namespace) -> list[Cell]:
    """Return the grid, in the order of the rows."""
    return [
        Cell(target, kind, scheme, steps, tuple(sorted(options.sizes)))
        for target in options.targets
        for kind in options.kinds
        for scheme in options.schemes
        if covered(target, kind, scheme)
        for steps in sorted(options.steps)
    ]


def solve(cell: Cell) -> list[Row]:
    """Return a row for each size: KL with the error, with its negative, and without."""
    target = TARGETS[cell.target]
    tableau = SCHEMES[cell.scheme](sv.schedules.exponential(HORIZON, EARLY_STOP, cell.steps))
    plain, plain_error = _kl(target, tableau, None)
    rows = []
    for size in cell.sizes:
        values = [_kl(target, *_wrong(cell.target, cell.kind, size, tableau))]
        if cell.kind != "noise":
            values.append(_kl(target, *_wrong(cell.target, cell.kind, -size, tableau)))
        mean, error = (sum(part) / len(values) for part in zip(*values, strict=True))
        rows.append(
            {
                "target": cell.target,
                "kind": cell.kind,
                "scheme": cell.scheme,
                "steps": cell.steps,
                "nfe": tableau.nfe,
                "epsilon": size,
                "parameter": _parameter(cell.target, cell.kind, size),
                "kl": plain,
                "kl_error": plain_error,
                "kl_plus": values[0][0],
                "kl_minus": values[1][0] if len(values) > 1 else None,
                "worst": max(value for value, _ in values),
                "excess": mean - plain if isfinite(mean) and isfinite(plain) else nan,
                "excess_error": error + plain_error,
                "girsanov": _SPAN * size**2,
            }
        )
    return rows


def _kl(target: Target, tableau: Tableau, score: Target | perturbed.Wavy | None) -> tuple[float, float]:
    """KL and its numerical error; infinite where the sampler is unstable."""
    try:
        parts = [block_kl(own, tableau, "exact", _ABSOLUTE, _RELATIVE, score=law) for own, law in pairs(target, score)]
    except ValueError as problem:
        if str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            return inf, 0.0
        raise
    return sum(part.value for part in parts), sum(part.error for part in parts)


def _wrong(name: str, kind: str, size: float, tableau: Tableau) -> tuple[Tableau, Target | perturbed.Wavy | None]:
    """Return what makes the error: a tableau, and a score if it is not the target's."""
    target, a = TARGETS[name], _parameter(name, kind, size)
    if kind == "noise":
        return perturbed.noisy(tableau, lambda times: a / _spread(times)), None
    if kind == "relative":
        return perturbed.relative(tableau, a), None
    if kind == "jacobian":
        return perturbed.linear(tableau, a), None
    return tableau, _model(target, a) if kind == "model" else _wavy(target, kind, a)


@lru_cache(maxsize=1024)
def _parameter(name: str, kind: str, size: float) -> float:
    """Return a such that ∫ E|ŝ − s|² dt/(T − δ) is ε²: the same error of the score for all schemes and K."""
    target = TARGETS[name]
    if kind != "model":
        plain: dict[str, dict[str, Any]] = {
            "noise": {"noise": lambda times: 1.0 / _spread(times)},
            "relative": {"relative": 1.0},
            "jacobian": {"slope": 1.0},
        }
        return size / _root_mean_square(target, **plain.get(kind) or {"score": _wavy(target, kind, 1.0)})
    a = size
    for _ in range(50):  # the error is nearly proportional to a: each round gains digits
        found = _root_mean_square(target, score=_model(target, a))
        if abs(found / abs(size) - 1.0) < 1e-6:
            break
        a *= abs(size) / found
    return a


def _root_mean_square(target: Target, **error: Any) -> float:
    grid = sv.schedules.exponential(HORIZON, EARLY_STOP, 160)
    return sqrt(float(squared_error(target, 0.5 * (grid[:-1] + grid[1:]), **error) @ -np.diff(grid)) / _SPAN)


def _spread(times: Array) -> Array:
    return np.sqrt(-np.expm1(-2.0 * times))


def _wavy(target: Target, kind: str, amplitude: float) -> perturbed.Wavy:
    return perturbed.Wavy(target, amplitude, float(kind.removeprefix("wave_")), 0.7)


def _model(target: Target, a: float) -> Target:
    """Return the target with weights times e^{±a}, means off by ±a/2 standard deviations and variances times e^{∓a}."""
    if isinstance(target, Product):
        return Product([_model(block, a) for block in target.blocks], target.repeats)  # type: ignore[misc]
    signs = (-1.0) ** np.arange(target.components)
    weights = target.weights * np.exp(a * signs)
    variances = np.broadcast_to(target.variances[:, 0], target.weights.shape)
    means = target.means + (0.5 * a * signs * np.sqrt(variances))[:, None]
    return GaussianMixture(weights / weights.sum(), means, variances * np.exp(-a * signs))


def fold(rows: list[Row], options: Namespace) -> Tables:
    """Return the rows, and what is made of each kind of error with each scheme and K."""
    return {"": rows, "_growth": growth(rows, _SPAN), "_lead": leads(rows)}


@lru_cache(maxsize=64)
def _remembers(scheme: str) -> bool:
    return bool(SCHEMES[scheme]([3.0, 2.0, 1.0]).memory)


def add_options(command: _command.Parser) -> None:
    """Add the grid's options."""

    def names(what: str, allowed: Sequence[str], default: str) -> None:
        command.add_argument(
            f"--{what}s",
            type=_command.listed(_command.name_of(what, allowed)),
            metavar="NAME,…",
            help=f"{what}s (default: {default}): {', '.join(allowed)}",
        )

    names("target", tuple(TARGETS), "all")
    names("kind", tuple(KINDS), "all but wave_2 and wave_8")
    names("scheme", tuple(SCHEMES), "seven")
    positive: Callable[[str], float] = _command.number("size", above=0.0)
    command.add_argument(
        "--sizes",
        type=_command.listed(positive),
        metavar="E,…",
        help=f"ε_score, root mean square errors of the score (default: {', '.join(f'{size:g}' for size in SIZES)})",
    )
    command.add_argument(
        "--steps",
        type=_command.listed(_command.integer("steps", 2, 1 << 14)),
        metavar="K,…",
        help="numbers of steps (default: 16,32,64,128)",
    )


STUDY = Study(
    name="score_error",
    described=__doc__ or "",
    example="python -m studies.score_error --quick\n"
    "python -m studies.score_error --targets two_modes --kinds wave_1,wave_2,wave_4,wave_8 \\\n"
    "    --schemes ddpm,srk,srk_martingale --steps 16,32,64,128,256 --out waves",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=fold,
    report=_score_error_report.report,
    add_options=add_options,
    full={
        "targets": tuple(TARGETS),
        "kinds": ("noise", "relative", "jacobian", "model", "wave_1", "wave_4"),
        "schemes": DEFAULT_SCHEMES,
        "sizes": SIZES,
        "steps": (16, 32, 64, 128),
    },
    quick={
        "targets": ("two_modes", "gaussian"),
        "kinds": ("noise", "relative", "model", "wave_4"),
        "schemes": ("ddpm", "srk", "srk_third_point", "dpmpp_2m_sde"),
        "sizes": (0.01, 0.1, 0.3),
        "steps": (16, 32, 64),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    return run_command(STUDY, argv)


if __name__ == "__main__":
    sys.exit(main())

"""How the free terms of srk_third_order_fitted were found: ``python -m studies._third_order_fit``.

What a sampler's output density p is off by, (p − q)/√(2q), is nearly linear in the free terms, and its square
integrates to KL. So Gauss–Newton steps with a Levenberg–Marquardt damping minimise the mean of log(KL + ε KL_2M) over
random mixtures (studies/_random_laws.py), pairs of equal modes and Gaussians, on both grids of the league; ε KL_2M, a
part of what DPM-Solver++(2M) SDE has, is small enough to be enough. No target of the league is among them.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import inf

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from srkverify._check import Array
from srkverify.divergence.exact import output_density
from srkverify.divergence.reduction import MixtureBlock, reduce
from srkverify.engines import gaussian
from srkverify.engines.mixture1d import end_laws, mixture_density, support
from srkverify.engines.quadrature import Resolution
from srkverify.schemes import dpmpp_2m_sde
from srkverify.schemes._third_order import TERMS, Freedoms, with_freedoms
from srkverify.schemes.third_order import FITTED
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture
from studies import _command
from studies._league_targets import GRIDS
from studies._random_laws import random_law

SEED = 1
LAWS = 12
PAIRS = ((1.0, 0.4), (1.25, 0.5), (2.0, 0.3), (2.0, 0.5))  # modes at ±a and their deviation: odd errors vanish there
VARIANCES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # of Gaussians with mean ½
MIXTURE_BUDGETS, GAUSSIAN_BUDGETS = (14, 24), (8, 14, 24, 48)  # score evaluations, one a step
_ENOUGH_MIXTURE, _ENOUGH_GAUSSIAN = 0.05, 0.3  # ε
_HORIZON, _EARLY_STOP = 6.0, 0.01
_RESOLUTION = Resolution(0.6, 5.0, 8.0)  # KL to half a per cent
_REACH, _SPACING = 7.0, 0.1  # of the points where densities are compared, in standard deviations
_DIFFERENCE = 0.1  # of a free term, in a derivative: well above what the resolution leaves uncertain
_SMALL_TERMS = 2e-3  # how much the square of all terms counts
_SETTLED = 0.01  # of the mean logarithm
_MOST_DAMPING = 30.0
_TERMS = ("scale", "end", *TERMS, "own_early", "past_early", "before_early")


@dataclass(frozen=True)
class Case:
    """One mixture, ``law`` as in :func:`mixture`, or all Gaussians if that is None, with one budget on one grid."""

    law: int | None
    grid: str
    evaluations: int


CASES = [Case(*each) for each in product(range(LAWS + len(PAIRS)), GRIDS, MIXTURE_BUDGETS)] + [
    Case(None, *each) for each in product(GRIDS, GAUSSIAN_BUDGETS)
]


@dataclass(frozen=True)
class Local:
    """KL around the present terms, a value for each law of a case: |e + J a|², and ε KL_2M.

    Attributes
    ----------
    square : (n,) |e|².
    slope : (n, terms) Jᵀ e.
    curvature : (n, terms, terms) Jᵀ J.
    enough : (n,)
    """

    square: Array
    slope: Array
    curvature: Array
    enough: Array


def mixture(index: int) -> GaussianMixture:
    """Return a mixture of the fit: the random ones, then the pairs."""
    if index < LAWS:
        return random_law(index, SEED)
    place, width = PAIRS[index - LAWS]
    return GaussianMixture([0.5, 0.5], [[-place], [place]], width**2)


def times(case: Case) -> Array:
    """Return the grid of a case."""
    return GRIDS[case.grid](_HORIZON, _EARLY_STOP, case.evaluations)


def deviation(case: Case, tableau: Tableau) -> Array:
    """Return e, (laws, numbers): what the output is off by, its squares adding up to KL to leading order."""
    if case.law is None:
        return of_gaussians(tableau, np.array(VARIANCES))
    (block,) = reduce(mixture(case.law))
    assert isinstance(block, MixtureBlock)
    density = output_density(tableau, block.mixture, _RESOLUTION)
    law_at_end = end_laws(block.mixture, tableau.times, "exact")[1]
    spacing = _SPACING * np.sqrt(law_at_end[2].min())
    points = np.arange(*support(*law_at_end, _REACH), spacing)  # the same for all tableaus
    truth = mixture_density(points, *law_at_end)
    found = CubicSpline(density.points, density.value, extrapolate=False)(points)
    return ((np.nan_to_num(found) - truth) * np.sqrt(0.5 * spacing / truth))[None]


def of_gaussians(tableau: Tableau, variances: Array) -> Array:
    """Return the same of Gaussians of mean ½, (n, 2)."""
    law = gaussian.deviations(tableau, variances, "exact")
    stop = tableau.times[-1]
    truth = variances * np.exp(-2.0 * stop) - np.expm1(-2.0 * stop)
    return np.stack([0.5 * law.variance, law.mean * np.sqrt(0.125 / truth)], axis=1)


def around(case: Case, freedoms: Freedoms, terms: Sequence[str]) -> Local:
    """Return KL around ``freedoms`` as a function of the named terms."""
    return linearised(lambda moved: deviation(case, with_freedoms(times(case), moved)), freedoms, terms, enough(case))


def linearised(at: Callable[[Freedoms], Array], freedoms: Freedoms, terms: Sequence[str], enough_of: Array) -> Local:
    """Return KL around ``freedoms``, from what the output is off by as a function of them and from ε KL_2M."""
    off = at(freedoms)
    moves = [replace(freedoms, **{term: getattr(freedoms, term) + _DIFFERENCE}) for term in terms]
    slopes = np.stack([(at(moved) - off) / _DIFFERENCE for moved in moves], axis=1)
    return Local(
        np.square(off).sum(axis=1),
        np.einsum("njp,np->nj", slopes, off),
        np.einsum("njp,nkp->njk", slopes, slopes),
        enough_of,
    )


@cache
def enough(case: Case) -> Array:
    """Return ε KL_2M of each law."""
    share = _ENOUGH_GAUSSIAN if case.law is None else _ENOUGH_MIXTURE
    return share * np.square(deviation(case, dpmpp_2m_sde(times(case)))).sum(axis=1)


def balanced(found: Sequence[Local]) -> Array:
    """Return the weights of all laws of ``CASES``: half for the mixtures, half for the Gaussians."""
    mixtures = np.concatenate(
        [np.full(len(each.square), case.law is not None) for case, each in zip(CASES, found, strict=True)]
    )
    return np.where(mixtures, 1.0 / mixtures.sum(), 1.0 / (~mixtures).sum())


@dataclass(frozen=True)
class Model:
    """The mean of log(KL + ε KL_2M) over all laws, with weights, around the present terms."""

    weights: Array
    local: Local
    terms: Array

    @classmethod
    def of(cls, found: Sequence[Local], terms: Array, weights: Array) -> Model:
        """Join what was found in several cases."""
        parts = [np.concatenate([getattr(each, name) for each in found]) for name in Local.__dataclass_fields__]
        return cls(weights, Local(*parts), terms)

    @property
    def value(self) -> float:
        """At the present terms."""
        return self.at(np.zeros(len(self.terms)), 0.0)[0]

    def at(self, step: Array, damping: float) -> tuple[float, Array]:
        """Value and gradient after a step, with what the step and the terms' own size cost."""
        local = self.local
        turned = local.curvature @ step
        total = local.square + 2.0 * local.slope @ step + turned @ step + local.enough
        moved = self.terms + step
        value = self.weights @ np.log(total) + damping * step @ step + _SMALL_TERMS * moved @ moved
        slope = (self.weights / total) @ (2.0 * local.slope + 2.0 * turned)
        return float(value), slope + 2.0 * damping * step + 2.0 * _SMALL_TERMS * moved

    def step(self, damping: float) -> Array:
        """Return the step to the model's minimum."""
        start = np.zeros(len(self.terms))
        return np.asarray(minimize(self.at, start, args=(damping,), jac=True, method="BFGS").x)


def fit(
    start: Freedoms,
    terms: Sequence[str],
    most: int,
    cases: Sequence[Case] = CASES,
    around: Callable[[Case, Freedoms, Sequence[str]], Local] = around,
    weights: Callable[[Sequence[Local]], Array] = balanced,
) -> Freedoms:
    """Return the fitted terms, after at most so many evaluations of all cases; progress is printed."""
    with ProcessPoolExecutor() as pool:

        def model(freedoms: Freedoms) -> Model | None:
            count = len(cases)
            try:
                found = list(pool.map(around, cases, [freedoms] * count, [tuple(terms)] * count))
            except ValueError as problem:  # terms of which there is no such sampler, or none that is resolved
                print(problem)
                return None
            return Model.of(found, np.array([getattr(freedoms, term) for term in terms]), weights(found))

        freedoms, damping = start, 0.05
        present = model(freedoms)
        if present is None:
            return freedoms
        print(f"mean log KL {present.value:.3f}")
        for _ in range(most):
            moved = present.terms + present.step(damping)
            tried = replace(freedoms, **dict(zip(terms, moved.tolist(), strict=True)))
            new = model(tried)
            gained = present.value - new.value if new else -inf
            print(f"{gained:.3f} better with damping {damping:.2g}: {tried}")
            damping = damping / 3.0 if gained > 0.0 else damping * 5.0
            if new and gained > 0.0:
                freedoms, present = tried, new
            if 0.0 < gained < _SETTLED or damping > _MOST_DAMPING:
                break
    return freedoms


def options(prog: str, described: str, step: str, anew: str, argv: Sequence[str] | None) -> Namespace:
    """Return the options of a fit's command: ``most`` and ``anew``."""
    parser = _command.Parser(prog=prog, description=described)
    most = _command.integer("steps", 1, 1000)
    parser.add_argument(
        "--most", type=most, default=20, metavar="N", help=f"steps at most (20), of {step} on two cores"
    )
    parser.add_argument("--anew", action="store_true", help=f"start from {anew}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, and print the terms."""
    anew = "srk_third_order's terms, with v = 1 - τ_K/τ"
    asked = options("python -m studies._third_order_fit", __doc__ or "", "100 s", anew, argv)
    start = Freedoms(exponent=FITTED.exponent, end=1.0) if asked.anew else FITTED
    print(fit(start, _TERMS, asked.most))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

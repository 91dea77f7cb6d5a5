"""What the league is played on: targets and grids, who made each sampler, and what some are told of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import inf, isnan

import numpy as np

from srkverify import schedules
from srkverify._check import Array
from srkverify.divergence import Divergence, block_kl, effective_variances
from srkverify.divergence.reduction import reduce
from srkverify.schemes import DRAWN, INFORMED, SCHEMES
from srkverify.tableau import Drawn, Tableau
from srkverify.targets import GaussianMixture, Target
from studies._kl_table import evaluations_of
from studies._league_schedulers import SCHEDULERS, tableau

_MOST_WORK = 5e6
_TOO_MUCH = ("steps:", "tableau:")  # the engines' words for a density that blows up, or is not resolved
_DRAWS = 4  # of a step that is drawn: 5·10⁻⁵ of the KL from eight
ENTRANTS: dict[str, Callable[..., Tableau | Drawn]] = {
    **SCHEMES,
    **{name: partial(make, draws=_DRAWS) for name, make in DRAWN.items()},
    **{name: partial(make, variances=1.0) for name, make in INFORMED.items()},  # entrant() tells them the law's own
    **{name: partial(tableau, name) for name in SCHEDULERS},
}

# The paper's sampler, this project's, and all others, which are published rivals; those that are told of the target
# and those that diffusers has a second time have no rank.
PAPER = ("srk",)
OURS = (
    *("srk_martingale", "srk_third_point", "srk_third_point_1", "srk_adapted", "srk_third_point_adapted"),
    *("srk_third_order", "srk_third_order_fitted"),
)

UNRANKED = ("told", "diffusers")


@dataclass(frozen=True)
class Terms:
    """On what terms a sampler plays on mixtures.

    Attributes
    ----------
    first, last : rungs; coarser, the output's density is rough and dear, or the map folds; finer, the steps are many.
        With ``last`` = 0 it does not play there unless all rungs are asked for.
    seconds : of processor time that a KL takes, roughly.
    slow : whether it plays on a few mixtures only.
    far : the same rungs on ``separated``, where scores bend most, if others.
    """

    first: int = 1
    last: int = 256
    seconds: float = 0.05
    slow: bool = False
    far: tuple[int, int] | None = None


_LONG_MEMORY = Terms(16, 64, 0.5, slow=True)
_TERMS: dict[str, Terms] = {
    **dict.fromkeys(("sa_p3", "sa_p2c2", "er_sde_3", "dpmpp_3m_sde", "diffusers.SASolverScheduler"), _LONG_MEMORY),
    "sa_p3c3": Terms(1, 0, 20.0, slow=True),
    "srk_third_order": Terms(16, 128, 1.0, slow=True, far=(32, 128)),
    "srk_third_order_fitted": Terms(8, 256, 1.0, far=(16, 128)),
    "srk_third_order_informed": Terms(8, 128, 1.0, slow=True, far=(16, 128)),
    "ddram": Terms(32, 128, 0.7, slow=True),
    "randomised_midpoint": Terms(16, 256, 0.5, slow=True),
    "ddim_eta0": Terms(seconds=0.1),
    "higher_order_2": Terms(32, 256, 0.3),
    "higher_order_3": Terms(32, 256, 0.5),
    "stochastic_heun": Terms(16, 64, 0.5),
    "edm_heun": Terms(16, 128),
    "seeds_3": Terms(16, 256, 0.5),
    "seeds_2_noise": Terms(32, 256),
    **dict.fromkeys(("sa_p1c1", "sa_p1c2"), Terms(32, 128)),
}
SLOW = tuple(name for name, terms in _TERMS.items() if terms.slow)

GRIDS: dict[str, Callable[[float, float, int], Array]] = {
    "exponential": schedules.exponential,
    "log_snr": partial(schedules.warped, warp=(0.0,)),  # uniform in half log-SNR
}


def origin(scheme: str) -> str:
    """Return whose sampler it is: "paper", "ours", "rival", "told", or "diffusers" for a rival as diffusers has it."""
    if scheme in SCHEDULERS:
        return "diffusers"
    if scheme in INFORMED:
        return "told"
    return "paper" if scheme in PAPER else "ours" if scheme in OURS else "rival"


@dataclass(frozen=True)
class Law:
    """A law whose KL is computed; ``line`` says that it is one-dimensional, ``normal`` that it is Gaussian."""

    make: Callable[[], Target]
    line: bool = True
    normal: bool = False


@dataclass(frozen=True)
class Entry:
    """A target of the league: independent copies of a law, whose KL is that of one, times their number."""

    described: str
    law: str
    copies: int = 1


def _line(weights: Sequence[float], means: Sequence[float], variances: Sequence[float]) -> Target:
    return GaussianMixture(weights, [[mean] for mean in means], [[variance] for variance in variances])


def _anisotropic() -> Target:
    return GaussianMixture([1.0], np.full((1, 16), 0.5), np.geomspace(1e-2, 4.0, 16)[None])


def _low_rank() -> Target:
    means, variances = np.zeros((2, 64)), np.full((2, 64), 1e-4)
    means[:, :4] = [[-0.75], [0.75]]  # at distance 3
    variances[:, :4] = 0.25
    return GaussianMixture([0.5, 0.5], means, variances)


LAWS: dict[str, Law] = {
    "unimodal": Law(partial(_line, (1.0,), (1.0,), (0.25,)), normal=True),
    "overlapping": Law(partial(_line, (0.4, 0.6), (-1.5, 1.5), (0.25, 0.25))),
    "separated": Law(partial(_line, (0.3, 0.7), (-3.0, 3.0), (0.05, 0.05))),
    "unequal": Law(partial(_line, (0.05, 0.95), (-2.0, 2.0), (0.25, 0.25))),
    "three_modes": Law(partial(_line, (0.2, 0.5, 0.3), (-3.0, 0.0, 2.0), (0.1, 0.5, 0.2))),
    "anisotropic": Law(_anisotropic, line=False, normal=True),
    "low_rank": Law(_low_rank, line=False),
    "multiscale": Law(partial(_line, (0.5, 0.3, 0.2), (-1.5, 0.5, 2.0), (1.0, 0.04, 0.0025))),
}
TARGETS: dict[str, Entry] = {
    "unimodal": Entry("N(1, ¼)", "unimodal"),
    "overlapping": Entry("0.4 N(−1.5, ¼) + 0.6 N(1.5, ¼)", "overlapping"),
    "separated": Entry("0.3 N(−3, 0.05) + 0.7 N(3, 0.05)", "separated"),
    "unequal": Entry("0.05 N(−2, ¼) + 0.95 N(2, ¼)", "unequal"),
    "three_modes": Entry("0.2 N(−3, 0.1) + 0.5 N(0, 0.5) + 0.3 N(2, 0.2)", "three_modes"),
    "anisotropic": Entry("a Gaussian in d = 16, variances 0.01 … 4, means ½", "anisotropic"),
    "low_rank": Entry("two modes at distance 3 in d = 64, variance ¼ in 4 directions, 10⁻⁴ in 60", "low_rank"),
    "multiscale": Entry("0.5 N(−1.5, 1) + 0.3 N(½, 0.04) + 0.2 N(2, 0.0025)", "multiscale"),
    "product_1000": Entry("1000 copies of overlapping", "overlapping", 1000),
}


def law_kl(law: str, tableau: Tableau | Drawn, absolute: float, relative: float) -> tuple[Divergence, str]:
    """Return KL on a law, in nats; where the sampler is unstable or not resolved, infinity and the engine's words."""
    try:
        parts = [
            block_kl(block, tableau, absolute=absolute, relative=relative, most_work=_MOST_WORK)
            for block in reduce(LAWS[law].make())
        ]
    except ValueError as problem:
        if not str(problem).startswith(_TOO_MUCH):
            raise
        return Divergence(inf, 0.0, "none"), str(problem)
    value = sum(part.value for part in parts)
    return Divergence(inf if isnan(value) else value, sum(part.error for part in parts), parts[0].method), ""


def entrant(scheme: str, target: Target, times: Array) -> Tableau | Drawn:
    """Return a sampler's tableau; what some are told of the data is told of ``target``."""
    if scheme in INFORMED:
        return INFORMED[scheme](times, effective_variances(target, times))
    return ENTRANTS[scheme](times)


def plays(scheme: str, target: str) -> bool:
    """Tell whether a sampler has an exact KL on a target.

    A sampler that draws its step draws it once for all coordinates, so that KL does not add over copies.
    """
    entry = TARGETS[target]
    return scheme not in DRAWN or (LAWS[entry.law].line and entry.copies == 1)


def terms(scheme: str, law: str) -> Terms:
    """Return on what terms a sampler plays on a law; what is drawn makes a Gaussian a mixture."""
    if LAWS[law].normal and scheme not in DRAWN:
        return Terms(last=1 << 12, seconds=0.01)
    found = _TERMS.get(scheme, Terms())
    if law == "separated" and found.far:
        first, last = found.far
        return replace(found, first=first, last=last)
    return found


@lru_cache(maxsize=256)
def memory(scheme: str) -> int:
    """Return the number of earlier evaluations that a sampler uses."""
    return _alike(scheme)(schedules.exponential(2.0, 0.5, 8)).memory


@lru_cache(maxsize=256)
def steps_within(scheme: str, evaluations: int, horizon: float) -> int:
    """Return the most steps from ``horizon`` that take at most ``evaluations``; 0 if fewer than two do."""
    each, besides = evaluations_of(_alike(scheme), horizon)
    steps = (evaluations - besides) // each
    return steps if steps >= 2 else 0


def _alike(scheme: str) -> Callable[..., Tableau | Drawn]:
    """Return a sampler with the same evaluations and memory, which asks no other package."""
    return ENTRANTS[SCHEDULERS[scheme].twin if scheme in SCHEDULERS else scheme]

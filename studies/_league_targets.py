"""What the league is played on: targets and grids, and who made each sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from srkverify import schedules
from srkverify._check import Array
from srkverify.schemes import DRAWN, SCHEMES
from srkverify.tableau import Drawn, Tableau
from srkverify.targets import GaussianMixture, Target
from studies._kl_table import evaluations_of
from studies._league_schedulers import SCHEDULERS, tableau

ENTRANTS: dict[str, Callable[..., Tableau | Drawn]] = {
    **SCHEMES,
    "ddram": DRAWN["ddram"],
    **{name: partial(tableau, name) for name in SCHEDULERS},
}

# The paper's sampler, this project's, and all others, which are published rivals.
PAPER = ("srk",)
OURS = (
    *("srk_martingale", "srk_third_point", "srk_third_point_1", "srk_adapted", "srk_third_point_adapted"),
    *("srk_third_order", "srk_third_order_fitted"),
)

# On mixtures a value of these takes seconds: a memory of two evaluations, or steps with little noise of their own.
SLOW = (
    *("sa_p3", "sa_p2c2", "er_sde_3", "dpmpp_3m_sde", "ddim_eta0", "higher_order_2", "higher_order_3", "ddram"),
    *("srk_third_order", "diffusers.SASolverScheduler"),
)
# First and last rungs on mixtures: coarser, the output's density is rough and dear; finer, the steps are many.
_SPAN = {
    **dict.fromkeys(SLOW, (16, 64)),
    "ddim_eta0": (8, 32),
    "higher_order_2": (16, 32),
    "higher_order_3": (32, 64),
    "ddram": (32, 128),
    "srk_third_order": (16, 128),
    "srk_third_order_fitted": (8, 256),
    "stochastic_heun": (16, 64),
    "edm_heun": (16, 128),
    "seeds_3": (16, 256),
    "seeds_2_noise": (32, 256),
    **dict.fromkeys(("sa_p1c1", "sa_p1c2"), (32, 128)),
}
# The same on ``separated``, where scores bend most.
_FAR = {"srk_third_order": (32, 128), "srk_third_order_fitted": (16, 128)}

GRIDS: dict[str, Callable[[float, float, int], Array]] = {
    "exponential": schedules.exponential,
    "log_snr": partial(schedules.warped, warp=(0.0,)),  # uniform in half log-SNR
}


def origin(scheme: str) -> str:
    """Return whose sampler it is: "paper", "ours", "rival", or "diffusers" for a rival as diffusers has it."""
    if scheme in SCHEDULERS:
        return "diffusers"
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


def plays(scheme: str, target: str) -> bool:
    """Tell whether a sampler has an exact KL on a target.

    A sampler that draws its step draws it once for all coordinates, so that KL does not add over copies; and a memory
    of three evaluations is beyond the quadrature.
    """
    entry = TARGETS[target]
    law = LAWS[entry.law]
    if scheme in DRAWN:
        return law.line and entry.copies == 1
    return law.normal or memory(scheme) < 3


def affordable(scheme: str, law: str) -> tuple[int, int]:
    """Return the first and the last number of evaluations with which a sampler's KL on a law takes seconds at most."""
    if LAWS[law].normal and scheme not in DRAWN:
        return 1, 1 << 12
    if law == "separated" and scheme in _FAR:
        return _FAR[scheme]
    return _SPAN.get(scheme, (1, 256))


@lru_cache(maxsize=256)
def memory(scheme: str) -> int:
    """Return the number of earlier evaluations that a sampler uses."""
    return _alike(scheme)(schedules.exponential(2.0, 0.5, 8)).memory


@lru_cache(maxsize=256)
def steps_within(scheme: str, evaluations: int) -> int:
    """Return the most steps that take at most ``evaluations``; 0 if fewer than two do."""
    each, besides = evaluations_of(_alike(scheme))
    steps = (evaluations - besides) // each
    return steps if steps >= 2 else 0


def _alike(scheme: str) -> Callable[..., Tableau | Drawn]:
    """Return a sampler with the same evaluations and memory, which asks no other package."""
    return ENTRANTS[SCHEDULERS[scheme].twin if scheme in SCHEDULERS else scheme]

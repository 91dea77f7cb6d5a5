"""Complexity: the number of steps K*(d, ε) from which on KL ≤ ε², and its exponents in d and 1/ε.

A theorem "KL ≤ ε² in Õ(d^a/ε^b) steps" (SRK: a = 3/2, b = 1, arXiv 2410.04760; DDPM's guarantee there:
a = 1, b = 2) speaks of K*. It is read off a :class:`KLCurve`, KL measured on a ladder of K, by
:func:`steps_to_reach`; exponents over many (d, ε) come from :func:`fit_exponents`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, isfinite, log, nan

import numpy as np
from numpy.typing import NDArray

from srkverify import _check, _crossing
from srkverify._check import Array
from srkverify._exponents import Exponent, ExponentFit, fit_exponents
from srkverify.divergence import Divergence

__all__ = [
    "Exponent",
    "ExponentFit",
    "KLCurve",
    "StepsToReach",
    "fit_exponents",
    "measured_curve",
    "steps_to_reach",
]

Evaluate = Callable[[int], Divergence]
_EXTRAPOLATED_FROM = 4  # rungs: three for the expansion, and one to check it


@dataclass(frozen=True, eq=False)
class KLCurve:
    """KL of a sampler against its number of steps K, on a ladder of K.

    Attributes
    ----------
    steps : (n,) increasing integers K ≥ 1, the rungs.
    value : (n,) KL in nats; infinite where the sampler is unstable.
    error : (n,) numerical errors of ``value``, in nats.
    nfe_per_step : score evaluations of each step.
    extra_nfe : evaluations that a run needs besides (one, for schemes that start with a step of two).

    Raises
    ------
    ValueError
        If shapes disagree, steps are not increasing positive integers, or a value is negative or NaN.
    """

    steps: NDArray[np.int64]
    value: Array
    error: Array
    nfe_per_step: int = 1
    extra_nfe: int = 0

    def __post_init__(self) -> None:
        steps = np.array(self.steps)
        value, error = np.array(self.value, dtype=np.float64), np.array(self.error, dtype=np.float64)
        if steps.ndim != 1 or not len(steps) or not np.issubdtype(steps.dtype, np.integer):
            raise ValueError(f"steps must be a non-empty sequence of integers; got {self.steps!r}")
        if steps[0] < 1 or (np.diff(steps) <= 0).any():
            raise ValueError(f"steps must be increasing and >= 1; got {steps.tolist()}")
        if value.shape != steps.shape or error.shape != steps.shape:
            raise ValueError(f"value and error must have shape {steps.shape}; got {value.shape} and {error.shape}")
        if not (value >= 0.0).all():
            raise ValueError(f"value must be >= 0; got {float(value[~(value >= 0.0)][0])!r}")
        for name, array in (("steps", steps.astype(np.int64)), ("value", value), ("error", error)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def nfe(self, steps: int) -> int:
        """Score evaluations of a run of ``steps`` steps."""
        return self.nfe_per_step * steps + self.extra_nfe


@dataclass(frozen=True)
class StepsToReach:
    """K*(ε): the least K such that KL ≤ ε² with K steps and with any larger number of steps.

    That is what a guarantee "K steps suffice" is about. KL(K) need not fall everywhere: where the leading terms of
    the error cancel, it dips, and may come back above ε².

    Attributes
    ----------
    epsilon : float
    steps, steps_low, steps_high : int
        K* and the interval in which it lies if the error estimate holds.
    how : str
        ``"exact"``: KL(K*) ≤ ε² < KL(K* − 1), both evaluated. ``"interpolated"`` between rungs of the ladder.
        ``"extrapolated"`` beyond its largest rung.
    kl, kl_error : float
        KL at ``steps``, in nats: evaluated if exact, else predicted.
    first_rung : int or None
        If KL dips to ε² and comes back, the first rung of the ladder with KL ≤ ε²; else None.
    """

    epsilon: float
    steps: int
    steps_low: int
    steps_high: int
    how: str
    kl: float
    kl_error: float
    first_rung: int | None = None


def measured_curve(
    evaluate: Evaluate,
    ladder: Sequence[int],
    epsilons: Sequence[float],
    *,
    nfe_per_step: int = 1,
    extra_nfe: int = 0,
    first: int = 64,
) -> KLCurve:
    """Evaluate KL on the part of ``ladder`` that finding K* needs, and no more.

    From the first rung ≥ ``first`` it goes down until KL exceeds the largest ε², and up until KL falls
    between two rungs that are both below the smallest one. A curve that ends above it has at least four
    rungs, from which to extrapolate. Where K is so small that KL is of order 1, samplers spread their mass
    over many orders of magnitude, and evaluations cost the most and tell the least.

    Parameters
    ----------
    evaluate : function of K
        KL of the sampler with K steps.
    ladder : increasing integers ≥ 1.
    epsilons : the ε > 0 of interest.
    nfe_per_step, extra_nfe : as in :class:`KLCurve`.
    first : int
        Where to begin.

    Raises
    ------
    ValueError
        If ladder or epsilons are empty or out of range.
    """
    rungs = np.array([_check.integer("ladder", steps, at_least=1) for steps in ladder])
    thresholds = [_check.number("epsilon", epsilon, above=0.0) ** 2 for epsilon in epsilons]
    if not len(rungs) or (np.diff(rungs) <= 0).any() or not thresholds:
        raise ValueError(f"ladder must be increasing and epsilons not empty; got {list(ladder)}, {list(epsilons)}")
    begin = min(int(np.searchsorted(rungs, first)), len(rungs) - 1)
    found = {begin: evaluate(int(rungs[begin]))}
    low = high = begin
    while low > 0 and found[low].value <= max(thresholds):
        low -= 1
        found[low] = evaluate(int(rungs[low]))
    while high < len(rungs) - 1:
        former = found.get(high - 1)
        if former is not None and found[high].value < former.value <= min(thresholds):
            break
        high += 1
        found[high] = evaluate(int(rungs[high]))
    while low > 0 and found[high].value > min(thresholds) and high - low < _EXTRAPOLATED_FROM - 1:
        low -= 1
        found[low] = evaluate(int(rungs[low]))
    kept = [found[index] for index in range(low, high + 1)]
    return KLCurve(
        rungs[low : high + 1],
        np.array([point.value for point in kept]),
        np.array([point.error for point in kept]),
        nfe_per_step,
        extra_nfe,
    )


def steps_to_reach(
    curve: KLCurve, epsilon: float, evaluate: Evaluate | None = None, exact_up_to: int = 64
) -> StepsToReach:
    """K* from a curve and, for small K, from evaluations of candidates.

    The last rung with KL > ε² and the rung after it bracket K*. If the latter is ≤ ``exact_up_to``,
    integers between are evaluated until KL(K* − 1) > ε² ≥ KL(K*): exact, provided that KL crosses ε² but
    once between two rungs. Otherwise log KL is interpolated as a cubic in log K through the four nearest
    rungs; the error estimate is the largest change when one of them is left out. Beyond the ladder KL =
    K^−p (C_0 + C_1/K + C_2/K²) is fitted to the last rungs, p an integer; the error estimate is five times
    the change when the last rung is left out. Numerical errors of KL are added to each.

    Parameters
    ----------
    curve : KLCurve
    epsilon : float
        ε > 0; the threshold is ε² nats.
    evaluate : function of K, or None
        None interpolates everywhere.
    exact_up_to : int
        Largest rung below which candidates are evaluated.

    Raises
    ------
    ValueError
        If ε ≤ 0; if KL at the lowest rung K > 1 is ≤ ε² already and there is no ``evaluate``; or if the
        curve ends above ε² with fewer than two finite rungs or without falling, so that it cannot be
        extrapolated.
    """
    threshold = _check.number("epsilon", epsilon, above=0.0) ** 2
    below = curve.value <= threshold
    at = len(below) if not below.any() else int(np.flatnonzero(~below).max(initial=-1)) + 1
    dip = int(curve.steps[below.argmax()]) if below[:at].any() else None
    if at == len(below):
        found = _crossing.beyond(curve.steps, curve.value, curve.error, threshold)
        return _predicted(epsilon, "extrapolated", int(curve.steps[-1]), None, dip, *found)
    low, high = int(curve.steps[at - 1]) if at else 0, int(curve.steps[at])
    guess = (low + high) // 2
    if at:
        found = _crossing.between(curve.steps, curve.value, curve.error, at, threshold)
        estimate = _predicted(epsilon, "interpolated", low, high, dip, *found)
        if high - low > 1 and (high > exact_up_to or evaluate is None):
            return estimate
        guess = estimate.steps
    known = {
        int(steps): Divergence(float(value), float(error), "ladder")
        for steps, value, error in zip(curve.steps, curve.value, curve.error, strict=True)
    }

    def kl(steps: int) -> Divergence:
        if steps not in known:
            if evaluate is None:
                raise ValueError(
                    f"ladder must begin where KL > epsilon² = {threshold:g}, or evaluate be given; "
                    f"got KL = {curve.value[0]:g} at K = {curve.steps[0]}"
                )
            known[steps] = evaluate(steps)
        return known[steps]

    while low == 0 and high > 1:  # the ladder begins too high: halve until KL is above
        half = high // 2
        low, high = (half, high) if kl(half).value > threshold else (0, half)
    steps = _least(kl, threshold, low, high, guess)
    # Where KL is within its error of ε², the neighbour may be the answer.
    value, former = kl(steps), known.get(steps - 1)
    early = former is not None and former.value - former.error <= threshold
    late = value.value + value.error > threshold
    return StepsToReach(epsilon, steps, steps - early, steps + late, "exact", value.value, value.error, dip)


def _least(kl: Evaluate, threshold: float, low: int, high: int, guess: int) -> int:
    """K in (low, high] with KL(K − 1) > threshold ≥ KL(K); the ends are known to bracket it."""
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        if kl(guess).value <= threshold:
            high, guess = guess, guess - 1
        else:
            low, guess = guess, guess + 1
    return high


def _predicted(
    epsilon: float,
    how: str,
    low: int,
    high: int | None,
    dip: int | None,
    root: float,
    error: float,
    order: float,
) -> StepsToReach:
    """K* in (low, high] from log K of the crossing, its error and the local order of KL."""

    def steps_at(log_steps: float) -> int:
        whole = max(ceil(exp(min(log_steps, _crossing.FARTHEST))), low + 1)
        return whole if high is None else min(whole, high)

    steps = steps_at(root)
    kl = epsilon**2 * exp(-order * (log(steps) - root)) if isfinite(order) else nan
    return StepsToReach(
        epsilon, steps, steps_at(root - error), steps_at(root + error), how, kl, kl * order * error, dip
    )

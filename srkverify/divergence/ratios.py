"""From the log ratios of paths to a divergence: means of functions of E[e^L | start], and how far to trust them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from srkverify._check import Array

_FOLDS = 8
_ROWS = 1 << 20  # numbers of a slice of starts
_TAIL_SHARE, _TAIL_MOST = 0.05, 2000  # of all weights, those that the tail's index is made of
_FOUR_MOMENTS = 0.25  # the largest tail index of weights whose variance has an error that the sample shows


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Ratios:
    """What starts of both laws tell; attributes as in :class:`~srkverify.divergence.sampled.PathDivergence`.

    ``doubt_of_error`` is the relative error of the standard error of KL.
    """

    kl: Estimate
    doubt_of_error: float
    change: Estimate
    check: Estimate
    ess: float
    tail: float


def summary(of_truth: Array, of_sampler: Array) -> Ratios:
    """Return what log ratios L (n, M) from starts of the truth q and of the sampler's law p tell of KL(q ‖ p).

    With r = p/q = E[e^L | start], M ≥ 8 a multiple of 4. Both laws are halves of h = (q + p)/2, and q/h = 2/(1 + r):

        KL = E_h G(r),  G = 2 (r − 1 − log r)/(1 + r),   E_q r = 1 = E_h 2 r/(1 + r).

    G is not negative, of second order in r − 1, and bounded where the sampler is where the truth is not. The second
    equation is ``check``, and a control variate: KL is the mean of G + c C, C = 2 (r − 1)/(1 + r), with c from the
    regression among other starts.

    A function of r is estimated from the mean weight m of a start by the jackknife, M f(m) − (M − 1) mean_j f(m_{−j}).
    Its bias, mostly the weights' third cumulant, is of order 1/(M (M − 1)): it is estimated from halves of the paths,
    and taken off. Heavy tails leave a bias that falls more slowly in M; ``change`` shows it.
    """
    parts = [_of_starts(logs) for logs in (of_truth, of_sampler)]
    check = _mean([1.0 + part.balance for part in parts])
    slopes = _slopes(parts)
    values = [part.kl + slope * part.balance for part, slope in zip(parts, slopes, strict=True)]
    return Ratios(
        kl=_mean(values),
        doubt_of_error=_error_of_spread(values),
        change=_mean([part.change for part in parts]),
        check=check,
        ess=float(sum(part.ess.sum() for part in parts)),
        tail=_tail(np.concatenate([of_truth, of_sampler])),
    )


def path_summary(logs: Array, means: Array) -> Estimate:
    """Return the mean of −L over paths of the truth, n starts with M each: KL(truth ‖ sampler) of paths.

    ``logs`` (M, n) are L; in ``means`` a part of L is replaced by its mean given the later states. The difference of
    the two and e^L − 1 have mean 0, and −L less its regression on both (among other starts) varies in second order only
    where the KL is small. Where it is large, e^L has a heavy tail: a sample without the few weights that its mean is
    made of has another mean than 0, and does not show it. Such weights control nothing.
    """
    controls, values = (means - logs).mean(axis=0)[None], -means.mean(axis=0)
    found = [_mean([values - _regression(controls, values)])]
    if _tail_index(logs) <= _FOUR_MOMENTS:
        controls = np.concatenate([controls, np.expm1(logs).mean(axis=0)[None]])
        found.append(_mean([values - _regression(controls, values)]))
    return min(found, key=lambda one: one.error)


def _regression(controls: Array, values: Array) -> Array:
    """Return for each point the least-squares combination of ``controls`` (k, n), its coefficients from other folds."""
    result, folds = np.zeros_like(values), np.arange(len(values)) % _FOLDS
    for fold in range(_FOLDS):
        own = folds == fold
        off = controls[:, ~own] - controls[:, ~own].mean(axis=1, keepdims=True)
        scales = np.maximum(np.sqrt((off**2).mean(axis=1)), np.finfo(np.float64).tiny)
        weights = np.linalg.lstsq((off / scales[:, None]).T, values[~own] - values[~own].mean(), rcond=1e-10)[0]
        result[own] = (weights / scales) @ controls[:, own]
    return result


class _Starts(NamedTuple):
    """What is estimated at each start: G, C, what G is more than with M/2 paths, and the effective number of paths."""

    kl: Array
    balance: Array
    change: Array
    ess: Array


def _of_starts(logs: Array) -> _Starts:
    count, inner = logs.shape
    each = np.empty((4, count))
    rows = max(1, _ROWS // inner)
    for first in range(0, count, rows):
        some = logs[first : first + rows]
        kl = _without_bias(_kl, some)
        of_half = 0.5 * sum(_without_bias(_kl, half) for half in np.split(some, 2, axis=1))
        weights = np.exp(some - some.max(axis=1, keepdims=True))
        ess = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
        each[:, first : first + rows] = kl, _without_bias(_balance, some), kl - of_half, ess
    return _Starts(*each)


def _kl(log_r: Array) -> Array:
    """Return G without overflow."""
    return 2.0 * (expit(log_r) - expit(-log_r) * (1.0 + log_r))


def _balance(log_r: Array) -> Array:
    """Return C."""
    return 2.0 * np.tanh(0.5 * log_r)


def _without_bias(function: Callable[[Array], Array], logs: Array) -> Array:
    """Return f(r) of every start, estimated from its paths."""
    inner = logs.shape[1]
    halves = 0.5 * sum(_jackknife(function, half) for half in np.split(logs, 2, axis=1))
    whole = _jackknife(function, logs)
    return whole + (whole - halves) / (4.0 * (inner - 1) / (inner - 2) - 1.0)


def _jackknife(function: Callable[[Array], Array], logs: Array) -> Array:
    inner = logs.shape[1]
    top = logs.max(axis=1)
    log_mean = top + np.log(np.exp(logs - top[:, None]).mean(axis=1))
    return inner * function(log_mean) - (inner - 1) * function(_log_mean_of_others(logs)).mean(axis=1)


def _log_mean_of_others(logs: Array) -> Array:
    """Return log m_{−j}, the mean without the j-th weight, (n, M); no digits are lost where that weight is all."""
    count, inner = logs.shape
    rows, best = np.arange(count), logs.argmax(axis=1)
    rest = logs.copy()
    rest[rows, best] = -np.inf
    second = rest.max(axis=1)
    without_best = second + np.log(np.exp(rest - second[:, None]).sum(axis=1))
    weights = np.exp(logs - logs[rows, best][:, None])
    left = weights.sum(axis=1, keepdims=True) - weights  # ≥ 1 but for the best
    left[rows, best] = 1.0
    result = np.log(left) + logs[rows, best][:, None]
    result[rows, best] = without_best
    return result - np.log(inner - 1.0)


def _mean(halves: list[Array]) -> Estimate:
    """Return the mean under h: that of the means over both laws."""
    error = np.sqrt(sum(half.var(ddof=1) / len(half) for half in halves)) / len(halves)
    return Estimate(float(np.mean([half.mean() for half in halves])), float(error))


def _error_of_spread(halves: list[Array]) -> float:
    """Return the relative standard error of a standard error: of a variance over n it is ½ √((kurtosis − 1)/n)."""
    squares = [(half - half.mean()) ** 2 / len(half) for half in halves]
    total = sum(square.mean() for square in squares)
    if total == 0.0:
        return 0.0
    return float(0.5 * np.sqrt(sum(square.var() / len(square) for square in squares)) / total)


def _slopes(parts: list[_Starts]) -> list[Array]:
    """Return −1 times the regression of G on C among the starts of other folds: times C, its mean is 0 exactly."""
    folds = [np.arange(len(part.kl)) % _FOLDS for part in parts]
    slopes = [np.zeros(len(part.kl)) for part in parts]
    for fold in range(_FOLDS):
        moments = np.zeros(2)
        for part, own in zip(parts, folds, strict=True):
            used = own != fold
            off = part.balance[used] - part.balance[used].mean()
            moments += off @ part.kl[used], off @ off
        for slope, own in zip(slopes, folds, strict=True):
            slope[own == fold] = -moments[0] / moments[1] if moments[1] > 0.0 else 0.0
    return slopes


def _tail(logs: Array) -> float:
    """Return the tail index of weights over the mean of the other ones of their start."""
    return _tail_index(logs - _log_mean_of_others(logs))


def _tail_index(logs: Array) -> float:
    """Return Hill's index of e^logs (Annals of Statistics 3, 1975): moments below its inverse are finite."""
    ordered: NDArray[np.float64] = np.sort(logs, axis=None)
    top = int(min(_TAIL_MOST, max(8, _TAIL_SHARE * len(ordered)), len(ordered) - 1))
    return float((ordered[-top:] - ordered[-top - 1]).mean())

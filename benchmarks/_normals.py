"""How normal the engine's normals are: moments, distance of the distribution functions and tails of many draws."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr
from tqdm import tqdm

from srkverify.engines import rng

MOST_Z, LEAST_P = 5.0, 1e-6

_BLOCK = (1 << 12, 64)  # particles and coordinates of one (step, noise): 2 MB
_BLOCKS_A_TASK = 16
_BINS = 1 << 16
_POWERS = range(1, 9)
_TAILS = (4.0, 5.0, 6.0)


def check_normals(draws: int, dtype: str, threads: int, seed: int = 0) -> bool:
    """Print a table of z-scores of at least ``draws`` draws; whether none is beyond MOST_Z and the KS test passes.

    Draws are those of steps 0, 1, … of 4096 particles in 64 dimensions, of the first and second noise in turn.
    """
    blocks = math.ceil(draws / math.prod(_BLOCK))
    draws, begin = blocks * math.prod(_BLOCK), time.perf_counter()
    sums, tails, bins = np.zeros(len(_POWERS)), np.zeros(len(_TAILS), np.int64), np.zeros(_BINS, np.int64)
    tasks = [range(first, min(first + _BLOCKS_A_TASK, blocks)) for first in range(0, blocks, _BLOCKS_A_TASK)]
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda task: _count(seed, task, dtype), tasks)
        for more_sums, more_tails, more_bins in tqdm(parts, total=len(tasks), disable=None):
            sums += more_sums
            tails += more_tails
            bins += more_bins
    print(f"{draws} normals in {dtype}, {time.perf_counter() - begin:.0f} s")
    print(f"{'':<14}{'expected':>18}{'found':>20}{'z':>8}")
    scores = []
    for power, total in zip(_POWERS, sums, strict=True):
        expected, deviation = _moment(power), math.sqrt(_moment(2 * power) - _moment(power) ** 2)
        scores.append((total / draws - expected) / deviation * math.sqrt(draws))
        print(f"{f'mean of x^{power}':<14}{expected:>18.0f}{total / draws:>20.8f}{scores[-1]:>8.2f}")
    for tail, count in zip(_TAILS, tails.tolist(), strict=True):
        expected = 2.0 * ndtr(-tail) * draws
        scores.append(_poisson_score(count, expected))
        print(f"{f'|x| > {tail:.0f}':<14}{expected:>18.2f}{count:>20}{scores[-1]:>8.2f}")
    # What happens between the edges of the bins is not seen: there the distance can exceed this one by a few √(bin/N).
    distance = np.abs(np.cumsum(bins) / draws - np.arange(1, _BINS + 1) / _BINS).max()
    chance = stats.kstwobign.sf(distance * math.sqrt(draws))
    print(f"Kolmogorov–Smirnov distance at the edges of {_BINS} equal bins: {distance:.2e}, p = {chance:.2g}")
    passed = bool(np.abs(scores).max() <= MOST_Z and chance >= LEAST_P)
    print(f"{'passed' if passed else 'FAILED'}: |z| <= {MOST_Z:g} and p >= {LEAST_P:g}\n")
    return passed


def _count(seed: int, blocks: range, dtype: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return sums of powers, counts in the tails and counts in equally probable bins."""
    sums, tails, bins = np.zeros(len(_POWERS)), np.zeros(len(_TAILS), np.int64), np.zeros(_BINS, np.int64)
    for block in blocks:
        x = rng.normals(seed, *_BLOCK, step=block, noise=block % 2, dtype=dtype).ravel().astype(np.float64)
        x2 = x * x
        x3, x4 = x * x2, x2 * x2
        sums += [x.sum(), x @ x, x @ x2, x2 @ x2, x @ x4, x2 @ x4, x3 @ x4, x4 @ x4]
        tails += [np.count_nonzero(x2 > tail**2) for tail in _TAILS]
        # ndtr rounds to 1 beyond 8.3
        bins += np.bincount(np.minimum(ndtr(x) * _BINS, _BINS - 1).astype(np.int64), minlength=_BINS)
    return sums, tails, bins


def _moment(power: int) -> float:
    """Return E x^power, (power − 1)!! if it is even."""
    return 0.0 if power % 2 else float(math.prod(range(1, power, 2)))


def _poisson_score(count: int, expected: float) -> float:
    """Return the z with the same chance as a Poisson count so far out, which may have an expectation below 1."""
    above, below = stats.poisson.sf(count - 1, expected), stats.poisson.cdf(count, expected)
    score = stats.norm.isf(min(above, below, 0.5))
    return float(score if above < below else -score)

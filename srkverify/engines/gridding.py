"""Compiled pieces that the density engines share: mixture scores, and Gaussians added to a uniform grid.

Fast Gaussian gridding (Greengard & Lee, SIAM Review 2004): on a grid of spacing D, with x the distance of the center
from its nearest grid point, e^{−(x−tD)²/2σ²} = e^{−x²/2σ²} · (e^{xD/σ²})^t · e^{−(tD)²/2σ²}: a Gaussian costs two
exponentials, and each grid point one product with a table that all Gaussians share.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from srkverify.engines import vecmath

LANES = 64  # sources that are handled together

jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@jit
def mixture_score(point: Any, score: Any, log_weight: Any, mean: Any, inverse: Any, highest: Any, total: Any) -> None:
    """Score of a mixture at LANES points; ``highest`` and ``total`` are scratch."""
    for lane in range(LANES):
        highest[lane] = -1e308
        total[lane] = 0.0
        score[lane] = 0.0
    for c in range(len(mean)):
        for lane in range(LANES):
            gap = mean[c] - point[lane]
            highest[lane] = max(highest[lane], log_weight[c] - 0.5 * inverse[c] * gap * gap)
    for c in range(len(mean)):
        for lane in range(LANES):
            gap = mean[c] - point[lane]
            share = vecmath.exp(log_weight[c] - 0.5 * inverse[c] * gap * gap - highest[lane])
            total[lane] += share
            score[lane] += share * inverse[c] * gap
    for lane in range(LANES):
        score[lane] /= total[lane]


@jit
def gridding_factors(center: Any, start: Any, ratio: Any, nearest: Any, step: Any, spread: Any, taps: Any) -> None:
    """Split N(center, spread²) on a grid: its value at tap t (from −taps) is start·ratio^t·e^{−(t·step)²/2·spread²}."""
    scale = 1.0 / (spread * spread)
    for lane in range(LANES):
        index = np.rint(center[lane] / step)
        gap = center[lane] - index * step
        nearest[lane] = np.int64(index)
        start[lane] = vecmath.exp(-scale * gap * (0.5 * gap + taps * step))
        ratio[lane] = vecmath.exp(scale * gap * step)


@jit
def add_gaussian(out: Any, first: Any, amount: Any, ratio: Any, table: Any) -> None:
    """Add amount·ratio^t·table[t] to ``out`` from index ``first`` on; the table's length is a multiple of 8."""
    p0, p1 = amount, amount * ratio
    two = ratio * ratio
    p2, p3 = p0 * two, p1 * two
    four = two * two
    p4, p5, p6, p7 = p0 * four, p1 * four, p2 * four, p3 * four
    eight = four * four
    for base in range(0, len(table), 8):
        at = first + base
        out[at] += p0 * table[base]
        out[at + 1] += p1 * table[base + 1]
        out[at + 2] += p2 * table[base + 2]
        out[at + 3] += p3 * table[base + 3]
        out[at + 4] += p4 * table[base + 4]
        out[at + 5] += p5 * table[base + 5]
        out[at + 6] += p6 * table[base + 6]
        out[at + 7] += p7 * table[base + 7]
        p0, p1, p2, p3 = p0 * eight, p1 * eight, p2 * eight, p3 * eight
        p4, p5, p6, p7 = p4 * eight, p5 * eight, p6 * eight, p7 * eight

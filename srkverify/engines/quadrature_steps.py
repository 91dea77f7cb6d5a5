"""Compiled steps of the exact density engine for tableaus without memory (:mod:`srkverify.engines.quadrature`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from srkverify.engines.gridding import LANES, add_gaussian, gridding_factors, jit, mixture_score
from srkverify.engines.score1d import add_waves

LIMIT = 1 << 22  # grid points; more means that the sampler has blown up
_NEGLIGIBLE = 1e-19  # probability of a source that is not spread


@jit
def propagate(
    initial: Any,
    low: Any,
    last_edges: Any,
    spacing: Any,
    spread: Any,
    reach: Any,
    evaluated: Any,
    stage_state: Any,
    stage_scores: Any,
    state: Any,
    scores: Any,
    log_weights: Any,
    means: Any,
    inverses: Any,
    waves: Any,
    counts: Any,
    node_weight: Any,
    stage_shift: Any,
    node_shift: Any,
) -> Any:
    """All steps; returns the first grid index, the density, and the work.

    The density is empty if the grid outgrew the limit.
    """
    steps, stages = stage_state.shape
    density, work = initial, 0.0
    # Buffers that grow when needed: sources, their images under each node, and the next density.
    source, mass = np.empty(0), np.empty(0)
    image = np.empty((0, 0))
    stage_point, stage_score = np.empty(LANES), np.empty((stages, LANES))
    highest, total = np.empty(LANES), np.empty(LANES)
    start, ratio, nearest = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    spare = np.empty(0)
    for k in range(steps):
        step, next_step, nodes = spacing[k], spacing[k + 1], counts[k]
        if len(density) + LANES > len(source):
            source, mass = np.empty(2 * len(density) + LANES), np.empty(2 * len(density) + LANES)
        count = 0
        for j in range(len(density)):
            if density[j] * step > _NEGLIGIBLE:
                source[count] = (low + j) * step
                mass[count] = density[j] * step
                count += 1
        blocks = (count + LANES - 1) // LANES
        for j in range(count, blocks * LANES):
            source[j] = source[count - 1]
            mass[j] = 0.0
        if image.shape[0] < nodes or image.shape[1] < blocks * LANES:
            image = np.empty((max(nodes, image.shape[0]), max(len(source), image.shape[1])))
        smallest, largest = np.inf, -np.inf
        for a in range(nodes):
            if node_weight[k, a] < _NEGLIGIBLE:
                continue
            for block in range(blocks):
                begin = block * LANES
                y = source[begin : begin + LANES]
                out = image[a, begin : begin + LANES]
                for lane in range(LANES):
                    out[lane] = state[k] * y[lane] + node_shift[k, a]
                for i in range(stages):
                    if not evaluated[k, i]:
                        continue
                    for lane in range(LANES):
                        stage_point[lane] = stage_state[k, i] * y[lane] + stage_shift[k, a, i]
                    for j in range(i):
                        if stage_scores[k, i, j] != 0.0:
                            for lane in range(LANES):
                                stage_point[lane] += stage_scores[k, i, j] * stage_score[j, lane]
                    mixture_score(
                        stage_point, stage_score[i], log_weights[k, i], means[k, i], inverses[k, i], highest, total
                    )
                    add_waves(stage_point, stage_score[i], waves[k, i])
                    for lane in range(LANES):
                        out[lane] += scores[k, i] * stage_score[i, lane]
                for lane in range(LANES):
                    if mass[begin + lane] * node_weight[k, a] > _NEGLIGIBLE:
                        smallest = min(smallest, out[lane])
                        largest = max(largest, out[lane])
        taps = int(np.ceil(reach * spread[k] / next_step))
        first = np.floor(smallest / next_step) - taps - 1
        final = np.ceil(largest / next_step) + taps + 9
        if k == steps - 1:
            first, final = min(first, last_edges[0]), max(final, last_edges[1])
        if not final - first < LIMIT:
            return low, np.empty(0), work
        next_low, length = np.int64(first), np.int64(final - first) + 1
        if length > len(spare):
            spare = np.empty(2 * length)
        target = spare[:length]
        for j in range(length):
            target[j] = 0.0
        padded = (2 * taps + 1 + 7) // 8 * 8
        table = np.zeros(padded)
        for t in range(2 * taps + 1):
            gap = (t - taps) * next_step / spread[k]
            table[t] = np.exp(-0.5 * gap * gap) / (np.sqrt(2.0 * np.pi) * spread[k])
        work += float(count) * nodes * padded
        for a in range(nodes):
            share = node_weight[k, a]
            if share < _NEGLIGIBLE:
                continue
            for block in range(blocks):
                begin = block * LANES
                gridding_factors(image[a, begin : begin + LANES], start, ratio, nearest, next_step, spread[k], taps)
                for lane in range(LANES):
                    amount = mass[begin + lane] * share
                    if amount > _NEGLIGIBLE:
                        add_gaussian(target, nearest[lane] - next_low - taps, amount * start[lane], ratio[lane], table)
        low = next_low
        density, spare = target, density
    return low, density.copy(), work

"""Kernels of the particle engine for CUDA, as templates (``cuda_templates``).

Constants: D coordinates in a thread and P threads for a particle, neighbours in a warp; of the groups of four
coordinates a thread has every P-th. T components at a time. KIND of law, EQUAL: all variances are equal; R stages, M
noises, MEMORY remembered evaluations, of which POINTS and SCORES say what is used; COUPLED noises; TAIL: D·P is more
than the dimension.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from srkverify.engines import cuda_device, rng
from srkverify.engines.cpu_memory import DIAGONAL, EXPANDED, FULL
from srkverify.engines.cuda_device import exchanged, from_lane
from srkverify.engines.cuda_templates import unrolled

D = P = T = KIND = R = M = MEMORY = LEVELS = MINE = 1
EQUAL = POINTS = SCORES = COUPLED = TAIL = False
LOWEST = -0.0  # the least number
HUGE = 0.0  # the largest number
ALIGNMENT: Any = 16  # bytes that `four` reads at a time; None in the simulator, which knows no alignment

real: Any = np.float64  # the type of particles
numbers: Any = np.float64  # the same, as numba names the type of an array
draw: Any = None
weight: Any = None
inverse: Any = None


def run_steps(
    means: Any,
    variances: Any,
    bases: Any,
    turned_bases: Any,
    levels: Any,
    start: Any,
    table: Any,
    logits: Any,
    offsets: Any,
    weights: Any,
    components: Any,
    tile: Any,
    dimension: Any,
    seed: Any,
    particle: Any,
    first_group: Any,
    count: Any,
    base: Any,
    begin: Any,
    end: Any,
    every: Any,
    exact: Any,
    states: Any,
    out: Any,
    stride: Any,
    column: Any,
    lost: Any,
) -> None:
    """Run ``count`` particles from step ``begin`` to step ``end``, from their start if ``begin`` is 0.

    means, variances : (components, P·D), padded; the means in the eigenbases if FULL.
    bases, turned_bases : (components, P·D, P·D), the eigenbases and their transposes, if FULL.
    levels : what a start's label is drawn by: the number of levels that 52 random bits reach.
    start : e^−t, e^−2t and 1 − e^−2t at the horizon.
    table : a row for each step from ``base`` on: coefficients, and the same three numbers for each stage.
    logits : (steps, R, 3, components) from ``base`` on: what logits are made of.
    states : (1 + 2·MEMORY, count, P·D) what is kept between launches.
    out : (kept, count, stride) samples, this law's at ``column``; with the whole path if ``every``.
    lost : set to 1 if a sample is not finite.
    """
    thread = cuda.threadIdx.x
    part = thread % P
    groups = (dimension + 4 * P - 1) // (4 * P)  # D/4; but the compiler must not know it, or it writes draws out
    own = (cuda.blockIdx.x * cuda.blockDim.x + thread) // P  # the thread's particle
    memory = cuda.shared.array(0, numbers, alignment=ALIGNMENT)
    rows = cuda.local.array((R + 1) * D, numbers)  # the stages' points, and the state
    scores = cuda.local.array(D, numbers)
    pulls = cuda.local.array(D if KIND == DIAGONAL else 1, numbers)
    kept = cuda.local.array(2 * MEMORY * D if MEMORY > 0 else 1, numbers)
    sums = cuda.local.array(T, numbers)
    per = R * (3 * components)
    width = (R + 1) * (1 + M + R + 2 * MEMORY) + 4 * R
    body = cuda.blockDim.x * (D + 1)  # where the block's memory has other things than random numbers
    share = body + thread // P * (P * D)  # and there the thread's particle, if FULL
    block_size = cuda.blockDim.x // P * (P * D)

    if begin == 0:
        label = 0
        if exact:
            w0, w1, _, _ = cuda_device.block(seed, particle + own, rng.START, rng.LABEL, first_group, 0)
            bits = (np.int64(w0) << 20) + (np.int64(w1) >> 12)
            while label < components - 1 and levels[label] <= bits:
                label += 1
        for g in range(groups):
            a, b, c, d = draw(seed, particle + own, rng.START, rng.NORMAL, first_group + part + P * g)
            at = thread * (D + 1) + 4 * g
            memory[at] = a
            memory[at + 1] = b
            memory[at + 2] = c
            memory[at + 3] = d
        for g in range(D // 4):
            group = part + P * g
            for k in unrolled(4):
                rows[R * D + 4 * g + k] = memory[thread * (D + 1) + 4 * g + k]
            for k in unrolled(4):
                at = label * (P * D) + 4 * group + k
                if TAIL and 4 * group + k >= dimension:
                    rows[R * D + 4 * g + k] = real(0.0)
                if exact:
                    deviation = math.sqrt(start[1] * variances[at] + start[2])
                    if TAIL and 4 * group + k >= dimension:
                        deviation = real(0.0)
                    rows[R * D + 4 * g + k] = start[0] * means[at] + deviation * rows[R * D + 4 * g + k]
        if KIND == FULL and exact:
            cuda.syncthreads()
            for g in range(D // 4):
                for k in unrolled(4):
                    memory[share + 4 * (part + P * g) + k] = rows[R * D + 4 * g + k]
                    rows[R * D + 4 * g + k] = real(0.0)
            cuda.syncthreads()
            for j in range(dimension):
                value = memory[share + j]
                first = (label * (P * D) + j) * (P * D) + 4 * part
                for g in range(D // 4):
                    for k in unrolled(4):
                        rows[R * D + 4 * g + k] += turned_bases[first + 4 * P * g + k] * value
    else:
        for i in range(D):
            rows[R * D + i] = real(0.0)
            for p in unrolled(2 * MEMORY):
                kept[p * D + i] = real(0.0)
        if own < count:
            for g in range(D // 4):
                for k in unrolled(4):
                    at = own * (P * D) + 4 * (part + P * g) + k
                    rows[R * D + 4 * g + k] = states[at]
                    for p in unrolled(2 * MEMORY):
                        if SCORES if p % 2 else POINTS:
                            kept[p * D + 4 * g + k] = states[(p + 1) * count * (P * D) + at]
    if begin == 0:
        for p in unrolled(2 * MEMORY):
            for i in range(D):
                kept[p * D + i] = real(0.0)
    if every and begin == 0 and own < count:
        for g in range(D // 4):
            for k in unrolled(4):
                if not TAIL or 4 * (part + P * g) + k < dimension:
                    out[own * stride + column + 4 * (part + P * g) + k] = rows[R * D + 4 * g + k]

    loaded = False
    for step in range(begin, end):
        row = (step - base) * width
        for i in range(D):
            state = rows[R * D + i]
            for r in unrolled(R + 1):
                value = table[row + r * (1 + M)] * state
                for p in unrolled(MEMORY):
                    past = row + (R + 1) * (1 + M + R) + (r * MEMORY + p) * 2
                    if POINTS:
                        value += table[past] * kept[2 * p * D + i]
                    if SCORES:
                        value += table[past + 1] * kept[(2 * p + 1) * D + i]
                rows[r * D + i] = value
        for m in unrolled(M):
            # What draws random numbers is long, and is there once: they go through memory that no other thread reads.
            for g in range(groups):
                group = part + P * g
                if COUPLED:
                    a, b, c, d = real(0.0), real(0.0), real(0.0), real(0.0)
                    for s in range(offsets[step], offsets[step + 1]):
                        for fine in range(3):
                            factor = weights[(s * M + m) * 3 + fine]
                            w, x, y, z = draw(seed, particle + own, s, fine, first_group + group)
                            a, b, c, d = a + factor * w, b + factor * x, c + factor * y, d + factor * z
                else:
                    a, b, c, d = draw(seed, particle + own, step, m, first_group + group)
                if TAIL and 4 * group + 4 > dimension:
                    a = a if 4 * group < dimension else real(0.0)
                    b = b if 4 * group + 1 < dimension else real(0.0)
                    c = c if 4 * group + 2 < dimension else real(0.0)
                    d = real(0.0)
                at = thread * (D + 1) + 4 * g
                memory[at] = a
                memory[at + 1] = b
                memory[at + 2] = c
                memory[at + 3] = d
            for i in range(D):
                normal = memory[thread * (D + 1) + i]
                for r in unrolled(R + 1):
                    rows[r * D + i] += table[row + r * (1 + M) + 1 + m] * normal

        for stage in unrolled(R):
            clock = row + (R + 1) * (1 + M + R + 2 * MEMORY) + 4 * stage
            if table[clock + 3] != real(0.0):
                shrink, spread, grown = table[clock], table[clock + 1], table[clock + 2]
                highest = real(LOWEST)
                total = real(0.0)
                pulled = real(0.0)
                square = real(0.0)
                for i in range(D):
                    scores[i] = real(0.0)
                    if KIND == DIAGONAL:
                        pulls[i] = real(0.0)
                    if KIND == EXPANDED and not EQUAL:
                        square += rows[stage * D + i] * rows[stage * D + i]
                if KIND == EXPANDED and not EQUAL:
                    for level in unrolled(LEVELS):
                        square += exchanged(square, P >> (level + 1))
                if KIND == FULL:
                    # A component after the other: its basis forth, the weight, its basis back.
                    for i in range(components):
                        cuda.syncthreads()
                        for g in range(D // 4):
                            for k in unrolled(4):
                                at = 4 * (part + P * g) + k
                                memory[share + at] = rows[stage * D + 4 * g + k]
                        cuda.syncthreads()
                        distance = real(0.0)
                        for g in range(D // 4):
                            for k in unrolled(4):
                                at = 4 * (part + P * g) + k
                                gap = -shrink * means[i * (P * D) + at]
                                entry = i * (P * D) * (P * D) + at
                                for other in range(dimension):
                                    gap += bases[entry + other * (P * D)] * memory[share + other]
                                near = gap * inverse(spread * variances[i * (P * D) + at] + grown)
                                distance += gap * near
                                memory[block_size + share + at] = near
                        for level in unrolled(LEVELS):
                            distance += exchanged(distance, P >> (level + 1))
                        logit = real(-0.5) * distance + logits[(step - base) * per + (stage * 3 + 1) * components + i]
                        if logit > highest:
                            factor = weight(highest - logit)
                            highest = logit
                            total *= factor
                            for j in range(D):
                                scores[j] *= factor
                        factor = weight(logit - highest)
                        total += factor
                        cuda.syncthreads()
                        for other in range(dimension):
                            value = factor * memory[block_size + share + other]
                            first = (i * (P * D) + other) * (P * D) + 4 * part
                            for g in range(D // 4):
                                for k in unrolled(4):
                                    scores[4 * g + k] -= turned_bases[first + 4 * P * g + k] * value
                else:
                    for tile_first in range(0, components, tile):
                        size = min(tile, components - tile_first)
                        cuda.syncthreads()
                        if KIND == DIAGONAL or tile < components or not loaded:
                            for i in range(thread, size * (P * D), cuda.blockDim.x):
                                memory[body + i] = means[tile_first * (P * D) + i]
                                if KIND == DIAGONAL:
                                    memory[body + tile * (P * D) + i] = inverse(
                                        spread * variances[tile_first * (P * D) + i] + grown
                                    )
                        behind = body + tile * (2 * P * D if KIND == DIAGONAL else P * D)
                        for i in range(thread, size, cuda.blockDim.x):
                            for n in unrolled(3):
                                memory[behind + n * tile + i] = logits[
                                    (step - base) * per + (stage * 3 + n) * components + tile_first + i
                                ]
                        cuda.syncthreads()
                        for first in range(0, size, T):
                            near_at = body + first * (P * D) + 4 * part
                            for t in unrolled(T):
                                sums[t] = real(0.0)
                            for g in range(D // 4):
                                for t in unrolled(T):
                                    near = cuda_device.four(memory, near_at + t * (P * D) + 4 * P * g)
                                    if KIND == DIAGONAL:
                                        factors = cuda_device.four(
                                            memory, tile * (P * D) + near_at + t * (P * D) + 4 * P * g
                                        )
                                    for k in unrolled(4):
                                        if KIND == EXPANDED:
                                            sums[t] += near[k] * rows[stage * D + 4 * g + k]
                                        else:
                                            gap = rows[stage * D + 4 * g + k] - shrink * near[k]
                                            if KIND == DIAGONAL:
                                                sums[t] += gap * (gap * factors[k])
                                            else:
                                                sums[t] += gap * gap
                            # Sums over a particle's threads, so that each has those of its own components only.
                            for level in unrolled(LEVELS):
                                if (T >> level) > 1:
                                    upper = (part & (P >> (level + 1))) != 0
                                    for i in unrolled((T >> level) // 2):
                                        one = sums[i]
                                        other = sums[(T >> level) // 2 + i]
                                        mine = other if upper else one
                                        sums[i] = mine + exchanged(one if upper else other, P >> (level + 1))
                                else:
                                    sums[0] += exchanged(sums[0], P >> (level + 1))
                            mine_at = behind + first + part * T // P
                            top = real(LOWEST)
                            for i in unrolled(MINE):
                                slope, offset = memory[mine_at + i], memory[tile + mine_at + i]
                                value = sums[i] * slope + offset
                                if KIND == EXPANDED and not EQUAL:
                                    value -= real(0.5) * memory[2 * tile + mine_at + i] * square
                                sums[i] = value
                                top = value if value > top else top
                            for level in unrolled(LEVELS):
                                other = exchanged(top, P >> (level + 1))
                                top = other if other > top else top
                            if top > highest:
                                factor = weight(highest - top)
                                highest = top
                                total *= factor
                                pulled *= factor
                                for i in range(D):
                                    scores[i] *= factor
                                    if KIND == DIAGONAL:
                                        pulls[i] *= factor
                            for i in unrolled(MINE):
                                sums[i] = weight(sums[i] - highest)
                            for t in unrolled(T):
                                portion = sums[t % MINE]
                                if P > 1:
                                    portion = from_lane(portion, thread - part + t * P // T)
                                total += portion
                                if KIND != DIAGONAL:
                                    portion = portion * memory[behind + 2 * tile + first + t]
                                    pulled += portion
                                for g in range(D // 4):
                                    near = cuda_device.four(memory, near_at + t * (P * D) + 4 * P * g)
                                    if KIND == DIAGONAL:
                                        factors = cuda_device.four(
                                            memory, tile * (P * D) + near_at + t * (P * D) + 4 * P * g
                                        )
                                    for k in unrolled(4):
                                        if KIND == DIAGONAL:
                                            force = portion * factors[k]
                                            pulls[4 * g + k] += force
                                            scores[4 * g + k] += force * near[k]
                                        else:
                                            scores[4 * g + k] += portion * near[k]
                    loaded = True
                factor = inverse(total)
                for i in range(D):
                    if KIND == FULL:
                        value = factor * scores[i]
                    elif KIND == DIAGONAL:
                        value = factor * (shrink * scores[i] - pulls[i] * rows[stage * D + i])
                    else:
                        value = factor * (shrink * scores[i] - pulled * rows[stage * D + i])
                    for r in unrolled(R + 1):
                        if r > stage:
                            coefficient = table[row + (R + 1) * (1 + M) + r * R + stage]
                            rows[r * D + i] += coefficient * value
                    for back in unrolled(2 * MEMORY - 2 if MEMORY > 0 else 0):
                        if POINTS if back % 2 else SCORES:
                            kept[(2 * MEMORY - 1 - back) * D + i] = kept[(2 * MEMORY - 3 - back) * D + i]
                    if POINTS:
                        kept[i] = rows[stage * D + i]
                    if SCORES:
                        kept[D + i] = value

        if every or step == end - 1:
            finite = True
            if own < count:
                for g in range(D // 4):
                    for k in unrolled(4):
                        at = 4 * (part + P * g) + k
                        value = rows[R * D + 4 * g + k]
                        if not TAIL or at < dimension:
                            finite = finite and abs(value) <= real(HUGE)
                            out[(((step + 1) * count if every else 0) + own) * stride + column + at] = value
            if not finite:
                lost[0] = 1

    if own < count:
        for g in range(D // 4):
            for k in unrolled(4):
                at = own * (P * D) + 4 * (part + P * g) + k
                states[at] = rows[R * D + 4 * g + k]
                for p in unrolled(2 * MEMORY):
                    if SCORES if p % 2 else POINTS:
                        states[(p + 1) * count * (P * D) + at] = kept[p * D + 4 * g + k]


def turn(matrix: Any, given: Any, dimension: Any, count: Any, stride: Any, column: Any, forth: Any, out: Any) -> None:
    """Write R x to ``out`` for rows x of ``given``, or just x unless ``forth``; for blocks of 16·16 threads.

    Of rows that are ``stride`` apart the coordinates from ``column`` on are meant.
    """
    left = cuda.shared.array(272, numbers)
    right = cuda.shared.array(272, numbers)
    x, y = cuda.threadIdx.x % 16, cuda.threadIdx.x // 16
    row, target, other = cuda.blockIdx.x * 16 + y, cuda.blockIdx.y * 16 + x, cuda.blockIdx.y * 16 + y
    value = real(0.0)
    if forth:
        for first in range(0, dimension, 16):
            left[y * 17 + x] = real(0.0)
            right[y * 17 + x] = real(0.0)
            if first + x < dimension:
                if row < count:
                    left[y * 17 + x] = given[row * stride + column + first + x]
                if other < dimension:
                    right[y * 17 + x] = matrix[other * dimension + first + x]
            cuda.syncthreads()
            for k in range(16):
                value += left[y * 17 + k] * right[x * 17 + k]
            cuda.syncthreads()
    if row < count and target < dimension:
        if not forth:
            value = given[row * stride + column + target]
        out[row * stride + column + target] = value

"""Compiled steps of the exact Gaussian engine: blocks of eigenvalues through all steps of a tableau.

The formulas are those of :mod:`srkverify.engines.gaussian`. Every array in a lane loop holds one number for each of
``LANES`` eigenvalues.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

LANES = 128  # eigenvalues that go through all steps together; the scratch of a block stays in the L1 cache
_ULP = np.finfo(np.float64).eps

# The lane loops are functions of their own: LLVM vectorises each once, which keeps compilation to seconds.
_jit = nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@_jit
def _fill(out: Any, value: Any) -> None:
    for lane in range(LANES):
        out[lane] = value


@_jit
def _copy(out: Any, a: Any) -> None:
    for lane in range(LANES):
        out[lane] = a[lane]


@_jit
def _add_product(out: Any, a: Any, b: Any) -> None:
    for lane in range(LANES):
        out[lane] += a[lane] * b[lane]


@_jit
def _add_triple(out: Any, a: Any, b: Any, c: Any) -> None:
    for lane in range(LANES):
        out[lane] += a[lane] * b[lane] * c[lane]


@_jit
def _variance(out: Any, inverse: Any, lam: Any, decay: Any) -> None:
    for lane in range(LANES):
        v = lam[lane] * decay[0] + decay[1]
        out[lane] = v
        inverse[lane] = 1.0 / v


@_jit
def _begin(row: Any, first: Any, offset: Any, drift: Any, state: Any, mean: Any, size: Any) -> None:
    """Start a row from its coefficient of Y; ``size`` sums the magnitudes of what the Y entry is made of."""
    for lane in range(LANES):
        row[lane] = first
        offset[lane] = drift + state * mean[lane]
        size[lane] = abs(first)


@_jit
def _use_past(
    weight: Any, point: Any, slope: Any, inverse: Any, row: Any, gamma: Any, offset: Any, past: Any, size: Any
) -> None:
    """Add a remembered point and its score to a row's Y entry and mean; ``weight`` returns the coefficient of r."""
    for lane in range(LANES):
        value = point - slope * inverse[lane]
        weight[lane] = value
        row[lane] += value * gamma[lane]
        offset[lane] += value * past[lane]
        size[lane] += (abs(point) + abs(slope * inverse[lane])) * abs(gamma[lane])


@_jit
def _use_score(
    weight: Any, coefficient: Any, inverse: Any, row: Any, stage: Any, offset: Any, stage_offset: Any, size: Any
) -> None:
    """Add a stage's score to a row's Y entry and mean; ``weight`` returns −coefficient/v."""
    for lane in range(LANES):
        value = -coefficient * inverse[lane]
        weight[lane] = value
        offset[lane] += value * stage_offset[lane]
        row[lane] += value * stage[lane]
        size[lane] += abs(value * stage[lane])


@_jit
def _covariance(out: Any, a: Any, b: Any, variance: Any, rest: Any) -> None:
    """Covariance of two combinations of Y, r and ξ, whose rows of coefficients are ``a`` and ``b``."""
    _fill(out, 0.0)
    _add_triple(out, a[0], b[0], variance)
    _add_rest(out, a, b, rest)


@_jit
def _add_rest(out: Any, a: Any, b: Any, rest: Any) -> None:
    """Add the part of a covariance that does not come from Y."""
    memory = rest.shape[0]
    for p in range(memory):
        for q in range(memory):
            _add_triple(out, a[1 + p], b[1 + q], rest[p, q])
    for c in range(1 + memory, a.shape[0]):
        _add_product(out, a[c], b[c])


@_jit
def _difference(difference: Any, slope: Any, size: Any, inverse_v: Any, h: Any) -> None:
    """Turn ``slope`` from A − e^h into A, and write A − A* = (A − e^h) + 2 sinh(h)/v."""
    growth, double_sinh = np.exp(h), 2.0 * np.sinh(h)
    for lane in range(LANES):
        pull = double_sinh * inverse_v[lane]
        difference[lane] = slope[lane] + pull
        size[lane] += pull
        slope[lane] += growth


@_jit
def _advance(
    x: Any,
    x_error: Any,
    v: Any,
    inverse_v: Any,
    vn: Any,
    inverse_vn: Any,
    difference: Any,
    noise: Any,
    size: Any,
    slope: Any,
    h: Any,
    rounding: Any,
) -> None:
    """Carry x and the bound on its rounding error over one step; ``difference`` is A − A*, ``noise`` is n."""
    shrink, gain, growth = np.exp(-h), -np.expm1(-2.0 * h), np.exp(h)
    for lane in range(LANES):
        ratio = vn[lane] * inverse_v[lane]
        truth = shrink * ratio
        exact_noise = gain * ratio
        inverse = inverse_vn[lane]
        both = (abs(slope[lane]) + truth) * v[lane]
        carried = slope[lane] * slope[lane] * v[lane] * inverse
        defect = difference[lane] * (slope[lane] + truth) * v[lane] + (noise[lane] - exact_noise)
        # The bound: rounding of the defect's terms, of A times the old x, and of the sum.
        local = ((size[lane] + 0.5 * rounding) * both + noise[lane] + exact_noise) * inverse
        local += (size[lane] + growth) * abs(slope[lane] * x[lane]) * v[lane] * inverse
        x[lane] = carried * x[lane] + defect * inverse
        local += abs(x[lane])
        x_error[lane] = carried * x_error[lane] + 4.0 * _ULP * local


@_jit
def _advance_mean(mean: Any, mean_error: Any, offset: Any, slope: Any, size: Any, growth: Any, weight: Any) -> None:
    for lane in range(LANES):
        local = abs(offset[lane]) + (size[lane] + growth) * abs(mean[lane]) + weight
        mean[lane] = offset[lane]
        mean_error[lane] = abs(slope[lane]) * mean_error[lane] + 4.0 * _ULP * local


@_jit
def _advance_memory(
    gamma: Any, rest: Any, kept_covariance: Any, kept_variance: Any, variance: Any, vn: Any, x: Any
) -> None:
    """Regress the kept points on the new Y."""
    memory = rest.shape[0]
    for lane in range(LANES):
        variance[lane] = vn[lane] * (1.0 + x[lane])
    for p in range(memory):
        for lane in range(LANES):
            gamma[p, lane] = kept_covariance[p, lane] / variance[lane]
    for p in range(memory):
        for q in range(memory):
            for lane in range(LANES):
                rest[p, q, lane] = kept_variance[p, q, lane] - kept_covariance[p, lane] * gamma[q, lane]


@_jit
def run(
    lam: Any,
    exact_start: Any,
    decay: Any,
    stage_decay: Any,
    past_decay: Any,
    h: Any,
    excess: Any,
    rounding: Any,
    drift: Any,
    weights: Any,
    stage_drift: Any,
    evaluated: Any,
    stage_state: Any,
    stage_scores: Any,
    stage_noise: Any,
    stage_past_points: Any,
    stage_past_scores: Any,
    scores: Any,
    noise: Any,
    past_points: Any,
    past_scores: Any,
    history: Any,
    result: Any,
) -> None:
    """All steps for one block of ``LANES`` eigenvalues ``lam``; the names are those of the tableau.

    If ``history`` has a place for each step, the deviations before the step are written there.
    """
    steps, stages = stage_state.shape
    noises, memory = noise.shape[1], past_points.shape[1]
    columns = 1 + memory + noises  # Y, r_0 … r_{P−1}, ξ_0 … ξ_{M−1}
    x, mean, x_error, mean_error = result[0], result[1], result[2], result[3]
    v, vn, inverse_v, inverse_vn = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    row = np.zeros((stages + 1, columns, LANES))  # the last row is the output
    used = np.zeros((stages + 1, columns), dtype=np.bool_)  # columns of a row that are not all zero
    offset = np.empty((stages + 1, LANES))  # deviations of the rows' means
    size, difference, variance, work = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    stage_v, inverse = np.empty(LANES), np.empty((stages, LANES))
    past_inverse = np.empty((memory, LANES))
    gamma, past_offset = np.zeros((memory, LANES)), np.zeros((memory, LANES))
    rest = np.zeros((memory, memory, LANES))
    kept, kept_offset = np.empty((memory, columns, LANES)), np.empty((memory, LANES))
    kept_covariance, kept_variance = np.empty((memory, LANES)), np.empty((memory, memory, LANES))
    for i in range(4):
        _fill(result[i], 0.0)
    _variance(v, inverse_v, lam, decay[0])
    if not exact_start:
        for lane in range(LANES):
            x[lane] = (1.0 - lam[lane]) * decay[0, 0] / v[lane]
            x_error[lane] = 2.0 * _ULP * (1.0 + abs(x[lane]))
            mean[lane] = -np.sqrt(decay[0, 0])
            mean_error[lane] = 2.0 * _ULP * abs(mean[lane])
    for k in range(steps):
        if len(history) > 0:
            _copy(history[k, 0], x)
            _copy(history[k, 1], mean)
        _variance(vn, inverse_vn, lam, decay[k + 1])
        for p in range(memory):
            _variance(stage_v, past_inverse[p], lam, past_decay[k, p])
        # Every row as a combination of Y, r and ξ; the output's Y entry starts as a − e^h.
        for i in range(stages + 1):
            last = i == stages
            if not last and not evaluated[k, i]:
                continue
            if last:
                _begin(row[i, 0], excess[k], offset[i], drift[k], excess[k] + np.exp(h[k]), mean, size)
            else:
                state = stage_state[k, i]
                _begin(row[i, 0], state, offset[i], stage_drift[k, i], state, mean, size)
            for c in range(1, columns):
                value = 0.0
                if c > memory:
                    value = noise[k, c - 1 - memory] if last else stage_noise[k, i, c - 1 - memory]
                if value != 0.0 or used[i, c]:
                    _fill(row[i, c], value)
                used[i, c] = value != 0.0
            for p in range(memory):
                point = past_points[k, p] if last else stage_past_points[k, i, p]
                slope = past_scores[k, p] if last else stage_past_scores[k, i, p]
                if point != 0.0 or slope != 0.0:
                    _use_past(
                        row[i, 1 + p],
                        point,
                        slope,
                        past_inverse[p],
                        row[i, 0],
                        gamma[p],
                        offset[i],
                        past_offset[p],
                        size,
                    )
                    used[i, 1 + p] = True
            for j in range(stages if last else i):
                coefficient = scores[k, j] if last else stage_scores[k, i, j]
                if coefficient != 0.0:
                    _use_score(work, coefficient, inverse[j], row[i, 0], row[j, 0], offset[i], offset[j], size)
                    for c in range(1, columns):
                        if used[j, c]:
                            _add_product(row[i, c], work, row[j, c])
                            used[i, c] = True
            if not last:
                if stage_decay[k, i, 0] == decay[k, 0]:
                    _copy(inverse[i], inverse_v)
                else:
                    _variance(stage_v, inverse[i], lam, stage_decay[k, i])
        output = row[stages]
        _difference(difference, output[0], size, inverse_v, h[k])
        if memory > 0:
            # The new memory: this step's evaluations, the latest first, then the older ones.
            filled = 0
            for i in range(stages - 1, -1, -1):
                if evaluated[k, i] and filled < memory:
                    for c in range(columns):
                        _copy(kept[filled, c], row[i, c])
                    _copy(kept_offset[filled], offset[i])
                    filled += 1
            for p in range(memory - filled):
                for c in range(columns):
                    _fill(kept[filled + p, c], 1.0 if c == 1 + p else 0.0)
                _copy(kept[filled + p, 0], gamma[p])
                _copy(kept_offset[filled + p], past_offset[p])
            _copy(variance, v)
            _add_product(variance, v, x)
            for p in range(memory):
                _copy(past_offset[p], kept_offset[p])
                _covariance(kept_covariance[p], kept[p], output, variance, rest)
                for q in range(memory):
                    _covariance(kept_variance[p, q], kept[p], kept[q], variance, rest)
        _fill(work, 0.0)
        _add_rest(work, output, output, rest)
        _advance(x, x_error, v, inverse_v, vn, inverse_vn, difference, work, size, output[0], h[k], rounding[k])
        _advance_mean(mean, mean_error, offset[stages], output[0], size, np.exp(h[k]), weights[k])
        if memory > 0:
            _advance_memory(gamma, rest, kept_covariance, kept_variance, variance, vn, x)
        _copy(v, vn)
        _copy(inverse_v, inverse_vn)

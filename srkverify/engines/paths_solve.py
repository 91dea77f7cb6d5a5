"""The linear Gaussian problem of one direction: what a step's unknowns are likely to be where scores are linear.

Rows of the step are e + Σ_i a_i z_i with noises of variance 1, z the unknowns' deviations from their base points and e
linear in the *data*: x, Y, the scores at the base points, the shadow's score, and what is known of the next step's rows
if these remember the present one's evaluations. Their density, times the shadow's for
the state if it is an unknown, is Gaussian in z.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from srkverify.engines import lanes
from srkverify.engines.lanes import own_lanes
from srkverify.engines.paths_memory import LANES
from srkverify.engines.paths_plan import JOINT
from srkverify.engines.simd import flat, floats, integers, jit

_LEAST_PIVOT = 1e-2  # of a precision: what is left of a diagonal entry when others are known, at least


@jit
def free_unknowns(plan: Any, variant: Any, step: Any) -> Any:
    """Return how many unknowns are proposed."""
    unknowns = integers(plan.unknowns, (plan.steps,))
    return unknowns[step] if variant == JOINT else unknowns[step] - 1


@jit
def root_entry(plan: Any, i: Any, k: Any) -> Any:
    """Where entry (i, k) of the root is in what ``solve`` writes."""
    return (plan.most * plan.data + i * plan.most + k) * LANES


@jit
def room(plan: Any) -> Any:
    """Return the size of what ``solve`` writes."""
    return plan.most * (plan.data + plan.most) * LANES


@jit
def counts(plan: Any, variant: Any, step: Any, q: Any) -> Any:
    """Whether means depend on datum q."""
    looks = integers(plan.looks, (plan.steps,))
    later = integers(plan.later, (plan.steps,))
    if q > plan.width + 2:
        return q <= plan.width + 2 + later[step]
    if variant == JOINT:
        return q == 0 or 2 <= q < 2 + looks[step] or q == plan.width + 2
    return q < 2 + looks[step]


@jit
def solve(plan: Any, variant: Any, step: Any, scratch: Any, slopes: Any, stride: Any, out: Any) -> None:
    """Solve the problem of a direction in which scores have given slopes: slope t is at ``slopes + t stride``.

    Written to ``out`` are the coefficients of the unknowns' means, an (N, data) matrix that multiplies the data, and
    an upper triangular root of their covariance, (N, N): mean + root ξ is the proposal.
    """
    m = flat(scratch.memory)
    most, free = plan.most, free_unknowns(plan, variant, step)
    rows = scratch.system
    factor = rows + plan.rows * (most + 1) * LANES
    inverse = factor + most * (most + 1) * LANES
    _write_system(plan, variant, step, scratch, slopes, stride, rows, factor)
    _invert(scratch, most, free, factor, inverse)
    for i in range(free):
        for j in range(i, free):
            lanes.copy(m, out + root_entry(plan, i, j), np.int64(1), m, inverse + (j * most + i) * LANES)
    for q in range(plan.data):
        if counts(plan, variant, step, q):
            _write_means(plan, variant, step, scratch, q, rows, factor, inverse, out)


@jit
def _write_system(
    plan: Any, variant: Any, step: Any, scratch: Any, slopes: Any, stride: Any, rows: Any, precision: Any
) -> None:
    """Write the coefficients a of the unknowns in the rows, and the precision."""
    m = flat(scratch.memory)
    unknowns = integers(plan.unknowns, (plan.steps,))
    looks = integers(plan.looks, (plan.steps,))
    later = integers(plan.later, (plan.steps,))
    constant = floats(plan.constant, (2, plan.steps, plan.rows, plan.most))
    slope = floats(plan.slope, (2, plan.steps, plan.rows, plan.width, plan.most))
    most, n, free = plan.most, unknowns[step] + later[step], free_unknowns(plan, variant, step)
    for r in range(n):
        for i in range(free):
            entry = rows + (r * most + i) * LANES
            lanes.assign(m, entry, constant[variant, step, r, i])
            for t in range(looks[step]):
                if slope[variant, step, r, t, i] != 0.0:
                    lanes.add_scaled(m, entry, slope[variant, step, r, t, i], m, slopes + t * stride)
    for i in range(free):
        for j in range(i + 1):
            entry = precision + (i * most + j) * LANES
            lanes.assign(m, entry, 0.0)
            for r in range(n):
                lanes.add_product(m, entry, m, rows + (r * most + i) * LANES, m, rows + (r * most + j) * LANES)
    if variant == JOINT:
        entry, shadow = precision + (free - 1) * (most + 1) * LANES, slopes + plan.width * stride
        for lane in own_lanes():
            least = _LEAST_PIVOT * m[entry + lane]
            m[entry + lane] = max(m[entry + lane] - m[shadow + lane], least)


@jit
def _invert(scratch: Any, most: Any, free: Any, factor: Any, inverse: Any) -> None:
    """Replace a precision by Cholesky's factor L, and write L⁻¹, whose transposed is the root of the covariance."""
    m = flat(scratch.memory)
    for i in range(free):
        least = inverse + i * (most + 1) * LANES
        lanes.assign(m, least, 0.0)
        lanes.add_scaled(m, least, _LEAST_PIVOT, m, factor + i * (most + 1) * LANES)
        for j in range(i + 1):
            entry = factor + (i * most + j) * LANES
            for k in range(j):
                lanes.subtract_product(m, entry, m, factor + (i * most + k) * LANES, m, factor + (j * most + k) * LANES)
            if i == j:
                lanes.root(m, entry, m, least)
            else:
                lanes.divide(m, entry, m, factor + j * (most + 1) * LANES)
    for j in range(free):
        for i in range(j, free):
            entry = inverse + (i * most + j) * LANES
            lanes.assign(m, entry, 1.0 if i == j else 0.0)
            for k in range(j, i):
                lanes.subtract_product(
                    m, entry, m, factor + (i * most + k) * LANES, m, inverse + (k * most + j) * LANES
                )
            lanes.divide(m, entry, m, factor + i * (most + 1) * LANES)


@jit
def _write_means(
    plan: Any, variant: Any, step: Any, scratch: Any, q: Any, rows: Any, work: Any, inverse: Any, out: Any
) -> None:
    """Write what datum q does to the means: L⁻ᵀ L⁻¹ b, with b = −Σ_r a_r e_r, and 1 for the shadow's score."""
    m = flat(scratch.memory)
    unknowns = integers(plan.unknowns, (plan.steps,))
    later = integers(plan.later, (plan.steps,))
    given = floats(plan.given, (2, plan.steps, plan.rows, 2))
    look_weights = floats(plan.look_weights, (2, plan.steps, plan.rows, plan.width))
    most, free, shadow = plan.most, free_unknowns(plan, variant, step), plan.width + 2
    for i in range(free):
        entry = work + i * LANES
        lanes.assign(m, entry, 1.0 if q == shadow and i == free - 1 else 0.0)
        if q < shadow:
            for r in range(unknowns[step] + later[step]):
                weight = given[variant, step, r, q] if q < 2 else look_weights[variant, step, r, q - 2]
                lanes.add_scaled(m, entry, -weight, m, rows + (r * most + i) * LANES)
        elif q > shadow:
            lanes.add_scaled(m, entry, -1.0, m, rows + ((unknowns[step] + q - shadow - 1) * most + i) * LANES)
    for i in range(free):
        entry = work + (most + i) * LANES
        lanes.assign(m, entry, 0.0)
        for k in range(i + 1):
            lanes.add_product(m, entry, m, inverse + (i * most + k) * LANES, m, work + k * LANES)
    for i in range(free):
        target = out + (i * plan.data + q) * LANES
        lanes.assign(m, target, 0.0)
        for k in range(i, free):
            lanes.add_product(m, target, m, out + root_entry(plan, i, k), m, work + (most + k) * LANES)

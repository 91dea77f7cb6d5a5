"""One step of backward paths: propose two states that might have come before, and take one of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srkverify.engines import lanes, panels, rng
from srkverify.engines.lanes import own_lanes
from srkverify.engines.paths_density import NOWHERE, add_later, evaluate, expect_past, keep_known, recall_later
from srkverify.engines.paths_frames import ONE, TWO, to_original, turn
from srkverify.engines.paths_memory import LANES
from srkverify.engines.paths_mixtures import look, settle
from srkverify.engines.paths_plan import GIVEN_STATE, JOINT
from srkverify.engines.paths_proposal import add_base_point, propose
from srkverify.engines.paths_truth import follow_truth
from srkverify.engines.simd import flat, floats, inlined, integers, jit

# Streams of random numbers, of 256. In the sampler stream m is noise m: with up to 64 noises it has no number in common
# with paths of the same seed; nor have paths of the proposal with paths of the truth.
_NOISE = np.int64(64)  # and the following: noise of each unknown
_TRUE_NOISE = np.int64(96)  # of the forward process
_GIVEN_NOISE = np.int64(97)  # and the following: of each unknown, if the state comes from the forward process
_SIDE, _GIVEN_SIDE = np.int64(128), np.int64(160)  # which of two points is taken, in the two cases
MOST_UNKNOWNS = 31


@jit
def _write_candidates(plan: Any, variant: Any, step: Any, scratch: Any, side: Any, x: Any) -> None:
    """Write the state and the noisy stage points on one side of the mean."""
    m = flat(scratch.memory)
    times = floats(plan.times, (plan.steps + 1,))
    unknowns = integers(plan.unknowns, (plan.steps,))
    stage_look = integers(plan.stage_look, (plan.steps, plan.stages))
    noisy = integers(plan.noisy, (plan.steps, plan.stages))
    row_of = integers(plan.row_of, (plan.steps, plan.stages))
    d = scratch.coordinates
    size, sign, state = d * LANES, 1.0 - 2.0 * side, scratch.states
    if variant == JOINT:
        last = (unknowns[step] - 1) * size
        state += side * size
        lanes.fill(m, state, d, 0.0)
        panels.add(m, state, math.exp(times[step + 1] - times[step]), m, x, d)
        panels.add(m, state, 1.0, m, scratch.deviations + last, d)
        panels.add(m, state, sign, m, scratch.noises + last, d)
    for stage in range(plan.stages):
        if noisy[step, stage]:
            own, point = row_of[step, stage] * size, scratch.points + (side * plan.stages + stage) * size
            lanes.fill(m, point, d, 0.0)
            add_base_point(plan, variant, step, stage_look[step, stage], scratch, x, state, point)
            panels.add(m, point, 1.0, m, scratch.deviations + own, d)
            panels.add(m, point, sign, m, scratch.noises + own, d)


@jit
def _take_evaluations(plan: Any, scratch: Any, lane: Any) -> None:
    """Replace one path's evaluations by those of the second candidate."""
    m = flat(scratch.memory)
    size = plan.stages * scratch.coordinates * LANES
    for at in (scratch.points, scratch.stage_scores):
        for j in range(at + lane, at + size, LANES):
            m[j] = m[j + size]


@inlined
def _choose(law: Any, plan: Any, variant: Any, seed: Any, particle: Any, step: Any, scratch: Any, x: Any) -> None:
    """Take one of the two points on opposite sides of the mean, to ``states`` and ``points``, by its true density.

    Its log density and that of the choice are added to the gain, but for a tableau with memory the former, which is
    not known yet.
    """
    m = flat(scratch.memory)
    spare = (integers(scratch.words, (4 * LANES,)), integers(scratch.more_words, (4 * LANES,)))
    joint, state, turned = variant == JOINT, scratch.states, NOWHERE
    size = scratch.coordinates * LANES
    gap = size if joint else 0
    for side in range(2):
        _write_candidates(plan, variant, step, scratch, side, x)
        lanes.assign(m, scratch.ratio + side * LANES, 0.0)
    if plan.memory > 0:
        expect_past(law, plan, step, scratch, TWO, state, gap)
    if joint:
        turn(law, scratch, TWO, state, size)
        turned = state
        for side in range(2):
            look(law, plan.width, scratch, side, 1.0, state + side * size, scratch.ratio + side * LANES)
    evaluate(law, plan, step, scratch, TWO, x, state, gap, turned, np.bool_(False))
    for side in range(2):
        ratio = scratch.ratio + side * LANES
        lanes.add_scaled(m, ratio, 1.0, m, scratch.density + side * LANES)
        if plan.memory > 0:
            add_later(law, plan, step, scratch, side, ratio)
    rng.draw_uniforms(seed, particle, step, _SIDE if joint else _GIVEN_SIDE, 0, spare, m, scratch.sides)
    for lane in own_lanes():
        ahead = m[scratch.ratio + lane] - m[scratch.ratio + LANES + lane]
        first = 1.0 / (1.0 + math.exp(min(-ahead, 700.0)))
        minus = m[scratch.sides + lane] > first
        chance = 1.0 / (1.0 + math.exp(min(ahead, 700.0))) if minus else first
        m[scratch.gain + lane] -= math.log(2.0 * chance)
        if plan.memory == 0:
            m[scratch.gain + lane] += m[scratch.density + (LANES if minus else 0) + lane]
        if minus:
            for j in range(lane, size, LANES):
                m[state + j] = m[state + gap + j]
            if plan.memory > 0:
                _take_evaluations(plan, scratch, lane)


@jit
def _keep(law: Any, plan: Any, step: Any, scratch: Any, panel: Any) -> None:
    """Remember the noisy stage points and the state, for ``replay``."""
    unknowns = integers(plan.unknowns, (plan.steps,))
    noisy = integers(plan.noisy, (plan.steps, plan.stages))
    row_of = integers(plan.row_of, (plan.steps, plan.stages))
    size = scratch.coordinates * LANES
    place = scratch.kept + (panel * plan.steps + step) * plan.most * size
    for stage in range(plan.stages):
        if noisy[step, stage]:
            to_original(law, scratch, scratch.points + stage * size, place + row_of[step, stage] * size)
    to_original(law, scratch, scratch.states, place + (unknowns[step] - 1) * size)


@inlined
def step_back(law: Any, plan: Any, truth: Any, seed: Any, particle: Any, step: Any, scratch: Any, panel: Any) -> None:
    """Replace a panel of later states by states before the step, and write ``gain``, ``extra`` and ``drawn``."""
    m = flat(scratch.memory)
    unknowns = integers(plan.unknowns, (plan.steps,))
    state, x = scratch.states, scratch.paths + panel * scratch.coordinates * LANES
    lanes.assign(m, scratch.gain, 0.0)
    lanes.assign(m, scratch.extra, 0.0)
    lanes.assign(m, scratch.drawn, 0.0)
    settle(law, plan, step, scratch, x)
    if plan.memory > 0:
        recall_later(law, plan, step, scratch, panel)
    variant, noise = JOINT, _NOISE
    if truth:
        variant, noise = GIVEN_STATE, _GIVEN_NOISE
        follow_truth(law, plan, seed, particle, step, _TRUE_NOISE, scratch, x)
    if not truth or unknowns[step] > 1:
        y = state if truth else x
        propose(law, plan, variant, seed, particle, step, noise, scratch, x, y)
        _choose(law, plan, variant, seed, particle, step, scratch, x)
    else:
        if plan.memory > 0:
            expect_past(law, plan, step, scratch, ONE, state, state)
        evaluate(law, plan, step, scratch, ONE, x, state, state, NOWHERE, np.bool_(False))
        if plan.memory == 0:
            lanes.add_scaled(m, scratch.gain, 1.0, m, scratch.density)
    if plan.memory > 0:
        _keep(law, plan, step, scratch, panel)
        keep_known(law, plan, step, scratch, panel, x)
    to_original(law, scratch, state, x)

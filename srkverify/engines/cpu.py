"""Particles on the CPU: any tableau on any Gaussian mixture, by compiled code on blocks that stay in cache.

A block is a few panels (``panels.py``), each the particles of one vector. A step first prepares the mixture at the
times of its stages, once for the block. Then, panel by panel, one pass over the coordinates draws the noises and starts
the rows of the tableau (stage points and output) with all that is known; each score is then added where it is used.
So a panel is still in the first-level cache, a noise is gone once it is used, and nothing is allocated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srkverify.engines import panels, rng
from srkverify.engines.cpu_memory import FULL, LOW_RANK, whole_tiles
from srkverify.engines.cpu_scores import add_score, prepare, sizes
from srkverify.engines.simd import BYTES, inlined, jit


@inlined
def _draw(table: Any, seed: Any, particle: Any, step: Any, first: Any, groups: Any, scratch: Any) -> None:
    """Write the noises of ``groups`` groups of coordinates of a panel, from ``first`` on, to ``scratch.noise``."""
    noise, draw, noises = scratch.noise, scratch.draw, table.noises
    width, _, _ = sizes(scratch)
    size = rng.GROUP * width
    stride = scratch.groups * size
    if not table.coupled:
        # two at a time, group by group, then noise by noise
        m = g = 0
        for _ in range(noises * groups // 2):
            n, h = (m, g + 1) if g + 1 < groups else (m + 1, 0)
            at, then_at = m * stride + g * size, n * stride + h * size
            rng.draw_two_groups(
                seed, particle, step, m, first + g, n, first + h, noise, at, then_at, width, scratch.spare
            )
            m, g = (n, h + 1) if h + 1 < groups else (n + 1, 0)
        if m < noises:
            at = m * stride + g * size
            rng.draw_group(seed, particle, step, m, first + g, noise, at, width, scratch.spare)
        return
    for m in range(noises):
        for at in range(m * stride, m * stride + groups * size):
            noise[at] = 0.0
    for g in range(groups):
        for s in range(table.offsets[step], table.offsets[step + 1]):
            for b in range(table.weights.shape[2]):
                rng.draw_group_apart(seed, particle, s, b, first + g, draw, np.int64(0), width, scratch.spare)
                for m in range(noises):
                    for at in range(size):
                        noise[m * stride + g * size + at] += table.weights[s, m, b] * draw[at]


@inlined
def _place(table: Any, panel: Any, number: Any, size: Any) -> Any:
    """Where a panel keeps an evaluation, by its number; without memory all panels use the same places."""
    memory, stages = table.past.shape[2], table.past.shape[1] - 1
    first = panel * (memory + stages) if memory > 0 else 0
    return (first + number % (memory + stages)) * size


@inlined
def _row_at(table: Any, scratch: Any, step: Any, row: Any, panel: Any, size: Any) -> Any:
    """Where a panel has a row of the tableau: a stage's point, or the state for the output."""
    if row == table.past.shape[1] - 1:
        return panel * size
    return scratch.points + _place(table, panel, table.number[step, row], size)


@inlined
def _used(table: Any, step: Any, row: Any) -> Any:
    """Whether a step computes a row: the output, or a stage that it evaluates."""
    return row == table.past.shape[1] - 1 or table.evaluated[step, row]


@inlined
def _start_row(table: Any, scratch: Any, step: Any, row: Any, out: Any, state: Any, tiles: Any) -> None:
    """Write a row of the tableau without what former steps and scores add, for some coordinates."""
    width, _, _ = sizes(scratch)
    flat = step * table.past.shape[1] + row
    terms, at = table.terms[flat], flat * (1 + table.noises)
    noise, stride, count = scratch.noise, scratch.groups * rng.GROUP * width, tiles * panels.TILE
    if terms == 0:
        panels.mix_none(scratch.panels, out, table.own, at, scratch.panels, state, noise, stride, tiles)
    elif terms == 1:
        panels.mix_one(scratch.panels, out, table.own, at, scratch.panels, state, noise, stride, tiles)
    else:
        panels.mix_two(scratch.panels, out, table.own, at, scratch.panels, state, noise, stride, tiles)
    for m in range(2, terms):
        panels.add(scratch.panels, out, table.own[at + 1 + m], noise, m * stride, count)


@inlined
def _add_past(
    table: Any, scratch: Any, step: Any, row: Any, out: Any, panel: Any, shift: Any, size: Any, tiles: Any
) -> None:
    """Add what a row takes from former steps' evaluations, for some coordinates."""
    count = tiles * panels.TILE
    for p in range(table.past.shape[2]):
        at = _place(table, panel, table.made[step] - 1 - p, size) + shift
        if table.past[step, row, p, 0] != 0.0:
            panels.add(scratch.panels, out, table.past[step, row, p, 0], scratch.panels, scratch.points + at, count)
        if table.past[step, row, p, 1] != 0.0:
            panels.add(scratch.panels, out, table.past[step, row, p, 1], scratch.panels, scratch.scores + at, count)


@jit
def _step(
    law: Any, table: Any, seed: Any, particle: Any, first_group: Any, step: Any, count: Any, scratch: Any
) -> None:
    """Advance ``count`` panels by one step."""
    width, c, _ = sizes(scratch)
    for stage in range(table.past.shape[1] - 1):
        if table.evaluated[step, stage]:
            constants = (step * (table.past.shape[1] - 1) + stage) * c
            prepare(law, table.stage_times[step, stage], stage, constants, scratch)
    for panel in range(count):
        _step_panel(law, table, seed, particle + panel * width, first_group, step, panel, scratch)


@inlined
def _step_panel(
    law: Any, table: Any, seed: Any, particle: Any, first_group: Any, step: Any, panel: Any, scratch: Any
) -> None:
    """Advance one panel by one step whose stages have been prepared."""
    width, c, d = sizes(scratch)
    stages, size = table.past.shape[1] - 1, d * width
    state = panel * size
    for begin in range(0, d // rng.GROUP, scratch.groups):
        groups = min(scratch.groups, d // rng.GROUP - begin)
        shift = begin * rng.GROUP * width
        _draw(table, seed, particle, step, first_group + begin, groups, scratch)
        # Two rows that see two noises, as those of SRK, are written in one pass over these.
        together = stages == 1 and table.noises == 2 and table.evaluated[step, 0]
        if together:
            point, at = _row_at(table, scratch, step, 0, panel, size) + shift, 6 * step
            noise, stride = scratch.noise, scratch.groups * rng.GROUP * width
            where = (point, state + shift, table.own, at, scratch.panels, state + shift, noise, stride, groups)
            panels.mix_rows(scratch.panels, *where)
        for row in range(stages + 1):
            if _used(table, step, row):
                out = _row_at(table, scratch, step, row, panel, size) + shift
                if not together:
                    _start_row(table, scratch, step, row, out, state + shift, groups)
                _add_past(table, scratch, step, row, out, panel, shift, size, groups)
    for stage in range(stages):
        if not table.evaluated[step, stage]:
            continue
        at = _place(table, panel, table.number[step, stage], size)
        point, score, constants = scratch.points + at, scratch.scores + at, (step * stages + stage) * c
        direct = table.direct[step, stage]
        if not direct:
            for i in range(score, score + size):
                scratch.panels[i] = 0.0
        factor, out = (table.scores[step, stages, stage], state) if direct else (1.0, score)
        add_score(law, stage, constants, scratch, point, factor, out)
        if direct:
            continue
        for row in range(stage + 1, stages + 1):
            weight = table.scores[step, row, stage]
            if weight != 0.0 and _used(table, step, row):
                panels.add(
                    scratch.panels, _row_at(table, scratch, step, row, panel, size), weight, scratch.panels, score, d
                )


@jit
def _start(
    law: Any, table: Any, exact: Any, seed: Any, particle: Any, first_group: Any, panel: Any, scratch: Any
) -> None:
    """Draw a panel's particles at the horizon."""
    dimension = law.means.shape[1]
    width, _, d = sizes(scratch)
    state, size = panel * d * width, rng.GROUP * width
    for group in range(d // rng.GROUP):
        rng.draw_group_apart(
            seed,
            particle,
            rng.START,
            rng.NORMAL,
            first_group + group,
            scratch.panels,
            state + group * size,
            width,
            scratch.spare,
        )
    if not exact:
        return
    time = table.times[0]
    shrink, spread, grown = math.exp(-time), math.exp(-2.0 * time), -math.expm1(-2.0 * time)
    alike = law.variances.shape[1] == 1
    for first in range(0, width, rng.LANES):
        rng.draw_uniforms(seed, particle + first, rng.START, rng.LABEL, first_group, scratch.spare, scratch.uniforms, 0)
        for lane in range(rng.LANES):
            i = 0
            while i < len(law.cumulative) - 1 and law.cumulative[i] <= scratch.uniforms[lane]:
                i += 1
            deviation = math.sqrt(spread * law.variances[i, 0] + grown)
            for j in range(dimension):
                if not alike:
                    deviation = math.sqrt(spread * law.variances[i, j] + grown)
                at = state + j * width + first + lane
                scratch.panels[at] = shrink * law.turned_means[i, j] + deviation * scratch.panels[at]
            if law.kind == FULL or law.kind == LOW_RANK:
                _out_of_basis(law, i, scratch, state + first + lane)


@jit
def _out_of_basis(law: Any, component: Any, scratch: Any, at: Any) -> None:
    """Replace one particle's coordinates in a component's eigenbasis by those in the standard basis."""
    dimension, turned, states = law.means.shape[1], scratch.turned, scratch.panels
    width = sizes(scratch)[0]
    for j in range(dimension):
        turned[j] = states[at + j * width]
    for j in range(dimension):
        total = 0.0
        for k in range(dimension):
            total += law.bases[component, j, k] * turned[k]
        states[at + j * width] = total


@jit
def _write(scratch: Any, first: Any, count: Any, out: Any) -> Any:
    """Write the block's states to rows ``first`` to ``first + count`` of ``out`` (n, d); whether all are finite."""
    width, _, d = sizes(scratch)
    finite = True
    for i in range(count):
        base = i // width * d * width + i % width
        for j in range(out.shape[1]):
            value = scratch.panels[base + j * width]
            finite &= abs(value) < math.inf
            out[first + i, j] = value
    return finite


@jit
def run(
    law: Any,
    table: Any,
    exact: Any,
    seed: Any,
    particle: Any,
    first_group: Any,
    scratch: Any,
    out: Any,
    every: Any,
    stop: Any,
) -> Any:
    """Run particles ``particle``, … on all steps, on coordinates whose random numbers begin at group ``first_group``.

    ``out`` is (steps + 1, n, d) with the whole path if ``every``, else (1, n, d). Returns whether the states that it
    holds are finite. Writing to ``stop[0]`` from outside ends the run early.
    """
    width, _, d = sizes(scratch)
    steps = len(table.made)
    block = scratch.points // d
    finite = True
    for first in range(0, out.shape[1], block):
        count = min(block, out.shape[1] - first)
        used = (count + width - 1) // width
        for panel in range(used):
            _start(law, table, exact, seed, particle + first + panel * width, first_group, panel, scratch)
        if every:
            _write(scratch, first, count, out[0])
        for step in range(steps):
            if stop[0]:
                return finite
            _step(law, table, seed, particle + first, first_group, step, used, scratch)
            if every or step == steps - 1:
                finite &= _write(scratch, first, count, out[step + 1 if every else 0])
    return finite


def turn(rows: NDArray[np.floating[Any]], matrix: NDArray[np.floating[Any]]) -> None:
    """Replace each row x of ``rows`` (n, d), in C order, by R x; ``matrix`` is R packed, of the same type.

    A row's result depends on the row alone, to the last bit, which a matrix product of a library does not promise.
    """
    size = whole_tiles(rows.shape[1]) * rng.vector_width(rows.dtype)
    _turn(rows, matrix, np.zeros(size, rows.dtype), np.zeros(size, rows.dtype))


@jit
def _turn(rows: Any, matrix: Any, panel: Any, turned: Any) -> None:
    width, dimension = BYTES // rows.itemsize, rows.shape[1]
    for first in range(0, len(rows), width):
        count = min(width, len(rows) - first)
        for j in range(dimension):
            for lane in range(count):
                panel[j * width + lane] = rows[first + lane, j]
        panels.products(matrix, 0, len(panel) // (panels.TILE * width), dimension, panel, 0, turned, 0)
        for j in range(dimension):
            for lane in range(count):
                rows[first + lane, j] = turned[j * width + lane]

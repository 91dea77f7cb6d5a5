"""Exact engine in one dimension for samplers with a memory of one evaluation: the joint density of point and state.

Let u be the remembered point and S(u) its score. A step evaluates the score at U = m + g, with m a function of (Y, u)
and stage noise g ~ N(0, γ²), and puts out Y' = o + ρ g + r + c s(U), with o a function of (Y, u), ρ the regression of the
output's noise on g and r ~ N(0, σ²) the rest of it. With z = o − ρ m,

    U = m + g,   x' = z + r,   and   Y' = x' + ρ U + c s(U) recovers the state:

given (Y, u) the new pair (U, x') has independent Gaussian coordinates. The density of (u, x) is carried by the
trapezoidal rule in both; each source adds the product of two griddings to the new plane. Without stage noise and with
U = Y the pair is (Y, Y'): rows of the new plane are the old columns. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from srkverify._check import Array
from srkverify.engines import quadrature
from srkverify.engines.quadrature import (
    _LANES,
    Density,
    Mixture1D,
    Resolution,
    _gridding_factors,
    _jit,
    _sampled,
    _score,
    _spread,
    _support,
    mixture_density,
)
from srkverify.tableau import Tableau

_LIMIT = 1 << 24  # grid points; more means that the sampler has blown up
_NEGLIGIBLE = 1e-21  # probability of a source that is not spread, and at which a source's Gaussian is cut


def output_density(tableau: Tableau, target: Mixture1D, resolution: Resolution, start: str = "exact") -> Density:
    """Density of the output of ``tableau`` on ``target``.

    Parameters
    ----------
    tableau : Tableau
        With a memory of one evaluation and, after the first step, one evaluation a step; that evaluation either sees
        noise in every step or is at Y itself in every step.
    target : Mixture1D
        The data law.
    resolution : Resolution
        Grid density and reach; compare two to learn the error.
    start : str
        ``"exact"`` (q_T) or ``"normal"`` (N(0, 1)).

    Raises
    ------
    ValueError
        If the tableau has another structure, or the density would need more than 2^24 grid points.
    """
    if tableau.memory == 0 or tableau.steps == 1:  # nothing is remembered
        return quadrature.output_density(tableau, target, resolution, start)
    plan = _plan(tableau)
    means, variances = target.diffused(tableau.times)
    first = (target.weights, means[0], variances[0]) if start == "exact" else (np.ones(1), np.zeros(1), np.ones(1))
    truth = (target.weights, means[-1], variances[-1])
    margin = resolution.reach + 1.5
    row_step, column_step = _spacing(tableau, target, plan, resolution)
    low, initial = _sampled(*first, column_step[0], margin)
    plane = _Plane(initial, np.array([0, len(initial)]), np.array([low]), 0, 1.0, column_step[0])
    space = _Space(tableau, resolution.reach)
    planes = tableau.steps if plan.noisy else tableau.steps - 1
    for k in range(planes):
        image = _image(tableau, target, plan, k, plane)
        plane = space.advance(plane, image, row_step[k + 1], column_step[k + 1], plan.stage[k], plan.rest[k])
    # The last blur goes to one row, whatever the point was.
    if plan.noisy:
        rows, columns = _state_of_rows(tableau, target, plan, tableau.steps, plane)[0], plane.columns
    else:
        _, _, rows, columns = _image(tableau, target, plan, tableau.steps - 1, plane)
    step = column_step[-1]
    edges = _support(*truth, margin)
    plane = space.advance(
        plane,
        (np.zeros_like(rows), np.zeros_like(columns), rows, columns),
        1.0,
        step,
        0.0,
        plan.rest[-1],
        (int(np.floor(edges[0] / step)), int(np.ceil(edges[1] / step))),
    )
    points = plane.columns
    return Density(points, plane.flat.copy(), mixture_density(points, *truth))


@dataclass(frozen=True)
class _Plan:
    """A tableau's steps in the terms of the module docstring, each (K,)."""

    noisy: bool  # whether the evaluated point sees noise
    index: Array  # stage whose evaluation is remembered
    stage: Array  # γ
    slope: Array  # ρ
    rest: Array  # σ; in a noisy plan the last r is split in two halves, of which this is one
    carried: Array  # c where it recovers Y' from x', else 0
    direct: Array  # c where the score at Y is part of z, else 0


def _plan(tableau: Tableau) -> _Plan:
    steps = np.arange(tableau.steps)
    stages = tableau.stage_times.shape[1]
    index = stages - 1 - np.argmax(tableau.evaluated[:, ::-1], axis=1)
    seen = np.where(tableau.evaluated[:, :, None], tableau.stage_noise, 0.0)
    point = seen[steps, index]
    stage = np.sqrt(np.square(point).sum(axis=1))
    noisy = bool(stage.any())
    slope = np.einsum("km,km->k", point, tableau.noise) / np.where(stage > 0.0, stage, 1.0) ** 2
    rest = np.sqrt(np.square(tableau.noise - slope[:, None] * point).sum(axis=1))
    others = np.arange(stages) != index[:, None]
    at_state = (tableau.stage_state[steps, index] == 1.0) & ~(
        tableau.stage_scores[steps, index].any(axis=1)
        | tableau.stage_past_points[steps, index].any(axis=1)
        | tableau.stage_past_scores[steps, index].any(axis=1)
    )
    refused = {
        f"a memory of {tableau.memory} evaluations": tableau.memory != 1,
        "a step without evaluation": not tableau.evaluated.any(axis=1).all(),
        "several evaluations in a step after the first": (tableau.evaluated.sum(axis=1) > 1)[1:].any(),
        "noise in a stage before the last": seen[others].any(),
        "stage noise in some steps only": noisy and not stage.all(),
        "an evaluation without noise that is not at Y": not noisy and not at_state.all(),
        "output noise that is a function of what the stage sees": not (
            rest > 1e-12 * np.abs(tableau.noise).max(axis=1)
        ).all(),
    }
    for reason, applies in refused.items():
        if applies:
            raise ValueError(
                f"tableau: the exact quadrature does not cover {tableau.name}, which has {reason}; allowed are a "
                "memory of one evaluation and one evaluation a step, with stage noise or at Y itself; for any other "
                'tableau use method="path"'
            )
    weight = tableau.scores[steps, index]
    rest[-1] *= np.sqrt(0.5) if noisy else 1.0
    zero = np.zeros_like(weight)
    return _Plan(noisy, index, stage, slope, rest, weight if noisy else zero, zero if noisy else weight)


def _spacing(tableau: Tableau, target: Mixture1D, plan: _Plan, resolution: Resolution) -> tuple[Array, Array]:
    """Spacings of rows and columns: (K+1,) each before every step and before the last blur, and that of the output.

    The trapezoidal rule sees the product of the density, blurred by γ and σ, and of the next step's Gaussian as a
    function of (u, x). Its Fourier transform falls like that of a Gaussian with covariance C,
    C⁻¹ = diag(1/γ², 1/σ²) + JᵀN⁻¹J with J = ∂(m, z)/∂(u, x) and N the next step's variances; the error is its value at
    the dual lattice, whose shortest vectors are (1, 0), (0, 1) and (1, ±1).
    """
    K = tableau.steps
    density = resolution.density
    _, variances = target.diffused(tableau.times)
    smallest = np.sqrt(variances.min(axis=1))
    index, steps = plan.index, np.arange(K)
    rows = np.ones(K + 1)
    columns = 0.35 * smallest / density
    point, state = tableau.stage_state[steps, index], tableau.state
    finest = 0.08 * smallest[-1] / density
    if not plan.noisy:
        columns[:-1] = np.minimum(columns[:-1], plan.rest / (density * np.maximum(1.0, np.abs(state))))
        columns[1:] = np.minimum(columns[1:], 3.0 * plan.rest)
        columns[-1] = min(finest, columns[-1])
        rows[1:] = columns[:-1]
        return rows, columns
    times = tableau.stage_times[steps, index]
    _, variances = target.diffused(times)
    steepest = -1.0 / variances.min(axis=1)
    rows[1:] = 0.35 * np.sqrt(variances.min(axis=1)) / density
    # As functions of (Y, u): m and z before step k, and Y before the last blur.
    out = state - plan.slope * point
    first = (point[0] / plan.stage[0]) ** 2 + (out[0] / plan.rest[0]) ** 2
    columns[0] = min(columns[0], 1.0 / (density * np.sqrt(first)))
    past_point, past_score = tableau.stage_past_points[steps, index, 0], tableau.stage_past_scores[steps, index, 0]
    for score in (np.zeros(K), steepest):
        recover = plan.slope + plan.carried * score
        mu = point[1:] * recover[:-1] + past_point[1:] + past_score[1:] * score[:-1]
        zu = state[1:] * recover[:-1] + tableau.past_points[1:, 0] + tableau.past_scores[1:, 0] * score[:-1]
        zu = zu - plan.slope[1:] * mu
        j = np.zeros((K, 2, 2))
        j[:-1] = np.stack([np.stack([mu, point[1:]], -1), np.stack([zu, out[1:]], -1)], 1)
        j[-1, 1] = recover[-1], 1.0
        noise = np.stack([np.append(plan.stage[1:], 1.0), np.append(plan.rest[1:], plan.rest[-1])], -1)
        j /= noise[:, :, None]
        inverse = np.swapaxes(j, 1, 2) @ j
        inverse[:, 0, 0] += 1.0 / plan.stage**2
        inverse[:, 1, 1] += 1.0 / plan.rest**2
        c = np.linalg.inv(inverse)
        width = np.sqrt(np.stack([c[:, 0, 0], c[:, 1, 1]]))
        correlation = np.abs(c[:, 0, 1]) / (width[0] * width[1])
        width *= np.sqrt(np.minimum(1.0, 2.0 - 2.0 * correlation)) / density
        rows[1:] = np.minimum(rows[1:], width[0])
        columns[1:] = np.minimum(columns[1:], width[1])
    return rows, np.append(columns, min(finest, 3.0 * plan.rest[-1]))


@dataclass(frozen=True)
class _Plane:
    """Density on a grid whose rows (points u) hold only the columns (x) where there is any.

    Row i, at (row_low + i)·row_step, holds flat[begin[i] : begin[i+1]], the first at column low[i]·column_step.
    """

    flat: Array
    begin: Array
    low: Array
    row_low: int
    row_step: float
    column_step: float

    @property
    def rows(self) -> Array:
        return (self.row_low + np.arange(len(self.low))) * self.row_step

    @property
    def first(self) -> int:
        return int(self.low[np.diff(self.begin) > 0].min())

    @property
    def columns(self) -> Array:
        final = (self.low + np.diff(self.begin))[np.diff(self.begin) > 0].max()
        return np.arange(self.first, final) * self.column_step


def _state_of_rows(tableau, target, plan, k, plane):
    """Y − x of each row before step k, and the remembered score."""
    u = plane.rows
    score = _scores(target, tableau.stage_times[k - 1, plan.index[k - 1]], u)
    return plan.slope[k - 1] * u + plan.carried[k - 1] * score, score


def _image(tableau, target, plan, k, plane):
    """Where step k sends the sources of ``plane``: m and z are a part of the row plus a part of the column."""
    i, x = plan.index[k], plane.columns
    m, z = tableau.stage_state[k, i] * x, tableau.state[k] * x
    if k == 0:
        m_row = z_row = np.zeros(1)
        scores = np.zeros((i, len(x)))
        for j in np.flatnonzero(tableau.evaluated[0, :i]):
            at = tableau.stage_state[0, j] * x + tableau.stage_scores[0, j, :i] @ scores
            scores[j] = _scores(target, tableau.stage_times[0, j], at)
        m = m + tableau.stage_scores[0, i, :i] @ scores
        z = z + tableau.scores[0, :i] @ scores
    else:
        u = plane.rows
        y, score = _state_of_rows(tableau, target, plan, k, plane)
        m_row = tableau.stage_state[k, i] * y + tableau.stage_past_points[k, i, 0] * u
        m_row += tableau.stage_past_scores[k, i, 0] * score
        z_row = tableau.state[k] * y + tableau.past_points[k, 0] * u + tableau.past_scores[k, 0] * score
    if plan.noisy:
        return m_row, m, z_row - plan.slope[k] * m_row, z - plan.slope[k] * m
    return np.zeros_like(m_row), x, z_row, z + plan.direct[k] * _scores(target, tableau.stage_times[k, i], x)


def _scores(target: Mixture1D, time: float, points: Array) -> Array:
    means, variances = target.diffused(np.array(time))
    with np.errstate(divide="ignore"):
        log_weights = np.log(target.weights) - 0.5 * np.log(variances)
    padded = np.resize(points, -(-len(points) // _LANES) * _LANES)
    return _score_all(padded, np.maximum(log_weights, -1e300), means, 1.0 / variances)[: len(points)]


@dataclass
class _Space:
    """Buffers that grow when needed, and the steps that use them."""

    tableau: Tableau
    reach: float
    lists: Array = field(default_factory=lambda: np.empty((3, 0)))
    spare: Array = field(default_factory=lambda: np.empty(0))

    def advance(self, plane, image, row_step, column_step, row_spread, column_spread, edges=None):
        if len(plane.flat) + _LANES > self.lists.shape[1]:
            self.lists = np.empty((3, 2 * len(plane.flat) + _LANES))
        mass, m, z = self.lists
        cell = plane.row_step * plane.column_step
        count = _collect(plane.flat, plane.begin, plane.low - plane.first, *image, cell, mass, m, z)
        row_taps = int(np.ceil(self.reach * row_spread / row_step))
        taps = int(np.ceil(self.reach * column_spread / column_step))
        ends = np.array([m[:count].min(), m[:count].max()]) / row_step
        reach = np.abs(z[:count]).max() / column_step
        if not (ends[1] - ends[0] < _LIMIT and reach < 1e15):
            raise self._unstable()
        row_low = int(np.rint(ends[0])) - row_taps
        rows = int(np.rint(ends[1])) + row_taps - row_low + 1
        begin, low = _layout(m[:count], z[:count], row_step, column_step, row_low, rows, row_taps, taps)
        if edges is not None:
            high = max(low[0] + begin[1], edges[1] + 1)
            low[0] = min(low[0], edges[0])
            begin[1] = high - low[0]
        if begin[-1] > _LIMIT:
            raise self._unstable()
        size = begin[-1] + 8
        if size > len(self.spare):
            self.spare = np.empty(2 * size)
        flat = self.spare[:size]
        flat[:] = 0.0
        row_table = _table(row_taps, row_step, row_spread) if row_spread > 0.0 else np.array([1.0 / row_step])
        table = _table(taps, column_step, column_spread)
        _deposit(
            flat, begin, low, row_low, mass, m, z, count, self.reach,
            row_step, row_spread if row_spread > 0 else row_step, row_taps, row_table,
            column_step, column_spread, taps, table,
        )
        self.spare = plane.flat if plane.flat.base is None else plane.flat.base
        return _Plane(flat[: begin[-1]], begin, low, row_low, row_step, column_step)

    def _unstable(self) -> ValueError:
        return ValueError(
            f"steps: {self.tableau.name} with {self.tableau.steps} steps spreads over more than {_LIMIT} grid points "
            "on this target: the sampler is unstable there; allowed are grids with more steps"
        )


def _table(taps: int, step: float, spread: float) -> Array:
    """Values of N(0, spread²) at the taps, zero-padded by one block of 8 or more."""
    table = np.zeros((2 * taps + 1 + 15) // 8 * 8)
    gap = np.arange(-taps, taps + 1) * step / spread
    table[: 2 * taps + 1] = np.exp(-0.5 * gap * gap) / (np.sqrt(2.0 * np.pi) * spread)
    return table


@intrinsic
def _add8(typing_context: Any, out: Any, at: Any, table: Any, first: Any, factor: Any) -> Any:
    """out[at : at + 8] += factor · table[first : first + 8], as vector instructions."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.DoubleType(), 8)

        def address(array_type, array, index):
            data = context.make_array(array_type)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())

        target = address(signature.args[0], arguments[0], arguments[1])
        source = address(signature.args[2], arguments[2], arguments[3])
        lane = builder.insert_element(ir.Constant(lanes, ir.Undefined), arguments[4], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        factor = builder.shuffle_vector(lane, ir.Constant(lanes, ir.Undefined), mask)
        product = builder.fmul(builder.load(source, align=8), factor, flags=["contract"])
        builder.store(builder.fadd(builder.load(target, align=8), product, flags=["contract"]), target, align=8)
        return context.get_dummy_value()

    return types.none(out, types.int64, table, types.int64, types.float64), code


@_jit
def _score_all(points: Any, log_weight: Any, mean: Any, inverse: Any) -> Any:
    score, highest, total = np.empty(len(points)), np.empty(_LANES), np.empty(_LANES)
    for begin in range(0, len(points), _LANES):
        end = begin + _LANES
        _score(points[begin:end], score[begin:end], log_weight, mean, inverse, highest, total)
    return score


@_jit
def _collect(flat, begin, low, m_row, m_column, z_row, z_column, cell, mass, m, z):
    """List the sources that matter, padded to a multiple of _LANES by sources without mass."""
    count = 0
    for i in range(len(low)):
        shift = low[i] - begin[i]
        for at in range(begin[i], begin[i + 1]):
            if flat[at] * cell > _NEGLIGIBLE:
                mass[count] = flat[at] * cell
                m[count] = m_row[i] + m_column[at + shift]
                z[count] = z_row[i] + z_column[at + shift]
                count += 1
    while count % _LANES:
        mass[count], m[count], z[count] = 0.0, m[count - 1], z[count - 1]
        count += 1
    return count


@_jit
def _layout(m, z, row_step, column_step, row_low, rows, row_taps, taps):
    """Where each row's stored columns begin in memory and on the grid."""
    lowest, highest = np.full(rows, np.int64(1 << 60)), np.full(rows, -np.int64(1 << 60))
    for a in range(len(m)):
        i = np.int64(np.rint(m[a] / row_step)) - row_low
        j = np.int64(np.rint(z[a] / column_step))
        lowest[i], highest[i] = min(lowest[i], j), max(highest[i], j)
    begin, low = np.zeros(rows + 1, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    for i in range(rows):
        least, most = lowest[i], highest[i]
        for j in range(max(0, i - row_taps), min(rows, i + row_taps + 1)):
            least, most = min(least, lowest[j]), max(most, highest[j])
        low[i] = least - taps
        begin[i + 1] = begin[i] + max(most - least + 2 * taps + 1, 0)
    return begin, low


@_jit
def _deposit(
    flat, begin, low, row_low, mass, m, z, count, reach,
    row_step, row_spread, row_taps, row_table, step, spread, taps, table,
):
    row_start, row_ratio, row = np.empty(_LANES), np.empty(_LANES), np.empty(_LANES, dtype=np.int64)
    start, ratio, column = np.empty(_LANES), np.empty(_LANES), np.empty(_LANES, dtype=np.int64)
    row_weight, weight = np.empty(len(row_table)), np.empty(len(table))
    for base in range(0, count, _LANES):
        _gridding_factors(m[base : base + _LANES], row_start, row_ratio, row, row_step, row_spread, row_taps)
        _gridding_factors(z[base : base + _LANES], start, ratio, column, step, spread, taps)
        for lane in range(_LANES):
            amount = mass[base + lane]
            if amount == 0.0:
                continue
            i = row[lane] - row_low
            if row_taps == 0:
                _spread(
                    flat, begin[i] + column[lane] - taps - low[i], amount * row_table[0] * start[lane], ratio[lane],
                    table[: len(table) // 8 * 8 ],
                )
                continue
            weight[:] = 0.0
            row_weight[:] = 0.0
            _spread(weight, 0, start[lane], ratio[lane], table)
            _spread(row_weight, 0, amount * row_start[lane], row_ratio[lane], row_table)
            cut = min(reach, np.sqrt(2.0 * np.log(amount / _NEGLIGIBLE)))
            near, row_near = min(taps, int(cut * spread / step) + 1), min(row_taps, int(cut * row_spread / row_step) + 1)
            first, final = taps - near, taps + near + 1
            for t in range(row_taps - row_near, row_taps + row_near + 1):
                j = i + t - row_taps
                at = begin[j] + column[lane] - taps - low[j]
                for a in range(first, final, 8):
                    _add8(flat, at + a, weight, a, row_weight[t])

"""A density in two variables on a grid, and one step of it: move every source, blur both coordinates.

A source at (row, column) goes to (m, z), each the sum of a part of its row and a part of its column, and is then spread
as N(m, γ²) × N(z, σ²): the outer product of two fast Gaussian griddings. Four neighbouring sources are added at a time,
because memory traffic, not arithmetic, is what this costs. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from srkverify._check import Array
from srkverify.engines.gridding import LANES, add_gaussian, gridding_factors, jit

LIMIT = 1 << 22  # grid points; more means that the sampler has blown up
_NEGLIGIBLE = 1e-21  # probability of a source that is not spread, and at which a source's Gaussian is cut off
_FAR: Any = 1 << 60  # beyond every grid index
_GROUP = 4  # sources that are added together
_WIDTH = 4  # columns in a vector instruction
_CLASSES = 2  # radii, per standard deviation, at which a source may be cut off


@dataclass(frozen=True)
class Plane:
    """Density on a grid that stores, in each row, only the columns that the last step reached.

    Attributes
    ----------
    flat : (n,) stored densities.
    begin : (r+1,) row i is ``flat[begin[i] : begin[i+1]]``.
    low : (r,) grid index of each row's first column.
    row_low : grid index of the first row.
    row_step, column_step : spacings; a plane of one row holds a density in the column alone.
    """

    flat: Array
    begin: Any
    low: Any
    row_low: int
    row_step: float
    column_step: float

    @property
    def rows(self) -> Array:
        """(r,) positions of the rows."""
        return np.arange(self.row_low, self.row_low + len(self.low), dtype=np.float64) * self.row_step

    @property
    def first_column(self) -> int:
        """Grid index of the first column that some row stores."""
        return int(self.low.min())

    @property
    def columns(self) -> Array:
        """Positions of all columns from the first to the last that some row stores."""
        return np.arange(self.first_column, (self.low + np.diff(self.begin)).max()) * self.column_step


# Where a step sends the sources: (m_row, m_column, z_row, z_column) with m = m_row + m_column and z = z_row + z_column.
Image = tuple[Array, Array, Array, Array]


@dataclass
class Blur:
    """Steps of planes, with buffers that grow when needed.

    Attributes
    ----------
    reach : standard deviations to which a Gaussian is spread.
    work : grid points times Gaussians so far.
    """

    reach: float
    work: float = 0.0
    _lists: Array = field(default_factory=lambda: np.empty((3, 0)))
    _spare: Array = field(default_factory=lambda: np.empty(0))

    def __call__(
        self,
        plane: Plane,
        image: Image,
        steps: tuple[float, float],
        spreads: tuple[float, float],
        columns: tuple[int, int] | None = None,
    ) -> Plane:
        """Return the plane after a step; the old one's memory is used for the next.

        Parameters
        ----------
        plane : Plane
            The sources.
        image : Image
            Where they go: (m_row, m_column, z_row, z_column).
        steps : row and column spacing of the result.
        spreads : γ and σ; with γ = 0 the images lie on rows of the result.
        columns : range of grid indices that each row must hold at least.

        Raises
        ------
        OverflowError
            If the result has more than ``LIMIT`` points.
        """
        room = len(plane.flat) + (_GROUP - 1) * len(plane.low) + LANES
        if room > self._lists.shape[1]:
            self._lists = np.empty((3, 2 * room))
        cell = plane.row_step * plane.column_step
        count = _collect(plane.flat, plane.begin, plane.low - plane.first_column, image, cell, self._lists)
        mass, m, z = self._lists[:, :count]
        taps = (int(np.ceil(self.reach * spreads[0] / steps[0])), int(np.ceil(self.reach * spreads[1] / steps[1])))
        self.work += float(count) * (2 * taps[0] + 1) * (2 * taps[1] + 1)
        ends = np.rint(np.array([m.min(), m.max()]) / steps[0])
        if not (ends[1] - ends[0] < LIMIT and np.abs(z).max() / steps[1] < 1e15):  # also false for NaN
            raise OverflowError
        row_low = int(ends[0]) - taps[0]
        rows = int(ends[1]) + taps[0] - row_low + 1
        if rows * (2 * taps[0] + 1) > 16 * LIMIT:  # steps so fine against the blur that the layout alone takes minutes
            raise OverflowError
        begin, low, extent = _layout(m, z, steps, row_low, rows, taps, columns or (_FAR, -_FAR))
        if begin[-1] > LIMIT or (spreads[0] > 0.0 and max(extent) > LIMIT >> 8):
            raise OverflowError
        size = int(begin[-1] + begin[0])
        if size > len(self._spare):
            self._spare = np.empty(2 * size)
        flat, self._spare = self._spare, plane.flat if plane.flat.base is None else plane.flat.base
        flat[:size] = 0.0
        table = _table(steps[1], taps[1], spreads[1])
        if spreads[0] > 0.0:
            row_table = _table(steps[0], taps[0], spreads[0])
            chords = _chords(steps, spreads, taps, self.reach)
            _deposit(flat, begin, low, row_low, (mass, m, z), steps, spreads, taps, (row_table, table), chords, extent)
        else:
            _deposit_rows(flat, begin, low, row_low, (mass, m, z), steps, spreads[1], taps[1], table)
        return Plane(flat[: begin[-1]], begin, low, row_low, *steps)


def _table(step: float, taps: int, spread: float) -> Array:
    """Values of N(0, spread²) at the taps, padded with zeros to a multiple of 8."""
    table = np.zeros((2 * taps + 8) // 8 * 8)
    gap = np.arange(-taps, taps + 1) * step / spread
    table[: 2 * taps + 1] = np.exp(-0.5 * gap * gap) / (np.sqrt(2.0 * np.pi) * spread)
    return table


def _chords(steps: tuple[float, float], spreads: tuple[float, float], taps: tuple[int, int], reach: float) -> Any:
    """Columns to either side that a source of each radius (rows) reaches at each distance in rows; −1 for none."""
    radius = np.arange(1, int(_CLASSES * reach) + 2)[:, None] / _CLASSES
    distance = np.maximum(np.arange(taps[0] + 1) - 0.5, 0.0) * steps[0] / spreads[0]
    squared = radius**2 - distance**2
    chord = np.minimum(taps[1], np.ceil(np.sqrt(np.maximum(squared, 0.0)) * spreads[1] / steps[1]))
    return np.where(squared > 0.0, chord, -1.0).astype(np.int64)


@intrinsic
def _add(
    typing_context: Any, out: Any, at: Any, table: Any, first: Any, size: Any, a: Any, b: Any, c: Any, d: Any
) -> Any:
    """Add Σ factor · table[first : first + _WIDTH] to out[at : …] for four factors, whose tables are ``size`` apart.

    Written as vector instructions, for loops as short as this are not vectorised.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.DoubleType(), _WIDTH)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), _WIDTH), [0] * _WIDTH)
        undefined = ir.Constant(lanes, ir.Undefined)

        def address(which: int, index: Any) -> Any:
            data = context.make_array(signature.args[which])(context, builder, arguments[which]).data
            return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())

        target, position = address(0, arguments[1]), arguments[3]
        total = builder.load(target, align=8)
        for factor in arguments[5:]:
            lane = builder.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
            vector = builder.shuffle_vector(lane, undefined, mask)
            product = builder.fmul(builder.load(address(2, position), align=8), vector, flags=["contract"])
            total = builder.fadd(total, product, flags=["contract"])
            position = builder.add(position, arguments[4])
        builder.store(total, target, align=8)
        return context.get_dummy_value()

    real, whole = types.float64, types.int64
    return types.none(out, whole, table, whole, whole, real, real, real, real), code


@jit
def _collect(flat: Any, begin: Any, low: Any, image: Any, cell: Any, lists: Any) -> Any:
    """List mass, m and z of the sources that matter; each row ends with a full group, the list with a full block."""
    m_row, m_column, z_row, z_column = image
    count = 0
    for i in range(len(low)):
        shift = low[i] - begin[i]
        for at in range(begin[i], begin[i + 1]):
            if flat[at] * cell > _NEGLIGIBLE:
                lists[0, count] = flat[at] * cell
                lists[1, count] = m_row[i] + m_column[at + shift]
                lists[2, count] = z_row[i] + z_column[at + shift]
                count += 1
        final = i == len(low) - 1
        while count % (LANES if final else _GROUP):
            lists[0, count], lists[1, count], lists[2, count] = 0.0, lists[1, count - 1], lists[2, count - 1]
            count += 1
    return count


@jit
def _layout(m: Any, z: Any, steps: Any, row_low: Any, rows: Any, taps: Any, columns: Any) -> Any:
    """Begin and low of the new plane, and by how many rows and columns the sources of a group differ at most."""
    lowest, highest = np.full(rows, _FAR), np.full(rows, -_FAR)
    tall, wide = 0, 0
    for base in range(0, len(m), _GROUP):
        i0, i1, j0, j1 = _FAR, -_FAR, _FAR, -_FAR
        for a in range(base, base + _GROUP):
            i = np.int64(np.rint(m[a] / steps[0])) - row_low
            j = np.int64(np.rint(z[a] / steps[1]))
            lowest[i], highest[i] = min(lowest[i], j), max(highest[i], j)
            i0, i1, j0, j1 = min(i0, i), max(i1, i), min(j0, j), max(j1, j)
        tall, wide = max(tall, i1 - i0), max(wide, j1 - j0)
    begin, low = np.empty(rows + 1, dtype=np.int64), np.empty(rows, dtype=np.int64)
    # A margin on either side: a group's window may begin or end beyond a row, where it adds zeros.
    begin[0] = wide + 16
    for i in range(rows):
        least, most = _FAR, -_FAR
        for source in range(max(0, i - taps[0]), min(rows, i + taps[0] + 1)):
            least, most = min(least, lowest[source]), max(most, highest[source])
        least, most = min(least - taps[1], columns[0]), max(most + taps[1], columns[1])
        low[i] = least
        begin[i + 1] = begin[i] + max(most - least + 1, 0)
    present = low[begin[1:] > begin[:-1]].min()
    for i in range(rows):
        if begin[i + 1] == begin[i]:
            low[i] = present
    return begin, low, (tall, wide)


@jit
def _deposit_rows(
    flat: Any, begin: Any, low: Any, row_low: Any, lists: Any, steps: Any, spread: Any, taps: Any, table: Any
) -> None:
    """Add the sources to rows that they lie on."""
    mass, m, z = lists
    start, ratio, column = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    for base in range(0, len(mass), LANES):
        gridding_factors(z[base : base + LANES], start, ratio, column, steps[1], spread, taps)
        for lane in range(LANES):
            i = np.int64(np.rint(m[base + lane] / steps[0])) - row_low
            amount = mass[base + lane] * start[lane] / steps[0]
            if amount > 0.0:
                add_gaussian(flat, begin[i] + column[lane] - taps - low[i], amount, ratio[lane], table)


@jit
def _deposit(
    flat: Any,
    begin: Any,
    low: Any,
    row_low: Any,
    lists: Any,
    steps: Any,
    spreads: Any,
    taps: Any,
    tables: Any,
    chords: Any,
    extent: Any,
) -> None:
    """Add the sources' Gaussians, group by group."""
    mass, m, z = lists
    row_taps, column_taps = taps
    row_size, size = len(tables[0]) + extent[0], len(tables[1]) + extent[1] + _WIDTH
    row_weight, weight = np.empty(_GROUP * row_size), np.empty(_GROUP * size)
    row_start, row_ratio, row = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    start, ratio, column = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    for base in range(0, len(mass), LANES):
        gridding_factors(m[base : base + LANES], row_start, row_ratio, row, steps[0], spreads[0], row_taps)
        gridding_factors(z[base : base + LANES], start, ratio, column, steps[1], spreads[1], column_taps)
        for first in range(0, LANES, _GROUP):
            largest = 0.0
            i0, i1, j0, j1 = _FAR, -_FAR, _FAR, -_FAR
            for lane in range(first, first + _GROUP):
                largest = max(largest, mass[base + lane])
                i0, i1 = min(i0, row[lane]), max(i1, row[lane])
                j0, j1 = min(j0, column[lane]), max(j1, column[lane])
            if largest == 0.0:
                continue
            row_weight[:] = 0.0
            weight[:] = 0.0
            for lane in range(first, first + _GROUP):
                at, row_at = (lane - first) * size + column[lane] - j0, (lane - first) * row_size + row[lane] - i0
                add_gaussian(weight, at, start[lane], ratio[lane], tables[1])
                add_gaussian(row_weight, row_at, mass[base + lane] * row_start[lane], row_ratio[lane], tables[0])
            radius = min(np.int64(_CLASSES * np.sqrt(2.0 * np.log(largest / _NEGLIGIBLE))), len(chords) - 1)
            for t in range(i1 - i0 + 2 * row_taps + 1):
                near = chords[radius, max(row_taps - t, t - row_taps - (i1 - i0), 0)]
                if near < 0:
                    continue
                i = i0 - row_taps + t - row_low
                at = begin[i] + j0 - column_taps - low[i]
                a, b = row_weight[t], row_weight[t + row_size]
                c, d = row_weight[t + 2 * row_size], row_weight[t + 3 * row_size]
                for j in range(column_taps - near, j1 - j0 + column_taps + near + 1, _WIDTH):
                    _add(flat, at + j, weight, j, size, a, b, c, d)  # type: ignore[call-arg]

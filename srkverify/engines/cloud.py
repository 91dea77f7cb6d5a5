"""A joint density of a few numbers on grids, as a list of sources, and what a new number makes of it.

Each number has a uniform grid of its own. Sources are grouped in rows that share all but the newest number, in which a
row is contiguous: adding Gaussians to a row is fast Gaussian gridding (:mod:`srkverify.engines.gridding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines.gridding import LANES, add_gaussian, gridding_factors, jit
from srkverify.engines.vecmath import exp

LIMIT = 1 << 25  # sources, and numbers in rows; more means that the sampler is unstable or unresolved
_NEGLIGIBLE = 1e-21  # probability of a source that is dropped
_LOOKED_UP = 1 << 22  # rows' keys up to which a table finds them, not a sort


@dataclass(frozen=True)
class Cloud:
    """Sources of mass ``mass`` (n,) at grid indices ``index`` (D, n) of the numbers ``terms`` (D,)."""

    terms: tuple[int, ...]
    index: NDArray[np.int64]
    mass: Array


@dataclass(frozen=True)
class Rows:
    """Densities of a new number: row r, at grid indices ``index[:, r]`` of the others, is flat[begin[r] : begin[r+1]].

    ``low`` (r,) are the grid indices at which rows begin; ``work`` counts the products that it took.
    """

    index: NDArray[np.int64]
    begin: NDArray[np.int64]
    low: NDArray[np.int64]
    flat: Array
    work: float

    def cloud(self, terms: tuple[int, ...], spacing: float) -> Cloud:
        """Return the sources; ``terms`` are those of the rows and the newest one, ``spacing`` the size of a cell."""
        count = _count(self.flat, spacing)
        out, mass = np.empty((len(terms), count), np.int64), np.empty(count)
        _fill(self.index, self.begin, self.low, self.flat, spacing, out, mass)
        return Cloud(terms, out, mass)


def spread_out(cloud: Cloud, keep: tuple[int, ...], center: Array, spread: float, spacing: float, reach: float) -> Rows:
    """Add to each source N(center, spread²) of a new number, and sum over the numbers that are not in ``keep``.

    Parameters
    ----------
    cloud : Cloud
        n sources.
    keep : terms of the cloud that stay.
    center : (n,)
    spread, spacing, reach : of the new number: its standard deviation, its grid, and standard deviations covered.

    Raises
    ------
    OverflowError
        If that makes more than ``LIMIT`` numbers.
    """
    kept = cloud.index[[cloud.terms.index(term) for term in keep]]
    rows, first = _rows(kept, len(cloud.mass))
    taps = int(np.ceil(reach * spread / spacing))
    nearest = np.rint(center / spacing)
    if not np.abs(nearest).max(initial=0.0) < 2.0**52:  # also false for NaN
        raise OverflowError
    low, high = np.full(len(first), 1 << 60), np.full(len(first), -(1 << 60))
    _extend(rows, nearest, low, high)
    table = np.zeros((2 * taps + 8) // 8 * 8)
    length = high - low + len(table) + 1
    if float(length.astype(np.float64).sum()) > LIMIT:
        raise OverflowError
    begin = np.concatenate([[0], np.cumsum(length)])
    flat = np.zeros(begin[-1])
    gap = np.arange(-taps, taps + 1) * spacing / spread
    table[: len(gap)] = np.exp(-0.5 * gap**2) / (np.sqrt(2.0 * np.pi) * spread)
    low -= taps
    padded = np.resize(center, -(-len(center) // LANES) * LANES)
    _deposit(rows, padded, cloud.mass, spread, spacing, taps, table, begin, low, flat)
    return Rows(kept[:, first], begin, low, flat, float(len(cloud.mass)) * len(table))


def spread_out_twice(
    cloud: Cloud,
    keep: tuple[int, ...],
    centers: tuple[Array, Array],
    spreads: tuple[float, float],
    spacings: tuple[float, float],
    reach: float,
) -> Rows:
    """Do what :func:`spread_out` does for two new numbers that are independent given the source; both are kept."""
    kept = cloud.index[[cloud.terms.index(term) for term in keep]]
    rows, first = _rows(kept, len(cloud.mass))
    taps = [int(np.ceil(reach * spread / spacing)) for spread, spacing in zip(spreads, spacings, strict=True)]
    nearest = [np.rint(center / spacing) for center, spacing in zip(centers, spacings, strict=True)]
    if not max(np.abs(part).max(initial=0.0) for part in nearest) < 2.0**52:
        raise OverflowError
    low, high = np.full(len(first), 1 << 60), np.full(len(first), -(1 << 60))
    _extend(rows, nearest[0], low, high)
    low -= taps[0]
    count = high + taps[0] + 1 - low  # of the first number's places in each row
    if float(count.astype(np.float64).sum()) > LIMIT:
        raise OverflowError
    group = np.concatenate([[0], np.cumsum(count)])
    second_low, second_high = np.full(group[-1], 1 << 60), np.full(group[-1], -(1 << 60))
    _extend_twice(rows, nearest[0], nearest[1], taps[0], group, low, second_low, second_high)
    width = 2 * taps[1] + 1
    length = np.maximum(second_high - second_low + width, 0)
    if float(length.astype(np.float64).sum()) > LIMIT:
        raise OverflowError
    begin = np.concatenate([[0], np.cumsum(length)])
    flat = np.zeros(begin[-1])
    second_low -= taps[1]
    one, two = zip(centers, nearest, spreads, spacings, taps, strict=True)
    _deposit_twice(rows, one, two, cloud.mass, group, low, begin, second_low, flat)
    place = np.arange(group[-1]) - np.repeat(group[:-1] - low, count)
    index = np.concatenate([np.repeat(kept[:, first], count, axis=1), place[None]])
    return Rows(index, begin, second_low, flat, float(len(cloud.mass)) * (2 * taps[0] + 1) * width)


def _rows(kept: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row of each source, and a source of each row: sources with the same kept indices share a row."""
    if len(kept) == 0:
        return np.zeros(count, np.int64), np.zeros(1, np.int64)
    low = kept.min(axis=1)
    extent = kept.max(axis=1) - low + 1
    size = float(np.prod(extent.astype(np.float64)))
    if size > 2.0**62:
        raise OverflowError
    key = np.zeros(count, np.int64)
    for numbers, least, span in zip(kept, low, extent, strict=True):
        key = key * span + (numbers - least)
    if size > _LOOKED_UP:
        _, first, rows = np.unique(key, return_index=True, return_inverse=True)
        return rows, first
    return _looked_up(key, np.full(int(size), -1, np.int64))


@jit
def _looked_up(key: Any, table: Any) -> Any:
    rows, first = np.empty(len(key), np.int64), np.empty(len(table), np.int64)
    count = 0
    for j in range(len(key)):
        if table[key[j]] < 0:
            table[key[j]] = count
            first[count] = j
            count += 1
        rows[j] = table[key[j]]
    return rows, first[:count].copy()


@jit
def _extend(rows: Any, nearest: Any, low: Any, high: Any) -> None:
    for j in range(len(rows)):
        at = np.int64(nearest[j])
        low[rows[j]] = min(low[rows[j]], at)
        high[rows[j]] = max(high[rows[j]], at)


@jit
def _deposit(
    rows: Any, center: Any, mass: Any, spread: Any, spacing: Any, taps: Any, table: Any, begin: Any, low: Any, flat: Any
) -> None:
    start, ratio, nearest = np.empty(LANES), np.empty(LANES), np.empty(LANES, dtype=np.int64)
    for base in range(0, len(center), LANES):
        gridding_factors(center[base : base + LANES], start, ratio, nearest, spacing, spread, taps)
        for j in range(base, min(base + LANES, len(rows))):
            row = rows[j]
            at = begin[row] + nearest[j - base] - taps - low[row]
            add_gaussian(flat, at, mass[j] * start[j - base], ratio[j - base], table)


@jit
def _extend_twice(rows: Any, one: Any, two: Any, taps: Any, group: Any, lowest: Any, low: Any, high: Any) -> None:
    for j in range(len(rows)):
        at, row = np.int64(two[j]), rows[j]
        base = group[row] + np.int64(one[j]) - lowest[row]
        for i in range(base - taps, base + taps + 1):
            low[i] = min(low[i], at)
            high[i] = max(high[i], at)


@jit
def _deposit_twice(
    rows: Any, one: Any, two: Any, mass: Any, group: Any, lowest: Any, begin: Any, low: Any, flat: Any
) -> None:
    center_1, nearest_1, spread_1, spacing_1, taps_1 = one
    center_2, nearest_2, spread_2, spacing_2, taps_2 = two
    first, second = np.empty(2 * taps_1 + 1), np.empty(2 * taps_2 + 1)
    for j in range(len(rows)):
        _gaussian(first, center_1[j] - nearest_1[j] * spacing_1, spread_1, spacing_1, taps_1)
        _gaussian(second, center_2[j] - nearest_2[j] * spacing_2, spread_2, spacing_2, taps_2)
        row, column = rows[j], np.int64(nearest_2[j]) - taps_2
        base = group[row] + np.int64(nearest_1[j]) - lowest[row] - taps_1
        for i in range(len(first)):
            amount = mass[j] * first[i]
            if amount * spacing_1 > 1e-3 * _NEGLIGIBLE:
                at = begin[base + i] + column - low[base + i]
                for k in range(len(second)):
                    flat[at + k] += amount * second[k]


@jit
def _gaussian(out: Any, gap: Any, spread: Any, spacing: Any, taps: Any) -> None:
    for t in range(len(out)):
        z = ((t - taps) * spacing - gap) / spread
        out[t] = exp(-0.5 * z * z) / (spread * 2.5066282746310002)


@jit
def _count(flat: Any, spacing: Any) -> Any:
    count = 0
    for at in range(len(flat)):
        if flat[at] * spacing > _NEGLIGIBLE:
            count += 1
    return count


@jit
def _fill(index: Any, begin: Any, low: Any, flat: Any, spacing: Any, out: Any, mass: Any) -> None:
    count = 0
    for row in range(len(low)):
        for at in range(begin[row], begin[row + 1]):
            if flat[at] * spacing > _NEGLIGIBLE:
                for i in range(len(index)):
                    out[i, count] = index[i, row]
                out[len(index), count] = low[row] + at - begin[row]
                mass[count] = flat[at] * spacing
                count += 1


@jit
def add_images(
    constant: Any,
    mean: Any,
    spread: Any,
    mass: Any,
    place: Any,
    slope: Any,
    lowest: Any,
    gap: Any,
    first: Any,
    spacing: Any,
    reach: Any,
    out: Any,
) -> None:
    """Add the densities of constant + φ(v), v ~ N(mean, spread²), one for each source, at (first + i)·spacing.

    φ⁻¹ and its derivative at lowest + i·gap are ``place`` and ``slope``; between, cubic Hermite interpolation.
    """
    for j in range(len(mass)):
        left = np.searchsorted(place, mean[j] - reach * spread[j])
        right = np.searchsorted(place, mean[j] + reach * spread[j])
        shift = constant[j] + lowest
        begin = max(np.ceil((shift + (left - 1) * gap) / spacing), 1.0 * first)
        end = min(np.floor((shift + right * gap) / spacing) + 1.0, 1.0 * (first + len(out)))
        for k in range(np.int64(end - begin)):
            t = ((begin + k) * spacing - shift) / gap
            cell: Any = min(max(np.int64(np.floor(t)), 0), len(place) - 2)
            t -= cell
            p0, p1, d0, d1 = place[cell], place[cell + 1], slope[cell] * gap, slope[cell + 1] * gap
            c2, c3 = 3.0 * (p1 - p0) - 2.0 * d0 - d1, 2.0 * (p0 - p1) + d0 + d1
            z = (p0 + t * (d0 + t * (c2 + t * c3)) - mean[j]) / spread[j]
            derivative = (d0 + t * (2.0 * c2 + t * 3.0 * c3)) / gap
            out[np.int64(begin) - first + k] += (
                mass[j] * derivative * exp(-0.5 * z * z) / (spread[j] * 2.5066282746310002)
            )

"""Vector kernels on panels: the particles of one vector, a row of 64 bytes for each coordinate.

A panel of d coordinates is (rows, width) flat: width 8 in float64 and 16 in float32, rows the next multiple of 4
from d. Matrices are packed in tiles of four rows: entry (i, j) of (m, n) lies at [i // 4, j, i % 4] of
(ceil(m/4), n, 4), with zeros below the last row. What a tile sums over a panel stays in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from srkverify.engines.simd import Lanes, Memory, Variable, kernel, loop
from srkverify.engines.vecmath import exp_lanes

TILE = 4

# Logits so far below the highest (float64, float32) have weight 0. What is left out cannot be seen in a sum, and what
# is left is large enough for its products to be normal numbers: arithmetic on others is a hundred times slower.
_LOWEST = (-500.0, -60.0)


def _sums(start: list[Lanes], count: Lanes, term: Callable[[Lanes, int], tuple[Lanes, Lanes]]) -> list[Lanes]:
    """Return, for each row r of a tile, the sum over j < count of the product of the two factors ``term(j, r)``."""
    totals = [Variable(value) for value in start]
    with loop(count) as j:
        for r, total in enumerate(totals):
            left, right = term(j, r)
            total.set(left * right + total.get())
    return [total.get() for total in totals]


def _rows(out: Memory, values: list[Lanes], first: Lanes) -> None:
    for r, value in enumerate(values):
        out.store(value, first, r)


def _gap(means: Memory, entry: Lanes, x: Memory, j: Lanes) -> Lanes:
    return x.load(j * x.width) - means.scalar(entry)


@kernel
def distances(means: Memory, at: Lanes, tiles: Lanes, d: Lanes, x: Memory, x_at: Lanes, out: Memory) -> None:
    """Write Σ_j (x_j − m_ij)² to row i of ``out``."""
    means, x = means.since(at), x.since(x_at)
    with loop(tiles) as tile:

        def term(j: Lanes, r: int) -> tuple[Lanes, Lanes]:
            gap = _gap(means, (tile * d + j) * TILE + r, x, j)
            return gap, gap

        _rows(out, _sums([x.zeros()] * TILE, d, term), tile * (TILE * x.width))


@kernel
def squares(x: Memory, x_at: Lanes, d: Lanes, out: Memory) -> None:
    """Write Σ_j x_j² to the first row of ``out``."""

    def term(row: Lanes) -> tuple[Lanes, Lanes]:
        return x.load(x_at + row * x.width), x.load(x_at + row * x.width)

    # Four sums at a time, for one alone would wait for itself at each row; then the rest.
    whole = d >> 2
    first, second, third, fourth = _sums([x.zeros()] * 4, whole, lambda j, r: term(j * 4 + r))
    total = (first + second) + (third + fourth)
    (total,) = _sums([total], d - whole * 4, lambda j, _: term(whole * 4 + j))
    out.store(total, x_at * 0)


@kernel
def weighted_squares(
    x: Memory, x_at: Lanes, weights: Memory, weights_at: Lanes, d: Lanes, out: Memory, out_at: Lanes
) -> None:
    """Write Σ_j w_j x_j² to a row of ``out``, lane by lane."""
    x, weights = x.since(x_at), weights.since(weights_at)

    def term(j: Lanes, _: int) -> tuple[Lanes, Lanes]:
        value = x.load(j * x.width)
        return value * weights.load(j * x.width), value

    (total,) = _sums([x.zeros()], d, term)
    out.store(total, out_at)


@kernel
def expanded_logits(
    means: Memory,
    slopes: Memory,
    offsets: Memory,
    at: Lanes,
    tiles: Lanes,
    d: Lanes,
    x: Memory,
    x_at: Lanes,
    out: Memory,
) -> None:
    """Write s_i Σ_j m_ij x_j + o_i to row i of ``out``: −|x − m_i|²/2v_i and a constant, but for −|x|²/2v_i."""
    x, slopes, offsets = x.since(x_at), slopes.since(at), offsets.since(at)
    with loop(tiles) as tile:
        sums = _sums([x.zeros()] * TILE, d, _entry_times_row(means, tile, d, x))
        rows = [
            total * slopes.scalar(tile * TILE + r) + offsets.scalar(tile * TILE + r) for r, total in enumerate(sums)
        ]
        _rows(out, rows, tile * (TILE * x.width))


@kernel
def logits(constants: Memory, at: Lanes, factors: Memory, factors_at: Lanes, rows: Lanes, out: Memory) -> None:
    """Turn distances q_i, the rows of ``out``, into c_i − f_i q_i/2."""
    constants, factors = constants.since(at), factors.since(factors_at)
    with loop(rows) as i:
        row = out.load(i * out.width)
        out.store(row * (factors.scalar(i) * -0.5) + constants.scalar(i), i * out.width)


@kernel
def subtract_squares(square: Memory, factors: Memory, at: Lanes, rows: Lanes, out: Memory) -> None:
    """Subtract f_i |x|²/2 from row i of ``out``; ``square`` is |x|²."""
    factors = factors.since(at)
    with loop(rows) as i:
        row = out.load(i * out.width)
        out.store(square.load(at * 0) * (factors.scalar(i) * -0.5) + row, i * out.width)


@kernel
def weighted_distances(
    means: Memory, weights: Memory, at: Lanes, tiles: Lanes, d: Lanes, x: Memory, x_at: Lanes, out: Memory
) -> None:
    """Write Σ_j a_ij (x_j − m_ij)² to row i of ``out``."""
    means, weights, x = means.since(at), weights.since(at), x.since(x_at)
    with loop(tiles) as tile:

        def term(j: Lanes, r: int) -> tuple[Lanes, Lanes]:
            entry = (tile * d + j) * TILE + r
            gap = _gap(means, entry, x, j)
            return gap * weights.scalar(entry), gap

        _rows(out, _sums([x.zeros()] * TILE, d, term), tile * (TILE * x.width))


def _entry_times_row(
    matrix: Memory, tile: Lanes, depth: Lanes, x: Memory
) -> Callable[[Lanes, int], tuple[Lanes, Lanes]]:
    return lambda j, r: (x.load(j * x.width), matrix.scalar((tile * depth + j) * TILE + r).spread(x.width))


@kernel
def products(
    matrix: Memory, at: Lanes, tiles: Lanes, depth: Lanes, x: Memory, x_at: Lanes, out: Memory, out_at: Lanes
) -> None:
    """Write Σ_j a_ij x_j to row i of ``out``."""
    matrix, x, out = matrix.since(at), x.since(x_at), out.since(out_at)
    with loop(tiles) as tile:
        _rows(out, _sums([x.zeros()] * TILE, depth, _entry_times_row(matrix, tile, depth, x)), tile * (TILE * x.width))


@kernel
def add_products(
    matrix: Memory, at: Lanes, tiles: Lanes, depth: Lanes, x: Memory, x_at: Lanes, out: Memory, out_at: Lanes
) -> None:
    """Add Σ_j a_ij x_j to row i of ``out``."""
    matrix, x, out = matrix.since(at), x.since(x_at), out.since(out_at)
    with loop(tiles) as tile:
        first = tile * (TILE * x.width)
        start = [out.load(first, r) for r in range(TILE)]
        _rows(out, _sums(start, depth, _entry_times_row(matrix, tile, depth, x)), first)


@kernel
def add_products_twice(
    matrix: Memory,
    at: Lanes,
    tiles: Lanes,
    depth: Lanes,
    x: Memory,
    x_at: Lanes,
    x_gap: Lanes,
    out: Memory,
    out_at: Lanes,
    out_gap: Lanes,
) -> None:
    """Do ``add_products`` for two panels, the second one a gap behind the first: each entry is loaded once."""
    matrix, x, out = matrix.since(at), x.since(x_at), out.since(out_at)
    pair = [(x, out), (x.since(x_gap), out.since(out_gap))]
    with loop(tiles) as tile:
        first = tile * (TILE * x.width)
        totals = [[Variable(out.load(first, r)) for r in range(TILE)] for _, out in pair]
        with loop(depth) as j:
            factors = [x.load(j * x.width) for x, _ in pair]
            for r in range(TILE):
                entry = matrix.scalar((tile * depth + j) * TILE + r).spread(x.width)
                for factor, total in zip(factors, totals, strict=True):
                    total[r].set(factor * entry + total[r].get())
        for (_, out), total in zip(pair, totals, strict=True):
            _rows(out, [value.get() for value in total], first)


@kernel
def whitened_distance(
    means: Memory,
    weights: Memory,
    at: Lanes,
    tiles: Lanes,
    factor: Lanes,
    x: Memory,
    x_at: Lanes,
    out: Memory,
    out_at: Lanes,
) -> None:
    """Write Σ_j a_j (f x_j − m_j)² to a row of ``out``; the m_j and a_j of whole tiles begin at ``at``."""
    means, weights, x = means.since(at), weights.since(at), x.since(x_at)
    sums = [Variable(x.zeros()) for _ in range(TILE)]
    with loop(tiles) as tile:
        for r, total in enumerate(sums):
            entry = tile * TILE + r
            gap = x.load(entry * x.width) * factor - means.scalar(entry)
            total.set(gap * weights.scalar(entry) * gap + total.get())
    out.store((sums[0].get() + sums[1].get()) + (sums[2].get() + sums[3].get()), out_at)


@kernel
def whitened_pull(
    means: Memory,
    weights: Memory,
    at: Lanes,
    tiles: Lanes,
    factor: Lanes,
    x: Memory,
    x_at: Lanes,
    share: Memory,
    share_at: Lanes,
    out: Memory,
    out_at: Lanes,
) -> None:
    """Write −r a_j (f x_j − m_j) to row j of ``out``, with r a row of ``share``; as ``whitened_distance``."""
    means, weights, x, out = means.since(at), weights.since(at), x.since(x_at), out.since(out_at)
    scale = share.load(share_at)
    with loop(tiles) as tile:
        for r in range(TILE):
            entry = tile * TILE + r
            gap = x.load(entry * x.width) * (factor * -1.0) + means.scalar(entry)
            out.store(gap * weights.scalar(entry) * scale, entry * x.width)


@kernel
def pulls(
    matrix: Memory,
    at: Lanes,
    tiles: Lanes,
    depth: Lanes,
    shares: Memory,
    x: Memory,
    x_at: Lanes,
    pull: Memory,
    stride: Lanes,
    factor: Lanes,
    out: Memory,
    out_at: Lanes,
) -> None:
    """Add f·(Σ_i a_ji r_i − x_j p_j) to row j of ``out``; ``stride`` is 0 if all rows share one p, else the width."""
    matrix, x, out = matrix.since(at), x.since(x_at), out.since(out_at)
    with loop(tiles) as tile:
        first = tile * (TILE * x.width)
        sums = _sums([x.zeros()] * TILE, depth, _entry_times_row(matrix, tile, depth, shares))
        for r, total in enumerate(sums):
            value = total - x.load(first, r) * pull.load((tile * TILE + r) * stride)
            out.store(value * factor + out.load(first, r), first, r)


def _weight(logit: Lanes) -> Lanes:
    """e^logit, 0 if that is tiny."""
    return exp_lanes(logit).zero_where_below(logit, _LOWEST[logit.single])


@kernel
def posterior(
    factors: Memory, shrinks: Memory, at: Lanes, stage: Lanes, tiles: Lanes, shares: Memory, pull: Memory
) -> None:
    """Turn logits, the rows of ``shares``, into s f_i r_i with r the posterior weights ∝ exp(logit).

    Σ_i f_i r_i is written to ``pull``; s is entry ``stage`` of ``shrinks``.
    """
    factors = factors.since(at)
    width = shares.width
    pairs = tiles * (TILE // 2)

    # Two rows at a time, for the processor to have something to do while it waits for a result of the first.
    def both(i: Lanes) -> Lanes:
        return shares.load(i * (2 * width)).joined(shares.load(i * (2 * width), 1))

    nothing = shares.zeros().joined(shares.zeros())
    highest = Variable(nothing - math.inf)
    with loop(pairs) as i:
        highest.set(highest.get().at_least(both(i)))
    peak = highest.get().part(0, width).at_least(highest.get().part(width, width))
    total, pulled = Variable(nothing), Variable(nothing)
    with loop(pairs) as i:
        weight = _weight(both(i) - peak.joined(peak))
        factor = factors.scalar(i * 2).spread(width).joined(factors.scalar(i * 2 + 1).spread(width))
        share = weight * factor
        total.set(total.get() + weight)
        pulled.set(pulled.get() + share)
        for half in range(2):
            shares.store(share.part(half * width, width), i * (2 * width), half)
    scale = 1.0 / (total.get().part(0, width) + total.get().part(width, width))
    shared = pulled.get().part(0, width) + pulled.get().part(width, width)
    pull.store(shared * scale, at * 0)
    scale = scale * shrinks.scalar(stage)
    with loop(tiles * TILE) as i:
        shares.store(shares.load(i * width) * scale, i * width)


@kernel
def responsibilities(at: Lanes, tiles: Lanes, shares: Memory, peak: Memory, total: Memory) -> None:
    """Turn logits, the rows of ``shares``, into r_i ∝ exp(logit); log Σ exp(logit) is ``peak`` + log ``total``.

    The two are written at ``at``.
    """
    width = shares.width
    rows = tiles * TILE
    highest, sums = Variable(shares.zeros() - math.inf), Variable(shares.zeros())
    with loop(rows) as i:
        highest.set(highest.get().at_least(shares.load(i * width)))
    with loop(rows) as i:
        weight = _weight(shares.load(i * width) - highest.get())
        sums.set(sums.get() + weight)
        shares.store(weight, i * width)
    scale = 1.0 / sums.get()
    with loop(rows) as i:
        shares.store(shares.load(i * width) * scale, i * width)
    peak.store(highest.get(), at)
    total.store(sums.get(), at)


def _gaps(diagonal: bool) -> Callable[..., None]:
    def write(
        back: Memory,
        weights: Memory,
        at: Lanes,
        depth: Lanes,
        factor: Lanes,
        x: Memory,
        x_at: Lanes,
        mean: Memory,
        mean_at: Lanes,
        root: Memory,
        root_at: Lanes,
        tiles: Lanes,
        out: Memory,
        out_at: Lanes,
        total: Memory,
        total_at: Lanes,
    ) -> None:
        back, weights, x = back.since(at), weights.since(at), x.since(x_at)

        def own(tile: Lanes, r: int) -> Lanes:
            entry, value = tile * depth * TILE + r, x.load(tile * (TILE * x.width), r)
            if diagonal:
                return value * (weights.scalar(entry) * -1.0) + back.scalar(entry)
            return (value * -1.0 + back.scalar(entry)) * factor

        _write_gaps(own, mean.since(mean_at), root.load(root_at), tiles, out.since(out_at), total.since(total_at))

    return write


def _write_gaps(
    own: Callable[[Lanes, int], Lanes], mean: Memory, scale: Lanes, tiles: Lanes, out: Memory, total: Memory
) -> None:
    start = tiles * 0
    sums = Variable(total.load(start))
    with loop(tiles) as tile:
        first = tile * (TILE * out.width)
        for r in range(TILE):
            gap = (own(tile, r) - mean.load(first, r)) * scale
            sums.set(gap * gap + sums.get())
            out.store(gap, first, r)
    total.store(sums.get(), start)


# Write ρ (s_i − s) to the panel at ``out`` and add its squared length to ``total``. s is ``mean``, ρ ``root``, and s_i
# the score of one component at x: b_j − a_j x_j, or (b_j − x_j) f; b_j, a_j are every ``depth``-th tile from ``at`` on.
diagonal_gaps, isotropic_gaps = kernel(_gaps(True)), kernel(_gaps(False))


@kernel
def gaps(
    own: Memory,
    own_at: Lanes,
    mean: Memory,
    mean_at: Lanes,
    root: Memory,
    root_at: Lanes,
    tiles: Lanes,
    out: Memory,
    out_at: Lanes,
    total: Memory,
    total_at: Lanes,
) -> None:
    """Do the same for scores s_i that are in memory; ``out`` may be the same panel."""
    own = own.since(own_at)

    def value(tile: Lanes, r: int) -> Lanes:
        return own.load(tile * (TILE * own.width), r)

    _write_gaps(value, mean.since(mean_at), root.load(root_at), tiles, out.since(out_at), total.since(total_at))


@kernel
def add_inner(
    rows: Memory, at: Lanes, tiles: Lanes, stride: Lanes, d: Lanes, x: Memory, x_at: Lanes, out: Memory, out_at: Lanes
) -> None:
    """Add Σ_j y_ij x_j, j < d, to row i of ``out``, lane by lane: the y_i are panels of ``stride`` rows."""
    rows, x, out = rows.since(at), x.since(x_at), out.since(out_at)
    with loop(tiles) as tile:

        def term(j: Lanes, r: int) -> tuple[Lanes, Lanes]:
            return rows.load(((tile * TILE + r) * stride + j) * x.width), x.load(j * x.width)

        first = tile * (TILE * x.width)
        _rows(out, _sums([out.load(first, r) for r in range(TILE)], d, term), first)


@kernel
def add_combination(
    rows: Memory,
    at: Lanes,
    count: Lanes,
    stride: Lanes,
    weights: Memory,
    weights_at: Lanes,
    tiles: Lanes,
    out: Memory,
    out_at: Lanes,
) -> None:
    """Add Σ_i w_i y_i to ``tiles`` of a panel, lane by lane: the y_i are panels of ``stride`` rows."""
    rows, weights, out = rows.since(at), weights.since(weights_at), out.since(out_at)
    with loop(tiles) as tile:
        first = tile * (TILE * out.width)

        def term(i: Lanes, r: int) -> tuple[Lanes, Lanes]:
            return rows.load(i * stride * out.width + first, r), weights.load(i * out.width)

        _rows(out, _sums([out.load(first, r) for r in range(TILE)], count, term), first)


@kernel
def add(out: Memory, out_at: Lanes, factor: Lanes, x: Memory, x_at: Lanes, rows: Lanes) -> None:
    """Add f·x to ``rows`` rows of ``out``."""
    with loop(rows) as i:
        shift = i * x.width
        out.store(x.load(x_at + shift) * factor + out.load(out_at + shift), out_at + shift)


def _mixture(terms: int) -> Callable[..., None]:
    def mix(
        out: Memory,
        out_at: Lanes,
        coefficients: Memory,
        at: Lanes,
        x: Memory,
        x_at: Lanes,
        noise: Memory,
        stride: Lanes,
        tiles: Lanes,
    ) -> None:
        values = [coefficients.scalar(at + i) for i in range(terms + 1)]
        with loop(tiles) as tile:
            first = tile * (TILE * x.width)
            for r in range(TILE):
                total = x.load(x_at + first, r) * values[0]
                for i in range(terms):
                    total = noise.load(stride * i + first, r) * values[i + 1] + total
                out.store(total, out_at + first, r)

    return mix


# Write c_0 x + c_1 ξ_0 + … to ``tiles`` of ``out``; noise ξ_m begins at m times ``stride``.
mix_none, mix_one, mix_two = (kernel(_mixture(terms)) for terms in range(3))


@kernel
def mix_rows(
    out: Memory,
    out_at: Lanes,
    other_at: Lanes,
    coefficients: Memory,
    at: Lanes,
    x: Memory,
    x_at: Lanes,
    noise: Memory,
    stride: Lanes,
    tiles: Lanes,
) -> None:
    """Write c_0 x + c_1 ξ_0 + c_2 ξ_1 at ``out_at`` and c_3 x + c_4 ξ_0 + c_5 ξ_1 at ``other_at``; x may be either."""
    values = [coefficients.scalar(at + i) for i in range(6)]
    with loop(tiles) as tile:
        first = tile * (TILE * x.width)
        for r in range(TILE):
            terms = x.load(x_at + first, r), noise.load(first, r), noise.load(stride + first, r)
            for place, row in ((out_at, values[:3]), (other_at, values[3:])):
                total = terms[2] * row[2] + (terms[1] * row[1] + terms[0] * row[0])
                out.store(total, place + first, r)

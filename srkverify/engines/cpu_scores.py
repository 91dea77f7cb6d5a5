"""Scores of a mixture on panels: prepared once for the time of a stage, then added where they are used."""

from __future__ import annotations

import math
from typing import Any

from srkverify.engines import panels
from srkverify.engines.cpu_memory import DIAGONAL, EXPANDED, FULL, LOW_RANK
from srkverify.engines.simd import BYTES, inlined, jit


@inlined
def sizes(scratch: Any) -> Any:
    """Particles in a vector (known to the compiler), and components and coordinates in whole tiles."""
    return BYTES // scratch.draw.itemsize, scratch.components, scratch.coordinates


@jit
def prepare(law: Any, time: Any, stage: Any, constants: Any, scratch: Any) -> None:
    """Write what scores at ``time`` need to the stage's part of the scratch memory."""
    components, dimension = law.means.shape
    _, c, d = sizes(scratch)
    shrink, spread, grown = math.exp(-time), math.exp(-2.0 * time), -math.expm1(-2.0 * time)
    base = stage * c * d
    for i in range(c):
        scratch.factors[stage * c + i] = 1.0
    if law.kind <= LOW_RANK:
        for i in range(components):
            scratch.factors[stage * c + i] = 1.0 / (spread * law.variances[i, 0] + grown)
    scratch.shrinks[stage] = 1.0
    if law.kind == EXPANDED:
        scratch.shrinks[stage] = shrink
        for i in range(c):
            factor = scratch.factors[stage * c + i]
            norm = law.norms[i] if i < components else 0.0
            scratch.slopes[stage * c + i] = shrink * factor
            scratch.offsets[stage * c + i] = law.constants[constants + i] - 0.5 * factor * spread * norm
        return
    if law.kind >= LOW_RANK and law.kind != DIAGONAL:
        _prepare_directions(law, shrink, spread, grown, stage, scratch)
    if law.kind == FULL:
        return
    for i in range(components):
        for j in range(dimension):
            mean = shrink * law.means[i, j]
            forth = base + (i // panels.TILE * dimension + j) * panels.TILE + i % panels.TILE
            back = base + (j // panels.TILE * c + i) * panels.TILE + j % panels.TILE
            scratch.means[forth] = mean
            scratch.back[back] = mean
            if law.kind == DIAGONAL:
                inverse = 1.0 / (spread * law.variances[i, j] + grown)
                scratch.weights[forth] = inverse
                scratch.back[back] *= inverse
                scratch.back_weights[back] = inverse


@jit
def _prepare_directions(law: Any, shrink: Any, spread: Any, grown: Any, stage: Any, scratch: Any) -> None:
    """Write the means in the components' own directions, and what inverse variances there exceed the common one by.

    The excess is in units of the common inverse variance if LOW_RANK; all of the inverse variance if FULL.
    """
    components, dimension = law.means.shape
    first = dimension - law.rank
    for i in range(components):
        common = spread * law.variances[i, 0] + grown
        for j in range(law.rank):
            variance = spread * law.variances[i, first + j] + grown
            at = (stage * components + i) * scratch.directions + j
            scratch.turned_means[at] = shrink * law.turned_means[i, first + j]
            scratch.weights[at] = 1.0 / variance if law.kind == FULL else (common - variance) / variance


@inlined
def add_score(law: Any, stage: Any, constants: Any, scratch: Any, point: Any, factor: Any, out: Any) -> None:
    """Add ``factor`` times the score at the panel at ``point`` to the panel at ``out``."""
    dimension = law.means.shape[1]
    width, c, d = sizes(scratch)
    at, base, tiles, rows = stage * c, stage * c * d, c // panels.TILE, d // panels.TILE
    states, shares, pull = scratch.panels, scratch.shares, scratch.pull
    if law.kind == EXPANDED:
        panels.expanded_logits(law.into, scratch.slopes, scratch.offsets, at, tiles, dimension, states, point, shares)
        if not law.equal:
            panels.squares(states, point, dimension, pull)
            panels.subtract_squares(pull, scratch.factors, at, c, shares)
    else:
        if law.kind == DIAGONAL:
            panels.weighted_distances(scratch.means, scratch.weights, base, tiles, dimension, states, point, shares)
        elif law.kind != FULL:
            panels.distances(scratch.means, base, tiles, dimension, states, point, shares)
        if law.rank > 0:
            _whiten(law, stage, scratch, point)
        panels.logits(law.constants, constants, scratch.factors, at, c, shares)
    panels.posterior(scratch.factors, scratch.shrinks, at, stage, tiles, shares, pull)
    if law.kind == EXPANDED:
        panels.pulls(law.out_of, 0, rows, c, shares, states, point, pull, 0, factor, states, out)
    elif law.kind == DIAGONAL:
        panels.products(scratch.back_weights, base, rows, c, shares, 0, pull, 0)
        panels.pulls(scratch.back, base, rows, c, shares, states, point, pull, width, factor, states, out)
    elif law.kind != FULL:
        panels.pulls(scratch.back, base, rows, c, shares, states, point, pull, 0, factor, states, out)
    if law.rank > 0:
        _unwhiten(law, scratch, factor, out)


@jit
def _whiten(law: Any, stage: Any, scratch: Any, point: Any) -> None:
    """Write W_i Q_iᵀ (x − m_i), W_i the weights of the own directions Q_i, and add the squares to the distances.

    If FULL, W_i is the inverse of all variances, and the distance is (x − m_i)ᵀ Σ_i^{−1} (x − m_i).
    """
    components, dimension = law.means.shape
    width = sizes(scratch)[0]
    z, many = scratch.whitened, scratch.directions
    for i in range(components):
        first, base = i * many * width, (stage * components + i) * many
        panels.products(law.into, i * many * dimension, many // panels.TILE, dimension, scratch.panels, point, z, first)
        if law.kind == FULL:
            for lane in range(width):
                scratch.shares[i * width + lane] = 0.0
        for j in range(law.rank):
            mean, weight = scratch.turned_means[base + j], scratch.weights[base + j]
            for lane in range(width):
                at = first + j * width + lane
                gap = z[at] - mean
                z[at] = gap * weight
                scratch.shares[i * width + lane] += gap * z[at]


@jit
def _unwhiten(law: Any, scratch: Any, factor: Any, out_at: Any) -> None:
    """Add −f Σ_i r_i Q_i z_i to a panel, z_i what ``_whiten`` left and r_i the posterior weights over the variances."""
    width, _, d = sizes(scratch)
    z, many = scratch.whitened, scratch.directions
    for i in range(law.means.shape[0]):
        first = i * many * width
        for j in range(law.rank):
            for lane in range(width):
                z[first + j * width + lane] *= factor * scratch.shares[i * width + lane]
        panels.add_products(law.out_of, i * d * law.rank, d // panels.TILE, law.rank, z, first, scratch.panels, out_at)

"""Scores of a mixture on panels: prepared once for the time of a stage, then added where they are used."""

from __future__ import annotations

import math
from typing import Any

from srkverify.engines import panels
from srkverify.engines.cpu_memory import DIAGONAL, EXPANDED, ISOTROPIC
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
    if law.kind <= ISOTROPIC:
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
    for i in range(components):
        for j in range(dimension):
            mean = shrink * law.means[i, j]
            forth = base + (i // panels.TILE * dimension + j) * panels.TILE + i % panels.TILE
            back = base + (j // panels.TILE * c + i) * panels.TILE + j % panels.TILE
            if law.kind == ISOTROPIC:
                scratch.means[forth] = mean
                scratch.back[back] = mean
            else:
                inverse = 1.0 / (spread * law.variances[i, j] + grown)
                if law.kind == DIAGONAL:
                    scratch.means[forth] = mean
                    scratch.weights[forth] = inverse
                    scratch.back[back] = mean * inverse
                    scratch.back_weights[back] = inverse
                else:
                    scratch.means[base + i * d + j] = mean
                    scratch.weights[base + i * d + j] = inverse


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
        if law.kind == ISOTROPIC:
            panels.distances(scratch.means, base, tiles, dimension, states, point, shares)
        elif law.kind == DIAGONAL:
            panels.weighted_distances(scratch.means, scratch.weights, base, tiles, dimension, states, point, shares)
        else:
            _whiten(law, base, scratch, point)
        panels.logits(law.constants, constants, scratch.factors, at, c, shares)
    panels.posterior(scratch.factors, scratch.shrinks, at, stage, tiles, shares, pull)
    if law.kind == EXPANDED:
        panels.pulls(law.out_of, 0, rows, c, shares, states, point, pull, 0, factor, states, out)
    elif law.kind == ISOTROPIC:
        panels.pulls(scratch.back, base, rows, c, shares, states, point, pull, 0, factor, states, out)
    elif law.kind == DIAGONAL:
        panels.products(scratch.back_weights, base, rows, c, shares, 0, pull, 0)
        panels.pulls(scratch.back, base, rows, c, shares, states, point, pull, width, factor, states, out)
    else:
        _unwhiten(law, scratch, factor, out)


@jit
def _whiten(law: Any, base: Any, scratch: Any, point: Any) -> None:
    """Write Λ_i^{−1} Q_iᵀ (x − m_i) for each component, and the distances (x − m_i)ᵀ Σ_i^{−1} (x − m_i)."""
    components, dimension = law.means.shape
    width, _, d = sizes(scratch)
    z = scratch.whitened
    for i in range(components):
        first = i * d * width
        panels.products(law.into, i * d * dimension, d // panels.TILE, dimension, scratch.panels, point, z, first)
        for lane in range(width):
            scratch.shares[i * width + lane] = 0.0
        for j in range(dimension):
            mean, inverse = scratch.means[base + i * d + j], scratch.weights[base + i * d + j]
            for lane in range(width):
                at = first + j * width + lane
                gap = z[at] - mean
                z[at] = gap * inverse
                scratch.shares[i * width + lane] += gap * z[at]


@jit
def _unwhiten(law: Any, scratch: Any, factor: Any, out_at: Any) -> None:
    """Add −f Σ_i r_i Q_i z_i to a panel, z_i what ``_whiten`` left and r_i the posterior weights."""
    components, dimension = law.means.shape
    width, _, d = sizes(scratch)
    z = scratch.whitened
    for i in range(components):
        first = i * d * width
        for j in range(dimension):
            for lane in range(width):
                z[first + j * width + lane] *= factor * scratch.shares[i * width + lane]
        panels.add_products(
            law.out_of, i * d * dimension, d // panels.TILE, dimension, z, first, scratch.panels, out_at
        )

"""Scores of a mixture on panels: prepared once for the time of a stage, then added where they are used."""

from __future__ import annotations

import math
from typing import Any

from srkverify.engines import panels, rng
from srkverify.engines.cpu_memory import DIAGONAL, EXPANDED, ISOTROPIC
from srkverify.engines.simd import inlined, jit


@inlined
def sizes(law: Any, scratch: Any) -> Any:
    """Particles in a vector, components and coordinates rounded up to whole tiles."""
    width = len(scratch.draw) // rng.GROUP
    return width, len(scratch.shares) // width, (law.means.shape[1] + panels.TILE - 1) // panels.TILE * panels.TILE


@jit
def prepare(law: Any, time: Any, stage: Any, scratch: Any) -> None:
    """Write what scores at ``time`` need to the stage's part of the scratch memory."""
    components, dimension = law.means.shape
    _, c, d = sizes(law, scratch)
    shrink, spread, grown = math.exp(-time), math.exp(-2.0 * time), -math.expm1(-2.0 * time)
    base = stage * c * d
    for i in range(c):
        scratch.factors[stage * c + i] = 1.0
    if law.kind <= ISOTROPIC:
        for i in range(components):
            scratch.factors[stage * c + i] = 1.0 / (spread * law.variances[i, 0] + grown)
    if law.kind == EXPANDED:
        for i in range(components):
            scratch.means[base + i] = spread * law.norms[i]
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
def add_score(
    law: Any, time: Any, stage: Any, constants: Any, scratch: Any, point: Any, factor: Any, out_at: Any
) -> None:
    """Add ``factor`` times the score at the panel at ``point`` to the panel at ``out_at``."""
    dimension = law.means.shape[1]
    width, c, d = sizes(law, scratch)
    base, tiles, rows = stage * c * d, c // panels.TILE, d // panels.TILE
    points, shares, pull = scratch.panels, scratch.shares, scratch.pull
    shrink = 1.0
    if law.kind == EXPANDED:
        shrink = math.exp(-time)
        if law.equal:
            for lane in range(width):
                pull[lane] = 0.0
        else:
            panels.squares(points, point, dimension, pull)
        panels.expanded_distances(law.into, shrink, scratch.means, base, tiles, dimension, points, point, pull, shares)
    elif law.kind == ISOTROPIC:
        panels.distances(scratch.means, base, tiles, dimension, points, point, shares)
    elif law.kind == DIAGONAL:
        panels.weighted_distances(scratch.means, scratch.weights, base, tiles, dimension, points, point, shares)
    else:
        _whiten(law, base, scratch, point)
    panels.posterior(law.constants, constants, scratch.factors, stage * c, shrink, tiles, shares, pull)
    if law.kind == EXPANDED:
        panels.pulls(law.out_of, 0, rows, c, shares, points, point, pull, 0, factor, points, out_at)
    elif law.kind == ISOTROPIC:
        panels.pulls(scratch.back, base, rows, c, shares, points, point, pull, 0, factor, points, out_at)
    elif law.kind == DIAGONAL:
        panels.products(scratch.back_weights, base, rows, c, shares, 0, pull, 0)
        panels.pulls(scratch.back, base, rows, c, shares, points, point, pull, width, factor, points, out_at)
    else:
        _unwhiten(law, scratch, factor, out_at)


@jit
def _whiten(law: Any, base: Any, scratch: Any, point: Any) -> None:
    """Write Λ_i^{−1} Q_iᵀ (x − m_i) for each component, and the distances (x − m_i)ᵀ Σ_i^{−1} (x − m_i)."""
    components, dimension = law.means.shape
    width, _, d = sizes(law, scratch)
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
    width, _, d = sizes(law, scratch)
    z = scratch.whitened
    for i in range(components):
        first = i * d * width
        for j in range(dimension):
            for lane in range(width):
                z[first + j * width + lane] *= factor * scratch.shares[i * width + lane]
        panels.add_products(
            law.out_of, i * d * dimension, d // panels.TILE, dimension, z, first, scratch.panels, out_at
        )

"""What the compiled particle engine reads and writes: a mixture, a tableau, and one thread's memory, as plain arrays.

In the shapes below d is the dimension and c the number of components, D and C these rounded up to multiples of 4; K, R,
M and P are the steps, stages, noises and remembered evaluations of the tableau.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines import panels, rng
from srkverify.engines.simd import BYTES
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture

EXPANDED, ISOTROPIC, LOW_RANK, DIAGONAL, FULL = range(5)

_CACHE = 1 << 17  # bytes of panels in a block
_MOST_PANELS = 64
_MOST_GROUPS = 16  # of coordinates whose noises are drawn at a time
_NEVER = -1e30  # log weight of the components that fill up a tile

Real = NDArray[np.floating[Any]]


class Law(NamedTuple):
    """A mixture of components with positive weights.

    Attributes
    ----------
    kind : ISOTROPIC, DIAGONAL or FULL; EXPANDED if isotropic and |x|² − 2 x·m + |m|² loses nothing; LOW_RANK if full,
        with one variance in all but a few directions of a component.
    equal : whether all variances are equal.
    cumulative : (c,) summed weights.
    means : (c, d) at time 0.
    norms : (c,) their squared lengths.
    variances : (c, 1 or d) at time 0, ascending if LOW_RANK.
    bases : (c, d, d) eigenvectors in columns, if FULL or LOW_RANK.
    turned_means : (c, d) the means in the eigenbases, if FULL or LOW_RANK.
    rank : the last so many eigenvectors of a component have variances of their own; the others share its first one.
    constants : (K·R·C,) log w − ½ log det at the time of each stage.
    into : packed: the last ``rank`` eigenvectors, transposed, if FULL or LOW_RANK; the means if EXPANDED.
    out_of : packed: minus these eigenvectors, or the transposed means.
    """

    kind: int
    equal: bool
    cumulative: Array
    means: Array
    norms: Array
    variances: Array
    bases: Array
    turned_means: Array
    rank: int
    constants: Real
    into: Real
    out_of: Real


class Table(NamedTuple):
    """A tableau: rows 0, …, R − 1 are its stages, row R is its output.

    Attributes
    ----------
    times : (K+1,)
    stage_times : (K, R)
    evaluated : (K, R)
    noises : M
    own : (K·(R+1)·(1+M),) coefficients of the state and of the noises.
    terms : (K·(R+1),) how many of the noises a row uses.
    scores : (K, R+1, R)
    past : (K, R+1, P, 2) coefficients of remembered points and scores.
    made : (K,) evaluations before the step.
    number : (K, R) evaluations before the stage's.
    direct : (K, R) whether the output alone uses a score.
    coupled : whether step k's noise m is Σ weights[s, m, b] ζ_{s,b} over s from offsets[k] to offsets[k+1].
    offsets : (K+1,)
    weights : (S, M, 3)
    """

    times: Array
    stage_times: Array
    evaluated: NDArray[np.bool_]
    noises: int
    own: Real
    terms: NDArray[np.int64]
    scores: Array
    past: Array
    made: NDArray[np.int64]
    number: NDArray[np.int64]
    direct: NDArray[np.bool_]
    coupled: bool
    offsets: NDArray[np.int64]
    weights: Array


class Scratch(NamedTuple):
    """Memory of one thread, flat.

    Attributes
    ----------
    components, coordinates : C and D.
    means, turned_means, weights, back, back_weights, factors, shrinks, slopes, offsets : the mixture at the times of
        the step's stages.
    shares : (C, width) logits, then posterior weights of a panel's particles.
    pull : (1 or D, width) what multiplies minus the point in its score.
    directions : the law's rank, in whole tiles.
    whitened : (c, directions, width) Σ_i^{−1} (x − m_i) in the eigenbases if FULL, what it adds to the isotropic part
        if LOW_RANK.
    turned : (D,) a particle's coordinates.
    groups : of coordinates, G, whose noises are drawn at a time.
    noise : (M, 4·G, width) of these.
    draw : (4, width) one draw of one group.
    panels : states of a block, from ``points`` on the stages' points and from ``scores`` on their scores.
    spare, uniforms : memory for the random numbers.
    """

    components: int
    coordinates: int
    means: Real
    turned_means: Real
    weights: Real
    back: Real
    back_weights: Real
    factors: Real
    shrinks: Real
    slopes: Real
    offsets: Real
    shares: Real
    pull: Real
    directions: int
    whitened: Real
    turned: Real
    groups: int
    noise: Real
    draw: Real
    panels: Real
    points: int
    scores: int
    spare: tuple[NDArray[np.int64], NDArray[np.int64]]
    uniforms: Array


def whole_tiles(count: int) -> int:
    """Return the next multiple of a tile's rows."""
    return -(-count // panels.TILE) * panels.TILE


def packed(matrix: Array) -> Array:
    """Return matrices (…, m, n) as ``panels`` reads them: in tiles, flat."""
    rows, columns = matrix.shape[-2:]
    padded = np.zeros((*matrix.shape[:-2], whole_tiles(rows), columns))
    padded[..., :rows, :] = matrix
    tiles = padded.reshape(*matrix.shape[:-2], whole_tiles(rows) // panels.TILE, panels.TILE, columns)
    return np.ascontiguousarray(np.swapaxes(tiles, -1, -2)).reshape(-1)


def aligned(shape: tuple[int, ...], dtype: Any) -> Real:
    """Return zeros, flat, that begin where a vector does in a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 2 * BYTES, np.uint8)
    begin = -memory.ctypes.data % BYTES
    return memory[begin : begin + max(size, BYTES)].view(dtype)


def diffused(variances: Array, times: Array) -> Array:
    """Return what variances at time 0 are at ``times``: λ e^{−2t} + 1 − e^{−2t}."""
    return np.exp(-2.0 * times) * variances - np.expm1(-2.0 * times)


def make_law(target: GaussianMixture, tableau: Tableau, dtype: Any) -> Law:
    """Return the kernels' form of a mixture without a basis that all components share."""
    used = target.weights > 0.0
    weights, means = target.weights[used], target.means[used]
    components, dimension = means.shape
    variances = np.broadcast_to(target.variances, (len(target.weights), target.variances.shape[1]))[used]
    kind = {"isotropic": ISOTROPIC, "diagonal": DIAGONAL, "full": FULL}[target.kind]
    bases, turned_means, rank = np.zeros((1, 1, 1)), means, 0
    into = out_of = np.zeros(1)
    norms = (means**2).sum(axis=1)
    if kind == ISOTROPIC and _may_expand(norms, variances[:, 0], dimension, tableau, dtype):
        kind, into = EXPANDED, packed(means)
        out_of = packed(np.concatenate([means, np.zeros((whole_tiles(components) - components, dimension))]).T)
    if target.bases is not None:
        bases = target.bases if used.all() else target.bases[used]
        turned_means = np.einsum("cij,ci->cj", bases, means)
        rank, common = _own_directions(variances)
        lengths = norms + variances.sum(axis=1)
        if rank <= dimension // 2 and _may_expand(lengths, common, dimension, tableau, dtype):
            kind = LOW_RANK
            shared = np.repeat(common[:, None], dimension - rank, axis=1)
            variances = np.concatenate([shared, variances[:, dimension - rank :]], axis=1)
        else:
            rank = dimension
        own = bases[:, :, dimension - rank :]
        into, out_of = packed(np.swapaxes(own, 1, 2)), packed(-own)
    constants = np.full((*tableau.stage_times.shape, whole_tiles(components)), _NEVER)
    for where in np.argwhere(tableau.evaluated):
        time = tableau.stage_times[tuple(where)]
        spread = diffused(variances, time)
        log_determinants = np.log(spread).sum(axis=1) * (dimension / spread.shape[1])
        constants[(*where, slice(components))] = np.log(weights) - 0.5 * log_determinants
    bases.setflags(write=False)  # as those of the target are, so that kernels are compiled once
    return Law(
        kind,
        bool((variances == variances[0, 0]).all()),
        np.cumsum(weights),
        np.ascontiguousarray(means),
        norms,
        np.ascontiguousarray(variances),
        bases,
        np.ascontiguousarray(turned_means),
        rank,
        constants.astype(dtype).reshape(-1),
        into.astype(dtype),
        out_of.astype(dtype),
    )


def _own_directions(variances: Array) -> tuple[int, Array]:
    """Return in how many directions components (c, d) have variances of their own, and what all others share, (c,).

    Variances are taken as the same if they differ by less than the rounding of an eigenvalue.
    """
    dimension = variances.shape[1]
    if (np.diff(variances) < 0.0).any():
        return dimension, variances[:, 0]
    rounding = 2.0 * dimension * np.finfo(float).eps * variances[:, -1:]
    rank = int((variances > variances[:, :1] + rounding).sum(axis=1).max())
    return rank, variances[:, : dimension - rank].mean(axis=1)


def _may_expand(norms: Array, variances: Array, dimension: int, tableau: Tableau, dtype: Any) -> bool:
    """Whether rounding of |x|² − 2 x·m + |m|² moves no logit by more than 10⁵ (float32: 2·10⁴) last places of 1.

    Rounding of x itself moves logits by as much if the variances are equal.
    """
    times = tableau.stage_times[tableau.evaluated][:, None]
    size = np.exp(-2.0 * times) * norms.max() / diffused(variances, times) + dimension
    return bool(size.max(initial=0.0) < (1e5 if np.dtype(dtype) == np.float64 else 2e4))


def make_table(tableau: Tableau, dtype: Any, coupling: tuple[NDArray[np.int64], Array] | None) -> Table:
    """Return the kernels' form of a tableau; ``coupling`` is what ``brownian.noise_weights`` returns."""
    steps, stages = tableau.stage_times.shape
    noises, memory = tableau.noise.shape[1], tableau.memory
    own = np.empty((steps, stages + 1, 1 + noises))
    own[:, :stages, 0], own[:, stages, 0] = tableau.stage_state, tableau.state
    own[:, :stages, 1:], own[:, stages, 1:] = tableau.stage_noise, tableau.noise
    past = np.empty((steps, stages + 1, memory, 2))
    past[:, :stages, :, 0], past[:, stages, :, 0] = tableau.stage_past_points, tableau.past_points
    past[:, :stages, :, 1], past[:, stages, :, 1] = tableau.stage_past_scores, tableau.past_scores
    made = tableau.made
    used = np.where(own[:, :, 1:] != 0.0, np.arange(1, noises + 1), 0)
    offsets, weights = (np.zeros(1, np.int64), np.zeros((1, 1, 1))) if coupling is None else coupling
    return Table(
        times=np.array(tableau.times),
        stage_times=np.array(tableau.stage_times),
        evaluated=np.array(tableau.evaluated),
        noises=noises,
        own=own.astype(dtype).reshape(-1),
        terms=used.max(axis=2, initial=0).reshape(-1),
        scores=np.concatenate([tableau.stage_scores, tableau.scores[:, None, :]], axis=1),
        past=past,
        made=made,
        number=made[:, None] + np.cumsum(tableau.evaluated, axis=1) - tableau.evaluated,
        direct=np.logical_not(tableau.stage_scores.any(axis=1) | (memory > 0)),
        coupled=coupling is not None,
        offsets=offsets,
        weights=weights,
    )


def make_scratch(law: Law, table: Table, dtype: Any) -> Scratch:
    """Return memory for one thread, with as many panels in a block as stay in cache."""
    components, dimension = law.means.shape
    stages, memory = table.past.shape[1] - 1, table.past.shape[2]
    width = rng.vector_width(np.dtype(dtype))
    c, d = whole_tiles(components), whole_tiles(dimension)
    kept = memory + stages  # evaluations: those that a step may use, and its own
    bytes_a_panel = (1 + (2 * kept if memory else 0)) * d * width * np.dtype(dtype).itemsize
    count = int(np.clip(_CACHE // bytes_a_panel, 1, _MOST_PANELS))
    places = count * kept if memory else kept
    groups = min(d // rng.GROUP, _MOST_GROUPS)

    def room(*shape: int) -> Real:
        return aligned(shape, dtype)

    diagonal, isotropic, turned = law.kind == DIAGONAL, law.kind in (ISOTROPIC, LOW_RANK), law.rank > 0
    directions = whole_tiles(law.rank)
    return Scratch(
        components=c,
        coordinates=d,
        means=room(stages, c, d) if diagonal or isotropic else room(),
        turned_means=room(stages, components, directions) if turned else room(),
        weights=room(stages, c, d) if diagonal else room(stages, components, directions) if turned else room(),
        back=room(stages, d, c) if diagonal or isotropic else room(),
        back_weights=room(stages, d, c) if diagonal else room(),
        factors=room(stages, c),
        shrinks=room(stages),
        slopes=room(stages, c),
        offsets=room(stages, c),
        shares=room(c, width),
        pull=room(d if diagonal else 1, width),
        directions=directions,
        whitened=room(components, directions, width) if turned else room(),
        turned=room(d),
        groups=groups,
        noise=room(max(table.noises, 1), groups, rng.GROUP, width),
        draw=room(rng.GROUP, width),
        panels=room(count + 2 * places, d, width),
        points=count * d * width,
        scores=(count + places) * d * width,
        spare=rng.make_spare(),
        uniforms=np.zeros(rng.LANES),
    )

"""What the path engine reads and writes: a mixture, and one thread's memory.

In the shapes below c, d are components and dimension (C, D rounded up to multiples of 4), K, R, P the tableau's steps,
stages and memory, N the most unknowns of a step (the state and the stage points that see noise), T the most times at
which a step looks at scores. All that a thread writes is one array; ``Scratch`` says where each part of it begins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines import gaussian, rng
from srkverify.engines.cpu_memory import DIAGONAL, FULL, ISOTROPIC, aligned, packed, whole_tiles
from srkverify.engines.paths_plan import Plan
from srkverify.engines.simd import flat, inlined
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture

LANES = rng.LANES
DIRECTIONS = 16  # at most, along which the posterior's spread is treated apart
ORIGINAL = np.int64(-1)  # the frame in which the mixture was given

_BLOCK_BYTES = 1 << 17  # of states in a block
_KEPT_BYTES = 1 << 25  # of whole paths in a block, where the tableau has memory

Integers = NDArray[np.int64]


class Mixture(NamedTuple):
    """A mixture of components with positive weights, and its shadow: what the sampler makes of each component alone.

    Attributes
    ----------
    kind : ISOTROPIC, DIAGONAL or FULL.
    steps, components, dimension, columns : K, c, d and the second axis of the variances.
    means : (c, d) at time 0, in the eigenbases if FULL.
    variances : (c, 1 or d) at time 0.
    log_weights : (c,)
    shadow_scales : (K, c, 1 or d) means of the shadow at the start of each step are these times ``means``.
    shadow_variances : (K, c, 1 or d)
    into, out_of : packed: the transposed eigenbases, which lead into a component's own coordinates, and the eigenbases.
    """

    kind: int
    steps: int
    components: int
    dimension: int
    columns: int
    means: Array
    variances: Array
    log_weights: Array
    shadow_scales: Array
    shadow_variances: Array
    into: Array
    out_of: Array


class Scratch(NamedTuple):
    """One thread's memory; a lane is one of the paths of a vector, a panel is (D, lanes).

    Attributes
    ----------
    memory : all of it.
    words, more_words : for the random numbers.
    picked : (DIRECTIONS,) the components that matter.
    rank : (c,) where among these a component is, or −1.
    frame : (1,) the component in whose eigenbasis the panel of the present step is, if FULL, or ORIGINAL.
    components, coordinates : C and D.
    rows : 1 if all coordinates share one curvature, else D.
    block : paths in a block are these many vectors.

    The others are where parts of the memory begin.

    paths : (block, D, lanes) states of a block's paths.
    means, weights, back, back_weights, factors, constants, averages : mixtures at the times of a step, one a slot: the
        T times at which scores are linearised, then the shadow. ``averages`` are the means of 1/variance, if FULL.
    shares : (2, C, lanes) posterior weights of up to two points.
    weighted : (C, lanes) these times 1/variance.
    pull : (rows, lanes) the posterior mean of 1/variance.
    bends : (T+1, rows, lanes) minus that, kept for each slot: slopes of scores.
    turned : (2, c, D, lanes) up to two points in the components' own coordinates, if FULL.
    lifted : (2, D, lanes) these, or scores, in the original frame, if FULL.
    own : (2, D, lanes) what one component contributes to scores, in its own coordinates, if FULL.
    spread : (DIRECTIONS, D, lanes) r_i^{1/2} (s_i − s) of the components that matter.
    axes : (DIRECTIONS, D, lanes) orthonormal directions.
    gram, rotation : (DIRECTIONS, DIRECTIONS, lanes)
    sizes : (DIRECTIONS, lanes) the posterior's variance of component scores along the axes.
    roots : (DIRECTIONS, lanes) inverse roots of them.
    onto : (T+3+M, DIRECTIONS, lanes) components along the axes: of data and noises.
    moved, bent : (N, DIRECTIONS, lanes) what is added to means and noises along the axes.
    slopes : (T+1, lanes) of scores, along one direction.
    solved, along : (rows, …, lanes), (2, …, lanes) what ``solve`` writes: of all coordinates; of one direction, without
        and with the spread of scores.
    system : what ``solve`` works with.
    gain, extra, drawn, density, ratio, sides : (1 or 2, lanes) of the panel's present step.
    work, other, total, ones : (lanes,)
    states : two candidates for the state.
    base : a base point.
    scores : (T+1, …) at base points.
    deviations, noises : (N, …) of the unknowns.
    points, stage_scores : (2, R, …) stage points of the two candidates, and scores there.
    rest : a residual.
    past : (2, 2, P, …) remembered points and scores of the two candidates, as expected.
    ring : (2, P+R, …) true ones.
    later : (N, …) what is known of the rows of the next step, in which this step's evaluations are remembered.
    known : (block, N, …) the same for all panels, in the original frame.
    kept : (block, K, N, …) noisy stage points and states of whole paths, if the tableau has memory.
    """

    memory: Array
    words: Integers
    more_words: Integers
    picked: Integers
    rank: Integers
    frame: Integers
    components: int
    coordinates: int
    rows: int
    block: int
    paths: int
    means: int
    weights: int
    back: int
    back_weights: int
    factors: int
    constants: int
    averages: int
    shares: int
    weighted: int
    pull: int
    bends: int
    turned: int
    lifted: int
    own: int
    spread: int
    axes: int
    gram: int
    rotation: int
    sizes: int
    roots: int
    onto: int
    moved: int
    bent: int
    slopes: int
    solved: int
    along: int
    system: int
    gain: int
    extra: int
    drawn: int
    density: int
    ratio: int
    sides: int
    work: int
    other: int
    total: int
    ones: int
    states: int
    base: int
    scores: int
    deviations: int
    noises: int
    points: int
    stage_scores: int
    rest: int
    past: int
    ring: int
    later: int
    known: int
    kept: int


@inlined
def view(scratch: Any, at: Any) -> Any:
    """Return the memory from ``at`` on."""
    return flat(scratch.memory + 8 * at)


def make_mixture(target: GaussianMixture, tableau: Tableau, start: str) -> Mixture:
    """Return the kernels' form of a mixture without a basis that all components share."""
    used = target.weights > 0.0
    means = target.means[used]
    components = len(means)
    variances = np.broadcast_to(target.variances, (len(target.weights), target.variances.shape[1]))[used]
    kind = {"isotropic": ISOTROPIC, "diagonal": DIAGONAL, "full": FULL}[target.kind]
    into, out_of = np.zeros(1), np.zeros(1)
    if target.bases is not None:
        bases = target.bases[used]
        means = np.einsum("cij,ci->cj", bases, means)
        into, out_of = packed(np.swapaxes(bases, 1, 2)), packed(bases)
    different, place = np.unique(variances, return_inverse=True)
    law = gaussian.history(tableau, different, start)
    times = tableau.times[:-1, None]
    grown = (np.exp(-2.0 * times) * different - np.expm1(-2.0 * times)) * (1.0 + law.variance)
    place = place.reshape(-1)
    return Mixture(
        kind,
        tableau.steps,
        components,
        means.shape[1],
        variances.shape[1],
        np.ascontiguousarray(means),
        np.ascontiguousarray(variances),
        np.log(target.weights[used]),
        np.ascontiguousarray((np.exp(-times) + law.mean)[:, place]).reshape(-1, components, variances.shape[1]),
        np.ascontiguousarray(grown[:, place]).reshape(-1, components, variances.shape[1]),
        into,
        out_of,
    )


def make_scratch(mixture: Mixture, plan: Plan) -> Scratch:
    """Return memory for one thread."""
    panel, memory = whole_tiles(mixture.dimension) * LANES, plan.memory
    block = int(np.clip(_BLOCK_BYTES // (8 * panel), 8, 64))
    if memory:
        block = int(np.clip(_KEPT_BYTES // (8 * panel * plan.steps * plan.most), 1, block))
    sizes = sizes_of_memory(mixture, plan, block)
    places = placed(sizes)
    whole: Any = aligned((sum(sizes.values()),), np.float64)
    whole[places["ones"] :][:LANES] = 1.0
    words, more_words = rng.make_spare()
    return Scratch(
        memory=whole,
        words=words,
        more_words=more_words,
        picked=np.zeros(DIRECTIONS, np.int64),
        rank=np.zeros(mixture.components, np.int64),
        frame=np.zeros(1, np.int64),
        **shape_of_memory(mixture, block),
        **places,
    )


def shape_of_memory(mixture: Mixture, block: int) -> dict[str, int]:
    """Return the numbers in ``Scratch``."""
    c, d = whole_tiles(mixture.components), whole_tiles(mixture.dimension)
    return {"components": c, "coordinates": d, "rows": 1 if mixture.kind == ISOTROPIC else d, "block": block}


def placed(sizes: dict[str, int]) -> dict[str, int]:
    """Return where parts of given sizes begin that lie one after another."""
    return dict(zip(sizes, map(int, [0, *np.cumsum(list(sizes.values()))[:-1]]), strict=True))


def sizes_of_memory(mixture: Mixture, plan: Plan, block: int) -> dict[str, int]:
    """Return the sizes of the parts of the memory, in whole vectors."""
    shape = shape_of_memory(mixture, block)
    components, c, d, rows = mixture.components, shape["components"], shape["coordinates"], shape["rows"]
    steps, stages, memory, most = plan.steps, plan.stages, plan.memory, plan.most
    slots, data = plan.width + 1, plan.data
    panel = d * LANES
    full = mixture.kind == FULL
    weighted = mixture.kind in (DIAGONAL, FULL)
    square = DIRECTIONS * DIRECTIONS * LANES
    rooms = {
        "paths": block * panel,
        "means": slots * c * d,
        "weights": slots * c * d * weighted,
        "back": slots * c * d * (not full),
        "back_weights": slots * c * d * (weighted and not full),
        "factors": slots * c,
        "constants": slots * c,
        "averages": slots * c,
        "shares": 2 * c * LANES,
        "weighted": c * LANES,
        "pull": rows * LANES,
        "bends": slots * rows * LANES,
        "turned": 2 * components * panel * full,
        "lifted": 2 * panel * full,
        "own": 2 * panel * full,
        "spread": DIRECTIONS * panel,
        "axes": DIRECTIONS * panel,
        "gram": square,
        "rotation": square,
        "sizes": DIRECTIONS * LANES,
        "roots": DIRECTIONS * LANES,
        "onto": (data + most) * DIRECTIONS * LANES,
        "moved": most * DIRECTIONS * LANES,
        "bent": most * DIRECTIONS * LANES,
        "slopes": slots * LANES,
        "solved": rows * most * (data + most) * LANES,
        "along": 2 * most * (data + most) * LANES,
        "system": (plan.rows + 2 * most) * (most + 1) * LANES,
        "gain": LANES,
        "extra": LANES,
        "drawn": LANES,
        "density": 2 * LANES,
        "ratio": 2 * LANES,
        "sides": LANES,
        "work": LANES,
        "other": LANES,
        "total": LANES,
        "ones": LANES,
        "states": 2 * panel,
        "base": panel,
        "scores": slots * panel,
        "deviations": most * panel,
        "noises": most * panel,
        "points": 2 * stages * panel,
        "stage_scores": 2 * stages * panel,
        "rest": panel,
        "past": 4 * memory * panel,
        "ring": 2 * (memory + stages) * panel,
        "later": most * panel * (memory > 0),
        "known": block * most * panel * (memory > 0),
        "kept": block * steps * most * panel * (memory > 0),
    }
    return {name: int(-(-size // LANES) * LANES) for name, size in rooms.items()}

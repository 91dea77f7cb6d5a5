"""Backward paths by importance: how likely a sampler is to produce a point, from paths that end there.

From x_K, a state at the last time, a path x_{K−1}, …, x_0 is drawn step by step from a proposal that comes as near as a
Gaussian can to p(x_{k+1} | x_k) p_k(x_k), the sampler's own law of the state before. With Q the proposal's density, the
mean of p_0(x_0) Π p(x_{k+1} | x_k) / Q over paths is the density of the sampler's output at x_K, whatever Q is. Stage
points that see noise are drawn with the state. What makes the ratio vary little (docs/theory.md):

- p_k is taken to be the *shadow*, the mixture that the sampler makes of each component alone (exact on a Gaussian);
- scores are linearised, which makes every direction along which component scores differ, and all the others together,
  a small linear Gaussian problem (``paths_directions``, ``paths_solve``, ``paths_proposal``);
- full covariances are seen from the eigenbasis of the likeliest component (``paths_frames``);
- of two points on opposite sides of the proposal's mean one is taken, by the ratio of their true densities: this
  removes the odd part of what linearisation leaves (``paths_steps``).

Evaluations that a step remembers have not been met yet on the way back. They are taken to be where the forward process
expects them, and what is proposed takes into account what the next step remembers of it. The true densities are found
at the end, by going through the whole path forwards (``paths_density``).

Vectors hold LANES paths; a block of them goes through all steps together. What is random is a function of the seed, the
path's index, the step, the stream (``paths_steps``) and the coordinate, by ``rng``. Directions and frame are those of a
whole vector: a path depends on those that share its vector, through their present states only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines import lanes, rng
from srkverify.engines.lanes import own_lanes
from srkverify.engines.paths_density import replay
from srkverify.engines.paths_memory import LANES, ORIGINAL, Mixture, Scratch, make_mixture, make_scratch
from srkverify.engines.paths_mixtures import prepare as prepare_step
from srkverify.engines.paths_plan import Plan, make_plan
from srkverify.engines.paths_steps import MOST_UNKNOWNS, step_back
from srkverify.engines.simd import addresses, flat, inlined, integers, jit
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture


@dataclass(frozen=True, eq=False)
class Memory:
    """What one thread writes to."""

    scratch: Scratch
    record: Any


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixture and a tableau as compiled code reads them."""

    mixture: Mixture
    plan: Plan
    records: tuple[Any, Any]

    def memory(self) -> Memory:
        """Return memory for one thread."""
        scratch = make_scratch(self.mixture, self.plan)
        return Memory(scratch, addresses(scratch))


def prepare(mixture: GaussianMixture, tableau: Tableau, start: str) -> Problem:
    """Return the problem of paths of ``tableau`` on ``mixture``, started ``"exact"`` or ``"normal"``.

    Raises
    ------
    ValueError
        If the output of some step has no noise of its own: its law given the state then has no density.
    """
    law, plan = make_mixture(mixture, tableau, start), make_plan(tableau)
    if plan.most > MOST_UNKNOWNS:
        raise ValueError(f"tableau must have fewer than {MOST_UNKNOWNS} stages with noise; got {plan.most - 1}")
    return Problem(law, plan, (addresses(law), addresses(plan)))


def run(
    problem: Problem,
    memory: Memory,
    starts: Array,
    inner: int,
    *,
    truth: bool,
    seed: int,
    particle: int,
    stop: NDArray[np.uint8],
) -> tuple[Array, Array, Array]:
    """Run ``inner`` paths backwards from each of ``starts`` (n, d); path i of them all is particle ``particle`` + i.

    Paths are drawn from the proposal or, if ``truth``, from the forward process. Writing to ``stop[0]`` from another
    thread ends the run early, with results that mean nothing.

    Returns
    -------
    gains : (n·inner,) Σ log p(x_{k+1}, stage points | x_k) − log Q; if ``truth``, Q still is the proposal's density.
    extras : (n·inner, 2) if ``truth``, Σ log(forward process/Q): its mean, step by step given the later state, and what
        it is at the states that were drawn; else 0.
    ends : (n·inner, d) the states at the horizon.
    """
    starts = np.ascontiguousarray(starts, np.float64)
    count = len(starts) * inner
    gains, extras, ends = np.zeros(count), np.zeros((count, 2)), np.zeros((count, starts.shape[1]))
    given = (np.bool_(truth), np.int64(rng.signed(seed)), np.int64(particle), np.int64(inner), starts)
    _run(*problem.records, *given, memory.record, gains, extras, ends, stop)
    return gains, extras, ends


@jit
def _load(starts: Any, first: Any, inner: Any, count: Any, scratch: Any, out: Any) -> None:
    """Write the starts of paths ``first``, … of ``count`` to a panel; beyond the last one it is repeated."""
    m = flat(scratch.memory)
    for lane in own_lanes():
        start = min(first + lane, count - 1) // inner
        for j in range(starts.shape[1]):
            m[out + j * LANES + lane] = starts[start, j]
    lanes.fill(m, out + starts.shape[1] * LANES, scratch.coordinates - starts.shape[1], 0.0)


@inlined
def _replay(law: Any, plan: Any, starts: Any, begin: Any, used: Any, inner: Any, scratch: Any, gains: Any) -> None:
    """Add the log densities of the steps of a block's paths, which depend on all before, to the gains."""
    m = flat(scratch.memory)
    size = scratch.coordinates * LANES
    integers(scratch.frame, (1,))[0] = ORIGINAL
    for panel in range(used):
        first = begin + panel * LANES
        _load(starts, first, inner, len(gains), scratch, scratch.paths + panel * size)
        for step in range(plan.steps):
            prepare_step(law, plan, step, scratch)
            replay(law, plan, step, scratch, panel, scratch.paths + panel * size)
            for lane in range(min(LANES, len(gains) - first)):
                gains[first + lane] += m[scratch.density + lane]


@jit
def _run(
    law: Any,
    plan: Any,
    truth: Any,
    seed: Any,
    particle: Any,
    inner: Any,
    starts: Any,
    scratch: Any,
    gains: Any,
    extras: Any,
    ends: Any,
    stop: Any,
) -> None:
    """Write what ``run`` returns to arrays of zeros, block by block."""
    m = flat(scratch.memory)
    count, size = len(gains), scratch.coordinates * LANES
    for begin in range(0, count, scratch.block * LANES):
        used = (min(scratch.block * LANES, count - begin) + LANES - 1) // LANES
        for panel in range(used):
            _load(starts, begin + panel * LANES, inner, count, scratch, scratch.paths + panel * size)
        for step in range(plan.steps - 1, -1, -1):
            if stop[0]:
                return
            prepare_step(law, plan, step, scratch)
            for panel in range(used):
                first = begin + panel * LANES
                step_back(law, plan, truth, seed, particle + first, step, scratch, panel)
                for lane in range(min(LANES, count - first)):
                    gains[first + lane] += m[scratch.gain + lane]
                    extras[first + lane, 0] += m[scratch.extra + lane]
                    extras[first + lane, 1] += m[scratch.drawn + lane]
        for panel in range(used):
            first = begin + panel * LANES
            for lane in range(min(LANES, count - first)):
                for j in range(ends.shape[1]):
                    ends[first + lane, j] = m[scratch.paths + panel * size + j * LANES + lane]
        if plan.memory > 0:
            _replay(law, plan, starts, begin, used, inner, scratch, gains)

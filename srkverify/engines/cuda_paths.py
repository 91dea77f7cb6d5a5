"""Backward paths on a GPU: what :mod:`srkverify.engines.paths` does, vector by vector, with a thread for each lane.

A vector of LANES paths is a group of threads of a warp. Groups share the mixtures that a step looks at, which a kernel
of its own writes before the step; all else that a group writes is its own, in global memory, with the CPU's layout. A
step is one launch for all paths that are under way, so that no launch takes long. Groups take several vectors one after
another if the paths are more than the device works on at a time, and paths wait if they do not fit its memory.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import cuda as _cuda
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines import paths, rng
from srkverify.engines.cuda_paths_bound import FUNCTIONS
from srkverify.engines.cuda_paths_lanes import (
    SIMULATED,
    THREADS,
    address_of,
    flat,
    integers,
    opened,
    own_lane,
    together,
)
from srkverify.engines.paths_memory import DIRECTIONS, LANES, ORIGINAL, placed, shape_of_memory, sizes_of_memory
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture

cuda: Any = _cuda  # whose types are not what they are said to be

_GROUPS = THREADS // LANES  # of a block
_BLOCKS = 4  # that a multiprocessor works on at a time
_LEAST_BLOCKS = 1 if SIMULATED else 128  # of a launch: at fewer numba warns, and those that find nothing to do end
_SHARE = 0.8  # of free memory that may be used
_SHARED = ("means", "weights", "back", "back_weights", "factors", "constants", "averages")

# Threads wait for memory, and the more there are the less it matters: fewer registers than the compiler would take.
_REGISTERS = 65536 // (THREADS * _BLOCKS)
_kernel: Any = cuda.jit if SIMULATED else cuda.jit(max_registers=_REGISTERS)

_load = FUNCTIONS["paths._load"]
_prepare_step = FUNCTIONS["paths_mixtures.prepare"]
_step_back = FUNCTIONS["paths_steps.step_back"]
_density = FUNCTIONS["paths_density.replay"]


@_kernel
def clear(memory: Any) -> None:
    """Write zeros to all memory."""
    for i in range(cuda.grid(1), len(memory), cuda.gridsize(1)):
        memory[i] = 0.0


@_kernel
def load(records: Any, starts: Any, inner: Any, begin: Any, count: Any) -> None:
    """Write the starts of paths from ``begin`` on, of ``count``, to the groups' panels."""
    group, groups = cuda.grid(1) // LANES, len(records)
    if group >= groups:
        return
    scratch = opened(records, group)
    flat(scratch.memory)[scratch.ones + own_lane()] = 1.0
    for panel in range(scratch.block):
        first = begin + (panel * groups + group) * LANES
        if first < count:
            at = scratch.paths + panel * scratch.coordinates * LANES
            _load(starts, first, inner, count, scratch, at)


@_kernel
def look_ahead(laws: Any, plans: Any, step: Any, records: Any) -> None:
    """Write the mixtures that a step looks at, for all groups."""
    _prepare_step(opened(laws, 0), opened(plans, 0), step, opened(records, 0))


@_kernel
def back(
    laws: Any,
    plans: Any,
    truth: Any,
    seed: Any,
    particle: Any,
    begin: Any,
    step: Any,
    records: Any,
    gains: Any,
    extras: Any,
) -> None:
    """Go back one step on paths from ``begin`` on; path i of all is particle ``particle`` + i."""
    group, groups, lane = cuda.grid(1) // LANES, len(records), own_lane()
    if group >= groups:
        return
    law, plan, scratch = opened(laws, 0), opened(plans, 0), opened(records, group)
    m, count = flat(scratch.memory), len(gains)
    for panel in range(scratch.block):
        first = begin + (panel * groups + group) * LANES
        if first < count:
            _step_back(law, plan, truth, seed, particle + first, step, scratch, panel)
            if first + lane < count:
                gains[first + lane] += m[scratch.gain + lane]
                extras[first + lane, 0] += m[scratch.extra + lane]
                extras[first + lane, 1] += m[scratch.drawn + lane]


@_kernel
def store(records: Any, begin: Any, ends: Any) -> None:
    """Write the states at the horizon."""
    group, groups, lane = cuda.grid(1) // LANES, len(records), own_lane()
    if group >= groups:
        return
    scratch = opened(records, group)
    m = flat(scratch.memory)
    for panel in range(scratch.block):
        path = begin + (panel * groups + group) * LANES + lane
        if path < ends.shape[0]:
            at = scratch.paths + panel * scratch.coordinates * LANES + lane
            for j in range(ends.shape[1]):
                ends[path, j] = m[at + j * LANES]


@_kernel
def replay(laws: Any, plans: Any, begin: Any, step: Any, records: Any, gains: Any) -> None:
    """Add the log densities of a step, of paths of a tableau with memory: a group has one vector."""
    group, lane = cuda.grid(1) // LANES, own_lane()
    if group >= len(records):
        return
    law, plan, scratch = opened(laws, 0), opened(plans, 0), opened(records, group)
    m, first = flat(scratch.memory), begin + group * LANES
    if first < len(gains):
        integers(scratch.frame, (1,))[0] = ORIGINAL
        together()
        _density(law, plan, step, scratch, 0, scratch.paths)
        if first + lane < len(gains):
            gains[first + lane] += m[scratch.density + lane]


@dataclass(frozen=True, eq=False)
class Memory:
    """What the groups write to, on the device."""

    arrays: tuple[Any, ...]
    records: Any
    groups: int
    block: int
    vectors: int  # that it was made for, in several rounds if they are more than groups times block


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixture and a tableau on the device; ``kept`` is the memory that was used last."""

    host: paths.Problem
    arrays: tuple[Any, ...]
    laws: Any
    plans: Any
    kept: list[Memory] = field(default_factory=list)

    def memory(self) -> None:
        """Return what a thread of the host writes to: nothing."""


_problems: weakref.WeakSet[Problem] = weakref.WeakSet()  # of which one at a time has memory


def prepare(mixture: GaussianMixture, tableau: Tableau, start: str) -> Problem:
    """Do what ``paths.prepare`` does."""
    host = paths.prepare(mixture, tableau, start)
    (law, laws), (plan, plans) = _uploaded(host.mixture), _uploaded(host.plan)
    problem = Problem(host, (law, plan), laws, plans)
    _problems.add(problem)
    return problem


def _uploaded(arrays: Any) -> tuple[Any, Any]:
    """Return a named tuple of arrays and integers on the device: all arrays in one, and a record of addresses."""
    parts = {name: value for name, value in arrays._asdict().items() if isinstance(value, np.ndarray)}
    whole = cuda.to_device(
        np.concatenate([np.ascontiguousarray(part).ravel().view(np.float64) for part in parts.values()])
    )
    first = address_of(whole)
    places = {name: first + 8 * at for name, at in placed({name: part.size for name, part in parts.items()}).items()}
    return whole, _records(1, {**arrays._asdict(), **places})


def _records(count: int, values: dict[str, Any]) -> Any:
    """Return records of numbers, which are one for all of them or an array."""
    table = np.zeros(count, np.dtype([(name, np.int64) for name in values], align=True))  # else read byte by byte
    for name, value in values.items():
        table[name] = value
    return cuda.to_device(table)


def _memory(problem: Problem, vectors: int, groups: int | None) -> Memory:
    """Return memory for at least one vector, at best for all of so many."""
    if problem.kept and problem.kept[0].vectors >= vectors:
        return problem.kept[0]
    for other in _problems:
        other.kept.clear()  # frees what it held
    law, plan = problem.host.mixture, problem.host.plan
    sizes = sizes_of_memory(law, plan, 1)
    shared = {name: sizes.pop(name) for name in _SHARED}
    base, panel, own, integers_of = sum(shared.values()), sizes["paths"], sum(sizes.values()), _integers(law.components)
    free = _free_bytes() // 8 - base
    if free < own:
        raise MemoryError(
            f"a vector of paths needs {(own + base) / 2**17:.1f} MiB on the device; "
            f"got {_free_bytes() / 2**20:.1f} MiB that may be used"
        )
    groups = int(min(vectors, free // own, groups or (vectors if plan.memory else _most_groups())))
    block = 1 if plan.memory else min(-(-vectors // groups), 1 + (free - groups * own) // (groups * panel))
    sizes["paths"] = block * panel
    own = sum(sizes.values())
    whole = cuda.device_array(base + groups * own, np.float64)
    numbers = cuda.to_device(np.zeros((groups, sum(integers_of.values())), np.int64))
    group = np.arange(groups)
    records = _records(
        groups,
        {"memory": address_of(whole), "words": 0, "more_words": 0}
        | shape_of_memory(law, block)
        | placed(shared)
        | {name: base + group * own + at for name, at in placed(sizes).items()}
        | {name: address_of(numbers) + 8 * (group * numbers.shape[1] + at) for name, at in placed(integers_of).items()},
    )
    clear[_grid(groups), THREADS](whole)
    problem.kept.append(Memory((whole, numbers), records, groups, block, vectors))
    return problem.kept[0]


def _integers(components: int) -> dict[str, int]:
    """Return the sizes of a group's integers."""
    return {"picked": DIRECTIONS, "rank": components, "frame": 1}


def _free_bytes() -> int:
    if SIMULATED:
        return 1 << 26
    context = cuda.current_context()
    context.deallocations.clear()  # what is no longer used, but not freed yet
    return int(_SHARE * context.get_memory_info().free)


def _most_groups() -> int:
    if SIMULATED:
        return 1 << 10
    return cuda.get_current_device().MULTIPROCESSOR_COUNT * _BLOCKS * _GROUPS


def run(
    problem: Problem,
    memory: None,
    starts: Array,
    inner: int,
    *,
    truth: bool,
    seed: int,
    particle: int,
    stop: NDArray[np.uint8],
    groups: int | None = None,
) -> tuple[Array, Array, Array]:
    """Do what ``paths.run`` does; ``groups`` is the most that work at a time, by default what fills the device."""
    starts = np.ascontiguousarray(starts, np.float64)
    count = len(starts) * inner
    gains, extras, ends = np.zeros(count), np.zeros((count, 2)), np.zeros((count, starts.shape[1]))
    kept = _memory(problem, -(-count // LANES), groups)
    grid, steps = _grid(kept.groups), problem.host.plan.steps
    on_device = [cuda.to_device(array) for array in (starts, gains, extras, ends)]
    told = (np.bool_(truth), np.int64(rng.signed(seed)), np.int64(particle))
    both = (problem.laws, problem.plans)
    for begin in range(0, count, kept.groups * kept.block * LANES):
        load[grid, THREADS](kept.records, on_device[0], inner, begin, count)
        for step in range(steps - 1, -1, -1):
            if stop[0]:
                return gains, extras, ends
            look_ahead[_LEAST_BLOCKS, THREADS](*both, step, kept.records)
            back[grid, THREADS](*both, *told, begin, step, kept.records, *on_device[1:3])
            cuda.synchronize()
        store[grid, THREADS](kept.records, begin, on_device[3])
        if problem.host.plan.memory:
            load[grid, THREADS](kept.records, on_device[0], inner, begin, count)
            for step in range(steps):
                look_ahead[_LEAST_BLOCKS, THREADS](*both, step, kept.records)
                replay[grid, THREADS](*both, begin, step, kept.records, on_device[1])
    for array, result in zip(on_device[1:], (gains, extras, ends), strict=True):
        array.copy_to_host(result)
    return gains, extras, ends


def _grid(groups: int) -> int:
    return max(_LEAST_BLOCKS, -(-groups * LANES // THREADS))

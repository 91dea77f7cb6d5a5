"""Particles on a GPU: what :mod:`srkverify.engines.cpu` does, with the same random numbers and results to rounding.

Design, against the roofs of an H100: 34 TFLOP/s of float64, 67 of float32 (outside its tensor cores), 3.3 TB/s.

- A step of one stage takes, for each coordinate, a normal for each noise (21 float64 and 30 other instructions), two
  multiply-adds for each component, and a share of the exponentials: some 85 float64 instructions with 8 components in
  d = 16, 6 ps of the device. To read and write the coordinate would be 16 bytes, 5 ps. So particles stay in registers
  for all steps of a launch: **nothing is read but tables, and nothing written, between steps** unless the path is asked
  for, and the roof that bounds is that of the arithmetic.
- A particle has P = 1, 2, 4, …, 32 neighbouring threads with up to 8 coordinates each (more if d > 256): its rows
  (point, state, score), the means in use and what a draw needs are below 150 registers in float64, for 12 warps and
  more on a multiprocessor. What draws random numbers is there once, in a loop, and hands them over in memory that no
  other thread reads: written out it would fill the registers and the instruction cache.
- Means go to shared memory, in tiles of components with their logits' coefficients, and from there by 16 bytes at a
  time to registers, T components together, where they are used twice, in the logit and in the score. Weights are summed
  as they come, relative to the highest logit so far (online log-sum-exp), so that nothing of the number of components
  lives in a thread: 4096 components are many tiles.
- The P sums of a logit are added up by shuffles that leave each thread with other components (P − 1 shuffles for P
  sums, not P log P), so that an exponential is computed by few threads; weights come back by one shuffle each.
- One launch takes as many steps as their tables of logits fit 64 MiB. Particles go in chunks that fit the device and
  are whole waves of blocks; two streams take turns, so that one chunk's samples are copied while the next one runs.
- Block sizes are what gives the most warps on a multiprocessor, by the driver's own count.
- Covariances with bases of their own cost two matrix products for each component, with the point in shared memory and
  the matrices from the second-level cache: right, and slow.

Nothing here has been timed on a GPU; ``benchmarks/particles.py --backend cuda`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from srkverify._check import Array
from srkverify.engines import rng
from srkverify.engines.cpu_memory import Law, Table
from srkverify.engines.cuda_device import SIMULATED
from srkverify.engines.cuda_sampling_problem import Problem, kernel_of, prepare, turn_kernel
from srkverify.targets import GaussianMixture

_SHARE = 0.8  # of free memory that may be used
_CHUNK_BYTES = 1 << 26  # of samples that one stream has at a time
_WAVES = 4  # of blocks in a chunk at least, if there are particles enough


@dataclass(frozen=True, eq=False)
class Engine:
    """The parts of a target on the device: (problem, first column, first group, matrix or None), and a last matrix."""

    parts: list[tuple[Problem, int, int, Any]]
    rotation: Any
    dimension: int
    dtype: np.dtype[Any]

    def run(
        self,
        first: int,
        particles: int,
        seed: int,
        exact: bool,
        every: bool,
        steps: int,
        done: Callable[[int], None],
    ) -> tuple[Array, bool]:
        """Return the samples of ``particles`` particles from ``first`` on, (kept, n, d), and whether all are finite."""
        kept = steps + 1 if every else 1
        result = np.empty((kept, particles, self.dimension), self.dtype)
        size = self._chunk(particles, kept)
        slots = [Slot(self, size, kept) for _ in range(1 if size >= particles else 2)]
        finite = True
        for number, begin in enumerate(range(0, particles, size)):
            slot = slots[number % len(slots)]
            finite &= slot.finish(result, done)
            slot.launch(self, first, begin, min(size, particles - begin), rng.signed(seed), exact, every, steps)
        for slot in sorted(slots, key=lambda slot: slot.begin):
            finite &= slot.finish(result, done)
        _pinned[:] = [slot.whole for slot in slots]
        return result, finite

    def _chunk(self, particles: int, kept: int) -> int:
        """Return how many particles a stream takes at a time."""
        bytes_each = self.bytes_of_a_particle(kept)
        free = free_bytes()
        if free < 2 * bytes_each:
            raise MemoryError(
                f"backend 'cuda' needs {2 * bytes_each / 2**20:.1f} MiB on the device for two particles; "
                f"got {max(free, 0) / 2**20:.1f} MiB that may be used: ask for fewer steps of the path, or free memory"
            )
        most = min(free // (2 * bytes_each), max(1, _CHUNK_BYTES // bytes_each))
        wave = max(problem.wave for problem, *_ in self.parts)
        if most > wave:
            most = most // wave * wave
        return int(min(particles, most, max(_WAVES * wave, -(-particles // (8 * wave)) * wave)))

    def bytes_of_a_particle(self, kept: int) -> int:
        """Return the bytes of a particle on the device."""
        turned = self.rotation is not None or any(matrix is not None for *_, matrix in self.parts)
        states = max((1 + 2 * problem.shape.memory) * problem.shape.padded for problem, *_ in self.parts)
        return int((kept * self.dimension * (2 if turned else 1) + states) * self.dtype.itemsize)


def free_bytes() -> int:
    """Return how much of the device's memory may be used."""
    if SIMULATED:
        return 1 << 26
    return int(_SHARE * cuda.current_context().get_memory_info().free)


_pinned: list[Any] = []  # memory of the host that copies go through, for the next call: it takes long to get


def _taken(size: int) -> Any:
    """Return pinned memory of at least so many bytes."""
    while _pinned:
        memory = _pinned.pop()
        if len(memory) >= size:
            return memory
    return cuda.pinned_array(size, np.uint8)


class Slot:
    """One stream with its memory: a chunk of particles that is under way."""

    def __init__(self, engine: Engine, size: int, kept: int) -> None:
        states = max((1 + 2 * problem.shape.memory) * problem.shape.padded for problem, *_ in engine.parts)
        self.kept, self.size, self.dtype = kept, size, engine.dtype
        self.stream = cuda.stream()
        self.states = cuda.device_array(size * states, engine.dtype)
        self.out = cuda.device_array(kept * size * engine.dimension, engine.dtype)
        turned = engine.rotation is not None or any(matrix is not None for *_, matrix in engine.parts)
        self.spare = cuda.device_array(kept * size * engine.dimension, engine.dtype) if turned else None
        self.whole = _taken(kept * size * engine.dimension * engine.dtype.itemsize)
        self.host = self.whole[: kept * size * engine.dimension * engine.dtype.itemsize].view(engine.dtype)
        self.lost = cuda.to_device(np.zeros(1, np.int32))
        self.begin, self.count = -1, 0

    def compute(self, engine: Engine, first: int, count: int, seed: int, exact: bool, every: bool, steps: int) -> None:
        """Start to compute ``count`` particles from ``first`` on; nothing waits for it."""
        self.count = count
        for problem, column, group, matrix in engine.parts:
            self._run(problem, first, group, column, engine.dimension, seed, exact, every, steps)
            if matrix is not None:
                self._turn(matrix, problem.law.means.shape[1], column, engine.dimension)
        if engine.rotation is not None:
            self._turn(engine.rotation, engine.dimension, 0, engine.dimension)

    def launch(
        self, engine: Engine, first: int, begin: int, count: int, seed: int, exact: bool, every: bool, steps: int
    ) -> None:
        """Start a chunk, whose samples then are copied to the host."""
        self.begin = begin
        self.compute(engine, first + begin, count, seed, exact, every, steps)
        total = self.kept * count * engine.dimension
        self.out[:total].copy_to_host(self.host[:total], stream=self.stream)

    def _run(
        self,
        problem: Problem,
        particle: int,
        group: int,
        column: int,
        dimension: int,
        seed: int,
        exact: bool,
        every: bool,
        steps: int,
    ) -> None:
        shape, arrays = problem.shape, problem.arrays
        each = problem.block // shape.threads
        launch = (-(-self.count // each), problem.block, self.stream, shape.shared(problem.block, problem.tile))
        named = ("means", "variances", "bases", "turned_bases", "levels", "start")
        row = len(arrays["table"]) // steps
        for begin in range(0, steps, problem.steps):
            end = min(begin + problem.steps, steps)
            logits = problem.logits(begin, end)
            kernel_of(shape)[launch](
                *(arrays[name] for name in named),
                arrays["table"][begin * row : end * row],
                logits,
                arrays["offsets"],
                arrays["weights"],
                np.int64(len(arrays["levels"])),
                np.int64(problem.tile),
                np.int64(problem.law.means.shape[1]),
                np.int64(seed),
                np.int64(particle),
                np.int64(group),
                np.int64(self.count),
                np.int64(begin),
                np.int64(begin),
                np.int64(end),
                np.bool_(every),
                np.bool_(exact),
                self.states,
                self.out,
                np.int64(dimension),
                np.int64(column),
                self.lost,
            )
            if problem.steps < steps:  # the next launch has other tables
                self.stream.synchronize()

    def _turn(self, matrix: Any, dimension: int, column: int, stride: int) -> None:
        rows = self.kept * self.count
        grid = (-(-rows // 16), -(-dimension // 16))
        turn = turn_kernel(self.dtype.name)[grid, 256, self.stream]
        whole = (np.int64(dimension), np.int64(rows), np.int64(stride), np.int64(column))
        turn(matrix, self.out, *whole, np.bool_(True), self.spare)
        turn(matrix, self.spare, *whole, np.bool_(False), self.out)

    def finish(self, result: Array, done: Callable[[int], None]) -> bool:
        """Wait for the chunk under way, if any, and put its samples where they belong; whether all are finite."""
        if self.count == 0:
            return True
        self.stream.synchronize()
        shape = (self.kept, self.count, result.shape[2])
        result[:, self.begin : self.begin + self.count] = self.host[: int(np.prod(shape))].reshape(shape)
        done(self.count)
        self.count = 0
        return int(self.lost.copy_to_host()[0]) == 0


def make_engine(
    parts: list[tuple[GaussianMixture, int, int, Array | None]],
    laws: dict[int, Law],
    table: Table,
    rotation: Array | None,
    dimension: int,
    dtype: np.dtype[Any],
) -> Engine:
    """Put a target's parts on the device: (mixture, first column, first group, basis or None); laws by ``id``."""
    made: dict[int, Problem] = {}

    def uploaded(matrix: Array | None) -> Any:
        return None if matrix is None else cuda.to_device(np.ascontiguousarray(matrix, dtype).reshape(-1))

    listed = []
    for mixture, column, group, basis in parts:
        key = id(mixture)
        if key not in made:
            made[key] = prepare(mixture, laws[key], table, dtype)
        listed.append((made[key], column, group, uploaded(basis)))
    return Engine(listed, uploaded(rotation), dimension, dtype)

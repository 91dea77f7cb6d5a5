"""Sample a sampler: ``sample`` and, for more particles than memory holds, ``sample_blocks``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from tqdm import tqdm

from srkverify import _check, _tasks, brownian
from srkverify._check import Array
from srkverify._problem import check_problem
from srkverify.engines import callable as callables
from srkverify.engines import cpu, cpu_memory, cuda, rng
from srkverify.score import Score
from srkverify.tableau import Row, Tableau, assemble
from srkverify.targets import GaussianMixture, Product, Target

BACKENDS = ("cpu", "cuda")
DTYPES = ("float64", "float32")

_TASK_SECONDS = 0.1  # of work that a thread takes at a time
_TASKS_A_THREAD = 8  # at least, if there are particles enough
_TASK_BYTES = 1 << 23  # of samples in a task

Samples = NDArray[np.floating[Any]]


def sample(
    target: Target | Score,
    tableau: Tableau,
    particles: int,
    seed: int = 0,
    *,
    backend: str = "cpu",
    dtype: DTypeLike = np.float64,
    start: str | None = None,
    return_path: bool = False,
    path_times: ArrayLike | None = None,
    first_particle: int = 0,
    threads: int | None = None,
    progress: bool = True,
) -> Samples:
    """Run a sampler on independent particles.

    Particle i is a function of (target, tableau, seed, i, dtype, start, path_times): it does not change with the
    number of threads, nor with how particles are split over calls. Schemes whose noise is w = √(e^{2h} − 1) ξ_0 see the
    same ξ_0 with the same seed. Random numbers are those of ``srkverify.engines.rng`` (Philox-4x32-10), read in the
    target's own coordinates: the common eigenbasis of the covariances if all components share a full one, the blocks'
    coordinates for a product. A function that returns a mixture's scores has that mixture's particles, to rounding, in
    the coordinates that it is given.

    Parameters
    ----------
    target : GaussianMixture, Product or Score
        In any dimension d up to 2²⁴. Of a Score, in NumPy: ``threads`` are what its function uses, ``dtype`` is that of
        the result.
    tableau : Tableau
        The sampler on its grid of K steps.
    particles : int
        n ≥ 1.
    seed : int
        In [0, 2⁶⁴).
    backend : str
        ``"cpu"`` or ``"cuda"``, an NVIDIA GPU (needs the extra ``cuda``), whose random words are the same and whose
        samples are the same to rounding (10⁻¹⁰, float32: 10⁻⁴, unless the sampler amplifies what is rounded).
    dtype : float64 or float32
        In which particles are computed and returned.
    start : str, optional
        Law at the horizon T: ``"exact"`` (q_T; of a Score, that of its ``law``) or ``"normal"`` (N(0, I)). By default
        "exact", but "normal" for a Score.
    return_path : bool
        Whether to return the states at all times instead of those at the last.
    path_times : (S+1,) decreasing forward times, optional
        A finer grid that contains the tableau's: noises are then functionals of one Brownian path, which is drawn on
        this grid. Runs with the same seed and ``path_times`` share the path, whatever their grids and schemes are, so
        that strong errors can be measured.
    first_particle : int
        Index of the first particle, ≥ 0: what one call does for n particles, several can do for their parts.
    threads : int, optional
        Number of threads on the CPU; by default, of processors that this process may use.
    progress : bool
        Whether to show a progress bar on a terminal after two seconds.

    Returns
    -------
    (n, d) array, or (K+1, n, d) with ``return_path``, of ``dtype``.

    Raises
    ------
    ValueError
        If an argument is not of its kind or unknown, ``path_times`` does not contain the tableau's times, the scheme
        does not state how its noises depend on the Brownian path (with ``path_times``), or samples are not finite: the
        message then names the step and the likely cause. With backend "cuda", if a mixture's dimension is above 2048.
        Of a Score, if its function returns what no score is, or ``backend`` or ``threads`` are given.
    RuntimeError
        With backend "cuda", if there is no numba-cuda, driver or GPU: the message says what is missing.
    MemoryError
        With backend "cuda", if the device has too little memory for two particles.

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.5, 0.0]], 0.25)
    >>> times = sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=64)
    >>> sv.sample(target, sv.schemes.srk(times), particles=10_000, seed=0).shape
    (10000, 2)
    """
    job = _job(
        target, tableau, particles, seed, backend, dtype, start, return_path, path_times, first_particle, threads
    )
    with _bar(job, progress) as bar:
        return job.run(0, job.particles, bar)


def sample_blocks(
    target: Target | Score,
    tableau: Tableau,
    particles: int,
    seed: int = 0,
    *,
    block: int = 65536,
    backend: str = "cpu",
    dtype: DTypeLike = np.float64,
    start: str | None = None,
    return_path: bool = False,
    path_times: ArrayLike | None = None,
    first_particle: int = 0,
    threads: int | None = None,
    progress: bool = True,
) -> Iterator[Samples]:
    """Yield what :func:`sample` returns in blocks of at most ``block`` particles, for more than memory holds.

    Parameters, errors and random numbers as in :func:`sample`; arguments are checked at the call.

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.GaussianMixture([1.0], [[1.0]], 0.25)
    >>> tableau = sv.schemes.srk(sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=16))
    >>> [len(samples) for samples in sv.sample_blocks(target, tableau, particles=100_000)]
    [65536, 34464]
    """
    job = _job(
        target, tableau, particles, seed, backend, dtype, start, return_path, path_times, first_particle, threads
    )
    size = _check.integer("block", block, at_least=1)

    def blocks() -> Iterator[Samples]:
        with _bar(job, progress) as bar:
            for done in range(0, job.particles, size):
                yield job.run(done, min(size, job.particles - done), bar)

    return blocks()


@dataclass(frozen=True)
class _Part:
    """An independent part of the target: coordinates ``columns``, with its own eigenbasis or None."""

    mixture: GaussianMixture
    columns: slice
    first_group: int
    basis: Array | None


@dataclass(frozen=True)
class _Job:
    """Everything about a run, as given and as the engine reads it; mixtures go by their ``id``."""

    target: Target
    tableau: Tableau
    first: int
    particles: int
    seed: int
    dtype: np.dtype[Any]
    exact: bool
    every: bool
    threads: int
    parts: list[_Part]
    table: cpu_memory.Table
    laws: dict[int, cpu_memory.Law]
    bases: dict[int, Samples]
    rotation: Samples | None
    device: Any

    def run(self, done: int, particles: int, bar: tqdm[Any]) -> Samples:
        """Return samples of ``particles`` particles after the first ``done``."""
        if self.device is None:
            return self._run_on_cpu(done, particles, bar)
        how = (self.seed, self.exact, self.every, self.tableau.steps)
        result, finite = self.device.run(self.first + done, particles, *how, bar.update)
        if not finite and not np.isfinite(result).all():
            lost = int(np.argmin(np.isfinite(result).all(axis=(0, 2))))
            path, _ = self.device.run(self.first + done + lost, 1, *how[:2], True, how[3], lambda count: None)
            raise ValueError(self._not_finite(int(np.argmin(np.isfinite(path).all(axis=(1, 2))))))
        return result if self.every else result[0]

    def _run_on_cpu(self, done: int, particles: int, bar: tqdm[Any]) -> Samples:
        """Do so task by task on all threads."""
        first, seed = self.first + done, rng.signed(self.seed)
        kept = self.tableau.steps + 1 if self.every else 1
        result = np.empty((kept, particles, self.target.dimension), self.dtype)
        in_place = len(self.parts) == 1 and not self.every  # else a task's part of the result is no array in C order
        stop = np.zeros(1, np.uint8)

        def task(begin: int, scratches: dict[int, cpu_memory.Scratch]) -> int:
            end = min(begin + size, particles)
            for part in self.parts:
                key, shape = id(part.mixture), (kept, end - begin, part.mixture.dimension)
                rows = result[:, begin:end] if in_place else np.empty(shape, self.dtype)
                given = (self.laws[key], self.table, self.exact, seed)
                where = (part.first_group, scratches[key])
                if not cpu.run(*given, first + begin, *where, rows, self.every, stop):
                    lost = first + begin + int(np.argmin(np.isfinite(rows).all(axis=(0, 2))))
                    path = np.empty((self.tableau.steps + 1, 1, part.mixture.dimension), self.dtype)
                    cpu.run(*given, lost, *where, path, True, np.zeros_like(stop))
                    raise ValueError(self._not_finite(int(np.argmin(np.isfinite(path).all(axis=(1, 2))))))
                if key in self.bases:
                    for states in rows:
                        cpu.turn(states, self.bases[key])
                if not in_place:
                    result[:, begin:end, part.columns] = rows
            if self.rotation is not None:
                for states in result[:, begin:end]:
                    cpu.turn(states, self.rotation)
            return end - begin

        def scratches() -> dict[int, cpu_memory.Scratch]:
            return {key: cpu_memory.make_scratch(law, self.table, self.dtype) for key, law in self.laws.items()}

        size = self._task_size(particles, kept)
        _tasks.run(range(0, particles, size), scratches, task, self.threads, stop, bar)
        return result if self.every else result[0]

    def _task_size(self, particles: int, kept: int) -> int:
        """Return the number of particles that a thread takes at a time."""
        laws = [self.laws[id(part.mixture)] for part in self.parts]
        products = sum(law.means.size * (1 + law.rank) for law in laws)
        # nanoseconds of a particle, roughly: normals and what else a coordinate costs, and two products with matrices
        spent = self.tableau.steps * (10 * self.target.dimension + products / 4)
        bytes_each = kept * self.target.dimension * self.dtype.itemsize
        most = min(1e9 * _TASK_SECONDS / spent, _TASK_BYTES / bytes_each)
        even = particles / (_TASKS_A_THREAD * self.threads)  # or threads would wait for the last one
        return max(1, int(np.ceil(min(most, even) / 64))) * 64

    def _not_finite(self, step: int) -> str:
        """Return the message for samples that are not finite after ``step`` steps."""
        tableau, least = self.tableau, min(float(part.mixture.variances.min()) for part in self.parts)
        variance = cpu_memory.diffused(np.array(least), tableau.stage_times)
        # What a step makes of a deviation in the narrowest direction, were it to use its scores at the state.
        growth = np.abs(tableau.state - (tableau.scores / variance).sum(axis=1))[:step]
        worst = int(growth.argmax())
        cause = f"numbers may exceed what {self.dtype.name} holds"
        if growth[worst] > 1.5:
            cause = (
                f"step {worst + 1}, of length {tableau.times[worst] - tableau.times[worst + 1]:.3g}, "
                f"multiplies deviations in the narrowest direction (variance {variance[worst].min():.3g}) "
                f"by about {growth[worst]:.3g}; use more steps there"
            )
        return (
            f"tableau must keep samples finite; got infinity or NaN after step {step} of {tableau.steps} of "
            f"{tableau.name} (forward time {tableau.times[step]:.3g}): {cause}"
        )


def _job(
    target: Target | Score,
    tableau: Tableau,
    particles: int,
    seed: int,
    backend: str,
    dtype: DTypeLike,
    start: str | None,
    return_path: bool,
    path_times: ArrayLike | None,
    first_particle: int,
    threads: int | None,
) -> _Job | callables.Job:
    if start is None:
        start = "normal" if isinstance(target, Score) else "exact"
    check_problem(target, tableau, start, scores=True)
    if tableau.noise.shape[1] > rng.MOST_NOISES or tableau.steps >= rng.MOST_STEPS:
        raise ValueError(
            f"tableau must have at most {rng.MOST_NOISES} noises and fewer than {rng.MOST_STEPS} steps; "
            f"got {tableau.noise.shape[1]} and {tableau.steps}"
        )
    if target.dimension > rng.MOST_GROUPS:  # a coordinate of a product can have a group of its own
        raise ValueError(f"target must have dimension <= {rng.MOST_GROUPS}; got {target.dimension}")
    _check.choice("backend", backend, BACKENDS)
    particles = _check.integer("particles", particles, at_least=1)
    real = _dtype(dtype)
    coupling = None if path_times is None else brownian.noise_weights(tableau, path_times)
    settings: dict[str, Any] = {
        "first": _check.integer("first_particle", first_particle, at_least=0, below=rng.MOST_PARTICLES - particles),
        "seed": _check.integer("seed", seed, at_least=0, below=2**64),
        "threads": _tasks.processors() if threads is None else _check.integer("threads", threads, at_least=1),
    }
    if isinstance(target, Score):
        for name, value, left_out in (("backend", backend, "cpu"), ("threads", threads, None)):
            if value != left_out:
                raise ValueError(f"{name} must be left out for a Score, whose function runs as it is; got {value!r}")
        first, seed = settings["first"], settings["seed"]
        begin = _start_of_score(target, float(tableau.times[0]), seed, start)
        return callables.Job(target, tableau, first, particles, seed, real, bool(return_path), begin, coupling)
    parts = _parts(target)
    mixtures = {id(part.mixture): part.mixture for part in parts}
    bases = {id(part.mixture): part.basis for part in parts if part.basis is not None}
    rotation = target.rotation if isinstance(target, Product) else None
    table = cpu_memory.make_table(tableau, real, coupling)
    laws = {key: cpu_memory.make_law(mixture, tableau, real) for key, mixture in mixtures.items()}
    return _Job(
        target=target,
        tableau=tableau,
        particles=particles,
        dtype=real,
        exact=start == "exact",
        every=bool(return_path),
        parts=parts,
        table=table,
        laws=laws,
        bases={key: cpu_memory.packed(basis).astype(real) for key, basis in bases.items()},
        rotation=None if rotation is None else cpu_memory.packed(rotation).astype(real),
        device=_on_device(parts, laws, table, rotation, target.dimension, real) if backend == "cuda" else None,
        **settings,
    )


def _start_of_score(score: Score, horizon: float, seed: int, start: str) -> Callable[[int, int], Samples]:
    """Return what draws particles at the horizon: as the compiled engine does, of the same law."""
    if start == "normal":
        shape = (score.dimension, rng.START, rng.NORMAL)
        return lambda first, count: rng.normals(seed, count, *shape, first_particle=first)
    law = score.law
    if law is None:
        raise ValueError(
            f"start must be 'normal' for a Score without a law, whose q_T is not known; got {start!r}: "
            "or say Score(..., law=target)"
        )
    still = assemble("start", [horizon, 0.5 * horizon], [], Row(state=1.0))
    return lambda first, count: sample(law, still, count, seed, first_particle=first, progress=False)


def _on_device(
    parts: list[_Part],
    laws: dict[int, cpu_memory.Law],
    table: cpu_memory.Table,
    rotation: Array | None,
    dimension: int,
    dtype: np.dtype[Any],
) -> Any:
    """Return the engine for a GPU, which needs much that the CPU does not."""
    cuda.require()
    from srkverify.engines import cuda_sampling

    listed = [(part.mixture, part.columns.start, part.first_group, part.basis) for part in parts]
    return cuda_sampling.make_engine(listed, laws, table, rotation, dimension, dtype)


def _dtype(value: DTypeLike) -> np.dtype[Any]:
    try:
        name = np.dtype(value).name
    except TypeError:
        name = str(value)
    return np.dtype(_check.choice("dtype", name, DTYPES))


def _bar(job: _Job | callables.Job, progress: bool) -> tqdm[Any]:
    hidden = None if progress else True  # None: unless on a terminal
    return tqdm(total=job.particles, unit=" particles", unit_scale=True, delay=2.0, disable=hidden)


def _parts(target: Target) -> list[_Part]:
    """Return the target's independent parts; its own rotation comes after them."""
    blocks = (target,) if isinstance(target, GaussianMixture) else target.blocks
    repeats = (1,) if isinstance(target, GaussianMixture) else target.repeats
    parts: list[_Part] = []
    column = group = 0
    for block, repeat in zip(blocks, repeats, strict=True):
        mixture, basis = block.in_common_basis()
        for _ in range(repeat):
            parts.append(_Part(mixture, slice(column, column + block.dimension), group, basis))
            column += block.dimension
            group += -(-block.dimension // rng.GROUP)
    return parts

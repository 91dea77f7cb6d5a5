"""KL where exactness ends: estimates from backward paths, with error bars and reasons for doubt.

From each start, M paths lead back to the horizon; the mean of their weights e^L is the sampler's density there over the
truth's (``engines.paths``). Half of the starts are drawn from the truth, half from the sampler. Derived in
docs/theory.md, section 8.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from srkverify import _tasks
from srkverify._check import Array
from srkverify.divergence.ratios import Estimate, Ratios, path_summary, summary
from srkverify.engines import cuda, paths
from srkverify.engines.cuda_sampling_plan import MOST_DIMENSION
from srkverify.sampling import sample
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture, Target

LEAST_INNER = 8  # paths a start: fewer do not show how much fewer would change
_INNER = np.array([LEAST_INNER, 16, 32, 64])  # what is chosen from where the user leaves it open
_FEW_STARTS = 1024  # are preferred to further paths from each: what matters may happen at few of them
_PILOT_STARTS, _PILOT_INNER, _PILOT_PARTICLE = 128, 16, 2**62
_GROUP = 8  # starts that are kept together, for paths in one vector not to depend on how work is split
_MOST_STARTS, _MOST_NUMBERS = 4096, 1 << 22  # of a batch
_TASK_NUMBERS, _TASKS_A_THREAD = 1 << 20, 6
_DEVICE_NUMBERS = 1 << 25  # of a task of a GPU

BACKENDS = ("cpu", "cuda")

# What an estimate is doubted for
_CHECK_ERRORS = 4.0
_CHANGE_ERRORS = 1.0  # a change of less is noise
_LEAST_STARTS, _LEAST_SHARE, _MOST_TAIL = 32, 0.25, 0.5
_ROUNDING = 1e-9  # of E e^L
_MOST_DOUBT = 0.25  # relative error of the standard error


class UnreliableEstimateWarning(UserWarning):
    """A Monte Carlo estimate cannot be trusted; the message says why."""


@dataclass(frozen=True)
class PathDivergence:
    """Monte Carlo estimates of KL(q_δ ‖ output) and of the KL of paths, in nats.

    Attributes
    ----------
    value : float
        Marginal KL; its noise can make a small one negative.
    error : float
        Standard error of ``value``, and what M/2 paths a start would significantly change; infinite if the estimate
        cannot be trusted.
    path_kl, path_error : float
        KL of the whole paths (x_0, …, x_K) under the forward process from those of the sampler's chain, the quantity
        that Girsanov's theorem bounds, and its standard error. If stages see noise it is an upper bound, equal on
        Gaussians if the tableau has no memory (the noise's law given the path is then known exactly).
    check : Estimate
        E e^L under q_δ, which is 1, and its standard error: for a product, that of the block which is furthest off.
    ess : float
        Effective number of paths: Σ over starts of (Σ e^L)²/Σ e^{2L}, at most n M.
    tail : float
        Hill's index of the largest weights of a start: above ½ their variance may be infinite.
    change : Estimate
        By which ``value`` differs from what M/2 paths a start give, and its standard error: it shows a bias.
    starts, inner : int
        n, of both laws together, and M.
    doubts : tuple of str
        Why the estimate cannot be trusted; empty if it can.
    standard_error : float
        Of ``value``, trusted or not, without the change.
    method : str
        "path".
    """

    value: float
    path_kl: float
    path_error: float
    check: Estimate
    ess: float
    tail: float
    change: Estimate
    starts: int
    inner: int
    doubts: tuple[str, ...]
    standard_error: float
    method: str = "path"

    @property
    def error(self) -> float:
        """Standard error and bias, infinite if there are doubts."""
        if self.doubts:
            return np.inf
        bias = max(0.0, self.change.value**2 - (_CHANGE_ERRORS * self.change.error) ** 2)
        return float(np.sqrt(self.standard_error**2 + bias))


def path_kl(
    target: Target,
    tableau: Tableau,
    start: str,
    particles: int,
    seed: int,
    inner: int | None,
    threads: int | None,
    backend: str,
    progress: bool,
) -> PathDivergence:
    """Estimate with ``particles`` paths for each different block of the target; see :func:`srkverify.kl`."""
    mixtures = (target,) if isinstance(target, GaussianMixture) else target.blocks
    counts = np.array([1] if isinstance(target, GaussianMixture) else target.repeats)
    runs = [
        _Run(mixture.in_common_basis()[0], tableau, start, _seed(seed, block), threads or _tasks.processors(), backend)
        for block, mixture in enumerate(mixtures)
    ]
    chosen = [inner or run.chosen_inner(particles) for run in runs]
    total = sum(2 * (particles // (2 * each)) * (each + 1) for each in chosen)
    with tqdm(total=total, unit=" paths", unit_scale=True, delay=2.0, disable=None if progress else True) as bar:
        parts = [
            _estimate(*run.logs(particles // (2 * each), each, bar)) for run, each in zip(runs, chosen, strict=True)
        ]
    off = [abs(part.check.value - 1.0) / part.check.error if part.check.error > 0.0 else 0.0 for part in parts]
    result = PathDivergence(
        value=float(counts @ [part.value for part in parts]),
        path_kl=float(counts @ [part.path_kl for part in parts]),
        path_error=float(np.linalg.norm(counts * [part.path_error for part in parts])),
        check=parts[int(np.argmax(off))].check,
        ess=min(part.ess for part in parts),
        tail=max(part.tail for part in parts),
        change=Estimate(
            float(counts @ [part.change.value for part in parts]),
            float(np.linalg.norm(counts * [part.change.error for part in parts])),
        ),
        starts=min(part.starts for part in parts),
        inner=max(chosen),
        doubts=tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts)),
        standard_error=float(np.linalg.norm(counts * [part.standard_error for part in parts])),
    )
    if result.doubts:
        warnings.warn(
            f"KL of {tableau.name} is {result.value:.3g} with a standard error of {result.standard_error:.2g}, "
            f"not to be trusted: {'; '.join(result.doubts)}",
            UnreliableEstimateWarning,
            stacklevel=3,
        )
    return result


def _engine(backend: str) -> Any:
    """Return the module that runs paths, or raise ``RuntimeError``."""
    if backend == "cpu":
        return paths
    cuda.require()
    from srkverify.engines import cuda_paths

    return cuda_paths


def _seed(*key: int) -> int:
    """Return a seed that belongs to a key of non-negative integers."""
    return int(np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0])


def _estimate(of_truth: Array, of_sampler: Array, of_paths: Array) -> PathDivergence:
    """Return the estimates for one block."""
    count, inner = of_truth.shape
    found, path_kl = summary(of_truth, of_sampler), path_summary(*of_paths.T)
    return PathDivergence(
        value=found.kl.value,
        path_kl=path_kl.value,
        path_error=path_kl.error,
        check=found.check,
        ess=found.ess,
        tail=found.tail,
        change=found.change,
        starts=2 * count,
        inner=inner,
        doubts=tuple(_doubts(found, 2 * count, inner)),
        standard_error=found.kl.error,
    )


def _doubts(found: Ratios, count: int, inner: int) -> Iterator[str]:
    """Yield why an estimate from ``count`` starts with ``inner`` paths each is not to be trusted."""
    check, share = found.check, found.ess / (count * inner)
    if count < _LEAST_STARTS:
        yield f"{count} starts say little about the error, {_LEAST_STARTS} would: use more particles"
    if not abs(check.value - 1.0) <= _CHECK_ERRORS * check.error + _ROUNDING:
        yield f"E e^L is 1 but was found to be {check.value:.4g} with a standard error of {check.error:.2g}"
    if found.doubt_of_error > _MOST_DOUBT:
        yield "the standard error rests on a few starts: use more particles"
    if share < _LEAST_SHARE:
        yield f"the effective sample size is {100.0 * share:.2g}% of the paths: use more steps"
    if found.tail > _MOST_TAIL:
        yield f"weights have a heavy tail, of index {found.tail:.2f} > {_MOST_TAIL:g}: use more steps"


class _Run:
    """Paths of a sampler on one mixture; all that is random follows from ``seed``."""

    def __init__(
        self, mixture: GaussianMixture, tableau: Tableau, start: str, seed: int, threads: int, backend: str
    ) -> None:
        self.mixture, self.tableau, self.start, self.seed, self.threads = mixture, tableau, start, seed, threads
        self.stop = float(tableau.times[-1])
        self.backend, self.engine = backend, _engine(backend)
        self.problem = self.engine.prepare(mixture, tableau, start)

    def chosen_inner(self, particles: int) -> int:
        """Return how many paths a start are best, from a pilot run: as many as make their noise that of the density.

        Pairs of paths see (r − 1)² plus noise. With r − 1 of variance b and weights of relative variance s at a start,
        M paths a start and n M of them in all, the error of KL is proportional to (b + s/M)/√n.
        """
        allowed = _INNER[particles // _INNER >= _FEW_STARTS][1:]  # the least leaves most bias
        if len(allowed) == 0:
            return LEAST_INNER
        logs = np.empty((_PILOT_STARTS, _PILOT_INNER))
        starts = self._starts_of_truth(-1, _PILOT_STARTS)
        self._fill(starts, logs, _PILOT_PARTICLE, self._log_ratios, tqdm(disable=True))
        top = logs.max(axis=1)
        weights = np.exp(logs - top[:, None])
        within = (weights.var(axis=1, ddof=1) / weights.mean(axis=1) ** 2).mean()
        if within <= _ROUNDING**2:
            return int(allowed[0])
        log_r = top + np.log(weights.mean(axis=1))
        between = (2.0 * np.tanh(0.5 * log_r)).var(ddof=1) - within / _PILOT_INNER
        if between <= 0.0:
            return int(allowed[-1])
        return int(allowed[np.argmin(np.abs(np.log(allowed * between / within)))])

    def logs(self, count: int, inner: int, bar: tqdm[Any]) -> tuple[Array, Array, Array]:
        """Return L of ``inner`` paths from ``count`` starts of the truth and as many of the sampler, each (n, M).

        Then, of two paths of the truth from each start of the first kind, what ``path_summary`` takes, (n, 2, 2).
        """
        of_truth, of_sampler, of_paths = np.empty((count, inner)), np.empty((count, inner)), np.empty((count, 2, 2))
        size = int(np.clip(_MOST_NUMBERS // self.mixture.dimension // _GROUP * _GROUP, _GROUP, _MOST_STARTS))
        for batch, first in enumerate(range(0, count, size)):
            rows = slice(first, min(first + size, count))
            starts = self._starts_of_truth(batch, rows.stop - first)
            drawn = self._starts_of_sampler(first, rows.stop - first)
            at = 2 * first * inner
            self._fill(starts, of_truth[rows], at, self._log_ratios, bar)
            self._fill(drawn, of_sampler[rows], at + len(starts) * inner, self._log_ratios, bar)
            self._fill(starts, of_paths[rows], at, self._log_ratios_of_truth, bar)
        return of_truth, of_sampler, of_paths

    def _starts_of_truth(self, batch: int, count: int) -> Array:
        """Return exact draws of q_δ."""
        return self._sorted(self.mixture.sample(count, _seed(self.seed, batch + 1), self.stop))

    def _starts_of_sampler(self, first: int, count: int) -> Array:
        """Return draws of the sampler's output: particles ``first``, …, whose streams are not those of paths."""
        x = sample(
            self.mixture,
            self.tableau,
            count,
            self.seed,
            start=self.start,
            first_particle=first,
            backend=self.backend if self.mixture.dimension <= MOST_DIMENSION else "cpu",
            threads=self.threads,
            progress=False,
        )
        return self._sorted(x.astype(np.float64, copy=False))

    def _sorted(self, x: Array) -> Array:
        """Put points of the same component together: paths from there are alike, and share vectors."""
        return x[np.argsort(self.mixture.likeliest_component(x, self.stop), kind="stable")]

    def _fill(self, starts: Array, out: Array, particle: int, values: Callable[..., Array], bar: tqdm[Any]) -> None:
        """Write to ``out`` (n, M, …) what ``values`` returns of M paths from each start."""
        count, inner = out.shape[:2]
        stop = np.zeros(1, np.uint8)
        numbers, threads = inner * starts.shape[1], self.threads
        most = min(_TASK_NUMBERS // numbers, -(-count // (_TASKS_A_THREAD * threads)))
        if self.backend == "cuda":
            most, threads = _DEVICE_NUMBERS // numbers, 1
        size = max(1, most // _GROUP) * _GROUP

        def task(begin: int, memory: Any) -> int:
            some = starts[begin : begin + size]
            out[begin : begin + size] = values(some, inner, particle + begin * inner, memory, stop)
            return len(some) * inner

        _tasks.run(range(0, count, size), self.problem.memory, task, threads, stop, bar)

    def _log_ratios(self, starts: Array, inner: int, particle: int, memory: Any, stop: Any) -> Array:
        """Return L = log(p_0 Π p(x_{k+1} | x_k) / Q) − log q_δ."""
        where = {"truth": False, "seed": self.seed, "particle": particle, "stop": stop}
        gains, _, ends = self.engine.run(self.problem, memory, starts, inner, **where)
        if stop[0]:
            return np.zeros((len(starts), inner))
        logs = gains + self._at_horizon(ends) - np.repeat(self.mixture.log_density(starts, self.stop), inner)
        return self._finite(logs).reshape(len(starts), inner)

    def _log_ratios_of_truth(self, starts: Array, inner: int, particle: int, memory: Any, stop: Any) -> Array:
        """Return L of paths of the truth, (n, M, 2): with log(forward process/Q) as drawn, and its mean instead."""
        where = {"truth": True, "seed": self.seed, "particle": particle, "stop": stop}
        gains, extras, ends = self.engine.run(self.problem, memory, starts, inner, **where)
        if stop[0]:
            return np.zeros((len(starts), inner, 2))
        logs = gains + self._at_horizon(ends) - np.repeat(self.mixture.log_density(starts, self.stop), inner)
        return self._finite(logs[:, None] - extras[:, ::-1]).reshape(len(starts), inner, 2)

    def _at_horizon(self, x: Array) -> Array:
        """Return the log density of the sampler's start."""
        if self.start == "exact":
            return self.mixture.log_density(x, float(self.tableau.times[0]))
        return -0.5 * ((x**2).sum(axis=1) + x.shape[1] * np.log(2.0 * np.pi))

    def _finite(self, values: Array) -> Array:
        if not np.isfinite(values).all():
            raise ValueError(
                f"tableau must have an output law whose density double precision holds; got log ratios that are not "
                f"finite for {self.tableau.name} with {self.tableau.steps} steps: use more steps"
            )
        return values

"""Time the particle engine against NumPy, JAX, PyTorch and this machine's own limits.

Prints wall nanoseconds for each particle, coordinate and step: the least of a few calls, start included, after one
that compiles. Competitors take turns, so that what slows the machine down for a while slows all of them. They run in
float64, and their samples are first checked against the engine's: same law, to six standard errors.

The floor is what the engine cannot do without: the normals, the exponentials and the multiply-adds of a step, each at
the rate at which this machine does nothing else, on data in its first-level cache.
"""

from __future__ import annotations

import argparse
import os

# NumPy's sampler runs blocks in threads of its own; further threads for each matrix product get in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from _normals import check_normals
from _particles_gpu import compare_on_gpu
from _rivals import Problem, Sampler, jax_sampler, numpy_sampler, torch_sampler
from tqdm import tqdm

import srkverify as sv
from srkverify.engines import panels, rng
from srkverify.engines.simd import Lanes, Memory, jit, kernel, loop
from srkverify.engines.vecmath import exp_lanes

EXAMPLE = """examples:
  python benchmarks/particles.py                    every competitor that is installed (minutes)
  python benchmarks/particles.py --quick            fewer particles, one call each
  python benchmarks/particles.py --normals 10**9    the statistical quality of the normals instead
  python benchmarks/particles.py --backend cuda     a GPU against its roofs and against this machine's CPU"""

SHAPES = ((16, 8, 32), (128, 32, 8))  # dimension, components, steps
SCHEMES = ("ddpm", "srk")
RIVALS = {"NumPy": numpy_sampler, "JAX": jax_sampler, "PyTorch": torch_sampler}
BLOCKS = {"NumPy": (1024, 4096), "JAX": (1024, None), "PyTorch": (5000, None)}  # of particles; None: all at once
BARS = {("ddpm", 16, "JAX"): 8, ("srk", 16, "JAX"): 10, ("ddpm", 128, "JAX"): 6, ("srk", 128, "JAX"): 8}
DTYPES = ("float64", "float32")

# Sizes that stay in the first-level cache
PRODUCTS = ((8, 16), (16, 64), (32, 128))  # matrices (rows, columns) times a panel: the floor takes the fastest
GROUPS_KEPT = 8  # groups of normals, overwritten in turn
EXPONENTIALS = 1024
FLOOR_UNITS = 10**7  # normals or exponentials of a call: tens of milliseconds

Job = Callable[[int], object]  # from the number of the call


@jit
def many_normals(seed: Any, groups: Any, out: Any, width: Any, spare: Any) -> None:
    """Draw groups of normals, an even number, two at a time as the engine does."""
    size = rng.GROUP * width
    for i in range(0, groups, 2):
        at = i % GROUPS_KEPT * size
        rng.draw_two_groups(seed, 0, 0, 0, i, 0, i + 1, out, at, at + size, width, spare)


@kernel
def exponentials(x: Memory, pairs: Lanes, out: Memory) -> None:
    """Write e^x, two vectors at a time as the engine does."""
    with loop(pairs) as i:
        power = exp_lanes(x.load(i * (2 * x.width)).joined(x.load(i * (2 * x.width), 1)))
        for half in range(2):
            out.store(power.part(half * x.width, x.width), i * (2 * x.width), half)


@jit
def many_exponentials(x: Any, pairs: Any, out: Any, times: Any) -> None:
    """Exponentiate the same numbers many times."""
    for _ in range(times):
        exponentials(x, pairs, out)


@jit
def many_products(matrix: Any, tiles: Any, depth: Any, x: Any, out: Any, times: Any) -> None:
    """Multiply the same matrices many times."""
    for _ in range(times):
        panels.products(matrix, 0, tiles, depth, x, 0, out, 0)


def floor_jobs(dtype: str) -> dict[tuple[Any, ...], tuple[Job, int]]:
    """Return the jobs of one thread that measure the floor, and how many normals, … each makes."""
    width = rng.vector_width(np.dtype(dtype))
    groups, sweeps = FLOOR_UNITS // (2 * rng.GROUP * width) * 2, FLOOR_UNITS // EXPONENTIALS

    def normals(_: int) -> None:
        out = np.empty(GROUPS_KEPT * rng.GROUP * width, dtype)
        many_normals(0, groups, out, width, rng.make_spare())

    def powers(_: int) -> None:
        x = np.linspace(-30.0, 0.0, EXPONENTIALS, dtype=dtype)
        many_exponentials(x, EXPONENTIALS // (2 * width), np.empty_like(x), sweeps)

    def products(rows: int, columns: int, times: int) -> Job:
        def job(_: int) -> None:
            matrix, x = np.full(rows * columns, 0.5, dtype), np.ones(columns * width, dtype)
            many_products(matrix, rows // panels.TILE, columns, x, np.empty(rows * width, dtype), times)

        return job

    jobs: dict[tuple[Any, ...], tuple[Job, int]] = {
        (dtype, "normal"): (normals, groups * rng.GROUP * width),
        (dtype, "exponential"): (powers, sweeps * EXPONENTIALS),
    }
    for rows, columns in PRODUCTS:
        work = rows * columns * width
        times = 20 * FLOOR_UNITS // work
        jobs[dtype, "multiply-add", rows, columns] = products(rows, columns, times), times * work
    return jobs


def on_threads(job: Job, threads: int) -> Job:
    """Return a job that runs ``job`` on each of ``threads`` threads."""

    def both(call: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(job, [call] * threads))

    return both


def seconds(job: Job, call: int) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    job(call)
    return time.perf_counter() - begin


def ours(problem: Problem, dtype: str, threads: int) -> Sampler:
    """Return the engine as a function of the seed."""
    settings: dict[str, Any] = {"dtype": dtype, "threads": threads, "progress": False}
    return lambda seed: sv.sample(problem.target, problem.tableau, problem.particles, seed, **settings)


def check_law(name: str, problem: Problem, samples: np.ndarray, wanted: np.ndarray) -> None:
    """Assert that two samples agree in the means of all x_j, x_j² and |x|² within six standard errors.

    That one of the few thousand differences of a run is further out has a chance of 10⁻⁵.
    """
    assert samples.shape == wanted.shape == (problem.particles, problem.target.dimension), (name, samples.shape)

    def summary(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squares = np.square(x, dtype=np.float64)
        values = np.column_stack([x, squares, squares.sum(axis=1)])
        return values.mean(axis=0), values.var(axis=0) / len(values)

    (mean, error), (right, its_error) = summary(samples), summary(wanted)
    score = np.abs(mean - right) / np.sqrt(error + its_error)
    assert score.max() <= 6.0, f"{name} samples another law than {problem.tableau.name}: z = {score.max():.1f}"


def rival(name: str, problem: Problem, right: np.ndarray) -> Sampler | str:
    """Return a competitor with the block size that suits it best, or what to install to have it."""
    found = []
    for block in BLOCKS[name]:
        try:
            sampler = RIVALS[name](problem, problem.particles if block is None else min(block, problem.particles))
        except ImportError as missing:
            return f"pip install {missing.name} (or '.[bench]')"
        check_law(name, problem, sampler(0), right)  # compiles, too
        found.append((seconds(sampler, 1), sampler))
    return min(found, key=lambda pair: pair[0])[1]


def make_problem(scheme: str, dimension: int, components: int, steps: int, particles: int) -> Problem:
    """Return a mixture whose components overlap a little, with different weights and variances, and its sampler."""
    generator = np.random.default_rng(0)
    weights = np.linspace(1.0, 2.0, components) / (1.5 * components)
    means = generator.standard_normal((components, dimension)) * (4.0 / np.sqrt(dimension))
    target = sv.GaussianMixture(weights, means, np.linspace(0.2, 0.3, components))
    return Problem(target, sv.schemes.SCHEMES[scheme](sv.schedules.exponential(6.0, 0.01, steps)), particles)


def compare(particles: int, repeats: int, threads: int) -> None:
    """Print the tables."""
    jobs: dict[tuple[Any, ...], tuple[Job, int]] = {}
    remarks: dict[tuple[Any, ...], str] = {}
    for dtype in DTYPES:
        for key, (job, work) in floor_jobs(dtype).items():
            job(0)  # compiles
            jobs["floor", *key] = on_threads(job, threads), threads * work
    for dimension, components, steps in tqdm(SHAPES, desc="warm-up", disable=None):
        for scheme in SCHEMES:
            problem = make_problem(scheme, dimension, components, steps, particles)
            work = particles * dimension * steps
            right = ours(problem, "float64", threads)(10**6)
            for dtype in DTYPES:
                engine = ours(problem, dtype, threads)
                check_law(f"srkverify, {dtype}", problem, engine(0), right)
                jobs[scheme, dimension, dtype] = engine, work
            for name in RIVALS:
                found = rival(name, problem, right)
                if isinstance(found, str):
                    remarks[scheme, dimension, name] = found
                else:
                    jobs[scheme, dimension, name] = found, work
    least = dict.fromkeys(jobs, np.inf)
    for call in range(2, 2 + repeats):
        for key, (job, work) in tqdm(jobs.items(), desc="measure", disable=None):
            least[key] = min(least[key], 1e9 * seconds(job, call) / work)
    print_tables(least, remarks)


def print_tables(least: dict[tuple[Any, ...], float], remarks: dict[tuple[Any, ...], str]) -> None:
    """Print what was measured, in ns, beside the bars."""
    rates = {}
    print(f"floor, ns{'normal':>18}{'exponential':>14}{'multiply-add':>14}")
    for dtype in DTYPES:
        rates[dtype] = [least["floor", dtype, "normal"], least["floor", dtype, "exponential"]]
        rates[dtype].append(min(least["floor", dtype, "multiply-add", *shape] for shape in PRODUCTS))
        print(f"{dtype:<13}{rates[dtype][0]:>14.3f}{rates[dtype][1]:>14.3f}{rates[dtype][2]:>14.4f}")
    for dimension, components, steps in SHAPES:
        print(f"\n{f'd = {dimension}, {components} components, K = {steps}':<34}{'ns':>8}{'ratio':>9}    bar")
        for scheme, noises in zip(SCHEMES, (1, 2), strict=True):
            mine = least[scheme, dimension, "float64"]
            for dtype in DTYPES:
                spent = least[scheme, dimension, dtype]
                counts = (noises, components / dimension, 2 * components)
                floor = float(np.dot(counts, rates[dtype]))
                print(f"{f'{scheme}  srkverify, {dtype}':<34}{spent:>8.2f}")
                print(f"{'      over the floor':<34}{floor:>8.2f}{spent / floor:>9.2f}    <= 1.6")
            single = mine / least[scheme, dimension, "float32"]
            print(f"{'      float64 over float32':<34}{'':>8}{single:>9.2f}    >= 1.6")
            for name in RIVALS:
                label, bar = f"      {name} over srkverify, float64", BARS.get((scheme, dimension, name))
                if (scheme, dimension, name) in remarks:
                    print(f"{f'      {name}':<34}not installed: {remarks[scheme, dimension, name]}")
                    continue
                spent = least[scheme, dimension, name]
                print(f"{label:<34}{spent:>8.2f}{spent / mine:>9.2f}    {f'>= {bar}' if bar else ''}".rstrip())
        for dtype in DTYPES:
            ratio = least["srk", dimension, dtype] / least["ddpm", dimension, dtype]
            print(f"{f'srk over ddpm, {dtype}':<34}{'':>8}{ratio:>9.2f}    <= 1.4")


def count(text: str) -> int:
    """Read 1000000, 1e6 or 10**6."""
    base, power, exponent = text.partition("**")
    return int(base) ** int(exponent) if power else int(float(text))


def main() -> int:
    """Print the tables, or test the normals."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="10⁴ particles, one call each")
    parser.add_argument("--particles", type=count, help="number of particles (default 10⁵)")
    parser.add_argument("--threads", type=count, help="number of threads of all competitors (default: processors)")
    parser.add_argument("--backend", choices=sv.sampling.BACKENDS, default="cpu", help="cuda: time a GPU instead")
    parser.add_argument("--normals", type=count, nargs="?", const=10**9, help="test so many normals (default 10⁹)")
    given = parser.parse_args()
    # All take as many threads as there are processors that they may use, JAX and PyTorch when they are imported.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    threads = given.threads or len(os.sched_getaffinity(0))
    if given.normals:
        passed = [check_normals(given.normals, dtype, threads) for dtype in DTYPES]
        return 0 if all(passed) else 1
    if given.backend == "cuda":
        problems = [
            (scheme, shape, make_problem(scheme, *shape, given.particles or 10**6))
            for shape in SHAPES
            for scheme in SCHEMES
        ]
        return compare_on_gpu(problems, threads, 1 if given.quick else 4)
    print(f"{threads} threads")
    compare(given.particles or (10**4 if given.quick else 10**5), 1 if given.quick else 4, threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

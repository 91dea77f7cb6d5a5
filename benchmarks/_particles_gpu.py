"""Time the particle engine on a GPU, beside the roofs of an H100 and this machine's CPU engine.

Operations are counted in the formulas, a multiply-add as two; bytes are those of the samples, for nothing else goes to
or comes from the GPU's memory between steps.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from _rivals import Problem

import srkverify as sv
from srkverify import sampling
from srkverify.engines import cuda, rng

ROOFS = {"float64": 34e12, "float32": 67e12}  # operations a second of an H100 SXM, outside its tensor cores
BYTES = 3.3e12  # a second, of its memory
NORMAL = {"float64": 32.5, "float32": 20.0}  # operations of a normal: half of a logarithm, root, sine and cosine
EXPONENTIAL = {"float64": 28.0, "float32": 20.0}
CPU_PARTICLES = 50_000
BARS = {"of the roof": 0.5, "over the CPU": 100.0}


def operations(problem: Problem, dtype: str) -> float:
    """Floating-point operations of a particle, coordinate and step."""
    components, dimension = problem.target.means.shape
    stages, noises = problem.tableau.stage_times.shape[1], problem.tableau.noise.shape[1]
    score = 4.0 * components + (EXPONENTIAL[dtype] + 8.0) * components / dimension + 3.0 + 2.0
    rows = 2.0 * (stages + 1) * (1 + noises)
    return noises * NORMAL[dtype] + stages * score + rows + 3.0  # |x|²: two, and a share


def on_device(problem: Problem, dtype: str, repeats: int) -> tuple[float, float]:
    """Return the least seconds of the kernels alone, and of whole calls."""
    from srkverify.engines import cuda_sampling

    options: dict[str, Any] = {"dtype": dtype, "backend": "cuda", "progress": False}
    job = sampling._job(
        problem.target, problem.tableau, problem.particles, 0, "cuda", dtype, "exact", False, None, 0, None
    )
    engine = job.device
    size = engine._chunk(problem.particles, 1)
    slot = cuda_sampling.Slot(engine, size, 1)
    kernels = calls = np.inf
    for seed in range(repeats + 1):  # the first one compiles
        begin = time.perf_counter()
        for first in range(0, problem.particles, size):
            count = min(size, problem.particles - first)
            slot.compute(engine, first, count, rng.signed(seed), True, False, problem.tableau.steps)
        slot.stream.synchronize()
        middle = time.perf_counter()
        sv.sample(problem.target, problem.tableau, problem.particles, seed, **options)
        if seed:
            kernels = min(kernels, middle - begin)
            calls = min(calls, time.perf_counter() - middle)
    return float(kernels), float(calls)


def on_cpu(problem: Problem, dtype: str, threads: int, repeats: int) -> float:
    """Return the least seconds that the CPU takes for a particle."""
    count, least = min(problem.particles, CPU_PARTICLES), np.inf
    for seed in range(repeats + 1):
        begin = time.perf_counter()
        sv.sample(problem.target, problem.tableau, count, seed, dtype=dtype, threads=threads, progress=False)
        least = min(least, time.perf_counter() - begin) if seed else least
    return float(least) / count


def compare_on_gpu(problems: list[tuple[str, Any, Problem]], threads: int, repeats: int) -> int:
    """Print the table; returns what the process is to return."""
    try:
        cuda.require()
    except RuntimeError as missing:
        print(f"nothing timed: {missing}", file=sys.stderr)
        return 1
    from numba import cuda as device

    name = device.get_current_device().name
    print(f"{name.decode() if isinstance(name, bytes) else name}; CPU: {threads} threads")
    print("ps of a particle, coordinate and step; fractions are of an H100's roofs, whatever the GPU is")
    print(f"{'':<36}{'kernels':>9}{'calls':>9}{'CPU':>10}{'roof':>8}{'memory':>8}{'CPU/call':>10}{'CPU/kernel':>12}")
    for scheme, (dimension, components, steps), problem in problems:
        work = problem.particles * dimension * steps
        for dtype in ROOFS:
            check(problem, dtype)
            kernels, calls = on_device(problem, dtype, repeats)
            spent = on_cpu(problem, dtype, threads, repeats) * problem.particles
            roof = operations(problem, dtype) * work / kernels / ROOFS[dtype]
            memory = problem.particles * dimension * np.dtype(dtype).itemsize / kernels / BYTES
            label = f"{scheme} d={dimension} c={components} K={steps} {dtype}"
            times = "".join(f"{1e12 * one / work:>9.2f}" for one in (kernels, calls))
            print(
                f"{label:<36}{times}{1e12 * spent / work:>10.0f}{roof:>8.1%}{memory:>8.1%}"
                f"{spent / calls:>10.0f}{spent / kernels:>12.0f}"
            )
    print(
        f"goals on an H100: {BARS['of the roof']:.0%} of the roof that bounds, {BARS['over the CPU']:.0f} times the CPU"
    )
    return 0


def check(problem: Problem, dtype: str) -> None:
    """Assert that GPU and CPU return the same samples."""
    one, other = (
        sv.sample(problem.target, problem.tableau, 1000, 1, dtype=dtype, backend=backend, progress=False)
        for backend in ("cpu", "cuda")
    )
    gap = np.abs(one - other).max() / np.abs(one).max()
    assert gap <= (1e-10 if dtype == "float64" else 1e-4), f"the GPU's samples differ by {gap:.1e}"

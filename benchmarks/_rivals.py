"""The samplers that particles.py times srkverify against: the same tables of numbers in NumPy, JAX and PyTorch.

Each is written as one would who knows its library: the products of states and means as matrix products, everything that
does not depend on particles computed beforehand, float64. ``block`` is how many particles run through all steps
together; particles.py tries several and keeps the fastest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import srkverify as sv

Array = NDArray[np.float64]
Sampler = Callable[[int], Array]  # from a seed to samples


@dataclass(frozen=True)
class Problem:
    """What is sampled: a mixture of c isotropic components, a tableau of one stage a step, and how many particles."""

    target: sv.GaussianMixture
    tableau: sv.Tableau
    particles: int

    def start(self) -> tuple[Array, Array, Array]:
        """Return the law at the horizon: bounds (c − 1,) of a uniform number, means (c, d), deviations (c,)."""
        law = self.target.diffused(self.tableau.times[0])
        deviations = np.sqrt(np.broadcast_to(law.variances[:, 0], law.weights.shape))
        return np.cumsum(law.weights)[:-1], law.means, deviations

    def steps(self) -> dict[str, Array]:
        """Return coefficients, first axis K: those of the rows of the tableau, then the mixture's at the stages' times.

        A score is e^{−t} Σ_i r_i f_i m_i − x Σ_i r_i f_i with f_i = 1/variance and posterior weights r ∝ exp of
        constant_i + f_i (e^{−t} x·m_i − |x|²/2).
        """
        table = self.tableau
        if table.stage_times.shape[1] != 1 or table.memory or not (table.evaluated & (table.stage_state == 1)).all():
            raise ValueError(f"the rivals are written for one stage x + noise and no memory; got {table.name}")
        time = table.stage_times
        spread = np.exp(-2.0 * time) * self.target.variances[:, 0] - np.expm1(-2.0 * time)
        squares = np.exp(-2.0 * time) * (self.target.means**2).sum(axis=1)
        return {
            "state": table.state,
            "score": table.scores[:, 0],
            "noise": table.noise,
            "stage_noise": table.stage_noise[:, 0],
            "shrink": np.exp(-time[:, 0]),
            "factor": 1.0 / spread,
            "constant": np.log(self.target.weights) - 0.5 * (self.target.dimension * np.log(spread) + squares / spread),
        }

    def used(self) -> tuple[list[int], list[int]]:
        """Return which noises the stages and the output use in any step: no rival multiplies by columns of zeros."""
        of_stage, of_output = self.tableau.stage_noise[:, 0].any(axis=0), self.tableau.noise.any(axis=0)
        return np.flatnonzero(of_stage).tolist(), np.flatnonzero(of_output).tolist()

    def blocks(self, size: int) -> tuple[int, int]:
        """Return how many blocks of at most ``size`` particles to run, and their common size: the last may overhang."""
        count = math.ceil(self.particles / size)
        return count, math.ceil(self.particles / count)


def numpy_sampler(problem: Problem, block: int) -> Sampler:
    """Run blocks on all threads, each in place in memory of its own (NumPy lets others run while it computes)."""
    bounds, start_means, deviations = problem.start()
    table, means = problem.steps(), problem.target.means
    staged, added = problem.used()
    count, size = problem.blocks(block)
    # (c, d) a step; components come first, because NumPy reduces a short last axis slowly
    into = means * (table["shrink"][:, None] * table["factor"])[:, :, None]
    back = means * table["shrink"][:, None, None]

    def run(x: Array, generator: np.random.Generator) -> None:
        noise = np.empty((problem.tableau.noise.shape[1], *x.shape))
        moved, spare = np.empty_like(x), np.empty_like(x)
        labels = np.searchsorted(bounds, generator.random(len(x)), side="right")
        generator.standard_normal(out=x)
        x *= deviations[labels, None]
        x += start_means[labels]
        for k in range(problem.tableau.steps):
            generator.standard_normal(out=noise)
            point = x
            for m in staged:
                np.multiply(noise[m], table["stage_noise"][k, m], out=spare)
                point = np.add(point, spare, out=moved)
            shares = into[k] @ point.T
            shares -= (0.5 * table["factor"][k])[:, None] * np.einsum("ij,ij->i", point, point)
            shares += table["constant"][k][:, None]
            shares -= shares.max(axis=0)
            np.exp(shares, out=shares)
            shares *= table["score"][k] / shares.sum(axis=0)
            shares *= table["factor"][k][:, None]
            np.matmul(shares.T, back[k], out=spare)
            pull = np.multiply(point, shares.sum(axis=0)[:, None], out=moved)
            x *= table["state"][k]
            x += spare
            x -= pull
            for m in added:
                x += np.multiply(noise[m], table["noise"][k, m], out=spare)

    def sample(seed: int) -> Array:
        out = np.empty((problem.particles, problem.target.dimension))
        seeds = np.random.SeedSequence(seed).spawn(count)
        generators = [np.random.Generator(np.random.PCG64(child)) for child in seeds]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(run, [out[i * size : (i + 1) * size] for i in range(count)], generators))
        return out

    return sample


def jax_sampler(problem: Problem, block: int) -> Sampler:
    """Compile one call: a scan over the steps, mapped over the blocks if there are several."""
    import jax
    import jax.numpy as jnp
    from jax import lax, random

    jax.config.update("jax_enable_x64", True)
    bounds, start_means, deviations = (jnp.asarray(part) for part in problem.start())
    table = {name: jnp.asarray(column) for name, column in problem.steps().items()}
    means = jnp.asarray(problem.target.means)
    staged, added = problem.used()
    count, size = problem.blocks(block)
    noises = problem.tableau.noise.shape[1]

    def step(x: Any, given: Any) -> tuple[Any, None]:
        key, row = given
        noise = random.normal(key, (noises, *x.shape))
        point = x
        for m in staged:
            point = point + row["stage_noise"][m] * noise[m]
        gaps = row["shrink"] * (point @ means.T) - 0.5 * (point * point).sum(axis=1, keepdims=True)
        shares = jax.nn.softmax(row["constant"] + row["factor"] * gaps, axis=1) * row["factor"]
        score = row["shrink"] * (shares @ means) - shares.sum(axis=1, keepdims=True) * point
        x = row["state"] * x + row["score"] * score
        for m in added:
            x = x + row["noise"][m] * noise[m]
        return x, None

    def run(key: Any) -> Any:
        label_key, normal_key, key = random.split(key, 3)
        labels = jnp.searchsorted(bounds, random.uniform(label_key, (size,)), side="right")
        x = random.normal(normal_key, (size, problem.target.dimension)) * deviations[labels, None] + start_means[labels]
        return lax.scan(step, x, (random.split(key, problem.tableau.steps), table))[0]

    @jax.jit
    def compiled(key: Any) -> Any:
        if count == 1:
            return run(key)
        return lax.map(run, random.split(key, count)).reshape(count * size, -1)[: problem.particles]

    return lambda seed: np.asarray(compiled(random.key(seed)).block_until_ready())


def torch_sampler(problem: Problem, block: int) -> Sampler:
    """Compile the step (or run it as it is, if this machine has no compiler for it) and run block after block."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    real = torch.float64
    bounds, start_means, deviations = (torch.tensor(part, dtype=real) for part in problem.start())
    columns = {name: torch.tensor(column, dtype=real) for name, column in problem.steps().items()}
    rows = [{name: column[k] for name, column in columns.items()} for k in range(problem.tableau.steps)]
    means = torch.tensor(problem.target.means, dtype=real)
    staged, added = problem.used()
    count, size = problem.blocks(block)
    noises = problem.tableau.noise.shape[1]

    def step(x: Any, row: Any) -> Any:
        # compiled, PyTorch draws float64 normals in float32, on all threads; that is less work than the others do
        noise = torch.randn((noises, *x.shape), dtype=real)
        point = x
        for m in staged:
            point = point + row["stage_noise"][m] * noise[m]
        gaps = row["shrink"] * (point @ means.T) - 0.5 * (point * point).sum(dim=1, keepdim=True)
        shares = torch.softmax(row["constant"] + row["factor"] * gaps, dim=1) * row["factor"]
        score = row["shrink"] * (shares @ means) - shares.sum(dim=1, keepdim=True) * point
        x = row["state"] * x + row["score"] * score
        for m in added:
            x = x + row["noise"][m] * noise[m]
        return x

    def start() -> Any:
        labels = torch.searchsorted(bounds, torch.rand(size, dtype=real), right=True)
        x = torch.randn((size, problem.target.dimension), dtype=real)
        return x * deviations[labels, None] + start_means[labels]

    # Every problem is a variant of one function to the compiler, which gives up at 8 by default.
    torch._dynamo.config.recompile_limit = 64
    advance: Any = torch.compile(step, dynamic=False)
    with torch.inference_mode():
        try:
            advance(start(), rows[0])
        except Exception:  # whatever the compiler lacks here
            advance = step

    def sample(seed: int) -> Array:
        torch.manual_seed(seed)
        done = []
        with torch.inference_mode():
            for _ in range(count):
                x = start()
                for row in rows:
                    x = advance(x, row)
                done.append(x)
            return torch.cat(done)[: problem.particles].numpy()

    return sample

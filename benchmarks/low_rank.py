"""Particles of mixtures with covariances of low rank plus a multiple of the identity, against the same as full ones.

The particle engine recognises such covariances and does 4cdr instead of 4cd² multiplications for a score. Times are of
the processor, the best of a few runs, both ways in one process.

Example: python benchmarks/low_rank.py
"""

import time

import numpy as np

import srkverify as sv
from srkverify.engines import cpu_memory

CASES = ((10, 64, 8), (100, 64, 8), (500, 64, 8), (10, 784, 20))  # components, dimension, rank
STEPS, REPEATS = 8, 3


def main() -> None:
    """Print a line for each case."""
    recognised = cpu_memory._own_directions
    print("components  dimension  rank   low rank   as full   ratio   (microseconds a particle and evaluation)")
    for components, dimension, rank in CASES:
        generator = np.random.default_rng(0)
        factors = generator.normal(size=(components, dimension, rank)) / np.sqrt(dimension)
        covariances = factors @ factors.swapaxes(1, 2) + 0.01 * np.eye(dimension)
        weights, means = np.full(components, 1.0 / components), generator.normal(size=(components, dimension))
        target = sv.GaussianMixture(weights, means, covariances)
        tableau = sv.schemes.ddpm(sv.schedules.exponential(horizon=5.0, early_stop=0.01, steps=STEPS))
        particles = max(64, int(2e9 / (components * dimension**2 * STEPS)))
        seconds = []
        try:
            for find in (recognised, lambda variances: (variances.shape[1], variances[:, 0])):
                cpu_memory._own_directions = find
                sv.sample(target, tableau, 64)
                seconds.append(min(_seconds(target, tableau, particles) for _ in range(REPEATS)))
        finally:
            cpu_memory._own_directions = recognised
        low, full = (1e6 * value / (particles * STEPS) for value in seconds)
        print(f"{components:10d} {dimension:10d} {rank:5d} {low:10.2f} {full:9.2f} {full / low:7.1f}", flush=True)


def _seconds(target: sv.GaussianMixture, tableau: sv.Tableau, particles: int) -> float:
    begin = time.process_time()
    sv.sample(target, tableau, particles, progress=False)
    return time.process_time() - begin


if __name__ == "__main__":
    main()

"""Random mixtures on a line: what a sampler was fitted to and, from other seeds, what samplers are tried on."""

from __future__ import annotations

import numpy as np

from srkverify._check import Array
from srkverify.targets import GaussianMixture

_FARTHEST = 10.0  # of neighbouring modes, in standard deviations: beyond, the exact KL of long memories is dear
_LIGHTEST = 0.02
_SMALL = 0.3  # every fourth law is that much smaller


def random_law(index: int, seed: int) -> GaussianMixture:
    """Return a mixture on a line, the ``index``-th of a seed.

    By turns: two modes at ±a, a uniform in [0.8, 3], of unequal weights and with deviations from 0.2 to 0.8; and twice
    two to four modes, weights Dirichlet(1, …), means uniform in [−2.5, 2.5], deviations from 0.12 to 0.9. Deviations
    are log-uniform.
    """
    generator = np.random.default_rng([seed, index])
    while True:
        weights, means, deviations = _two(generator) if index % 3 == 0 else _several(generator)
        order = np.argsort(means)
        gaps, widths = np.diff(means[order]), deviations[order]
        if weights.min() > _LIGHTEST and (2.0 * gaps <= _FARTHEST * (widths[1:] + widths[:-1])).all():
            scale = _SMALL if index % 4 == 3 else 1.0
            return GaussianMixture(weights, scale * means[:, None], (scale * deviations[:, None]) ** 2)


def _two(generator: np.random.Generator) -> tuple[Array, Array, Array]:
    weight, place = generator.uniform(0.04, 0.5), generator.uniform(0.8, 3.0)
    deviations = _deviations(generator, 0.2, 0.8, 2)
    return np.array([weight, 1.0 - weight]), np.array([-place, place]), deviations


def _several(generator: np.random.Generator) -> tuple[Array, Array, Array]:
    modes = int(generator.integers(2, 5))
    weights, means = generator.dirichlet(np.ones(modes)), generator.uniform(-2.5, 2.5, modes)
    return weights, means, _deviations(generator, 0.12, 0.9, modes)


def _deviations(generator: np.random.Generator, low: float, high: float, number: int) -> Array:
    return np.exp(generator.uniform(np.log(low), np.log(high), number))

"""Targets of the path study: a product that is known exactly, and random mixtures in general position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from srkverify.targets import GaussianMixture, Target
from srkverify.targets.families import product_mixture

TARGET_SEED = 2410_04760
SEPARATION = 3.0
VARIANCES = (0.1, 0.5)
CONCENTRATION = 3.0


@dataclass(frozen=True)
class PathFamily:
    """A target for every dimension, and what a path through its scores costs.

    Attributes
    ----------
    description : str
        One sentence.
    target : function of d
    dimensions : the dimensions that a run of minutes can afford.
    microseconds : function of d
        Processor time of a path and step, roughly: from it the number of paths of a cell is chosen.
    """

    description: str
    target: Callable[[int], Target]
    dimensions: tuple[int, ...]
    microseconds: Callable[[int], float]


def random_mixture(components: int, dimension: int, *, full: bool) -> GaussianMixture:
    """Return a mixture with unequal covariances, the same for the same arguments.

    Means are normal with a mean square distance of 9 between two of them in every dimension, weights Dirichlet(3, …),
    the variances of each component uniform in [0.1, 0.5], along the axes or, if ``full``, along a random orthonormal
    basis of its own. A higher dimension adds coordinates to those of a lower one, with the means then scaled.
    """
    generators = [
        np.random.default_rng(sequence)
        for sequence in np.random.SeedSequence([TARGET_SEED, components]).spawn(3 + full * components)
    ]
    weights = generators[0].dirichlet(np.full(components, CONCENTRATION))
    means = generators[1].standard_normal((dimension, components)).T * SEPARATION / np.sqrt(2.0 * dimension)
    variances = generators[2].uniform(*VARIANCES, (dimension, components)).T
    if not full:
        return GaussianMixture(weights, means, variances)
    bases = np.stack([np.linalg.qr(each.standard_normal((dimension, dimension)))[0] for each in generators[3:]])
    return GaussianMixture(weights, means, np.einsum("cij,cj,ckj->cik", bases, variances, bases))


def _random(components: int, full: bool, dimensions: tuple[int, ...]) -> PathFamily:
    kind = "full" if full else "diagonal"

    def microseconds(dimension: int) -> float:
        diagonal = 0.15 + 0.13 * components + (0.042 + 0.0015 * components) * dimension
        return diagonal + full * 0.0008 * components * dimension**2

    return PathFamily(
        f"{components} components, unequal {kind} covariances",
        partial(random_mixture, components, full=full),
        dimensions,
        microseconds,
    )


FAMILIES: dict[str, PathFamily] = {
    "product_mixture": PathFamily(
        "d copies of a two-component mixture on the line, of which one is simulated for all",
        product_mixture,
        (4, 16, 64, 256),
        lambda dimension: 0.35,
    ),
    "diagonal_2": _random(2, False, (4, 16, 64, 256)),
    "diagonal_10": _random(10, False, (4, 16, 64)),
    "diagonal_50": _random(50, False, (4, 16)),
    "full_2": _random(2, True, (4, 16, 64)),
    "full_10": _random(10, True, (4, 16, 32)),
    "full_50": _random(50, True, (4, 16)),
}

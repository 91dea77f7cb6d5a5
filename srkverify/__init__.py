"""srkverify: exact KL of SDE diffusion samplers, and their particles.

Data goes one way: target + times → tableau → engine → samples or divergence.
"""

from srkverify import brownian, distances, perturbed, schedules, schemes
from srkverify.divergence import (
    Divergence,
    PathBound,
    PathDivergence,
    ScoreErrors,
    UnreliableEstimateWarning,
    effective_variances,
    kl,
    score_errors,
    start_kl,
    tv,
)
from srkverify.sampling import sample, sample_blocks
from srkverify.score import Score
from srkverify.tableau import Row, Tableau, assemble
from srkverify.targets import GaussianMixture, Product

__all__ = [
    "Divergence",
    "GaussianMixture",
    "PathBound",
    "PathDivergence",
    "Product",
    "Row",
    "Score",
    "ScoreErrors",
    "Tableau",
    "UnreliableEstimateWarning",
    "assemble",
    "brownian",
    "distances",
    "effective_variances",
    "kl",
    "perturbed",
    "sample",
    "sample_blocks",
    "schedules",
    "schemes",
    "score_errors",
    "start_kl",
    "tv",
]
__version__ = "0.1.0"

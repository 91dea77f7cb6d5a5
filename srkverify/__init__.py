"""srkverify: exact KL of SDE diffusion samplers.

Data goes one way: target + times → tableau → engine → divergence.
"""

from srkverify import schedules, schemes
from srkverify.divergence import Divergence, kl, tv
from srkverify.tableau import Row, Tableau, assemble
from srkverify.targets import GaussianMixture, Product

__all__ = [
    "Divergence",
    "GaussianMixture",
    "Product",
    "Row",
    "Tableau",
    "assemble",
    "kl",
    "schedules",
    "schemes",
    "tv",
]
__version__ = "0.1.0"

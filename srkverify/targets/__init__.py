"""What is sampled: Gaussian mixtures and products of them, with exact densities, scores and samples."""

from typing import TypeAlias

from srkverify.targets.mixture import GaussianMixture
from srkverify.targets.product import Product

Target: TypeAlias = GaussianMixture | Product

__all__ = ["GaussianMixture", "Product", "Target"]

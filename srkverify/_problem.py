"""The check that all front doors share: a target, a tableau and a start are what they should be."""

from __future__ import annotations

from srkverify import _check
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture, Product

STARTS = ("exact", "normal")


def check_problem(target: object, tableau: object, start: object) -> None:
    """Raise ``ValueError`` unless all three are what their names say."""
    if not isinstance(target, (GaussianMixture, Product)):
        raise ValueError(f"target must be a GaussianMixture or a Product; got {type(target).__name__}")
    if not isinstance(tableau, Tableau):
        raise ValueError(f"tableau must be a Tableau (see srkverify.schemes); got {type(tableau).__name__}")
    _check.choice("start", start, STARTS)

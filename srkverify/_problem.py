"""The check that all front doors share: a target, a tableau and a start are what they should be."""

from __future__ import annotations

from srkverify import _check
from srkverify.score import Score
from srkverify.tableau import Drawn, Tableau
from srkverify.targets import GaussianMixture, Product

STARTS = ("exact", "normal")


def check_problem(target: object, tableau: object, start: object, drawn: bool = False, scores: bool = False) -> None:
    """Raise ``ValueError`` unless all three are what their names say.

    ``drawn``: a Drawn will do for a tableau. ``scores``: a Score will do for a target.
    """
    if not isinstance(target, (GaussianMixture, Product)) and not (scores and isinstance(target, Score)):
        kinds = "a GaussianMixture, a Product or a Score" if scores else "a GaussianMixture or a Product"
        raise ValueError(f"target must be {kinds}; got {type(target).__name__}")
    if isinstance(tableau, Drawn) and not drawn:
        raise ValueError(f"tableau must be a Tableau here, not one that is drawn; got {tableau.name}")
    if not isinstance(tableau, (Tableau, Drawn)):
        raise ValueError(f"tableau must be a Tableau (see srkverify.schemes); got {type(tableau).__name__}")
    _check.choice("start", start, STARTS)

"""Rows of a tableau as linear forms, so that a published formula can be written down as it is printed.

Samplers are published as nested formulas in the denoiser or the predicted noise of a point that is itself a formula.
All of them are linear in the state Y, this step's scores S_j and noises ξ_m and the remembered evaluations (u_p, s_p):
a :class:`Form` holds the coefficients, and forms add, scale and end up as a :class:`~srkverify.tableau.Row`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from srkverify._check import Array
from srkverify.tableau import Row


@dataclass(frozen=True)
class Form:
    """A linear form; ``terms`` has the coefficient, a number or (K,), of each (kind, index)."""

    terms: Mapping[tuple[str, int], ArrayLike]
    __array_ufunc__ = None  # (K,) array times form is a form, not an array of forms

    def __add__(self, other: Form) -> Form:
        keys = dict.fromkeys([*self.terms, *other.terms])
        return Form({key: np.add(self.terms.get(key, 0.0), other.terms.get(key, 0.0)) for key in keys})

    def __sub__(self, other: Form) -> Form:
        return self + (-1.0) * other

    def __mul__(self, factor: ArrayLike) -> Form:
        return Form({key: np.multiply(value, factor) for key, value in self.terms.items()})

    __rmul__ = __mul__

    def row(self, time: ArrayLike = 1.0, evaluated: ArrayLike = True) -> Row:
        """Return the row with these coefficients; ``time`` and ``evaluated`` as in Row."""

        def column(kind: str) -> list[ArrayLike]:
            indices = [index for name, index in self.terms if name == kind]
            return [self.terms.get((kind, index), 0.0) for index in range(max(indices, default=-1) + 1)]

        return Row(
            state=self.terms.get(("state", 0), 0.0),
            scores=column("score"),
            noise=column("noise"),
            past_points=column("past_point"),
            past_scores=column("past_score"),
            time=time,
            evaluated=evaluated,
        )


STATE = Form({("state", 0): 1.0})


def score(stage: int) -> Form:
    """S_j of this step's stage j."""
    return Form({("score", stage): 1.0})


def noise(index: int) -> Form:
    """ξ_m of this step."""
    return Form({("noise", index): 1.0})


def past_point(index: int) -> Form:
    """u_p, the point of the p-th latest evaluation of earlier steps."""
    return Form({("past_point", index): 1.0})


def past_score(index: int) -> Form:
    """s_p, the score of the p-th latest evaluation of earlier steps."""
    return Form({("past_score", index): 1.0})


def denoiser(point: Form, score: Form, time: ArrayLike) -> Form:
    """D = (u + σ_t² s)/e^{−t}, the mean of X_0 given X_t = u."""
    return np.exp(time) * point + 2.0 * np.sinh(time) * score


def past_denoiser(index: int, time: ArrayLike) -> Form:
    """D of the p-th latest evaluation of earlier steps, which was made at ``time``."""
    return denoiser(past_point(index), past_score(index), time)


def chosen(where: Array, one: Form, other: Form) -> Form:
    """Return the form that is ``one`` in the steps of the mask ``where`` (K,) and ``other`` in the rest."""
    return np.where(where, 1.0, 0.0) * one + np.where(where, 0.0, 1.0) * other


def denoiser_change(stray: Form, stage: int, time: ArrayLike, h: ArrayLike) -> Form:
    """D of stage ``stage`` less that of stage 0, where the point is e^h Y + 2 sinh(h) S_0 + ``stray``; Y drops out."""
    return np.exp(time) * stray + 2.0 * np.sinh(time) * (score(stage) - np.exp(np.negative(h)) * score(0))

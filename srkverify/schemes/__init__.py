"""Samplers as functions from a time grid to a :class:`~srkverify.tableau.Tableau`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from srkverify import _check
from srkverify.schemes.ddpm import DDPM_VARIANCES, ddpm, euler_maruyama, exponential_euler
from srkverify.schemes.dpm_solver import dpmpp_2m_sde
from srkverify.schemes.srk import srk, srk_martingale
from srkverify.schemes.third_point import srk_third_point
from srkverify.tableau import Tableau

__all__ = [
    "DDPM_VARIANCES",
    "SCHEMES",
    "ddpm",
    "dpmpp_2m_sde",
    "euler_maruyama",
    "exponential_euler",
    "scheme",
    "srk",
    "srk_martingale",
    "srk_third_point",
]

SCHEMES: dict[str, Callable[..., Tableau]] = {
    "euler_maruyama": euler_maruyama,
    "exponential_euler": exponential_euler,
    "ddpm": ddpm,
    "ddpm_beta": partial(ddpm, variance="beta"),
    "ddpm_posterior": partial(ddpm, variance="posterior"),
    "srk": srk,
    "srk_martingale": srk_martingale,
    "srk_third_point": srk_third_point,
    "srk_third_point_1": partial(srk_third_point, evaluations=1),
    "dpmpp_2m_sde": dpmpp_2m_sde,
}


def scheme(name: str) -> Callable[..., Tableau]:
    """Return the scheme called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest name.
    """
    return SCHEMES[_check.choice("scheme", name, SCHEMES)]

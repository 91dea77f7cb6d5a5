"""Samplers as functions from a time grid to a :class:`~srkverify.tableau.Tableau`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from srkverify import _check
from srkverify.schemes.accelerated import li_accelerated
from srkverify.schemes.adapted import srk_adapted, srk_third_point_adapted
from srkverify.schemes.ddim import ddim
from srkverify.schemes.ddpm import DDPM_VARIANCES, analytic_ddpm, ddpm, euler_maruyama, exponential_euler
from srkverify.schemes.dpm_solver import dpmpp_2m_sde, dpmpp_2s_sde, dpmpp_3m_sde
from srkverify.schemes.er_sde import er_sde
from srkverify.schemes.heun import edm_heun, stochastic_heun
from srkverify.schemes.higher_order import higher_order
from srkverify.schemes.order_conditions import weak_order
from srkverify.schemes.randomised import ddram, randomised_midpoint
from srkverify.schemes.sa_solver import sa_solver
from srkverify.schemes.seeds import seeds
from srkverify.schemes.srk import srk, srk_martingale
from srkverify.schemes.third_order import srk_third_order, srk_third_order_fitted, srk_third_order_informed
from srkverify.schemes.third_point import srk_third_point
from srkverify.tableau import Drawn, Tableau

__all__ = [
    "COMPARED",
    "DDPM_VARIANCES",
    "DRAWN",
    "INFORMED",
    "SCHEMES",
    "analytic_ddpm",
    "ddim",
    "ddpm",
    "ddram",
    "dpmpp_2m_sde",
    "dpmpp_2s_sde",
    "dpmpp_3m_sde",
    "edm_heun",
    "er_sde",
    "euler_maruyama",
    "exponential_euler",
    "higher_order",
    "li_accelerated",
    "randomised_midpoint",
    "sa_solver",
    "scheme",
    "seeds",
    "srk",
    "srk_adapted",
    "srk_martingale",
    "srk_third_order",
    "srk_third_order_fitted",
    "srk_third_order_informed",
    "srk_third_point",
    "srk_third_point_adapted",
    "stochastic_heun",
    "weak_order",
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
    "srk_adapted": srk_adapted,
    "srk_third_point_adapted": srk_third_point_adapted,
    "srk_third_order": srk_third_order,
    "srk_third_order_fitted": srk_third_order_fitted,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "sa_p1": partial(sa_solver, predictor=1),
    "sa_p2": sa_solver,
    "sa_p3": partial(sa_solver, predictor=3),
    "sa_p1c1": partial(sa_solver, predictor=1, corrector=1),
    "sa_p1c2": partial(sa_solver, predictor=1, corrector=2),
    "sa_p2c2": partial(sa_solver, predictor=2, corrector=2),
    "sa_p3c3": partial(sa_solver, predictor=3, corrector=3),
    "er_sde_1": partial(er_sde, order=1),
    "er_sde_2": er_sde,
    "er_sde_3": partial(er_sde, order=3),
    "seeds_1": partial(seeds, stages=1),
    "seeds_2": seeds,
    "seeds_3": partial(seeds, stages=3),
    "seeds_2_noise": partial(seeds, prediction="noise"),
    "dpmpp_2s_sde": dpmpp_2s_sde,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "ddim": ddim,
    "ddim_eta0": partial(ddim, eta=0.0),
    "li_accelerated": li_accelerated,
    "stochastic_heun": stochastic_heun,
    "edm_heun": edm_heun,
    "edm_euler": partial(edm_heun, stages=1),
    "higher_order_2": higher_order,
    "higher_order_3": partial(higher_order, order=3),
}

# The paper's scheme, those it is made from, and its nearest rivals: what a study compares unless told otherwise.
COMPARED = (
    "euler_maruyama",
    "exponential_euler",
    "ddpm",
    "ddpm_beta",
    "ddpm_posterior",
    "srk",
    "srk_martingale",
    "srk_third_point",
    "srk_third_point_1",
    "dpmpp_2m_sde",
)

# Samplers that draw a tableau in each step.
DRAWN: dict[str, Callable[..., Drawn]] = {
    "randomised_midpoint": randomised_midpoint,
    "ddram": ddram,
}

# Samplers that are told the data's effective variances: functions of times and variances.
INFORMED: dict[str, Callable[..., Tableau]] = {
    "analytic_ddpm": analytic_ddpm,
    "srk_third_order_informed": srk_third_order_informed,
}


def scheme(name: str) -> Callable[..., Tableau]:
    """Return the scheme called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest name.
    """
    return SCHEMES[_check.choice("scheme", name, SCHEMES)]

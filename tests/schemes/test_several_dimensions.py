"""Orders in more than one dimension: there derivatives contract in ways that a line cannot tell apart."""

import numpy as np
import pytest
import waves

import srkverify as sv
from srkverify.schemes import SCHEMES
from srkverify.tableau import Row, assemble

PAIR = [[1.0, 0.0], [0.3, 0.8]]
TRIPLE = [[1.0, 0.0], [0.3, 0.8], [-0.6, 0.5]]
SPACE = [[1.0, 0.0, 0.0], [0.3, 0.8, 0.0], [-0.6, 0.1, 0.5]]
# Of all schemes that keep a flat law (Euler–Maruyama and Heun do not) but EDM's, whose churn needs a thousand steps.
ORDERS = {
    **dict.fromkeys(("exponential_euler", "ddpm", "ddpm_beta", "ddpm_posterior", "srk", "srk_martingale"), 1),
    **dict.fromkeys(
        ("srk_adapted", "sa_p1", "sa_p1c1", "er_sde_1", "seeds_1", "ddim", "ddim_eta0", "li_accelerated"), 1
    ),
    **dict.fromkeys(("srk_third_point", "srk_third_point_1", "srk_third_point_adapted", "dpmpp_2m_sde"), 2),
    **dict.fromkeys(("dpmpp_2s_sde", "dpmpp_3m_sde", "er_sde_2", "er_sde_3", "seeds_2", "seeds_2_noise", "seeds_3"), 2),
    **dict.fromkeys(("sa_p2", "sa_p3", "sa_p1c2", "sa_p2c2", "sa_p3c3", "higher_order_2"), 2),
    **dict.fromkeys(("srk_third_order", "srk_third_order_fitted", "higher_order_3"), 3),
}


def window(steps):
    """e^{2t} − 1 from 2 to 1."""
    return 0.5 * np.log1p(np.geomspace(2.0, 1.0, steps + 1))


def order(scheme, law, steps):
    few, many = (waves.error(scheme(window(count)), law) for count in steps)
    return np.log2(few / many)


@pytest.mark.parametrize("name", ORDERS)
def test_two_waves_that_cross(name):
    """All that is bilinear, Δm ∇m and ∇∇m : ∇m apart, is of the order that one dimension has."""
    assert order(SCHEMES[name], PAIR, (12, 24)) == pytest.approx(ORDERS[name], abs=0.35)


@pytest.mark.parametrize("law", [TRIPLE, SPACE], ids=["plane", "space"])
@pytest.mark.parametrize("name", ["srk_third_order", "srk_third_order_fitted", "dpmpp_2m_sde"])
def test_three_waves(name, law):
    assert order(SCHEMES[name], law, (10, 20)) == pytest.approx(ORDERS[name], abs=0.2)


def test_it_agrees_with_integrals_over_start_and_noises():
    """Three steps of a multistep method and two of SRK: Gauss and Hermite's rule, and a difference quotient in α.

    Waves in one dimension of wave numbers 1 and ½, with complex scores and points.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(14)
    weights = weights / weights.sum()
    law = np.array([1.0, 0.5])

    def average(tableau, amplitudes):
        def density(z, tau, derivative):
            parts = [a * np.exp(1j * p * z - 0.5 * p**2 * tau) for a, p in zip(amplitudes, law, strict=True)]
            return sum(part * (1j * p) ** derivative for part, p in zip(parts, law, strict=True)) + (derivative == 0)

        def score(point, time):
            z, tau = np.exp(time) * point, np.expm1(2.0 * time)
            return np.exp(time) * density(z, tau, 1) / density(z, tau, 0)

        count = tableau.noise.size  # of noises in all, each with its axis after that of the start
        start = np.linspace(0.0, 4.0 * np.pi, 24, endpoint=False).reshape(-1, *(1,) * count)
        noises = [nodes.reshape(-1, *(1,) * (count - 1 - i)) for i in range(count)]
        state, past = np.exp(-tableau.times[0]) * start, []
        for k in range(tableau.steps):
            width = tableau.noise.shape[1]
            made = sv.engines.callable.step(tableau, k, score, state, noises[k * width : (k + 1) * width], past)
            state, past = made.state, sv.engines.callable.remembered(made, past, tableau.memory)
        value = density(start, np.expm1(2.0 * tableau.times[0]), 0) * np.exp(-1.5j * np.exp(tableau.times[-1]) * state)
        for _ in range(count):
            value = value @ weights
        return value.mean()

    for name, steps in (("dpmpp_2m_sde", 3), ("srk", 2)):
        tableau, a = SCHEMES[name](window(steps)), 1e-3
        signs = [(s, r) for s in (1, -1) for r in (1, -1)]
        expected = sum(s * r * average(tableau, (s * a, r * a)) for s, r in signs) / (4.0 * a**2)
        assert waves.error(tableau, law[:, None]) == pytest.approx(abs(expected), rel=1e-4)


def test_what_is_wrong_is_seen():
    """The third point without its stage noise loses an order; a sampler that does not keep a flat law is refused."""
    bare = SCHEMES["srk_third_point"](window(12)).without_stage_noise()
    assert waves.error(bare, PAIR) > 3.0 * waves.error(SCHEMES["srk_third_point"](window(12)), PAIR)
    tilted = assemble("tilted", window(2), [Row(state=1.0, time=window(2)[:-1])], Row(state=1.0, noise=[0.1]))
    with pytest.raises(AssertionError):  # it does not keep a flat law
        waves.error(tilted, PAIR)

"""Samplers that are told the data's effective variances: exact on isotropic Gaussians, and of their order anyway."""

import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes import INFORMED, analytic_ddpm, ddpm, srk_third_order_informed
from srkverify.schemes._third_order import TERMS, Freedoms, with_freedoms
from srkverify.schemes.order_conditions import order_conditions

PAIR = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
FINE = orders.log_snr_grid(16384)


def told(times):
    return sv.effective_variances(PAIR, times)


def order(tableau):
    """On general laws, of 64 of its steps."""
    return order_conditions(tableau, samples=64).order


@pytest.mark.parametrize("variance", [0.0, 0.25, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("name", INFORMED)
def test_isotropic_gaussians_are_without_error(name, steps, variance):
    target = sv.GaussianMixture([1.0], [[0.7, -0.4]], variance)
    tableau = INFORMED[name](orders.log_snr_grid(steps), variance)
    assert sv.kl(target, tableau).value < 1e-14


@pytest.mark.parametrize("name", INFORMED)
def test_what_is_told_may_be_a_number_an_array_or_a_function(name):
    times = orders.log_snr_grid(6)
    number, array, function = (INFORMED[name](times, each) for each in (0.5, np.full(7, 0.5), lambda t: 0.0 * t + 0.5))
    for other in (array, function):
        np.testing.assert_array_equal(number.scores, other.scores)
        np.testing.assert_array_equal(number.noise, other.noise)


@pytest.mark.parametrize("name", INFORMED)
@pytest.mark.parametrize(
    ("value", "message"),
    [(-0.1, "variances must be >= 0; got -0.1"), (np.nan, "variances must be finite"), ([1.0, 2.0], r"shape \(7,\)")],
)
def test_bad_variances(name, value, message):
    with pytest.raises(ValueError, match=message):
        INFORMED[name](orders.log_snr_grid(6), value)


@pytest.mark.parametrize("h", [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0])
@pytest.mark.parametrize("variance", [0.0, 0.3, 2.0])
def test_coefficients_are_the_papers(h, variance):
    times = h * np.arange(3.0, 0.0, -1.0)
    published.check(published.analytic_ddpm, analytic_ddpm(times, variance), variance=variance)


def test_data_without_variance_have_the_posterior_variance():
    times = orders.log_snr_grid(6)
    np.testing.assert_allclose(analytic_ddpm(times, 0.0).noise, ddpm(times, "posterior").noise, rtol=1e-14)


def test_analytic_ddpm_is_of_order_1():
    assert order(analytic_ddpm(FINE, told)) == 1
    assert orders.kl_slope(lambda times: analytic_ddpm(times, 1.0)) == pytest.approx(-2.0, abs=0.15)


@pytest.mark.parametrize("variances", [0.25, 2.0, told, lambda times: 0.1 + np.square(times)])
def test_order_3_whatever_is_told(variances):
    assert order(srk_third_order_informed(FINE, variances)) == 3
    slope = orders.kl_slope(lambda times: srk_third_order_informed(times, variances), steps=(800, 1600))
    assert slope == pytest.approx(-6.0, abs=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_no_freedom_costs_the_order(seed):
    """Order 2 would be −4. Steeper than −6 is one whose error is about to change its sign."""
    generator = np.random.default_rng(seed)
    names = [*TERMS, *(f"{term}_early" for term in TERMS)]
    chosen = Freedoms(**{name: generator.uniform(-1.0, 1.0) for name in names})
    assert orders.kl_slope(lambda times: with_freedoms(times, chosen, variances=told), steps=(400, 800)) < -5.75


def test_what_rises_counts_as_constant():
    """A loss that was measured with errors may say that λ rises."""
    times = orders.log_snr_grid(8)
    rising = np.linspace(0.2, 0.3, 9)
    assert np.isfinite(srk_third_order_informed(times, rising).scores).all()
    law = sv.GaussianMixture([1.0], [[0.0]], 0.25)
    assert sv.kl(law, srk_third_order_informed(times, rising)).value < sv.kl(law, sv.schemes.dpmpp_2m_sde(times)).value

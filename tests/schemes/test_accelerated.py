import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.accelerated import FINAL_NOISES, li_accelerated

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
TIMES = sv.schedules.exponential(6.0, 0.01, 20)


@pytest.mark.parametrize("final_noise", FINAL_NOISES)
@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_are_the_published(h, final_noise):
    tableau = li_accelerated(h * np.arange(3.0, 0.0, -1.0), final_noise)
    published.check(published.li_accelerated, tableau, final_noise=final_noise)


@pytest.mark.parametrize(("final_noise", "expected"), [("scaled", -4), ("plain", -2)])
def test_kl_falls_with_the_stated_order(final_noise, expected):
    slope = orders.kl_slope(lambda times: li_accelerated(times, final_noise))
    assert slope == pytest.approx(expected, abs=0.15 * -expected / 2)


def test_variances_are_those_of_an_independent_recursion():
    # Computed once outside this project's engines, for the uniform grid in log-SNR, T = 2, δ = 0.05, variance 0.25.
    assert orders.printed(orders.variance_errors(li_accelerated)) == ["1.4e-02", "8.8e-04", "5.5e-05"]


def test_without_stage_noise_the_mean_is_ddpms():
    reduced, ddpm = li_accelerated(TIMES).without_stage_noise(), sv.schemes.ddpm(TIMES)
    np.testing.assert_array_equal(reduced.scores, ddpm.scores)
    np.testing.assert_allclose(np.square(reduced.noise).sum(axis=1), np.square(ddpm.noise[:, 0]), rtol=1e-14)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="final_noise must be one of scaled, plain"):
        li_accelerated(TIMES, "outside")

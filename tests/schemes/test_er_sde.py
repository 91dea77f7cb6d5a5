import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.er_sde import NOISE_SCALES, er_sde

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]


@pytest.mark.parametrize("noise_scale", NOISE_SCALES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_coefficients_are_the_papers_integrals(order, noise_scale):
    for h in LENGTHS:
        tableau = er_sde(h * np.arange(5.0, 0.0, -1.0), order, noise_scale)
        published.check(published.er_sde, tableau, order=order, noise_scale=noise_scale)


@pytest.mark.parametrize("noise_scale", ["default", "reverse"])
@pytest.mark.parametrize(("order", "expected"), [(1, -2), (2, -4), (3, -4)])
def test_kl_falls_with_the_stated_order(order, noise_scale, expected):
    slope = orders.kl_slope(lambda times: er_sde(times, order, noise_scale))
    assert slope == pytest.approx(expected, abs=0.15 * -expected / 2)


@pytest.mark.parametrize(
    ("order", "expected"),
    [(2, ["-4.7e-03", "-2.9e-04", "-1.8e-05"]), (3, ["-3.2e-03", "-1.8e-04", "-1.1e-05"])],
)
def test_variances_are_those_of_an_independent_recursion(order, expected):
    # Computed once outside this project's engines, for the uniform grid in log-SNR, T = 2, δ = 0.05, variance 0.25.
    assert orders.printed(orders.variance_errors(lambda times: er_sde(times, order))) == expected


def test_order_1_of_the_reverse_sde_is_ddpm_with_posterior_variance():
    times = sv.schedules.exponential(6.0, 0.01, 20)
    one, other = er_sde(times, 1, "reverse"), sv.schemes.ddpm(times, variance="posterior")
    for field in ("state", "scores", "noise"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-13)


def test_the_integral_for_the_reverse_sde_is_closed_form():
    # φ = v²: e^{−t} (v_t − v_s + v_t² ∫ du/u²) = −e^{−t} (v_s − v_t)²/v_s, times (D_0 − D_1)/(v_s − v_{s,1}).
    times = np.array([2.0, 1.2, 0.5])
    v = np.sqrt(np.expm1(2 * times))
    extrapolation = np.exp(-times[2]) * (v[1] - v[2]) ** 2 / (v[1] * (v[0] - v[1]))
    weight = er_sde(times, 2, "reverse").past_points[1, 0]
    assert weight == pytest.approx(-extrapolation * np.exp(times[0]), rel=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, "order must be an integer >= 1 and < 4; got 4"),
        ({"noise_scale": "revers"}, "noise_scale must be one of .*did you mean 'reverse'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        er_sde([2.0, 1.0], **options)

import numpy as np
import pytest
from scipy import stats

import srkverify as sv
from srkverify.divergence.exact import error_of_finest
from srkverify.engines import gaussian
from srkverify.engines.quadrature import COARSE, LEVELS
from srkverify.schemes import COMPARED, SCHEMES

MIXTURE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)

# Reference values: mixture (0.4, 0.6), ±1.5, variance 0.25; T = 6, δ = 0.01, exponential grid, exact start.
TABLE = {
    "euler_maruyama": ("7.012e-03", "1.911e-03", "4.997e-04"),
    # Brute force with a dense transition matrix on 6001 points gives 7.1301629e-03 for the first of these.
    "exponential_euler": ("7.130e-03", "1.881e-03", "4.845e-04"),
    "ddpm": ("1.318e-02", "3.345e-03", "8.455e-04"),
    "ddpm_posterior": ("9.421e-03", "2.247e-03", "5.484e-04"),
    "srk": ("4.790e-03", "1.164e-03", "2.858e-04"),
    "srk_martingale": ("1.135e-03", "2.545e-04", "5.984e-05"),
    "srk_third_point": ("3.965e-05", "2.740e-06", "1.825e-07"),
}
# The state of these is two-dimensional; their reference values are good to about 4 digits.
TABLE_OF_HISTORY = {
    "srk_third_point_1_plain": (2.081e-4, 1.614e-5, 1.142e-6),
    "srk_third_point_1": (2.694e-5, 2.096e-6, 1.550e-7),
    "dpmpp_2m_sde": (1.248e-5, 8.579e-7, 5.863e-8),
}
STEPS = (32, 64, 128)


def tableau(name, steps, stop=0.01):
    times = sv.schedules.exponential(6.0, stop, steps)
    if name == "srk_third_point_1_plain":
        return sv.schemes.srk_third_point(times, evaluations=1, guess="plain")
    return SCHEMES[name](times)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_reference_values_to_its_printed_digits(name):
    for steps, expected in zip(STEPS, TABLE[name], strict=True):
        result = sv.kl(MIXTURE, tableau(name, steps))
        assert f"{result.value:.3e}" == expected
        assert result.error <= max(1e-10, 1e-6 * result.value)
        assert result.method == "quadrature"


@pytest.mark.parametrize("name", TABLE_OF_HISTORY)
def test_the_table_of_multistep_schemes(name):
    for steps, expected in zip(STEPS, TABLE_OF_HISTORY[name], strict=True):
        result = sv.kl(MIXTURE, tableau(name, steps))
        assert result.value == pytest.approx(expected, rel=5e-4)
        assert result.error <= max(1e-10, 1e-6 * result.value)


@pytest.mark.parametrize(
    ("law", "levels", "gain"),
    [
        (lambda density: 1e3 * np.exp(-2.0 * np.pi**2 * density**2), COARSE + LEVELS[:2], 0.1),  # Gaussians' aliasing
        (lambda density: -3.0 * np.exp(-1.2 * np.pi**2 * density**2), COARSE, 0.2),  # slower, and from below
        (lambda density: density**-6.0, LEVELS, 1.0),  # splines
    ],
)
def test_the_error_of_the_finest_level_covers_it_and_knows_how_fast_a_rule_converges(law, levels, gain):
    values = [1.0 + law(level.density) for level in levels]
    for count in range(2, len(levels) + 1):
        error = error_of_finest(values[:count], levels)
        assert abs(values[count - 1] - 1.0) <= error
    second_order = 3.0 * abs(values[-1] - values[-2]) / ((levels[-1].density / levels[-2].density) ** 2 - 1.0)
    assert error < gain * second_order


def test_values_that_approach_no_limit_get_the_larger_error():
    assert error_of_finest([1.0, 1.1, 1.2], LEVELS) == error_of_finest([1.1, 1.2], LEVELS[1:])
    assert error_of_finest([1.0, 1.0, 1.2], LEVELS) == error_of_finest([1.0, 1.2], LEVELS[1:])


# Claimed order p of KL ~ K^{−p}, on mixtures and on Gaussians.
ORDERS = {
    "euler_maruyama": (2, 2),
    "exponential_euler": (2, 2),
    "ddpm": (2, 2),
    "ddpm_beta": (2, 2),
    "ddpm_posterior": (2, 2),
    "srk": (2, 2),
    "srk_martingale": (2, 4),
    "srk_third_point": (4, 6),
    "srk_third_point_1": (4, 4),
    "dpmpp_2m_sde": (4, 4),
}


@pytest.mark.parametrize("name", COMPARED)
def test_measured_orders(name):
    # Between 128 and 256 steps the next term of KL = C K^{−p}(1 + c/K + …) moves the slope by less than 0.15.
    pair = (128, 256)
    for target, order in zip((MIXTURE, sv.GaussianMixture([1.0], [[1.0]], 0.25)), ORDERS[name], strict=True):
        coarse, fine = (sv.kl(target, tableau(name, steps, stop=0.05)).value for steps in pair)
        slack = 0.4 if name == "dpmpp_2m_sde" else 0.15
        assert np.log2(coarse / fine) == pytest.approx(order, abs=slack)


def test_tv_of_a_gaussian_is_that_of_two_normal_laws():
    table = tableau("ddpm", 24)
    target = sv.GaussianMixture([1.0], [[1.0]], 0.25)
    result = sv.tv(target, table, start="normal")
    law = gaussian.deviations(table, np.array([0.25]), "normal")
    truth = 0.25 * np.exp(-0.02) - np.expm1(-0.02)
    p = stats.norm(np.exp(-0.01) + law.mean[0], np.sqrt(truth * (1 + law.variance[0])))
    q = stats.norm(np.exp(-0.01), np.sqrt(truth))
    # The densities cross at two points; between them the probabilities differ by TV.
    a = 0.5 / truth - 0.5 / p.var()
    b = p.mean() / p.var() - q.mean() / truth
    c = 0.5 * (q.mean() ** 2 / truth - p.mean() ** 2 / p.var()) + np.log(q.std() / p.std())
    left, right = sorted(np.roots([a, b, c]))
    expected = abs((p.cdf(right) - p.cdf(left)) - (q.cdf(right) - q.cdf(left)))
    assert result.value == pytest.approx(expected, abs=1e-8)
    assert abs(result.value - expected) <= result.error


@pytest.mark.parametrize("name", ["ddpm", "srk", "srk_third_point"])
def test_tv_respects_pinsker_and_reports_its_error(name):
    for steps in (8, 64):
        distance, divergence = sv.tv(MIXTURE, tableau(name, steps)), sv.kl(MIXTURE, tableau(name, steps))
        assert 0 < distance.value <= np.sqrt(divergence.value / 2)
        assert distance.error <= 1e-5 * distance.value


def test_normal_start_adds_the_initialisation_error():
    # It decays as e^{−2T}: at T = 2 it dominates a fine scheme, at T = 12 it is gone.
    for horizon, factor in ((2.0, 2.0), (12.0, 1 + 1e-6)):
        table = sv.schemes.srk_third_point(sv.schedules.exponential(horizon, 0.05, 100))
        ratio = sv.kl(MIXTURE, table, start="normal").value / sv.kl(MIXTURE, table).value
        assert (ratio > factor) if horizon == 2.0 else (1 / factor < ratio < factor)


def test_kl_of_a_product_is_the_sum_over_its_factors():
    table = tableau("srk", 32)
    many = sv.kl(sv.Product([MIXTURE], [1000]), table)
    one = sv.kl(MIXTURE, table)
    assert many.value == pytest.approx(1000 * one.value, rel=1e-7)
    assert many.error <= max(1e-10, 1e-6 * many.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 3}, "target must be a GaussianMixture or a Product; got int"),
        ({"tableau": "srk"}, r"tableau must be a Tableau .*; got str"),
        ({"method": "monte carlo"}, "method must be one of exact, path; got 'monte carlo'"),
        ({"start": "Normal"}, "start must be one of exact, normal; got 'Normal'; did you mean 'normal'"),
        ({"absolute": -1.0}, "absolute must be a finite number and >= 0"),
        ({"relative": np.nan}, "relative must be a finite number"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sv.kl(**{"target": MIXTURE, "tableau": tableau("ddpm", 4), **arguments})

import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.heun import edm_heun, stochastic_heun

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
TIMES = sv.schedules.exponential(6.0, 0.01, 20)


@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_the_sde_form_are_the_published(h):
    published.check(published.stochastic_heun, stochastic_heun(h * np.arange(3.0, 0.0, -1.0)))


@pytest.mark.parametrize(
    "options",
    [
        {"churn": 0.5},
        {"churn": 0.0},
        {"churn": 40.0, "lowest": 0.05, "highest": 2.0, "noise_factor": 1.003},
        {"churn": 2.0, "stages": 1},
    ],
)
@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_edm_are_the_papers(h, options):
    published.check(published.edm_heun, edm_heun(h * np.arange(5.0, 0.0, -1.0), **options), **options)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (stochastic_heun, -4),
        (edm_heun, -4),
        (lambda times: edm_heun(times, churn=0.0), -4),
        (lambda times: edm_heun(times, stages=1), -2),
    ],
)
def test_kl_falls_with_the_stated_order(scheme, expected):
    assert orders.kl_slope(scheme) == pytest.approx(expected, abs=0.15 * -expected / 2)


def test_the_increment_is_euler_maruyamas():
    one, other = stochastic_heun(TIMES), sv.schemes.euler_maruyama(TIMES)
    np.testing.assert_array_equal(one.noise_paths, other.noise_paths)
    np.testing.assert_array_equal(one.stage_noise[:, 1], other.noise)


def test_churn_only_between_its_levels_and_never_more_than_its_limit():
    level = np.sqrt(np.expm1(2 * TIMES[:-1]))
    tableau = edm_heun(TIMES, churn=2.0, lowest=0.3, highest=5.0)
    between = (level >= 0.3) & (level <= 5.0)
    raised = np.sqrt(np.expm1(2 * tableau.stage_times[:, 0])) / level
    np.testing.assert_allclose(raised, np.where(between, 1.1, 1.0), rtol=1e-12)
    np.testing.assert_array_equal(tableau.noise[:, 0] != 0, between)
    raised = np.sqrt(np.expm1(2 * edm_heun(TIMES, churn=1e9).stage_times[:, 0])) / level
    np.testing.assert_allclose(raised, np.sqrt(2.0), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"churn": -1.0}, "churn must be a finite number and >= 0; got -1.0"),
        ({"noise_factor": 0.0}, "noise_factor must be a finite number and > 0; got 0.0"),
        ({"stages": 3}, "stages must be an integer >= 1 and < 3; got 3"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        edm_heun(TIMES, **options)

import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.seeds import seeds

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_coefficients_are_the_papers(stages, prediction):
    for h in LENGTHS:
        tableau = seeds(h * np.arange(4.0, 0.0, -1.0), stages, prediction)
        published.check(published.seeds, tableau, stages=stages, prediction=prediction)


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(("stages", "expected"), [(1, -2), (2, -4), (3, -4)])
def test_kl_falls_with_the_stated_order(stages, prediction, expected):
    slope = orders.kl_slope(lambda times: seeds(times, stages, prediction))
    assert slope == pytest.approx(expected, abs=0.15 * -expected / 2)


def test_variances_are_those_of_an_independent_recursion():
    # Computed once outside this project's engines, for the uniform grid in log-SNR, T = 2, δ = 0.05, variance 0.25.
    assert orders.printed(orders.variance_errors(seeds)) == ["-5.2e-03", "-3.4e-04", "-2.1e-05"]


TIMES = sv.schedules.exponential(6.0, 0.01, 20)


def test_data_form_of_one_stage_is_ddpm_with_posterior_variance():
    one, other = seeds(TIMES, 1), sv.schemes.ddpm(TIMES, variance="posterior")
    for field in ("state", "scores", "noise"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-13)


def test_noise_form_of_one_stage_has_the_noise_of_the_reverse_sde():
    one, other = seeds(TIMES, 1, "noise"), sv.schemes.exponential_euler(TIMES)
    np.testing.assert_allclose(one.noise, other.noise, rtol=1e-13)
    np.testing.assert_array_equal(one.noise_paths, other.noise_paths)


@pytest.mark.parametrize("stages", [2, 3])
def test_stages_and_output_see_one_path(stages):
    # The noise at a place has the variance of the reverse SDE from the step's start, whatever parts it is made of.
    tableau = seeds(TIMES, stages, "noise")
    h = TIMES[:-1, None] - tableau.stage_times
    np.testing.assert_allclose(np.square(tableau.stage_noise).sum(axis=2), np.expm1(2 * h), rtol=1e-12)
    np.testing.assert_allclose(np.square(tableau.noise).sum(axis=1), np.expm1(2 * (TIMES[:-1] - TIMES[1:])), rtol=1e-12)
    # and what a stage has seen is in the output, e^{…} times as large (in noise form the linear part is e^h).
    rest = np.exp(tableau.stage_times[:, 1] - TIMES[1:])
    np.testing.assert_allclose(tableau.noise[:, 0], rest * tableau.stage_noise[:, 1, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 4}, "stages must be an integer >= 1 and < 4; got 4"),
        ({"prediction": "score"}, "prediction must be one of data, noise; got 'score'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        seeds(TIMES, **options)

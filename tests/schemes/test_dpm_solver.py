import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.dpm_solver import dpmpp_2s_sde, dpmpp_3m_sde
from srkverify.schemes.sa_solver import sa_solver
from srkverify.schemes.seeds import seeds

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
TIMES = sv.schedules.exponential(6.0, 0.01, 20)


@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_3m_are_the_published(h):
    published.check(published.dpmpp_3m_sde, dpmpp_3m_sde(h * np.arange(6.0, 0.0, -1.0)))


@pytest.mark.parametrize("variant", ["midpoint", "heun"])
@pytest.mark.parametrize("noise", ["tree", "independent"])
@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_2s_are_the_published(h, noise, variant):
    times = h * np.arange(4.0, 0.0, -1.0)
    tableau = dpmpp_2s_sde(times, noise, variant)
    published.check(published.dpmpp_2s_sde, tableau, noise=noise, variant=variant)
    middle = 0.3 * times[1:] + 0.7 * times[:-1]
    tableau = dpmpp_2s_sde(times, noise, variant, middle)
    published.check(published.dpmpp_2s_sde, tableau, noise=noise, variant=variant, middle=middle)


def test_twice_the_last_term_of_3m_is_the_adams_predictor_with_three_nodes():
    published.check(published.dpmpp_3m_sde, sa_solver(TIMES, 3), bend=2)


def test_2s_is_seeds_2_but_for_how_noises_are_shared():
    one, other = dpmpp_2s_sde(TIMES), seeds(TIMES, 2)
    for field in ("stage_times", "stage_state", "stage_scores", "stage_noise", "state", "scores"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-13)
    assert np.abs(one.noise - other.noise).max() > 1e-3


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (dpmpp_3m_sde, -4),
        (dpmpp_2s_sde, -4),
        (lambda times: dpmpp_2s_sde(times, variant="heun"), -4),
        (lambda times: dpmpp_2s_sde(times, "independent"), -2),
    ],
)
def test_kl_falls_with_the_stated_order(scheme, expected):
    assert orders.kl_slope(scheme) == pytest.approx(expected, abs=0.15 * -expected / 2)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_may_be_shorter_than_the_memory(steps):
    assert dpmpp_3m_sde(sv.schedules.exponential(2.0, 0.5, steps)).memory == steps - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "shared"}, "noise must be one of tree, independent"),
        ({"variant": "mid"}, "variant must be one of midpoint, heun"),
        ({"middle": [0.9, 0.1]}, "middle must be 2 times, one inside each step"),
        ({"middle": [1.5]}, "middle must be 2 times"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dpmpp_2s_sde([2.0, 1.0, 0.5], **options)

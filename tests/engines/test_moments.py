from itertools import pairwise

import numpy as np
import pytest
from reference import simulate

import srkverify as sv
from srkverify.engines import gaussian
from srkverify.engines.moments import moments
from srkverify.schemes import SCHEMES

VARIANCES, MEANS = np.array([0.25, 3.0, 0.0]), np.array([0.8, -1.0, 2.0])
TIMES = sv.schedules.exponential(5.0, 0.02, 24)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("start", ["exact", "normal"])
def test_own_score_has_the_moments_of_the_gaussian_engine(name, start):
    tableau = SCHEMES[name](TIMES)
    mean, variance = moments(tableau, VARIANCES, MEANS, VARIANCES, MEANS, start)
    law = gaussian.deviations(tableau, VARIANCES, start)
    truth = VARIANCES * np.exp(-0.04) - np.expm1(-0.04)
    np.testing.assert_allclose(mean, MEANS * (np.exp(-0.02) + law.mean), rtol=1e-12)
    np.testing.assert_allclose(variance, truth * (1.0 + law.variance), rtol=1e-12)


def test_ddpm_with_another_score_by_hand():
    wrong_variances, wrong_means = VARIANCES * [1.3, 0.7, 1.0] + 0.05, MEANS + np.array([0.1, -0.2, 0.3])
    mean = np.exp(-5.0) * MEANS
    variance = VARIANCES * np.exp(-10.0) + 1.0 - np.exp(-10.0)
    for now, then in pairwise(TIMES):
        h = now - then
        pull = 2.0 * np.sinh(h) / (wrong_variances * np.exp(-2.0 * now) + 1.0 - np.exp(-2.0 * now))
        mean = np.exp(h) * mean - pull * (mean - np.exp(-now) * wrong_means)
        variance = (np.exp(h) - pull) ** 2 * variance + np.exp(2.0 * h) - 1.0
    found = moments(sv.schemes.ddpm(TIMES), VARIANCES, MEANS, wrong_variances, wrong_means)
    np.testing.assert_allclose(found, (mean, variance), rtol=1e-12)


@pytest.mark.parametrize("name", ["srk_third_point", "srk_third_point_1", "dpmpp_2m_sde"])
def test_with_another_score_against_the_sampler_itself(name):
    """The sampler is affine: its value at 0 and at unit vectors of start and noises tells mean and variance."""
    tableau = SCHEMES[name](TIMES[-8:])
    wrong = sv.GaussianMixture([1.0], [[0.4]], 0.6)
    steps, noises = tableau.noise.shape
    unit = np.eye(1 + steps * noises)
    y, noise = unit[:, :1], unit[:, 1:].T.reshape(steps, noises, -1, 1)
    y, noise = (np.concatenate([np.zeros_like(part[..., :1, :]), part], axis=-2) for part in (y, noise))
    out = simulate(tableau, wrong, y, noise)[-1, :, 0]
    response = out[1:] - out[0]
    target = sv.GaussianMixture([1.0], [[0.9]], 0.3)
    first = target.diffused(TIMES[-8])
    mean = out[0] + response[0] * first.means[0, 0]
    variance = response[0] ** 2 * first.variances[0, 0] + np.square(response[1:]).sum()
    found = moments(tableau, np.array([0.3]), np.array([0.9]), np.array([0.6]), np.array([0.4]))
    np.testing.assert_allclose(np.concatenate(found), (mean, variance), rtol=1e-12)

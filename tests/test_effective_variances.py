"""The variance that a Gaussian would need for its noise to be as hard to predict as the data's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import srkverify as sv
from srkverify.engines.mixture1d import Mixture1D

PAIR = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
TIMES = np.array([6.0, 2.0, 0.7, 0.3, 0.1, 1e-2])


@pytest.mark.parametrize("variance", [0.0, 0.25, 4.0])
def test_an_isotropic_gaussian_has_its_variance(variance):
    target = sv.GaussianMixture([1.0], [[1.0, -2.0]], variance)
    np.testing.assert_allclose(sv.effective_variances(target, TIMES), variance, rtol=1e-9, atol=1e-10)


def test_directions_of_a_gaussian_count_by_their_precision():
    """1/(λ + τ) is the mean of 1/(λ_j + τ), τ = e^{2t} − 1."""
    variances, noise = np.array([0.01, 0.3, 4.0]), np.expm1(2.0 * TIMES)[:, None]
    expected = 1.0 / (1.0 / (variances + noise)).mean(axis=1) - noise[:, 0]
    target = sv.Product([sv.GaussianMixture([1.0], [[0.5]], variance) for variance in variances])
    np.testing.assert_allclose(sv.effective_variances(target, TIMES), expected, rtol=1e-9, atol=1e-9)


def test_from_the_variance_of_data_to_that_of_details():
    apart = sv.GaussianMixture([0.4, 0.6], [[-3.0], [3.0]], 0.25)
    early, late = sv.effective_variances(apart, [8.0, 1e-4])
    assert early == pytest.approx(0.25 + 0.24 * 36.0, rel=1e-3)
    assert late == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("time", [1.5, 0.7, 0.2])
def test_a_loss_of_noise_prediction_tells_it(time):
    """λ = (e^{2t} − 1) L/(1 − L), with L from a million draws: a false alarm in 10⁷ (five standard errors and over)."""
    generator = np.random.default_rng(7)
    noise = generator.standard_normal((1_000_000, 1))
    points = np.exp(-time) * PAIR.sample(len(noise), seed=3) + np.sqrt(-np.expm1(-2.0 * time)) * noise
    losses = np.square(noise + np.sqrt(-np.expm1(-2.0 * time)) * PAIR.score(points, time)).ravel()
    loss, error = losses.mean(), losses.std() / np.sqrt(len(losses))
    expected = np.expm1(2.0 * time) * loss / (1.0 - loss)
    assert abs(sv.effective_variances(PAIR, [time])[0] - expected) < 5.4 * error * expected / (loss * (1.0 - loss))


@pytest.mark.parametrize("time", [1.5, 0.7, 0.2])
def test_it_falls_as_the_square_of_the_jacobian(time):
    """dλ/dτ = E J² with J = 1 + (λ + τ) ∂²_y log p, y = e^t x: both sides without the other's formula."""
    law = Mixture1D(PAIR.weights, PAIR.means[:, 0], np.full(2, 0.25))
    noise = np.expm1(2.0 * time)
    width = sv.effective_variances(PAIR, [time])[0] + noise

    def square(x):
        slope = law.score(np.array([time]), np.array([[x]]))[1][0, 0]
        return np.exp(PAIR.log_density([[x]], time)[0]) * (1.0 + width * np.exp(-2.0 * time) * slope) ** 2

    expected = quad(square, -8.0, 8.0, points=[-1.0, 0.0, 1.0], epsabs=1e-12, limit=200)[0]
    change = 1e-3 * noise
    high, low = sv.effective_variances(PAIR, 0.5 * np.log1p(noise + np.array([change, -change])))
    assert (high - low) / (2.0 * change) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_it_never_rises_towards_the_data(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 5))
    target = sv.GaussianMixture(
        generator.dirichlet(np.ones(count)), generator.normal(0.0, 2.0, (count, 1)), generator.uniform(0.01, 2.0, count)
    )
    times = np.geomspace(3.0, 1e-3, 40)
    found = sv.effective_variances(target, times)
    assert np.all(np.diff(found) <= 1e-9 * (found[:-1] + np.expm1(2.0 * times[:-1])))


def test_what_does_not_split_is_refused():
    target = sv.GaussianMixture([0.3, 0.3, 0.4], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="path"):
        sv.effective_variances(target, [1.0])
    with pytest.raises(ValueError, match="times must be positive"):
        sv.effective_variances(PAIR, [1.0, 0.0])

import numpy as np
import pytest

from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.score1d import Score1D

LAW = Mixture1D(np.array([0.3, 0.7]), np.array([-1.0, 2.0]), np.array([0.2, 0.5]))
WAVES = np.array([[0.2, 1.5, 0.3], [-0.1, 6.0, 1.0]])
TIMES = np.array([0.02, 0.7, 3.0])
POINTS = np.linspace(-3.0, 3.0, 150) * np.ones((3, 1))


def test_waves_against_their_definition():
    spread = np.sqrt(1.0 - np.exp(-2.0 * TIMES))[:, None]
    expected = LAW.score(TIMES, POINTS)[0]
    for a, omega, phi in WAVES:
        expected = expected + a * np.sin(omega * POINTS / spread + phi) / spread
    np.testing.assert_allclose(Score1D(LAW, WAVES).score(TIMES, POINTS)[0], expected, rtol=0.0, atol=1e-12)


def test_slope_is_the_derivative():
    score, step = Score1D(LAW, WAVES), 1e-5
    ahead, behind = (score.score(TIMES, POINTS + sign * step)[0] for sign in (1, -1))
    np.testing.assert_allclose(score.score(TIMES, POINTS)[1], (ahead - behind) / (2.0 * step), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("waves", [WAVES, np.zeros((0, 3))])
def test_compiled_score_is_the_same(waves):
    score = Score1D(LAW, waves)
    for time, row, expected in zip(TIMES, POINTS, score.score(TIMES, POINTS)[0], strict=True):
        np.testing.assert_allclose(score.at(time, row), expected, rtol=1e-12, atol=1e-12)


def test_resolution_follows_the_narrower_law_and_the_waves():
    narrow = Mixture1D(np.ones(1), np.zeros(1), np.array([0.01]))
    assert Score1D(narrow).smallest(LAW, TIMES) == pytest.approx(
        np.sqrt(0.01 * np.exp(-2 * TIMES) + 1 - np.exp(-2 * TIMES))
    )
    assert (Score1D(LAW).smallest(narrow, TIMES) == Score1D(narrow).smallest(LAW, TIMES)).all()
    assert (Score1D(LAW).ripples(TIMES) == 0.0).all()
    assert (Score1D(LAW, WAVES).ripples(TIMES) >= 6.0 / np.pi / np.sqrt(1 - np.exp(-2 * TIMES)) * (1 - 1e-12)).all()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import simulate
from scipy import stats

import srkverify as sv
from srkverify.divergence.exact import _density_kl, output_density
from srkverify.engines import gaussian, quadrature
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import LEVELS, covers
from srkverify.schemes import COMPARED, SCHEMES

MEMORYLESS = [name for name in COMPARED if SCHEMES[name]([2.0, 1.0]).memory == 0]
WEIGHTS, MEANS, VARIANCES = np.array([0.4, 0.6]), np.array([-1.5, 1.5]), np.array([0.25, 0.25])
MIXTURE = Mixture1D(WEIGHTS, MEANS, VARIANCES)
TARGET = sv.GaussianMixture(WEIGHTS, MEANS[:, None], VARIANCES)


def moments(density):
    spacing = density.points[1] - density.points[0]
    mass = density.value.sum() * spacing
    mean = (density.value * density.points).sum() * spacing
    return mass, mean, (density.value * (density.points - mean) ** 2).sum() * spacing


@pytest.mark.parametrize("name", MEMORYLESS)
@pytest.mark.parametrize("start", ["exact", "normal"])
def test_one_component_has_the_moments_of_the_gaussian_engine(name, start):
    for steps, eigenvalue in ((8, 0.25), (64, 0.0), (200, 3.0)):
        tableau = SCHEMES[name](sv.schedules.exponential(5.0, 0.02, steps))
        target = Mixture1D(np.ones(1), np.array([0.8]), np.array([eigenvalue]))
        mass, mean, variance = moments(output_density(tableau, target, LEVELS[2], start))
        law = gaussian.deviations(tableau, target.variances, start)
        truth = eigenvalue * np.exp(-0.04) - np.expm1(-0.04)
        assert mass == pytest.approx(1.0, abs=1e-11)
        assert mean == pytest.approx(0.8 * (np.exp(-0.02) + law.mean[0]), abs=1e-11)
        assert variance == pytest.approx(truth * (1.0 + law.variance[0]), rel=1e-10)


def one_step_density(tableau, y_out):
    """Density after one step at ``y_out`` by Gauss–Legendre in y and in the stages' noise, from the definition."""
    points, weights = np.polynomial.legendre.leggauss(300)
    y, wide = np.meshgrid(7 * points, 8 * points, indexing="ij")
    weight = 56 * np.outer(weights, weights)
    stage, noise = np.append(tableau.stage_noise[0, -1], 0.0)[:2], np.append(tableau.noise[0], 0.0)[:2]
    size = np.hypot(*stage)
    along = (stage @ noise) / size if size else 0.0
    spread = np.sqrt(noise @ noise - along**2)
    image, scores = tableau.state[0] * y + along * wide, []
    for i in range(tableau.stage_times.shape[1]):
        u = tableau.stage_state[0, i] * y + np.linalg.norm(tableau.stage_noise[0, i]) * wide
        u = u + sum(tableau.stage_scores[0, i, j] * score for j, score in enumerate(scores))
        scores.append(TARGET.score(u.reshape(-1, 1), time=tableau.stage_times[0, i]).reshape(u.shape))
        image = image + tableau.scores[0, i] * scores[-1]
    start = np.exp(TARGET.log_density(y.reshape(-1, 1), time=tableau.times[0])).reshape(y.shape)
    return (weight * start * stats.norm.pdf(wide) * stats.norm.pdf(y_out, image, spread)).sum()


@pytest.mark.parametrize("name", ["ddpm_posterior", "srk", "srk_third_point"])
def test_one_step_against_gauss_legendre(name):
    tableau = SCHEMES[name]([1.2, 0.5])
    density = output_density(tableau, MIXTURE, LEVELS[4])
    for index in (len(density.points) // 2, int(np.argmax(density.value))):
        expected = one_step_density(tableau, density.points[index])
        assert density.value[index] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", MEMORYLESS)
def test_density_against_a_million_particles(name):
    # Pearson's χ² on 40 cells; one test fails by chance with probability 1e-5.
    particles, cells = 1_000_000, 40
    times = sv.schedules.exponential(3.0, 0.05, 5)
    tableau = SCHEMES[name](times)
    rng = np.random.default_rng(20241)
    noise = rng.standard_normal((5, tableau.noise.shape[1], particles, 1))
    samples = simulate(tableau, TARGET, TARGET.sample(particles, seed=5, time=times[0]), noise)[-1, :, 0]
    density = output_density(tableau, MIXTURE, LEVELS[3])
    spacing = density.points[1] - density.points[0]
    cumulative = np.cumsum(density.value) * spacing
    # Cell edges halfway between grid points, where the cumulative sum is the probability to spectral accuracy or not:
    # its midpoint error is below 1e-6 at this spacing, a thousandth of the statistical error.
    edges = np.searchsorted(cumulative, np.arange(1, cells) / cells)
    expected = np.diff(np.concatenate([[0.0], cumulative[edges], [1.0]])) * particles
    counts = np.bincount(np.searchsorted(density.points[edges] + spacing / 2, samples), minlength=cells)
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-5, cells - 1)


mixtures = (
    st.integers(0, 2**32)
    .map(np.random.default_rng)
    .map(
        lambda rng: (
            lambda c: Mixture1D(rng.dirichlet(np.ones(c)), 2 * rng.normal(size=c), 10 ** rng.uniform(-2.5, 0.3, size=c))
        )(rng.integers(1, 5))
    )
)


@settings(max_examples=25)
@given(
    mixture=mixtures,
    name=st.sampled_from(MEMORYLESS),
    steps=st.sampled_from([8, 13, 32, 100]),
    stop=st.sampled_from([1e-3, 0.01, 0.1]),
)
def test_reported_error_covers_the_distance_to_a_much_finer_resolution(mixture, name, steps, stop):
    tableau = SCHEMES[name](sv.schedules.exponential(4.0, stop, steps))
    target = sv.GaussianMixture(mixture.weights, mixture.means[:, None], mixture.variances)
    result = sv.kl(target, tableau)
    finest, floor = _density_kl(output_density(tableau, mixture, LEVELS[6]))
    # For a single component sv.kl is the Gaussian engine, and the quadrature's own 1e-11 counts.
    assert abs(result.value - finest) <= result.error + floor + 1e-11 * (result.method == "gaussian")
    assert result.error <= max(1e-10, 1e-6 * result.value)


@pytest.mark.parametrize("steps", [8, 64, 512, 4096])
def test_error_is_below_1e_10_or_1e_6_of_the_value(steps):
    for name in ("ddpm", "srk_martingale") if steps == 4096 else MEMORYLESS:
        result = sv.kl(TARGET, SCHEMES[name](sv.schedules.exponential(6.0, 0.01, steps)))
        assert 0 < result.error <= max(1e-10, 1e-6 * result.value)


def test_far_modes_and_tiny_early_stop_are_stable():
    # Modes 10³ apart never exchange mass: the KL is that of the modes alone, each a Gaussian of its own.
    far = sv.GaussianMixture([0.5, 0.5], [[-500.0], [500.0]], 0.01)
    alone = sv.GaussianMixture([1.0], [[0.0]], 0.01)
    tableau = sv.schemes.srk(sv.schedules.exponential(12.0, 1e-3, 100))
    single, both = sv.kl(alone, tableau), sv.kl(far, tableau)
    assert both.value == pytest.approx(single.value, rel=0.3)
    points = sv.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.0)
    result = sv.kl(points, sv.schemes.ddpm(sv.schedules.exponential(6.0, 1e-8, 400)))
    assert 0 < result.value < 0.1
    assert result.error <= 1e-6 * result.value


def test_an_unstable_sampler_is_an_error_not_a_crash():
    # Exponential Euler maps far points to 2 − e^h times themselves: steps of 15 throw them out to 10^12.
    times = sv.schedules.uniform(60.0, 0.01, 4)
    with pytest.raises(ValueError, match=r"steps: exponential_euler with 4 steps .* unstable"):
        sv.kl(TARGET, sv.schemes.exponential_euler(times))


def test_noise_that_the_stage_sees_completely_is_not_covered():
    times = sv.schedules.exponential(2.0, 0.1, 3)
    stage = sv.Row(state=1.0, noise=[0.3], time=times[:-1])
    tableau = sv.assemble("all_seen", times, [stage], sv.Row(state=1.0, scores=[0.1], noise=[0.5]))
    assert not covers(tableau)
    with pytest.raises(ValueError, match="noise of all_seen"):
        quadrature.output_density(tableau, Mixture1D(np.ones(1), np.zeros(1), np.ones(1)), LEVELS[0])


def test_two_stage_noise_directions_are_integrated_over_both():
    # Two noisy stages with independent noises; with linear scores the Gaussian engine knows the answer.
    times = sv.schedules.exponential(3.0, 0.1, 10)
    h = times[:-1] - times[1:]
    stages = [
        sv.Row(state=1.0, noise=[0.5 * np.sqrt(h)], time=times[:-1]),
        sv.Row(state=1.0, noise=[0.1 * np.sqrt(h), 0.4 * np.sqrt(h)], time=times[:-1]),
    ]
    output = sv.Row(state=np.exp(h), scores=[h, h], noise=[0.5 * np.sqrt(h), 0.5 * np.sqrt(h), np.sqrt(1.5 * h)])
    tableau = sv.assemble("two_noises", times, stages, output)
    single = Mixture1D(np.ones(1), np.zeros(1), np.full(1, 0.5))
    law = gaussian.deviations(tableau, single.variances)
    truth = 0.5 * np.exp(-0.2) - np.expm1(-0.2)
    assert moments(output_density(tableau, single, LEVELS[2]))[2] == pytest.approx(
        truth * (1 + law.variance[0]), rel=1e-9
    )

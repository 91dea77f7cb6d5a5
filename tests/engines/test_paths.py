"""Backward paths against densities and divergences that the engine does not compute.

Random tests are at 4.5 standard errors: a right program fails one comparison in 150,000, and all of them together, some
200, once in 700 choices of the seeds, which are fixed.
"""

from functools import partial

import numpy as np
import pytest
from reference import simulate
from scipy.interpolate import CubicSpline

import srkverify as sv
from srkverify.engines import gaussian, paths
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.paths_steps import MOST_UNKNOWNS
from srkverify.engines.quadrature import LEVELS
from srkverify.engines.quadrature_memory import output_density
from srkverify.engines.simd import addresses
from srkverify.tableau import Row, assemble

SCHEMES = sv.schemes.COMPARED
WITHOUT_MEMORY = [name for name in SCHEMES if name not in ("srk_third_point_1", "dpmpp_2m_sde")]
KINDS = ("isotropic", "diagonal", "full")
ERRORS = 4.5
HORIZON, DELTA = 6.0, 0.01


def tableau_of(scheme, steps=24, delta=DELTA):
    return sv.schemes.SCHEMES[scheme](sv.schedules.exponential(HORIZON, delta, steps))


def mixture(kind, components=3, dimension=3, seed=0, spread=1.0):
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet(np.full(components, 3.0))
    means = spread * generator.normal(size=(components, dimension))
    variances = generator.uniform(0.1, 0.8, size=(components, dimension))
    if kind == "isotropic":
        return sv.GaussianMixture(weights, means, variances[:, 0])
    if kind == "diagonal":
        return sv.GaussianMixture(weights, means, variances)
    bases = np.linalg.qr(generator.normal(size=(components, dimension, dimension)))[0]
    return sv.GaussianMixture(weights, means, (bases * variances[:, None, :]) @ bases.swapaxes(1, 2))


def run(target, tableau, starts, inner=1, truth=False, seed=7, particle=0, start="exact", problem=None, block=None):
    problem = problem or paths.prepare(target, tableau, start)
    memory = problem.memory()
    if block:
        scratch = memory.scratch._replace(block=block)
        memory = paths.Memory(scratch, addresses(scratch))
    stop = np.zeros(1, np.uint8)
    return paths.run(problem, memory, starts, inner, truth=truth, seed=seed, particle=particle, stop=stop)


def log_weights(target, tableau, starts, inner, start="exact", **options):
    """Log of the estimates of the output's density, (n, inner)."""
    gains, _, ends = run(target, tableau, starts, inner, start=start, **options)
    if start == "exact":
        before = target.log_density(ends, tableau.times[0])
    else:
        before = -0.5 * (ends**2 + np.log(2.0 * np.pi)).sum(axis=1)
    return (gains + before).reshape(len(starts), inner)


def starts_of(target, count, delta=DELTA, seed=1):
    x = target.sample(count, seed, delta)
    return x[np.argsort(target.likeliest_component(x, delta), kind="stable")]


def assert_mean(values, expected):
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < ERRORS * error, f"{values.mean()} ± {error}, not {expected}"


def covariances_of(target):
    """(c, d, d), whatever the kind."""
    given = np.asarray(target.covariances)
    if given.ndim == 3:
        return given
    return np.eye(target.dimension) * (given[:, None, None] if given.ndim == 1 else given[:, None, :])


def gaussian_log_density(target, tableau, x, start):
    """Log density of the output on a Gaussian, coordinate by coordinate of the covariance's eigenbasis."""
    values, basis = np.linalg.eigh(covariances_of(target)[0])
    law = gaussian.deviations(tableau, values, start)
    delta = tableau.times[-1]
    mean = (np.exp(-delta) + law.mean) * (target.means[0] @ basis)
    variance = (values * np.exp(-2.0 * delta) - np.expm1(-2.0 * delta)) * (1.0 + law.variance)
    return -0.5 * ((x @ basis - mean) ** 2 / variance + np.log(2.0 * np.pi * variance)).sum(axis=1)


@pytest.mark.parametrize("start", ["exact", "normal"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", WITHOUT_MEMORY)
def test_one_path_gives_the_density_on_a_gaussian(scheme, kind, start):
    for dimension, steps in ((1, 1), (3, 5), (5, 40)):
        target, tableau = mixture(kind, 1, dimension), tableau_of(scheme, steps)
        starts = starts_of(target, 12)
        found = log_weights(target, tableau, starts, 2, start)
        expected = gaussian_log_density(target, tableau, starts, start)
        np.testing.assert_allclose(found, np.repeat(expected[:, None], 2, axis=1), atol=1e-9)


@pytest.mark.parametrize("scheme", ["srk_third_point_1", "dpmpp_2m_sde"])
@pytest.mark.parametrize("kind", KINDS)
def test_paths_with_memory_average_to_the_density_on_a_gaussian(scheme, kind):
    target, tableau = mixture(kind, 1, 3), tableau_of(scheme)
    starts = starts_of(target, 512)
    logs = log_weights(target, tableau, starts, 8) - gaussian_log_density(target, tableau, starts, "exact")[:, None]
    assert logs.std() < 0.2
    assert_mean(np.exp(logs).mean(axis=1), 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_average_to_one(scheme, kind):
    target, tableau = mixture(kind), tableau_of(scheme)
    starts = starts_of(target, 2048)
    logs = log_weights(target, tableau, starts, 2) - target.log_density(starts, DELTA)[:, None]
    assert_mean(np.exp(logs).mean(axis=1), 1.0)


@pytest.mark.parametrize("start", ["exact", "normal"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_paths_give_the_density_of_a_one_dimensional_mixture(scheme, start):
    weights, means, variances = np.array([0.3, 0.7]), np.array([-1.0, 1.2]), np.array([0.1, 0.4])
    target, tableau = sv.GaussianMixture(weights, means[:, None], variances[:, None]), tableau_of(scheme, 16)
    exact = output_density(tableau, Mixture1D(weights, means, variances), LEVELS[1], start)
    points = np.array([-1.5, -0.9, 0.0, 0.4, 1.1, 2.4])
    found = np.exp(log_weights(target, tableau, points[:, None], 2048, start))
    for values, expected in zip(found, CubicSpline(exact.points, exact.value)(points), strict=True):
        assert_mean(values, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["ddpm", "srk", "dpmpp_2m_sde", "srk_third_point_1"])
def test_splitting_the_work_changes_nothing(scheme, kind):
    target, tableau = mixture(kind), tableau_of(scheme)
    problem, starts = paths.prepare(target, tableau, "exact"), starts_of(target, 45)
    for truth in (False, True):
        whole = run(target, tableau, starts, 3, truth, seed=2**64 - 5, particle=2**62, problem=problem)
        small = run(target, tableau, starts, 3, truth, 2**64 - 5, 2**62, problem=problem, block=1)
        parts = [
            run(target, tableau, starts[first:last], 3, truth, 2**64 - 5, 2**62 + 3 * first, problem=problem)
            for first, last in ((0, 8), (8, 32), (32, 45))  # 3·8 paths fill three vectors
        ]
        for one, other, several in zip(whole, small, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, np.concatenate(several))


def path_law(tableau, spread, mean):
    """Mean and covariance of (x_0, …, x_K) on N(mean, spread), from the response of the recursion to each input."""
    target = sv.GaussianMixture([1.0], [[mean]], [spread])
    inputs = tableau.steps * tableau.noise.shape[1]
    noise = np.zeros((inputs + 2, tableau.steps, tableau.noise.shape[1]))
    noise.reshape(inputs + 2, -1)[2:] = np.eye(inputs)
    begin = np.zeros((inputs + 2, 1))
    begin[1] = 1.0
    path = simulate(tableau, target, begin, noise.transpose(1, 2, 0)[..., None])[:, :, 0]
    response = path[:, 1:] - path[:, :1]
    average = path[:, 0] + response[:, 0] * np.exp(-tableau.times[0]) * mean
    response[:, 0] *= np.sqrt(spread * np.exp(-2.0 * tableau.times[0]) - np.expm1(-2.0 * tableau.times[0]))
    return average, response @ response.T


def exact_path_kl(tableau, spread, mean):
    """KL of the forward process at the grid's times from the sampler's states, in one dimension."""
    times = tableau.times
    earlier = np.minimum.outer(times, times)
    truth = spread * np.exp(-2.0 * earlier) - np.expm1(-2.0 * earlier)
    truth *= np.exp(-abs(np.subtract.outer(times, times)))
    average, covariance = path_law(tableau, spread, mean)
    gap = average - np.exp(-times) * mean
    ratio, distance = np.linalg.solve(covariance, truth), gap @ np.linalg.solve(covariance, gap)
    return 0.5 * (np.trace(ratio) - len(times) - np.linalg.slogdet(ratio)[1] + distance)


def path_ratios(target, tableau, starts, **options):
    """Log of the forward process over the sampler, with the proposal as a control variate."""
    gains, extras, ends = run(target, tableau, starts, truth=True, **options)
    return target.log_density(starts, DELTA) + extras[:, 0] - gains - target.log_density(ends, tableau.times[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_martingale", "srk_third_point", "dpmpp_2m_sde"])
def test_path_kl_on_a_gaussian(scheme, kind):
    target, tableau = mixture(kind, 1, 3), tableau_of(scheme, 6)
    values, basis = np.linalg.eigh(covariances_of(target)[0])
    expected = sum(exact_path_kl(tableau, *pair) for pair in zip(values, target.means[0] @ basis, strict=True))
    assert expected > 0.001
    assert_mean(path_ratios(target, tableau, target.sample(20000, 5, DELTA)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_path_kl_is_that_of_densities_written_out(kind):
    target, tableau = mixture(kind, spread=2.0), tableau_of("ddpm", 8)
    times, count = tableau.times, 20000
    x = target.sample(count, 21, DELTA)
    generator, ratio = np.random.default_rng(22), target.log_density(x, DELTA)
    for k in reversed(range(tableau.steps)):
        h = times[k] - times[k + 1]
        noise, spread = generator.normal(size=x.shape), -np.expm1(-2.0 * h)
        before = np.exp(-h) * x + np.sqrt(spread) * noise
        mean = tableau.state[k] * before + tableau.scores[k, 0] * target.score(before, time=times[k])
        deviation = np.linalg.norm(tableau.noise[k])
        rest = (x - mean) / deviation
        ratio += 0.5 * (rest**2 - noise**2).sum(axis=1) + 3.0 * np.log(deviation / np.sqrt(spread))
        x = before
    ratio -= target.log_density(x, times[0])
    found = path_ratios(target, tableau, target.sample(count, 23, DELTA))
    error = np.sqrt((ratio.var() + found.var()) / count)
    assert error < 0.05 * ratio.mean()
    assert abs(ratio.mean() - found.mean()) < ERRORS * error


@pytest.mark.parametrize("scheme", ["srk", "ddpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_paths_of_the_truth_are_a_forward_process(scheme, kind):
    target = mixture(kind)
    x = starts_of(target, 4000)
    _, _, ends = run(target, tableau_of(scheme), x, truth=True)
    span = HORIZON - DELTA
    for values in ((ends - np.exp(-span) * x), (ends - np.exp(-span) * x) * x):
        for column in values.T:
            assert_mean(column, 0.0)
    for column in ends.T - np.exp(-span) * x.T:
        assert_mean(column**2, -np.expm1(-2.0 * span))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_less_than_a_trillionth_and_of_zero(kind):
    target, tableau = mixture(kind, 2), tableau_of("srk")
    starts = starts_of(target, 64)
    expected = log_weights(target, tableau, starts, 2)
    weights, means = np.append(target.weights, [1e-13, 0.0]), np.vstack([target.means, target.means[:2] + 0.3])
    more = sv.GaussianMixture(weights / weights.sum(), means, target.covariances[[0, 1, 0, 1]])
    np.testing.assert_allclose(log_weights(more, tableau, starts, 2), expected, atol=1e-6)


@pytest.mark.parametrize("dimension", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_extremes_leave_numbers_finite(scheme, kind, dimension):
    generator = np.random.default_rng(3)
    bases = np.linalg.qr(generator.normal(size=(3, dimension, dimension)))[0]
    variances = 10.0 ** generator.uniform(-4.0, 0.0, (3, dimension))
    means = np.array([[0.0] * dimension, [1000.0] * dimension, [0.01] * dimension])
    given = {
        "isotropic": variances[:, 0],
        "diagonal": variances,
        "full": (bases * variances[:, None, :]) @ bases.swapaxes(1, 2),
    }
    target = sv.GaussianMixture([0.5, 0.5 - 1e-12, 1e-12], means, given[kind])
    for steps in (1, 30):
        tableau = tableau_of(scheme, steps, 1e-5)
        starts = starts_of(target, 8, 1e-5)
        for truth in (False, True):
            for values in run(target, tableau, starts, 2, truth):
                assert np.isfinite(values).all()


def test_noise_that_stages_determine_is_refused():
    times = sv.schedules.exponential(HORIZON, DELTA, 4)
    point, output = Row(state=1.0, noise=[0.1], time=times[:-1]), Row(state=1.0, scores=[0.1], noise=[0.2])
    with pytest.raises(ValueError, match="give every output noise that its stages do not determine"):
        paths.prepare(mixture("diagonal"), assemble("singular", times, [point], output), "exact")


def test_more_stages_than_streams_are_refused():
    times = sv.schedules.exponential(HORIZON, DELTA, 2)
    count = MOST_UNKNOWNS
    points = [Row(state=1.0, noise=[0.0] * i + [0.1], time=times[:-1]) for i in range(count)]
    output = Row(state=1.0, scores=[0.1], noise=[0.0] * count + [0.2])
    with pytest.raises(ValueError, match="fewer than 31 stages with noise; got 31"):
        paths.prepare(mixture("diagonal"), assemble("many", times, points, output), "exact")


def test_a_stop_ends_the_run():
    target = mixture("full")
    problem = paths.prepare(target, tableau_of("srk"), "exact")
    stop = np.ones(1, np.uint8)
    run_now = partial(paths.run, problem, problem.memory(), starts_of(target, 8), 1, truth=False, seed=0, particle=0)
    gains, _, ends = run_now(stop=stop)
    assert not gains.any()
    assert not ends.any()
    stop[0] = 0
    assert run_now(stop=stop)[0].all()

"""``sv.sample``: laws against the exact engines, reproducibility, errors."""

import re
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from scipy import integrate, stats

import srkverify as sv
from srkverify.divergence import output_density
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import LEVELS

MIXTURE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
TIMES = sv.schedules.exponential(6.0, 0.01, 16)
PLANE = sv.GaussianMixture([0.2, 0.8], [[0.0, 1.0], [2.0, -1.0]], [0.3, 0.6])


def exact_cdf(tableau):
    """CDF of the sampler's exact output law on MIXTURE, by the quadrature engine."""
    mixture = Mixture1D(MIXTURE.weights, MIXTURE.means[:, 0], np.full(2, 0.25))
    density = output_density(tableau, mixture, LEVELS[0])  # to 1e−7, far less than particles see
    points = density.points
    mass = integrate.cumulative_simpson(density.value, x=points, initial=0.0)
    return lambda x: np.interp(x, points, mass / mass[-1])


def gaussian_moments(tableau, mean, variance):
    """Mean and variance of a one-stage sampler's output on N(mean, variance), step by step."""
    law = [(mean * np.exp(-t), variance * np.exp(-2 * t) - np.expm1(-2 * t)) for t in tableau.stage_times[:, 0]]
    m, v = mean * np.exp(-TIMES[0]), variance * np.exp(-2 * TIMES[0]) - np.expm1(-2 * TIMES[0])
    for k, (center, spread) in enumerate(law):
        pull = tableau.scores[k, 0] / spread
        v = (tableau.state[k] - pull * tableau.stage_state[k, 0]) ** 2 * v
        v += ((tableau.noise[k] - pull * tableau.stage_noise[k, 0]) ** 2).sum()
        m = (tableau.state[k] - pull * tableau.stage_state[k, 0]) * m + pull * center
    return m, v


# Of sa_p3c3 the exact engine carries a density of four numbers: too many points with so few steps.
@pytest.mark.parametrize("scheme", [name for name in sv.schemes.SCHEMES if name != "sa_p3c3"])
def test_law_in_one_dimension_is_the_exact_engines(scheme):
    """Kolmogorov–Smirnov, 200 000 particles, at level 10⁻⁵ for each of some thirty: false alarm one in 3000."""
    tableau = sv.schemes.SCHEMES[scheme](TIMES)
    samples = sv.sample(MIXTURE, tableau, 200_000, seed=1)[:, 0]
    assert stats.kstest(samples, exact_cdf(tableau)).pvalue > 1e-5


def test_the_law_is_not_the_targets():
    """The test above can tell: at K = 4 the sampler's law is far from the target's, and it sees its own."""
    tableau = sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 4))
    samples = sv.sample(MIXTURE, tableau, 200_000, seed=1)[:, 0]
    assert stats.kstest(samples, exact_cdf(tableau)).pvalue > 1e-5
    assert stats.kstest(samples, exact_cdf(sv.schemes.ddpm(TIMES))).pvalue < 1e-20


@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_martingale"])
def test_moments_on_a_gaussian(scheme):
    """Means and covariances of 10⁵ particles in d = 8 within 5 standard errors: 44 comparisons, false alarm 3·10⁻⁵."""
    tableau, count, variances = sv.schemes.SCHEMES[scheme](TIMES), 100_000, np.geomspace(0.05, 3.0, 8)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    means = np.linspace(-1.0, 1.0, 8)
    target = sv.GaussianMixture([1.0], [rotation @ means], [(rotation * variances) @ rotation.T])
    samples = sv.sample(target, tableau, count, seed=2) @ rotation
    expected = np.array([gaussian_moments(tableau, m, v) for m, v in zip(means, variances, strict=True)])
    assert (np.abs(samples.mean(axis=0) - expected[:, 0]) < 5.0 * np.sqrt(expected[:, 1] / count)).all()
    scaled = (samples - expected[:, 0]) / np.sqrt(expected[:, 1])
    covariance = scaled.T @ scaled / count
    errors = np.sqrt((1.0 + np.eye(8)) / count)
    assert (np.abs(covariance - np.eye(8)) < 5.0 * errors).all()


def test_product_is_independent_copies_in_a_rotated_frame():
    """Marginals in the blocks' frame have the exact law; level 10⁻⁵ each, correlations 5 standard errors."""
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    target = sv.Product([MIXTURE, PLANE], [3, 1], rotation)
    tableau, count = sv.schemes.srk(TIMES), 50_000
    samples = sv.sample(target, tableau, count, seed=3) @ rotation
    cdf = exact_cdf(tableau)
    for j in range(3):
        assert stats.kstest(samples[:, j], cdf).pvalue > 1e-5
    plane = sv.sample(PLANE, tableau, count, seed=4)
    for j in range(2):
        assert stats.ks_2samp(samples[:, 3 + j], plane[:, j]).pvalue > 1e-5
    correlations = np.corrcoef(samples.T) - np.eye(5)
    correlations[3:, 3:] = 0.0
    assert np.abs(correlations).max() < 5.0 / np.sqrt(count)


def test_listed_product_and_product_have_one_law():
    """Two-sample tests on coordinates, their product and their sum, each at level 10⁻⁵."""
    listed = sv.GaussianMixture(
        [0.16, 0.24, 0.24, 0.36], [[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]], [0.25] * 4
    )
    tableau = sv.schemes.srk_third_point(TIMES)
    first = sv.sample(listed, tableau, 50_000, seed=5)
    second = sv.sample(sv.Product([MIXTURE], [2]), tableau, 50_000, seed=6)
    for view in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x.prod(axis=1), lambda x: x.sum(axis=1)):
        assert stats.ks_2samp(view(first), view(second)).pvalue > 1e-5


def test_common_full_covariance_is_its_own_rotation():
    """Two-sample tests against the engine for separate bases, each at level 10⁻⁵."""
    covariance = np.array([[1.0, 0.6], [0.6, 0.5]])
    shared = sv.GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.5]], [covariance])
    apart = sv.GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.5]], [covariance] * 2)
    tableau = sv.schemes.srk(TIMES)
    first, second = sv.sample(shared, tableau, 50_000, 7), sv.sample(apart, tableau, 50_000, 8)
    for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [1.0, 2.0]):
        assert stats.ks_2samp(first @ direction, second @ direction).pvalue > 1e-5
    path = sv.sample(shared, tableau, 5, 7, return_path=True)
    np.testing.assert_array_equal(path[-1], first[:5])


def many_directions(kind, dimension=24):
    """A target in 24 dimensions: two components with their own bases, with one basis, or a rotated product."""
    generator = np.random.default_rng(2)
    bases = np.linalg.qr(generator.normal(size=(2, dimension, dimension)))[0]
    if kind == "rotated_product":
        return sv.Product([MIXTURE, PLANE], [dimension - 2, 1], bases[0])
    means, variances = generator.normal(size=(2, dimension)), generator.uniform(0.1, 2.0, size=(2, 1, dimension))
    if kind == "diagonal":
        return sv.GaussianMixture([0.3, 0.7], means, variances[:, 0])
    if kind == "low_rank":
        variances[..., 5:] = 0.1
    covariances = (bases * variances) @ bases.swapaxes(1, 2)
    return sv.GaussianMixture([0.3, 0.7], means, covariances[:1] if kind == "one_basis" else covariances)


SPLIT = {
    "plane": PLANE,
    **{kind: many_directions(kind) for kind in ("diagonal", "low_rank", "full", "one_basis", "rotated_product")},
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("target", SPLIT.values(), ids=SPLIT)
def test_results_do_not_depend_on_how_the_work_is_split(target, dtype, monkeypatch):
    tableau = sv.schemes.SCHEMES["srk_third_point_1"](TIMES)
    whole = sv.sample(target, tableau, 1003, seed=9, dtype=dtype, threads=1)
    np.testing.assert_array_equal(sv.sample(target, tableau, 1003, seed=9, dtype=dtype, threads=3), whole)
    path = sv.sample(target, tableau, 70, seed=9, dtype=dtype, return_path=True)
    np.testing.assert_array_equal(path[-1], whole[:70])
    parts = [
        sv.sample(target, tableau, count, seed=9, dtype=dtype, first_particle=first)
        for first, count in ((0, 1), (1, 500), (501, 502))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    blocks = list(sv.sample_blocks(target, tableau, 1003, seed=9, dtype=dtype, block=100))
    assert [len(block) for block in blocks] == [100] * 10 + [3]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    monkeypatch.setattr("srkverify.engines.cpu_memory._CACHE", 1)  # one panel a block
    monkeypatch.setattr("srkverify.sampling._TASK_BYTES", 1)  # 64 particles a task
    np.testing.assert_array_equal(sv.sample(target, tableau, 1003, seed=9, dtype=dtype), whole)


def test_blocks_of_paths_and_products():
    target, tableau = sv.Product([PLANE, MIXTURE], [2, 1]), sv.schemes.srk(TIMES)
    whole = sv.sample(target, tableau, 70, seed=1, return_path=True)
    assert whole.shape == (17, 70, 5)
    blocks = list(sv.sample_blocks(target, tableau, 70, seed=1, return_path=True, block=32))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    np.testing.assert_array_equal(sv.sample(target, tableau, 70, seed=1), whole[-1])


def test_seeds_and_particles_differ():
    a, b = (sv.sample(PLANE, sv.schemes.srk(TIMES), 50, seed=seed) for seed in (0, 1))
    assert not (a == b).any()
    assert len(np.unique(a[:, 0])) == 50


def test_strong_error_of_coupled_runs():
    """On a Gaussian, against the same path on a far finer grid, the error of DDPM falls as 1/K: additive noise."""
    target = sv.GaussianMixture([1.0], [[1.0, -0.5, 0.0]], [[0.3, 1.0, 2.0]])
    finest = sv.schedules.exponential(6.0, 0.01, 2048)
    reference = sv.sample(target, sv.schemes.ddpm(finest), 4000, seed=10, path_times=finest)
    errors = []
    for steps in (32, 64, 128):
        tableau = sv.schemes.ddpm(finest[:: 2048 // steps])
        coupled = sv.sample(target, tableau, 4000, seed=10, path_times=finest)
        errors.append(np.sqrt(((coupled - reference) ** 2).sum(axis=1).mean()))
    orders = -np.diff(np.log2(errors))
    assert ((orders > 0.85) & (orders < 1.15)).all()
    apart = sv.sample(target, sv.schemes.ddpm(finest[::16]), 4000, seed=11, path_times=finest)
    assert np.sqrt(((apart - reference) ** 2).sum(axis=1).mean()) > 30.0 * errors[-1]


def test_coupling_on_the_own_grid_changes_nothing_for_one_noise():
    tableau = sv.schemes.ddpm(TIMES)
    np.testing.assert_array_equal(
        sv.sample(PLANE, tableau, 40, seed=1, path_times=TIMES), sv.sample(PLANE, tableau, 40, seed=1)
    )


def test_memory_beyond_the_output_is_bounded():
    tableau = sv.schemes.SCHEMES["srk_third_point_1"](sv.schedules.exponential(6.0, 0.01, 2))
    sv.sample(PLANE, tableau, 10)
    tracemalloc.start()
    try:
        samples = sv.sample(PLANE, tableau, 3_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - samples.nbytes < 64 * 2**20


def test_an_interrupt_ends_the_run(interruptible):
    tableau = sv.schemes.srk(sv.schedules.exponential(6.0, 0.01, 100))
    sv.sample(PLANE, tableau, 10)
    threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sv.sample(PLANE, tableau, 10**8)  # minutes, if it were not interrupted
    assert time.monotonic() - begin < 20.0


def tripling(steps):
    """A tableau that triples its state in each step. Scores exist as long as squares do not overflow."""
    times = np.geomspace(1.0, 0.5, steps + 1)
    return sv.assemble("tripling", times, [sv.Row(state=1.0, time=times[:-1])], sv.Row(state=3.0, scores=[0.0]))


@pytest.mark.parametrize(("dtype", "largest"), [("float64", 1.34e154), ("float32", 1.84e19)])
@pytest.mark.parametrize("return_path", [False, True])
def test_samples_that_are_not_finite_are_an_error_that_names_the_step(dtype, largest, return_path):
    steps = int(np.log(largest) / np.log(3.0)) + 20
    with pytest.raises(ValueError, match=r"^tableau must keep samples finite; got infinity or NaN") as caught:
        sv.sample(PLANE, tripling(steps), 3, dtype=dtype, return_path=return_path)
    named = int(re.search(r"after step (\d+) of", str(caught.value)).group(1))
    start = np.abs(sv.sample(PLANE, tripling(1), 3, return_path=True)[0])
    crossing = np.log(largest / start) / np.log(3.0)
    assert crossing.min() - 1.0 < named < crossing.max() + 2.0
    assert "multiplies deviations in the narrowest direction" in str(caught.value)
    assert np.isfinite(sv.sample(PLANE, tripling(int(crossing.min()) - 1), 3, dtype=dtype)).all()


BAD = {
    "target": {"target": "mixture"},
    "tableau": {"tableau": TIMES},
    "particles": {"particles": 0},
    "seed": {"seed": 2**64},
    "backend": {"backend": "gpu"},
    "dtype": {"dtype": "float16"},
    "start": {"start": "gaussian"},
    "path_times": {"path_times": TIMES[::2]},
    "first_particle": {"first_particle": -1},
    "threads": {"threads": 0},
    "block": {"block": 0},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    arguments = {"target": PLANE, "tableau": sv.schemes.srk(TIMES), "particles": 3, **BAD[name]}
    functions = [sv.sample_blocks] if name == "block" else [sv.sample, sv.sample_blocks]
    for function in functions:
        with pytest.raises(ValueError, match=f"^{name} must"):
            function(**arguments)


@pytest.mark.parametrize("value", [0.5, "1", True, -1])
def test_seeds_that_are_not_integers_in_range(value):
    with pytest.raises(ValueError, match=r"^seed must be an integer"):
        sv.sample(PLANE, sv.schemes.srk(TIMES), 3, value)

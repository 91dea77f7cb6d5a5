import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats

import srkverify as sv
from srkverify import distances

RANDOM = np.random.default_rng


def covariance(dimension, seed):
    """A random covariance."""
    root = RANDOM(seed).standard_normal((dimension, dimension))
    return root @ root.T / dimension + 0.1 * np.eye(dimension)


def mixture(kind, dimension=3):
    """Three components with covariances of a kind."""
    generator = RANDOM(5)
    given = {
        "isotropic": [0.2, 0.5, 1.0],
        "diagonal": generator.uniform(0.1, 1.0, (3, dimension)),
        "shared": covariance(dimension, 8)[None],
        "full": np.stack([covariance(dimension, seed) for seed in range(3)]),
    }
    return sv.GaussianMixture([0.2, 0.3, 0.5], generator.standard_normal((3, dimension)), given[kind])


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "shared", "full"])
def test_moments_of_mixtures_are_their_definition(kind):
    law = mixture(kind)
    mean, found = distances.moments(law, time=0.3)
    # E X = e^{−t} E X_0 and Cov X = e^{−2t} Cov X_0 + (1 − e^{−2t}) I, with Cov X_0 by the law of total variance.
    first = law.weights @ law.means
    full = {"isotropic": lambda c: c[:, None, None] * np.eye(3), "diagonal": lambda c: c[:, :, None] * np.eye(3)}
    within = full.get(kind, lambda c: np.broadcast_to(c, (3, 3, 3)))(law.covariances)
    second = np.einsum("i,ijk->jk", law.weights, within + law.means[:, :, None] * law.means[:, None, :])
    start = second - np.outer(first, first)
    assert mean == pytest.approx(np.exp(-0.3) * first, rel=1e-13)
    assert found == pytest.approx(np.exp(-0.6) * start + (1 - np.exp(-0.6)) * np.eye(3), rel=1e-12)


def test_moments_of_a_rotated_product_agree_with_its_draws():
    rotation = np.linalg.qr(RANDOM(0).standard_normal((8, 8)))[0]
    law = sv.Product([mixture("full"), sv.GaussianMixture([0.4, 0.6], [[-1.0], [2.0]], 0.3)], [2, 2], rotation)
    mean, found = distances.moments(law, time=0.1)
    draws = law.sample(200_000, seed=1, time=0.1)
    # 8 + 36 comparisons in units of their standard errors: |z| < 4.5 fails once in 3000 seeds.
    centred = draws - mean
    assert np.abs(centred.mean(axis=0) / (centred.std(axis=0) / np.sqrt(len(draws)))).max() < 4.5
    for i in range(8):
        for j in range(i + 1):
            products = centred[:, i] * centred[:, j]
            assert abs(products.mean() - found[i, j]) < 4.5 * products.std() / np.sqrt(len(draws))


def test_gaussian_frechet_is_zero_symmetric_and_the_formula_by_another_route():
    first, second = (RANDOM(1).standard_normal(5), covariance(5, 2)), (RANDOM(3).standard_normal(5), covariance(5, 4))
    found = distances.gaussian_frechet(*first, *second)
    cross = scipy.linalg.sqrtm(first[1] @ second[1])  # of a product that is not symmetric: Schur's form, not eigh
    expected = ((first[0] - second[0]) ** 2).sum() + np.trace(first[1] + second[1]) - 2.0 * np.trace(cross).real
    assert found == pytest.approx(expected, rel=1e-11)
    assert distances.gaussian_frechet(*second, *first) == pytest.approx(found, rel=1e-11)
    assert distances.gaussian_frechet(*first, *first) == pytest.approx(0.0, abs=1e-13)
    # Commuting covariances: a sum over eigenvalues.
    diagonals = np.diag([1.0, 4.0]), np.diag([9.0, 0.0])
    zero = np.zeros(2)
    assert distances.gaussian_frechet(zero, diagonals[0], zero, diagonals[1]) == pytest.approx(4.0 + 4.0)


def test_gaussian_frechet_of_one_dimension_is_the_integral_of_squared_quantile_differences():
    level = (np.arange(200_000) + 0.5) / 200_000
    gap = scipy.stats.norm.ppf(level, 1.0, 2.0) - scipy.stats.norm.ppf(level, -0.5, 0.7)
    found = distances.gaussian_frechet([1.0], [[4.0]], [-0.5], [[0.49]])
    assert found == pytest.approx(float((gap**2).mean()), rel=1e-4)


def test_plain_frechet_is_that_of_numpys_moments():
    samples = RANDOM(2).standard_normal((50, 4)) @ covariance(4, 3)
    mean, matrix = RANDOM(6).standard_normal(4), covariance(4, 7)
    expected = distances.gaussian_frechet(samples.mean(axis=0), np.cov(samples.T), mean, matrix)
    assert distances.frechet(samples, mean, matrix).plain == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.1, 1.0), (0.3, 1.2)])
def test_frechet_is_without_bias_and_its_error_is_true(shift, scale):
    # 200 independent estimates of a distance that is known; d = 10, n = 200.
    truth = distances.gaussian_frechet(np.full(10, shift), scale**2 * np.eye(10), np.zeros(10), np.eye(10))
    found = [
        distances.frechet(shift + scale * RANDOM(seed).standard_normal((200, 10)), np.zeros(10), np.eye(10))
        for seed in range(200)
    ]
    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
    spread = values.std() / np.sqrt(len(values))
    # What is left of the bias is of order n^{-2}: below a tenth of the plain estimate's. |z| < 4: one seed in 16000.
    assert abs(values.mean() - truth) < 4.0 * spread + 0.1 * np.mean([one.bias for one in found])
    assert np.mean([one.plain for one in found]) - truth > 10.0 * spread  # which the plain estimate would not pass
    # Errors in the mean square against the spread, which is known to 5%: true, or up to √2 too large near zero.
    ratio = np.sqrt((errors**2).mean()) / values.std()
    assert 0.85 < ratio < (1.65 if shift < 0.2 else 1.25)


def test_coupled_frechet_has_the_same_mean_and_a_fraction_of_the_error():
    mean, matrix = np.zeros(6), covariance(6, 1)
    root = np.linalg.cholesky(matrix)
    truth = distances.gaussian_frechet(np.full(6, 0.02), 1.02**2 * matrix, mean, matrix)
    alone, coupled = [], []
    for seed in range(100):
        reference = RANDOM(seed).standard_normal((300, 6)) @ root.T
        samples = 0.02 + 1.02 * reference
        alone.append(distances.frechet(samples, mean, matrix))
        coupled.append(distances.frechet(samples, mean, matrix, coupled=reference))
    values = np.array([one.value for one in coupled])
    assert abs(values.mean() - truth) < 4.0 * values.std() / 10.0 + 0.02 * truth
    assert values.std() < 0.1 * np.std([one.value for one in alone])
    assert np.mean([one.error for one in coupled]) == pytest.approx(values.std(), rel=0.35)


def test_frechet_of_an_indefinite_coupled_covariance_is_finite():
    generator = RANDOM(3)
    found = distances.frechet(
        0.1 * generator.standard_normal((40, 3)),
        np.zeros(3),
        np.eye(3),
        coupled=2.0 * generator.standard_normal((40, 3)),
    )
    assert np.isfinite([found.value, found.error, found.bias]).all()


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (31, 64)])
def test_sliced_wasserstein_of_the_line_is_scipys(n, m):
    samples, reference = RANDOM(1).standard_normal((n, 1)), 0.5 + RANDOM(2).exponential(size=(m, 1))
    found = distances.sliced_wasserstein(samples, reference, order=1, directions=3, groups=4)
    assert found.plain == pytest.approx(scipy.stats.wasserstein_distance(samples[:, 0], reference[:, 0]), rel=1e-12)


def test_sliced_wasserstein_of_equal_samples_is_the_cheapest_assignment_on_each_line():
    samples, reference = RANDOM(1).standard_normal((30, 4)), 2.0 * RANDOM(2).standard_normal((30, 4))
    axes = RANDOM(7).standard_normal((5, 4))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    expected = []
    for axis in axes:
        cost = (samples @ axis)[:, None] - (reference @ axis)
        rows, columns = scipy.optimize.linear_sum_assignment(cost**2)
        expected.append((cost[rows, columns] ** 2).mean())
    found = distances.sliced_wasserstein(samples, reference, directions=5, seed=7, groups=5)
    assert found.plain == pytest.approx(np.mean(expected), rel=1e-12)


def test_sliced_wasserstein_of_gaussians_is_a_mean_over_the_sphere():
    # N(μ, s² I) and N(0, I) in d dimensions: E (θ·μ)² + (s − 1)² = |μ|²/d + (s − 1)².
    values = []
    for seed in range(12):
        samples = 0.5 + 1.3 * RANDOM(seed).standard_normal((400, 5))
        reference = RANDOM(100 + seed).standard_normal((400, 5))
        values.append(distances.sliced_wasserstein(samples, reference, directions=300, seed=seed))
    mean, spread = np.mean([one.value for one in values]), np.std([one.value for one in values], ddof=1)
    assert abs(mean - (0.25 + 0.09)) < 5.0 * spread / np.sqrt(12)  # t with 11 degrees of freedom: one seed in 2500
    assert 0.5 < np.mean([one.error for one in values]) / spread < 2.0


def test_energy_distance_of_the_line_is_the_square_of_scipys():
    samples, reference = RANDOM(1).standard_normal((40, 1)), RANDOM(2).exponential(size=(55, 1))
    found = distances.energy(samples, reference, groups=5)
    assert found.plain == pytest.approx(scipy.stats.energy_distance(samples[:, 0], reference[:, 0]) ** 2, rel=1e-11)


@pytest.mark.parametrize("paired", [False, True])
def test_energy_distance_is_the_u_statistic_and_its_error_the_jackknifes_by_brute_force(paired):
    samples, reference = RANDOM(1).standard_normal((24, 3)), 0.2 + RANDOM(2).standard_normal((24, 3))

    def brute(kept):
        one, two = samples[kept], reference[kept]
        n = len(one)
        cross = scipy.spatial.distance.cdist(one, two)
        mean = (cross.sum() - np.trace(cross)) / (n * (n - 1)) if paired else cross.mean()
        same = sum(scipy.spatial.distance.pdist(part).sum() * 2.0 / (n * (n - 1)) for part in (one, two))
        return 2.0 * mean - same

    found = distances.energy(samples, reference, paired=paired, groups=6)
    parts = np.array([brute(np.arange(24) % 6 != group) for group in range(6)])
    assert found.value == pytest.approx(brute(np.arange(24)), rel=1e-12)
    assert found.error == pytest.approx(np.sqrt(5 / 6 * ((parts - parts.mean()) ** 2).sum()), rel=1e-11)


def test_paired_energy_distance_is_without_bias_under_a_tight_coupling():
    # Both N(0, I), correlated 0.99: the distance is 0. With the pairs (i, i) in, it would be lower by their mean.
    values, naive = [], []
    for seed in range(60):
        reference = RANDOM(seed).standard_normal((100, 4))
        samples = 0.99 * reference + np.sqrt(1 - 0.99**2) * RANDOM(1000 + seed).standard_normal((100, 4))
        values.append(distances.energy(samples, reference, paired=True).value)
        naive.append(distances.energy(samples, reference).value)
    assert abs(np.mean(values)) < 4.0 * np.std(values) / np.sqrt(60)
    assert abs(np.mean(naive)) > 10.0 * np.std(naive) / np.sqrt(60)


def test_energy_sums_do_not_depend_on_the_size_of_their_parts(monkeypatch):
    samples, reference = RANDOM(1).standard_normal((40, 3)), RANDOM(2).standard_normal((50, 3))
    whole = distances.energy(samples, reference)
    monkeypatch.setattr(distances, "_ENTRIES", 64)
    parts = distances.energy(samples, reference)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.error == pytest.approx(whole.error, rel=1e-10)


GOOD = RANDOM(0).standard_normal((20, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distances.frechet(GOOD, [0.0], np.eye(2)), "mean must have 2 entries"),
        (lambda: distances.frechet(GOOD, [0.0, 0.0], np.eye(3)), r"covariance must have shape \(2, 2\)"),
        (lambda: distances.frechet(GOOD, [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (lambda: distances.frechet(GOOD, [0.0, 0.0], np.diag([1.0, -1.0])), "semidefinite; got an eigenvalue of -1"),
        (
            lambda: distances.frechet(GOOD, [0.0, 0.0], np.eye(2), coupled=GOOD[:5], groups=2),
            "a row for each of the 20",
        ),
        (lambda: distances.frechet(GOOD, [0.0, 0.0], np.eye(2), groups=11), "groups must be an integer >= 2 and < 11"),
        (lambda: distances.frechet(GOOD[:3], [0.0, 0.0], np.eye(2)), "at least 4 rows; got 3"),
        (lambda: distances.frechet(GOOD * np.nan, [0.0, 0.0], np.eye(2)), "samples must be finite"),
        (lambda: distances.gaussian_frechet([0.0], [[1.0]], [0.0, 0.0], np.eye(2)), "other_mean must have 1 entries"),
        (lambda: distances.sliced_wasserstein(GOOD, GOOD[:, :1], groups=2), "reference must have 2 columns"),
        (lambda: distances.sliced_wasserstein(GOOD, GOOD, order=3, groups=2), "order must be an integer >= 1 and < 3"),
        (
            lambda: distances.sliced_wasserstein(GOOD, GOOD, directions=0, groups=2),
            "directions must be an integer >= 1",
        ),
        (lambda: distances.energy(GOOD, GOOD[:10], paired=True, groups=2), "reference must have 20 rows"),
        (lambda: distances.energy(GOOD, GOOD[:10]), "groups must be an integer >= 2 and < 6"),
        (lambda: distances.moments(mixture("full"), time=-1.0), "time"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

import math
import pickle

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import ortho_group

from srkverify.targets import GaussianMixture

EPS = np.finfo(np.float64).eps
FORMS = ("scalar", "isotropic", "diagonal", "shared diagonal", "full", "shared full")
seeds = st.integers(0, 2**32 - 1)
times = st.sampled_from([0.0, 1e-8, 0.01, 0.5, 3.0])
quick = settings(max_examples=40, deadline=None, derandomize=True)


def covariances_of(form, c, d, rng):
    """Well-conditioned covariances: eigenvalues in [0.2, 2]."""
    count = 1 if form.startswith("shared") else c
    if form == "scalar":
        return rng.uniform(0.2, 2.0)
    if form == "isotropic":
        return rng.uniform(0.2, 2.0, c)
    diagonals = rng.uniform(0.2, 2.0, (count, d))
    if form.endswith("diagonal"):
        return diagonals
    bases = np.stack([np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(count)])
    return (bases * diagonals[:, None]) @ bases.swapaxes(1, 2)


def full(covariances, c, d):
    """Return covariances in any allowed form as (c, d, d) matrices, by the definition of the forms."""
    covariances = np.asarray(covariances)
    if covariances.ndim < 2:
        covariances = np.broadcast_to(covariances.reshape(-1, 1), (c, d))
    if covariances.ndim == 2:
        covariances = covariances[:, :, None] * np.eye(d)
    return np.broadcast_to(covariances, (c, d, d))


def drawn_mixture(seed):
    rng = np.random.default_rng(seed)
    c, d, form = rng.integers(1, 4), rng.integers(1, 4), rng.choice(FORMS)
    weights = rng.dirichlet(np.ones(c))
    target = GaussianMixture(weights, rng.uniform(-2, 2, (c, d)), covariances_of(form, c, d, rng))
    return target, rng, rng.uniform(-3, 3, (5, d))


def exact(weights, means, covariances, x, time):
    """Log density and score at one point, from the definition, to 50 digits; inputs are taken as exact."""
    with mp.workdps(50):
        c, d = np.shape(means)
        decay = mp.exp(-mp.mpf(time))
        density, gradient = mp.mpf(0), mp.zeros(d, 1)
        for i in range(c):
            covariance = decay**2 * mp.matrix(covariances[i].tolist()) + (1 - decay**2) * mp.eye(d)
            offset = mp.matrix(list(x)) - decay * mp.matrix(list(means[i]))
            solved = mp.inverse(covariance) * offset
            scale = mp.mpf(weights[i]) / mp.sqrt((2 * mp.pi) ** d * mp.det(covariance))
            term = scale * mp.exp(-(offset.T * solved)[0] / 2)
            density += term
            gradient -= term * solved
        return float(mp.log(density)), np.array([float(g / density) for g in gradient])


def central_difference(function, step=1e-4):
    """Return the derivative of function at 0 by Richardson's rule, and a bound on its error.

    The unextrapolated truncation error at the double step, |D(2h) − D(h)|, bounds that of the extrapolated
    value; rounding adds a few eps times the values over the step.
    """
    values = {k: np.asarray(function(k * step)) for k in (-2, -1, 1, 2)}
    fine = (values[1] - values[-1]) / (2 * step)
    coarse = (values[2] - values[-2]) / (4 * step)
    rounding = 100 * EPS * (1 + max(np.abs(value).max() for value in values.values())) / step
    assert np.abs(coarse - fine).max() < 1e-3 * (1 + np.abs(fine).max()), "the bound must not be vacuous"
    return fine + (fine - coarse) / 3, np.abs(coarse - fine) + rounding


@pytest.mark.parametrize("time", [0.0, 1e-8, 0.3, 6.0])
@pytest.mark.parametrize("form", FORMS)
def test_density_and_score_against_fifty_digits(form, time):
    rng = np.random.default_rng(1)
    c, d = 3, 3
    weights, means = np.array([0.2, 0.5, 0.3]), rng.uniform(-2, 2, (c, d))
    covariances = covariances_of(form, c, d, rng)
    target = GaussianMixture(weights, means, covariances)
    for x in rng.uniform(-4, 4, (4, d)):
        log_density, score = exact(weights, means, full(covariances, c, d), x, time)
        np.testing.assert_allclose(target.log_density(x, time), log_density, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(target.score(x, time), score, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("variance", "time"), [(0.25, 0.0), (0.0, 1e-8), (1e-8, 0.0), (0.0, 0.5)])
def test_far_means_and_tiny_variances_against_fifty_digits(variance, time):
    weights, means = np.array([0.3, 0.0, 0.7]), np.array([[-500.0, 1.0], [0.0, 0.0], [500.0, -1.0]])
    target = GaussianMixture(weights, means, variance)
    width = math.sqrt(variance * math.exp(-2 * time) - math.expm1(-2 * time))
    near = math.exp(-time) * means[2] + width * np.array([0.7, -1.3])
    for x in (near, means[0], np.array([-200.0, 3.0]), np.array([1e4, 1e4])):
        log_density, score = exact(weights, means, full(variance, 3, 2), x, time)
        # Rounding of e^{−t} m and of x − m moves x by a few eps · |x|: that times the score's slope.
        moved = 4 * EPS * (500 + np.abs(x).max())
        np.testing.assert_allclose(
            target.log_density(x, time), log_density, rtol=1e-13, atol=2 * moved * np.abs(score).max() + 1e-12
        )
        np.testing.assert_allclose(target.score(x, time), score, rtol=1e-13, atol=moved / width**2)


@quick
@given(seeds, times)
def test_score_is_the_gradient_and_jvp_its_derivative(seed, time):
    target, rng, x = drawn_mixture(seed)
    v = rng.standard_normal(x.shape)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    slope, error = central_difference(lambda step: target.log_density(x + step * v, time))
    assert (np.abs((target.score(x, time) * v).sum(axis=1) - slope) <= error).all()
    bend, error = central_difference(lambda step: target.score(x + step * v, time))
    assert (np.abs(target.score_jvp(x, v, time) - bend) <= error).all()


@quick
@given(seeds, times, times)
def test_diffusion_is_a_semigroup(seed, first, second):
    target, _, x = drawn_mixture(seed)
    twice, once = target.diffused(first).diffused(second), target.diffused(first + second)
    np.testing.assert_allclose(twice.means, once.means, rtol=1e-14)
    np.testing.assert_allclose(twice.variances, once.variances, rtol=1e-14)
    assert twice.bases is target.bases
    np.testing.assert_allclose(twice.score(x), target.score(x, first + second), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(target.diffused(first).log_density(x, second), once.log_density(x), rtol=1e-12)


@quick
@given(seeds, times)
def test_rotation_moves_the_law(seed, time):
    target, rng, x = drawn_mixture(seed)
    v = rng.standard_normal(x.shape)
    d = target.dimension
    Q = ortho_group.rvs(d, random_state=seed) if d > 1 else np.array([[-1.0]])
    moved = target.rotated(Q)
    near = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(moved.log_density(x @ Q.T, time), target.log_density(x, time), **near)
    np.testing.assert_allclose(moved.score(x @ Q.T, time), target.score(x, time) @ Q.T, **near)
    np.testing.assert_allclose(moved.score_jvp(x @ Q.T, v @ Q.T, time), target.score_jvp(x, v, time) @ Q.T, **near)
    assert (moved.kind == "isotropic") == (target.kind == "isotropic")
    back = moved.rotated(Q.T)
    c = target.components
    np.testing.assert_allclose(full(back.covariances, c, d), full(target.covariances, c, d), atol=1e-13)


@quick
@given(seeds, times)
def test_forms_of_the_same_covariances_agree(seed, time):
    rng = np.random.default_rng(seed)
    c, d = rng.integers(1, 4), rng.integers(2, 4)
    weights, means = rng.dirichlet(np.ones(c)), rng.uniform(-2, 2, (c, d))
    x, v = rng.uniform(-3, 3, (2, 6, d))
    for form in FORMS:
        given_form = covariances_of(form, c, d, rng)
        target = GaussianMixture(weights, means, given_form)
        same = [GaussianMixture(weights, means, target.covariances)]
        same.append(GaussianMixture(weights, means, full(given_form, c, d)))
        if form in ("scalar", "isotropic"):
            same.append(GaussianMixture(weights, means, np.full((c, d), np.reshape(given_form, (-1, 1)) + np.zeros(d))))
        for other in same:
            near = {"rtol": 1e-11, "atol": 1e-11}
            np.testing.assert_allclose(other.log_density(x, time), target.log_density(x, time), **near)
            np.testing.assert_allclose(other.score(x, time), target.score(x, time), **near)
            np.testing.assert_allclose(other.score_jvp(x, v, time), target.score_jvp(x, v, time), **near)


@pytest.mark.parametrize(
    ("covariances", "kind", "variances", "bases"),
    [
        (2.0, "isotropic", (1, 1), None),
        ([1.0, 2.0], "isotropic", (2, 1), None),  # c = d = 2: the number of axes decides
        ([[1.0, 2.0]], "diagonal", (1, 2), None),
        ([[1.0, 2.0], [3.0, 4.0]], "diagonal", (2, 2), None),
        (np.eye(2)[None], "full", (1, 2), (1, 2, 2)),
        (np.stack([np.eye(2), np.ones((2, 2))]), "full", (2, 2), (2, 2, 2)),
    ],
)
def test_representation(covariances, kind, variances, bases):
    target = GaussianMixture([0.5, 0.5], [[0.0, 1.0], [2.0, 3.0]], covariances)
    assert (target.kind, target.components, target.dimension) == (kind, 2, 2)
    assert target.variances.shape == variances
    assert (None if target.bases is None else target.bases.shape) == bases
    np.testing.assert_allclose(full(target.covariances, 2, 2), full(covariances, 2, 2), atol=1e-15)
    assert f"kind={kind!r}" in repr(target)
    for array in (target.weights, target.means, target.variances, target.diffused(1.0).means):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7.0
    with pytest.raises(AttributeError):
        target.weights = np.ones(2)
    copy = pickle.loads(pickle.dumps(target))
    np.testing.assert_array_equal(copy.log_density([1.0, 1.0], 0.1), target.log_density([1.0, 1.0], 0.1))


def test_singular_covariances_have_a_density_only_later():
    line = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])[None]
    target = GaussianMixture([1.0], np.zeros((1, 3)), line)
    np.testing.assert_array_equal(target.variances[0, :2], 0.0)
    for method in (target.log_density, target.score, lambda x: target.score_jvp(x, x)):
        with pytest.raises(ValueError, match=r"time.*time > 0 is required"):
            method(np.ones(3))
    assert np.isfinite(target.score(np.ones(3), 1e-8)).all()
    np.testing.assert_allclose(np.cross(target.sample(10, seed=0), [1.0, 2.0, 3.0]), 0.0, atol=1e-14)


def test_zero_weights_do_not_count():
    target = GaussianMixture([0.0, 1.0], [[5.0], [0.0]], 1.0)
    alone = GaussianMixture([1.0], [[0.0]], 1.0)
    x = np.linspace(-9, 9, 7)[:, None]
    np.testing.assert_array_equal(target.log_density(x), alone.log_density(x))
    np.testing.assert_array_equal(target.score_jvp(x, x), alone.score_jvp(x, x))
    assert np.abs(target.sample(1000, seed=0)).max() < 5


def test_one_point_has_no_particle_axis():
    target, _, x = drawn_mixture(3)
    assert target.log_density(x[0]).shape == ()
    assert target.log_density(x).shape == (5,)
    np.testing.assert_allclose(target.score(x[1]), target.score(x)[1], rtol=1e-13)
    np.testing.assert_allclose(target.score_jvp(x[1], x[0]), target.score_jvp(x, x[[0] * 5])[1], rtol=1e-13)


@pytest.mark.parametrize(("a", "variance"), [(1.0, 0.5), (1.0, 1e-3), (500.0, 1.0)])
def test_jvp_between_two_equal_peaks(a, variance):
    # For ½N(−a, v) + ½N(a, v) the score is (a tanh(ax/v) − x)/v.
    target = GaussianMixture([0.5, 0.5], [[-a], [a]], variance)
    x = np.array([0.0, 0.3, -1.0, 2.0, 40.0]) * variance / a
    slope = (a / variance / np.cosh(a * x / variance)) ** 2 - 1 / variance
    # log weights of size a²/2v round to eps of that, which the posterior inherits.
    near = 1e-13 + 4 * EPS * a**2 / variance
    jvp = target.score_jvp(x[:, None], np.full((5, 1), 2.0))[:, 0]
    np.testing.assert_allclose(jvp, 2 * slope, rtol=near, atol=near * (a / variance) ** 2)


def test_slices_of_particles_join_up():
    rng = np.random.default_rng(0)
    target = GaussianMixture([0.5, 0.5], rng.standard_normal((2, 1000)), 1.0)
    x, v = rng.standard_normal((2, 300, 1000))
    few = [slice(0, 7), slice(7, 290), slice(290, 300)]
    for method in (target.log_density, target.score):
        np.testing.assert_allclose(method(x), np.concatenate([method(x[rows]) for rows in few]), rtol=1e-13)
    parts = [target.score_jvp(x[rows], v[rows]) for rows in few]
    np.testing.assert_allclose(target.score_jvp(x, v), np.concatenate(parts), rtol=1e-12, atol=1e-12)


def test_a_hundred_thousand_dimensions():
    d, variance, time = 100_000, 0.3, 0.2
    rng = np.random.default_rng(0)
    means = rng.standard_normal((2, d))
    now = variance * math.exp(-2 * time) - math.expm1(-2 * time)
    one = GaussianMixture([1.0], means[:1], variance)
    assert one.variances.size == 1
    x = one.sample(3, seed=1, time=time)
    offset = x - math.exp(-time) * means[0]
    direct = [-0.5 * (math.fsum(row**2) / now + d * math.log(2 * math.pi * now)) for row in offset]
    np.testing.assert_allclose(one.log_density(x, time), direct, rtol=1e-13)
    np.testing.assert_allclose(one.score(x, time), -offset / now, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one.score_jvp(x, offset, time), -offset / now, rtol=1e-12, atol=1e-14)
    # At this distance the posterior is a point mass: two components give one, and its weight.
    two = GaussianMixture([0.25, 0.75], means, variance)
    np.testing.assert_allclose(two.log_density(x, time), np.array(direct) + math.log(0.25), rtol=1e-13)
    np.testing.assert_allclose(two.score(x, time), -offset / now, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("time", [0.0, 0.3])
@pytest.mark.parametrize("form", FORMS)
def test_samples_have_the_law(form, time):
    # Every projection of the law is a one-dimensional mixture with a known distribution function F, so the
    # Kolmogorov distance of n draws exceeds 2.5/√n with probability 2 exp(−2 · 2.5²) = 7.5e-6. Here
    # 6 forms × 2 times × 3 projections × 2 sets of rows make 72 such tests: false-alarm rate 5.4e-4 over
    # seeds, and none for this fixed one. The first half of the rows alone shows that order carries nothing.
    rng = np.random.default_rng(5)
    c, d, n = 3, 2, 20_000
    weights, means = np.array([0.2, 0.5, 0.3]), rng.uniform(-3, 3, (c, d))
    covariances = covariances_of(form, c, d, rng)
    draws = GaussianMixture(weights, means, covariances).sample(n, seed=11, time=time)
    assert draws.shape == (n, d)
    now = math.exp(-2 * time) * full(covariances, c, d) - math.expm1(-2 * time) * np.eye(d)
    for u in rng.standard_normal((3, d)):
        for rows in (draws, draws[: n // 2]):
            z = np.sort(rows @ u)
            scaled = (z - (math.exp(-time) * means @ u)[:, None]) / np.sqrt(u @ now @ u)[:, None]
            grid = np.arange(len(z) + 1) / len(z)
            distribution = weights @ ndtr(scaled)
            distance = max(np.abs(distribution - grid[1:]).max(), np.abs(distribution - grid[:-1]).max())
            assert distance < 2.5 / math.sqrt(len(z))


def test_sample_moments_and_seeds():
    target = GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    draws = target.sample(100_000, seed=3)
    # Mean 0.3 and variance 0.25 + 2.25 − 0.09 = 2.41. Five standard errors: false-alarm rate 6e-7.
    assert abs(draws.mean() - 0.3) < 5 * math.sqrt(2.41 / 100_000)
    np.testing.assert_array_equal(draws, target.sample(100_000, seed=3))
    assert not np.array_equal(draws, target.sample(100_000, seed=4))

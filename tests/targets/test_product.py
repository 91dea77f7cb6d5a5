import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import ortho_group

from srkverify.targets import GaussianMixture, Product

NEAR = {"rtol": 1e-11, "atol": 1e-11}
seeds = st.integers(0, 2**32 - 1)
times = st.sampled_from([0.0, 1e-8, 0.5, 3.0])


def matrices(block):
    """Return the covariances of a mixture as (c, d, d)."""
    bases = np.eye(block.dimension)[None] if block.bases is None else block.bases
    variances = np.broadcast_to(block.variances, block.means.shape)
    return (bases * variances[:, None]) @ bases.swapaxes(1, 2)


def enumerated(product):
    """List every component of a product, as a mixture with full covariances."""
    stacked = [block for block, repeat in zip(product.blocks, product.repeats, strict=True) for _ in range(repeat)]
    d = sum(block.dimension for block in stacked)
    R = np.eye(d) if product.rotation is None else product.rotation
    weights, means, covariances = [], [], []
    for labels in itertools.product(*(range(block.components) for block in stacked)):
        picked = list(zip(labels, stacked, strict=True))
        weights.append(math.prod(block.weights[i] for i, block in picked))
        means.append(R @ np.concatenate([block.means[i] for i, block in picked]))
        covariance, start = np.zeros((d, d)), 0
        for i, block in picked:
            stop = start + block.dimension
            covariance[start:stop, start:stop] = matrices(block)[i]
            start = stop
        covariances.append(R @ covariance @ R.T)
    return GaussianMixture(weights, means, covariances)


def drawn_product(seed):
    rng = np.random.default_rng(seed)
    line = GaussianMixture([0.4, 0.6], rng.uniform(-2, 2, (2, 1)), rng.uniform(0.2, 2.0, 2))
    root = rng.standard_normal((2, 2, 2))
    plane = GaussianMixture([0.3, 0.7], rng.uniform(-2, 2, (2, 2)), root @ root.swapaxes(1, 2) + 0.2 * np.eye(2))
    repeats = tuple(int(k) for k in rng.integers(1, 3, 2))
    d = repeats[0] + 2 * repeats[1]
    rotation = ortho_group.rvs(d, random_state=seed) if rng.random() < 0.5 else None
    return Product([line, plane], repeats, rotation), rng, rng.uniform(-3, 3, (5, d))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seeds, times)
def test_equals_the_mixture_that_lists_every_component(seed, time):
    product, rng, x = drawn_product(seed)
    listed, v = enumerated(product), rng.standard_normal(x.shape)
    np.testing.assert_allclose(product.log_density(x, time), listed.log_density(x, time), **NEAR)
    np.testing.assert_allclose(product.score(x, time), listed.score(x, time), **NEAR)
    np.testing.assert_allclose(product.score_jvp(x, v, time), listed.score_jvp(x, v, time), **NEAR)
    np.testing.assert_allclose(product.diffused(time).score(x), listed.score(x, time), **NEAR)
    # One point at a time, without the particle axis.
    assert product.log_density(x[0], time).shape == ()
    np.testing.assert_allclose(product.score(x[0], time), listed.score(x[0], time), **NEAR)
    np.testing.assert_allclose(product.score_jvp(x[0], v[0], time), listed.score_jvp(x[0], v[0], time), **NEAR)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seeds, times)
def test_rotation_and_diffusion_commute(seed, time):
    product, _, x = drawn_product(seed)
    Q = ortho_group.rvs(product.dimension, random_state=seed)
    moved = product.rotated(Q).diffused(time)
    np.testing.assert_allclose(moved.log_density(x @ Q.T), product.log_density(x, time), **NEAR)
    np.testing.assert_allclose(moved.score(x @ Q.T), product.score(x, time) @ Q.T, **NEAR)
    np.testing.assert_allclose(product.diffused(time).rotated(Q).score(x), moved.score(x), **NEAR)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("time", [0.0, 0.3])
def test_samples_have_the_law(rotated, time):
    # Projections of the listed mixture are one-dimensional mixtures of known distribution function, so the
    # Kolmogorov distance of n draws exceeds 2.5/√n with probability 7.5e-6. Projections across blocks and
    # copies see their independence. 4 cases × 6 projections: false-alarm rate 1.8e-4 over seeds, and none
    # for this fixed one.
    line = GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    plane = GaussianMixture([0.3, 0.7], [[2.0, 0.0], [0.0, -2.0]], [[0.1, 1.0], [2.0, 0.2]])
    product = Product([line, plane], [2, 1], ortho_group.rvs(4, random_state=1) if rotated else None)
    n = 20_000
    draws = product.sample(n, seed=2, time=time)
    assert draws.shape == (n, 4)
    law = enumerated(product).diffused(time)
    for u in np.random.default_rng(3).standard_normal((6, 4)):
        z = np.sort(draws @ u)
        scaled = (z - (law.means @ u)[:, None]) / np.sqrt(u @ matrices(law) @ u)[:, None]
        distribution, grid = law.weights @ ndtr(scaled), np.arange(n + 1) / n
        distance = max(np.abs(distribution - grid[1:]).max(), np.abs(distribution - grid[:-1]).max())
        assert distance < 2.5 / math.sqrt(n)
    np.testing.assert_array_equal(draws, product.sample(n, seed=2, time=time))


def test_equal_blocks_are_drawn_independently():
    block = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.25)
    n = 20_000
    draws = Product([block, block], [2, 2]).sample(n, seed=0)
    # Correlations of independent columns have standard error 1/√n: 6 tests at five, false-alarm rate 4e-6.
    correlations = np.corrcoef(draws.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(n)


def test_a_hundred_thousand_dimensions():
    block = GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    product = Product([block], [100_000])
    x = product.sample(2, seed=0, time=0.1)
    assert x.shape == (2, product.dimension)
    single = np.array([math.fsum(block.log_density(row[:, None], 0.1)) for row in x])
    np.testing.assert_allclose(product.log_density(x, 0.1), single, rtol=1e-12)
    np.testing.assert_array_equal(product.score(x, 0.1)[1], block.score(x[1][:, None], 0.1)[:, 0])


def test_is_immutable_and_short_to_print():
    block = GaussianMixture([1.0], [[0.0]], 1.0)
    product = Product([block], np.array([3]), np.eye(3))
    assert (product.blocks, product.repeats, product.dimension) == ((block,), (3,), 3)
    assert Product([block, block]).repeats == (1, 1)
    with pytest.raises(AttributeError):
        product.repeats = (4,)
    for rotation in (product.rotation, product.rotated(np.eye(3)).rotation):
        with pytest.raises(ValueError, match="read-only"):
            rotation[0, 0] = 2.0
    assert repr(product).startswith("Product(dimension=3")
    assert "rotated" in repr(product)


BLOCK = GaussianMixture([1.0], [[0.0]], 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "blocks must be a non-empty sequence"),
        ((BLOCK,), "blocks must be a non-empty sequence"),
        (([BLOCK, 3.0],), "blocks must all be GaussianMixture; got float at index 1"),
        (([Product([BLOCK])],), "blocks must all be GaussianMixture; got Product"),
        (([BLOCK], 2), "repeats must be a sequence of 1 integers"),
        (([BLOCK], [1, 2]), "repeats must be a sequence of 1 integers"),
        (([BLOCK], [0]), r"repeats\[0\] must be an integer >= 1"),
        (([BLOCK], [1.5]), r"repeats\[0\] must be an integer >= 1"),
        (([BLOCK], [2], np.eye(3)), r"rotation must have shape \(2, 2\)"),
        (([BLOCK], [2], np.ones((2, 2))), "rotation must be orthogonal"),
        (([BLOCK], [2], [[np.nan, 0.0], [0.0, 1.0]]), "rotation must be finite"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Product(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda product: product.diffused(-1.0), "time must be"),
        (lambda product: product.log_density([0.0, 0.0]), r"time.*time > 0 is required"),
        (lambda product: product.score([0.0, 0.0]), r"time.*time > 0 is required"),
        (lambda product: product.score([0.0, np.nan], 1.0), "x must be finite"),
        (lambda product: product.log_density([[0.0]], 1.0), r"x must have shape \(n, 2\)"),
        (lambda product: product.score_jvp([[0.0, 0.0]], [0.0, 0.0], 1.0), "direction must have the shape"),
        (lambda product: product.sample(0, seed=0), "particles must be"),
        (lambda product: product.sample(1, seed=-3), "seed must be"),
        (lambda product: product.rotated(2.0 * np.eye(2)), "rotation must be orthogonal"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Product([BLOCK], [2]))

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

import srkverify as sv
from srkverify.divergence import NotReducibleError, reduce
from srkverify.divergence.reduction import GaussianBlock, MixtureBlock

TABLEAU = sv.schemes.srk(sv.schedules.exponential(4.0, 0.05, 12))
seeds = st.integers(0, 2**32).map(np.random.default_rng)


def factor(rng, components):
    return sv.GaussianMixture(
        rng.dirichlet(2 * np.ones(components)), 2 * rng.normal(size=(components, 1)), rng.uniform(0.1, 1, components)
    )


def listed(factors):
    """Return the product of 1-D mixtures as one mixture with every component listed."""
    weights, means, variances = [], [], []
    for choice in itertools.product(*(range(f.components) for f in factors)):
        weights.append(np.prod([f.weights[i] for f, i in zip(factors, choice, strict=True)]))
        means.append([f.means[i, 0] for f, i in zip(factors, choice, strict=True)])
        variances.append(
            [np.broadcast_to(f.variances, (f.components, 1))[i, 0] for f, i in zip(factors, choice, strict=True)]
        )
    return sv.GaussianMixture(weights, means, variances)


def agree(a, b):
    assert a.value == pytest.approx(b.value, rel=1e-9, abs=2e-10)


@given(rng=seeds)
def test_a_listed_product_and_its_rotation_have_the_kl_of_the_factors(rng):
    factors = [factor(rng, c) for c in rng.integers(1, 4, size=3)]
    expected = sum(sv.kl(f, TABLEAU).value for f in factors)
    product = sv.Product(factors)
    assert sv.kl(product, TABLEAU).value == pytest.approx(expected, rel=1e-12)
    agree(sv.kl(listed(factors), TABLEAU), sv.kl(product, TABLEAU))
    rotation = ortho_group.rvs(3, random_state=int(rng.integers(1 << 31)))
    agree(sv.kl(listed(factors).rotated(rotation), TABLEAU), sv.kl(product, TABLEAU))
    agree(sv.kl(product.rotated(rotation), TABLEAU), sv.kl(product, TABLEAU))


@given(rng=seeds)
def test_a_rotated_isotropic_product_is_found_among_its_means(rng):
    # All variances equal: the covariances say nothing about the directions, the means must.
    factors = [sv.GaussianMixture(rng.dirichlet(2 * np.ones(c)), 2 * rng.normal(size=(c, 1)), 0.3) for c in (2, 3)]
    rotation = ortho_group.rvs(2, random_state=int(rng.integers(1 << 31)))
    flat = listed(factors)
    isotropic = sv.GaussianMixture(flat.weights, flat.means, 0.3).rotated(rotation)
    agree(sv.kl(isotropic, TABLEAU), sv.kl(sv.Product(factors), TABLEAU))


@given(rng=seeds, components=st.integers(2, 4), dimension=st.integers(2, 6))
def test_collinear_means_are_one_mixture_and_gaussian_directions(rng, components, dimension):
    weights, places = rng.dirichlet(2 * np.ones(components)), 2 * rng.normal(size=components)
    direction = rng.normal(size=dimension)
    direction /= np.linalg.norm(direction)
    center = rng.normal(size=dimension)
    target = sv.GaussianMixture(weights, center + np.outer(places, direction), 0.4)
    offset = center @ direction
    line = sv.GaussianMixture(weights, (places + offset)[:, None], 0.4)
    rest = sv.GaussianMixture([1.0], [[np.linalg.norm(center - offset * direction)] + [0.0] * (dimension - 2)], 0.4)
    expected = sv.kl(line, TABLEAU).value + sv.kl(rest, TABLEAU).value
    assert sv.kl(target, TABLEAU).value == pytest.approx(expected, rel=1e-9)


def test_difference_along_an_eigenvector_of_a_full_covariance():
    rng = np.random.default_rng(0)
    basis = ortho_group.rvs(4, random_state=1)
    covariance = basis @ np.diag([0.2, 0.5, 0.5, 1.0]) @ basis.T
    # Along a combination of the two directions of equal variance: still an eigenvector.
    direction = 0.6 * basis[:, 1] + 0.8 * basis[:, 2]
    target = sv.GaussianMixture([0.3, 0.7], np.outer([-1.0, 2.0], direction), covariance[None])
    line = sv.GaussianMixture([0.3, 0.7], [[-1.0], [2.0]], 0.5)
    rest = sv.GaussianMixture([1.0], np.zeros((1, 3)), [[0.2, 0.5, 1.0]])
    agree(sv.kl(target, TABLEAU), sv.kl(sv.Product([line, rest]), TABLEAU))
    with pytest.raises(NotReducibleError, match='method="path"'):
        sv.kl(sv.GaussianMixture([0.3, 0.7], rng.normal(size=(2, 4)), covariance[None]), TABLEAU)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (sv.GaussianMixture(np.ones(3) / 3, [[0, 0], [1, 0], [0.5, 1]], 0.1), "not collinear"),
        (sv.GaussianMixture([0.5, 0.5], [[0, 0], [0, 0]], [0.1, 0.2]), "unequal covariance"),
        (sv.GaussianMixture([0.5, 0.5], [[0, 0], [1, 1]], [[0.1, 0.2], [0.1, 0.2]]), "not independent"),
        (
            sv.GaussianMixture([0.5, 0.5], [[0, 0], [0, 0]], [[[1, 0.5], [0.5, 1]], [[1, 0], [0, 2]]]),
            "do not commute",
        ),
        # A 2 × 2 arrangement whose weights are not a product.
        (sv.GaussianMixture([0.4, 0.1, 0.1, 0.4], [[0, 0], [0, 1], [1, 0], [1, 1]], 0.1), "not independent"),
    ],
)
def test_what_does_not_reduce_says_why_and_what_to_use(target, reason):
    with pytest.raises(ValueError, match=rf'{reason}.*method="path"'):
        sv.kl(target, TABLEAU)


def test_components_without_weight_and_twins_do_not_count():
    plain = sv.GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.0]], 0.2)
    padded = sv.GaussianMixture([0.4, 0.2, 0.4, 0.0], [[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [9.0, 9.0]], 0.2)
    agree(sv.kl(padded, TABLEAU), sv.kl(plain, TABLEAU))
    (mixture,) = [block for block in reduce(padded) if isinstance(block, MixtureBlock)]
    assert len(mixture.mixture.weights) == 2


def test_dimension_a_hundred_thousand():
    dimension = 100_000
    direction = np.full(dimension, 1 / np.sqrt(dimension))
    target = sv.GaussianMixture([0.5, 0.5], np.outer([-1.5, 1.5], direction), 0.25)
    blocks = reduce(target)
    assert sum(block.count if isinstance(block, MixtureBlock) else block.counts.sum() for block in blocks) == dimension
    line = sv.GaussianMixture([0.5, 0.5], [[-1.5], [1.5]], 0.25)
    gaussian = sv.kl(sv.GaussianMixture([1.0], [[0.0]], 0.25), TABLEAU).value
    expected = sv.kl(line, TABLEAU).value + (dimension - 1) * gaussian
    assert sv.kl(target, TABLEAU).value == pytest.approx(expected, rel=1e-9)


def test_equal_eigenvalues_are_computed_once():
    (block,) = reduce(sv.GaussianMixture([1.0], [[1.0, 2.0, 2.0, 0.0]], [[0.5, 0.5, 0.5, 0.7]]))
    assert isinstance(block, GaussianBlock)
    np.testing.assert_array_equal(block.counts, [3, 1])
    np.testing.assert_allclose(block.means**2 * block.counts, [9.0, 0.0])

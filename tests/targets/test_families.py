import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import srkverify as sv
from srkverify.divergence import reduce
from srkverify.targets.families import FAMILIES, family


def listed_product(lines):
    """Weights, means and variances of the product of one-dimensional mixtures, component by component."""
    weights, means, variances = [], [], []
    for chosen in itertools.product(*lines):
        weights.append(np.prod([weight for weight, _, _ in chosen]))
        means.append([mean for _, mean, _ in chosen])
        variances.append([variance for _, _, variance in chosen])
    return weights, means, variances


def mixture(variance):
    return [(0.4, -1.5, variance), (0.6, 1.5, variance)]


EXPLICIT = {
    "product_mixture": lambda d: listed_product([mixture(0.25)] * d),
    "two_point": lambda d: (
        [0.5, 0.5],
        [[-1.5 / np.sqrt(d)] * d, [1.5 / np.sqrt(d)] * d],
        [[0.25] * d] * 2,
    ),
    "two_point_growing": lambda d: ([0.5, 0.5], [[-1.5] * d, [1.5] * d], [[0.25] * d] * 2),
    "gaussian_decaying": lambda d: ([1.0], [[0.0] * d], [[1.0 / i**2 for i in range(1, d + 1)]]),
    "low_rank": lambda d: listed_product([mixture(0.25)] * min(d, 4) + [[(1.0, 0.0, 0.0)]] * max(d - 4, 0)),
    "rough": lambda d: listed_product([mixture(0.25 / d)] * d),
}


def test_every_family_is_checked():
    assert set(EXPLICIT) == set(FAMILIES)
    assert all(name == entry.name for name, entry in FAMILIES.items())
    assert all(entry.description.endswith(".") for entry in FAMILIES.values())


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("name", FAMILIES)
def test_log_density_is_that_of_the_listed_components(name, d):
    entry, time = family(name), 0.3
    weights, means, variances = map(np.array, EXPLICIT[name](d))
    x = 2.0 * np.random.default_rng(d).standard_normal((5, d))
    logs = [
        np.log(weight)
        + multivariate_normal.logpdf(
            x, np.exp(-time) * mean, np.diag(np.exp(-2 * time) * variance + 1.0 - np.exp(-2 * time))
        )
        for weight, mean, variance in zip(weights, means, variances, strict=True)
    ]
    np.testing.assert_allclose(entry.target(d).log_density(x, time), logsumexp(logs, axis=0), rtol=1e-11)


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_is_that_of_the_listed_mixture(name):
    entry = family(name)
    for d in (2, 3) if name != "low_rank" else (2, 5):
        times = sv.schedules.exponential(entry.horizon(d), entry.early_stop(d), 12)
        explicit = sv.GaussianMixture(*EXPLICIT[name](d))
        short, long = (sv.kl(target, sv.schemes.srk(times)) for target in (entry.target(d), explicit))
        assert short.value == pytest.approx(long.value, rel=1e-6, abs=short.error + long.error)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hundred_thousand_dimensions_reduce_to_few_blocks(name):
    entry, d = family(name), 100_000
    blocks = reduce(entry.target(d))
    assert entry.target(d).dimension == d
    assert len(blocks) <= 2
    sizes = [block.counts.sum() if hasattr(block, "counts") else block.count for block in blocks]
    assert sum(sizes) == d


def test_the_times_follow_what_the_family_needs():
    assert family("rough").early_stop(1000) == pytest.approx(1e-5)
    growing = family("two_point_growing")
    shrunk = [np.exp(-growing.horizon(d)) * 1.5 * np.sqrt(d) for d in (1, 100, 100_000)]
    np.testing.assert_allclose(shrunk, shrunk[0])
    for name in ("product_mixture", "two_point", "gaussian_decaying", "low_rank"):
        assert (family(name).horizon(1000), family(name).early_stop(1000)) == (6.0, 0.01)


@pytest.mark.parametrize("d", [0, -1, 1.5, "2", True])
@pytest.mark.parametrize("name", FAMILIES)
def test_bad_dimensions_are_refused(name, d):
    with pytest.raises(ValueError, match="dimension must be an integer >= 1"):
        family(name).target(d)


def test_an_unknown_family_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"family must be one of .* did you mean 'two_point'"):
        family("two_points")

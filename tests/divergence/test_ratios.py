import numpy as np
import pytest
from scipy import stats

from srkverify.divergence import ratios


def lognormal(starts, inner, between, within, seed=0):
    """Log ratios from starts of q and of p, with log r ~ N(−b²/2, b²) under q: N(b²/2, b²) under p, and KL = b²/2."""
    random = np.random.default_rng(seed)
    log_r = between * random.standard_normal((2, starts, 1)) + 0.5 * between**2 * np.array([-1.0, 1.0])[:, None, None]
    return log_r + within * random.standard_normal((2, starts, inner)) - 0.5 * within**2


@pytest.mark.parametrize(
    ("between", "within", "inner"), [(0.1, 0.2, 8), (0.3, 0.3, 8), (0.02, 0.1, 64), (1.5, 0.2, 8), (4.0, 0.3, 16)]
)
def test_kl_and_its_error_on_lognormal_weights(between, within, inner):
    # 400 experiments: their mean is within 4 standard errors (false alarm 6e-5), their spread is the reported error
    # to 20% (the root of a χ² variable with 399 degrees of freedom is within 15% of its mean but for 2e-5).
    found = [ratios.summary(*lognormal(250, inner, between, within, seed)) for seed in range(400)]
    for expected, estimates in ((0.5 * between**2, [one.kl for one in found]), (1.0, [one.check for one in found])):
        values, errors = np.array(estimates).T
        assert abs(values.mean() - expected) < 4.0 * values.std(ddof=1) / 20.0
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.2)
    changes, errors = np.array([one.change for one in found]).T
    assert abs(changes.mean()) < 4.0 * changes.std(ddof=1) / 20.0
    assert errors.mean() == pytest.approx(changes.std(ddof=1), rel=0.25)


def test_starts_where_only_the_sampler_is_have_a_bounded_share():
    # Under q a thousandth of the starts has r = 500, and no sample of 300 need have any; half of p is there.
    random, q = np.random.default_rng(3), np.array([0.001, 0.4995, 0.4995])
    r = np.array([500.0, 0.35 / 0.4995, 0.15 / 0.4995])
    exact = -q @ np.log(r)
    values, errors = [], []
    for _ in range(100):
        log_r = [np.log(random.choice(r, 300, p=law)) for law in (q, q * r)]
        found = ratios.summary(*(np.repeat(each[:, None], 8, axis=1) for each in log_r))
        values.append(found.kl.value)
        errors.append(found.kl.error)
    assert abs(np.mean(values) - exact) < 4.0 * np.std(values, ddof=1) / 10.0
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)  # of 100: within 29% but for 4e-5
    assert np.mean(errors) < 0.1 * exact


def test_to_second_order_kl_is_the_u_statistic_of_pairs():
    logs = 1e-4 * np.random.default_rng(1).standard_normal((2, 1000, 8))
    excess = np.expm1(logs)
    pairs = (excess.sum(axis=2) ** 2 - (excess**2).sum(axis=2)) / (8 * 7)
    assert ratios.summary(*logs).kl.value == pytest.approx(0.5 * pairs.mean(), abs=1e-11)
    assert 0.5 * np.abs(pairs).mean() > 5e-10  # which is fifty times more


def test_the_bias_of_skewed_weights_is_taken_off_order_by_order():
    # Weights 1 + g, g a centred Gamma variable of skewness 2.5, at r = 1, where KL is 0.
    skewed = 1.0 + 0.2 * (np.random.default_rng(4).gamma(0.64, 1.25, (2, 400_000, 8)) - 0.8)
    logs = np.log(skewed)
    assert stats.skew(skewed.ravel()) > 2.0
    found = ratios.summary(*logs)
    plain = ratios._kl(np.log(skewed.mean(axis=2))).mean()
    alone = ratios._jackknife(ratios._kl, logs.reshape(-1, 8)).mean()
    assert plain > 400.0 * found.kl.error  # of order 1/M
    assert 20.0 * found.kl.error < abs(alone) < 0.1 * plain  # of order 1/M²
    assert abs(found.kl.value) < 0.2 * abs(alone)


def test_heavy_tails_show_in_the_change_from_half_the_paths():
    weights = stats.pareto(1.5).rvs((2, 20_000, 8), random_state=5) / 3.0  # mean 1, infinite variance
    found = ratios.summary(*np.log(weights))
    assert abs(found.change.value) > 5.0 * found.change.error
    assert found.tail > 0.5


def test_weights_of_one_path_alone_lose_no_digits():
    logs = np.full((2, 40, 8), -800.0)
    logs[:, :, 2] = 0.0
    assert np.allclose(ratios._log_mean_of_others(logs[0])[:, 2], -800.0)
    assert np.allclose(ratios._log_mean_of_others(logs[0])[:, 0], -np.log(7.0))
    assert ratios.summary(*logs).ess == pytest.approx(80.0)


def test_effective_number_of_paths():
    assert ratios.summary(*np.zeros((2, 10, 8))).ess == pytest.approx(160.0)
    logs = lognormal(10_000, 16, 1.5, 0.5)  # the spread between starts does not count
    # (Σw)²/Σw² of 16 weights with E w² / (E w)² = e^{1/4}: 16/e^{1/4}, but for a bias of some per cent
    assert ratios.summary(*logs).ess == pytest.approx(20_000 * 16 / np.exp(0.25), rel=0.05)


@pytest.mark.parametrize("index", [0.25, 1.0])
def test_hills_index_of_pareto_weights(index):
    # Of 2000 largest weights the standard error is index/√2000; means of the other 63 weights blur it some percent.
    logs = np.log(stats.pareto(1.0 / index).rvs((2, 2000, 64), random_state=2))
    assert ratios.summary(*logs).tail == pytest.approx(index, rel=0.2)


@pytest.mark.parametrize("scale", [0.05, 1.5])
def test_path_kl_and_its_error(scale):
    # L = −s²/2 + s ξ, E e^L = 1, of which a part of variance s²/2 has a mean that is known: KL = s²/2.
    found = []
    for seed in range(200):
        known, other = scale * np.sqrt(0.5) * np.random.default_rng(seed).standard_normal((2, 2, 400))
        found.append(ratios.path_summary(known + other - 0.5 * scale**2, other - 0.5 * scale**2))
    values, errors = np.array(found).T
    # As for KL above, with 200 experiments: the spread is the reported error to 25%.
    assert abs(values.mean() - 0.5 * scale**2) < 4.0 * values.std(ddof=1) / np.sqrt(200)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25)
    plain = scale * np.sqrt(0.5 / 800)
    assert errors.mean() < (0.1 if scale < 1.0 else 1.1) * plain

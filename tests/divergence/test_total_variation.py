"""Total variation in any dimension, against chi-square laws, grids, sampling and mpmath, none of which it uses."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import chi2

import srkverify as sv
from srkverify.divergence import output_density, reduce
from srkverify.divergence.total_variation import Directions, Line, Rule, on_nodes, product_tv
from srkverify.engines import gaussian
from srkverify.engines.quadrature import LEVELS
from srkverify.targets import Product

LINE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
NARROW = sv.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.05], [0.2]])


def tableau(scheme, steps, horizon=6.0):
    return sv.schemes.SCHEMES[scheme](sv.schedules.exponential(horizon, 0.01, steps))


def density(target, table, level=3):
    (block,) = reduce(target)
    return output_density(table, block.mixture, LEVELS[level])


def directions(variance, shift, counts=None):
    variance, shift = np.atleast_1d(np.asarray(variance, dtype=float)), np.atleast_1d(np.asarray(shift, dtype=float))
    return Directions(variance, shift, np.ones_like(variance) if counts is None else np.asarray(counts, float), 0.0)


@pytest.mark.parametrize("dimension", [2, 3, 10, 1_000, 100_000])
@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_martingale", "dpmpp_2m_sde"])
def test_isotropic_gaussians_are_chi_square_laws(scheme, dimension):
    table = tableau(scheme, 32)
    found = sv.tv(sv.GaussianMixture([1.0], np.zeros((1, dimension)), 0.25), table)
    x = gaussian.deviations(table, np.array([0.25]), "exact").variance[0]
    # q > p where |y|²/v is on one side of this.
    edge = dimension * np.log1p(x) * (1.0 + x) / x
    expected = abs(chi2.cdf(edge, dimension) - chi2.cdf(edge / (1.0 + x), dimension))
    assert abs(found.value - expected) <= found.error + 1e-12
    assert found.error <= max(1e-9, 1e-5 * found.value)
    assert found.method == "gaussian"


@pytest.mark.parametrize("shift", [1e-8, 1e-3, 0.5, 3.0, 9.0])
def test_a_shift_in_any_number_of_directions_is_that_of_one(shift):
    expected = float(mpmath.erf(mpmath.mpf(shift) / (2 * mpmath.sqrt(2))))
    spread = np.full(50, shift**2 / 50)
    for part in (directions(0.0, shift**2), directions(np.zeros(50), spread)):
        value, error, _ = product_tv([part], 1e-13, 1e-9)
        assert value == pytest.approx(expected, rel=1e-7, abs=1e-12)
        assert abs(value - expected) <= error


@pytest.mark.parametrize("x", [1e-9, -1e-5, 0.01, -0.3, 2.0])
def test_two_variances_agree_with_fifty_digits(x):
    mpmath.mp.dps = 50
    grown = 1 + mpmath.mpf(x)
    edge = mpmath.log(grown) * grown / x  # of two directions: chi-square with 2 degrees of freedom is exponential
    expected = float(abs(mpmath.exp(-edge) - mpmath.exp(-edge / grown)))
    value, error, _ = product_tv([directions([x, x], [0.0, 0.0])], 0.0, 1e-8)
    assert value == pytest.approx(expected, rel=1e-7)
    assert abs(value - expected) <= error + 1e-15 * expected


@pytest.mark.parametrize(("scheme", "steps"), [("ddpm", 16), ("srk", 64), ("srk_third_point", 32)])
@pytest.mark.parametrize("target", [LINE, NARROW])
def test_one_dimension_by_two_rules(target, scheme, steps):
    """The rule in u against the spline through p − q, which is another computation from the same density."""
    table = tableau(scheme, steps)
    value, error, _ = product_tv([Line.of(density(target, table), 1)], 1e-10, 1e-7)
    spline = sv.tv(target, table)
    assert abs(value - spline.value) <= error + spline.error + 2e-6 * spline.value


@pytest.mark.parametrize(("scheme", "steps"), [("ddpm", 16), ("srk", 32), ("srk_third_point", 24)])
def test_products_agree_with_the_sum_over_a_grid_in_the_plane(scheme, steps):
    table = tableau(scheme, steps)
    first, second = density(LINE, table, 4), density(NARROW, table, 4)
    p = first.value[:, None] * second.value
    q = first.truth[:, None] * second.truth
    area = np.diff(first.points[:2])[0] * np.diff(second.points[:2])[0]
    # Kinks along curves make the sum one of second order: it is the grid that limits the agreement.
    expected = 0.5 * float(np.abs(p - q).sum() * area)
    found = sv.tv(Product([LINE, NARROW]), table)
    assert found.value == pytest.approx(expected, rel=5e-6)
    assert found.error < 1e-6 * expected
    assert found.method == "quadrature"


def test_mixtures_beside_gaussian_directions_agree_with_a_grid():
    table = tableau("ddpm", 24)
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.3], [1.5, 0.3]], 0.25)
    first = density(LINE, table)
    law = gaussian.deviations(table, np.array([0.25]), "exact")
    truth = 0.25 * np.exp(-0.02) - np.expm1(-0.02)
    y = np.linspace(-8.0, 8.0, 1201) * np.sqrt(truth)
    grown = truth * (1.0 + law.variance[0])
    q2 = np.exp(-0.5 * y**2 / truth) / np.sqrt(2.0 * np.pi * truth)
    p2 = np.exp(-0.5 * (y - 0.3 * law.mean[0]) ** 2 / grown) / np.sqrt(2.0 * np.pi * grown)
    area = np.diff(first.points[:2])[0] * (y[1] - y[0])
    expected = 0.5 * float(np.abs(first.value[:, None] * p2 - first.truth[:, None] * q2).sum() * area)
    found = sv.tv(target, table)
    assert found.method == "gaussian+quadrature"
    assert found.value == pytest.approx(expected, rel=1e-4)


def test_ten_dimensions_agree_with_sampling():
    """E_q[(1 − p/q)⁺] over a million draws; false alarm 6e−5 (four standard errors)."""
    table = tableau("srk", 32)
    law = density(LINE, table)
    generator = np.random.default_rng(7)
    edges = np.cumsum(law.truth) / law.truth.sum()
    log_ratio = np.log(np.maximum(law.value, 1e-300) / np.maximum(law.truth, 1e-300))
    total = np.zeros(1_000_000)
    for _ in range(10):
        total += log_ratio[np.searchsorted(edges, generator.random(len(total)))]
    each = -np.expm1(np.minimum(total, 0.0))
    found = sv.tv(Product([LINE], [10]), table)
    assert abs(found.value - each.mean()) < 4.0 * each.std() / 1e3


def test_many_dimensions_have_a_normal_log_ratio():
    """As d grows at fixed KL, l is N(∓τ²/2, τ²), τ² = 2 KL: TV = 2 Φ(τ/2) − 1, up to the skewness, ~ d^−½."""
    gaps = []
    for dimension in (10**3, 10**5, 10**7):
        table = tableau("srk_third_point", 32 * round((dimension / 10**3) ** 0.25))
        target = Product([LINE], [dimension])
        width = np.sqrt(2.0 * sv.kl(target, table).value)
        gaps.append(abs(sv.tv(target, table).value / (2.0 * ndtr(0.5 * width) - 1.0) - 1.0))
    assert gaps[0] < 0.05
    assert gaps[2] < 0.005
    assert gaps[2] < gaps[0]


@given(
    st.sampled_from(["ddpm", "srk", "srk_martingale", "srk_third_point"]),
    st.integers(6, 64),
    st.integers(1, 3),
    st.integers(0, 50),
)
def test_pinsker_and_le_cam_hold(scheme, steps, copies, flat):
    blocks = [LINE] if not flat else [LINE, sv.GaussianMixture([1.0], [[0.5]], 0.1)]
    target = Product(blocks, [copies, flat][: len(blocks)])
    table = tableau(scheme, steps)
    tv, kl = sv.tv(target, table), sv.kl(target, table)
    assert tv.value <= np.sqrt(0.5 * kl.value) + tv.error  # Pinsker
    assert tv.value <= np.sqrt(-np.expm1(-kl.value)) + tv.error  # Bretagnolle & Huber
    assert 0.0 <= tv.value <= 1.0


def test_more_copies_are_farther_apart_and_at_most_the_sum():
    table = tableau("ddpm", 32)
    one, two, four = (sv.tv(Product([LINE], [count]), table).value for count in (1, 2, 4))
    assert one < two < min(four, 2.0 * one)
    assert four < 2.0 * two


def test_laws_that_have_nothing_in_common_are_at_distance_one_without_a_warning():
    assert sv.tv(Product([LINE], [10**6]), tableau("ddpm", 8)).value == pytest.approx(1.0, abs=1e-9)
    lost = sv.tv(sv.GaussianMixture([1.0], [[0.0, 0.0]], 0.0), tableau("ddpm_posterior", 16))
    assert lost.value < 1e-12  # posterior variance is exact on a point mass


def test_the_error_is_honest_and_finer_tolerances_are_met():
    table = tableau("srk", 24)
    target = Product([LINE], [30])
    best = sv.tv(target, table, absolute=0.0, relative=1e-9)
    for relative in (1e-2, 1e-4, 1e-6):
        rough = sv.tv(target, table, absolute=0.0, relative=relative)
        assert abs(rough.value - best.value) <= rough.error + best.error
        assert rough.error <= 3.0 * relative * rough.value


def test_nodes_twice_as_far_apart_change_little():
    part = Line.of(density(LINE, tableau("srk", 32)), 5)
    value, _, rule = product_tv([part], 1e-9, 1e-6)
    assert on_nodes([part], Rule(0.5 * rule.step, 2 * rule.count, 2 * rule.near)) == pytest.approx(value, rel=2e-6)


def test_a_target_that_does_not_reduce_is_refused():
    target = sv.GaussianMixture([0.5, 0.2, 0.3], [[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]], 0.1)
    with pytest.raises(sv.divergence.NotReducibleError, match="target does not split"):
        sv.tv(target, tableau("ddpm", 8))

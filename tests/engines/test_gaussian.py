import mpmath as mp
import numpy as np
import pytest
from reference import gaussian_kl, mp_rows, table_gaussian_kl

import srkverify as sv
from srkverify.engines import gaussian
from srkverify.schemes import COMPARED, SCHEMES

EIGENVALUES = [0.0, 1e-6, 0.25, 1.0, 7.0]
MEMORYLESS = [name for name in COMPARED if SCHEMES[name]([2.0, 1.0]).memory == 0]


def kl_of(eigenvalue, tableau, mean=0.0, **options):
    return sv.kl(sv.GaussianMixture([1.0], [[mean]], eigenvalue), tableau, **options)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("exponential_euler", 2.09e-3),
        ("srk", 3.30e-4),
        ("srk_martingale", 1.62e-6),
        ("srk_third_point", 1.79e-8),
        (lambda times: sv.schemes.srk_third_point(times, evaluations=1, guess="plain"), 1.54e-5),
    ],
)
def test_reference_values_to_their_printed_digits(scheme, expected):
    times = sv.schedules.exponential(6.0, 0.001, 64)
    tableau = (SCHEMES[scheme] if isinstance(scheme, str) else scheme)(times)
    assert f"{kl_of(0.25, tableau, mean=1.0).value:.2e}" == f"{expected:.2e}"


@pytest.mark.parametrize("name", MEMORYLESS)
@pytest.mark.parametrize("steps", [4, 32, 256])
def test_kl_against_mpmath_with_exact_coefficients(name, steps):
    # Down to KL = 1e−14 to 1e−6 relative, and the reported error is never less than the true one.
    times = sv.schedules.exponential(6.0, 0.01, steps)
    tableau = SCHEMES[name](times)
    for eigenvalue in EIGENVALUES:
        result = kl_of(eigenvalue, tableau, mean=1.5)
        with mp.workdps(50):
            expected = float(gaussian_kl(mp_rows(name), times, eigenvalue, 1.5))
        assert abs(result.value - expected) <= result.error + 1e-30
        if expected >= 1e-14:
            assert result.value == pytest.approx(expected, rel=1e-6)
            assert result.error <= 1e-6 * expected


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("start", ["exact", "normal"])
def test_every_table_against_brute_force_in_mpmath(name, start):
    tableau = SCHEMES[name](sv.schedules.exponential(4.0, 0.05, 12))
    for eigenvalue in (0.0, 0.3, 5.0):
        result = kl_of(eigenvalue, tableau, mean=0.7, start=start)
        with mp.workdps(40):
            expected = float(table_gaussian_kl(tableau, eigenvalue, 0.7, start))
        assert result.value == pytest.approx(expected, rel=1e-9)
        assert abs(result.value - expected) <= result.error


def test_a_memory_of_two_is_carried_right():
    # No scheme here has one: a made-up table with two stages a step, both remembered.
    rng = np.random.default_rng(3)
    times = sv.schedules.exponential(2.0, 0.1, 6)
    known = np.arange(6) > 0
    stages = [
        sv.Row(state=1.0, noise=[0.1, 0.2], past_points=[0.05 * known, -0.03 * known], time=times[:-1]),
        sv.Row(state=0.9, scores=[0.2], noise=[0.0, 0.1], past_scores=[0.02 * known], time=times[1:]),
    ]
    h = times[:-1] - times[1:]
    output = sv.Row(
        state=np.exp(h),
        scores=[h, 0.8 * h],
        noise=[np.sqrt(h), 0.3 * np.sqrt(h), 0.1],
        past_points=[0.1 * known * rng.uniform(size=6), -0.1 * known],
        past_scores=[0.0, 0.1 * known],
    )
    tableau = sv.assemble("made_up", times, stages, output)
    for eigenvalue in (0.1, 2.0):
        with mp.workdps(40):
            expected = float(table_gaussian_kl(tableau, eigenvalue, 0.7))
        assert kl_of(eigenvalue, tableau, mean=0.7).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["srk_third_point", "dpmpp_2m_sde"])
def test_small_kl_keeps_its_digits_over_thousands_of_steps(name):
    # KL falls as K⁻⁶ and K⁻⁴ on Gaussians; where it is still ≥ 1e−14 the ladder must be smooth to 1e−6.
    ladder = [256, 512, 1024]
    values = [kl_of(0.25, SCHEMES[name](sv.schedules.exponential(6.0, 0.01, steps))) for steps in ladder]
    for result in values:
        assert result.error < 1e-24 + 3e-13 * np.sqrt(result.value)
    order, tolerance = (6, 0.1) if name == "srk_third_point" else (4, 0.25)
    slopes = np.diff(np.log2([result.value for result in values]))
    np.testing.assert_allclose(slopes, -order, atol=tolerance)


def test_blocks_of_eigenvalues_do_not_disturb_each_other():
    eigenvalues = np.linspace(0.0, 3.0, 1000)
    tableau = SCHEMES["srk_third_point_1"](sv.schedules.exponential(3.0, 0.01, 9))
    together = gaussian.deviations(tableau, eigenvalues)
    for index in (0, 127, 128, 777, 999):
        alone = gaussian.deviations(tableau, eigenvalues[index : index + 1])
        assert together.variance[index] == alone.variance[0]
        assert together.mean[index] == alone.mean[0]
        assert together.variance_error[index] == alone.variance_error[0]


def test_a_sampler_that_loses_all_variance_has_infinite_kl():
    times = sv.schedules.exponential(2.0, 0.1, 3)
    frozen = sv.assemble("frozen", times, [sv.Row(state=1.0, time=times[:-1])], sv.Row(state=0.0, noise=[0.0]))
    result = kl_of(1.0, frozen)
    assert result.value == np.inf


def test_a_variance_that_does_not_shrink_with_the_step_does_not_converge():
    # The negative control: DDPM with the marginal variance as its noise stays wrong as K grows.
    values = [
        kl_of(0.25, sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, steps), variance="marginal")).value
        for steps in (64, 512)
    ]
    assert values[1] > values[0] > 0.1


@pytest.mark.parametrize("name", ["ddpm", "srk_third_point", "dpmpp_2m_sde"])
@pytest.mark.parametrize("start", ["exact", "normal"])
def test_many_eigenvalues_are_interpolated_within_the_reported_error(name, start):
    eigenvalues = np.concatenate([[0.0], np.logspace(-10, 2, 20_000)])
    for steps in (8, 300):
        tableau = SCHEMES[name](sv.schedules.exponential(6.0, 1e-4, steps))
        many = gaussian.deviations(tableau, eigenvalues, start)
        chosen = np.arange(0, len(eigenvalues), 37)
        few = gaussian.deviations(tableau, eigenvalues[chosen], start)
        assert (np.abs(many.variance[chosen] - few.variance) <= many.variance_error[chosen]).all()
        assert (np.abs(many.mean[chosen] - few.mean) <= many.mean_error[chosen]).all()
        # Interpolation costs no more than the rounding of the direct way, give or take a factor.
        assert many.variance_error.max() < 5 * few.variance_error.max()


def test_a_million_eigenvalues_have_the_kl_of_their_sum():
    tableau = SCHEMES["srk"](sv.schedules.exponential(6.0, 0.01, 50))
    eigenvalues = np.linspace(0.0, 2.0, 1_000_000)
    together = sv.kl(sv.GaussianMixture([1.0], np.zeros((1, 1_000_000)), eigenvalues[None, :]), tableau)
    # The mean over a uniform spectrum is an integral over λ: Gauss–Legendre with 40 nodes is exact to 1e-9 or so, and
    # the million-point mean (both ends included) differs from the integral by parts in 10^6.
    points, weights = np.polynomial.legendre.leggauss(40)
    expected = sum(w * kl_of(1.0 + x, tableau).value for x, w in zip(points, weights, strict=True)) / 2
    assert together.value / 1_000_000 == pytest.approx(expected, rel=1e-5)


def test_equal_eigenvalues_need_no_interpolation():
    tableau = SCHEMES["ddpm"](sv.schedules.exponential(6.0, 0.01, 10))
    law = gaussian.deviations(tableau, np.full(5000, 0.3))
    assert (law.variance == gaussian.deviations(tableau, np.array([0.3])).variance).all()

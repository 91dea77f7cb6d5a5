from math import ceil, exp, inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

import srkverify as sv
from srkverify.complexity import KLCurve, fit_exponents, measured_curve, steps_to_reach
from srkverify.divergence import Divergence

LADDER = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 192, 256)


def exactly(kl):
    """An evaluation of a closed form, without numerical error, that counts its calls."""
    calls = []

    def evaluate(steps):
        calls.append(steps)
        return Divergence(kl(steps), 0.0, "closed form")

    evaluate.calls = calls
    return evaluate


def found(kl, epsilon, ladder=LADDER, exact_up_to=64):
    evaluate = exactly(kl)
    curve = measured_curve(evaluate, ladder, [epsilon])
    return steps_to_reach(curve, epsilon, evaluate, exact_up_to)


def brute_force(kl, epsilon, most=200_000):
    """The least K from which on KL ≤ ε², by looking at every K."""
    steps = np.arange(1, most + 1)
    above = np.flatnonzero(kl(steps.astype(float)) > epsilon**2)
    return int(steps[above[-1]]) + 1 if above.size else 1


@pytest.mark.parametrize("epsilon", [0.9, 0.3, 0.1, 0.03, 0.01])
@pytest.mark.parametrize("d", [1, 7, 1_000, 100_000])
def test_the_power_law_of_a_product_is_found_exactly(d, epsilon):
    result = found(lambda steps: 3.0 * d / steps**2, epsilon)
    assert result.steps == ceil(sqrt(3.0 * d) / epsilon)
    assert result.steps_low <= result.steps <= result.steps_high
    expected = "exact" if result.steps <= 64 else "interpolated" if result.steps <= 256 else "extrapolated"
    assert result.how == expected
    assert result.kl == pytest.approx(3.0 * d / result.steps**2, rel=1e-6)
    assert result.first_rung is None


@given(
    st.sampled_from([2, 4, 6]),
    st.floats(0.1, 10.0),
    st.floats(-3.0, 3.0),
    st.floats(3.0, 30.0),
    st.floats(0.005, 0.3),
)
def test_intervals_hold_the_answer_when_lower_order_terms_are_there(order, scale, linear, quadratic, epsilon):
    def kl(steps):
        return scale * 10.0**order * steps**-order * (1.0 + linear / steps + quadratic / steps**2)

    result, truth = found(kl, epsilon), brute_force(kl, epsilon)
    assert result.steps_low <= truth <= result.steps_high
    # Narrow as well: within 1% wherever the ladder resolves the curve.
    assert result.steps_high - result.steps_low <= 2 + 0.01 * truth


def test_two_orders_at_once_widen_the_interval():
    def kl(steps):
        return 3.0 / steps**2 + 1e5 / steps**4

    result, truth = found(kl, 0.003), brute_force(kl, 0.003)
    assert result.how == "extrapolated"
    assert result.steps_low <= truth <= result.steps_high
    assert result.steps == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("epsilon", [0.3, 0.1, 0.03, 0.01])
def test_a_dip_of_kl_is_not_taken_for_the_answer(epsilon):
    def kl(steps):  # the two leading errors cancel at K = 62
        return 1e4 * (1.0 / steps - 62.0 / steps**2) ** 2

    result = found(kl, epsilon)
    assert result.steps_low <= brute_force(kl, epsilon) <= result.steps_high
    assert result.first_rung == (64 if epsilon > 0.05 else None)  # at K = 64 KL is 0.0024


def test_kl_that_is_not_monotone_at_tiny_k():
    values = {1: 4.8, 2: 3.6, 3: 0.07, 4: 0.10, 5: 0.06, 6: 0.03, 7: 0.02, 8: 0.01}
    evaluate = exactly(values.__getitem__)
    curve = KLCurve(np.array([1, 2, 3, 4, 6, 8]), np.array([values[k] for k in (1, 2, 3, 4, 6, 8)]), np.zeros(6))
    result = steps_to_reach(curve, sqrt(0.08), evaluate)
    assert (result.steps, result.how, result.first_rung) == (5, "exact", 3)
    assert evaluate.calls == [5]  # the candidates between the rungs, and nothing else


def test_one_step_may_be_enough():
    result = found(lambda steps: 1e-30 / steps, 0.3)
    assert (result.steps, result.how) == (1, "exact")
    assert found(lambda steps: 0.0, 0.3).steps == 1


def test_a_ladder_that_begins_too_high_is_extended_downwards():
    result = found(lambda steps: 100.0 / steps**2, 0.9, ladder=(64, 128))
    assert (result.steps, result.how) == (12, "exact")


def test_unstable_rungs_are_passed_over():
    def kl(steps):
        return inf if steps < 20 else 400.0 / steps**2

    assert found(kl, 0.9).steps == 23
    assert found(kl, 0.01).steps == 2000
    curve = KLCurve(np.array([16, 32]), np.array([inf, 0.5]), np.zeros(2))
    only_bracket = steps_to_reach(curve, 0.9)
    assert (only_bracket.steps, only_bracket.steps_low, only_bracket.steps_high) == (32, 17, 32)


def test_numerical_error_of_kl_enters_the_interval():
    steps = np.array([64, 91, 128, 192, 256])
    value = 400.0 / steps**2.0
    for error in (0.01, 0.1):
        curve = KLCurve(steps, value, error * value)
        inside, outside = steps_to_reach(curve, 0.13), steps_to_reach(curve, 0.01)
        for result in (inside, outside):
            half = 0.5 * (result.steps_high - result.steps_low) / result.steps
            assert half >= 0.45 * error - 1.0 / result.steps  # p = 2, and whole steps
    near = exactly(lambda k: 1.0 / k**2)
    blurred = KLCurve(np.array([1, 2, 3, 4]), 1.0 / np.array([1.0, 4.0, 9.0, 16.0]), np.full(4, 0.02))
    at_threshold = steps_to_reach(blurred, 0.33, near)
    assert (at_threshold.steps_low, at_threshold.steps, at_threshold.steps_high) == (3, 4, 4)
    at_threshold = steps_to_reach(blurred, 0.3334, near)
    assert (at_threshold.steps, at_threshold.steps_high) == (3, 4)


def test_the_curve_is_measured_only_where_it_is_needed():
    evaluate = exactly(lambda steps: 100.0 / steps**2)
    curve = measured_curve(evaluate, LADDER, [0.3, 0.1], nfe_per_step=2, extra_nfe=1)
    assert curve.steps.tolist() == [32, 45, 64, 91, 128, 192]
    assert sorted(evaluate.calls) == curve.steps.tolist()
    assert curve.nfe(50) == 101
    short = measured_curve(exactly(lambda steps: 100.0 / steps**2), LADDER[:12], [0.1])
    assert short.steps.tolist() == [23, 32, 45, 64]  # enough to extrapolate


def test_brute_force_on_a_mixture_and_extrapolation_against_a_direct_evaluation():
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)

    def kl(scheme, steps):
        times = sv.schedules.exponential(6.0, 0.01, steps)
        return sv.kl(target, sv.schemes.scheme(scheme)(times), absolute=0.0, relative=1e-4)

    values = np.array([kl("srk_martingale", steps).value for steps in range(1, 46)])
    for epsilon in (0.3, 0.1, 0.05):
        truth = int(np.flatnonzero(values > epsilon**2)[-1]) + 2
        curve = measured_curve(lambda steps: kl("srk_martingale", steps), LADDER[:11], [epsilon])
        assert steps_to_reach(curve, epsilon, lambda steps: kl("srk_martingale", steps)).steps == truth
    # 100 copies need KL = ε²/100 of each.
    curve = measured_curve(lambda steps: kl("ddpm", steps), LADDER, [0.003])
    result = steps_to_reach(curve, 0.003)
    assert result.how == "extrapolated"
    assert result.steps > 1200
    assert kl("ddpm", result.steps_high).value <= 9e-6 < kl("ddpm", result.steps_low - 1).value
    assert kl("ddpm", result.steps).value == pytest.approx(result.kl, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KLCurve([2, 1], [1.0, 2.0], [0.0, 0.0]), r"steps must be increasing and >= 1; got \[2, 1\]"),
        (lambda: KLCurve([0, 1], [1.0, 2.0], [0.0, 0.0]), "steps must be increasing and >= 1"),
        (lambda: KLCurve([1.5], [1.0], [0.0]), "steps must be a non-empty sequence of integers"),
        (lambda: KLCurve([], [], []), "steps must be a non-empty"),
        (lambda: KLCurve([1, 2], [1.0], [0.0]), r"value and error must have shape \(2,\)"),
        (lambda: KLCurve([1], [np.nan], [0.0]), "value must be >= 0; got .*nan"),
        (lambda: steps_to_reach(KLCurve([1], [1.0], [0.0]), 0.0), "epsilon must be .* > 0; got 0.0"),
        (lambda: steps_to_reach(KLCurve([9], [0.1], [0.0]), 0.5), "ladder must begin where KL > epsilon² = 0.25"),
        (lambda: steps_to_reach(KLCurve([9], [0.1], [0.0]), 0.1), "at least 2 stable rungs"),
        (lambda: steps_to_reach(KLCurve([8, 9], [0.1, 0.2], [0.0, 0.0]), 0.1), "between which KL falls"),
        (lambda: measured_curve(exactly(lambda k: 1.0 / k), [4, 2], [0.1]), "ladder must be increasing"),
        (lambda: measured_curve(exactly(lambda k: 1.0 / k), [0, 2], [0.1]), "ladder must be an integer >= 1"),
        (lambda: measured_curve(exactly(lambda k: 1.0 / k), [1, 2], []), "epsilons not empty"),
        (lambda: fit_exponents([1, 2], [0.1], [1, 2]), "epsilons must be as long as dimensions, 2; got 1"),
        (lambda: fit_exponents([1, 2], [0.1, 0.2], [1, 0]), "cost must be positive; got 0.0"),
        (lambda: fit_exponents([1], [0.1], [1], confidence=1.0), "confidence must be .* < 1"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def grid(dimensions=(1, 10, 100, 1000), epsilons=(0.3, 0.1, 0.03)):
    d, epsilon = (axis.ravel() for axis in np.meshgrid(dimensions, epsilons, indexing="ij"))
    return d.astype(float), epsilon


@pytest.mark.parametrize(("a", "b"), [(1.5, 1.0), (0.5, 1.0), (0.25, 0.5), (0.0, 2.0)])
def test_exponents_are_recovered_from_data_without_noise(a, b):
    d, epsilon = grid()
    fit = fit_exponents(d, epsilon, 7.0 * d**a * epsilon**-b)
    for exponent, truth in (
        (fit.dimension, a),
        (fit.inverse_epsilon, b),
        (fit.dimension_at_smallest_epsilon, a),
        (fit.inverse_epsilon_at_largest_dimension, b),
    ):
        assert exponent.value == pytest.approx(truth, abs=1e-12)
        assert exponent.high - exponent.low < 1e-10
    assert fit.scatter < 1e-10
    assert (fit.dimension.points, fit.dimension_at_smallest_epsilon.points) == (12, 4)


def test_intervals_have_their_nominal_coverage():
    # With independent normal scatter each interval covers with probability 0.95 exactly. Of four binomial counts,
    # one leaves its central range of probability 1 − 1e−5 in fewer than 4e−5 of all choices of the seed.
    d, epsilon = grid()
    plane = 1.3 * np.log(d) - 0.8 * np.log(epsilon)
    generator = np.random.default_rng(20240)
    repeats, covered = 1000, np.zeros(4)
    for _ in range(repeats):
        fit = fit_exponents(d, epsilon, np.exp(plane + 0.2 * generator.standard_normal(len(d))))
        exponents = (
            (fit.dimension, 1.3),
            (fit.inverse_epsilon, 0.8),
            (fit.dimension_at_smallest_epsilon, 1.3),
            (fit.inverse_epsilon_at_largest_dimension, 0.8),
        )
        covered += [exponent.low <= truth <= exponent.high for exponent, truth in exponents]
    low, high = binom.ppf([5e-6, 1.0 - 5e-6], repeats, 0.95)
    assert (low <= covered).all()
    assert (covered <= high).all()


def test_exponents_that_the_data_do_not_determine_are_nan():
    one_dimension = fit_exponents(*grid(dimensions=(10,)), cost=[5.0, 15.0, 50.0])
    assert np.isnan(one_dimension.dimension.value)
    assert one_dimension.inverse_epsilon.value == pytest.approx(1.0, abs=0.01)
    tied = fit_exponents([1, 10], [0.1, 0.01], [1, 10])
    assert np.isnan(tied.dimension.value)
    two_points = fit_exponents([1, 10], [0.1, 0.1], [1, 10])
    assert two_points.dimension.value == pytest.approx(1.0)
    assert np.isnan(two_points.dimension.high)


def test_curvature_shows_between_the_joint_exponent_and_the_one_at_the_extreme():
    d, epsilon = grid()
    fit = fit_exponents(d, epsilon, 50.0 + d**0.5 / epsilon)
    assert fit.dimension.value < fit.dimension_at_smallest_epsilon.value < 0.5
    assert fit.dimension.high - fit.dimension.low > 0.05
    assert exp(fit.scatter) > 1.01


def test_a_small_term_of_lower_order_is_within_the_interval():
    def kl(steps):  # at the last rung the leading term is a tenth of the other
        return 3.0 / steps**2 + 2e6 / steps**4

    for epsilon in (0.01, 0.003):
        result = found(kl, epsilon)
        assert result.how == "extrapolated"
        assert result.steps_low <= brute_force(kl, epsilon) <= result.steps_high

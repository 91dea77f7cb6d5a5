"""SRK of weak order 3: the limits of its parameters, what it does without error, and KL ~ K⁻⁶."""

import numpy as np
import pytest
from orders import kl_slope, log_snr_grid
from reference import simulate

import srkverify as sv
from srkverify.schemes import _third_order
from srkverify.schemes._third_order import Freedoms, with_freedoms
from srkverify.schemes.third_order import srk_third_order, srk_third_order_fitted

PAIR = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)


def window(steps):
    """Uniform in the clock of variance 0.5, over a time in which the pair's modes part."""
    return 0.5 * np.log1p(1.0 / np.linspace(1.0 / 2.5, 1.0 / 1.5, steps + 1) - 0.5)


def test_parameters_of_equal_steps():
    """Solved by hand in docs/third_order.md: b = ½ − 1/√6, the own place 1 − 1/√6, c = ½ and γ = ¼ + 1/√6."""
    noise = 1.0 / np.linspace(0.4, 0.7, 31) - 1.0
    clocks = _third_order._Clocks(noise, -np.diff(noise), np.ones(30))
    plan, h, root = _third_order._plan(clocks, Freedoms(), np.zeros(30), True), clocks.lengths[15], 1.0 / np.sqrt(6.0)
    assert h == pytest.approx(0.01, rel=1e-12)
    found = plan.own[15] / h, plan.past[15], plan.stage[15] / h, plan.guess[15]
    np.testing.assert_allclose(found, (1.0 - root, 0.5 - root, 0.5, 0.25 + root), rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_the_variance_of_the_clock_is_without_error(steps):
    target = sv.GaussianMixture([1.0], [[0.7]], 1.0)
    assert sv.kl(target, srk_third_order(log_snr_grid(steps), reference=0.0)).value < 1e-14


@pytest.mark.parametrize("reference", [0.0, 2.0, 3.0])
def test_order_on_gaussians(reference):
    assert kl_slope(lambda times: srk_third_order(times, reference), steps=(200, 400)) == pytest.approx(-6.0, abs=0.1)


def test_the_order_of_the_fitted_one_on_gaussians():
    assert kl_slope(srk_third_order_fitted, steps=(400, 800)) == pytest.approx(-6.0, abs=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_no_freedom_costs_the_order(seed):
    """Order 2 would be −4. Steeper than −6 is one whose error is about to change its sign."""
    generator = np.random.default_rng(seed)
    terms = {name: generator.uniform(-1.0, 1.0) for name in Freedoms.__dataclass_fields__}
    chosen = Freedoms(**{**terms, "scale": generator.uniform(0.0, 2.0), "exponent": generator.uniform(0.0, 3.0)})
    assert kl_slope(lambda times: with_freedoms(times, chosen), steps=(400, 800)) < -5.75


def test_plain_freedoms_are_the_plain_scheme():
    times = sv.schedules.exponential(6.0, 0.01, 16)
    np.testing.assert_array_equal(with_freedoms(times, Freedoms()).scores, srk_third_order(times).scores)


@pytest.mark.parametrize(
    "scheme",
    [lambda times: srk_third_order(times, 0.0), srk_third_order, srk_third_order_fitted],
    ids=["constant", "plain", "fitted"],
)
def test_order_on_a_mixture(scheme):
    """The slope nears −6 from above; that of the third point with two evaluations is −4 here."""
    schemes = (scheme, sv.schemes.srk_third_point)
    slopes = []
    for scheme in schemes:
        results = [sv.kl(PAIR, scheme(window(count)), absolute=1e-15) for count in (12, 24)]
        assert all(result.error < 1e-2 * result.value for result in results), results
        slopes.append(np.log2(results[1].value / results[0].value))
    assert slopes == pytest.approx([-6.0, -4.0], abs=0.4)


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("scheme", [srk_third_order, srk_third_order_fitted])
def test_means_are_without_error(scheme, twice):
    """M is a martingale and each row passes it on with weights that sum to one."""
    tableau = scheme(sv.schedules.exponential(4.0, 0.05, 6), evaluate_twice=twice)
    law = sv.GaussianMixture([1.0], [[2.0]], 0.3)
    start = np.exp(-4.0) * np.array([[2.0]])
    end = simulate(tableau, law, start, np.zeros((6, 2, 1, 1)))[-1]
    assert end[0, 0] == pytest.approx(2.0 * np.exp(-0.05), rel=1e-12)


@pytest.mark.parametrize("scheme", [srk_third_order, srk_third_order_fitted])
def test_steps_that_grow_without_measure(scheme):
    times = np.array([3.0, 2.9999, 2.0, 1.9999, 0.5])
    tableau = scheme(times)
    assert sv.kl(sv.GaussianMixture([1.0], [[0.0]], 0.8), tableau).value < 0.1


@pytest.mark.parametrize("scheme", [srk_third_order, srk_third_order_fitted])
def test_a_start_in_noise_needs_no_second_evaluation(scheme):
    """From T = 6 on; from T = 2 it is made unless told otherwise, and KL shows it."""
    for horizon, own, most in ((6.0, 0, 1e-4), (2.0, 1, np.inf)):
        times = sv.schedules.exponential(horizon, 0.01, 10)
        tableaus = scheme(times), scheme(times, evaluate_twice=True), scheme(times, evaluate_twice=False)
        assert [tableau.nfe for tableau in tableaus] == [10 + own, 11, 10]
        twice, once = (sv.kl(PAIR, each, relative=1e-5).value for each in tableaus[1:])
        assert abs(once / twice - 1.0) < most
    assert abs(once / twice - 1.0) > 0.01


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_bad_reference(value):
    with pytest.raises(ValueError, match="reference must be"):
        srk_third_order([2.0, 1.0], reference=value)

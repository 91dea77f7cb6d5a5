"""SRK of weak order 3: the limits of its parameters, what it does without error, and KL ~ K⁻⁶."""

import numpy as np
import pytest
from orders import kl_slope, log_snr_grid
from reference import simulate

import srkverify as sv
from srkverify.schemes import third_order
from srkverify.schemes.third_order import srk_third_order

PAIR = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)


def window(steps):
    """Uniform in the clock of variance 0.5, over a time in which the pair's modes part."""
    return 0.5 * np.log1p(1.0 / np.linspace(1.0 / 2.5, 1.0 / 1.5, steps + 1) - 0.5)


def test_parameters_of_equal_steps():
    """Solved by hand in docs/third_order.md: b = ½ − 1/√6, the own place 1 − 1/√6, c = ½ and γ = ¼ + 1/√6."""
    noise = 1.0 / np.linspace(0.4, 0.7, 31) - 1.0
    clocks = third_order._Clocks(noise, -np.diff(noise), 0.0)
    plan, h, root = third_order._plan(clocks), clocks.lengths[15], 1.0 / np.sqrt(6.0)
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


@pytest.mark.parametrize("reference", [0.0, 2.0])
def test_order_on_a_mixture(reference):
    """The slope nears −6 from above; that of the third point with two evaluations is −4 here."""
    schemes = (lambda times: srk_third_order(times, reference), sv.schemes.srk_third_point)
    slopes = []
    for scheme in schemes:
        results = [sv.kl(PAIR, scheme(window(count)), absolute=1e-15) for count in (12, 24)]
        assert all(result.error < 1e-2 * result.value for result in results), results
        slopes.append(np.log2(results[1].value / results[0].value))
    assert slopes == pytest.approx([-6.0, -4.0], abs=0.4)


def test_means_are_without_error():
    """M is a martingale and each row passes it on with weights that sum to one."""
    tableau = srk_third_order(sv.schedules.exponential(4.0, 0.05, 6))
    law = sv.GaussianMixture([1.0], [[2.0]], 0.3)
    start = np.exp(-4.0) * np.array([[2.0]])
    end = simulate(tableau, law, start, np.zeros((6, 2, 1, 1)))[-1]
    assert end[0, 0] == pytest.approx(2.0 * np.exp(-0.05), rel=1e-12)


def test_steps_that_grow_without_measure():
    times = np.array([3.0, 2.9999, 2.0, 1.9999, 0.5])
    tableau = srk_third_order(times)
    assert sv.kl(sv.GaussianMixture([1.0], [[0.0]], 0.8), tableau).value < 0.1


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_bad_reference(value):
    with pytest.raises(ValueError, match="reference must be"):
        srk_third_order([2.0, 1.0], reference=value)

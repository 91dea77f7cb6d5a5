"""The order that a tableau must have against the slope of its exact KL, for every scheme, and what one change costs."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from orders import log_snr_grid

import srkverify as sv
from srkverify.schemes import DRAWN, SCHEMES
from srkverify.schemes.order_conditions import order_conditions, weak_order

SAMPLERS = {**SCHEMES, **DRAWN}
PAIR = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
NORMAL = sv.GaussianMixture([1.0], [[0.3]], 0.25)
FINE = log_snr_grid(16384)
# Numbers of steps at which the slope is near its limit; EDM's churn is 40/K a step, which must be small.
CHURNED = {"edm_heun": (1024, 2048), "edm_euler": (1024, 2048)}
STEPS = CHURNED | {"sa_p1c1": (64, 128), "sa_p2c2": (64, 128), "higher_order_3": (8, 16), "sa_p3c3": (8, 16)}
UNMEASURED = ("srk_third_order", "srk_third_order_fitted")  # half a minute here, measured in test_third_order.py


def window(steps):
    """Steps in a time in which the pair's modes part, uniform in the clock of variance 0.5."""
    return 0.5 * np.log1p(1.0 / np.linspace(1.0 / 2.5, 1.0 / 1.5, steps + 1) - 0.5)


@cache
def conditions(name):
    return order_conditions(SAMPLERS[name](FINE), samples=64)


def slope(target, scheme, steps, grid):
    tableaus = [scheme(grid(count)) for count in steps]
    relative = 1e-3 if tableaus[0].memory > 2 else 1e-6
    results = [sv.kl(target, tableau, absolute=1e-15, relative=relative) for tableau in tableaus]
    assert all(result.error < 1e-2 * result.value for result in results), results
    return np.log2(results[1].value / results[0].value)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in UNMEASURED])
def test_order_on_a_mixture(name):
    measured = slope(PAIR, SAMPLERS[name], STEPS.get(name, (16, 32)), window)
    assert measured == pytest.approx(-2.0 * conditions(name).order, abs=0.3)


@pytest.mark.parametrize("name", SCHEMES)
def test_order_on_a_gaussian(name):
    steps = {**CHURNED, "srk_third_order_fitted": (800, 1600)}.get(name, (200, 400))
    measured = slope(NORMAL, SCHEMES[name], steps, log_snr_grid)
    assert measured == pytest.approx(-2.0 * conditions(name).order_linear, abs=0.45)


@pytest.mark.parametrize(
    ("name", "order", "linear"),
    [
        ("srk_third_order", 3, 3),
        ("srk_third_order_fitted", 3, 3),
        ("randomised_midpoint", 2, 2),
        ("ddram", 2, 2),
    ],
)
def test_orders_that_are_measured_elsewhere(name, order, linear):
    assert (conditions(name).order, conditions(name).order_linear) == (order, linear)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_order_is_decided_on_a_knife_edge(name):
    found = conditions(name)
    assert min(found.margin(), found.margin("linear")) > 1.9


def test_residuals_worked_out_by_hand():
    """docs/order_conditions.md: of DDPM ½ (m m' + m''); of SRK's stage noise m''/6; nothing of the third point."""

    def residuals(name):
        return {c.name: c.residual for c in conditions(name).conditions if c.order == 2}

    assert residuals("ddpm")["m m'"] == pytest.approx(0.5, abs=1e-3)
    assert residuals("ddpm")["m''"] == pytest.approx(0.5, abs=1e-3)
    assert residuals("srk_martingale")["m''"] == pytest.approx(1.0 / 6.0, abs=1e-3)
    assert max(residuals("srk_third_point").values()) < conditions("srk_third_point").step ** 2


def scaled(tableau, attribute, factor):
    return replace(tableau, **{attribute: factor * getattr(tableau, attribute)})


# One condition is broken at a time, at the order at which the number enters: weights and noise of the output at order
# 1, the stage's drift and its noise at order 2.
@pytest.mark.parametrize(
    ("attribute", "order"),
    [("scores", 0), ("noise", 0), ("stage_scores", 1), ("stage_noise", 1)],
)
def test_a_broken_condition_costs_its_order(attribute, order):
    def broken(times):
        return scaled(SCHEMES["srk_third_point"](times), attribute, 1.2)

    assert weak_order(broken(FINE[::16])) == order
    steps, expected = ((64, 128), -2.0 * order) if order else ((128, 256), 0.0)
    assert slope(PAIR, broken, steps, window) == pytest.approx(expected, abs=0.3)


def test_a_few_steps_of_one_order_less_cost_nothing():
    """A step without stage noise, DDPM's, among the third point's."""

    def mixed(bad):
        good = SCHEMES["srk_third_point"](FINE[::8])
        noise = good.stage_noise.copy()
        noise[bad] = 0.0
        return replace(good, stage_noise=noise)

    assert weak_order(mixed(slice(1000, 1002))) == 2
    assert weak_order(mixed(slice(0, None, 2))) == 1


def test_all_steps_or_samples():
    tableau = SCHEMES["dpmpp_3m_sde"](FINE[::64])
    every, some = order_conditions(tableau), order_conditions(tableau, samples=50)
    for one, other in zip(every.conditions, some.conditions, strict=True):
        assert one.residual == pytest.approx(other.residual, rel=0.05, abs=1e-9)


def test_bad_input():
    tableau = SCHEMES["ddpm"](FINE[::4096])
    with pytest.raises(ValueError, match="highest must be an integer >= 1 and < 4; got 4"):
        order_conditions(tableau, highest=4)
    with pytest.raises(ValueError, match="samples must be"):
        order_conditions(tableau, samples=0)
    with pytest.raises(ValueError, match="law"):
        weak_order(tableau, law="quadratic")
    with pytest.raises(ValueError, match="without memory"):
        order_conditions(sv.tableau.Drawn("drawn", [1.0], (SCHEMES["dpmpp_2m_sde"](FINE[::4096]),)))

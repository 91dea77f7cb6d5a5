import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.higher_order import higher_order

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]


@pytest.mark.parametrize("refinements", [1, 2, 3])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_coefficients_are_integrals_of_polynomials(order, refinements):
    for h in LENGTHS:
        tableau = higher_order(h * np.arange(3.0, 0.0, -1.0), order, refinements)
        published.check(published.higher_order, tableau, order=order, refinements=refinements)


@pytest.mark.parametrize(("order", "steps"), [(1, (400, 800)), (2, (400, 800)), (3, (100, 200)), (4, (40, 80))])
def test_kl_falls_with_the_stated_order(order, steps):
    slope = orders.kl_slope(lambda times: higher_order(times, order), steps)
    assert slope == pytest.approx(-2 * order, abs=0.15 * order)


def test_too_few_refinements_cost_an_order():
    assert orders.kl_slope(lambda times: higher_order(times, 3, 1)) == pytest.approx(-4, abs=0.3)


def test_evaluations_and_noise():
    times = sv.schedules.exponential(6.0, 0.01, 10)
    assert [higher_order(times, order).nfe for order in (1, 2, 3, 4)] == [10, 20, 50, 100]
    assert higher_order(times, 3, 4).name == "higher_order_3_refined_4"
    assert higher_order(times, 3).noise.size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 5}, "order must be an integer >= 1 and < 5; got 5"),
        ({"refinements": 0}, "refinements must be an integer >= 1; got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        higher_order([2.0, 1.0], **options)

import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.sa_solver import sa_solver

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
ORDERS = [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (1, 2), (2, 2), (3, 3), (3, 4)]


@pytest.mark.parametrize("tau", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(("predictor", "corrector"), ORDERS)
def test_coefficients_are_the_papers_integrals(predictor, corrector, tau):
    for h in LENGTHS:
        times = h * np.arange(6.0, 0.0, -1.0)
        tableau = sa_solver(times, predictor, corrector, tau)
        published.check(published.sa_solver, tableau, predictor=predictor, corrector=corrector, tau=tau)


@pytest.mark.parametrize("tau", [1.0, 0.4])
@pytest.mark.parametrize(("predictor", "corrector"), [(2, 0), (3, 3), (2, 2)])
def test_slopes_may_be_rescaled(predictor, corrector, tau):
    options = {"predictor": predictor, "corrector": corrector, "tau": tau, "rescaled": True}
    for h in LENGTHS:
        published.check(published.sa_solver, sa_solver(h * np.arange(6.0, 0.0, -1.0), **options), **options)
    assert orders.kl_slope(lambda times: sa_solver(times, **options | {"tau": 1.0})) == pytest.approx(-4, abs=0.3)


def test_the_last_step_may_be_corrected_too():
    times = sv.schedules.exponential(4.0, 0.01, 5)
    options = {"predictor": 2, "corrector": 2, "final_correction": True}
    tableau = sa_solver(times, **options)
    published.check(published.sa_solver, tableau, **options)
    assert tableau.nfe == 6
    assert sa_solver(times, 2, 2).nfe == 5


FIRST_ORDER = [(1, 0), (1, 1), (3, 1)]
SECOND_ORDER = [(2, 0), (3, 0), (4, 0), (1, 2), (2, 2), (3, 3), (3, 4)]


@pytest.mark.parametrize(
    ("predictor", "corrector", "expected"),
    [(*pair, -2) for pair in FIRST_ORDER] + [(*pair, -4) for pair in SECOND_ORDER],
)
def test_kl_falls_with_the_stated_order(predictor, corrector, expected):
    slope = orders.kl_slope(lambda times: sa_solver(times, predictor, corrector))
    assert slope == pytest.approx(expected, abs=0.15 * -expected / 2)


@pytest.mark.parametrize(
    ("predictor", "corrector", "expected"),
    [
        (1, 0, ["-8.3e-02", "-2.2e-02", "-5.5e-03"]),
        (2, 0, ["-8.2e-04", "-2.3e-05", "-1.1e-06"]),
        (3, 0, ["3.1e-03", "8.9e-05", "3.9e-06"]),
        (2, 2, ["2.8e-03", "1.0e-04", "4.8e-06"]),
    ],
)
def test_variances_are_those_of_an_independent_recursion(predictor, corrector, expected):
    # Computed once outside this project's engines, for the uniform grid in log-SNR, T = 2, δ = 0.05, variance 0.25.
    assert orders.printed(orders.variance_errors(lambda times: sa_solver(times, predictor, corrector))) == expected


TIMES = sv.schedules.exponential(6.0, 0.01, 20)


def assert_same(one, other):
    for field in ("state", "scores", "noise", "past_points", "past_scores"):
        a, b = getattr(one, field), getattr(other, field)
        np.testing.assert_allclose(a[..., : b.shape[-1]], b, rtol=1e-13, atol=1e-300)


def test_one_node_is_ddpm_with_posterior_variance():
    assert_same(sa_solver(TIMES, 1), sv.schemes.ddpm(TIMES, variance="posterior"))


def test_two_nodes_are_dpm_solver_2m_sde_heun():
    assert_same(sa_solver(TIMES, 2), sv.schemes.dpmpp_2m_sde(TIMES, variant="heun"))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_may_be_shorter_than_the_memory(steps):
    times = sv.schedules.exponential(2.0, 0.5, steps)
    assert sa_solver(times, 4).memory <= max(steps - 1, 0)
    assert sa_solver(times, 4, 5).nfe == steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": 0}, "predictor must be an integer >= 1 and < 5; got 0"),
        ({"corrector": 6}, "corrector must be an integer >= 0 and < 6; got 6"),
        ({"tau": -1.0}, "tau must be a finite number and >= 0; got -1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sa_solver(TIMES, **options)

import numpy as np
import pytest

import srkverify as sv
from srkverify.schemes._third_order import with_freedoms
from srkverify.schemes.third_order import FITTED, INFORMED
from studies import _third_order_fit as fit
from studies import _third_order_fit_informed as informed


def test_squares_of_the_deviation_add_up_to_kl():
    case = fit.Case(3, "exponential", 24)
    tableau = with_freedoms(fit.times(case), FITTED)
    expected = sv.kl(fit.mixture(3), tableau, relative=1e-3).value
    assert np.square(fit.deviation(case, tableau)).sum() == pytest.approx(expected, rel=0.03)
    case = fit.Case(None, "log_snr", 48)
    tableau = with_freedoms(fit.times(case), FITTED)
    squares = np.square(fit.deviation(case, tableau)).sum(axis=1)
    expected = [sv.kl(sv.GaussianMixture([1.0], [[0.5]], value), tableau).value for value in fit.VARIANCES]
    np.testing.assert_allclose(squares, expected, rtol=0.03)


def test_the_model_is_near_what_a_step_does():
    """On Gaussians: its value is the one at the new terms, and its gradient that of its value."""
    case, terms = fit.Case(None, "exponential", 24), ("own", "apart", "past")
    local = fit.around(case, FITTED, terms)
    present = np.array([getattr(FITTED, term) for term in terms])
    model = fit.Model(np.full(len(fit.VARIANCES), 1.0 / len(fit.VARIANCES)), local, present)
    step = np.array([0.02, -0.05, 0.01])
    moved = fit.replace(FITTED, **dict(zip(terms, present + step, strict=True)))
    there = fit.Model(model.weights, fit.around(case, moved, terms), present + step)
    assert model.at(step, 0.0)[0] == pytest.approx(there.value, abs=0.05)
    slope = model.at(step, 0.3)[1]
    for index in range(len(terms)):
        shift = 1e-5 * np.eye(len(terms))[index]
        difference = model.at(step + shift, 0.3)[0] - model.at(step - shift, 0.3)[0]
        assert slope[index] == pytest.approx(difference / 2e-5, rel=1e-4, abs=1e-6)
    assert model.at(model.step(0.05), 0.05)[0] <= model.value


@pytest.mark.parametrize("law", [12, 16])
def test_a_law_beside_others_counts_whole(law):
    """A mixture beside three narrow directions, and eight Gaussian ones."""
    case = informed.Case(law, "exponential", 15)
    tableau = informed.tableau(case, INFORMED)
    expected = sv.kl(informed.LAWS[law].target, tableau, relative=1e-3).value
    assert np.square(informed.deviation(case, tableau)).sum() == pytest.approx(expected, rel=0.03)


def test_no_law_is_fitted_to_twice_with_one_budget():
    assert len(set(informed.CASES)) == len(informed.CASES)
    assert {case.law for case in informed.CASES} == set(range(len(informed.LAWS)))

import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.ddim import ddim
from srkverify.schemes.er_sde import er_sde
from srkverify.schemes.sa_solver import sa_solver

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
TIMES = sv.schedules.exponential(6.0, 0.01, 20)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_are_the_papers(h, eta):
    published.check(published.ddim, ddim(h * np.arange(3.0, 0.0, -1.0), eta), eta=eta)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_kl_falls_with_the_stated_order(eta):
    assert orders.kl_slope(lambda times: ddim(times, eta)) == pytest.approx(-2, abs=0.15)


def assert_same(one, other):
    for field in ("state", "scores", "noise"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-13, atol=1e-300)


def test_eta_1_is_ddpm_with_posterior_variance():
    assert_same(ddim(TIMES), sv.schemes.ddpm(TIMES, variance="posterior"))
    assert_same(ddim(TIMES), sa_solver(TIMES, 1))
    assert_same(ddim(TIMES), sv.schemes.seeds(TIMES, 1))


def test_eta_0_is_the_flow_without_noise():
    assert not ddim(TIMES, 0.0).noise.any()
    assert_same(ddim(TIMES, 0.0), er_sde(TIMES, 1, "ode"))
    assert_same(ddim(TIMES, 0.0), sa_solver(TIMES, 1, tau=0.0))


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_outside_its_range_is_refused(eta):
    with pytest.raises(ValueError, match="eta must be a finite number"):
        ddim(TIMES, eta)

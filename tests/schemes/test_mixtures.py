"""Orders on a mixture, where scores bend, from exact KL: what Gaussians cannot tell."""

import numpy as np
import pytest

import srkverify as sv
from srkverify.schemes import SCHEMES
from srkverify.schemes.heun import edm_heun

TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("sa_p1", -2),
        ("sa_p2", -4),
        ("er_sde_1", -2),
        ("er_sde_2", -4),
        ("seeds_2", -4),
        ("seeds_2_noise", -4),
        ("seeds_3", -4),
        ("dpmpp_2s_sde", -4),
        ("li_accelerated", -2),  # on Gaussians -4: its score is evaluated too far out, with noise, at the former time
        (lambda times: edm_heun(times, churn=5.0), -4),
    ],
)
def test_kl_falls_with_the_stated_order(scheme, expected):
    make = SCHEMES[scheme] if isinstance(scheme, str) else scheme
    results = [sv.kl(TARGET, make(sv.schedules.exponential(6.0, 0.01, steps))) for steps in (256, 512)]
    assert all(result.error < 1e-2 * result.value for result in results), results
    slope = np.log2(results[1].value / results[0].value)
    assert slope == pytest.approx(expected, abs=0.15 * -expected / 2)

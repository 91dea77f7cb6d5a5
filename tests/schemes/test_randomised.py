import mpmath as mp
import numpy as np
import orders
import published
import pytest

import srkverify as sv
from srkverify.schemes.randomised import DENSITIES, ddram, li_jiao, randomised_midpoint

LENGTHS = [1e-8, 1e-5, 1e-3, 0.1, 0.7, 2.0]
TIMES = sv.schedules.exponential(6.0, 0.01, 20)
NODES = 0.5 * (1.0 + np.polynomial.legendre.leggauss(3)[0])


@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_the_flows_midpoint_are_the_published(h):
    drawn = randomised_midpoint(h * np.arange(3.0, 0.0, -1.0), draws=3)
    for member, quantile in zip(drawn.members, NODES, strict=True):
        published.check(published.randomised_midpoint, member, quantile=quantile)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("h", LENGTHS)
def test_coefficients_of_the_sdes_midpoint_are_the_published(h, density):
    drawn = ddram(h * np.arange(3.0, 0.0, -1.0), density, draws=3)
    for member, quantile in zip(drawn.members, NODES, strict=True):
        published.check(published.ddram, member, quantile=quantile, density=density)


SCHEMES = [randomised_midpoint, ddram, lambda times, **options: ddram(times, "uniform", **options)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_of_the_variance_falls_as_steps_squared(scheme):
    coarse, fine = (orders.drawn_variance_error(scheme(orders.log_snr_grid(steps))) for steps in (200, 400))
    assert np.log2(coarse / fine) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_draws_change_nothing(scheme):
    few, many = (orders.drawn_variance_error(scheme(orders.log_snr_grid(10), draws=draws)) for draws in (8, 16))
    assert few == pytest.approx(many, abs=1e-13)


def test_one_draw_is_biased():
    # The midpoint itself is no random draw: the variance's error changes in its leading order.
    one, eight = (orders.drawn_variance_error(ddram(orders.log_snr_grid(100), draws=draws)) for draws in (1, 8))
    assert abs(one / eight - 1.0) > 0.05


@pytest.mark.parametrize("density", DENSITIES)
def test_the_random_score_is_the_integral_on_average(density):
    # Of a score e^{cr} at the time r into the step: Σ_q w_q (weight) e^{c u_q h} = 2 ∫_0^h e^{h − r + cr} dr.
    drawn, c = ddram(TIMES, density), 0.7
    h = TIMES[:-1] - TIMES[1:]
    reach = [TIMES[:-1] - member.stage_times[:, 1] for member in drawn.members]
    values = [member.scores[:, 1] * np.exp(c * r) for member, r in zip(drawn.members, reach, strict=True)]
    expected = 2 * np.exp(h) * np.expm1((c - 1) * h) / (c - 1)
    np.testing.assert_allclose(drawn.weights @ np.array(values), expected, rtol=1e-12)


@pytest.mark.parametrize("inner", [2, 4])
def test_rounds_of_li_and_jiao_are_the_published(inner):
    for h in LENGTHS:
        cells = h * np.arange(12.0, 0.0, -1.0)
        tableau = li_jiao(cells, inner, seed=3)
        # The draws, from the stages and the rounds' ends: cell 0, 1, … of each round.
        drawn = {k * inner // 2 + n: t for k in range(tableau.steps) for n, t in enumerate(tableau.stage_times[k])}
        place = np.random.default_rng(3).uniform(size=11)
        with mp.workdps(60):
            ends = [mp.mpf(float(t)) for t in cells]
            exact = []
            for i, u in enumerate(place):
                q = [-mp.expm1(-2 * t) for t in ends[i : i + 2]]
                exact.append(-mp.log1p(-(q[0] - mp.mpf(float(u)) * (q[0] - q[1]))) / 2)
        np.testing.assert_allclose([float(exact[i]) for i in drawn], list(drawn.values()), rtol=1e-15)
        # Draws as doubles: half a unit in the last place of a time is 1e-16 of it, and of a step as long as it.
        given = [mp.mpf(float(t)) for t in exact]
        published.check(published.li_jiao, tableau, rtol=1e-13, cells=ends, drawn=given, inner=inner)


def test_kl_of_li_and_jiaos_schedules_falls_as_steps_squared():
    means = [
        np.mean([sv.kl(orders.TARGET, li_jiao(orders.log_snr_grid(steps), 2, seed)).value for seed in range(20)])
        for steps in (200, 400)
    ]
    assert np.log2(means[1] / means[0]) == pytest.approx(-2.0, abs=0.15)
    finer = np.mean([sv.kl(orders.TARGET, li_jiao(orders.log_snr_grid(400), 8, seed)).value for seed in range(20)])
    assert finer < 0.1 * means[1]


def test_names_and_costs():
    assert (randomised_midpoint(TIMES).name, ddram(TIMES).name) == ("randomised_midpoint", "ddram")
    assert ddram(TIMES, "uniform").name == "ddram_uniform"
    assert ddram(TIMES).nfe == 40
    assert len(ddram(TIMES, draws=5).members) == 5
    assert (li_jiao(TIMES).name, li_jiao(TIMES).steps, li_jiao(TIMES).nfe) == ("li_jiao_2", 18, 36)
    assert (li_jiao(TIMES[:5]).steps, li_jiao(TIMES[:6], 4).steps) == (2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ddram(TIMES, "gauss"), "density must be one of exponential, uniform"),
        (lambda: randomised_midpoint(TIMES, 0), "draws must be an integer >= 1; got 0"),
        (lambda: li_jiao(TIMES, 3), "inner must be even; got 3"),
        (lambda: li_jiao(TIMES[:5], 4), "times must have at least 6 entries for inner = 4; got 5"),
    ],
)
def test_bad_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

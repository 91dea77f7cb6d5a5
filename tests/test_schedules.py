from functools import partial
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srkverify import schedules

SHAPES = [schedules.exponential, schedules.uniform, schedules.cosine, schedules.linear_beta]
SHAPES.append(partial(schedules.warped, warp=[-1.0, 2.0, 0.5, -0.5, 1.0]))


@pytest.mark.parametrize("shape", SHAPES)
@given(horizon=st.floats(0.5, 12.0), fraction=st.floats(-8.0, -0.5), steps=st.integers(1, 300))
def test_every_grid_decreases_from_horizon_to_early_stop(shape, horizon, fraction, steps):
    stop = horizon * 10.0**fraction
    times = shape(horizon=horizon, early_stop=stop, steps=steps)
    assert times.shape == (steps + 1,)
    assert times[0] == horizon
    assert times[-1] == stop
    assert (np.diff(times) < 0).all()


def test_exponential_is_linear_above_one_and_geometric_below():
    times = schedules.exponential(horizon=6.0, early_stop=0.01, steps=64)
    part = (5.0 + np.log(100.0)) / 64
    above = times[times > 1.0]
    np.testing.assert_allclose(np.diff(above), -part, rtol=1e-12)
    below = times[times < 1.0]
    np.testing.assert_allclose(below[1:] / below[:-1], np.exp(-part), rtol=1e-12)


@pytest.mark.parametrize(("horizon", "stop"), [(0.8, 0.01), (6.0, 2.0)])
def test_exponential_is_all_geometric_below_one_and_all_linear_above(horizon, stop):
    times = schedules.exponential(horizon, stop, 7)
    steps = np.diff(np.log(times) if horizon < 1.0 else times)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-12)


@given(horizon=st.floats(0.5, 12.0), steps=st.integers(1, 100), factor=st.integers(1, 9))
def test_refined_grids_split_each_step_evenly_and_keep_its_ends(horizon, steps, factor):
    times = schedules.exponential(horizon, 0.01, steps)
    fine = schedules.refined(times, factor)
    assert fine.shape == (factor * steps + 1,)
    np.testing.assert_array_equal(fine[::factor], times)
    parts = np.diff(fine).reshape(steps, factor)
    np.testing.assert_allclose(parts, np.diff(times)[:, None] * np.full(factor, 1 / factor), rtol=0, atol=4e-15)


def test_refining_asks_for_whole_parts_that_doubles_can_tell_apart():
    with pytest.raises(ValueError, match="factor must be an integer >= 1; got 0"):
        schedules.refined([2.0, 1.0], 0)
    with pytest.raises(ValueError, match="times must be strictly decreasing"):
        schedules.refined([1.0, 2.0], 2)
    with pytest.raises(ValueError, match="refined times must be strictly decreasing"):
        schedules.refined([np.nextafter(1.0, 2.0), 1.0], 4)


def test_cosine_matches_its_definition_at_tiny_times():
    # e^{−τ} = cos u, u uniform: against mpmath at a time where 1 − e^{−τ} has no digits in double precision.
    times = schedules.cosine(horizon=4.0, early_stop=1e-12, steps=5)
    with mp.workdps(40):
        start, stop = mp.acos(mp.exp(-mp.mpf(4))), mp.acos(mp.exp(-mp.mpf(1e-12)))
        expected = [float(-mp.log(mp.cos(start + (stop - start) * k / 5))) for k in range(6)]
    np.testing.assert_allclose(times, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("horizon", "stop", "warp"),
    [
        (6.0, 0.01, [0.0, 3.0]),
        (20.0, 1e-9, [1.0, -2.0, 4.0]),
        (6.0, 0.01, [2.0, -3.0, 1.0, 8.0]),
        (0.3, 0.2, [-30.0, 1.0, 5.0, 2.0]),
    ],
)
def test_warped_is_uniform_in_its_clock(horizon, stop, warp):
    # Against mpmath: s as the polynomial through the warp, by Lagrange's formula, and the clock by its own quadrature.
    times = schedules.warped(horizon, stop, 7, warp)
    with mp.workdps(40):
        places = [-mp.log(mp.expm1(2 * mp.mpf(time))) / 2 for time in times]
        width = (places[-1] - places[0]) / (len(warp) - 1)
        knots = [places[0] + i * width for i in range(len(warp))]

        def density(place):
            parts = [
                value * mp.fprod((place - other) / (knot - other) for other in knots if other != knot)
                for value, knot in zip(map(mp.mpf, warp), knots, strict=True)
            ]
            return mp.exp(mp.fsum(parts))

        gained = [mp.quad(density, mp.linspace(a, b, 9)) for a, b in pairwise(places)]
        # A time is a double: its rounding shifts λ by eps τ dλ/dτ, and the clock by as much times the density.
        slack = [
            4 * 2.0**-52 * time / -mp.expm1(-2 * time) * max(density(place), 1)
            for time, place in zip(map(mp.mpf, times), places, strict=True)
        ]
        even = mp.fsum(gained) / 7
        off = [
            abs(gain - even) / (mp.mpf(1e-12) * even + a + b)
            for gain, a, b in zip(gained, slack, slack[1:], strict=False)
        ]
    assert max(off) < 1.0


def test_warped_without_a_warp_is_uniform_in_log_snr():
    times = schedules.warped(6.0, 1e-6, 50, [0.0, 0.0, 0.0])
    steps = np.diff(np.log(np.expm1(2.0 * times)))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    np.testing.assert_array_equal(schedules.warped(6.0, 1e-6, 50, [0.0]), times)


@given(warp=st.lists(st.floats(-5.0, 5.0), min_size=2, max_size=4), constant=st.floats(-50.0, 50.0))
def test_a_constant_in_the_warp_is_irrelevant_and_four_knots_can_do_what_fewer_can(warp, constant):
    times = schedules.warped(6.0, 0.01, 20, warp)
    np.testing.assert_allclose(schedules.warped(6.0, 0.01, 20, np.add(warp, constant)), times, rtol=1e-11)
    places = np.linspace(0.0, 1.0, len(warp))
    polynomial = np.polyfit(places, warp, len(warp) - 1)
    for knots in (4, 5, 9):
        finer = np.polyval(polynomial, np.linspace(0.0, 1.0, knots))
        np.testing.assert_allclose(schedules.warped(6.0, 0.01, 20, finer), times, rtol=1e-10)


@pytest.mark.parametrize(
    ("warp", "message"),
    [
        ([], "warp must not be empty"),
        ([[0.0, 1.0]], "warp must have 1 axes"),
        ([0.0, float("nan")], "warp must be finite; got nan at index "),
        ([0.0, 101.0], "warp must span at most 100; got 0.0 to 101.0"),
    ],
)
def test_bad_warps_are_refused(warp, message):
    with pytest.raises(ValueError, match=message):
        schedules.warped(6.0, 0.01, 8, warp)


def test_warped_keeps_to_what_doubles_can_tell_apart():
    assert len(schedules.warped(6.0, 0.01, 8, [-50.0, 50.0])) == len(schedules.warped(6.0, 0.01, 8, [50.0, -50.0])) == 9
    with pytest.raises(ValueError, match="times of this warp must be strictly decreasing"):
        schedules.warped(np.nextafter(1.0, 2.0), 1.0, 8, [0.0])


def test_half_log_snr_matches_its_definition_far_out_and_close_in():
    times = [1e-300, 1e-12, 0.3, 6.0, 400.0]
    with mp.workdps(40):
        expected = [float(-mp.log(mp.expm1(2 * mp.mpf(time))) / 2) for time in times]
    np.testing.assert_allclose(schedules.half_log_snr(times), expected, rtol=4e-16)


def test_linear_beta_has_linear_beta():
    # h/Δs is β(s)/2 at the midpoint, for a quadratic τ(s): equal second differences and the stated ratio.
    times = schedules.linear_beta(horizon=5.0, early_stop=1e-9, steps=1000, beta_ratio=200.0)
    rates = -np.diff(times)
    np.testing.assert_allclose(np.diff(rates), np.diff(rates).mean(), rtol=1e-6)
    ends = 1.5 * rates[0] - 0.5 * rates[1], 1.5 * rates[-1] - 0.5 * rates[-2]
    assert ends[0] / ends[1] == pytest.approx(200.0, rel=1e-3)


@given(betas=st.lists(st.floats(1e-9, 0.9), min_size=1, max_size=50), stop=st.floats(1e-3, 1.0))
def test_betas_and_times_are_inverse(betas, stop):
    times = schedules.times_from_betas(betas, early_stop=stop)
    assert times[-1] == stop
    # A step is a difference of times of size T: relative rounding T·eps/h.
    tolerance = 4e-16 * times[0] / min(betas)
    np.testing.assert_allclose(schedules.betas_from_times(times), betas, rtol=1e-13 + 4 * tolerance)


def test_ddpm_betas_give_alpha_bar():
    betas = np.linspace(1e-4, 0.02, 1000)
    times = schedules.times_from_betas(betas, early_stop=1e-3)
    np.testing.assert_allclose(np.exp(-2 * (times[0] - times[-1])), np.prod(1 - betas), rtol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"early_stop": 0.0}, "early_stop"),
        ({"early_stop": float("nan")}, "early_stop"),
        ({"horizon": 0.001}, "horizon"),
        ({"horizon": float("inf")}, "horizon"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"horizon": "far"}, "horizon"),
    ],
)
def test_bad_arguments_are_named(shape, arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} must .*; got"):
        shape(**{"horizon": 6.0, "early_stop": 0.01, "steps": 8, **arguments})


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0], "at least 2"),
        ([1.0, 2.0], "strictly decreasing"),
        ([1.0, 1.0], "strictly decreasing"),
        ([1.0, 0.0], "positive"),
        ([1.0, -1.0], "positive"),
        ([np.inf, 1.0], "finite"),
        ([[2.0, 1.0]], "1 axes"),
    ],
)
def test_bad_times_are_refused(times, message):
    with pytest.raises(ValueError, match=f"times must .*{message}"):
        schedules.check_times(times)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 2.0])
def test_bad_betas_are_refused(beta):
    with pytest.raises(ValueError, match="betas must lie strictly between 0 and 1"):
        schedules.times_from_betas([0.1, beta], early_stop=0.01)


def test_bad_beta_ratio_is_refused():
    with pytest.raises(ValueError, match="beta_ratio must"):
        schedules.linear_beta(6.0, 0.01, 8, beta_ratio=0.0)

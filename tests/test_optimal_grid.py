import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import srkverify as sv
from srkverify.optimal_grid import optimal_grid

HORIZON, STOP = 4.0, 0.02
TARGET = sv.GaussianMixture([1.0], [[1.0, 0.0]], [[0.3, 0.02]])


def kl_of(scheme):
    return lambda times: sv.kl(TARGET, sv.schemes.SCHEMES[scheme](times)).value


@pytest.mark.parametrize("scheme", ["ddpm", "srk_martingale", "srk_third_point"])
def test_two_steps_find_what_a_search_of_all_grids_finds(scheme):
    kl = kl_of(scheme)
    middles = np.geomspace(HORIZON, STOP, 401)[1:-1]  # 1.3% apart: half of that is left, of second order in KL
    least = min(kl(np.array([HORIZON, middle, STOP])) for middle in middles)
    best = optimal_grid(kl, HORIZON, STOP, steps=2, parameters=2)
    assert best.value == pytest.approx(least, rel=3e-3)


@pytest.mark.parametrize("scheme", ["ddpm", "srk_third_point"])
def test_three_steps_find_what_a_search_of_all_grids_finds(scheme):
    kl = kl_of(scheme)

    def search(firsts, seconds):
        values = [
            (kl(np.array([HORIZON, a, b, STOP])), a, b) for a in firsts for b in seconds if STOP < b < a < HORIZON
        ]
        return min(values)

    wide = np.geomspace(HORIZON, STOP, 41)[1:-1]
    _, first, second = search(wide, wide)
    near = np.geomspace(0.88, 1.14, 14)
    least, *_ = search(first * near, second * near)
    best = optimal_grid(kl, HORIZON, STOP, steps=3, parameters=4)
    # Of the search by hand half a spacing, 1%, is left.
    assert best.value == pytest.approx(least, rel=5e-3)


@pytest.mark.parametrize("scheme", ["ddpm", "srk_martingale", "dpmpp_2m_sde"])
def test_no_direction_leads_to_less_kl(scheme):
    kl = kl_of(scheme)
    best = optimal_grid(kl, HORIZON, STOP, steps=12)
    assert best.value == pytest.approx(kl(best.times), rel=1e-12)
    np.testing.assert_array_equal(best.times, sv.schedules.warped(HORIZON, STOP, 12, best.warp))
    for direction in np.eye(4):
        for size in (0.3, -0.3):
            moved = kl(sv.schedules.warped(HORIZON, STOP, 12, best.warp + size * direction))
            assert moved > 0.997 * best.value
    assert best.value < best.start_value


@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_third_point"])
def test_more_parameters_never_give_more_kl_nor_does_a_start_give_less(scheme):
    found = [optimal_grid(kl_of(scheme), HORIZON, STOP, steps=10, parameters=knots) for knots in (1, 2, 3, 4, 7)]
    values = [best.value for best in found]
    assert (np.diff(values) <= 1e-12 * np.array(values[:-1])).all()
    assert values[1] < 0.9 * values[0]
    assert all(best.value <= best.start_value for best in found)
    assert [len(best.warp) for best in found] == [1, 2, 3, 4, 7]
    assert all(abs(best.warp.mean()) < 1e-12 for best in found)


def test_a_known_optimum_is_found():
    # A stand-in for KL with its minimum at a known warp: the grid is found from the values alone.
    warp = np.array([-1.0, 0.2, 1.5, -0.7])
    goal = sv.schedules.half_log_snr(sv.schedules.warped(6.0, 1e-3, 30, warp))

    def kl(times):
        return 0.1 + np.square(sv.schedules.half_log_snr(times) - goal).mean()

    best = optimal_grid(kl, 6.0, 1e-3, 30)
    assert best.value < 0.1005
    np.testing.assert_allclose(best.warp, warp - warp.mean(), atol=0.15)
    finer = optimal_grid(kl, 6.0, 1e-3, 30, parameters=7)
    shape = CubicSpline(np.linspace(0, 1, 4), warp - warp.mean())(np.linspace(0, 1, 7))
    np.testing.assert_allclose(finer.warp, shape - shape.mean(), atol=0.3)


def test_grids_on_which_kl_fails_are_passed_by():
    kl, calls = kl_of("ddpm"), []

    def failing(times):
        calls.append(times)
        longest = np.diff(-times).max()
        if longest > 0.9:
            raise ValueError("unstable")
        return (np.inf, np.nan)[len(calls) % 2] if longest > 0.8 else kl(times)

    best = optimal_grid(failing, HORIZON, STOP, steps=12)
    free = optimal_grid(kl, HORIZON, STOP, steps=12)
    assert np.diff(-free.times).max() > 0.8 > np.diff(-best.times).max()
    assert len(calls) == best.evaluations
    assert free.value < best.value < 1.2 * free.value
    with pytest.raises(ValueError, match=r"kl must be finite on a start, one of log_snr, .*; got infinity on all"):
        optimal_grid(lambda times: np.inf, HORIZON, STOP, 12)


def test_the_search_is_repeatable_and_ends_when_its_calls_are_spent():
    kl, calls = kl_of("srk"), []
    one, two = (optimal_grid(kl, HORIZON, STOP, 8) for _ in range(2))
    np.testing.assert_array_equal(one.times, two.times)
    assert one.evaluations == two.evaluations <= 250
    short = optimal_grid(lambda times: calls.append(times) or kl(times), HORIZON, STOP, 8, most_evaluations=20)
    assert len(calls) == short.evaluations == 20
    assert one.value <= short.value <= short.start_value
    alone = optimal_grid(kl, HORIZON, STOP, 1)
    np.testing.assert_array_equal(alone.times, [HORIZON, STOP])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"horizon": 0.01}, "horizon"),
        ({"early_stop": -1.0}, "early_stop"),
        ({"steps": 0}, "steps"),
        ({"parameters": 0}, "parameters"),
        ({"parameters": 2.5}, "parameters"),
        ({"most_evaluations": 4}, "most_evaluations"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} must .*; got"):
        optimal_grid(kl_of("ddpm"), **{"horizon": HORIZON, "early_stop": STOP, "steps": 8, **arguments})


def test_ddpm_on_a_gaussian_needs_what_theory_says():
    # A step adds 4 h²/V(τ) to the variance, V that of q_τ, and e^{−2(τ−δ)} V(δ)²/V(τ)² of it is left at δ. The sum
    # over steps is least if they are even in φ = ∫ e^{−τ} V^{−3/2} dτ = e^{−τ}/√V. Then KL = x²/4 to leading order,
    # x = 4 e^{2δ} V(δ) φ²/K.
    steps, horizon, stop, variance = 512, 6.0, 0.01, 0.01
    target = sv.GaussianMixture([1.0], [[0.0]], variance)
    best = optimal_grid(lambda times: sv.kl(target, sv.schemes.ddpm(times)).value, horizon, stop, steps)

    def total(time):
        return 1.0 + (variance - 1.0) * np.exp(-2.0 * time)

    def clock(time):
        return np.exp(-time) / np.sqrt(total(time))

    excess = 4.0 * np.exp(2.0 * stop) * total(stop) * (clock(stop) - clock(horizon)) ** 2 / steps
    least = 0.5 * (np.log1p(excess) - excess / (1.0 + excess))
    assert least * steps**2 == pytest.approx(4.0, rel=0.02)  # whatever variance and δ are
    # The next order in 1/K and the four knots leave 3%.
    assert least < best.value < 1.04 * least
    even = np.diff(clock(best.times[(best.times > 2 * stop) & (best.times < 0.5)]))
    assert even.max() < 1.5 * even.min()

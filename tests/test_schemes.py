import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import mp_rows, noise_moments, simulate, span_basis, span_products

import srkverify as sv
from srkverify.schemes import SCHEMES

STEPS = [1e-8, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.3, 0.7, 1.0, 1.3, 1.7, 2.0]
# The schemes that this file knows; those from other papers have files of their own in tests/schemes.
KNOWN = (
    "euler_maruyama",
    "exponential_euler",
    "ddpm",
    "ddpm_beta",
    "ddpm_posterior",
    "srk",
    "srk_martingale",
    "srk_third_point",
    "srk_third_point_1",
    "dpmpp_2m_sde",
)
MEMORYLESS = [name for name in KNOWN if SCHEMES[name]([2.0, 1.0]).memory == 0]


def one_step(name, h, **options):
    # τ = 4 and τ' = 4 − h are exact to the bit of h only when h is a multiple of the spacing of doubles near 4;
    # starting from τ = h + h keeps the subtraction exact for every h.
    return sv.schemes.SCHEMES[name]([2.0 * h, h], **options)


@pytest.mark.parametrize("name", MEMORYLESS)
@pytest.mark.parametrize("h", STEPS)
def test_coefficients_are_right_to_1e_14(name, h):
    tableau = one_step(name, h)
    with mp.workdps(60):
        stages, output = mp_rows(name)(mp.mpf(h), 2 * mp.mpf(h))
        expected = {
            "stage_times": [stage[0] for stage in stages],
            "stage_state": [stage[1] for stage in stages],
            "state": [output[0]],
            "scores": output[1],
        }
        noises = tableau.noise.shape[1]
        expected["noise"] = output[2][:noises]
        for i, (_, _, weights, sigma) in enumerate(stages):
            np.testing.assert_allclose(tableau.stage_noise[0, i], np.array(sigma[:noises], float), rtol=1e-14)
            for j, weight in enumerate(weights):
                assert tableau.stage_scores[0, i, j] == pytest.approx(float(weight), rel=1e-14)
    for field, values in expected.items():
        np.testing.assert_allclose(getattr(tableau, field)[0], np.array(values, float), rtol=1e-14, err_msg=field)


@pytest.mark.parametrize("h", STEPS)
@pytest.mark.parametrize(("name", "which"), [("srk", 1), ("srk_martingale", 2)])
def test_stage_and_output_noise_have_the_covariance_of_the_integrals(name, which, h):
    tableau = one_step(name, h)
    g, w = tableau.stage_noise[0, 0], np.append(tableau.noise[0], [0.0] * (2 - tableau.noise.shape[1]))
    with mp.workdps(50):
        moments = noise_moments(h)
        expected = [float(x) for x in (moments[which][0], moments[which][1], moments[0])]
    np.testing.assert_allclose([g @ g, g @ w, w @ w], expected, rtol=1e-14)


# What the schemes' noises are, up to a positive factor, on e^{−u}, 1, e^u: the stage's, then the output's.
OUTPUT_KERNEL = dict.fromkeys(KNOWN, lambda h: [1, 0, 0]) | {"euler_maruyama": lambda h: [0, 1, 0]}
STAGE_KERNEL = {"srk": lambda h: [mp.exp(h), -1, 0]} | dict.fromkeys(
    ["srk_martingale", "srk_third_point", "srk_third_point_1"], lambda h: [1, 0, -mp.exp(-2 * h)]
)


@pytest.mark.parametrize("h", [*STEPS, 8.0])
@pytest.mark.parametrize("name", KNOWN)
def test_noises_are_the_stated_functionals_of_the_brownian_path(name, h):
    tableau = one_step(name, h)
    assert tableau.noise_paths.shape == (*tableau.noise.shape, 3)
    rows = {"noise": (tableau.noise[0], OUTPUT_KERNEL[name])}
    if name in STAGE_KERNEL:
        rows["stage_noise"] = (tableau.stage_noise[0, -1], STAGE_KERNEL[name])
    for weights, kernel in rows.values():
        with mp.workdps(80):
            direction = mp.matrix([kernel(mp.mpf(h))]) * span_products(mp.mpf(h)) * span_basis(mp.mpf(h)).T
            expected = np.array([float(x / mp.norm(direction)) for x in direction])
        np.testing.assert_allclose(
            weights @ tableau.noise_paths[0] / np.linalg.norm(weights), expected, rtol=0, atol=4e-15
        )


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "euler_maruyama"])
def test_the_path_of_the_output_noise_is_exact(name):
    # To the last bit: then a scheme on its own grid draws the numbers that it draws without a path.
    paths = SCHEMES[name](sv.schedules.exponential(6.0, 0.01, 20)).noise_paths
    np.testing.assert_array_equal(paths[:, 0], np.tile([1.0, 0.0, 0.0], (20, 1)))
    if name == "srk":
        np.testing.assert_array_equal(paths[:, 1], np.tile([0.0, -1.0, 0.0], (20, 1)))


@pytest.mark.parametrize("h", STEPS)
def test_third_point_has_the_law_of_the_reverse_sde_at_its_time(h):
    # Y = 0 with score 0: U is noise of variance e^{2θh} − 1, the reverse SDE's own at time τ − θh.
    tableau = one_step("srk_third_point", h)
    advance = tableau.times[0] - tableau.stage_times[0, 1]
    if h > 1e-4:  # below, the difference of the two times has lost the digits of θh
        np.testing.assert_allclose(np.square(tableau.stage_noise[0, 1]).sum(), np.expm1(2 * advance), rtol=1e-10)
    theta = np.log(tableau.stage_state[0, 1]) / h
    assert theta > 0
    if h < 1e-3:
        assert theta == pytest.approx(1 / 3, abs=h + 1e-15 / h)


@pytest.mark.parametrize("h", STEPS)
@pytest.mark.parametrize("variant", ["midpoint", "heun"])
def test_dpmpp_matches_its_published_form(variant, h):
    # x_t = B x + W D0 + c (D0 − D1)/r + N ξ in λ = log(α/σ), coefficients of x and of the score collected.
    times = [4.0 * h, 2.0 * h, h]
    tableau = sv.schemes.dpmpp_2m_sde(times, variant=variant)
    with mp.workdps(60):
        t0, t1, t2 = (mp.mpf(t) for t in times)
        signal, sigma = (lambda t: mp.exp(-t)), (lambda t: mp.sqrt(-mp.expm1(-2 * t)))
        level = lambda t: mp.log(signal(t) / sigma(t))  # noqa: E731
        length, former = level(t2) - level(t1), level(t1) - level(t0)
        b = sigma(t2) / sigma(t1) * mp.exp(-length)
        w = signal(t2) * -mp.expm1(-2 * length)
        n = sigma(t2) * mp.sqrt(-mp.expm1(-2 * length))
        c = w / 2 if variant == "midpoint" else signal(t2) * (1 + mp.expm1(-2 * length) / (2 * length))
        c *= length / former
        expected = [
            b + (w + c) / signal(t1),
            (w + c) * sigma(t1) ** 2 / signal(t1),
            n,
            -c / signal(t0),
            -c * sigma(t0) ** 2 / signal(t0),
        ]
        expected = np.array(expected, float)
    values = [
        tableau.state[1],
        tableau.scores[1, 0],
        tableau.noise[1, 0],
        tableau.past_points[1, 0],
        tableau.past_scores[1, 0],
    ]
    np.testing.assert_allclose(values, expected, rtol=2e-14)
    first = sv.schemes.ddpm(times, variance="posterior")
    assert tableau.state[0] == first.state[0]
    assert tableau.scores[0, 0] == first.scores[0, 0]


mixtures = st.integers(0, 2**32).map(
    lambda seed: (
        lambda rng: sv.GaussianMixture(
            rng.dirichlet(np.ones(3)), rng.normal(size=(3, 2)) * 2, rng.uniform(0.05, 1.0, size=(3, 2))
        )
    )(np.random.default_rng(seed))
)
grids = st.builds(
    lambda horizon, steps: sv.schedules.exponential(horizon, 0.01, steps), st.floats(0.5, 8.0), st.integers(1, 20)
)


@pytest.mark.parametrize(("name", "limit"), [("srk", "exponential_euler"), ("srk_martingale", "ddpm")])
@given(target=mixtures, times=grids, seed=st.integers(0, 2**32))
def test_without_stage_noise_srk_is_ddpm_to_the_last_bit(name, limit, target, times, seed):
    reduced, expected = SCHEMES[name](times).without_stage_noise(), SCHEMES[limit](times)
    for field in ("times", "stage_times", "stage_state", "stage_scores", "state", "scores"):
        np.testing.assert_array_equal(getattr(reduced, field), getattr(expected, field))
    np.testing.assert_array_equal(reduced.noise[:, 0], expected.noise[:, 0])
    assert not reduced.noise[:, 1:].any()
    # Same noise, same path: ξ_0 drives both, ξ_1 is drawn but not seen.
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(times) - 1, 2, 5, 2))
    start = target.sample(5, seed=1, time=times[0])
    np.testing.assert_array_equal(
        simulate(reduced, target, start, noise), simulate(expected, target, start, noise[:, :1])
    )


@given(target=mixtures, times=grids, seed=st.integers(0, 2**32))
def test_stage_noise_does_change_the_path(target, times, seed):
    noise = np.random.default_rng(seed).normal(size=(len(times) - 1, 2, 5, 2))
    start = target.sample(5, seed=1, time=times[0])
    with_noise = simulate(sv.schemes.srk(times), target, start, noise)
    assert not np.array_equal(with_noise, simulate(sv.schemes.exponential_euler(times), target, start, noise[:, :1]))


@given(times=grids)
def test_stage_noise_shares_the_brownian_path_of_the_output(times):
    # All schemes but Euler–Maruyama drive the state by w = √(e^{2h} − 1) ξ_0.
    h = times[:-1] - times[1:]
    for name in ("srk", "srk_martingale", "srk_third_point", "srk_third_point_1", "ddpm", "exponential_euler"):
        np.testing.assert_array_equal(SCHEMES[name](times).noise[:, 0], np.sqrt(np.expm1(2 * h)))


def test_ddpm_variances_are_the_four_of_the_literature():
    times = sv.schedules.exponential(6.0, 0.01, 16)
    h = times[:-1] - times[1:]
    alpha, sigma2 = np.exp(-2 * h), 1 - np.exp(-2 * times)
    expected = {
        "sde": 1 / alpha - 1,
        "beta": 1 - alpha,
        "posterior": (1 - alpha) * sigma2[1:] / sigma2[:-1],
        "marginal": sigma2[:-1],
    }
    assert set(expected) == set(sv.schemes.DDPM_VARIANCES)
    for variance, value in expected.items():
        tableau = sv.schemes.ddpm(times, variance=variance)
        np.testing.assert_allclose(tableau.noise[:, 0] ** 2, value, rtol=1e-12)
        np.testing.assert_allclose(tableau.state, alpha**-0.5, rtol=1e-14)
        np.testing.assert_allclose(tableau.scores[:, 0], alpha**-0.5 * (1 - alpha), rtol=1e-12)


@pytest.mark.parametrize("name", KNOWN)
def test_every_scheme_counts_its_evaluations(name):
    tableau = SCHEMES[name](sv.schedules.exponential(6.0, 0.01, 10))
    expected = {"srk_third_point": 20, "srk_third_point_1": 11}.get(name, 10)
    assert tableau.nfe == expected
    assert tableau.steps == 10


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_called_what_it_is_listed_as(name):
    for steps in (1, 2, 7):
        assert SCHEMES[name](sv.schedules.exponential(6.0, 0.01, steps)).name == name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: sv.schemes.ddpm(t, variance="betas"), "variance must be one of .*did you mean 'beta'"),
        (lambda t: sv.schemes.srk_third_point(t, evaluations=3), "evaluations must be an integer >= 1 and < 3"),
        (lambda t: sv.schemes.srk_third_point(t, 1, guess="units"), "guess must be one of .*did you mean 'unit'"),
        (lambda t: sv.schemes.dpmpp_2m_sde(t, variant="mid"), "variant must be one of"),
        (lambda t: sv.schemes.scheme("srk_martingal"), "scheme must be one of .*did you mean 'srk_martingale'"),
    ],
)
def test_unknown_choices_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call([2.0, 1.0])


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_refuses_a_grid_that_is_not_one(name):
    with pytest.raises(ValueError, match="times must be strictly decreasing"):
        SCHEMES[name]([1.0, 2.0])

"""KL of paths with a score that is a function: against the compiled paths, quadrature and identities; score errors."""

import numpy as np
import pytest

import srkverify as sv
from srkverify import perturbed
from srkverify.divergence import PathBound, score_errors, score_paths
from srkverify.divergence.score_error import mean_squared_error, squared_error
from srkverify.engines.callable import step
from srkverify.score import Score

LINE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
RNG = np.random.default_rng(0)
BASES = np.linalg.qr(RNG.normal(size=(3, 3, 3)))[0]
FULL = sv.GaussianMixture(
    [0.2, 0.5, 0.3], RNG.normal(size=(3, 3)), (BASES * RNG.uniform(0.1, 1.0, (3, 1, 3))) @ BASES.swapaxes(1, 2)
)
GAUSSIAN = sv.GaussianMixture([1.0], RNG.normal(size=(1, 3)), RNG.uniform(0.1, 1.0, (1, 3)))
TIMES = sv.schedules.exponential(6.0, 0.01, 16)


def apart(found, value, error):
    """Standard errors between an estimate and another one."""
    return abs(found.value - value) / np.hypot(found.error, error)


@pytest.mark.parametrize("scheme", ["ddpm", "exponential_euler", "srk", "srk_martingale", "dpmpp_2m_sde"])
@pytest.mark.parametrize("target", [LINE, FULL, GAUSSIAN], ids=["line", "full", "gaussian"])
def test_the_exact_score_gives_the_compiled_paths_number(target, scheme):
    """Within 4 standard errors in 15 cases: false alarm 10⁻³. With one draw a step bounds are alike."""
    tableau = sv.schemes.SCHEMES[scheme](TIMES)
    other = sv.kl(target, tableau, "path", particles=40_000, progress=False)
    score = Score(target.score, target.dimension)
    found = sv.kl(target, tableau, "path", score=score, seed=7, inner=1, progress=False)
    assert apart(found, other.path_kl, other.path_error) < 4.0
    assert found.error < 0.15 * found.value
    assert found.path_kl == found.value
    assert found.path_error == found.error
    assert found.method == "path_bound"
    assert found.stage_noise == bool(tableau.stage_noise.any())


@pytest.mark.parametrize("scheme", ["ddpm", "dpmpp_2m_sde", "srk_third_point"])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (lambda tableau: perturbed.linear(tableau, 0.2), lambda s, x: s + 0.2 * x),
        (lambda tableau: perturbed.relative(tableau, -0.3), lambda s, x: 0.7 * s),
    ],
    ids=["linear", "relative"],
)
def test_wrong_scores_that_are_tableaus_too(scheme, kind, wrong):
    """On a Gaussian, where every bound is attained, within 4 standard errors in 6 cases: false alarm 4·10⁻⁴."""
    tableau = sv.schemes.SCHEMES[scheme](TIMES)
    other = sv.kl(GAUSSIAN, kind(tableau), "path", particles=40_000, progress=False)
    score = Score(lambda x, t: wrong(GAUSSIAN.score(x, t), x), 3)
    found, plain = (
        sv.kl(GAUSSIAN, tableau, "path", score=each, seed=8, inner=1, progress=False)
        for each in (score, Score.from_law(GAUSSIAN))
    )
    assert apart(found, other.path_kl, other.path_error) < 4.0
    assert apart(plain, found.value, found.error) > 6.0  # the test can tell


def by_quadrature(target, tableau, score):
    """KL of paths on a line, by sums over x_k, x_{k+1} and, if stages see noise, over it; without memory."""
    total, x = 0.0, np.linspace(-6.0, 6.0, 201)
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    for k in range(tableau.steps):
        now, later = tableau.times[k], tableau.times[k + 1]
        noise, h = score_paths._noise(tableau, k), now - later
        y, variance = np.linspace(-6.0, 6.0, 601), 1.0 - np.exp(-2.0 * h)
        log_q = -0.5 * (x[:, None] - np.exp(-h) * y) ** 2 / variance - 0.5 * np.log(2.0 * np.pi * variance)
        log_q = log_q + target.log_density(y[:, None], later) - target.log_density(x[:, None], now)[:, None]
        p = np.zeros(log_q.shape)
        for node, weight in zip(nodes, weights, strict=True) if len(noise.output) else [(0.0, np.sqrt(2.0 * np.pi))]:
            noises = [np.full((len(x), 1), node * each) for each in noise.basis[0]] if len(noise.output) else []
            mean = step(tableau, k, score, x[:, None], noises, []).state
            p += weight * np.exp(-0.5 * (y - mean) ** 2 / noise.variance) / (2.0 * np.pi * np.sqrt(noise.variance))
        joint = np.exp(log_q + target.log_density(x[:, None], now)[:, None])
        total += (joint * (log_q - np.log(np.maximum(p, 1e-300)))).sum() * (x[1] - x[0]) * (y[1] - y[0])
    return total


@pytest.mark.parametrize("scheme", ["ddpm", "exponential_euler", "ddpm_posterior"])
def test_a_wavy_score_on_a_line_by_quadrature(scheme):
    """Within 4 standard errors in 3 cases: false alarm 2·10⁻⁴."""
    tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(3.0, 0.1, 6))
    score = Score(lambda x, t: LINE.score(x, t) + 0.5 * np.sin(3.0 * x + 1.0), 1)
    truth = by_quadrature(LINE, tableau, score)
    found = sv.kl(LINE, tableau, "path", score=score, particles=20_000, progress=False)
    assert apart(found, truth, 0.0) < 4.0
    assert apart(found, by_quadrature(LINE, tableau, Score.from_law(LINE)), 0.0) > 10.0


@pytest.mark.parametrize("scheme", ["srk", "srk_martingale", "seeds_2"])
def test_bounds_with_stage_noise_are_bounds(scheme):
    """Above the KL of paths by quadrature less 4 standard errors (3 cases: false alarm 10⁻⁴), close with many draws."""
    tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(3.0, 0.1, 8))
    score = Score(lambda x, t: LINE.score(x, t) + 0.3 * np.sin(2.0 * x + 1.0), 1)
    truth = by_quadrature(LINE, tableau, score)
    one, many = (
        sv.kl(LINE, tableau, "path", score=score, particles=4000, inner=inner, progress=False) for inner in (1, 64)
    )
    assert (one.inner, many.inner) == (1, 64)
    assert many.stage_noise
    assert many.value > truth - 4.0 * many.error
    assert many.value < 1.15 * truth
    assert one.value > many.value + 4.0 * one.error


def test_more_draws_are_for_stage_noise_without_memory():
    for scheme, noisy in (("ddpm", False), ("srk_third_point_1", True)):
        tableau = sv.schemes.SCHEMES[scheme](TIMES)
        few, many = (
            sv.kl(LINE, tableau, "path", score=Score.from_law(LINE), particles=64, inner=inner, progress=False)
            for inner in (1, 8)
        )
        assert (few.inner, many.inner) == (1, 1)
        assert few.stage_noise == many.stage_noise == noisy
        np.testing.assert_array_equal(few.values, many.values)


@pytest.mark.parametrize("target", [LINE, FULL], ids=["line", "full"])
def test_kl_of_ddpm_grows_by_a_weighted_error_of_the_score(target):
    """Exactly Σ e^{−h} sinh(h) E|ŝ − s|² (docs/theory.md, section 9); 4 standard errors, false alarm 10⁻⁴."""
    tableau = sv.schemes.ddpm(TIMES)
    wrong = Score(lambda x, t: target.score(x, t) + np.sin(2.0 * x + 0.3), target.dimension)
    plain, found = (
        sv.kl(target, tableau, "path", score=each, particles=2000, progress=False)
        for each in (Score.from_law(target), wrong)
    )
    off = score_errors(target, wrong, TIMES, particles=2000, seed=1).of_ddpm
    gap = found.values - plain.values
    error = np.hypot(gap.std() / np.sqrt(2000), off.error)
    assert abs(gap.mean() - off.value) < 4.0 * error
    assert error < 0.03 * off.value
    # One by one, paths leave nothing but what Girsanov's theorem counts: it is never negative.
    assert gap.min() > 0.0


def test_a_start_from_noise_adds_its_kl():
    times = sv.schedules.exponential(0.3, 0.01, 16)
    exact, normal = (
        sv.kl(LINE, sv.schemes.ddpm(times), "path", score=Score.from_law(LINE), start=start, progress=False)
        for start in ("exact", "normal")
    )
    gap = normal.values - exact.values
    added = sv.start_kl(LINE, 0.3).value
    assert abs(gap.mean() - added) < 4.0 * gap.std() / 64.0  # false alarm 6·10⁻⁵
    assert added > 0.1


def test_jacobians_are_made_for_a_few_paths_at_a_time(monkeypatch):
    tableau, score = sv.schemes.SCHEMES["seeds_3"](TIMES), Score.from_law(FULL)
    whole = sv.kl(FULL, tableau, "path", score=score, particles=50, progress=False)
    monkeypatch.setattr(score_paths, "_JACOBIANS", 7 * 18)
    parts = sv.kl(FULL, tableau, "path", score=score, particles=50, progress=False)
    np.testing.assert_allclose(parts.values, whole.values, rtol=0.0, atol=1e-9)


def test_paths_are_the_same_for_all_scores_and_seeds_differ():
    tableau = sv.schemes.srk(TIMES)
    score = Score.from_law(FULL)
    first, again, other = (
        sv.kl(FULL, tableau, "path", score=score, particles=64, seed=seed, progress=False) for seed in (3, 3, 4)
    )
    assert isinstance(first, PathBound)
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.value, first.error) == (again.value, again.error)
    assert not np.isin(other.values, first.values).any()
    assert first.values.shape == (64,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "exact"}, "score must be a mixture's with method 'exact'; got a Score: method='path' takes"),
        ({"inner": 0}, "inner must be an integer >= 1; got 0"),
        ({"threads": 1}, "threads must be left out with a Score"),
        ({"backend": "cpu"}, "backend must be left out with a Score"),
        ({"absolute": 0.1}, "absolute must be left out with a Score"),
        ({"particles": 31}, "particles must be an integer >= 32"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"score": Score(lambda x, t: -x, 2)}, "score must have the target's dimension, 1; got 2"),
        ({"score": LINE}, "score must be left out unless method is 'exact', or be a Score; got GaussianMixture"),
        ({"tableau": sv.schemes.SCHEMES["edm_heun"](TIMES)}, "noise that its stages do not see.*none in step"),
        ({"start": "law"}, "start must be one of exact, normal"),
        ({"score": Score(lambda x, t: 1e200 * x, 1)}, "log ratios that are not finite for ddpm with score"),
    ],
)
def test_what_is_refused(arguments, message):
    settings = {"tableau": sv.schemes.ddpm(TIMES), "method": "path", "score": Score.from_law(LINE)} | arguments
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        sv.kl(LINE, **settings)


@pytest.mark.parametrize(
    ("score", "exact"),
    [
        (lambda x, t: 1.2 * LINE.score(x, t), {"relative": 0.2}),
        (lambda x, t: LINE.score(x, t) - 0.3 * x, {"slope": -0.3}),
        (
            lambda x, t: LINE.score(x, t) + 0.4 * np.sin(2.0 * x / (s := np.sqrt(1 - np.exp(-2 * t))) + 0.7) / s,
            {"score": perturbed.Wavy(LINE, 0.4, 2.0, 0.7)},
        ),
    ],
    ids=["relative", "linear", "wavy"],
)
def test_errors_of_scores_are_the_exact_ones(score, exact):
    """Within 4.5 standard errors at 16 times in 3 cases, and their sums: false alarm 4·10⁻⁴."""
    found = score_errors(LINE, Score(score, 1), TIMES, particles=4000, seed=2)
    truth = squared_error(LINE, TIMES[:-1], **exact)
    assert (np.abs(found.squared - truth) < 4.5 * found.errors).all()
    assert (found.errors < 0.1 * truth).all()
    mean = mean_squared_error(LINE, TIMES, **exact)
    assert abs(found.mean_squared.value - mean) < 4.5 * found.mean_squared.error
    assert found.additive.value == pytest.approx(found.mean_squared.value * (TIMES[0] - TIMES[-1]), rel=1e-12)
    norms = squared_error(LINE, TIMES[:-1], relative=1.0)
    np.testing.assert_allclose(found.norms, norms, rtol=0.2)
    assert found.lengths @ np.ones(16) == pytest.approx(TIMES[0] - TIMES[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LINE, 3.0, TIMES), "score must be a Score of dimension 1; got float"),
        ((LINE, Score(lambda x, t: x, 2), TIMES), "score must be a Score of dimension 1; got dimension 2"),
        ((3.0, Score(lambda x, t: x, 2), TIMES), "target must be a GaussianMixture or a Product; got float"),
        ((LINE, Score.from_law(LINE), TIMES, 1), "particles must be an integer >= 2"),
        ((LINE, Score.from_law(LINE), TIMES[::-1]), "times"),
    ],
)
def test_what_score_errors_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_errors(*arguments)

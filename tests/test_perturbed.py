from itertools import pairwise

import numpy as np
import pytest
from reference import law_p_value, simulate
from scipy import integrate, stats

import srkverify as sv
from srkverify import perturbed
from srkverify.divergence import block_kl
from srkverify.divergence.exact import _density_kl, output_density
from srkverify.divergence.reduction import MixtureBlock, reduce
from srkverify.divergence.score_error import mean_squared_error, pairs, squared_error
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import COARSE, LEVELS
from srkverify.engines.score1d import Score1D
from srkverify.schemes import COMPARED, SCHEMES

TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
WRONG = sv.GaussianMixture([0.5, 0.5], [[-1.4], [1.6]], [0.3, 0.2])
WAVY = perturbed.Wavy(WRONG, [0.3, 0.1], [1.5, 5.0], [0.4, 0.0])
TIMES = sv.schedules.exponential(3.0, 0.05, 6)


class Other:
    """What ``simulate`` asks of a target, with another score."""

    def __init__(self, score):
        self.score = score


def sigma(times):
    return np.sqrt(1.0 - np.exp(-2.0 * times))


def random_tableau(rng, steps=4, stages=2, noises=2, memory=2):
    """A table with nothing in particular, but for what a table must be."""
    evaluated = np.ones((steps, stages), dtype=bool)
    evaluated[2, 0] = False
    made = np.cumsum(evaluated.sum(axis=1)) - evaluated.sum(axis=1)
    exists = made[:, None] > np.arange(memory)

    def draw(*shape):
        return rng.normal(0.0, 0.4, (steps, *shape))

    return sv.Tableau(
        name="random",
        times=sv.schedules.exponential(2.0, 0.1, steps),
        stage_times=rng.uniform(0.2, 1.5, (steps, stages)),
        stage_state=draw(stages),
        stage_scores=np.tril(draw(stages, stages), -1) * evaluated[:, None, :],
        stage_noise=draw(stages, noises),
        stage_past_points=draw(stages, memory) * exists[:, None],
        stage_past_scores=draw(stages, memory) * exists[:, None],
        state=draw(),
        scores=draw(stages) * evaluated,
        noise=draw(noises),
        past_points=draw(memory) * exists,
        past_scores=draw(memory) * exists,
        evaluated=evaluated,
    )


RNG = np.random.default_rng(7)
TABLEAUS = {name: SCHEMES[name](TIMES) for name in COMPARED} | {"random": random_tableau(RNG)}


def size(times):
    return 0.2 + 0.3 * np.sin(3.0 * times)


@pytest.mark.parametrize("name", TABLEAUS)
def test_relative_and_linear_errors_follow_the_sampler_that_makes_them(name):
    tableau, rng = TABLEAUS[name], np.random.default_rng(1)
    y, noise = rng.standard_normal((5, 1)), rng.standard_normal((*tableau.noise.shape, 5, 1))
    errors = {
        perturbed.relative: lambda u, time: (1.0 + size(time)) * TARGET.score(u, time=time),
        perturbed.linear: lambda u, time: TARGET.score(u, time=time) + size(time) * u,
    }
    for transform, score in errors.items():
        path = simulate(transform(tableau, size), TARGET, y, noise)
        np.testing.assert_allclose(path, simulate(tableau, Other(score), y, noise), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TABLEAUS)
def test_noise_follows_the_sampler_that_draws_it(name):
    tableau, rng = TABLEAUS[name], np.random.default_rng(2)
    steps, noises = tableau.noise.shape
    stages = tableau.stage_times.shape[1]
    y = rng.standard_normal((5, 1))
    noise = rng.standard_normal((steps, noises + stages, 5, 1))  # in all of these tableaus every score is used
    fresh = iter([noise[k, noises + j] for k, j in np.argwhere(tableau.evaluated)])
    drawn = Other(lambda u, time: TARGET.score(u, time=time) + size(time) ** 2 * next(fresh))
    path = simulate(perturbed.noisy(tableau, lambda times: size(times) ** 2), TARGET, y, noise)
    np.testing.assert_allclose(path, simulate(tableau, drawn, y, noise), rtol=1e-12, atol=1e-12)
    assert next(fresh, None) is None


@pytest.mark.parametrize("transform", [perturbed.relative, perturbed.linear, perturbed.noisy])
def test_sizes(transform):
    tableau = TABLEAUS["random"]
    assert transform(tableau, 0.0) is tableau
    sizes = size(tableau.stage_times) ** 2
    for given, same in (
        (lambda times: size(times) ** 2, sizes),
        (0.3, np.full(4, 0.3)),
        (np.arange(4.0), np.arange(4.0)[:, None] * np.ones(2)),
    ):
        one, other = transform(tableau, given), transform(tableau, same)
        for field in ("state", "scores", "noise", "past_points", "past_scores", "stage_state", "stage_noise"):
            np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-14)
    with pytest.raises(ValueError, match=r"must be a number, or an array of shape \(4,\) or \(4, 2\); got \(3,\)"):
        transform(tableau, np.ones(3))
    with pytest.raises(ValueError, match="must be finite"):
        transform(tableau, np.nan)


def test_noise_of_a_score_that_is_not_used_is_left_out():
    tableau = sv.assemble(
        "idle",
        [1.0, 0.5],
        [sv.Row(state=1.0), sv.Row(state=0.5)],
        sv.Row(state=1.0, scores=[0.0, 1.0], noise=[1.0]),
        noise_paths=[(1.0, 0.0, 0.0)],
    )
    noisy = perturbed.noisy(tableau, 0.5)
    assert noisy.noise.tolist() == [[1.0, 0.5]]
    assert noisy.noise_paths is None
    with pytest.raises(ValueError, match="size must be >= 0; got -1"):
        perturbed.noisy(tableau, -1.0)


def test_noise_on_a_gaussian_by_hand():
    times, epsilon, variance = sv.schedules.exponential(5.0, 0.02, 20), 0.7, 0.3
    found = variance * np.exp(-10.0) + 1.0 - np.exp(-10.0)
    for now, then in pairwise(times):
        weight = 2.0 * np.sinh(now - then)
        slope = np.exp(now - then) - weight / (variance * np.exp(-2.0 * now) + 1.0 - np.exp(-2.0 * now))
        found = slope**2 * found + np.exp(2.0 * (now - then)) - 1.0 + (weight * epsilon) ** 2
    ratio = (variance * np.exp(-0.04) + 1.0 - np.exp(-0.04)) / found
    result = sv.kl(sv.GaussianMixture([1.0], [[0.0, 0.0]], variance), perturbed.noisy(sv.schemes.ddpm(times), epsilon))
    assert result.value == pytest.approx(2 * 0.5 * (ratio - 1.0 - np.log(ratio)), rel=1e-11)


def test_noise_that_is_remembered_takes_four_numbers_in_one_dimension_or_more():
    # Kolmogorov and Smirnov's test at a false-alarm rate of 1e-6.
    tableau, count = perturbed.noisy(sv.schemes.dpmpp_2m_sde(TIMES), 0.3), 200_000
    density = output_density(tableau, reduce(TARGET)[0].mixture, COARSE[1])
    noise = np.random.default_rng(3).standard_normal((tableau.steps, tableau.noise.shape[1], count, 1))
    ends = simulate(tableau, TARGET, TARGET.sample(count, 5, time=TIMES[0]), noise)[-1][:, 0]
    assert law_p_value(density, ends, mass=1e-5) > 1e-6
    longer = perturbed.noisy(sv.schemes.srk_third_order(TIMES), 0.3)
    with pytest.raises(ValueError, match="at most 4 numbers from step to step; srk_third_order_noisy needs that of 5"):
        sv.kl(TARGET, longer)
    assert sv.kl(sv.GaussianMixture([1.0], [[0.5]], 0.3), longer).value > 0.0


@pytest.mark.parametrize("name", ["ddpm", "srk", "srk_third_point", "srk_third_point_1", "dpmpp_2m_sde"])
def test_density_with_another_score_against_particles(name):
    # Pearson's χ² on 40 cells of 200,000 particles; one test fails by chance with probability 1e-5.
    particles, cells = 200_000, 40
    tableau, rng = TABLEAUS[name], np.random.default_rng(3)
    ((block, score),) = pairs(TARGET, WAVY)
    density = output_density(tableau, block.mixture, LEVELS[3], score=score)

    def wavy(u, time):
        waves = sum(a * np.sin(w * u / sigma(time) + phi) for a, w, phi in WAVY.waves) / sigma(time)
        return WRONG.score(u, time=time) + waves

    noise = rng.standard_normal((*tableau.noise.shape, particles, 1))
    start = TARGET.sample(particles, seed=4, time=TIMES[0])
    samples = simulate(tableau, Other(wavy), start, noise)[-1, :, 0]
    spacing = density.points[1] - density.points[0]
    cumulative = np.cumsum(density.value) * spacing - 0.5 * density.value * spacing
    edges = np.interp(np.arange(1, cells) / cells, cumulative, density.points)
    counts = np.bincount(np.searchsorted(edges, samples), minlength=cells)
    assert stats.chi2.sf(np.square(counts - particles / cells).sum() * cells / particles, cells - 1) > 1e-5


def two_steps(tableau, score, y_out):
    """Density after two steps of DPM-Solver++ at ``y_out`` by Gauss–Legendre in both earlier states."""
    points, weights = np.polynomial.legendre.leggauss(240)
    first, second = np.meshgrid(7 * points, 7 * points, indexing="ij")
    values = [score(y, time) for y, time in zip((first, second), tableau.stage_times[:, 0], strict=True)]
    density = np.exp(TARGET.log_density(first.reshape(-1, 1), time=tableau.times[0])).reshape(first.shape)
    density *= stats.norm.pdf(second, tableau.state[0] * first + tableau.scores[0, 0] * values[0], tableau.noise[0, 0])
    center = tableau.state[1] * second + tableau.scores[1, 0] * values[1]
    center += tableau.past_points[1, 0] * first + tableau.past_scores[1, 0] * values[0]
    return 49 * (np.outer(weights, weights) * density * stats.norm.pdf(y_out, center, tableau.noise[1, 0])).sum()


def test_two_steps_with_memory_and_waves_against_gauss_legendre():
    tableau = perturbed.linear(perturbed.relative(sv.schemes.dpmpp_2m_sde([1.2, 0.7, 0.4]), 0.1), -0.2)
    plain = sv.schemes.dpmpp_2m_sde([1.2, 0.7, 0.4])
    wavy = perturbed.Wavy(WRONG, 0.3, 4.0, 0.4)

    def score(y, time):
        own = WRONG.score(y.reshape(-1, 1), time=time).reshape(y.shape)
        return 1.1 * (own + 0.3 * np.sin(4.0 * y / sigma(time) + 0.4) / sigma(time) - 0.2 * y)

    ((block, law),) = pairs(TARGET, wavy)
    density = output_density(tableau, block.mixture, LEVELS[3], score=law)
    for index in (len(density.points) // 2, int(np.argmax(density.value))):
        expected = two_steps(plain, score, density.points[index])
        assert density.value[index] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["ddpm", "srk", "srk_third_point"])
def test_waves_are_resolved(name):
    """The value at the engine's own accuracy is that of a grid several times finer."""
    wavy = perturbed.Wavy(TARGET, 0.2, 6.0)
    ((block, score),) = pairs(TARGET, wavy)
    tableau = SCHEMES[name](sv.schedules.exponential(6.0, 0.01, 16))
    plain, fine = sv.kl(TARGET, tableau, score=wavy), output_density(tableau, block.mixture, LEVELS[4], score=score)
    assert plain.value == pytest.approx(_density_kl(fine)[0], abs=plain.error + 1e-12)
    assert plain.error < 1e-6 * plain.value + 1e-10


@pytest.mark.parametrize("name", ["srk", "srk_third_point_1", "dpmpp_2m_sde"])
def test_the_targets_own_score_changes_nothing(name):
    tableau = TABLEAUS[name]
    plain = sv.kl(TARGET, tableau)
    for own in (TARGET, sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25), perturbed.Wavy(TARGET, 0.0, 3.0)):
        result = sv.kl(TARGET, tableau, score=own)
        assert result.value == pytest.approx(plain.value, abs=2.0 * (plain.error + result.error))


@pytest.mark.parametrize("name", COMPARED)
def test_gaussian_beside_a_gaussian_is_what_the_density_engine_says(name):
    tableau = TABLEAUS[name]
    own, wrong = sv.GaussianMixture([1.0], [[0.5]], 0.4), sv.GaussianMixture([1.0], [[0.3]], 0.6)
    closed = sv.kl(own, tableau, score=wrong)
    line, other = (Mixture1D(np.ones(1), law.means[:, 0], law.variances[:, 0]) for law in (own, wrong))
    found = block_kl(MixtureBlock(line, 1), tableau, score=Score1D(other))
    assert closed.method == "gaussian"
    assert found.value == pytest.approx(closed.value, abs=found.error + closed.error)


def test_products_are_split_factor_by_factor():
    tableau = TABLEAUS["srk_martingale"]
    target = sv.Product([TARGET, sv.GaussianMixture([1.0], [[0.5, 1.0]], [[0.4, 0.2]])], [3, 1])
    flat = sv.GaussianMixture([1.0], [[0.3, 1.0]], [[0.6, 0.2]])
    model = sv.Product([WRONG, TARGET, flat], [1, 2, 1])
    parts = [
        sv.kl(TARGET, tableau, score=WRONG),
        sv.kl(TARGET, tableau),
        sv.kl(TARGET, tableau),
        sv.kl(sv.GaussianMixture([1.0], [[0.5]], 0.4), tableau, score=sv.GaussianMixture([1.0], [[0.3]], 0.6)),
        sv.kl(sv.GaussianMixture([1.0], [[1.0]], 0.2), tableau),
    ]
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(5, 5)))[0]
    for own, other in ((target, model), (target.rotated(turn), model.rotated(turn))):
        result = sv.kl(own, tableau, score=other)
        assert result.value == pytest.approx(sum(part.value for part in parts), rel=1e-9)
    times = [0.1, 1.0]
    total = squared_error(TARGET, times, score=WRONG) + squared_error(
        sv.GaussianMixture([1.0], [[0.5]], 0.4), times, score=sv.GaussianMixture([1.0], [[0.3]], 0.6)
    )
    np.testing.assert_allclose(squared_error(target, times, score=model), total, rtol=1e-9)
    # A full covariance with the target's eigenvectors is the same, in the coordinates of these.
    basis = np.linalg.qr(np.random.default_rng(6).normal(size=(2, 2)))[0]
    full = [
        sv.GaussianMixture([1.0], [basis @ mean], [basis @ np.diag(variances) @ basis.T])
        for mean, variances in (([0.5, 1.0], [0.4, 0.2]), ([0.3, 1.0], [0.6, 0.2]))
    ]
    assert sv.kl(full[0], tableau, score=full[1]).value == pytest.approx(parts[3].value + parts[4].value, rel=1e-9)


@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        (TARGET, sv.GaussianMixture([1.0], [[0.0, 0.0]], 1.0), "score must have the target's dimension, 1; got 2"),
        (TARGET, 0.1, "score must be a GaussianMixture, a Product or a Wavy; got float"),
        (
            sv.Product([TARGET], [2]),
            sv.Product([TARGET], [2]).rotated([[0.0, 1.0], [1.0, 0.0]]),
            "score must have the target's rotation",
        ),
        (
            sv.Product([TARGET], [2]),
            sv.GaussianMixture([1.0], [[0.0, 0.0]], 1.0),
            "got one of dimension 2 beside 1",
        ),
        (
            sv.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], 1.0),
            sv.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.2]], 1.0),
            "got a factor of dimension 2 with several components",
        ),
        (
            sv.GaussianMixture([1.0], [[0.0, 0.0]], 1.0),
            perturbed.Wavy(sv.GaussianMixture([1.0], [[0.0, 0.0]], 1.0), 0.1, 1.0),
            "got a factor of dimension 2 with waves on it",
        ),
        (
            sv.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 2.0]]),
            sv.GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.2], [0.2, 2.0]]]),
            "covariance commutes with the target's",
        ),
    ],
)
def test_a_score_that_does_not_split_like_the_target_is_refused(target, score, message):
    with pytest.raises(ValueError, match=message):
        sv.kl(target, TABLEAUS["ddpm"], score=score)


def test_another_score_is_for_the_exact_method():
    with pytest.raises(ValueError, match="score must be left out unless method is 'exact'"):
        sv.kl(TARGET, TABLEAUS["ddpm"], method="path", score=WRONG)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 1.0), "law must be a GaussianMixture or a Product; got float"),
        ((TARGET, 0.1, 0.0), "frequency must be > 0; got 0.0"),
        ((TARGET, np.inf, 1.0), "amplitude must be finite"),
        ((TARGET, [0.1, 0.2], [1.0, 2.0, 3.0]), r"equally long; got \[2, 3, 1\]"),
    ],
)
def test_wavy_is_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        perturbed.Wavy(*arguments, *[0.0] * (3 - len(arguments)))


def test_squared_error_against_adaptive_quadrature():
    times, rho, c, epsilon = np.array([0.02, 0.6, 3.0]), 0.2, -0.1, 0.5
    found = squared_error(TARGET, times, relative=rho, slope=c, noise=epsilon, score=WAVY)
    for time, value in zip(times, found, strict=True):

        def integrand(x, time=time):
            at = np.array([[x]])
            waves = sum(a * np.sin(w * x / sigma(time) + phi) for a, w, phi in WAVY.waves) / sigma(time)
            off = (1.0 + rho) * (WRONG.score(at, time=time)[0, 0] + waves) + c * x - TARGET.score(at, time=time)[0, 0]
            return np.exp(TARGET.log_density(at, time=time)[0]) * off**2

        expected = integrate.quad(integrand, -12.0, 12.0, epsrel=1e-11, limit=2000, points=[-1.5, 0.0, 1.5])[0]
        assert value == pytest.approx(expected + epsilon**2, rel=1e-9)


def test_squared_error_of_another_law_is_what_kl_loses_in_time():
    """De Bruijn's identity: d/dt KL(q_t ‖ m_t) = −E|∇log q_t − ∇log m_t|²."""

    def kl(time):
        x = np.linspace(-14.0, 14.0, 40_001)[:, None]
        own, other = TARGET.log_density(x, time=time), WRONG.log_density(x, time=time)
        return float((np.exp(own) * (own - other)).sum() * (x[1, 0] - x[0, 0]))

    points, weights = np.polynomial.legendre.leggauss(40)
    half = 0.5 * np.log(3.0 / 0.02)
    times = 0.02 * np.exp(half * (points + 1.0))  # in log t the integrand is smooth
    dissipated = half * (weights * times) @ squared_error(TARGET, times, score=WRONG)
    assert dissipated == pytest.approx(kl(0.02) - kl(3.0), rel=1e-9)


def test_squared_error_on_a_gaussian_in_closed_form():
    target, time = sv.GaussianMixture([1.0], [[0.5, 0.0]], [[0.4, 2.0]]), 0.3
    v = np.array([0.4, 2.0]) * np.exp(-0.6) + 1.0 - np.exp(-0.6)
    m = np.array([0.5, 0.0]) * np.exp(-0.3)
    assert squared_error(target, [time], relative=0.1)[0] == pytest.approx(0.01 * (1.0 / v).sum(), rel=1e-12)
    assert squared_error(target, [time], slope=0.1)[0] == pytest.approx(0.01 * (v + m**2).sum(), rel=1e-12)
    assert squared_error(target, [time], noise=lambda t: 0.1 * t)[0] == pytest.approx(2 * 0.03**2, rel=1e-12)
    wrong = sv.GaussianMixture([1.0], [[0.5, 0.1]], [[0.4, 2.0]])
    assert squared_error(target, [time], score=wrong)[0] == pytest.approx((0.1 * np.exp(-0.3) / v[1]) ** 2, rel=1e-12)
    grid = np.array([2.0, 1.5, 0.3])
    both = squared_error(target, grid[:2], relative=0.1)
    assert mean_squared_error(target, grid, relative=0.1) == pytest.approx(both @ [0.5, 1.2] / 1.7, rel=1e-12)
    with pytest.raises(ValueError, match=r"times must be positive; got 0\.0"):
        squared_error(target, [0.0])
    with pytest.raises(ValueError, match=r"relative must be a number or an array of shape \(1,\)"):
        squared_error(target, [1.0], relative=[0.1, 0.2])


def test_a_small_error_adds_its_square_once_the_sign_is_averaged():
    tableau = sv.schemes.srk_third_point(sv.schedules.exponential(6.0, 0.01, 32))
    plain = sv.kl(TARGET, tableau).value
    means = []
    for rho in (0.02, 0.04, 0.08):
        up, down = (sv.kl(TARGET, perturbed.relative(tableau, sign * rho)).value for sign in (1.0, -1.0))
        means.append((0.5 * (up + down) - plain) / rho**2)
    # The next term is of fourth order: it grows fourfold from size to size.
    assert means[2] - means[1] == pytest.approx(4.0 * (means[1] - means[0]), rel=0.02)
    assert means[1] == pytest.approx(means[0], rel=0.01)


def test_path_kl_of_ddpm_grows_by_girsanovs_value():
    """DDPM's mean is exact, so that an error adds Σ (e^h − e^{−h})²/(2(e^{2h} − 1)) E|ŝ − s|² to the KL of paths."""
    times, particles, rng = sv.schedules.exponential(6.0, 0.01, 24), 40_000, np.random.default_rng(8)
    h, c, rho = -np.diff(times), 0.3, 0.2
    x = TARGET.sample(particles, seed=9, time=times[-1])
    added = np.zeros((particles, 1))
    for k in reversed(range(24)):
        former = np.exp(-h[k]) * x + np.sqrt(1.0 - np.exp(-2.0 * h[k])) * rng.standard_normal(x.shape)
        score, spread = TARGET.score(former, time=times[k]), np.sqrt(np.exp(2.0 * h[k]) - 1.0)
        for sign, wrong in ((1.0, 0.0), (-1.0, rho * score + c * former)):
            center = np.exp(h[k]) * former + 2.0 * np.sinh(h[k]) * (score + wrong)
            added += sign * stats.norm.logpdf(x, center, spread)
        x = former
    expected = (np.exp(-h) * np.sinh(h)) @ squared_error(TARGET, times[:-1], relative=rho, slope=c)
    error = added.std() / np.sqrt(particles)
    assert expected > 30.0 * error
    assert abs(added.mean() - expected) < 4.5 * error  # by chance with probability 7e-6

from dataclasses import replace

import numpy as np
import pytest
from reference import law_p_value, simulate
from scipy import stats

import srkverify as sv
from srkverify.divergence.exact import _density_kl
from srkverify.engines import gaussian, quadrature, quadrature_memory
from srkverify.engines.autoregression import autoregression
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import COARSE, LEVELS
from srkverify.engines.quadrature_chain import output_density
from srkverify.schemes import SCHEMES
from srkverify.tableau import Drawn, Row, assemble

TARGET = sv.GaussianMixture([0.3, 0.7], [[-1.2], [1.0]], [0.2, 0.4])
MIXTURE = Mixture1D(np.array([0.3, 0.7]), np.array([-1.2, 1.0]), np.array([0.2, 0.4]))
SINGLE = Mixture1D(np.ones(1), np.array([0.7]), np.array([0.3]))


def grid(steps):
    return sv.schedules.exponential(3.0, 0.05, steps)


def lengths(times):
    return times[:-1] - times[1:]


def since(times, count):
    """1 from the step on before which ``count`` evaluations have been made, one a step."""
    return 1.0 * (np.arange(len(times) - 1) >= count)


def history(times):
    """Two old scores and one old point in the output; no noise in the stage."""
    h, one, two = lengths(times), since(times, 1), since(times, 2)
    output = Row(
        state=np.exp(h) - 0.1 * one,
        scores=[1.6 * h],
        noise=[np.sqrt(1.2 * h), np.sqrt(0.7 * h)],
        past_points=[0.1 * one],
        past_scores=[0.5 * h * one, -0.2 * h * two],
    )
    return assemble("history", times, [Row(state=1.0, time=times[:-1])], output)


def noisy_history(times):
    """A stage with noise that sees two old scores."""
    h, one, two = lengths(times), since(times, 1), since(times, 2)
    stage = Row(
        state=1.0 - 0.2 * one,
        noise=[0.4 * np.sqrt(h), 0.2 * np.sqrt(h)],
        past_points=[0.2 * one],
        past_scores=[0.3 * h * one, 0.1 * h * two],
        time=times[:-1] - 0.3 * h,
    )
    output = Row(state=np.exp(h), scores=[2.0 * h], noise=[np.sqrt(1.9 * h)], past_scores=[0.0, 0.05 * h * two])
    return assemble("noisy_history", times, [stage], output)


def predictor_corrector(times):
    """The evaluation is at the predicted next state, and output and stage share all of their noise."""
    h, one, two = lengths(times), since(times, 1), since(times, 2)
    first = Row(state=1.0, time=times[:-1], evaluated=1.0 - one)
    noise = [np.sqrt(2.0 * h)]
    predicted = Row(
        state=np.exp(h),
        scores=[2.0 * h * (1.0 - one)],
        noise=noise,
        past_scores=[2.5 * h * one, -0.5 * h * two],
        time=times[1:],
    )
    output = Row(
        state=np.exp(h),
        scores=[1.2 * h * (1.0 - one), 0.8 * h],
        noise=noise,
        past_scores=[1.3 * h * one, -0.1 * h * two],
    )
    return assemble("predictor_corrector", times, [first, predicted], output)


def churn(times, noisy=1.0):
    """Noise first, then a Heun step without."""
    h = lengths(times)
    size = noisy * np.sqrt(0.4 * h)
    first = Row(state=1.0, noise=[size], time=times[:-1])
    second = Row(state=np.exp(h), scores=[1.2 * h], noise=[np.exp(h) * size], time=times[1:])
    output = Row(state=np.exp(h), scores=[0.6 * h, 0.6 * h], noise=[np.exp(h) * size])
    return assemble("churn", times, [first, second], output)


def heun(times):
    """Stochastic Heun: the output is a function of the predicted point and of the state."""
    h = lengths(times)
    noise = [np.sqrt(2.0 * h)]
    first = Row(state=1.0, time=times[:-1])
    second = Row(state=1.0 + h, scores=[2.0 * h], noise=noise, time=times[1:])
    output = Row(state=1.0 + h + 0.5 * h**2, scores=[h + h**2, h], noise=noise)
    return assemble("heun", times, [first, second], output)


SAMPLERS = {
    "history": history,
    "noisy_history": noisy_history,
    "predictor_corrector": predictor_corrector,
    "churn": churn,
    "churn_in_half_of_the_steps": lambda times: churn(times, np.arange(len(times) - 1) % 2),
    "heun": heun,
}


def drawn(times):
    """SRK, DDPM or a noisy-stage scheme, whose own noises differ."""
    return Drawn("drawn", [0.5, 0.2, 0.3], (SCHEMES["srk"](times), SCHEMES["ddpm"](times), heun(times)))


@pytest.mark.parametrize("name", ["ddpm", "srk", "srk_third_point", "dpmpp_2m_sde", "srk_third_point_1"])
def test_it_agrees_with_the_engines_for_particular_tableaus(name):
    tableau = SCHEMES[name](grid(12))
    engine = quadrature_memory if tableau.memory else quadrature
    expected, value = (_density_kl(e.output_density(tableau, MIXTURE, LEVELS[2]))[0] for e in (engine, QC))
    assert value == pytest.approx(expected, rel=1e-8)


class QC:
    output_density = staticmethod(output_density)


@pytest.mark.parametrize("start", ["exact", "normal"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_on_a_gaussian_it_agrees_with_the_gaussian_engine(name, start):
    level, steps, tolerance = (0, 4, 1e-8) if name == "noisy_history" else (2, 14, 1e-10)
    times = grid(steps)
    tableau = SAMPLERS[name](times)
    density = output_density(tableau, SINGLE, LEVELS[level], start)
    law = gaussian.deviations(tableau, SINGLE.variances, start)
    variance = (0.3 * np.exp(-2.0 * times[-1]) - np.expm1(-2.0 * times[-1])) * (1.0 + law.variance[0])
    mean = (np.exp(-times[-1]) + law.mean[0]) * 0.7
    expected = stats.norm.pdf(density.points, mean, np.sqrt(variance))
    assert np.abs(density.value - expected).max() < tolerance * expected.max()


@pytest.mark.parametrize("name", SAMPLERS)
def test_on_a_mixture_it_agrees_with_simulation(name):
    # Kolmogorov and Smirnov's test at a false-alarm rate of 1e-6 for each of six samplers.
    times, count = grid(4 if name == "noisy_history" else 8), 200_000
    tableau = SAMPLERS[name](times)
    density = output_density(tableau, MIXTURE, LEVELS[0])
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((tableau.steps, tableau.noise.shape[1], count, 1))
    ends = simulate(tableau, TARGET, TARGET.sample(count, 5, time=times[0]), noise)[-1][:, 0]
    assert law_p_value(density, ends) > 1e-6


def test_draws_are_averaged():
    times, count = grid(8), 200_000
    scheme = drawn(times)
    density = output_density(scheme, MIXTURE, LEVELS[1])
    rng = np.random.default_rng(4)
    states = TARGET.sample(count, 5, time=times[0])
    for k in range(scheme.steps):
        which = rng.choice(3, size=count, p=scheme.weights)
        for q, member in enumerate(scheme.members):
            mine = which == q
            noise = rng.standard_normal((member.steps, member.noise.shape[1], mine.sum(), 1))
            one = replace(
                member,
                times=times[k : k + 2],
                **{
                    name: getattr(member, name)[k : k + 1]
                    for name in member.__dataclass_fields__
                    if name not in ("name", "times", "noise_paths")
                },
                noise_paths=None,
            )
            states[mine] = simulate(one, TARGET, states[mine], noise[k : k + 1])[-1]
    assert law_p_value(density, states[:, 0]) > 1e-6
    single = Drawn("one", [1.0], (SCHEMES["srk"](times),))
    assert sv.kl(TARGET, single).value == pytest.approx(sv.kl(TARGET, SCHEMES["srk"](times)).value, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "noisy_history"])
def test_refinement_confirms_it(name):
    tableau = SAMPLERS[name](grid(16))
    coarse, fine = (_density_kl(output_density(tableau, MIXTURE, LEVELS[level]))[0] for level in (0, 2))
    assert coarse == pytest.approx(fine, rel=1e-5)


def test_a_memory_of_three_evaluations_needs_four_numbers():
    # Against the Gaussian engine; and on a mixture Kolmogorov and Smirnov's test at a false-alarm rate of 1e-6.
    times, count = sv.schedules.exponential(2.0, 0.2, 12), 200_000
    tableau = SCHEMES["sa_p3c3"](times)
    ((_, draws),) = autoregression(tableau).steps[6]
    assert len(draws[-1].keep) == 4
    density = output_density(tableau, SINGLE, COARSE[2])
    law = gaussian.deviations(tableau, SINGLE.variances, "exact")
    variance = (0.3 * np.exp(-2.0 * times[-1]) - np.expm1(-2.0 * times[-1])) * (1.0 + law.variance[0])
    expected = stats.norm.pdf(density.points, (np.exp(-times[-1]) + law.mean[0]) * 0.7, np.sqrt(variance))
    assert np.abs(density.value - expected).max() < 1e-6 * expected.max()
    noise = np.random.default_rng(3).standard_normal((tableau.steps, tableau.noise.shape[1], count, 1))
    ends = simulate(tableau, TARGET, TARGET.sample(count, 5, time=times[0]), noise)[-1][:, 0]
    assert law_p_value(output_density(tableau, MIXTURE, COARSE[1]), ends, mass=1e-5) > 1e-6


def test_states_need_as_many_draws_as_the_theory_page_says():
    # What is kept after a step in the middle of the run.
    kept = {
        "ddpm": 1,
        "srk": 1,
        "srk_third_point": 1,
        "dpmpp_2m_sde": 2,
        "srk_third_point_1": 2,
        "history": 3,
        "noisy_history": 3,
        "predictor_corrector": 3,
        "churn": 1,
        "heun": 1,
    }
    for name, count in kept.items():
        scheme = SAMPLERS.get(name) or SCHEMES[name]
        ((_, draws),) = autoregression(scheme(grid(9))).steps[6]
        assert len(draws[-1].keep) == count, name


def test_the_front_doors_take_them():
    times = grid(8)
    for name in ("predictor_corrector", "heun"):
        result = sv.kl(TARGET, SAMPLERS[name](times))
        assert result.error < 1e-6 * result.value
    assert sv.tv(TARGET, drawn(times)).value ** 2 <= 0.5 * sv.kl(TARGET, drawn(times)).value  # Pinsker
    with pytest.raises(ValueError, match="target must have one dimension for drawn"):
        sv.kl(sv.GaussianMixture([1.0], [[0.0, 0.0]], 1.0), drawn(times))
    with pytest.raises(ValueError, match="tableau must be a Tableau here"):
        sv.kl(TARGET, drawn(times), method="path")


def test_what_cannot_be_done_is_said():
    times = grid(4)
    h = lengths(times)
    with pytest.raises(ValueError, match="steps: heun with 2 steps folds the line"):
        output_density(heun(np.array([3.0, 1.0, 1e-3])), MIXTURE, LEVELS[0])
    first = Row(state=1.0, noise=[np.sqrt(h)], time=times[:-1])
    second = Row(state=1.0, scores=[h], noise=[2.0 * np.sqrt(h)], time=times[:-1])  # sees state and noise apart
    mixed = assemble("mixed", times, [first, second], Row(state=1.0, scores=[0.0, h], noise=[np.sqrt(h)]))
    with pytest.raises(ValueError, match="in one score"):
        output_density(mixed, MIXTURE, LEVELS[0])
    with pytest.raises(ValueError, match="remember no evaluation"):
        output_density(Drawn("two", [0.5, 0.5], (history(times), history(times))), MIXTURE, LEVELS[0])
    with pytest.raises(ValueError, match="has no noise"):
        output_density(Drawn("two", [0.5, 0.5], (churn(times, 0.0), heun(times))), MIXTURE, LEVELS[0])


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [([0.5, 0.6], 2, "weights must be"), ([1.0], 2, "weights must be"), ([1.5, -0.5], 2, "weights must be")],
)
def test_what_is_drawn_is_checked(weights, count, message):
    with pytest.raises(ValueError, match=message):
        Drawn("wrong", weights, (SCHEMES["ddpm"](grid(4)),) * count)
    with pytest.raises(ValueError, match="same times"):
        Drawn("wrong", [0.5, 0.5], (SCHEMES["ddpm"](grid(4)), SCHEMES["ddpm"](grid(5))))


@pytest.mark.parametrize("scheme", ["srk_third_order", "sa_p3"])
@pytest.mark.parametrize("steps", [16, 24])
def test_coarse_levels_report_their_error(scheme, steps):
    """A memory of two is tried on coarse grids first, where little accuracy is asked for."""
    tableau = SCHEMES[scheme](sv.schedules.exponential(4.0, 0.05, steps))
    rough = sv.kl(TARGET, tableau, absolute=1e-13, relative=1e-2)
    fine = sv.kl(TARGET, tableau, absolute=1e-13, relative=1e-9)
    assert abs(rough.value - fine.value) <= rough.error <= 1e-2 * rough.value
    assert abs(rough.value - fine.value) > 0.0  # it stopped earlier
    assert fine.error <= 1e-9 * fine.value + 1e-13

from itertools import product

import numpy as np
import pytest
from reference import law_p_value, simulate
from scipy import stats

import srkverify as sv
from srkverify.divergence.exact import _density_kl
from srkverify.engines import gaussian
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import LEVELS
from srkverify.engines.quadrature_flow import covers, output_density
from srkverify.schemes import SCHEMES
from srkverify.schemes.randomised import randomised_midpoint
from srkverify.tableau import Drawn, Row, assemble

SINGLE = Mixture1D(np.ones(1), np.array([0.7]), np.array([0.3]))
TARGET = sv.GaussianMixture([0.3, 0.7], [[-1.2], [1.0]], [0.2, 0.4])
MIXTURE = Mixture1D(np.array([0.3, 0.7]), np.array([-1.2, 1.0]), np.array([0.2, 0.4]))
FAR = sv.GaussianMixture([0.3, 0.7], [[-3.0], [3.0]], 0.05)


def grid(steps):
    return sv.schedules.exponential(3.0, 0.05, steps)


def two_step(times):
    """Adams and Bashforth's rule for the probability flow, which remembers the last two evaluations."""
    h = times[:-1] - times[1:]
    one = 1.0 * (np.arange(len(h)) >= 1)
    two = 1.0 * (np.arange(len(h)) >= 2)
    first = Row(state=1.0, time=times[:-1])
    past = [h * (-0.5 * one - 0.1 * two), 0.1 * h * two]
    return assemble("two_step", times, [first], Row(state=np.exp(h), scores=[h * (1 + 0.5 * one)], past_scores=past))


SAMPLERS = {"ddim": SCHEMES["ddim_eta0"], "higher_order": SCHEMES["higher_order_2"], "two_step": two_step}


@pytest.mark.parametrize("start", ["exact", "normal"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_on_a_gaussian_it_agrees_with_the_gaussian_engine(name, start):
    times = grid(24)
    tableau = SAMPLERS[name](times)
    density = output_density(tableau, SINGLE, LEVELS[2], start)
    law = gaussian.deviations(tableau, SINGLE.variances, start)
    variance = (0.3 * np.exp(-2.0 * times[-1]) - np.expm1(-2.0 * times[-1])) * (1.0 + law.variance[0])
    mean = (np.exp(-times[-1]) + law.mean[0]) * 0.7
    expected = stats.norm.pdf(density.points, mean, np.sqrt(variance))
    assert np.abs(density.value - expected).max() < 1e-12 * expected.max()


def test_what_is_drawn_leaves_a_mixture_of_all_sequences_of_draws():
    # Of a Gaussian each sequence of members makes a Gaussian: 3⁴ of them.
    times = sv.schedules.exponential(3.0, 0.5, 4)
    drawn = randomised_midpoint(times, draws=3)
    found = output_density(drawn, SINGLE, LEVELS[2])
    expected = np.zeros(len(found.points))
    for which in product(range(3), repeat=4):
        mean, variance = 0.7 * np.exp(-times[0]), 0.3 * np.exp(-2.0 * times[0]) - np.expm1(-2.0 * times[0])
        for k, q in enumerate(which):
            member = drawn.members[q]
            # Score −(y − m_t)/v_t: the step maps y to a y + b.
            centers, widths = np.exp(-member.stage_times[k]) * 0.7, 1.0 - 0.7 * np.exp(-2.0 * member.stage_times[k])
            u, shift = member.stage_state[k, 1], 0.0
            first = np.array([-1.0 / widths[0], centers[0] / widths[0]])
            point = np.array([u, shift]) + member.stage_scores[k, 1, 0] * first
            second = (np.array([0.0, centers[1]]) - point) / widths[1]
            slope, offset = np.array([member.state[k], 0.0]) + member.scores[k, 1] * second
            mean, variance = slope * mean + offset, slope**2 * variance
        expected += np.prod(drawn.weights[list(which)]) * stats.norm.pdf(found.points, mean, np.sqrt(variance))
    assert np.abs(found.value - expected).max() < 1e-10 * expected.max()


@pytest.mark.parametrize("steps", [16, 32])
def test_where_modes_are_far_apart_it_agrees_with_an_integral_over_the_horizon(steps):
    """KL as an integral over images of starting points, with the watershed bisected: no interpolation, no engine."""
    times = sv.schedules.exponential(6.0, 0.01, steps)
    tableau = SCHEMES["ddim_eta0"](times)

    def law(x, time):
        means, variances = np.exp(-time) * FAR.means[:, 0], 1.0 - 0.95 * np.exp(-2.0 * time)
        logs = np.log(FAR.weights) + stats.norm.logpdf(x[:, None], means, np.sqrt(variances))
        total = np.logaddexp(*logs.T)
        share, pull = np.exp(logs - total[:, None]), (means - x[:, None]) / variances
        score = (share * pull).sum(axis=1)
        return total, score, (share * ((pull - score[:, None]) ** 2 - 1.0 / variances)).sum(axis=1)

    x, gaps = np.linspace(-8.5, 8.5, 20_001), np.ones(1)
    while gaps.max() > 2e-3:
        y, slope = x, np.ones(len(x))
        for k in range(steps):
            _, score, bend = law(y, tableau.stage_times[k, 0])
            y, slope = (
                tableau.state[k] * y + tableau.scores[k, 0] * score,
                slope * (tableau.state[k] + tableau.scores[k, 0] * bend),
            )
        gaps = np.where(np.diff(x) > 1e-15, np.diff(y), 0.0)
        wide = gaps > 2e-3
        x = np.sort(np.concatenate([x, 0.5 * (x[1:] + x[:-1])[wide]])) if wide.any() else x
    truth, left = law(y, times[-1])[0], law(x, times[0])[0] - np.log(slope)
    expected = np.trapezoid(np.exp(truth) * (truth - left), y)
    found = sv.kl(FAR, tableau)
    assert found.error < 1e-6 * found.value
    assert found.value == pytest.approx(expected, rel=1e-5)


def test_the_randomised_midpoint_agrees_with_simulation():
    # Kolmogorov and Smirnov's test at a false-alarm rate of 1e-6.
    count, drawn = 200_000, randomised_midpoint(grid(16))
    density = output_density(drawn, MIXTURE, LEVELS[1])
    rng = np.random.default_rng(4)
    states = TARGET.sample(count, 5, time=drawn.times[0])
    for k in range(drawn.steps):
        which = rng.choice(len(drawn.weights), size=count, p=drawn.weights)
        for q, member in enumerate(drawn.members):
            states[which == q] = one_step(member, k, states[which == q])
    assert law_p_value(density, states[:, 0]) > 1e-6


def one_step(member, k, states):
    part = assemble(
        "part",
        member.times[k : k + 2],
        [
            Row(state=member.stage_state[k, i], scores=member.stage_scores[k, i], time=member.stage_times[k, i])
            for i in range(member.stage_times.shape[1])
        ],
        Row(state=member.state[k], scores=member.scores[k]),
    )
    return simulate(part, TARGET, states, np.zeros((1, 0, *states.shape)))[-1]


@pytest.mark.parametrize("scheme", [*SAMPLERS.values(), randomised_midpoint])
def test_refinement_confirms_the_reported_error(scheme):
    tableau = scheme(grid(24))
    rough, fine = (_density_kl(output_density(tableau, MIXTURE, LEVELS[level]))[0] for level in (0, 4))
    reported = sv.kl(TARGET, tableau, relative=1e-3)
    assert rough == pytest.approx(fine, rel=1e-6)
    assert abs(reported.value - fine) <= reported.error <= 1e-3 * fine


def test_waves_on_the_score_are_resolved():
    # Values of the engine for autoregressions, which inverts the map on a regular grid, to 1e-10.
    target = sv.GaussianMixture([0.4, 0.6], [[-1.0], [1.2]], [0.2, 0.3])
    for frequency, steps, expected in ((3.0, 64, 0.0069060575027), (10.0, 16, 0.0733280422450)):
        score = sv.perturbed.Wavy(target, 0.02, frequency, 0.3)
        found = sv.kl(target, SCHEMES["ddim_eta0"](grid(steps)), score=score)
        assert found.value == pytest.approx(expected, rel=1e-9)
        assert found.error < 1e-9


def test_it_takes_samplers_without_any_noise():
    assert covers(SCHEMES["ddim_eta0"](grid(4)))
    assert covers(randomised_midpoint(grid(4)))
    assert not covers(SCHEMES["ddim"](grid(4)))
    assert not covers(Drawn("two", [0.5, 0.5], (SCHEMES["ddim_eta0"](grid(4)), SCHEMES["ddpm"](grid(4)))))


def test_the_front_doors_take_them():
    # Pinsker's inequality between two quantities that are computed apart.
    drawn = randomised_midpoint(grid(16))
    kl, tv = sv.kl(TARGET, drawn), sv.tv(TARGET, drawn)
    assert kl.error < 1e-6 * kl.value
    assert 0.0 < tv.value**2 <= 0.5 * kl.value


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match="steps: randomised_midpoint with 4 steps folds the line"):
        output_density(randomised_midpoint(grid(4)), MIXTURE, LEVELS[0])
    two = Drawn("two", [0.5, 0.5], (two_step(grid(8)), two_step(grid(8))))
    with pytest.raises(ValueError, match="members must remember no evaluation; those of two do"):
        output_density(two, MIXTURE, LEVELS[0])
    h = np.array([1.0, 1.0, 1.0])
    wild = assemble("wild", [4.0, 3.0, 2.0, 1.0], [Row(time=1.0 + h, state=0.0)], Row(state=1e4 * h, scores=[0.0 * h]))
    with pytest.raises(ValueError, match="steps: wild with 3 steps needs more than 1048576 grid points"):
        output_density(wild, MIXTURE, LEVELS[0])

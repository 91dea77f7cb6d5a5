from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import simulate
from scipy import stats
from scipy.interpolate import CubicSpline

import srkverify as sv
from srkverify.divergence.exact import _density_kl
from srkverify.engines import gaussian, quadrature
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import LEVELS
from srkverify.engines.quadrature_memory import covers, output_density
from srkverify.tableau import Row, assemble

WEIGHTS, MEANS, VARIANCES = np.array([0.4, 0.6]), np.array([-1.5, 1.5]), np.array([0.25, 0.25])
MIXTURE = Mixture1D(WEIGHTS, MEANS, VARIANCES)


def third_point(guess):
    return lambda times: sv.schemes.srk_third_point(times, evaluations=1, guess=guess)


SCHEMES = {
    "plain": third_point("plain"),
    "unit": third_point("unit"),
    "denoiser": third_point("denoiser"),
    "midpoint": sv.schemes.dpmpp_2m_sde,
    "heun": lambda times: sv.schemes.dpmpp_2m_sde(times, variant="heun"),
}


def grid(steps, early_stop=0.01):
    return sv.schedules.exponential(6.0, early_stop, steps)


def kl(tableau, target=MIXTURE, level=0, start="exact"):
    return _density_kl(output_density(tableau, target, LEVELS[level], start))[0]


def every_coefficient(times):
    """A tableau that uses all that the engine covers: three noises, the past in the point and in the output."""
    h = times[:-1] - times[1:]
    past = np.arange(len(h)) > 0
    return assemble(
        "everything",
        times,
        [
            Row(state=0.9, time=times[:-1], evaluated=~past),
            Row(
                state=1.0 - 0.3 * past,
                scores=[0.5 * h * ~past],
                noise=[0.3 * np.sqrt(h), -0.4 * np.sqrt(h), 0.0],
                past_points=[0.3 * past],
                past_scores=[0.4 * h * past],
                time=times[:-1] - 0.2 * h,
            ),
        ],
        Row(
            state=1.0 + h - 0.2 * past,
            scores=[0.3 * h * ~past, 1.5 * h],
            noise=[np.sqrt(h), 0.2 * np.sqrt(h), 0.8 * np.sqrt(h)],
            past_points=[0.2 * past],
            past_scores=[-0.2 * h * past],
        ),
    )


# From the values that every engine is checked against (docs/theory.md), four digits each.
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("plain", (2.081e-4, 1.614e-5, 1.142e-6)),
        ("unit", (2.694e-5, 2.096e-6, 1.550e-7)),
        ("midpoint", (1.248e-5, 8.579e-7, 5.863e-8)),
    ],
)
def test_kl_on_the_reference_mixture(name, values):
    for steps, value in zip((32, 64, 128), values, strict=True):
        assert kl(SCHEMES[name](grid(steps))) == pytest.approx(value, rel=4e-4)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("start", ["exact", "normal"])
def test_one_component_gives_the_gaussian_engine_s_density(name, start):
    for steps, eigenvalue in ((2, 1.5), (9, 0.25), (24, 0.0)):
        tableau = SCHEMES[name](grid(steps))
        density = output_density(
            tableau, Mixture1D(np.ones(1), np.array([0.8]), np.array([eigenvalue])), LEVELS[1], start
        )
        law = gaussian.deviations(tableau, np.array([eigenvalue]), start)
        variance = (eigenvalue * np.exp(-0.02) - np.expm1(-0.02)) * (1.0 + law.variance[0])
        expected = stats.norm.pdf(density.points, 0.8 * (np.exp(-0.01) + law.mean[0]), np.sqrt(variance))
        np.testing.assert_allclose(density.value, expected, rtol=0, atol=1e-11 * expected.max())


@pytest.mark.parametrize("name", SCHEMES)
def test_without_use_of_the_past_the_density_is_the_memoryless_engine_s(name):
    tableau = SCHEMES[name](grid(12))
    past = ("past_points", "past_scores", "stage_past_points", "stage_past_scores")
    tableau = replace(tableau, **{part: np.zeros_like(getattr(tableau, part)) for part in past})
    ours = output_density(tableau, MIXTURE, LEVELS[1])
    theirs = quadrature.output_density(tableau, MIXTURE, LEVELS[3])
    expected = CubicSpline(theirs.points, theirs.value)(ours.points)
    # The spline's error is about 1e−8.
    np.testing.assert_allclose(ours.value, expected, rtol=0, atol=1e-6 * expected.max())
    assert kl(tableau, level=1) == pytest.approx(_density_kl(theirs)[0], rel=1e-6)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_single_step_is_the_memoryless_engine_s(name):
    tableau = SCHEMES[name](grid(1, early_stop=4.0))
    ours, theirs = (engine(tableau, MIXTURE, LEVELS[1]) for engine in (output_density, quadrature.output_density))
    np.testing.assert_array_equal(ours.value, theirs.value)


@pytest.mark.parametrize("build", [every_coefficient, SCHEMES["unit"], SCHEMES["midpoint"]])
def test_density_agrees_with_a_million_particles(build):
    times = np.array([2.0, 1.1, 0.6, 0.35, 0.2, 0.1])
    tableau = build(times)
    density = output_density(tableau, MIXTURE, LEVELS[1])
    cumulative = CubicSpline(density.points, density.value).antiderivative()(density.points)
    edges = density.points[np.searchsorted(cumulative, np.arange(1, 60) / 60)]
    probability = np.diff(np.interp(edges, density.points, cumulative), prepend=0.0, append=1.0)
    target = sv.GaussianMixture(WEIGHTS, MEANS[:, None], VARIANCES)
    rng = np.random.default_rng(3)
    counts = np.zeros(60)
    for _ in range(10):
        parts = rng.choice(2, size=100_000, p=WEIGHTS)
        spread = np.sqrt(1.0 - 0.75 * np.exp(-2.0 * times[0]))
        start = (np.exp(-times[0]) * MEANS[parts] + spread * rng.standard_normal(100_000))[:, None]
        noise = rng.standard_normal((*tableau.noise.shape, 100_000, 1))
        counts += np.bincount(np.searchsorted(edges, simulate(tableau, target, start, noise)[-1, :, 0]), minlength=60)
    statistic = ((counts - 1e6 * probability) ** 2 / (1e6 * probability)).sum()
    assert statistic < stats.chi2.isf(1e-6, 59)  # false alarms: one seed in a million


@pytest.mark.parametrize("name", ["unit", "midpoint"])
def test_refinement_changes_less_than_the_tolerance(name):
    for steps in (8, 32, 128):
        values = [kl(SCHEMES[name](grid(steps)), level=level) for level in (0, 1)]
        assert abs(values[1] - values[0]) <= max(1e-10, 1e-6 * values[1])


@pytest.mark.parametrize("name", ["unit", "midpoint"])
def test_resolves_the_valley_between_distant_modes(name):
    target = Mixture1D(np.array([0.3, 0.7]), np.array([-4.0, 4.0]), np.array([0.1, 0.1]))
    values = [kl(SCHEMES[name](grid(24)), target, level) for level in (0, 1)]
    assert values[0] == pytest.approx(values[1], rel=2e-5)


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.floats(0.1, 1.0), st.floats(-3.0, 3.0), st.floats(0.05, 2.0)), min_size=1, max_size=4),
    st.sampled_from(["unit", "midpoint"]),
)
def test_density_has_mass_one_and_turns_with_the_target(parts, name):
    weights, means, variances = np.array(parts).T
    weights = weights / weights.sum()
    tableau = SCHEMES[name](grid(10))
    density = output_density(tableau, Mixture1D(weights, means, variances), LEVELS[1])
    turned = output_density(tableau, Mixture1D(weights, -means, variances), LEVELS[1])
    spacing = density.points[1] - density.points[0]
    assert (density.value >= 0.0).all()
    assert density.value.sum() * spacing == pytest.approx(1.0, abs=1e-9)
    # The grids are multiples of the same spacing.
    _, here, there = np.intersect1d(
        np.rint(density.points / spacing), np.rint(-turned.points / spacing), return_indices=True
    )
    np.testing.assert_allclose(density.value[here], turned.value[there], rtol=0, atol=1e-10 * density.value.max())


def test_unused_components_change_nothing():
    tableau = SCHEMES["unit"](grid(8))
    extended = Mixture1D(np.append(WEIGHTS, 0.0), np.append(MEANS, 0.3), np.append(VARIANCES, 0.25))
    assert kl(tableau, extended) == pytest.approx(kl(tableau), rel=1e-9)


def changed(tableau, **parts):
    """The tableau with entries replaced; a part is a list of (index, value)."""
    arrays = {}
    for name, entries in parts.items():
        arrays[name] = np.array(getattr(tableau, name))
        for index, value in entries:
            arrays[name][index] = value
    return replace(tableau, **arrays)


def test_other_structures_are_refused():
    noisy, at_state = SCHEMES["unit"](grid(4)), SCHEMES["midpoint"](grid(4))
    deeper = {
        name: np.concatenate([getattr(noisy, name)] * 2, axis=-1)
        for name in ("past_points", "past_scores", "stage_past_points", "stage_past_scores")
    }
    refused = {
        "a memory of 2 evaluations": replace(noisy, **deeper),
        "several evaluations in a step": changed(noisy, evaluated=[((2, 0), True)]),
        "noise in a stage before the last": changed(noisy, stage_noise=[((0, 0, 0), 0.1)]),
        "stage noise in some steps only": changed(noisy, stage_noise=[((1, 1), 0.0)]),
        "not at Y": changed(at_state, stage_state=[((3, 0), 0.9)]),
        "a function of what the stage sees": changed(noisy, noise=[((2,), noisy.stage_noise[2, 1])]),
        "without evaluation": changed(at_state, evaluated=[((2, 0), False)], scores=[((2, 0), 0.0)]),
    }
    for reason, tableau in refused.items():
        assert not covers(tableau)
        with pytest.raises(ValueError, match=reason):
            output_density(tableau, MIXTURE, LEVELS[0])


@pytest.mark.parametrize("name", ["unit", "midpoint"])
def test_an_unstable_grid_is_refused(name):
    tableau = SCHEMES[name](np.linspace(6.0, 1e-4, 9))
    wild = replace(tableau, state=1e4 * tableau.state)
    with pytest.raises(ValueError, match="unstable"):
        output_density(wild, MIXTURE, LEVELS[0])

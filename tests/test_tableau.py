from dataclasses import replace

import numpy as np
import pytest

import srkverify as sv
from srkverify import Row, assemble
from srkverify.schemes import SCHEMES
from srkverify.schemes.randomised import ddram

TIMES = [3.0, 2.0, 1.0]


def test_rows_become_arrays_with_zeros_where_nothing_is_said():
    tableau = assemble(
        "made_up",
        TIMES,
        [Row(state=1.0, time=[3.0, 2.0]), Row(state=0.5, scores=[2.0], noise=[0.0, 3.0], time=[2.5, 1.5])],
        Row(state=[4.0, 5.0], scores=[0.0, 6.0], noise=[7.0]),
    )
    assert (tableau.steps, tableau.memory, tableau.nfe) == (2, 0, 4)
    np.testing.assert_array_equal(tableau.stage_scores[0], [[0, 0], [2, 0]])
    np.testing.assert_array_equal(tableau.stage_noise[1], [[0, 0], [0, 3]])
    np.testing.assert_array_equal(tableau.state, [4, 5])
    np.testing.assert_array_equal(tableau.noise, [[7, 0], [7, 0]])
    assert not tableau.state.flags.writeable


def made_up(noise_paths):
    stage = Row(state=1.0, time=TIMES[:-1], noise=[0.0, 1.0])
    return assemble("made_up", TIMES, [stage], Row(state=1.0, scores=[1.0], noise=[1.0]), noise_paths=noise_paths)


def test_noise_paths_are_optional_and_may_be_given_once_for_all_steps():
    assert made_up(None).noise_paths is None
    assert made_up(None).without_stage_noise().noise_paths is None
    once = made_up([[1.0, 0.0, 0.0], [0.0, 0.6, -0.8]])
    assert not once.noise_paths.flags.writeable
    np.testing.assert_array_equal(once.noise_paths, [[[1.0, 0.0, 0.0], [0.0, 0.6, -0.8]]] * 2)
    np.testing.assert_array_equal(once.without_stage_noise().noise_paths, once.noise_paths)
    turned = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
    np.testing.assert_array_equal(made_up(turned).noise_paths, turned)


@pytest.mark.parametrize(
    ("noise_paths", "message"),
    [
        ([[1.0, 0.0, 0.0]], r"noise_paths must have shape \(2, 2, 3\) .*got \(2, 1, 3\)"),
        (np.eye(3), r"noise_paths must have shape \(2, 2, 3\)"),
        ([[1.0, 0.0], [0.0, 1.0]], r"noise_paths must have shape \(2, 2, 3\)"),
        ([1.0, 0.0, 0.0], "noise_paths must have 2 or 3 axes"),
        ([[1.0, 0.0, 0.0], [0.0, np.nan, 0.0]], "noise_paths must be finite"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0 + 1e-8, 0.0]], "noise_paths must have orthonormal rows .*in step 0"),
        ([np.eye(3)[:2], [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]], "noise_paths must have orthonormal rows .*in step 1"),
    ],
)
def test_noise_paths_that_are_not_independent_noises_are_refused(noise_paths, message):
    with pytest.raises(ValueError, match=message):
        made_up(noise_paths)


def test_past_times_follow_the_evaluations():
    tableau = sv.schemes.srk_third_point(TIMES, evaluations=1)
    assert np.isnan(tableau.past_times[0, 0])
    assert tableau.past_times[1, 0] == tableau.stage_times[0, 1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("state", [1.0, np.nan], "state must be finite"),
        ("state", [1.0], r"state must have shape \(2,\)"),
        ("noise", [[1.0], [np.inf]], "noise must be finite"),
        ("stage_scores", [[[1.0]], [[0.0]]], "strictly lower triangular"),
        ("stage_times", [[3.0], [-2.0]], "stage_times must be positive"),
        ("evaluated", [[True], [False]], "not evaluated"),
        ("times", [1.0, 2.0, 3.0], "times must be strictly decreasing"),
    ],
)
def test_a_table_that_is_not_a_sampler_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(sv.schemes.ddpm(TIMES), **{field: np.array(value)})


def test_a_step_may_not_use_an_evaluation_that_nobody_made():
    stage, output = Row(state=1.0, time=[3.0, 2.0]), Row(state=1.0, scores=[1.0], noise=[1.0], past_scores=[1.0])
    with pytest.raises(ValueError, match="of step 0 must be 0"):
        assemble("made_up", TIMES, [stage], output)
    fine = replace(output, past_scores=[[0.0, 1.0]])
    assert assemble("made_up", TIMES, [stage], fine).memory == 1


@pytest.mark.parametrize("name", SCHEMES)
def test_the_first_steps_lead_to_the_same_states(name):
    target = sv.GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.2, 0.5], [0.4, 0.3]])
    tableau = SCHEMES[name](sv.schedules.exponential(4.0, 0.05, 6))
    path = sv.sample(target, tableau, particles=100, seed=3, return_path=True)
    for steps in (1, 4, 6):
        first = tableau.first(steps)
        np.testing.assert_array_equal(first.times, tableau.times[: steps + 1])
        np.testing.assert_array_equal(sv.sample(target, first, particles=100, seed=3), path[steps])


def test_the_first_steps_of_a_sampler_that_draws():
    times = sv.schedules.exponential(4.0, 0.05, 6)
    drawn, start = ddram(times, draws=2), ddram(times[:4], draws=2)
    target = sv.GaussianMixture([1.0], [[0.5]], 0.3)
    assert sv.kl(target, drawn.first(3)).value == pytest.approx(sv.kl(target, start).value, rel=1e-9)
    np.testing.assert_array_equal(drawn.first(3).weights, drawn.weights)


@pytest.mark.parametrize("steps", [0, 3, 1.5, True])
def test_the_first_steps_are_some_of_all(steps):
    with pytest.raises(ValueError, match=r"steps must be an integer.*got"):
        made_up(None).first(steps)

"""Against Gram–Schmidt and integrals in mpmath, whose 80 digits outlast every cancellation."""

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import span_basis, span_products

from srkverify import Row, assemble, brownian, schedules
from srkverify.schemes import COMPARED, SCHEMES

# On a grid that ends at τ of the size of the step, differences of times have all digits of h.
GRIDS = {
    "whole": [2.0, 1.0],
    "halves": [3.0, 2.0, 1.0],
    "tiny": [2.0e-8, 1.7e-8, 1.1e-8, 1.0e-8],
    "unequal": [4.0, 4.0 - 1e-9, 2.5, 2.0 + 1e-6, 2.0],
    "long": [9.0, 8.0, 3.0, 2.9, 1.0],
    "longer": [31.0, 20.0, 19.99, 1.0],
}


def exact(x):
    return mp.mpf(float(x))


def mixing(path_times):
    """The matrices (S, 3, 3) of one coarse step from the ends of ``path_times``."""
    times = [exact(t) for t in path_times]
    whole = span_basis(times[0] - times[-1])
    parts = []
    for now, then in pairwise(times):
        part = whole * span_products(now - then, start=times[0] - now) * span_basis(now - then).T
        parts.append(np.array(part.tolist(), float))
    return np.array(parts)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_mixing_is_the_inner_products_of_the_bases(grid):
    offsets, mixed = brownian.refinement([grid[0], grid[-1]], grid)
    np.testing.assert_array_equal(offsets, [0, len(grid) - 1])
    with mp.workdps(80):
        np.testing.assert_allclose(mixed, mixing(grid), rtol=0, atol=3e-14)


@st.composite
def refined_grids(draw):
    """Times (coarse, fine), the fine steps' lengths spread over eight orders of magnitude."""
    exponents = draw(st.lists(st.floats(-8.0, 0.5), min_size=1, max_size=12))
    fine = (1.0 + np.concatenate([[0.0], np.cumsum(10.0 ** np.array(exponents))]))[::-1]
    inner = draw(st.sets(st.integers(1, len(fine) - 2), max_size=6)) if len(fine) > 2 else set()
    return fine[[0, *sorted(inner), len(fine) - 1]], fine


@given(grids=refined_grids())
def test_the_path_of_a_step_is_made_of_orthonormal_functionals(grids):
    times, fine = grids
    offsets, mixed = brownian.refinement(times, fine)
    np.testing.assert_array_equal(fine[offsets], times)
    total = np.add.reduceat(mixed @ np.swapaxes(mixed, 1, 2), offsets[:-1])
    np.testing.assert_allclose(total, np.broadcast_to(np.eye(3), total.shape), rtol=0, atol=1e-13)


@given(grids=refined_grids(), factor=st.integers(1, 4))
def test_refining_twice_is_refining_once(grids, factor):
    times, middle = grids
    fine = schedules.refined(middle, factor)
    _, first = brownian.refinement(times, middle)
    offsets, second = brownian.refinement(middle, fine)
    _, both = brownian.refinement(times, fine)
    np.testing.assert_allclose(np.repeat(first, np.diff(offsets), axis=0) @ second, both, rtol=0, atol=1e-13)


@pytest.mark.parametrize("change", [-5e-10, 5e-10])
def test_entries_may_differ_in_the_last_digits(change):
    times = np.array([3.0, 2.0, 1.0])
    fine = np.array([3.0, 2.5, 2.0, 1.5, 1.0])
    offsets, mixed = brownian.refinement(times * (1 + change), fine)
    np.testing.assert_array_equal(offsets, [0, 2, 4])
    np.testing.assert_array_equal(mixed, brownian.refinement(times, fine)[1])


KERNELS = {  # of the noises as the schemes use them, u from 0 to h
    "w": lambda u, h: mp.sqrt(2) * mp.exp(h - u),
    "increment": lambda u, h: mp.sqrt(2),
    "srk": lambda u, h: mp.sqrt(2) * mp.expm1(h - u) / mp.expm1(h),
    "srk_martingale": lambda u, h: mp.sqrt(2) * mp.exp(h) * (mp.exp(-u) - mp.exp(u - 2 * h)) / (2 * mp.sinh(h)),
}


def used(tableau, weights, offsets):
    """Weights (S, 3) of the last stage's noise and of the output's noise on the path's coordinates."""
    step = np.repeat(np.arange(tableau.steps), np.diff(offsets))
    return [np.einsum("sm,smb->sb", rows[step], weights) for rows in (tableau.stage_noise[:, -1], tableau.noise)]


@pytest.mark.parametrize("grid", [GRIDS["halves"], GRIDS["unequal"], GRIDS["long"]], ids=["halves", "unequal", "long"])
@pytest.mark.parametrize("name", ["srk", "srk_martingale"])
def test_noises_of_different_grids_covary_like_their_integrals(name, grid):
    # (g, w) of one long step and (g, w) of each short one, by quadrature of the kernels on the part they share.
    ends = [grid[0], grid[-1]]
    coarse, fine = SCHEMES[name](ends), SCHEMES[name](grid)
    whole = used(coarse, *reversed(brownian.noise_weights(coarse, grid)))
    part = used(fine, *reversed(brownian.noise_weights(fine, grid)))
    with mp.workdps(30):
        h = exact(grid[0]) - exact(grid[-1])
        for s, (now, then) in enumerate(pairwise(grid)):
            start, length = exact(grid[0]) - exact(now), exact(now) - exact(then)
            for i, first in enumerate((name, "w")):
                for j, second in enumerate((name, "w")):
                    expected = mp.quad(
                        lambda v, f=KERNELS[first], g=KERNELS[second], u=start, n=length: f(u + v, h) * g(v, n),
                        [0, length],
                    )
                    scale = np.linalg.norm(whole[i]) * np.linalg.norm(part[j][s])
                    assert whole[i][s] @ part[j][s] == pytest.approx(float(expected), rel=0, abs=1e-13 * scale)


def test_different_schemes_covary_like_their_integrals():
    times, fine = [3.0, 1.2], schedules.refined([3.0, 1.2], 3)
    stage, output = {}, {}
    for name in ("euler_maruyama", "srk", "srk_martingale", "ddpm"):
        tableau = SCHEMES[name](times)
        stage[name], output[name] = used(tableau, *reversed(brownian.noise_weights(tableau, fine)))
    weights = {
        "w": output["ddpm"],
        "increment": output["euler_maruyama"],
        "srk": stage["srk"],
        "srk_martingale": stage["srk_martingale"],
    }
    with mp.workdps(30):
        h = exact(3.0) - exact(1.2)
        for first, a in weights.items():
            for second, b in weights.items():
                expected = mp.quad(lambda u, f=KERNELS[first], g=KERNELS[second]: f(u, h) * g(u, h), [0, h])
                assert (a * b).sum() == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize("name", ["exponential_euler", "srk", "srk_third_point_1"])
def test_the_output_noise_of_a_step_is_that_of_its_parts_carried_to_its_end(name):
    # w = Σ e^{what is left of the step} w_s, so that with score 0 all grids end in the same point.
    times = schedules.exponential(6.0, 0.01, 7)
    fine = schedules.refined(times, 5)
    coarse = SCHEMES[name](times)
    offsets, weights = brownian.noise_weights(coarse, fine)
    parts = SCHEMES[name](fine)
    left = fine[1:] - np.repeat(times[1:], np.diff(offsets))
    w = used(parts, parts.noise_paths, np.arange(parts.steps + 1))[1]
    np.testing.assert_allclose(used(coarse, weights, offsets)[1], np.exp(left)[:, None] * w, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", COMPARED)
def test_on_its_own_grid_a_tableau_has_its_own_noises(name):
    tableau = SCHEMES[name](schedules.exponential(6.0, 0.01, 9))
    offsets, weights = brownian.noise_weights(tableau, tableau.times)
    np.testing.assert_array_equal(offsets, np.arange(10))
    np.testing.assert_array_equal(weights, tableau.noise_paths)


def test_schemes_without_a_statement_are_refused():
    tableau = assemble("made_up", [2.0, 1.0], [Row(state=1.0)], Row(state=1.0, scores=[1.0], noise=[1.0]))
    with pytest.raises(ValueError, match="tableau must have noise_paths; got 'made_up', a scheme that does not state"):
        brownian.noise_weights(tableau, [2.0, 1.5, 1.0])


@pytest.mark.parametrize(
    ("path_times", "message"),
    [
        ([3.0, 2.5, 1.0], r"contain every entry of times .*got .*2\.5.* as the nearest to times\[1\] = .*2\.0"),
        ([3.0, 2.0 + 1e-8, 1.0], "contain every entry of times"),
        ([3.0, 1.0], "contain every entry of times"),
        ([4.0, 3.0, 2.0, 1.0], "begin and end where times does, at .*3.* and .*1.*got .*4"),
        ([3.0, 2.0, 1.0, 0.5], "begin and end where times does"),
        ([3.0, 2.0, 1.5], "begin and end where times does"),
        ([1.0, 2.0, 3.0], "strictly decreasing"),
        ([[3.0, 2.0, 1.0]], "1 axes"),
    ],
)
def test_a_path_that_does_not_refine_the_grid_is_refused(path_times, message):
    with pytest.raises(ValueError, match=f"^path_times must .*{message}"):
        brownian.refinement([3.0, 2.0, 1.0], path_times)


def test_two_times_need_two_entries():
    # Both are within the tolerance of the same entry.
    with pytest.raises(ValueError, match="path_times must contain every entry"):
        brownian.refinement([3.0, 2.0 + 1e-10, 2.0, 1.0], [3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("h", "kernels", "message"),
    [
        ([0.1, 0.0], [[1.0, 0.0, 0.0]], "h must be positive; got"),
        (0.1, [[1.0, 0.0, 0.0]], "h must have 1 axes"),
        ([0.1], [[1.0, 0.0]], "kernels must be linearly independent rows of 3"),
        ([0.1], [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]], "kernels must be linearly independent"),
        ([0.1], [[0.0, 0.0, 0.0]], "kernels must be linearly independent"),
    ],
)
def test_noises_that_are_none_are_refused(h, kernels, message):
    with pytest.raises(ValueError, match=message):
        brownian.coordinates(h, kernels)


@pytest.mark.parametrize("h", [1e-8, 1e-3, 1.0, 8.0, 30.0])
def test_coordinates_are_those_of_gram_schmidt(h):
    kernels = [[0.5, -1.0, 2.0], [1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]
    with mp.workdps(80):
        # e^{−u}, 1 − e^{−u} and cosh u − 1 on e^{−u}, 1, e^u.
        table = mp.matrix(kernels) * mp.matrix([[1, 0, 0], [-1, 1, 0], [0.5, -1, 0.5]])
        length = mp.mpf(h)
        rows = table * mp.cholesky(span_products(length))
        done = []
        for m in range(3):
            row = rows[m, :]
            for other in done:
                row = row - (row * other.T)[0] * other
            done.append(row / mp.sqrt((row * row.T)[0]))
        expected = np.array([[float(x) for x in row] for row in done])
    np.testing.assert_allclose(brownian.coordinates([h], kernels)[0], expected, rtol=0, atol=1e-14)

import numpy as np
import pytest

from srkverify.targets import GaussianMixture

ONE = ([1.0], [[0.0, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, np.nan], [[0.0], [1.0]], 1.0), "weights must be finite"),
        (([1.5, -0.5], [[0.0], [1.0]], 1.0), r"weights must be >= 0; got -0.5"),
        (([0.5, 0.4], [[0.0], [1.0]], 1.0), "weights must sum to 1"),
        ((1.0, [[0.0]], 1.0), "weights must have 1 axes"),
        (([0.5, 0.5], [0.0, 1.0], 1.0), r"means.*pass shape \(2, 1\)"),
        (([1.0], [[0.0], [1.0]], 1.0), r"means must have shape \(1, d\)"),
        (([1.0], [[np.inf]], 1.0), "means must be finite"),
        (([1.0], "far", 1.0), "means must be an array of numbers"),
        ((*ONE, np.nan), "covariances must be finite"),
        ((*ONE, -1.0), "covariances must be positive semidefinite"),
        ((*ONE, [[1.0, -1e-30]]), "covariances must be positive semidefinite"),
        ((*ONE, [1.0, 1.0]), r"covariances.*\(1,\), \(1, 2\), \(1, 2, 2\); got \(2,\)"),
        ((*ONE, np.eye(2)), r"covariances.*got \(2, 2\)"),
        ((*ONE, np.ones((1, 1, 2, 2))), r"covariances.*got \(1, 1, 2, 2\)"),
        ((*ONE, [[[1.0, 0.1], [0.2, 1.0]]]), "covariances must be symmetric"),
        ((*ONE, [[[1.0, 2.0], [2.0, 1.0]]]), "covariances must be positive semidefinite"),
        ((*ONE, -np.eye(2)[None]), "covariances must be positive semidefinite"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda target: target.diffused(-1e-9), "time must be .* >= 0"),
        (lambda target: target.diffused(np.inf), "time must be"),
        (lambda target: target.score([0.0, 0.0], np.nan), "time must be"),
        (lambda target: target.log_density([0.0, np.nan]), "x must be finite"),
        (lambda target: target.log_density([[0.0], [1.0]]), r"x must have shape \(n, 2\)"),
        (lambda target: target.score(np.zeros((1, 1, 2))), "x must have 1 or 2 axes"),
        (lambda target: target.score([1e200, 0.0]), "x must lie"),
        (lambda target: target.score_jvp([0.0, 0.0], [np.inf, 0.0]), "direction must be finite"),
        (lambda target: target.score_jvp([[0.0, 0.0]], [0.0, 0.0]), "direction must have the shape of x"),
        (lambda target: target.sample(0, seed=0), "particles must be"),
        (lambda target: target.sample(1, seed=-1), "seed must be"),
        (lambda target: target.sample(1, seed=0.5), "seed must be"),
        (lambda target: target.sample(1, seed=0, time=-1.0), "time must be"),
        (lambda target: target.rotated(np.eye(3)), r"rotation must have shape \(2, 2\)"),
        (lambda target: target.rotated(1.001 * np.eye(2)), "rotation must be orthogonal"),
        (lambda target: target.rotated(np.full((2, 2), 1e200)), "rotation must be orthogonal"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 1.0))

"""What a scheme makes of Gaussians, where it is exact: orders of KL and errors of variances."""

from __future__ import annotations

import numpy as np

import srkverify as sv
from srkverify.engines.gaussian import deviations

TARGET = sv.GaussianMixture([1.0], [[0.3, -0.2]], [[0.25, 3.0]])


def log_snr_grid(steps, horizon=2.0, early_stop=0.05):
    """Uniform in half the log-SNR."""
    return sv.schedules.warped(horizon, early_stop, steps, [0.0])


def kl_slope(scheme, steps=(400, 800), target=TARGET, grid=log_snr_grid):
    """d log KL/d log K between two numbers of steps."""
    results = [sv.kl(target, scheme(grid(count))) for count in steps]
    assert all(result.error < 1e-2 * result.value for result in results), results
    values = [result.value for result in results]
    return np.diff(np.log(values))[0] / np.log(steps[1] / steps[0])


def variance_errors(scheme, steps=(25, 100, 400), variance=0.25):
    """Relative errors of the output's variance for N(0, variance)."""
    return [float(deviations(scheme(log_snr_grid(count)), np.array([variance])).variance[0]) for count in steps]


def printed(values):
    """Two significant digits, as a table prints them."""
    return [f"{value:.1e}" for value in values]


def linear_maps(tableau, variance):
    """(K,) A and n of Y' = A Y + N(0, n) on N(0, variance), for a tableau without memory."""
    law = 1.0 + (variance - 1.0) * np.exp(-2.0 * tableau.stage_times)
    gains, noises = [], []
    for k in range(tableau.steps):
        rows = []  # of the scores: coefficients of Y and of the noises
        for i in range(tableau.stage_times.shape[1]):
            row = np.append(tableau.stage_state[k, i], tableau.stage_noise[k, i])
            row = row + sum(tableau.stage_scores[k, i, j] * rows[j] for j in range(i))
            rows.append(-row / law[k, i])
        row = np.append(tableau.state[k], tableau.noise[k]) + tableau.scores[k] @ np.array(rows)
        gains.append(row[0])
        noises.append(np.square(row[1:]).sum())
    return np.array(gains), np.array(noises)


def drawn_variance_error(drawn, variance=0.25):
    """Relative error of the output's variance for N(0, variance) when each step draws its member."""
    maps = [linear_maps(member, variance) for member in drawn.members]
    law = 1.0 + (variance - 1.0) * np.exp(-2.0 * drawn.times)
    value = law[0]
    for k in range(drawn.steps):
        value = sum(w * (gain[k] ** 2 * value + noise[k]) for w, (gain, noise) in zip(drawn.weights, maps, strict=True))
    return value / law[-1] - 1.0

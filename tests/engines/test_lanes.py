"""Kernels of the path engine on vectors and panels, against NumPy."""

import numpy as np
import pytest

from srkverify.engines import lanes, panels
from srkverify.engines.cpu_memory import aligned, packed
from srkverify.engines.simd import jit

WIDTH = 8
TOLERANCE = {"rtol": 1e-13, "atol": 1e-13}


def numbers(*shape, seed=0):
    out = aligned(shape, np.float64)
    out[:] = np.random.default_rng(seed).normal(size=out.size)
    return out


@jit
def arithmetic(out, x, y):
    lanes.copy(out, 0, 6, x, 0)
    lanes.add_scaled(out, 0, 3.0, y, 8)
    lanes.add_product(out, 8, x, 0, y, 16)
    lanes.subtract_product(out, 16, x, 8, y, 0)
    lanes.multiply(out, 24, y, 24)
    lanes.divide(out, 32, y, 32)
    lanes.root(out, 40, y, 40)
    lanes.assign(out, 48, 2.5)
    lanes.fill(out, 56, 2, -1.5)


def test_arithmetic_on_vectors():
    out, x, y = numbers(9, WIDTH), numbers(9, WIDTH, seed=1), numbers(9, WIDTH, seed=2)
    y[40:48] = abs(y[40:48])
    arithmetic(out, x, y)
    rows, x, y = (values.reshape(9, WIDTH) for values in (out, x, y))
    expected = [
        x[0] + 3.0 * y[1],
        x[1] + x[0] * y[2],
        x[2] - x[1] * y[0],
        x[3] * y[3],
        x[4] / y[4],
        np.sqrt(np.maximum(x[5], y[5])),
        np.full(WIDTH, 2.5),
        np.full(WIDTH, -1.5),
        np.full(WIDTH, -1.5),
    ]
    np.testing.assert_allclose(rows, expected, **TOLERANCE)


@jit
def rotation(out, angles):
    lanes.rotate(out, 0, 8, 3, 16, angles, 0, 8)


def test_rotation_of_pairs():
    out, angles = numbers(6, WIDTH), numbers(2, WIDTH)
    before = out.reshape(3, 2, WIDTH).copy()
    rotation(out, angles)
    cosine, sine = angles.reshape(2, WIDTH)
    expected = np.stack([cosine * before[:, 0] - sine * before[:, 1], sine * before[:, 0] + cosine * before[:, 1]], 1)
    np.testing.assert_allclose(out.reshape(3, 2, WIDTH), expected, **TOLERANCE)


@jit
def product_of_two(matrix, d, x, gap, out, out_gap):
    panels.add_products_twice(matrix, 0, (d + 3) // 4, d, x, 0, gap, out, 0, out_gap)


@pytest.mark.parametrize("d", [1, 4, 7])
def test_a_matrix_times_two_panels(d):
    rows = -(-d // 4) * 4
    matrix, x, out = np.random.default_rng(3).normal(size=(d, d)), numbers(2, rows, WIDTH), numbers(2, rows, WIDTH)
    expected = out.reshape(2, rows, WIDTH).copy()
    expected[:, :d] += matrix @ x.reshape(2, rows, WIDTH)[:, :d]
    product_of_two(packed(matrix), d, x, rows * WIDTH, out, rows * WIDTH)
    np.testing.assert_allclose(out.reshape(2, rows, WIDTH), expected, **TOLERANCE)


@jit
def whitened(means, weights, tiles, x, share, out, total):
    panels.whitened_distance(means, weights, 4, tiles, 0.7, x, 0, total, 8)
    panels.whitened_pull(means, weights, 4, tiles, 0.7, x, 0, share, 0, out, 0)


def test_distances_and_pulls_in_own_coordinates():
    means, weights = numbers(12), numbers(12, seed=1)
    x, share, out, total = numbers(8, WIDTH), numbers(1, WIDTH), numbers(8, WIDTH), numbers(2, WIDTH)
    whitened(means, weights, 2, x, share, out, total)
    gap = 0.7 * x.reshape(8, WIDTH) - means[4:12, None]
    np.testing.assert_allclose(total[8:], (weights[4:12, None] * gap**2).sum(axis=0), **TOLERANCE)
    np.testing.assert_allclose(out.reshape(8, WIDTH), -share * weights[4:12, None] * gap, **TOLERANCE)


@jit
def inner(rows, x, weights, out, combined, squares):
    panels.add_inner(rows, 0, 1, 8, 6, x, 0, out, 0)
    panels.add_combination(rows, 0, 4, 8, weights, 0, 2, combined, 0)
    panels.weighted_squares(x, 0, rows, 0, 6, squares, 0)


def test_inner_products_and_combinations_of_panels():
    rows, x, weights = numbers(4, 8, WIDTH), numbers(8, WIDTH, seed=1), numbers(4, WIDTH, seed=2)
    out, combined, squares = numbers(4, WIDTH, seed=3), numbers(8, WIDTH, seed=4), numbers(1, WIDTH)
    y, z, w = rows.reshape(4, 8, WIDTH), x.reshape(8, WIDTH), weights.reshape(4, WIDTH)
    products = out.reshape(4, WIDTH) + (y[:, :6] * z[:6]).sum(axis=1)
    combination = combined.reshape(8, WIDTH) + (w[:, None] * y).sum(axis=0)
    inner(rows, x, weights, out, combined, squares)
    np.testing.assert_allclose(out.reshape(4, WIDTH), products, **TOLERANCE)
    np.testing.assert_allclose(combined.reshape(8, WIDTH), combination, **TOLERANCE)
    np.testing.assert_allclose(squares, (y[0, :6] * z[:6] ** 2).sum(axis=0), **TOLERANCE)


@jit
def gaps(own, back, weights, x, mean, root, out, totals):
    panels.gaps(own, 0, mean, 0, root, 0, 2, out, 0, totals, 0)
    panels.diagonal_gaps(back, weights, 1, 4, 1.0, x, 0, mean, 0, root, 0, 2, out, 64, totals, 8)
    panels.isotropic_gaps(back, back, 1, 4, 0.3, x, 0, mean, 0, root, 0, 2, out, 128, totals, 16)


def test_gaps_between_scores():
    own, x, mean = numbers(8, WIDTH), numbers(8, WIDTH, seed=1), numbers(8, WIDTH, seed=2)
    back, weights, root = numbers(2, 4, 4, seed=3), numbers(2, 4, 4, seed=4), numbers(1, WIDTH, seed=5)
    out, totals = numbers(3, 8, WIDTH), numbers(3, WIDTH, seed=6)
    before = totals.reshape(3, WIDTH).copy()
    gaps(own, back, weights, x, mean, root, out, totals)
    own, x, mean = (values.reshape(8, WIDTH) for values in (own, x, mean))
    # From entry 1 on four rows, and those of the next tile are depth 4 times 4 behind.
    b = np.concatenate([back[1:5], back[17:21]])[:, None]
    a = np.concatenate([weights[1:5], weights[17:21]])[:, None]
    expected = root * np.stack([own - mean, b - a * x - mean, 0.3 * (b - x) - mean])
    np.testing.assert_allclose(out.reshape(3, 8, WIDTH), expected, **TOLERANCE)
    np.testing.assert_allclose(totals.reshape(3, WIDTH), before + (expected**2).sum(axis=1), **TOLERANCE)

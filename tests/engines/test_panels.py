"""Kernels on panels whose results the particle engine's tests do not pin down."""

import numpy as np
import pytest

from srkverify.engines import panels
from srkverify.engines.simd import BYTES, jit


@jit
def write_posterior(factors, shrinks, shares, pull):
    panels.posterior(factors, shrinks, 0, 0, 1, shares, pull)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-15), (np.float32, 1e-6)])
def test_posterior_weights_are_zero_or_large_enough_for_fast_arithmetic(dtype, tolerance):
    """Of numbers below the least normal one, a product takes a hundred times as long."""
    width = BYTES // np.dtype(dtype).itemsize
    logits = np.zeros((4, width), dtype)
    logits[1:3] = -np.geomspace(0.1, 1e4, 2 * width).reshape(2, width)
    logits[3] = -1e30
    factors = np.array([1.0, 2.0, 3.0, 4.0], dtype)
    shares, pull = logits.flatten(), np.zeros(width, dtype)
    write_posterior(factors, np.array([0.5], dtype), shares, pull)
    weights = np.exp(logits.astype(float))
    right = factors[:, None] * weights / weights.sum(axis=0)
    got = shares.reshape(4, width)
    np.testing.assert_allclose(got, 0.5 * right, rtol=0, atol=tolerance)
    np.testing.assert_allclose(pull, right.sum(axis=0), rtol=10 * tolerance)
    assert (got[logits > -40.0] > 0.0).all()
    assert (got[got != 0.0] > 1e9 * np.finfo(dtype).tiny).all()
    assert (got[logits < -800.0] == 0.0).all()

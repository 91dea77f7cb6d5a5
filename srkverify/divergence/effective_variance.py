"""What a sampler may be told about its data without a sample of them: how well noise can be predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from srkverify._check import Array
from srkverify.divergence.score_error import squared_error
from srkverify.targets import Target


def effective_variances(target: Target, times: ArrayLike) -> Array:
    """Return λ_t = e^{2t} d/E|∇ log q_t(X_t)|² − (e^{2t} − 1), the variance of the Gaussian with the same mean square.

    A Gaussian N(m, λ I) has λ at all times; any other law has one that falls with t, from its mean variance per
    coordinate at t → ∞ to that of its details. By Tweedie's formula it is (e^{2t} − 1) L/(1 − L), L being the least
    loss per coordinate with which the noise in X_t can be predicted (docs/third_order.md).

    Parameters
    ----------
    target : GaussianMixture or Product
        One that splits into independent blocks, as for the exact :func:`srkverify.kl`.
    times : (n,) forward times > 0.

    Returns
    -------
    (n,) variances of X_0's scale, to 1e-10 of λ + e^{2t} − 1, which is what a sampler can tell of them.

    Raises
    ------
    ValueError
        If the target does not split, or ``times`` are not positive.
    """
    squares = squared_error(target, times, relative=-1.0) / target.dimension  # E|s|², of a score that is zero
    when = np.asarray(times, dtype=np.float64)
    return np.asarray(np.maximum(np.exp(2.0 * when) / squares - np.expm1(2.0 * when), 0.0))

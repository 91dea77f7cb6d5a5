"""Densities, scores and their Jacobians of isotropic mixtures at many points at once, by products of matrices.

``GaussianMixture`` forms every difference x − m_i, to keep all digits anywhere. With thousands of components that is
slow; here |x − m_i|² is expanded, about the mean of the components, and loses about as many digits as |x − m_i|²/v has
before the point: none that a sampler would notice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from srkverify._check import Array
from srkverify.targets import GaussianMixture

_ENTRIES = 1 << 21  # of weights of points and components, in a slice
_NOTHING = 1e-18  # times the largest weight counts as 0, in Jacobians


class Isotropic:
    """A mixture of isotropic components; times are forward times > 0, points (n, d)."""

    def __init__(self, law: GaussianMixture) -> None:
        used = law.weights > 0.0
        self.dimension = law.dimension
        self._log_weights = np.log(law.weights[used])
        self._centre = law.weights @ law.means
        self._means = law.means[used] - self._centre
        self._norms = (self._means**2).sum(axis=1)
        self._variances = np.broadcast_to(law.variances[:, 0], law.weights.shape)[used]
        self._squares: Array | None = None

    def log_density(self, points: Array, time: float) -> Array:
        """Return log q_t (n,), in nats."""
        found = np.empty(len(points))
        for rows, _, logits, _ in self._slices(points, time):
            top = logits.max(axis=1)
            found[rows] = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return found - 0.5 * self.dimension * np.log(2.0 * np.pi)

    def score(self, points: Array, time: float) -> Array:
        """Return ∇ log q_t (n, d)."""
        found, alpha = np.empty(points.shape), np.exp(-time)
        for rows, off, logits, variances in self._slices(points, time):
            shares = _posterior(logits) / variances
            found[rows] = alpha * (shares @ self._means) - shares.sum(axis=1)[:, None] * off
        return found

    def jacobian(self, points: Array, time: float) -> Array:
        """Return ∇² log q_t (n, d, d).

        It is −Σ r_i/v_i I + Σ r_i s_i s_iᵀ − s sᵀ, r_i the posterior weights and s_i = −(x − m_i)/v_i.
        """
        d, alpha = self.dimension, np.exp(-time)
        first, second = np.triu_indices(d)
        if self._squares is None:
            self._squares = self._means[:, first] * self._means[:, second]
        found = np.empty((len(points), d, d))
        for rows, off, logits, variances in self._slices(points, time):
            shares = _posterior(logits) / variances
            slopes = shares.sum(axis=1)[:, None]
            score = alpha * (shares @ self._means) - slopes * off
            shares = shares / variances
            means = alpha * (shares @ self._means)
            part = np.empty((len(off), d, d))
            seen = shares.max(axis=0) > _NOTHING * shares.max()
            squares = shares[:, seen] @ self._squares[seen] if seen.mean() < 0.5 else shares @ self._squares
            part[:, first, second] = part[:, second, first] = alpha**2 * squares
            part += shares.sum(axis=1)[:, None, None] * off[:, :, None] * off[:, None, :]
            part -= off[:, :, None] * means[:, None, :] + means[:, :, None] * off[:, None, :]
            part -= score[:, :, None] * score[:, None, :]
            part[:, np.arange(d), np.arange(d)] -= slopes
            found[rows] = part
        return found

    def _slices(self, points: Array, time: float) -> Iterator[tuple[slice, Array, Array, Array]]:
        """Yield rows, their points about the centre, log w_i N(x; m_i, v_i) but for 2π, and v_i."""
        alpha, spread = np.exp(-time), np.exp(-2.0 * time) * self._variances - np.expm1(-2.0 * time)
        constants = self._log_weights - 0.5 * (self.dimension * np.log(spread) + alpha**2 * self._norms / spread)
        size = max(1, _ENTRIES // len(spread))
        for begin in range(0, len(points), size):
            rows = slice(begin, begin + size)
            off = points[rows] - alpha * self._centre
            logits = off @ (alpha * self._means / spread[:, None]).T
            logits += constants - 0.5 * (off**2).sum(axis=1)[:, None] / spread
            yield rows, off, logits, spread


def _posterior(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights

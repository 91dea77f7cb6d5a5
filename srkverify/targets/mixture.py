"""Gaussian mixtures and their exact laws under the forward Ornstein-Uhlenbeck process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srkverify import _check
from srkverify._check import Array
from srkverify.targets import _arguments

# Particles are taken in slices of about this many (component, particle, coordinate) entries:
# 2 MB of doubles, which stays in cache and bounds memory whatever the number of particles.
_SLICE_ENTRIES = 2**18

# Smallest variance with which densities and scores are evaluated: scores divide by it and the
# score Jacobian squares the result, so that anything less comes near overflow.
_SMALLEST_VARIANCE = 1e-100


@dataclass(frozen=True, eq=False, init=False, repr=False)
class GaussianMixture:
    """The law Σ_i w_i N(m_i, Σ_i) on R^d, immutable, with its density, score and exact samples.

    Under dX = −X dt + √2 dB it stays a mixture: at forward time t the means are e^{−t} m_i and the
    covariances e^{−2t} Σ_i + (1 − e^{−2t}) I, with the weights and the eigenvectors unchanged
    (the forward process of arXiv 2410.04760; derived in docs/theory.md). Everything here is that closed form.

    Parameters
    ----------
    weights
        (c,) non-negative, summing to 1 within 1e-9 (then divided by their sum). Zeros are allowed.
    means
        (c, d).
    covariances
        The number of axes decides how it is read, whatever c and d are:

        - a scalar: isotropic, shared by all components;
        - (c,): isotropic variances, one a component;
        - (c, d), or (1, d) if shared: diagonals;
        - (c, d, d), or (1, d, d) if shared: full symmetric positive semidefinite matrices.

        These are variances, not standard deviations. Zero (a point mass) is allowed; density and score
        then exist for time > 0 only. Eigenvalues of full matrices that rounding cannot tell from zero
        (at most d·eps times the largest) are stored as zero.

    Attributes
    ----------
    weights
        (c,), summing to 1.
    means
        (c, d).
    variances
        Eigenvalues of the covariances, of shape (1 or c, 1 or d): they broadcast against (c, d).
    bases
        None when isotropic or diagonal; else (1 or c, d, d) with orthonormal eigenvectors in columns:
        covariance i = bases[i] @ diag(variances[i]) @ bases[i].T, a leading 1 standing for every i.

    Raises
    ------
    ValueError
        If an argument is not finite, has another shape than those above, or is not a probability vector
        (weights) or positive semidefinite (covariances). Methods raise it for a negative time, for
        points that are not finite or not of dimension d, and for a density or score at a time when a
        component has no density.
    """

    weights: Array
    means: Array
    variances: Array
    bases: Array | None

    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> None:
        weights = _arguments.weights(weights)
        means = _arguments.means(means, components=len(weights))
        variances, bases = _arguments.spectrum(covariances, means.shape)
        self._store(weights=weights, means=means, variances=variances, bases=bases)

    def __repr__(self) -> str:
        sizes = f"components={self.components}, dimension={self.dimension}"
        return f"GaussianMixture({sizes}, kind={self.kind!r})"

    def _store(self, **parts: Array | None) -> None:
        for name, part in parts.items():
            if part is not None:
                part.setflags(write=False)
            object.__setattr__(self, name, part)

    def _replaced(self, means: Array, variances: Array, bases: Array | None) -> GaussianMixture:
        """Return a mixture of known-good parts: no validation, no eigendecomposition."""
        result = object.__new__(GaussianMixture)
        result._store(weights=self.weights, means=means, variances=variances, bases=bases)
        return result

    @property
    def components(self) -> int:
        """Number of components, c."""
        return int(self.means.shape[0])

    @property
    def dimension(self) -> int:
        """Dimension of the space, d."""
        return int(self.means.shape[1])

    @property
    def kind(self) -> str:
        """How the covariances are kept: "isotropic" (always, if d = 1), "diagonal" or "full"."""
        if self.bases is not None:
            return "full"
        return "isotropic" if self.variances.shape[1] == 1 else "diagonal"

    @property
    def covariances(self) -> Array:
        """The covariances as the constructor takes them: (c,), (1 or c, d) or (1 or c, d, d) by kind."""
        if self.bases is not None:
            return (self.bases * self.variances[:, None, :]) @ self.bases.swapaxes(1, 2)
        if self.kind == "isotropic":
            return np.broadcast_to(self.variances[:, 0], (self.components,))
        return self.variances

    def diffused(self, time: float) -> GaussianMixture:
        """Return the law of X_t at forward time ``time`` >= 0 when X_0 has this law.

        Raises
        ------
        ValueError
            If ``time`` is negative or not finite.
        """
        time = _check.number("time", time, at_least=0.0)
        if time == 0.0:
            return self
        # expm1 keeps all digits of 1 − e^{−2t} where t is small and 1 − exp would lose them.
        variances = np.exp(-2.0 * time) * self.variances - np.expm1(-2.0 * time)
        return self._replaced(np.exp(-time) * self.means, variances, self.bases)

    def rotated(self, rotation: ArrayLike) -> GaussianMixture:
        """Return the law of Q X, for an orthogonal matrix Q of shape (d, d), reflections included.

        Isotropic covariances stay isotropic; diagonal ones become full.

        Raises
        ------
        ValueError
            If ``rotation`` is not (d, d) or not orthogonal to 1e-10.
        """
        matrix = _arguments.orthogonal("rotation", rotation, self.dimension)
        bases = None
        if self.kind != "isotropic":
            bases = matrix[None] if self.bases is None else matrix @ self.bases
        return self._replaced(self.means @ matrix.T, self.variances, bases)

    def in_common_basis(self) -> tuple[GaussianMixture, Array | None]:
        """Return the law of Qᵀ X and Q (d, d), if all components share a full eigenbasis Q; else this law and None."""
        if self.bases is None or len(self.bases) > 1:
            return self, None
        basis = self.bases[0]
        return self._replaced(self.means @ basis, self.variances, None), basis

    def log_density(self, x: ArrayLike, time: float = 0.0) -> Array:
        """Return log q_t(x) in nats, of shape (n,) for x of shape (n, d) and () for (d,).

        Raises
        ------
        ValueError
            If x is not finite, has another trailing dimension than d, or lies where the log density
            overflows; if ``time`` is negative, or 0 while a component has a zero variance.
        """
        law, shaped = self._with_density(time), _arguments.points("x", x, self.dimension)
        x = shaped.reshape(-1, self.dimension)
        result = np.empty(len(x))
        for rows in law._slices(len(x)):
            result[rows] = law._components(x[rows])[0]
        return result.reshape(shaped.shape[:-1])

    def likeliest_component(self, x: ArrayLike, time: float = 0.0) -> NDArray[np.int64]:
        """Return the index of the component that each x (n, d) is most likely from at ``time``, (n,).

        Raises
        ------
        ValueError
            As ``log_density``.
        """
        law, x = self._with_density(time), _arguments.points("x", x, self.dimension).reshape(-1, self.dimension)
        return np.concatenate([law._components(x[rows])[1].argmax(axis=0)[:, 0] for rows in law._slices(len(x))])

    def score(self, x: ArrayLike, time: float = 0.0) -> Array:
        """Return the score ∇log q_t(x), of the shape of x: (n, d) or (d,).

        Raises
        ------
        ValueError
            As ``log_density``.
        """
        law, shaped = self._with_density(time), _arguments.points("x", x, self.dimension)
        x = shaped.reshape(-1, self.dimension)
        result = np.empty_like(x)
        for rows in law._slices(len(x)):
            _, posterior, scores = law._components(x[rows])
            result[rows] = (posterior * scores).sum(axis=0)
        return result.reshape(shaped.shape)

    def score_jvp(self, x: ArrayLike, direction: ArrayLike, time: float = 0.0) -> Array:
        """Return the score's Jacobian ∇²log q_t(x) times one direction a particle, of the shape of x.

        With posterior weights r_i, component scores s_i and s = Σ r_i s_i, it is
        Σ r_i [−Σ_i^{−1} v + (s_i − s) ((s_i − s)·v)]: the centred form, which does not subtract large
        squares (derived in docs/theory.md).

        Raises
        ------
        ValueError
            As ``log_density``, and if ``direction`` is not finite or not of the shape of x.
        """
        law, shaped = self._with_density(time), _arguments.points("x", x, self.dimension)
        along = _arguments.points("direction", direction, self.dimension)
        if along.shape != shaped.shape:
            raise ValueError(f"direction must have the shape of x, {shaped.shape}; got {along.shape}")
        x, along = shaped.reshape(-1, self.dimension), along.reshape(-1, self.dimension)
        result = np.empty_like(x)
        for rows in law._slices(len(x)):
            _, posterior, scores = law._components(x[rows])
            scores -= (posterior * scores).sum(axis=0)
            scores *= (scores * along[rows]).sum(axis=-1, keepdims=True)
            scores -= law._solved(along[None, rows])
            result[rows] = (posterior * scores).sum(axis=0)
        return result.reshape(shaped.shape)

    def sample(self, particles: int, seed: int, time: float = 0.0) -> Array:
        """Return ``particles`` independent exact draws of X_t, of shape (particles, d).

        Raises
        ------
        ValueError
            If ``particles`` is not an integer >= 1, ``seed`` not an integer >= 0, or ``time`` negative.
        """
        particles = _check.integer("particles", particles, at_least=1)
        generator = np.random.default_rng(_check.integer("seed", seed, at_least=0))
        return self.diffused(time)._drawn(particles, generator)

    def _drawn(self, particles: int, generator: np.random.Generator) -> Array:
        """Return draws of X_0, of shape (particles, d), from a generator that others may share."""
        labels = generator.choice(self.components, size=particles, p=self.weights)
        result = generator.standard_normal((particles, self.dimension))
        ends = np.cumsum(np.bincount(labels, minlength=self.components))[:-1]
        variances = np.broadcast_to(self.variances, (self.components, self.variances.shape[1]))
        for i, rows in enumerate(np.split(np.argsort(labels, kind="stable"), ends)):
            noise = np.sqrt(variances[i]) * result[rows]
            if self.bases is not None:
                noise = noise @ self.bases[i if len(self.bases) > 1 else 0].T
            result[rows] = self.means[i] + noise
        return result

    def _with_density(self, time: float) -> GaussianMixture:
        """Return the law at ``time``, or raise ``ValueError`` if it has no density there."""
        law = self.diffused(time)
        if law.variances.min() < _SMALLEST_VARIANCE:
            raise ValueError(
                f"time must be such that every variance exceeds {_SMALLEST_VARIANCE:g}: a component has zero "
                f"variance (a point mass), so time > 0 is required for densities and scores; got {time!r}"
            )
        return law

    def _slices(self, particles: int) -> Iterator[slice]:
        rows = max(1, _SLICE_ENTRIES // self.means.size)
        return (slice(start, start + rows) for start in range(0, particles, rows))

    def _solved(self, vectors: Array) -> Array:
        """Return Σ_i^{−1} v for vectors v of shape (1 or c, n, d), of shape (1 or c, n, d)."""
        if self.bases is None:
            return vectors / self.variances[:, None]
        return (vectors @ self.bases / self.variances[:, None]) @ self.bases.swapaxes(1, 2)

    def _components(self, x: Array) -> tuple[Array, Array, Array]:
        """Return log q(x) (n,), posterior weights (c, n, 1) and component scores (c, n, d) at x (n, d)."""
        # Differences are formed directly: |x|² − 2x·m + |m|² would lose digits far from the origin.
        # Squares that overflow give a density of zero, which is right beside any other component's.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            offsets = x - self.means[:, None]
            solved = self._solved(offsets)
            offsets *= solved
            log_determinants = np.log(self.variances).sum(axis=1) * (self.dimension / self.variances.shape[1])
            constants = np.log(self.weights) - 0.5 * (log_determinants + self.dimension * np.log(2.0 * np.pi))
            log_joint = constants[:, None] - 0.5 * offsets.sum(axis=-1)
        peak = log_joint.max(axis=0)
        if not np.isfinite(peak).all():
            raise ValueError("x must lie where the log density is a finite double; got a point too far away")
        posterior = np.exp(log_joint - peak)
        total = posterior.sum(axis=0)
        posterior /= total
        return peak + np.log(total), posterior[:, :, None], np.negative(solved, out=solved)

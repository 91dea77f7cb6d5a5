"""Products of independent blocks: mixtures with c^d components that are never listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.targets import _arguments
from srkverify.targets.mixture import GaussianMixture


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Product:
    """The law of R Z, where Z stacks independent draws of the blocks and R is an orthogonal matrix.

    Block b appears ``repeats[b]`` times in a row, as independent copies. A block of c components repeated
    d times stands for a mixture of c^d components. The forward process acts on every coordinate alike and
    commutes with R, so that the law at time t is the product of the blocks' laws at time t, rotated by the
    same R (derived in docs/theory.md).

    Parameters
    ----------
    blocks
        Sequence of ``GaussianMixture``.
    repeats
        One integer >= 1 a block; None stands for one copy of each.
    rotation
        R, orthogonal, of shape (d, d) with d = Σ_b repeats[b] · blocks[b].dimension; None stands for the
        identity.

    Attributes
    ----------
    blocks
        Tuple of ``GaussianMixture``.
    repeats
        Tuple of integers, one a block.
    rotation
        (d, d), or None.

    Raises
    ------
    ValueError
        If blocks is empty or holds anything but ``GaussianMixture``, repeats is not one integer >= 1 a
        block, or rotation is not (d, d) or not orthogonal to 1e-10. Methods raise as those of
        ``GaussianMixture``.
    """

    blocks: tuple[GaussianMixture, ...]
    repeats: tuple[int, ...]
    rotation: Array | None

    def __init__(
        self,
        blocks: Sequence[GaussianMixture],
        repeats: Sequence[int] | None = None,
        rotation: ArrayLike | None = None,
    ) -> None:
        checked = _blocks(blocks)
        self._store(blocks=checked, repeats=_repeats(repeats, len(checked)), rotation=None)
        if rotation is not None:
            self._store(rotation=_arguments.orthogonal("rotation", rotation, self.dimension))

    def __repr__(self) -> str:
        rotated = "" if self.rotation is None else ", rotated"
        return f"Product(dimension={self.dimension}, blocks={self.blocks}, repeats={self.repeats}{rotated})"

    def _store(self, **parts: Any) -> None:
        for name, part in parts.items():
            if isinstance(part, np.ndarray):
                part.setflags(write=False)
            object.__setattr__(self, name, part)

    def _replaced(self, blocks: tuple[GaussianMixture, ...], rotation: Array | None) -> Product:
        """Return a product of known-good parts, without validation."""
        result = object.__new__(Product)
        result._store(blocks=blocks, repeats=self.repeats, rotation=rotation)
        return result

    @property
    def dimension(self) -> int:
        """Dimension of the space, d."""
        return sum(block.dimension * repeat for block, repeat in zip(self.blocks, self.repeats, strict=True))

    def diffused(self, time: float) -> Product:
        """Return the law of X_t at forward time ``time`` >= 0 when X_0 has this law.

        Raises
        ------
        ValueError
            If ``time`` is negative or not finite.
        """
        return self._replaced(tuple(block.diffused(time) for block in self.blocks), self.rotation)

    def rotated(self, rotation: ArrayLike) -> Product:
        """Return the law of Q X, for an orthogonal matrix Q of shape (d, d), reflections included.

        Raises
        ------
        ValueError
            If ``rotation`` is not (d, d) or not orthogonal to 1e-10.
        """
        matrix = _arguments.orthogonal("rotation", rotation, self.dimension)
        return self._replaced(self.blocks, matrix if self.rotation is None else matrix @ self.rotation)

    def log_density(self, x: ArrayLike, time: float = 0.0) -> Array:
        """Return log q_t(x) in nats, of shape (n,) for x of shape (n, d) and () for (d,).

        Raises
        ------
        ValueError
            As ``GaussianMixture.log_density``.
        """
        shaped = _arguments.points("x", x, self.dimension)
        unrotated = self._unrotated(shaped)
        result = np.zeros(len(unrotated))
        for block, columns in self._columns():
            copies = unrotated[:, columns].reshape(-1, block.dimension)
            result += block.log_density(copies, time).reshape(len(unrotated), -1).sum(axis=1)
        return result.reshape(shaped.shape[:-1])

    def score(self, x: ArrayLike, time: float = 0.0) -> Array:
        """Return the score ∇log q_t(x), of the shape of x: (n, d) or (d,).

        Raises
        ------
        ValueError
            As ``GaussianMixture.score``.
        """
        shaped = _arguments.points("x", x, self.dimension)
        unrotated = self._unrotated(shaped)
        result = np.empty_like(unrotated)
        for block, columns in self._columns():
            copies = unrotated[:, columns].reshape(-1, block.dimension)
            result[:, columns] = block.score(copies, time).reshape(len(unrotated), -1)
        return self._rotated_back(result).reshape(shaped.shape)

    def score_jvp(self, x: ArrayLike, direction: ArrayLike, time: float = 0.0) -> Array:
        """Return the score's Jacobian ∇²log q_t(x) times one direction a particle, of the shape of x.

        Raises
        ------
        ValueError
            As ``GaussianMixture.score_jvp``.
        """
        shaped = _arguments.points("x", x, self.dimension)
        along = _arguments.points("direction", direction, self.dimension)
        if along.shape != shaped.shape:
            raise ValueError(f"direction must have the shape of x, {shaped.shape}; got {along.shape}")
        unrotated, along = self._unrotated(shaped), self._unrotated(along)
        result = np.empty_like(unrotated)
        for block, columns in self._columns():
            copies = unrotated[:, columns].reshape(-1, block.dimension)
            directions = along[:, columns].reshape(-1, block.dimension)
            result[:, columns] = block.score_jvp(copies, directions, time).reshape(len(unrotated), -1)
        return self._rotated_back(result).reshape(shaped.shape)

    def sample(self, particles: int, seed: int, time: float = 0.0) -> Array:
        """Return ``particles`` independent exact draws of X_t, of shape (particles, d).

        Raises
        ------
        ValueError
            If ``particles`` is not an integer >= 1, ``seed`` not an integer >= 0, or ``time`` negative.
        """
        particles = _check.integer("particles", particles, at_least=1)
        # One generator runs through all blocks: blocks given the same seed would not be independent.
        generator = np.random.default_rng(_check.integer("seed", seed, at_least=0))
        result = np.empty((particles, self.dimension))
        for block, columns in self.diffused(time)._columns():
            copies = particles * (columns.stop - columns.start) // block.dimension
            result[:, columns] = block._drawn(copies, generator).reshape(particles, -1)
        return self._rotated_back(result)

    def _columns(self) -> Iterator[tuple[GaussianMixture, slice]]:
        """Yield each block with the coordinates of Z that all its copies take."""
        start = 0
        for block, repeat in zip(self.blocks, self.repeats, strict=True):
            stop = start + block.dimension * repeat
            yield block, slice(start, stop)
            start = stop

    def _unrotated(self, x: Array) -> Array:
        """Return R^T x for each row: the coordinates in which the blocks are independent, (n, d)."""
        x = x.reshape(-1, self.dimension)
        return x if self.rotation is None else x @ self.rotation

    def _rotated_back(self, z: Array) -> Array:
        return z if self.rotation is None else z @ self.rotation.T


def _blocks(value: Sequence[GaussianMixture]) -> tuple[GaussianMixture, ...]:
    if not isinstance(value, Sequence) or len(value) == 0:
        raise ValueError(f"blocks must be a non-empty sequence of GaussianMixture; got {value!r}")
    for i, block in enumerate(value):
        if not isinstance(block, GaussianMixture):
            raise ValueError(f"blocks must all be GaussianMixture; got {type(block).__name__} at index {i}")
    return tuple(value)


def _repeats(value: Sequence[int] | None, blocks: int) -> tuple[int, ...]:
    if value is None:
        return (1,) * blocks
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(listed, Sequence) or len(listed) != blocks:
        raise ValueError(f"repeats must be a sequence of {blocks} integers >= 1, one a block; got {value!r}")
    return tuple(_check.integer(f"repeats[{b}]", repeat, at_least=1) for b, repeat in enumerate(listed))

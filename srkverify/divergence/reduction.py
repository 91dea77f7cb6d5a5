"""Reduction of a target to independent blocks on which a sampler's output law is exact.

Every tableau acts on all coordinates alike with isotropic noise, so it commutes with orthogonal maps and keeps
independent coordinates independent: KL adds over blocks. A block is a set of Gaussian directions or a one-dimensional
mixture, possibly repeated. Derived in docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines.mixture1d import Mixture1D
from srkverify.targets import GaussianMixture, Product, Target

_TOLERANCE = 1e-11  # relative to the largest mean or standard deviation


class NotReducibleError(ValueError):
    """The target is not a product of Gaussian directions and one-dimensional mixtures."""


@dataclass(frozen=True, eq=False)
class GaussianBlock:
    """Independent Gaussian directions: variances, means and multiplicities, each (n,)."""

    variances: Array
    means: Array
    counts: Array


@dataclass(frozen=True, eq=False)
class MixtureBlock:
    """``count`` independent copies of a one-dimensional mixture."""

    mixture: Mixture1D
    count: int


Block = GaussianBlock | MixtureBlock


def reduce(target: Target) -> list[Block]:
    """Split ``target`` into independent blocks.

    Covered: any Gaussian; one-dimensional mixtures; mixtures with commuting covariances whose components differ, in
    their common eigenbasis, along directions that are independent of each other (two components with equal
    covariance that differ along an eigenvector, collinear means with equal isotropic covariance, listed products);
    :class:`~srkverify.targets.Product` of these; rotations of all.

    Raises
    ------
    NotReducibleError
        A ``ValueError`` that says why the target does not reduce and names ``method="path"``.
    """
    if isinstance(target, Product):
        return [
            _repeated(block, repeats)
            for factor, repeats in zip(target.blocks, target.repeats, strict=True)
            for block in _reduce_mixture(factor)
        ]
    return _reduce_mixture(target)


def _repeated(block: Block, repeats: int) -> Block:
    if isinstance(block, GaussianBlock):
        return GaussianBlock(block.variances, block.means, block.counts * repeats)
    return MixtureBlock(block.mixture, block.count * repeats)


def _reduce_mixture(target: GaussianMixture) -> list[Block]:
    present = target.weights > 0.0
    weights = target.weights[present]
    means, variances = _common_coordinates(target, present)
    if len(weights) == 1 or variances.shape[0] == 1 or _same(variances, variances[:1]):
        variances = variances[:1]
    scale = float(np.abs(means).max() + np.sqrt(variances.max()))
    varying = np.abs(means - means[0]).max(axis=0) > _TOLERANCE * scale
    if not varying.any() and len(variances) == 1:
        return [_gaussian(variances[0], means[0])]
    groups = _eigenspaces(np.broadcast_to(variances, (len(variances), means.shape[1])))
    gaussian: list[tuple[Array, Array, Array]] = []
    labels: list[tuple[Array, Array]] = []  # (means, variances) of the components along one direction
    constant = np.ones(means.shape[1], dtype=bool)
    for group in groups:
        if len(variances) == 1 and not varying[group].any():
            continue
        constant[group] = False
        variance = variances[:, group[0]] if variances.shape[1] > 1 else variances[:, 0]
        directions = _orthogonal_directions(means[:, group], _TOLERANCE * scale)
        spread = np.broadcast_to(variance, len(weights))
        labels.extend((means[:, group] @ direction, spread) for direction in directions)
        if len(variance) > 1:
            if len(group) > 1:
                raise _not_reducible("components of unequal covariance share several directions")
            if not directions:
                labels.append((means[:, group[0]], spread))
        elif len(group) > len(directions):
            rest = means[0, group] - sum(direction * (means[0, group] @ direction) for direction in directions)
            free = len(group) - len(directions)
            gaussian.append(
                (
                    np.repeat(variance, min(free, 2)),
                    np.array([np.linalg.norm(rest), 0.0])[: min(free, 2)],
                    np.array([1.0, free - 1.0])[: min(free, 2)],
                )
            )
    if constant.any():
        shared = np.broadcast_to(variances[0], means.shape[1])[constant]
        gaussian.append((shared, means[0, constant], np.ones(len(shared))))
    marginals = _independent_marginals(weights, labels, scale)
    blocks: list[Block] = [MixtureBlock(marginal, 1) for marginal in marginals]
    if gaussian:
        blocks.append(_gaussian(*(np.concatenate(parts) for parts in zip(*gaussian, strict=True))))
    return blocks


def _common_coordinates(target: GaussianMixture, present: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Means (c, d) and variances (1|c, 1|d) in an orthonormal basis where every covariance is diagonal."""
    means = target.means[present]
    variances = target.variances[present] if len(target.variances) > 1 else target.variances
    if target.bases is None:
        return means, variances
    if len(target.bases) == 1:
        return means @ target.bases[0], np.broadcast_to(variances, (len(variances), means.shape[1]))
    bases = target.bases[present]
    covariances = np.einsum("cij,cj,ckj->cik", bases, np.broadcast_to(variances, means.shape), bases)
    # A generic combination has the joint eigenspaces as its own; irrational weights make it generic.
    mix = np.sqrt(np.arange(len(covariances)) + 2.0) % 1.0 + 0.5
    _, basis = np.linalg.eigh(np.einsum("c,cij->ij", mix, covariances))
    rotated = basis.T @ covariances @ basis
    diagonal = np.einsum("cii->ci", rotated).copy()
    rotated[:, np.arange(means.shape[1]), np.arange(means.shape[1])] = 0.0
    if np.abs(rotated).max() > _TOLERANCE * np.abs(covariances).max():
        raise _not_reducible("the components' covariances do not commute")
    return means @ basis, np.maximum(diagonal, 0.0)


def _same(a: Array, b: Array) -> bool:
    return bool(np.all(np.abs(a - b) <= _TOLERANCE * np.maximum(np.abs(a), np.abs(b))))


def _eigenspaces(variances: Array) -> list[Array]:
    """Group the columns of ``variances`` (1|c, d) that agree in every component."""
    order = np.lexsort(variances[::-1])
    ordered = variances[:, order]
    size = np.maximum(np.abs(ordered[:, 1:]), np.abs(ordered[:, :-1]))
    breaks = (np.abs(np.diff(ordered, axis=1)) > _TOLERANCE * size).any(axis=0)
    return np.split(order, np.flatnonzero(breaks) + 1)


def _orthogonal_directions(means: Array, tolerance: float) -> list[Array]:
    """Orthonormal directions along which the means (c, n) differ, such that a product's factors are told apart.

    In a product every mean has neighbours that differ from it in one factor only, and they are nearer than those
    that differ in several: the shortest differences that are orthogonal to each other are the factors' directions.
    """
    differences = means - means[0]
    lengths = np.linalg.norm(differences, axis=1)
    directions: list[Array] = []
    for i in np.argsort(lengths):
        if lengths[i] > tolerance and all(abs(differences[i] @ u) <= tolerance for u in directions):
            directions.append(differences[i] / lengths[i])
    rest = differences - sum((np.outer(differences @ u, u) for u in directions), np.zeros_like(differences))
    if np.abs(rest).max() > 10.0 * tolerance:
        raise _not_reducible("the means are not collinear, nor arranged as a product")
    return directions


def _independent_marginals(weights: Array, labels: list[tuple[Array, Array]], scale: float) -> list[Mixture1D]:
    """One-dimensional mixtures along each direction, after checking that the directions are independent."""
    marginals: list[Mixture1D] = []
    codes: list[NDArray[np.int64]] = []
    for means, variances in labels:
        code = _codes(np.stack([means / scale, variances / scale**2]))
        first = [int(np.flatnonzero(code == value)[0]) for value in range(code.max() + 1)]
        total = np.bincount(code, weights=weights)
        marginals.append(Mixture1D(total / total.sum(), means[first], variances[first].copy()))
        codes.append(code)
    if len(marginals) > 1:
        sizes = [len(marginal.weights) for marginal in marginals]
        if np.prod([float(size) for size in sizes]) > len(weights):
            raise _not_reducible("the directions along which the components differ are not independent")
        joint = np.bincount(np.ravel_multi_index(tuple(codes), sizes), weights=weights, minlength=int(np.prod(sizes)))
        product = marginals[0].weights
        for marginal in marginals[1:]:
            product = np.outer(product, marginal.weights).ravel()
        if np.abs(joint - product).max() > 1e-9 * product.max():
            raise _not_reducible("the directions along which the components differ are not independent")
    return marginals


def _codes(values: Array) -> NDArray[np.int64]:
    """Return numbers of the distinct columns of ``values`` (k, c) up to rounding."""
    code = np.zeros(values.shape[1], dtype=np.int64)
    for row in values:
        order = np.argsort(row)
        steps = np.diff(row[order]) > _TOLERANCE
        rank = np.empty(len(row), dtype=np.int64)
        rank[order] = np.concatenate([[0], np.cumsum(steps)])
        code = code * (rank.max() + 1) + rank
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def _gaussian(variances: Array, means: Array, counts: Array | None = None) -> GaussianBlock:
    """Gaussian directions with equal ones merged; directions of equal variance share the norm of their means."""
    variances = np.broadcast_to(variances, means.shape)
    counts = np.ones(means.shape) if counts is None else counts
    unique, index = np.unique(variances, return_inverse=True)
    if len(unique) == len(means):
        return GaussianBlock(variances, means, counts)
    total = np.bincount(index, weights=counts).astype(np.float64)
    norm = np.sqrt(np.bincount(index, weights=counts * means**2) / total)
    return GaussianBlock(unique, norm, total)


def _not_reducible(reason: str) -> NotReducibleError:
    return NotReducibleError(
        f"target does not split into independent one-dimensional blocks: {reason}; exact KL covers Gaussians, "
        "products of 1-D mixtures, equal-covariance mixtures with collinear means, and their rotations; any other "
        'mixture needs the Monte Carlo estimate, method="path"'
    )

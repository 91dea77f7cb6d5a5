"""How far off a score is, in L²(q_t), and the law of the score that is evaluated, block by block of the target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.divergence.reduction import Block, GaussianBlock, MixtureBlock, reduce
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.score1d import Score1D
from srkverify.perturbed import Size, Wavy
from srkverify.schedules import check_times
from srkverify.targets import GaussianMixture, Product, Target

BlockScore = Score1D | GaussianBlock | None  # what is evaluated on a block; None: its own score
_REACH, _DENSITY = 10.0, 16.0  # of the rule that integrates over a component, in standard deviations


def pairs(target: Target, score: Target | Wavy | None) -> list[tuple[Block, BlockScore]]:
    """Split a target and the law of a score alike.

    Covered: one-dimensional mixtures; Gaussians of commuting covariances; products of these, factor by factor, turned
    by the same rotation; waves in one dimension and on products of one-dimensional factors. A factor that both share
    may be any that :func:`srkverify.divergence.reduce` takes.

    Raises
    ------
    ValueError
        If the two do not split alike, or the target does not split.
    """
    if not isinstance(target, (GaussianMixture, Product)):
        raise ValueError(f"target must be a GaussianMixture or a Product; got {type(target).__name__}")
    if score is None:
        return [(block, None) for block in reduce(target)]
    if not isinstance(score, (GaussianMixture, Product, Wavy)):
        raise ValueError(f"score must be a GaussianMixture, a Product or a Wavy; got {type(score).__name__}")
    law, waves = (score.law, score.waves) if isinstance(score, Wavy) else (score, np.zeros((0, 3)))
    if law.dimension != target.dimension:
        raise ValueError(f"score must have the target's dimension, {target.dimension}; got {law.dimension}")
    turns = [part.rotation for part in (target, law) if isinstance(part, Product) and part.rotation is not None]
    if len(turns) == 1 or (len(turns) == 2 and not np.array_equal(turns[0], turns[1])):
        raise ValueError("score must have the target's rotation, for the exact KL splits both alike; got another")
    return [
        (_times(block, count), model)
        for own, other, count in _factors(target, law)
        for block, model in _paired(own, other, waves)
    ]


def squared_error(
    target: Target,
    times: ArrayLike,
    *,
    relative: Size = 0.0,
    slope: Size = 0.0,
    noise: Size = 0.0,
    score: Target | Wavy | None = None,
) -> Array:
    """E|ŝ(t, X_t) − s(t, X_t)|² with X_t from the target's q_t and ŝ = (1 + ρ) s̃ + c x + ε η, exactly.

    Parameters
    ----------
    target : GaussianMixture or Product
        One that splits into independent blocks, see :func:`srkverify.divergence.reduce`.
    times : (n,) forward times > 0.
    relative, slope, noise : float, array (n,) or function of forward times
        ρ, c and ε.
    score : GaussianMixture, Product or Wavy
        The law whose score is s̃, one that ``sv.kl`` takes; the target if left out.

    Returns
    -------
    (n,) squared errors, summed over coordinates; to 1e-10 of the larger of themselves and E|s|² + E|s̃|².

    Raises
    ------
    ValueError
        If an argument is not of its kind, or target and score do not split alike.
    """
    when = _check.finite_array("times", times, dimensions=(1,))
    if when.min() <= 0.0:
        raise ValueError(f"times must be positive; got {when.min()}")
    named = {"relative": relative, "slope": slope, "noise": noise}
    rho, c, epsilon = (_check.along(name, when, size) for name, size in named.items())
    blocks = pairs(target, score)
    total = target.dimension * epsilon**2
    for block, model in blocks:
        total = total + _block_error(block, model, when, 1.0 + rho, c)
    return total


def mean_squared_error(
    target: Target,
    times: ArrayLike,
    *,
    relative: Size = 0.0,
    slope: Size = 0.0,
    noise: Size = 0.0,
    score: Target | Wavy | None = None,
) -> float:
    """Σ_k h_k E|ŝ − s|² / Σ_k h_k over a grid, the error at the beginning τ_k of each step: a theorem's ε_score².

    Times Σ_k h_k = T − δ it is what Girsanov's theorem makes of the error: the KL of paths between the reverse process
    and the one that ŝ drives, ∫ E|ŝ − s|² dt, once the grid is fine.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.

    Others, and errors, as in :func:`squared_error`.
    """
    grid = check_times(times)
    errors = squared_error(target, grid[:-1], relative=relative, slope=slope, noise=noise, score=score)
    return float(errors @ -np.diff(grid)) / float(grid[0] - grid[-1])


def _block_error(block: Block, score: BlockScore, times: Array, factor: Array, slope: Array) -> Array:
    """E|f s̃ + c x − s|² under the block's law at ``times`` (n,), with f and c (n,), over all its copies; (n,)."""
    if isinstance(block, GaussianBlock):
        model = block if score is None else score
        assert isinstance(model, GaussianBlock)
        (mean, variance), (model_mean, model_variance) = (_diffused(each, times) for each in (block, model))
        # ŝ − s = a (x − m) + b; written so that nothing cancels if the model is the target itself.
        weight = factor[:, None] / model_variance
        a = slope[:, None] - weight + 1.0 / variance
        b = slope[:, None] * mean + weight * (model_mean - mean)
        return (a**2 * variance + b**2) @ block.counts
    model1d = Score1D(block.mixture) if score is None else score
    assert isinstance(model1d, Score1D)
    means, variances = block.mixture.diffused(times)
    narrow = model1d.smallest(block.mixture, times)
    total = np.zeros(len(times))
    for i in np.flatnonzero(block.mixture.weights):
        spread = np.sqrt(variances[:, i])
        density = _DENSITY * spread / narrow + 2.0 * spread * model1d.ripples(times)
        place, step = np.linspace(-_REACH, _REACH, int(np.ceil(2.0 * _REACH * density.max())), retstep=True)
        points = means[:, i, None] + spread[:, None] * place
        difference = factor[:, None] * model1d.score(times, points)[0] - block.mixture.score(times, points)[0]
        density_there = np.exp(-0.5 * place**2) * (step / np.sqrt(2.0 * np.pi))
        total += block.mixture.weights[i] * (np.square(difference + slope[:, None] * points) @ density_there)
    return block.count * total


def _factors(target: Target, law: Target) -> Iterator[tuple[GaussianMixture, GaussianMixture, int]]:
    """Yield the factors of both side by side, with how often they stand there."""
    runs = [
        list(zip(part.blocks, part.repeats, strict=True)) if isinstance(part, Product) else [(part, 1)]
        for part in (target, law)
    ]
    places, left = [0, 0], [runs[0][0][1], runs[1][0][1]]
    while places[0] < len(runs[0]):
        own, other = (runs[side][places[side]][0] for side in (0, 1))
        if own.dimension != other.dimension:
            raise ValueError(
                f"score must be a product of factors as large as the target's; got one of dimension {other.dimension} "
                f"beside {own.dimension}"
            )
        count = min(left)
        yield own, other, count
        for side in (0, 1):
            left[side] -= count
            if left[side] == 0:
                places[side] += 1
                left[side] = runs[side][places[side]][1] if places[side] < len(runs[side]) else 0


def _paired(own: GaussianMixture, other: GaussianMixture, waves: Array) -> list[tuple[Block, BlockScore]]:
    gaussian = (own.weights > 0.0).sum() == (other.weights > 0.0).sum() == 1
    if own.dimension == 1 and (len(waves) or not gaussian):
        mixture = _line(own)
        return [(MixtureBlock(mixture, 1), Score1D(mixture if other is own else _line(other), waves))]
    if other is own and not len(waves):
        return [(block, None) for block in reduce(own)]
    if not gaussian or len(waves):
        what = "waves on it" if len(waves) else "several components"
        raise ValueError(
            "score must be, factor by factor, of a one-dimensional mixture, of a Gaussian beside a Gaussian, or the "
            f"target's own; got a factor of dimension {own.dimension} with {what}"
        )
    return [_gaussians(own, other)]


def _line(law: GaussianMixture) -> Mixture1D:
    return Mixture1D(law.weights, law.means[:, 0], np.broadcast_to(law.variances[:, 0], law.weights.shape).copy())


def _gaussians(own: GaussianMixture, other: GaussianMixture) -> tuple[GaussianBlock, GaussianBlock]:
    """Directions of two Gaussians whose covariances commute."""
    at = [int(np.argmax(law.weights)) for law in (own, other)]
    means = [law.means[i] for law, i in zip((own, other), at, strict=True)]
    if own.bases is None and other.bases is None:
        variances = [
            np.broadcast_to(law.variances[i if len(law.variances) > 1 else 0], own.dimension)
            for law, i in zip((own, other), at, strict=True)
        ]
    else:
        full = [_covariance(law, i) for law, i in zip((own, other), at, strict=True)]
        # A generic combination has the joint eigenspaces as its own.
        _, basis = np.linalg.eigh(full[0] + np.sqrt(0.5) * full[1])
        turned = [basis.T @ each @ basis for each in full]
        variances = [np.maximum(np.diag(each), 0.0) for each in turned]
        rest = max(np.abs(each - np.diag(np.diag(each))).max() for each in turned)
        if rest > 1e-10 * max(np.abs(each).max() for each in full):
            raise ValueError(
                "score must be of a Gaussian whose covariance commutes with the target's, for exact KL goes direction "
                f"by direction; got one that does not (off by {rest:.1e})"
            )
        means = [mean @ basis for mean in means]
    counts = np.ones(own.dimension)
    return tuple(  # type: ignore[return-value]
        GaussianBlock(variance, mean, counts) for variance, mean in zip(variances, means, strict=True)
    )


def _covariance(law: GaussianMixture, component: int) -> Array:
    variances = law.variances[component if len(law.variances) > 1 else 0]
    if law.bases is None:
        return np.diag(np.broadcast_to(variances, law.dimension))
    basis = law.bases[component if len(law.bases) > 1 else 0]
    return (basis * variances) @ basis.T


def _times(block: Block, count: int) -> Block:
    if isinstance(block, GaussianBlock):
        return GaussianBlock(block.variances, block.means, block.counts * count)
    return MixtureBlock(block.mixture, block.count * count)


def _diffused(block: GaussianBlock, times: Array) -> tuple[Array, Array]:
    """Means and variances of the directions at ``times``, each (n, directions)."""
    decay = np.exp(-times)[:, None]
    return decay * block.means, decay**2 * block.variances - np.expm1(-2.0 * times)[:, None]

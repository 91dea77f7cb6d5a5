"""The initialisation error: what a start from N(0, I), not from the law q_T at the horizon, is worth in KL.

At the horizon it is KL(q_T ‖ N(0, I)). The exact reverse process from there to a time s < T forgets a part of it; what
is left is KL(q_s ‖ p_s), with p_s/q_s (x) = E[φ/q_T (X_T) | X_s = x]. Both fall as e^{−2T} or faster, far below 1e−12.
So they are integrals of what is positive, in L = log(q_T/φ) and in p_s/q_s − 1, which are small themselves: in one
dimension

    KL(q_T ‖ φ) = ∫ φ (e^L (L − 1) + 1),    e^L = 1 + Σ_{k ≥ 1} e^{−kT} E[He_k(X_0)] He_k/k!,

where Mehler's series has each order in e^{−T} for itself: if the mean vanishes, L is of order e^{−2T} with all digits.
"""

from __future__ import annotations

import numpy as np

from srkverify import _check
from srkverify._check import Array
from srkverify.divergence.exact import Divergence, x_minus_log1p
from srkverify.divergence.reduction import GaussianBlock, reduce
from srkverify.engines.mixture1d import Mixture1D, mixture_density
from srkverify.targets import GaussianMixture, Product, Target

_ULP = float(np.finfo(np.float64).eps)
_REACH = 13  # standard deviations that are integrated over: 1e-37 is left, of integrands relative to their peak
_REACH_BEHIND = 19  # of X_T, given X_s within reach
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(14)
_SPLITS = (1, 2, 4, 8)  # of panels two standard deviations wide
_RELATIVE = 1e-13
# Up to here for e^{−T}|mean| and e^{−T}|variance − 1|^{1/2} the series' terms fall as 2^k/k! within reach.
_SERIES_BELOW, _TERMS = 0.1, 36


def start_kl(target: Target, horizon: float, seen_at: float | None = None) -> Divergence:
    """KL(q_T ‖ N(0, I)) in nats: how far a sampler's usual start is from the true law at the horizon T.

    Exact for every target that splits into independent blocks: in closed form for Gaussian directions, by quadrature
    for one-dimensional mixtures. As T grows it is ½ e^{−2T}|E X|² or, if the mean vanishes, ¼ e^{−4T}‖Cov X − I‖²,
    and keeps its digits.

    Parameters
    ----------
    target : GaussianMixture or Product
        In any dimension d.
    horizon : float
        Forward time T > 0.
    seen_at : float or None
        If given, a time s in (0, T]: the KL is then KL(q_s ‖ p_s), with p_s the law to which the exact reverse process
        from N(0, I) at T has come at s. At the early-stopping time it is what a sampler's KL tends to as K grows.

    Returns
    -------
    Divergence
        Its ``error`` is the change under refinement plus a bound on rounding, one unit in the last place of the
        target's own means and variances included.

    Raises
    ------
    ValueError
        If the target does not reduce to one-dimensional blocks, horizon is not positive, or seen_at not in (0, T].

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    >>> print(f"{sv.start_kl(target, 6.0).value:.3e}")  # ½ e^{−12} 0.3²
    2.765e-07
    >>> print(f"{sv.start_kl(target, 6.0, seen_at=0.01).value:.3e}")  # ½ e^{−24} 0.3² times the variance
    4.128e-12
    """
    if not isinstance(target, (GaussianMixture, Product)):
        raise ValueError(f"target must be a GaussianMixture or a Product; got {type(target).__name__}")
    time = _check.number("horizon", horizon, above=0.0)
    seen = time if seen_at is None else _check.number("seen_at", seen_at, above=0.0)
    if seen > time:
        raise ValueError(f"seen_at must be <= horizon, {time:g}; got {seen!r}")
    value, error, methods = 0.0, 0.0, set()
    for block in reduce(target):
        if isinstance(block, GaussianBlock):
            each, doubt = _gaussian_kl(block, time, seen)
            methods.add("gaussian")
        else:
            each, doubt = (block.count * part for part in _mixture_kl(block.mixture, time, seen))
            methods.add("quadrature")
        value, error = value + each, error + doubt
    return Divergence(float(value), float(error), "+".join(sorted(methods)))


def _gaussian_kl(block: GaussianBlock, time: float, seen: float) -> tuple[float, float]:
    """KL of each direction, added up, and its error.

    The reverse process takes N(0, 1) to the mean m_s − c e^{−T} m and the variance v_s + c²(1 − v_T) = v_s (1 + z),
    with c = ρ v_s/v_T and ρ = e^{s−T}; KL is ½(w − log(1 + w)) with 1 + w = 1/(1 + z), and the term of the mean. If
    s = T, w is x = v_T − 1.
    """
    lost = -np.expm1(2.0 * (seen - time))  # 1 − ρ²
    excess, before = _variance(block.variances, time)
    after = np.exp(2.0 * (seen - time)) * _variance(block.variances, seen)[1]  # ρ² v_s
    left = before + lost * excess
    z, w = -after * excess / before**2, after * excess / left
    near = np.abs(w) < 0.05
    spread = np.where(near, x_minus_log1p(np.where(near, w, 0.0)), w + np.log(left / before**2))
    each = 0.5 * (spread + np.exp(-2.0 * time) * after / left * block.means**2)
    moved = _ULP * np.maximum(block.variances, 1.0) / np.maximum(np.abs(block.variances - 1.0), _ULP) * np.abs(w)
    doubt = 16.0 * _ULP * (each + np.where(near, 0.0, np.abs(w) + np.abs(z))) + moved * (np.abs(w) + moved)
    return float(block.counts @ each), float(block.counts @ doubt)


def _mixture_kl(mixture: Mixture1D, time: float, seen: float) -> tuple[float, float]:
    """KL of one copy of a one-dimensional mixture, and its error."""
    value, change = np.nan, np.nan
    for split in _SPLITS:
        finer, rounding = (_at_horizon if seen == time else _at_output)(mixture, time, seen, split)
        value, change = finer, abs(finer - value)
        if change <= max(_RELATIVE * value, rounding):
            break
    return value, change + rounding


def _at_horizon(mixture: Mixture1D, time: float, seen: float, split: int) -> tuple[float, float]:
    """Return ∫ φ (e^L (L − 1) + 1), and ∫ φ e^L |L| δL from the rounding δL."""
    means, variances = mixture.diffused(np.array(time))
    points, weights = _rule(np.append(means, 0.0), np.sqrt(np.append(variances, 1.0)), _REACH, split)
    ratio, doubt = _log_ratio(mixture, time, points)
    near = np.abs(ratio) < 0.3
    small, series = np.where(near, ratio, 0.0), np.zeros_like(ratio)
    factorials = np.cumprod(np.arange(1.0, 18.0))
    for n in range(17, 1, -1):  # e^L (L − 1) + 1 = Σ_{n ≥ 2} (n − 1) L^n/n!; 0.3^16/17! < 1e-22
        series = (n - 1.0) / factorials[n - 1] + small * series
    with np.errstate(under="ignore"):
        normal = np.exp(-0.5 * points**2)
        density = np.exp(ratio - 0.5 * points**2)
        value = np.where(near, normal * small**2 * series, density * (ratio - 1.0) + normal)
        rounding = density * (np.abs(ratio) + doubt) * doubt + 8.0 * _ULP * (value + np.where(near, 0.0, normal))
    constant = 1.0 / np.sqrt(2.0 * np.pi)
    return constant * float(weights @ value), constant * float(weights @ rounding)


def _at_output(mixture: Mixture1D, time: float, seen: float, split: int) -> tuple[float, float]:
    """Return ∫ q_s (u − log(1 + u)) with u(x) = E[e^{−L(X_T)} − 1 | X_s = x], and its rounding."""
    means, variances = mixture.diffused(np.array(seen))
    points, weights = _rule(means, np.sqrt(variances), _REACH, split)
    truth = weights * mixture_density(points, mixture.weights, means, variances)
    means, variances = mixture.diffused(np.array(time))
    behind, law = _rule(np.append(means, 0.0), np.sqrt(np.append(variances, 1.0)), _REACH_BEHIND, split)
    ratio, doubt = _log_ratio(mixture, time, behind)
    spread = -np.expm1(2.0 * (seen - time))
    law /= np.sqrt(2.0 * np.pi * spread)
    near = np.abs(ratio) < 0.7
    lowered = np.expm1(np.where(near, -ratio, 0.0))
    change, log_grown, relative = (np.empty_like(points) for _ in range(3))
    for part in np.array_split(np.arange(len(points)), 1 + len(points) * len(behind) // 2**20):
        exponent = -0.5 * (behind - np.exp(seen - time) * points[part, None]) ** 2 / spread
        # Together: where the conditional law has no mass, e^{−L} alone overflows.
        joint = exponent - ratio
        top = joint.max(axis=1, keepdims=True)
        with np.errstate(under="ignore"):
            kernel, grown = np.exp(exponent), np.exp(joint - top)
            each = np.where(near, kernel * lowered, np.exp(np.minimum(top, 300.0)) * grown - kernel)
        change[part], total = each @ law, grown @ law
        log_grown[part] = top[:, 0] + np.log(total)
        # Rounding of log(1 + u): that of L, and that of the exponents, by which a small u moves by less.
        small = np.abs(change[part]) < 0.5
        blurred = np.where(small, (np.abs(each) * (1.0 - exponent)) @ law, (grown * (1.0 - exponent)) @ law / total)
        relative[part] = (grown * doubt) @ law / total + 16.0 * _ULP * blurred
    relative += 8.0 * _ULP * np.abs(log_grown)
    if truth @ np.abs(change) < 0.3:
        small = np.abs(change) < 0.5
        excess = np.where(small, x_minus_log1p(np.where(small, change, 0.0)), change - log_grown)
        doubts = np.abs(change) * relative + relative**2
    else:  # the mean of u, which is 0, may lie where there is no truth: −log(1 + u) alone counts
        excess, doubts = -log_grown, relative
    return float(truth @ excess), float(truth @ (doubts + 8.0 * _ULP * np.abs(excess)))


def _variance(variances: Array, time: float) -> tuple[Array, Array]:
    """Return x = e^{−2t}(v − 1) and 1 + x, each with its digits."""
    decay = np.exp(-2.0 * time)
    return decay * (variances - 1.0), decay * variances - np.expm1(-2.0 * time)


def _rule(means: Array, spread: Array, reach: int, split: int) -> tuple[Array, Array]:
    """Points and weights of Gauss–Legendre rules on panels of 2/split standard deviations, or less.

    They cover ``reach`` standard deviations of each normal law; panels between laws that are farther apart are longer,
    for nothing is there.
    """
    edges = np.sort((means[:, None] + spread[:, None] * np.arange(-reach, reach + 1.0, 2.0)).ravel())
    # Where laws nearly coincide so do their edges, of which one is enough.
    cell = np.floor((edges - edges[0]) / (0.8 * float(spread.min())))
    edges = edges[np.append(True, np.diff(cell) > 0.0)]
    part = np.diff(edges) / split
    left = (edges[:-1, None] + part[:, None] * np.arange(split)).ravel()
    half = 0.5 * np.repeat(part, split)
    return ((left + half)[:, None] + half[:, None] * _NODES).ravel(), (half[:, None] * _WEIGHTS).ravel()


def _log_ratio(mixture: Mixture1D, time: float, points: Array) -> tuple[Array, Array]:
    """L = log(q_T/φ) at the points, and its rounding."""
    size = max(float(np.abs(mixture.means).max()), float(np.abs(mixture.variances - 1.0).max()) ** 0.5)
    return (_by_series if np.exp(-time) * size < _SERIES_BELOW else _by_components)(mixture, time, points)


def _by_series(mixture: Mixture1D, time: float, points: Array) -> tuple[Array, Array]:
    """L and its rounding from Mehler's series, whose terms each carry their own power of e^{−T}."""
    decay = np.exp(-time)
    means, excess = decay * mixture.means, decay**2 * (mixture.variances - 1.0)
    # Of each component e^{−kT} E[He_k(X_0)]/√k!, and the same of the sizes, which bounds its rounding.
    former, moment = np.zeros_like(means), np.ones_like(means)
    former_size, size = former, moment
    lower, hermite = np.zeros_like(points), np.ones_like(points)  # He_k(y)/√k!
    total, doubt = np.zeros_like(points), np.zeros_like(points)
    for k in range(_TERMS):
        root, grown = np.sqrt(float(k)), np.sqrt(k + 1.0)
        former, moment = moment, (means * moment + root * excess * former) / grown
        former_size, size = size, (np.abs(means) * size + root * np.abs(excess) * former_size) / grown
        lower, hermite = hermite, (points * hermite - root * lower) / grown
        total += (mixture.weights @ moment) * hermite
        doubt += (k + 2.0) * _ULP * (mixture.weights @ size) * np.abs(hermite)
    return np.log1p(total), doubt / (1.0 + total)


def _by_components(mixture: Mixture1D, time: float, points: Array) -> tuple[Array, Array]:
    """L and its rounding from the components' own log ratios to N(0, 1)."""
    mean = np.exp(-time) * mixture.means[:, None]
    excess, grown = (part[:, None] for part in _variance(mixture.variances, time))
    height = np.where(excess > -0.5, np.log1p(np.maximum(excess, -0.5)), np.log(grown))
    parts = excess * points**2, 2.0 * mean * points, -(mean**2)
    each = sum(parts) / (2.0 * grown) - 0.5 * height
    sizes = sum(np.abs(part) for part in parts) / grown + np.abs(height)
    log_weights = np.log(mixture.weights)[:, None]
    top = (each + log_weights).max(axis=0)
    with np.errstate(under="ignore"):
        share = np.exp(each + log_weights - top)
        doubt = 4.0 * _ULP * (share * sizes).sum(axis=0) / share.sum(axis=0)
        ratio = top + np.log(share.sum(axis=0))
        small = mixture.weights @ np.expm1(np.minimum(each, 300.0))
    near = np.abs(small) < 0.5
    doubt += np.where(near, 0.0, 2.0 * _ULP * (1.0 + np.abs(ratio)))
    return np.where(near, np.log1p(np.where(near, small, 0.0)), ratio), doubt

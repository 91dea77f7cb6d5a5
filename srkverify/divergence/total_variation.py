"""Total variation between q_δ and the output law of a sampler, in any dimension in which independent blocks are known.

Total variation does not add over blocks, but the characteristic function of the log-ratio multiplies. With
l = log p/q and e^{−|l|/2} = (1/2π) ∫ e^{−iul}/(¼ + u²) du,

    1 − TV = ∫ min(p, q) = ∫ √(pq) e^{−|l|/2},   TV = (1/2π) ∫ (1 − Re M(u))/(¼ + u²) du,   M(u) = ∫ √(pq) e^{−iul},

and M is the product of the blocks' own. The trapezoidal rule with nodes 2π/P apart is exact if |l| < P. Derived in
docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.interpolate import make_interp_spline
from scipy.special import digamma, erfc

from srkverify._check import Array
from srkverify.divergence.exact import Divergence, error_of_finest, mixture_tv, output_density, x_minus_log1p
from srkverify.divergence.reduction import Block, GaussianBlock, MixtureBlock
from srkverify.engines import gaussian
from srkverify.engines.mixture1d import Mixture1D
from srkverify.engines.quadrature import LEVELS, Density, Resolution
from srkverify.tableau import Tableau

Complex = NDArray[np.complex128]
DensityAt = Callable[[Tableau, Mixture1D, Resolution, str], Density]

# Where both densities are below this fraction of the truth's peak they count as equal, and their difference as error:
# farther out a computed density has lost its digits, and its log-ratio would be noise.
_EDGE = 1e-13
_FLOOR = 1e-17
_POINTWISE = 1e-14  # ½∫|error of p| by rounding, of one block
_PHASE = 2.0  # most radians by which u l may turn between two points of a grid
_FINEST = 256  # points put in place of one where u is large
_SERIES, _TERMS = 0.3, 30  # |t x| below which directions enter by power sums, and how many: 0.3^30 < 1e−15
_LEAST, _MOST, _NEAR = 84, 2**15, 12  # nodes, at the beginning and at the end, and those where 1 − M may be small
_FADING = 6.0  # erfc(6) < 1e−16


@dataclass(frozen=True)
class Rule:
    """Nodes of the trapezoidal rule in u: k ``step``, k = 0 … ``count``; 1 − M may be small at the first ``near``."""

    step: float
    count: int
    near: int

    @property
    def nodes(self) -> Array:
        """All u, (count + 1,)."""
        return self.step * np.arange(self.count + 1, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Line:
    """``count`` copies of a one-dimensional law, by l = log p/q and √(pq) Δ on a grid of spacing Δ.

    Attributes
    ----------
    ratio, weight : (n,) l and √(pq) Δ, the latter zero where both densities are negligible.
    count : int
    limit : float
        Largest u for which e^{−iul} is resolved.
    error : float
        Bound on what TV owes to rounding and to what is neglected, all copies together.
    """

    ratio: Array
    weight: Array
    count: int
    limit: float
    error: float

    @classmethod
    def of(cls, density: Density, count: int) -> Line:
        """Return ``count`` copies of ``density`` beside its truth."""
        spacing, peak = density.points[1] - density.points[0], density.truth.max()
        kept = np.maximum(density.value, density.truth) > _EDGE * peak
        within = slice(kept.argmax(), len(kept) - kept[::-1].argmax())
        kept, p, q = kept[within], density.value[within], density.truth[within]
        dropped = np.abs(density.value - density.truth).sum() - np.abs(p - q)[kept].sum()
        p, q = np.maximum(p, _FLOOR * peak), np.maximum(q, _FLOOR * peak)
        ratio, weight = np.log1p((p - q) / q), np.sqrt(p * q) * spacing
        heavy = weight > 1e-9 * weight.max()
        slope = np.abs(np.diff(ratio)[heavy[1:] & heavy[:-1]]).max(initial=1e-300)
        error = count * (_POINTWISE + 0.5 * max(float(dropped), 0.0) * spacing)
        return cls(ratio, np.where(kept, weight, 0.0), count, _FINEST * _PHASE / float(slope), error)

    def log(self, rule: Rule) -> Complex:
        """Log M at the nodes, up to multiples of 2πi.

        With v the √(pq) Δ of all points, 1 − Re M = Σ v (2 sinh²(l/4) + 2 sin²(ul/2)), whose terms are non-negative,
        and Im M = −Σ v sin(ul), from which goes u times the mass of p that is too much: so a small TV keeps its
        digits. Where 1 − M is no longer small a fast transform serves.
        """
        u, near = rule.nodes, rule.nodes[: rule.near]
        ratio, weight = self._on_grid(near[-1])
        affinity = float(2.0 * (weight @ np.sinh(0.25 * ratio) ** 2))
        surplus = float(2.0 * (weight @ np.sinh(0.5 * ratio)))
        lack, turned = np.empty(len(u)), np.empty(len(u))
        for index, node in enumerate(near):
            sine, cosine = np.sin(0.5 * node * ratio), np.cos(0.5 * node * ratio)
            lack[index], turned[index] = 2.0 * (sine**2 @ weight), 2.0 * ((sine * cosine) @ weight)
        if len(near) < len(u):
            ratio, weight = self._on_grid(u[-1])
            far = _transform(rule.step * ratio, weight, len(u))[len(near) :]
            lack[len(near) :], turned[len(near) :] = weight.sum() - far.real, -far.imag
        lack, turned = -(lack + affinity), u * surplus - turned
        with np.errstate(divide="ignore"):
            size = 0.5 * np.log1p(lack * (2.0 + lack) + turned**2)
        # Apart: a complex product would make of −∞, where the densities have nothing in common, a NaN.
        return self.count * size + 1j * (self.count * np.arctan2(turned, 1.0 + lack))

    def _on_grid(self, u: float) -> tuple[Array, Array]:
        """Return l and its weights on a grid that resolves e^{−iul}, as far as this is allowed."""
        factor = 2 ** max(0, ceil(log2(max(u, 1e-300) * _FINEST / self.limit)))
        if factor == 1:
            kept = self.weight > 0.0
            return self.ratio[kept], self.weight[kept]
        factor, points = min(factor, _FINEST), np.arange(len(self.ratio), dtype=np.float64)
        between = np.arange(factor * (len(points) - 1) + 1) / factor
        heights = np.log(np.maximum(self.weight, _FLOOR * self.weight.max()))
        ratio, height = make_interp_spline(points, np.stack([self.ratio, heights], axis=1), k=5)(between).T
        return ratio, np.exp(height) / factor


@dataclass(frozen=True, eq=False)
class Directions:
    """Gaussian directions, in each q = N(0, v) and p = N(e, v (1 + x)).

    Attributes
    ----------
    variance, shift, counts : (n,) x, e²/v and multiplicities.
    error : float
        Bound on what TV owes to rounding.
    """

    variance: Array
    shift: Array
    counts: Array
    error: float

    limit = np.inf

    @classmethod
    def of(cls, blocks: Sequence[GaussianBlock], tableau: Tableau, start: str) -> Directions:
        """Return the output of ``tableau`` on all directions of ``blocks``."""
        variances, means, counts = (
            np.concatenate([getattr(block, name) for block in blocks]) for name in ("variances", "means", "counts")
        )
        law, stop = gaussian.deviations(tableau, variances, start), tableau.times[-1]
        truth = variances * np.exp(-2.0 * stop) - np.expm1(-2.0 * stop)
        square = means**2 / truth
        with np.errstate(divide="ignore", invalid="ignore"):
            # TV of p and p with these errors is at most √(KL/2), and KL adds.
            uncertain = 0.25 * np.square(law.variance_error / (1.0 + law.variance))
            uncertain += 0.5 * square * law.mean_error**2 / (1.0 + law.variance)
            error = float(np.sqrt(0.5 * (counts @ uncertain)))
        return cls(law.variance, square * law.mean**2, counts, error)

    @property
    def proper(self) -> bool:
        """Whether p has a density in every direction."""
        return bool(np.isfinite(self.variance).all() and np.isfinite(self.shift).all() and (self.variance > -1.0).all())

    def log(self, rule: Rule) -> Complex:
        """Log M at the nodes.

        With t = ½ + iu it is ½ [t log(1 + x) − log(1 + t x)] − ½ t (1 − t) (e²/v)/(1 + t x) for a direction. The real
        part of 1 + t x is positive, so that the principal logarithm is the continuous one.
        """
        u = rule.nodes
        t: Complex = np.asarray(0.5 + 1j * u, dtype=np.complex128)
        square = 0.25 + u**2  # t (1 − t)
        far = np.abs(self.variance) * np.abs(t).max() > _SERIES
        total = self._series(t, ~far)
        size = max(1, 2**18 // len(u))
        for block in range(0, int(far.sum()), size):
            chosen = np.flatnonzero(far)[block : block + size]
            x, counts = self.variance[chosen], self.counts[chosen]
            tx = np.multiply.outer(t, x)
            total += 0.5 * (_excess(tx) @ counts - t * (counts @ x_minus_log1p(x)))
            total -= 0.5 * square * ((1.0 / (1.0 + tx)) @ (counts * self.shift[chosen]))
        return total

    def _series(self, t: Complex, near: NDArray[np.bool_]) -> Complex:
        """Sum over directions with small t x by power sums of x: ½ Σ_m (−1)^m (t^m − t) Σ x^m/m, and the shifts'."""
        total = np.zeros_like(t)
        x, counts, shift = self.variance[near], self.counts[near], self.shift[near]
        largest = np.abs(x).max(initial=0.0)
        scaled = -x / largest if largest else x  # powers of these do not underflow together with t's overflow
        power, grown = np.ones_like(x), np.ones_like(t)
        for m in range(_TERMS):
            total -= 0.5 * (t - t**2) * grown * float((counts * shift) @ power)
            power, grown = power * scaled, grown * (t * largest)
            if m:
                total += 0.5 * (grown - t * largest ** (m + 1)) * (float(counts @ power) / (m + 1))
        return total


Part = Line | Directions


def total_variation(
    blocks: Sequence[Block],
    tableau: Tableau,
    start: str = "exact",
    absolute: float = 1e-10,
    relative: float = 1e-6,
    most_work: float = 1e10,
    density: DensityAt = output_density,
) -> Divergence:
    """Total variation of q_δ and the output of ``tableau``, all blocks together.

    Parameters
    ----------
    blocks : sequence of Block
        From :func:`srkverify.divergence.reduction.reduce`.
    tableau, start, absolute, relative, most_work
        As in :func:`srkverify.divergence.exact.block_kl`.
    density : function
        The output's density on a one-dimensional mixture; one that remembers serves many targets with equal blocks.
    """
    mixtures = [block for block in blocks if isinstance(block, MixtureBlock)]
    normal = [block for block in blocks if isinstance(block, GaussianBlock)]
    if sum(block.count for block in mixtures) + sum(float(block.counts.sum()) for block in normal) == 1:
        (block,) = blocks
        law = block.mixture if isinstance(block, MixtureBlock) else Mixture1D(np.ones(1), block.means, block.variances)
        return mixture_tv(law, tableau, start, absolute, relative)
    directions = [Directions.of(normal, tableau, start)] if normal else []
    method = "+".join(["gaussian"] * bool(normal) + ["quadrature"] * bool(mixtures))
    if not all(part.proper for part in directions):  # the sampler has lost all variance in some direction
        return Divergence(1.0, 0.0, method)
    if not mixtures:
        value, error, _ = product_tv(directions, absolute, relative)
        return Divergence(value, error, method)

    def at(level: Resolution) -> tuple[list[Part], float]:
        laws = [density(tableau, block.mixture, level, start) for block in mixtures]
        lines = [Line.of(law, block.count) for law, block in zip(laws, mixtures, strict=True)]
        return [*lines, *directions], sum(law.work for law in laws)

    with ThreadPoolExecutor(2) as pool:  # the engines release the interpreter lock
        (coarse, _), (parts, work) = pool.map(at, LEVELS[:2])
    value, floor, rule = product_tv(parts, absolute, relative)
    error = error_of_finest([on_nodes(coarse, rule), value], LEVELS)
    for before, level in pairwise(LEVELS[1:]):
        work *= (level.density / before.density) ** (4 if tableau.memory else 3)
        if error + floor <= max(absolute, relative * value) or error <= floor or work > most_work:
            break
        try:
            finer, work = at(level)
        except ValueError:  # too many grid points: what the former level found stands, with its error
            break
        value, floor, rule = product_tv(finer, absolute, relative)
        # On the same nodes, so that what they miss is missed twice and does not count as a change.
        error, parts = error_of_finest([on_nodes(parts, rule), value], [before, level]), finer
    return Divergence(value, error + floor, method)


def product_tv(parts: Sequence[Part], absolute: float, relative: float) -> tuple[float, float, Rule]:
    """Total variation of independent parts, its error without that of the parts' densities, and the nodes used.

    Nodes are added until their distance and the last of them are known to matter less than an eighth of the larger of
    ``absolute`` and ``relative``·TV, as far as there are nodes to add.
    """
    rounding = sum(part.error for part in parts)
    closeness = -float(sum(part.log(Rule(1.0, 0, 1))[0].real for part in parts))
    if not closeness > 0.0:
        return 0.0, rounding, Rule(1.0, 0, 1)
    width = np.sqrt(8.0 * closeness)  # the standard deviation of l, if it is normal
    rule, limit = Rule(2.0 * np.pi / (16.0 * width), _LEAST, _NEAR), min(part.limit for part in parts)
    while True:
        lack = _lack(parts, rule)
        value, truncation = _trapezoid(lack, rule.step)
        change = abs(value - _trapezoid(lack[::2], 2.0 * rule.step)[0])
        tolerance = max(absolute, relative * value) / 8.0
        if 2 * rule.count > _MOST or max(truncation, change) <= tolerance:
            break
        if truncation > min(tolerance, change) and 2.0 * rule.count * rule.step <= limit:
            rule = Rule(rule.step, 2 * rule.count, rule.near)
        elif change > tolerance:
            rule = Rule(0.5 * rule.step, 2 * rule.count, 2 * rule.near)
        else:
            break
    return min(value, 1.0), truncation + change + rounding + 1e-15 * value, rule


def on_nodes(parts: Sequence[Part], rule: Rule) -> float:
    """Total variation of independent parts by the nodes of ``rule``."""
    return _trapezoid(_lack(parts, rule), rule.step)[0] if rule.count else 0.0


def _lack(parts: Sequence[Part], rule: Rule) -> Array:
    """1 − Re M without cancellation."""
    log = sum((part.log(rule) for part in parts), np.zeros(rule.count + 1, dtype=np.complex128))
    return -np.expm1(log.real) + 2.0 * np.exp(log.real) * np.sin(0.5 * log.imag) ** 2


def _trapezoid(lack: Array, step: float) -> tuple[float, float]:
    """Integrate from 1 − Re M at multiples of ``step``, and say what the upper half of the nodes changes.

    M is faded out over the nodes. That smooths the law of l, over much less than its width: where its density is smooth
    at l = 0, where alone e^{−|l|/2} is not, nothing is lost. A sharp end would show every peak of it elsewhere.
    """
    u = step * np.arange(len(lack))
    kernel = step / (2.0 * np.pi) * np.where(u > 0.0, 2.0, 1.0) / (0.25 + u**2)
    half, place = len(lack) // 2, np.arange(len(lack))

    def faded(count: int) -> float:
        fade = 0.5 * erfc(_FADING * (2.0 * place[: count + 1] / count - 1.0))
        beyond = 2.0 * float(digamma(count + 1 + 0.5j / step).imag) / np.pi  # the nodes left out, where M counts as 0
        return float((1.0 - fade + fade * lack[: count + 1]) @ kernel[: count + 1]) + beyond

    value = faded(len(lack) - 1)
    return value, abs(value - faded(half))


def _transform(angle: Array, weight: Array, count: int) -> Complex:
    """Σ weight e^{−ik angle}, k = 0 … ``count`` − 1, with an error of 1e−11 of Σ weight.

    Angles are moved to the nearest of 8 or more lattice points a turn of the fastest node, and e^{−ik rest} is
    expanded in powers of the rest: |k rest| ≤ π/8.
    """
    size = 2 ** ceil(log2(8 * count))
    place = np.rint(angle * (size / (2.0 * np.pi)))
    rest, index = angle - place * (2.0 * np.pi / size), place.astype(np.int64) % size
    turn: Any = -1j * np.arange(count)
    factor: Any = np.ones(count, dtype=np.complex128)
    total = np.zeros(count, dtype=np.complex128)
    for power in range(11):  # (π/8)^11/11! < 1e−12
        total += factor * rfft(np.bincount(index, weight, size))[:count]
        weight, factor = weight * rest, factor * turn / (power + 1)
    return total


def _excess(z: Any) -> Complex:
    """Z − log(1 + z) for complex z."""
    result: Any = x_minus_log1p(z)
    return np.asarray(result, dtype=np.complex128)

"""KL of samplers on grids of many cells, with each distinct block of the targets computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np

from srkverify import schedules, schemes
from srkverify.divergence import Divergence, block_kl
from srkverify.divergence.reduction import Block, MixtureBlock
from srkverify.tableau import Drawn, Tableau

# Less than a tenth of a second; the few coarse, steep cases beyond keep the error that they have reached.
_MOST_WORK = 2e7


class KLTable:
    """Exact KL by (blocks, scheme, grid, K), remembered for each distinct block.

    Copies of a one-dimensional mixture enter a target's KL through their number only, so that a product in dimension
    10^5 costs what one in dimension 1 costs, and targets that share a mixture share its evaluations.

    Parameters
    ----------
    relative : float
        Relative accuracy of each block's KL; K* then is good to half of that or better.
    """

    def __init__(self, relative: float = 5e-3) -> None:
        self.relative = relative
        self._known: dict[Hashable, Divergence] = {}

    def kl(self, blocks: Sequence[Block], scheme: str, horizon: float, early_stop: float, steps: int) -> Divergence:
        """KL in nats on the exponential grid, exact start; infinite if the sampler is unstable there."""
        parts = [self._block(block, scheme, horizon, early_stop, steps) for block in blocks]
        methods = sorted({part.method for part in parts})
        return Divergence(sum(part.value for part in parts), sum(part.error for part in parts), "+".join(methods))

    def _block(self, block: Block, scheme: str, horizon: float, early_stop: float, steps: int) -> Divergence:
        count = 1
        if isinstance(block, MixtureBlock):
            block, count = MixtureBlock(block.mixture, 1), block.count
        key = (_identity(block), scheme, horizon, early_stop, steps)
        if key not in self._known:
            self._known[key] = _evaluated(block, _tableau(*key[1:]), self.relative)
        one = self._known[key]
        return Divergence(count * one.value, count * one.error, one.method)


def score_evaluations(scheme: str, horizon: float) -> tuple[int, int]:
    """Return the score evaluations of each step of ``scheme``, and those that a run from ``horizon`` needs besides."""
    return evaluations_of(schemes.scheme(scheme), horizon)


def evaluations_of(make: Callable[..., Tableau | Drawn], horizon: float) -> tuple[int, int]:
    """Return the same of a sampler that is a function of its times."""
    two, three = (make(schedules.exponential(horizon, 0.25 * horizon, steps)).nfe for steps in (2, 3))
    return three - two, two - 2 * (three - two)


def _evaluated(block: Block, tableau: Tableau, relative: float) -> Divergence:
    try:
        found = block_kl(block, tableau, absolute=0.0, relative=relative, most_work=_MOST_WORK)
    except ValueError as problem:
        if str(problem).startswith("steps:"):  # the engine's word for a density that has blown up
            return Divergence(np.inf, 0.0, "unstable")
        raise
    if not np.isfinite(found.value):
        return Divergence(np.inf, 0.0, "unstable")
    return found


@lru_cache(maxsize=256)
def _tableau(scheme: str, horizon: float, early_stop: float, steps: int) -> Tableau:
    return schemes.scheme(scheme)(schedules.exponential(horizon, early_stop, steps))


def _identity(block: Block) -> Hashable:
    """Return what tells distinct blocks apart, up to the rounding with which a reduction depends on d."""
    if isinstance(block, MixtureBlock):
        arrays = (block.mixture.weights, block.mixture.means, block.mixture.variances)
        return tuple(tuple(f"{number:.12g}" for number in array) for array in arrays)
    return tuple(array.tobytes() for array in (block.variances, block.means, block.counts))

"""The front door: ``kl`` and ``tv`` of a sampler's output law against the truth."""

from __future__ import annotations

import numpy as np

from srkverify import _check
from srkverify._problem import check_problem
from srkverify.divergence.exact import Divergence, block_kl, mixture_tv, output_density
from srkverify.divergence.reduction import MixtureBlock, NotReducibleError, reduce
from srkverify.engines.mixture1d import Mixture1D
from srkverify.tableau import Tableau
from srkverify.targets import Target

__all__ = [
    "Divergence",
    "NotReducibleError",
    "block_kl",
    "kl",
    "output_density",
    "reduce",
    "tv",
]

METHODS = ("exact",)


def kl(
    target: Target,
    tableau: Tableau,
    method: str = "exact",
    *,
    start: str = "exact",
    absolute: float = 1e-10,
    relative: float = 1e-6,
) -> Divergence:
    """KL(q_δ ‖ law of the sampler's output), in nats.

    The target is split into independent blocks, on which the output law is known exactly: Gaussian directions by
    their moments, one-dimensional mixtures by quadrature of the density (docs/theory.md).

    Parameters
    ----------
    target : GaussianMixture or Product
        In any dimension d.
    tableau : Tableau
        The sampler on its grid.
    method : str
        ``"exact"``.
    start : str
        Law at the horizon T: ``"exact"`` (q_T, isolates the discretisation error) or ``"normal"`` (N(0, I), adds
        the initialisation error).
    absolute, relative : float
        The quadrature is refined until its error is below the larger of ``absolute`` and ``relative``·KL.

    Returns
    -------
    Divergence
        With ``.value``, ``.error`` (numerical) and ``.method``.

    Raises
    ------
    ValueError
        If an argument is not of its kind or unknown, the target does not reduce to one-dimensional blocks, the
        tableau is beyond the exact engines, or the sampler is unstable on its grid.

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    >>> times = sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=64)
    >>> print(f"{sv.kl(target, sv.schemes.srk(times)).value:.3e}")
    1.164e-03
    """
    _check_common(target, tableau, start, absolute, relative)
    _check.choice("method", method, METHODS)
    blocks = reduce(target)
    parts = [block_kl(block, tableau, start, absolute / len(blocks), relative) for block in blocks]
    return Divergence(
        sum(part.value for part in parts),
        sum(part.error for part in parts),
        "+".join(sorted({part.method for part in parts})),
    )


def tv(
    target: Target,
    tableau: Tableau,
    *,
    start: str = "exact",
    absolute: float = 1e-10,
    relative: float = 1e-6,
) -> Divergence:
    """Total variation between q_δ and the sampler's output law, for targets in one dimension.

    Parameters, result and errors as in :func:`kl`; a target of dimension d > 1 raises ``ValueError``, for total
    variation does not add over blocks.
    """
    _check_common(target, tableau, start, absolute, relative)
    if target.dimension != 1:
        raise ValueError(
            f"target must have dimension 1 for tv (total variation does not add over blocks); got {target.dimension}"
        )
    (block,) = reduce(target)
    law = block.mixture if isinstance(block, MixtureBlock) else Mixture1D(np.ones(1), block.means, block.variances)
    return mixture_tv(law, tableau, start, absolute, relative)


def _check_common(target: object, tableau: object, start: str, absolute: float, relative: float) -> None:
    check_problem(target, tableau, start)
    _check.number("absolute", absolute, at_least=0.0)
    _check.number("relative", relative, at_least=0.0)

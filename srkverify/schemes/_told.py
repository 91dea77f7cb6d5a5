"""What some samplers are told about their data: its effective variances, :func:`srkverify.effective_variances`."""

from __future__ import annotations

from srkverify import _check
from srkverify._check import Along, Array

Told = Along  # (K+1,) if on the grid


def told_variances(grid: Array, variances: Told) -> Array:
    """Return effective variances (K+1,) on a grid of times.

    Raises
    ------
    ValueError
        If they are not one finite number ≥ 0, or one a time.
    """
    found = _check.along("variances", grid, variances)
    if found.min() < 0.0:
        raise ValueError(f"variances must be >= 0; got {found.min():g}")
    return found

"""Where a curve on a ladder of steps or evaluations comes below a level for good."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, log


def crossing(curve: Iterable[tuple[float, float]], level: float) -> float | None:
    """Return the place from which on ``curve`` (places > 0, values ≥ 0) stays ≤ ``level``.

    Between two places by a power law; the first place if all values are below, None if the last is not. A value that is
    not finite counts as above, and the next place then is the answer.
    """
    points = sorted(curve)
    above = [index for index, (_, value) in enumerate(points) if not value <= level]
    if not points or (above and above[-1] + 1 == len(points)):
        return None
    if not above:
        return float(points[0][0])
    (few, high), (many, low) = points[above[-1]], points[above[-1] + 1]
    if not isfinite(high) or low <= 0.0:
        return float(many)
    return float(few * (many / few) ** (log(high / level) / log(high / low)))

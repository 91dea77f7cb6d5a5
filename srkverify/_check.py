"""Validation of arguments: every message names the parameter, what was given and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Along = ArrayLike | Callable[[Array], ArrayLike]  # a number, numbers on a grid, or a function of forward times


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> float:
    """Return ``value`` as a finite float inside the stated bounds, or raise ``ValueError``."""
    bounds = [
        f"{sign} {bound:g}" for sign, bound in ((">", above), (">=", at_least), ("<", below)) if bound is not None
    ]
    allowed = " and ".join(["a finite number", *bounds])
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = np.nan
    inside = (
        np.isfinite(result)
        and (above is None or result > above)
        and (at_least is None or result >= at_least)
        and (below is None or result < below)
    )
    if isinstance(value, bool) or not inside:
        raise ValueError(f"{name} must be {allowed}; got {value!r}")
    return result


def integer(name: str, value: Any, *, at_least: int, below: int | None = None) -> int:
    """Return ``value`` as an int in [at_least, below), or raise ``ValueError``."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < at_least or (below is not None and value >= below):
        upper = "" if below is None else f" and < {below}"
        raise ValueError(f"{name} must be an integer >= {at_least}{upper}; got {value!r}")
    return int(value)


def finite_array(name: str, value: ArrayLike, *, dimensions: Iterable[int] | None = None) -> Array:
    """Return ``value`` as a read-only float64 array without NaN or infinity, or raise ``ValueError``.

    ``dimensions`` lists the numbers of axes that are allowed; None allows any.
    """
    try:
        result = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{name} must be an array of numbers; got {type(value).__name__}: {problem}") from None
    if dimensions is not None and result.ndim not in tuple(dimensions):
        allowed = " or ".join(str(axes) for axes in dimensions)
        raise ValueError(f"{name} must have {allowed} axes; got shape {result.shape}")
    if result.size == 0:
        raise ValueError(f"{name} must not be empty; got shape {result.shape}")
    finite = np.isfinite(result)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name} must be finite; got {result[where]} at index {where}")
    result.setflags(write=False)
    return result


def along(name: str, times: Array, value: Along) -> Array:
    """Return a number, an array like ``times`` (n,) or a function of them as an array (n,), or raise ``ValueError``."""
    given = finite_array(name, value(times) if callable(value) else value, dimensions=(0, 1))
    if given.ndim and given.shape != times.shape:
        raise ValueError(f"{name} must be a number or an array of shape {times.shape}; got {given.shape}")
    return np.broadcast_to(given, times.shape)


def choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``; else raise ``ValueError`` that suggests the nearest."""
    names = list(allowed)
    if value in names:
        return str(value)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}{hint}")

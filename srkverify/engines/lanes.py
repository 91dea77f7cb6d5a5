"""Arithmetic on single vectors in memory: what small dense problems, one a lane, are made of.

Each argument ``at`` is the index at which a vector begins. Here a thread has all lanes of a vector. On a GPU each has
one, and the functions at the top, which say which and where threads wait for each other, are others.
"""

from __future__ import annotations

from typing import Any

from srkverify.engines.rng import LANES
from srkverify.engines.simd import Lanes, Memory, inlined, kernel, loop


@inlined
def own_lanes() -> Any:
    """Return the lanes of a vector that this thread works on."""
    return range(LANES)


@inlined
def own_share(count: Any) -> Any:
    """Return which of ``count`` things that all threads have in common this thread works on."""
    return range(count)


@inlined
def anywhere(flag: Any) -> Any:
    """Return whether a flag is set on some thread of the vector."""
    return flag


@inlined
def together() -> None:
    """Wait for the threads of the vector's other lanes; then each sees what the others have written."""


@kernel
def fill(out: Memory, at: Lanes, count: Lanes, value: Lanes) -> None:
    """Write ``value`` to ``count`` vectors."""
    with loop(count) as i:
        out.store(out.zeros() + value, i * out.width + at)


@kernel
def copy(out: Memory, at: Lanes, count: Lanes, x: Memory, x_at: Lanes) -> None:
    """Copy ``count`` vectors."""
    with loop(count) as i:
        out.store(x.load(i * out.width + x_at), i * out.width + at)


@kernel
def assign(out: Memory, at: Lanes, value: Lanes) -> None:
    """Write ``value`` to one vector."""
    out.store(out.zeros() + value, at)


@kernel
def add_scaled(out: Memory, at: Lanes, factor: Lanes, x: Memory, x_at: Lanes) -> None:
    """Add ``factor`` times a vector."""
    out.store(x.load(x_at) * factor + out.load(at), at)


@kernel
def add_product(out: Memory, at: Lanes, x: Memory, x_at: Lanes, y: Memory, y_at: Lanes) -> None:
    """Add the product of two vectors."""
    out.store(x.load(x_at) * y.load(y_at) + out.load(at), at)


@kernel
def subtract_product(out: Memory, at: Lanes, x: Memory, x_at: Lanes, y: Memory, y_at: Lanes) -> None:
    """Subtract the product of two vectors."""
    out.store(out.load(at) - x.load(x_at) * y.load(y_at), at)


@kernel
def multiply(out: Memory, at: Lanes, x: Memory, x_at: Lanes) -> None:
    """Multiply by a vector."""
    out.store(out.load(at) * x.load(x_at), at)


@kernel
def divide(out: Memory, at: Lanes, x: Memory, x_at: Lanes) -> None:
    """Divide by a vector."""
    out.store(out.load(at) / x.load(x_at), at)


@kernel
def root(out: Memory, at: Lanes, x: Memory, x_at: Lanes) -> None:
    """Replace a vector by the root of the larger of itself and another one."""
    value, least = out.load(at), x.load(x_at)
    out.store(value.at_least(least).sqrt(), at)


@kernel
def rotate(out: Memory, p: Lanes, q: Lanes, count: Lanes, stride: Lanes, cosine: Memory, c: Lanes, s: Lanes) -> None:
    """Rotate ``count`` pairs of vectors, the next pair ``stride`` behind: (u, v) becomes (c u − s v, s u + c v)."""
    cos, sin = cosine.load(c), cosine.load(s)
    with loop(count) as i:
        left, right = out.load(i * stride + p), out.load(i * stride + q)
        out.store(cos * left - sin * right, i * stride + p)
        out.store(sin * left + cos * right, i * stride + q)

"""Random numbers that are functions of where they are used: Philox-4x32-10 and standard normals made from it.

A draw depends on (seed, particle, step, noise, coordinate) and on nothing else, so that results do not change with the
number of threads, the block size or how particles are split over processes. Philox (Salmon, Moraes, Dror & Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a counter of four 32-bit words and a key of two to four
random words. Here

    counter = (particle mod 2³², particle div 2³², step, 2²⁴·noise + coordinate div 4),
    key = (seed mod 2³², seed div 2³²),

and the four words make the normals of coordinates 4g, …, 4g + 3 by Box and Muller's method: words 0 and 1 the first
two, words 2 and 3 the others. With (w, a) such a pair,

    ±√(−2 ln u) cos φ,  ±√(−2 ln u) sin φ,   u = (w + ½)/2³²,   φ = (a mod 2³⁰ + ½)/2³⁰ · π/2,

the signs being bits 31 and 30 of a. Where w < 2¹² its 32 bits would cut the tail off: there u = (w + (w′ + ½)/2³²)/2³²
with w′ the word of the block whose counter has the top bit of its second word set. Normals reach 9.4 standard
deviations. In float64 the formulas are good to 2e−13, a thousandth of the spacing of u and φ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from srkverify.engines.simd import BYTES, Lanes, Memory, inlined, jit, joined, kernel, polynomial

START = 0xFFFFFFFF  # the step of the draws at the horizon
NORMAL, LABEL = 0, 255  # streams there; within a step the stream is the index of the noise
MOST_STEPS = START
MOST_NOISES = LABEL
MOST_GROUPS = 2**24
MOST_PARTICLES = 2**63

GROUP = 4  # coordinates that share a block of words
LANES = 8  # particles whose words are made together
_RARE = 1 << 12  # radius words below get a second word
_SECOND = 1 << 63  # added to the particle's index in the counters of second words

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF

_LN2 = math.log(2.0)
_ROOT2 = math.sqrt(2.0)


@dataclass(frozen=True)
class _Format:
    """A floating-point format, and minimax polynomials that suit it."""

    mantissa: int  # bits
    bias: int  # of the exponent
    sign: int  # the sign bit
    magic: int  # bits of 2^mantissa: put a small integer into its mantissa and it is added
    log: tuple[float, ...]  # (2 atanh s − 2 s)/s³ in s², |s| ≤ 3 − 2√2
    sin: tuple[float, ...]  # (sin x − x)/x³ in x², |x| ≤ π/4
    cos: tuple[float, ...]  # (cos x − 1)/x² in x², |x| ≤ π/4


_DOUBLE = _Format(
    mantissa=52,
    bias=1023,
    sign=1 << 63,
    magic=0x433 << 52,
    log=(0.6666666667580031, 0.39999995622435136, 0.28572109061322426, 0.22176193966364693, 0.19584060116164553),
    sin=(
        -0.16666666666606086,
        0.008333333321928541,
        -0.00019841262368110207,
        2.755509931046205e-06,
        -2.4745486562589275e-08,
    ),
    cos=(
        -0.4999999999954509,
        0.04166666656207953,
        -0.0013888881078865435,
        2.4799041072911627e-05,
        -2.718010326602779e-07,
    ),
)
_SINGLE = _Format(
    mantissa=23,
    bias=127,
    sign=1 << 31,
    magic=0x4B0 << 20,
    log=(0.6666677638154475, 0.39977541584180065, 0.29871727557789973),
    sin=(-0.16666650669301067, 0.00833197866305063, -0.0001949563619662316),
    cos=(-0.4999989478035305, 0.04165629454169809, -0.001359782275012959),
)


def _philox(counter: list[Lanes], key: list[Lanes]) -> list[Lanes]:
    """Ten rounds on words; in 64-bit lanes their upper halves mean nothing."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        (even, c3_next), (odd, c1_next) = c0.wide_product(_MULTIPLIERS[0]), c2.wide_product(_MULTIPLIERS[1])
        c0, c1, c2, c3 = odd ^ c1 ^ k0, c1_next, even ^ c3 ^ k1, c3_next
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return [c0, c1, c2, c3]


def _blocks(
    seed: Lanes, particle: Lanes, step: Lanes, draws: Sequence[tuple[Lanes, Lanes]], order: Sequence[int]
) -> list[Lanes]:
    """Four words for each draw, a stream and a group, of particles ``particle`` + i, i from ``order``."""
    width, count = len(order), len(order) * len(draws)
    particles = joined([particle.spread(width).plus(order)] * len(draws))
    last = joined([((stream << 24) | group).spread(width) for stream, group in draws])
    counter = [particles, particles >> 32, step.spread(count), last]
    return _philox(counter, [seed.spread(count), (seed >> 32).spread(count)])


def _radius(word: Lanes, form: _Format) -> Lanes:
    """√(−ln u) with u = (word + ½)/2³²."""
    return _root_log(word.reals(plus=0.5), float(2**form.mantissa + form.bias + 32), form)


def _root_log(x: Lanes, shift: Any, form: _Format) -> Lanes:
    """√(−ln u) with u = x/2^s: x = 2^k m with 1 ≤ m < 2, and ln(m/√2) = 2 atanh((m − √2)/(m + √2)).

    ``shift`` is s and what the exponent's bits are above k when they are read as a real number.
    """
    bits = x.bits()
    exponent = ((bits >> form.mantissa) | form.magic).floats() - shift
    m = ((bits & ((1 << form.mantissa) - 1)) | (form.bias << form.mantissa)).floats()
    s = (m - _ROOT2) / (m + _ROOT2)
    square = s * s
    log = exponent * _LN2 + (s * (square * polynomial(square, form.log) + 2.0) + 0.5 * _LN2)
    if form is _SINGLE:  # the sum can come out above 0 where u is near 1
        return (log * -1.0).at_least(1e-20).sqrt()
    return (log * -1.0).sqrt()


def _turned(radius: Lanes, word: Lanes, form: _Format) -> tuple[Lanes, Lanes]:
    """Two normals: √2·radius at an angle x + π/4 in the quadrant that the word's two high bits choose."""
    # ½ is in the second constant: the product and the difference are one operation.
    x = (word & 0x3FFFFFFF).reals() * (math.pi * 2.0**-31) - (0.25 - 2.0**-32) * math.pi
    square = x * x
    sin = square * x * polynomial(square, form.sin) + x
    cos = square * polynomial(square, form.cos) + 1.0
    signs = word if word.single else word.halves(high=False)
    first = (radius * (cos - sin)).bits() ^ (signs & form.sign)
    second = (radius * (cos + sin)).bits() ^ ((signs + signs) & form.sign)
    return first.floats(), second.floats()


def _write_normals(
    seed: Lanes, particle: Lanes, step: Lanes, draws: Sequence[tuple[Lanes, Lanes]], out: Memory, at: Sequence[Lanes]
) -> Lanes:
    """Write each draw's normals where it has its place, a vector of particles a row; whether a tail was cut."""
    width, count = out.width, out.width * len(draws)
    if width == LANES:
        form = _DOUBLE
        words = [word & _WORD for word in _blocks(seed, particle, step, draws, range(LANES))]
    else:
        form = _SINGLE
        order = [*range(0, width, 2), *range(1, width, 2)]
        words = [word.narrow() for word in _blocks(seed, particle, step, draws, order)]
    radius_words = words[0].joined(words[2])
    radii = _radius(radius_words, form)
    for pair in range(2):
        for k, normals in enumerate(_turned(radii.part(pair * count, count), words[2 * pair + 1], form)):
            for draw, place in enumerate(at):
                out.store(normals.part(draw * width, width), place, 2 * pair + k)
    return radius_words.reals(plus=0.5).any_below(_RARE)


def _write_one(seed: Lanes, particle: Lanes, step: Lanes, stream: Lanes, group: Lanes, out: Memory, at: Lanes) -> Lanes:
    return _write_normals(seed, particle, step, [(stream, group)], out, [at])


def _write_two(
    seed: Lanes,
    particle: Lanes,
    step: Lanes,
    stream: Lanes,
    group: Lanes,
    other_stream: Lanes,
    other_group: Lanes,
    out: Memory,
    at: Lanes,
    other_at: Lanes,
) -> Lanes:
    return _write_normals(seed, particle, step, [(stream, group), (other_stream, other_group)], out, [at, other_at])


def _write_words(
    seed: Lanes, particle: Lanes, step: Lanes, stream: Lanes, group: Lanes, out: Memory, at: Lanes
) -> None:
    """Write the four words of LANES particles, word by word."""
    for i, word in enumerate(_blocks(seed, particle, step, [(stream, group)], range(LANES))):
        out.store(word & _WORD, at, i)


_draw_one, _draw_two = kernel(_write_one, types.boolean), kernel(_write_two, types.boolean)
_words = kernel(_write_words)


@jit
def _mend_tails(
    seed: Any, particle: Any, step: Any, stream: Any, group: Any, out: Any, at: Any, width: Any, spare: Any
) -> None:
    """Give small radius words 32 more bits: the pair's radius grows."""
    words, more = spare
    for first in range(0, width, LANES):
        _words(seed, particle + first, step, stream, group, words, 0)
        _words(seed, (particle + first) | _SECOND, step, stream, group, more, 0)
        for pair in range(2):
            for lane in range(LANES):
                word = words[2 * pair * LANES + lane]
                if word < _RARE:
                    fine = word + (more[2 * pair * LANES + lane] + 0.5) * 2.0**-32
                    growth = math.sqrt(math.log(fine * 2.0**-32) / math.log((word + 0.5) * 2.0**-32))
                    for row in range(2 * pair, 2 * pair + 2):
                        out[at + row * width + first + lane] *= growth


@inlined
def draw_group(
    seed: Any, particle: Any, step: Any, stream: Any, group: Any, out: Any, at: Any, width: Any, spare: Any
) -> None:
    """Write standard normals of coordinates 4·group, … for ``width`` particles to ``out[at:]``, (4, width) flat.

    ``width`` is that of a vector: 8 in float64, 16 in float32. ``spare`` are two int64 arrays of 32.
    """
    if _draw_one(seed, particle, step, stream, group, out, at):
        _mend_tails(seed, particle, step, stream, group, out, at, width, spare)


@inlined
def draw_two_groups(
    seed: Any,
    particle: Any,
    step: Any,
    stream: Any,
    group: Any,
    other_stream: Any,
    other_group: Any,
    out: Any,
    at: Any,
    other_at: Any,
    width: Any,
    spare: Any,
) -> None:
    """Do what two calls of ``draw_group`` do, in three quarters of the time.

    A normal is a long chain of operations; here there are twice as many chains to go on with when one has to wait.
    """
    if _draw_two(seed, particle, step, stream, group, other_stream, other_group, out, at, other_at):
        _mend_tails(seed, particle, step, stream, group, out, at, width, spare)
        _mend_tails(seed, particle, step, other_stream, other_group, out, other_at, width, spare)


draw_group_apart = jit(draw_group.py_func)  # the same, compiled by itself: for places where speed is no matter


@jit
def draw_uniforms(seed: Any, particle: Any, step: Any, stream: Any, group: Any, spare: Any, out: Any, at: Any) -> None:
    """Write one uniform in (0, 1) of 52 bits for each of LANES particles to ``out[at:]``."""
    words, _ = spare
    _words(seed, particle, step, stream, group, words, 0)
    for lane in range(LANES):
        out[at + lane] = ((words[lane] << 20) + (words[LANES + lane] >> 12) + 0.5) * 2.0**-52


@jit
def _fill(seed: Any, particle: Any, step: Any, stream: Any, out: Any, rows: Any, spare: Any) -> None:
    width = len(rows) // GROUP
    for begin in range(0, len(out), width):
        for group in range((out.shape[1] + GROUP - 1) // GROUP):
            draw_group_apart(seed, particle + begin, step, stream, group, rows, np.int64(0), width, spare)
            for j in range(min(GROUP, out.shape[1] - GROUP * group)):
                for lane in range(min(width, len(out) - begin)):
                    out[begin + lane, GROUP * group + j] = rows[j * width + lane]


def normals(
    seed: int,
    particles: int,
    dimension: int,
    step: int,
    noise: int,
    *,
    first_particle: int = 0,
    dtype: Any = np.float64,
) -> NDArray[np.floating[Any]]:
    """Return the standard normals that the engine uses as one noise of one step, to check it by.

    Parameters
    ----------
    seed : int
        In [0, 2⁶⁴).
    particles, dimension : int
        Shape (n, d) of the result; d ≤ 2²⁶.
    step : int
        From 0; START for the draws at the horizon (with ``noise`` NORMAL).
    noise : int
        Index m of ξ_m, or of ζ_m in coupled runs, whose steps are those of the fine grid.
    first_particle : int
        Index of the first.
    dtype : float64 or float32
    """
    out = np.empty((particles, dimension), dtype)
    rows = np.empty(GROUP * vector_width(out.dtype), dtype)
    _fill(signed(seed), first_particle, step, noise, out, rows, make_spare())
    return out


def make_spare() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the memory for words that ``draw_group`` needs."""
    return np.zeros(GROUP * LANES, np.int64), np.zeros(GROUP * LANES, np.int64)


def vector_width(dtype: np.dtype[Any]) -> int:
    """Return the number of particles in a vector."""
    return BYTES // dtype.itemsize


def signed(seed: int) -> int:
    """Return a seed in [0, 2⁶⁴) as the int64 of the same bits."""
    return int(np.uint64(seed).view(np.int64))

"""The random numbers: published vectors, the written-out recipe in NumPy and mpmath, and their law."""

from itertools import product

import mpmath as mp
import numpy as np
import pytest
from scipy import special, stats

from srkverify.engines import rng
from srkverify.engines.simd import Lanes, Memory, jit, kernel

# Known answers of Random123 1.14 (kat_vectors, philox4x32 with 10 rounds): counter, key, result.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox(counter, key):
    """Philox-4x32-10 on Python integers or arrays of uint64, from the paper's definition."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        even, odd = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (odd >> 32) ^ c1 ^ k0, odd & 0xFFFFFFFF, (even >> 32) ^ c3 ^ k1, even & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@jit
def write_words(seed, particle, step, stream, group, out):
    rng._words(seed, particle, step, stream, group, out, 0)


def words(counter, key):
    """The compiled words of a counter: its second word is the particle's upper half, its last stream and group."""
    out = np.zeros(rng.GROUP * rng.LANES, np.int64)
    particle = rng.signed(counter[0] | counter[1] << 32)
    write_words(rng.signed(key[0] | key[1] << 32), particle, counter[2], counter[3] >> 24, counter[3] & 0xFFFFFF, out)
    return out.reshape(rng.GROUP, rng.LANES)


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected):
    assert philox(counter, key) == expected
    assert tuple(words(counter, key)[:, 0]) == expected


def test_every_lane_has_its_own_particle_even_where_the_lower_half_overflows():
    counter, key = (0xFFFFFFFC, 7, 123456, 5 << 24 | 77), (11, 22)
    for lane, result in enumerate(words(counter, key).T):
        index = (counter[0] | counter[1] << 32) + lane
        assert tuple(result) == philox((index & 0xFFFFFFFF, index >> 32, *counter[2:]), key)


def recipe(seed, particle, coordinate, step, noise):
    """A normal by the module's description, in mpmath."""
    group, place = divmod(coordinate, 4)
    counter = [particle & 0xFFFFFFFF, particle >> 32, step, noise << 24 | group]
    key = (seed & 0xFFFFFFFF, seed >> 32)
    drawn = philox(counter, key)
    radius_word, angle_word = drawn[2 * (place // 2)], drawn[2 * (place // 2) + 1]
    v = mp.mpf(1) / 2
    if radius_word < 2**12:
        counter[1] |= 1 << 31
        v = (philox(counter, key)[2 * (place // 2)] + mp.mpf(1) / 2) / 2**32
    radius = mp.sqrt(-2 * mp.log((radius_word + v) / mp.mpf(2) ** 32))
    # The lower 30 bits place the angle within the first quadrant; bits 30 and 31 are the signs of cosine and sine … in
    # the order in which the pair is stored: the cosine's sign is bit 31.
    angle = mp.pi / 2 * ((angle_word & 0x3FFFFFFF) + mp.mpf(1) / 2) / 2**30
    sign = (-1) ** (angle_word >> 31 if place % 2 == 0 else angle_word >> 30 & 1)
    return sign * radius * (mp.cos(angle) if place % 2 == 0 else mp.sin(angle))


def test_normals_are_the_recipe():
    seed, first, step, noise = 0x123456789ABCDEF0, 2**32 - 3, 40, 3
    got = rng.normals(seed, 20, 7, step, noise, first_particle=first)
    single = rng.normals(seed, 20, 7, step, noise, first_particle=first, dtype=np.float32)
    for i, j in product(range(20), range(7)):
        expected = recipe(seed, first + i, j, step, noise)
        assert got[i, j] == pytest.approx(float(expected), rel=2e-13, abs=2e-13)
        assert single[i, j] == pytest.approx(float(expected), rel=2e-6, abs=2e-6)


def rare_particle(seed, step):
    """The first particle whose first radius word is below 2^12 there: one in a million."""
    block = 1 << 16
    for start in range(0, 1 << 24, block):
        particles = np.arange(start, start + block, dtype=np.uint64)
        found = np.flatnonzero(
            philox((particles, *np.array([0, step, 0], np.uint64)), np.array([seed, 0], np.uint64))[0] < 2**12
        )
        if len(found):
            return start + int(found[0])
    raise AssertionError("no particle has a rare word")


def test_tails_have_their_second_word():
    particle = rare_particle(seed=5, step=9)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-6)):
        got = rng.normals(5, 8, 4, 9, 0, first_particle=particle - 3, dtype=dtype)
        for i, j in product(range(8), range(4)):
            assert got[i, j] == pytest.approx(float(recipe(5, particle - 3 + i, j, 9, 0)), rel=tolerance, abs=tolerance)
    assert np.hypot(*got[3, :2]) > np.sqrt(-2.0 * np.log(2.0**-20)) - 1e-6


@jit
def write_two(seed, particle, step, first, second, out, width, spare):
    (m, g), (n, h) = first, second
    rng.draw_two_groups(seed, particle, step, m, g, n, h, out, 0, len(out) // 2, width, spare)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("first", "second"), [((0, 0), (0, 1)), ((2, 5), (0, 0))])  # stream and group
def test_two_draws_at_a_time_are_those_draws(dtype, first, second):
    particle = rare_particle(seed=5, step=9) - 3  # a tail to mend in stream 0, group 0
    width = rng.vector_width(np.dtype(dtype))
    out = np.zeros(2 * rng.GROUP * width, dtype)
    write_two(5, particle, 9, first, second, out, width, rng.make_spare())
    for got, (stream, group) in zip(out.reshape(2, rng.GROUP, width), (first, second), strict=True):
        one = rng.normals(5, width, 4 * group + 4, 9, stream, first_particle=particle, dtype=dtype)[:, 4 * group :]
        np.testing.assert_allclose(got, one.T, rtol=0, atol=20 * np.finfo(dtype).eps)


@kernel
def write_radii(words: Memory, out: Memory, at: Lanes) -> None:
    out.store(rng._radius(words.load(at), rng._DOUBLE), at)


@jit
def radii(words, out):
    write_radii(words, out, 0)


def test_radius_at_the_extremes():
    cases = [0, 1, 2**12 - 1, 2**12, 2**31, 3 * 2**30, 2**32 - 2, 2**32 - 1]
    out = np.zeros(8)
    radii(np.array(cases), out)
    for word, value in zip(cases, out, strict=True):
        expected = mp.sqrt(-mp.log((word + mp.mpf(1) / 2) / 2**32))
        assert value**2 == pytest.approx(float(expected**2), rel=5e-14, abs=5e-14)


def test_float32_stays_finite_where_u_rounds_to_one():
    x = rng.normals(0, 1 << 17, 64, 0, 0, dtype=np.float32)  # 32 radius words beyond 2^32 − 2^7 are expected
    assert np.isfinite(x).all()
    assert np.abs(x - rng.normals(0, 1 << 17, 64, 0, 0)).max() < 5e-4


def test_law_of_ten_million_normals():
    """Moments to order 8, Kolmogorov–Smirnov and tails; thresholds 4.5 standard errors, 13 comparisons: one in 10⁴."""
    x = rng.normals(2026, 625_000, 16, 1, 0).ravel()
    count = x.size
    power = np.ones_like(x)
    for order in range(1, 9):
        power *= x
        mean = special.factorial2(order - 1) if order % 2 == 0 else 0.0
        error = np.sqrt((special.factorial2(2 * order - 1) - mean**2) / count)
        assert abs(power.mean() - mean) < 4.5 * error, order
    for level in (3.0, 4.0, 5.0):
        expected = count * 2.0 * special.ndtr(-level)
        assert abs((np.abs(x) > level).sum() - expected) < 4.5 * np.sqrt(expected) + 1.0, level
    assert stats.kstest(x[::10], "norm").pvalue > 1e-5


def test_streams_do_not_repeat_or_correlate():
    """Neighbours in each index: 5 correlations of 80 000 pairs within 5 standard errors, one in 10⁶ by chance."""
    base = rng.normals(1, 20_000, 4, 10, 0)
    others = [
        rng.normals(2, 20_000, 4, 10, 0),
        rng.normals(1, 20_000, 4, 11, 0),
        rng.normals(1, 20_000, 4, 10, 1),
        rng.normals(1, 20_000, 4, 10, 0, first_particle=1),
        rng.normals(1, 20_000, 8, 10, 0)[:, 4:],
    ]
    for other in others:
        assert not (other == base).any()
        assert abs((other * base).mean()) < 5.0 / np.sqrt(base.size)
    correlations = np.corrcoef(base.T) - np.eye(4)
    assert np.abs(correlations).max() < 5.0 / np.sqrt(len(base))


def test_seeds_use_all_64_bits():
    low, high = rng.normals(1, 8, 4, 0, 0), rng.normals(1 + 2**63, 8, 4, 0, 0)
    assert not (low == high).any()

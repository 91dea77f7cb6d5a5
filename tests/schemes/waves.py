"""Weak errors in any number of dimensions, exactly, for laws that are a few plane waves on a flat background.

z = e^t X_t is a Brownian motion in τ = e^{2t} − 1, so that 1 + Σ_a α_a e^{i p_a·z − |p_a|² τ/2} stays a density of
this form. Here α_a² = 0: with n waves all that is left of a sampler's law is its coefficient of α_1 … α_n, which is a
sum over the ways in which evaluations of the score may hand the waves on to each other, each with a Gaussian average
over the noises in closed form. The truth's coefficient of E e^{−i(p_1 + … + p_n)·z} is 0 for n ≥ 2. By polarisation n
waves show all that an n-linear functional of the log density's derivatives can contain; no grid, no sampling, no
expansion in h.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from srkverify.engines import callable as one_by_one


def error(tableau, waves):
    """|Coefficient of all α| of E e^{−i Σ p·z} at the end, from the exact law at the start; ``waves`` (n, d), n ≥ 2."""
    return abs(_Run(tableau, np.asarray(waves, dtype=float)).coefficient())


class _Run:
    def __init__(self, tableau, waves):
        self.waves, self.dimension = waves, waves.shape[1]
        self.all = frozenset(range(len(waves)))
        size, noises = tableau.nfe, tableau.noise.shape[1]
        self.noises = tableau.steps * noises
        basis = np.eye(1 + self.noises + size)  # z at the start, noises, scores in z
        points, self.times = [], []

        def score(point, time):
            points.append(np.exp(time) * point)
            self.times.append(time)
            return np.exp(time) * basis[self.noises + len(points)]

        state, past = np.exp(-tableau.times[0]) * basis[0], []
        for k in range(tableau.steps):
            xi = [basis[1 + k * noises + m] for m in range(noises)]
            made = one_by_one.step(tableau, k, score, state, xi, past)
            state, past = made.state, one_by_one.remembered(made, past, tableau.memory)
        points.append(np.exp(tableau.times[-1]) * state)
        self.points = np.array(points)
        np.testing.assert_allclose(self.points[:, 0], 1.0, rtol=1e-9)  # a flat law is kept by every sampler
        self.start = tableau.times[0]
        self.scores = {}  # of each evaluation and set of waves: terms, as vectors (t, d) and phases (t, noises, d)

    def coefficient(self):
        total, whole = 0.0, -self.waves.sum(axis=0)
        for first in [frozenset(), *(frozenset([a]) for a in self.all)]:
            # α_a of the law at the start, all others by the drift.
            size = np.prod([self.size(a, self.start) for a in first])
            value, phase = self.exponential(len(self.points) - 1, whole, self.all - first)
            total += size * (value * np.exp(-0.5 * (phase**2).sum(axis=(1, 2)))).sum()
        return total

    def size(self, wave, time):
        return np.exp(-0.5 * (self.waves[wave] @ self.waves[wave]) * np.expm1(2.0 * time))

    def exponential(self, j, p, waves):
        """Terms of e^{i p·z} at evaluation j with ``waves``: scalars (t,) and phases."""
        noise = self.points[j, 1 : 1 + self.noises, None] * p
        values, phases = [], []
        for blocks in _partitions(waves):
            value, phase = np.ones(1, dtype=complex), noise[None]
            for block in blocks:
                vectors, shifts = self.moved(j, block)
                value = (value[:, None] * (1j * vectors @ p)).ravel()
                phase = (phase[:, None] + shifts).reshape(len(value), *noise.shape)
            values.append(value)
            phases.append(phase)
        return np.concatenate(values), np.concatenate(phases)

    def moved(self, j, waves):
        """Terms by which scores before evaluation j have moved its point."""
        found = [(a, self.score(i, waves)) for i, a in enumerate(self.points[j, 1 + self.noises :][:j]) if a != 0.0]
        empty = np.zeros((0, self.dimension)), np.zeros((0, self.noises, self.dimension))
        return (
            np.concatenate([empty[0], *(a * vectors for a, (vectors, _) in found)]),
            np.concatenate([empty[1], *(phases for _, (_, phases) in found)]),
        )

    def score(self, j, waves):
        """Terms of ∇ log p at evaluation j: of log(1 + Σ), in which each set of waves is a wave."""
        if (j, waves) not in self.scores:
            vectors, phases = [], []
            for count in range(1, len(waves) + 1):
                for chosen in map(frozenset, combinations(sorted(waves), count)):
                    p = self.waves[sorted(chosen)].sum(axis=0)
                    size = np.prod([self.size(a, self.times[j]) for a in chosen])
                    size *= (-1.0) ** (count - 1) * np.prod(np.arange(1, count))
                    value, phase = self.exponential(j, p, waves - chosen)
                    vectors.append(1j * size * value[:, None] * p)
                    phases.append(phase)
            self.scores[j, waves] = np.concatenate(vectors), np.concatenate(phases)
        return self.scores[j, waves]


def _partitions(items):
    """All ways to divide a set into blocks."""
    if not items:
        return [[]]
    first, *rest = sorted(items)
    found = []
    for count in range(len(rest) + 1):
        for others in combinations(rest, count):
            block = frozenset([first, *others])
            found += [[block, *more] for more in _partitions(frozenset(items) - block)]
    return found

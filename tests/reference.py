"""Plain NumPy and mpmath versions of what the package computes, written from the definitions."""

from __future__ import annotations

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from scipy import stats


def simulate(tableau, target, y, noise):
    """Run a tableau step by step on particles ``y`` (n, d) with noise (K, M, n, d); returns the path (K+1, n, d)."""
    path, history = [y], []
    for k in range(tableau.steps):
        past = history[::-1][: tableau.past_points.shape[1]]
        scores = []

        def row(state, score_weights, noise_weights, points, slopes, y=y, k=k, scores=scores, past=past):
            value = state * y
            for weight, score in zip(score_weights, scores, strict=False):
                if score is not None:
                    value = value + weight * score
            for weight, xi in zip(noise_weights, noise[k], strict=False):
                value = value + weight * xi
            for point, slope, (u, s) in zip(points, slopes, past, strict=False):
                value = value + point * u + slope * s
            return value

        for i in range(tableau.stage_times.shape[1]):
            if not tableau.evaluated[k, i]:
                scores.append(None)
                continue
            u = row(
                tableau.stage_state[k, i],
                tableau.stage_scores[k, i, :i],
                tableau.stage_noise[k, i],
                tableau.stage_past_points[k, i],
                tableau.stage_past_scores[k, i],
            )
            scores.append(target.score(u, time=tableau.stage_times[k, i]))
            history.append((u, scores[-1]))
        y = row(tableau.state[k], tableau.scores[k], tableau.noise[k], tableau.past_points[k], tableau.past_scores[k])
        path.append(y)
    return np.stack(path)


def gaussian_kl(scheme_rows, times, eigenvalue, mean):
    """KL(q ‖ output) on N(mean, eigenvalue) in mpmath, from exact coefficients of a scheme without memory.

    ``scheme_rows(h, tau)`` returns (stages, output): stages a list of (time, state, score weights, (σ_0, σ_1)),
    output (state, score weights, (σ_0, σ_1)), all mpmath numbers; ξ_0, ξ_1 independent.
    """
    lam, mu = mp.mpf(eigenvalue), mp.mpf(mean)

    def v(t):
        return lam * mp.exp(-2 * t) - mp.expm1(-2 * t)

    times = [mp.mpf(float(t)) for t in times]
    variance, average = v(times[0]), mu * mp.exp(-times[0])
    for now, then in pairwise(times):
        stages, output = scheme_rows(now - then, now)
        linear = []  # score of each stage as (coefficient of Y − E Y, mean, coefficients of ξ)
        for time, state, weights, sigma in stages:
            point = [state, state * average, list(sigma)]
            for weight, (a, b, c) in zip(weights, linear, strict=False):
                point = [
                    point[0] + weight * a,
                    point[1] + weight * b,
                    [x + weight * y for x, y in zip(point[2], c, strict=True)],
                ]
            inverse = -1 / v(time)
            linear.append(
                (inverse * point[0], inverse * (point[1] - mu * mp.exp(-time)), [inverse * x for x in point[2]])
            )
        state, weights, sigma = output
        a, b, c = state, state * average, list(sigma)
        for weight, (sa, sb, sc) in zip(weights, linear, strict=True):
            a, b, c = a + weight * sa, b + weight * sb, [x + weight * y for x, y in zip(c, sc, strict=True)]
        variance, average = a**2 * variance + sum(x**2 for x in c), b
    truth, center = v(times[-1]), mu * mp.exp(-times[-1])
    return (mp.log(variance / truth) + (truth + (average - center) ** 2) / variance - 1) / 2


def table_gaussian_kl(tableau, eigenvalue, mean, start="exact"):
    """KL(q ‖ output) on N(mean, eigenvalue) in mpmath, of the table as it stands, by brute force.

    Every quantity is its mean and its coefficients on the independent normals drawn so far (the start and all ξ).
    """
    lam, mu = mp.mpf(eigenvalue), mp.mpf(mean)
    length = 1 + tableau.steps * tableau.noise.shape[1]

    def v(t):
        t = mp.mpf(float(t))
        return lam * mp.exp(-2 * t) - mp.expm1(-2 * t)

    def combine(terms):
        average, loads = mp.mpf(0), [mp.mpf(0)] * length
        for weight, (m, c) in terms:
            if weight != 0:
                weight = mp.mpf(float(weight))
                average += weight * m
                loads = [a + weight * b for a, b in zip(loads, c, strict=True)]
        return average, loads

    def score(u, t):
        t = mp.mpf(float(t))
        return -(u[0] - mu * mp.exp(-t)) / v(t), [-c / v(t) for c in u[1]]

    def normal(index):
        return mp.mpf(0), [mp.mpf(int(i == index)) for i in range(length)]

    first = mp.mpf(float(tableau.times[0]))
    spread, center = (mp.sqrt(v(first)), mu * mp.exp(-first)) if start == "exact" else (mp.mpf(1), mp.mpf(0))
    y, history = (center, [spread] + [mp.mpf(0)] * (length - 1)), []
    for k in range(tableau.steps):
        noises = tableau.noise.shape[1]
        xi = [normal(1 + k * noises + m) for m in range(noises)]
        past = history[::-1]
        scores = {}

        def terms(state, weights, sigma, points, slopes, y=y, xi=xi, past=past, scores=scores):
            yield state, y
            yield from ((weights[j], s) for j, s in scores.items())
            yield from zip(sigma, xi, strict=True)
            for point, slope, (u, s) in zip(points, slopes, past, strict=False):
                yield point, u
                yield slope, s

        for i in range(tableau.stage_times.shape[1]):
            if tableau.evaluated[k, i]:
                u = combine(
                    terms(
                        tableau.stage_state[k, i],
                        tableau.stage_scores[k, i],
                        tableau.stage_noise[k, i],
                        tableau.stage_past_points[k, i],
                        tableau.stage_past_scores[k, i],
                    )
                )
                scores[i] = score(u, tableau.stage_times[k, i])
                history.append((u, scores[i]))
        y = combine(
            terms(tableau.state[k], tableau.scores[k], tableau.noise[k], tableau.past_points[k], tableau.past_scores[k])
        )
    variance = sum(c**2 for c in y[1])
    last = mp.mpf(float(tableau.times[-1]))
    truth, center = v(last), mu * mp.exp(-last)
    return (mp.log(variance / truth) + (truth + (y[0] - center) ** 2) / variance - 1) / 2


def noise_moments(h):
    """Var w, and for the paper's g and the martingale g̃: Var, Cov with w — by mpmath quadrature of the integrals.

    With kernels k_w(u) = √2 e^{h−u}, (e^h − 1) g = √2 ∫_0^h e^{h−r} B_r dr = ∫ √2 (e^{h−u} − 1) dB_u and
    (e^h − e^{−h}) g̃ = √2 e^h ∫ (e^{−u} − e^{u−2h}) dB_u.
    """
    h = mp.mpf(h)

    def inner(f, g):
        return mp.quad(lambda u: f(u) * g(u), [0, h])

    def w(u):
        return mp.sqrt(2) * mp.exp(h - u)

    def g(u):
        return mp.sqrt(2) * mp.expm1(h - u) / mp.expm1(h)

    def tilde(u):
        return mp.sqrt(2) * mp.exp(h) * (mp.exp(-u) - mp.exp(u - 2 * h)) / (2 * mp.sinh(h))

    return inner(w, w), (inner(g, g), inner(g, w)), (inner(tilde, tilde), inner(tilde, w))


def span_products(h, start=0):
    """Inner products over [0, h] of e^{a(u + start)} (rows) and e^{bu} (columns), a and b in −1, 0, 1, in mpmath."""
    integral = {c: mp.expm1(c * h) / c if c else h for c in range(-2, 3)}
    return mp.matrix([[mp.exp(a * start) * integral[a + b] for b in (-1, 0, 1)] for a in (-1, 0, 1)])


def span_basis(h):
    """Gram–Schmidt of e^{−u}, 1, e^u in L²[0, h]: coefficients on the three, a row for each of q_0, q_1, q_2.

    Small h need digits: the determinant of the Gram matrix is of size h⁹.
    """
    return mp.cholesky(span_products(h)) ** -1


def mp_rows(name):
    """Exact coefficients of the schemes without memory, for :func:`gaussian_kl`."""

    def split(variance, covariance, total):  # (g, w) = ((a, b), (√total, 0)) · (ξ_0, ξ_1)
        along = covariance / mp.sqrt(total)
        return (along, mp.sqrt(variance - along**2)), (mp.sqrt(total), mp.mpf(0))

    def rows(h, tau):
        e, sinh2 = mp.exp(h), 2 * mp.sinh(h)
        total = mp.expm1(2 * h)
        zero = (mp.mpf(0), mp.mpf(0))
        one = mp.mpf(1)
        if name == "euler_maruyama":
            return [(tau, one, [], zero)], (1 + h, [2 * h], (mp.sqrt(2 * h), mp.mpf(0)))
        if name == "exponential_euler":
            return [(tau, one, [], zero)], (e, [2 * mp.expm1(h)], (mp.sqrt(total), mp.mpf(0)))
        if name.startswith("ddpm"):
            sigma2 = lambda t: -mp.expm1(-2 * t)  # noqa: E731
            beta = -mp.expm1(-2 * h)
            squared = {
                "ddpm": total,
                "ddpm_beta": beta,
                "ddpm_posterior": beta * sigma2(tau - h) / sigma2(tau),
            }[name]
            return [(tau, one, [], zero)], (e, [sinh2], (mp.sqrt(squared), mp.mpf(0)))
        if name == "srk":
            variance = 2 * (mp.expm1(2 * h) / 2 - 2 * mp.expm1(h) + h) / mp.expm1(h) ** 2
            g, w = split(variance, mp.expm1(h), total)
            return [(tau, one, [], g)], (e, [2 * mp.expm1(h)], w)
        variance = (mp.sinh(2 * h) - 2 * h) / (2 * mp.sinh(h) ** 2)
        covariance = (mp.expm1(2 * h) / 2 - h) / mp.sinh(h)
        g, w = split(variance, covariance, total)
        if name == "srk_martingale":
            return [(tau, one, [], g)], (e, [sinh2], w)
        z = (1 + mp.sqrt(1 + 4 * variance)) / 2  # e^{2θh}
        advance = mp.log(z) / 2
        g = tuple(x * mp.exp(-advance) for x in g)
        stages = [(tau, one, [], zero), (tau - advance, mp.exp(advance), [2 * mp.sinh(advance)], g)]
        return stages, (e, [mp.mpf(0), sinh2 * mp.exp(advance)], w)

    return rows


def law_p_value(density, ends, mass=1e-8):
    """p-value of Kolmogorov and Smirnov's test of ``ends`` (n,) against a density on a grid, whose mass is checked."""
    step = density.points[1] - density.points[0]
    heights = np.cumsum(density.value) * step - 0.5 * density.value * step
    assert heights[-1] == pytest.approx(1.0, abs=mass)
    return stats.kstest(ends, lambda x: np.interp(x, density.points, heights)).pvalue

"""Samplers in mpmath, one step each, as their papers print them: what the tableaus' coefficients are compared with."""

from __future__ import annotations

from functools import cache

import mpmath as mp
import numpy as np


def alpha(t):
    return mp.exp(-t)


def sigma(t):
    return mp.sqrt(-mp.expm1(-2 * t))


def level(t):
    """Half the log-SNR."""
    return mp.log(alpha(t) / sigma(t))


def time_at(snr):
    return mp.log1p(mp.exp(-2 * snr)) / 2


class Step:
    """Step k of a run: a published formula asks it for scores and noises and returns Y'."""

    def __init__(self, times, k, y, scores, xi, past):
        self.times, self.k, self.y, self.scores, self.xi, self.past = times, k, y, scores, xi, past
        self.s, self.t = times[k], times[k + 1]
        self.stages = {}

    def score(self, point, time, stage=0):
        self.stages[stage] = (time, point)
        return self.scores[stage]

    def denoiser(self, point, time, stage=0):
        return (point + sigma(time) ** 2 * self.score(point, time, stage)) / alpha(time)

    def past_denoiser(self, index, time):
        point, score = self.past[index]
        return (point + sigma(time) ** 2 * score) / alpha(time)


def coefficients(formula, tableau, k, **options):
    """Return {name: array} of step k as ``formula`` has it, by feeding unit vectors to a linear map."""
    times = [mp.mpf(float(t)) for t in tableau.times]
    stages, noises, memory = tableau.scores.shape[1], tableau.noise.shape[1], tableau.memory
    size = 1 + stages + noises + 2 * memory
    outputs, points, when = [], [], [None] * stages
    for column in range(size):
        unit = [mp.mpf(int(i == column)) for i in range(size)]
        scores, xi = unit[1 : 1 + stages], unit[1 + stages : 1 + stages + noises]
        rest = unit[1 + stages + noises :]
        step = Step(times, k, unit[0], scores, xi, list(zip(rest[:memory], rest[memory:], strict=True)))
        outputs.append(formula(step, **options))
        points.append([step.stages[i][1] if i in step.stages else mp.mpf(0) for i in range(stages)])
        for i, (time, _) in step.stages.items():
            when[i] = time
    table = np.array([[float(x) for x in row] for row in points]).reshape(size, stages).T
    output = np.array([float(x) for x in outputs])

    def split(row):
        cuts = np.cumsum([1, stages, noises, memory])
        return np.split(row, cuts, axis=-1)

    names = ("state", "scores", "noise", "past_points", "past_scores")
    result = dict(zip(names, split(output), strict=True))
    result |= {f"stage_{name}": part for name, part in zip(names, split(table), strict=True)}
    result["state"], result["stage_state"] = result["state"][0], result["stage_state"][:, 0]
    result["evaluated"] = np.array([time is not None for time in when])
    result["stage_times"] = np.array([np.nan if time is None else float(time) for time in when])
    return result


def check(formula, tableau, rtol=1e-13, **options):
    """Compare every coefficient of every step."""
    with mp.workdps(60):
        for k in range(tableau.steps):
            expected = coefficients(formula, tableau, k, **options)
            used = expected["evaluated"]
            np.testing.assert_array_equal(tableau.evaluated[k], used)
            for name, value in expected.items():
                if name == "evaluated":
                    continue
                got = getattr(tableau, name)[k]
                if name.startswith("stage_"):
                    got, value = got[used], value[used]
                np.testing.assert_allclose(got, value, rtol=rtol, atol=1e-300, err_msg=f"{name}, step {k}")


@cache
def _adams_integrals(places, start, stop, rate):
    """∫ e^{rate u} ℓ_j(u) du from start to stop, for Lagrange's basis at the places."""
    result = []
    for j, place in enumerate(places):

        def integrand(u, j=j, place=place):
            basis = mp.fprod((u - other) / (place - other) for i, other in enumerate(places) if i != j)
            return mp.exp(rate * u) * basis

        result.append(mp.quad(integrand, mp.linspace(start, stop, 3)))
    return result


def sa_solver(step, predictor, corrector=0, tau=1, final_correction=False, rescaled=False):
    """Xue et al. 2023, eq. (15) and (18), in PEC mode."""
    k, s, t, tau = step.k, step.s, step.t, mp.mpf(tau)
    length = level(t) - level(s)

    def weights(nodes):
        places = [level(time) for time in nodes]
        result = _adams_integrals(tuple(places), level(s), level(t), 1 + tau**2)
        if rescaled and len(nodes) == 2:  # as diffusers adds it, to the first value and off the second
            c = 1 + tau**2
            extra = mp.exp(c * level(t)) * (length**2 / 2 - (length * c - 1 + mp.exp(-c * length)) / c**2)
            extra /= places[0] - places[1]
            result = [result[0] + extra, result[1] - extra]
        return [(1 + tau**2) * sigma(t) * mp.exp(-(tau**2) * level(t)) * w for w in result]

    def move(nodes, values):
        linear = sigma(t) / sigma(s) * mp.exp(-(tau**2) * length) * step.y
        noise = sigma(t) * mp.sqrt(-mp.expm1(-2 * tau**2 * length)) * step.xi[0]
        return linear + noise + sum(w * d for w, d in zip(weights(nodes), values, strict=True))

    known = [step.times[k - j] for j in range(k + 1)]
    if not corrector:
        first = step.denoiser(step.y, s)
        values = [first] + [step.past_denoiser(j - 1, known[j]) for j in range(1, min(predictor, k + 1))]
        return move(known[: len(values)], values)
    reach = min(max(predictor, corrector - 1), k + 1)
    values = [step.denoiser(step.y, s)] if k == 0 else [step.past_denoiser(j, known[j]) for j in range(reach)]
    predicted = move(known[: min(predictor, k + 1)], values[:predictor])
    if k == len(step.times) - 2 and not final_correction:
        return predicted
    new = step.denoiser(predicted, t, 1)
    old = min(corrector - 1, k + 1)
    return move([t, *known[:old]], [new, *values[:old]])


PHI = {
    "ode": lambda x: x,
    "reverse": lambda x: x**2,
    "default": lambda x: x * (mp.exp(x ** (mp.mpf(3) / 10)) + 10),
    "power_1.5": lambda x: x**1.5,
    "power_2.5": lambda x: x**2.5,
}


@cache
def _er_integrals(noise_scale, then, now):
    phi, places = PHI[noise_scale], mp.linspace(then, now, 3)
    return mp.quad(lambda u: 1 / phi(u), places), mp.quad(lambda u: (u - now) / phi(u), places)


def er_sde(step, order, noise_scale):
    """Cui et al. 2023, VP form, in the ratio lam = σ/α and with φ as the original code writes it."""
    phi = PHI[noise_scale]
    k, s, t = step.k, step.s, step.t

    def lam(time):
        return sigma(time) / alpha(time)

    now, then = lam(s), lam(t)
    ratio = phi(then) / phi(now)
    d0 = step.denoiser(step.y, s)
    result = alpha(t) / alpha(s) * ratio * step.y + alpha(t) * (1 - ratio) * d0
    result += alpha(t) * mp.sqrt(mp.chop(then**2 - now**2 * ratio**2, then**2 * mp.mpf(10) ** -50)) * step.xi[0]
    if order > 1 and k > 0:
        before = lam(step.times[k - 1])
        d1 = step.past_denoiser(0, step.times[k - 1])
        slope = (d0 - d1) / (now - before)
        inverse, moment = _er_integrals(noise_scale, then, now)
        result += alpha(t) * (then - now + phi(then) * inverse) * slope
        if order > 2 and k > 1:
            earlier = lam(step.times[k - 2])
            former = (d1 - step.past_denoiser(1, step.times[k - 2])) / (before - earlier)
            bend = 2 * (slope - former) / (now - earlier)
            result += alpha(t) * ((then - now) ** 2 / 2 + phi(then) * moment) * bend
    return result


def _phi(j, z):
    """φ_1 = (e^z − 1)/z, φ_2 = (φ_1 − 1)/z."""
    first = mp.expm1(z) / z
    return first if j == 1 else (first - 1) / z


def seeds(step, stages, prediction, weights="phi_1"):
    """Gonzalez et al. 2023, algorithms 1 to 3, in noise (h > 0 in φ) or data form (−2h in φ)."""
    s, t, xi = step.s, step.t, step.xi
    start, h = level(s), level(t) - level(s)
    r1, r2 = (mp.mpf(1) / 2, None) if stages == 2 else (mp.mpf(1) / 3, mp.mpf(2) / 3)
    mid = [time_at(start + r * h) for r in (r1, r2) if r is not None]
    kinds = {"noise": lambda u, time, i: -sigma(time) * step.score(u, time, i), "data": step.denoiser}
    model = kinds[prediction]

    def linear(time):
        if prediction == "noise":
            return alpha(time) / alpha(s) * step.y
        return sigma(time) / sigma(s) * mp.exp(-(level(time) - start)) * step.y

    def force(fraction, time, j):  # coefficient of the model's value, φ_j
        if prediction == "noise":
            return -2 * sigma(time) * fraction * h * _phi(j, fraction * h)
        return 2 * alpha(time) * fraction * h * _phi(j, -2 * fraction * h)

    def noise(places):  # of the reverse SDE from s to each of the places, on one path
        gone, spread, values = mp.mpf(0), mp.mpf(0), []
        for n, (fraction, time) in enumerate(places):
            length = (fraction - gone) * h
            if prediction == "noise":  # e^{λ_t − λ} times what there was, relative to σ
                spread = spread * mp.exp(length) + mp.sqrt(mp.expm1(2 * length)) * xi[n]
            else:
                spread = spread * mp.exp(-length) + mp.sqrt(-mp.expm1(-2 * length)) * xi[n]
            values.append(sigma(time) * spread)
            gone = fraction
        return values

    m0 = model(step.y, s, 0)
    one = mp.mpf(1)
    if stages == 1:
        return linear(t) + force(one, t, 1) * m0 + noise([(one, t)])[0]
    if stages == 2:
        w1, w = noise([(r1, mid[0]), (one, t)])
        m1 = model(linear(mid[0]) + force(r1, mid[0], 1) * m0 + w1, mid[0], 1)
        if weights == "phi_1":
            return linear(t) + force(one, t, 1) * (m0 + (m1 - m0) / (2 * r1)) + w
        return linear(t) + force(one, t, 1) * m0 + force(one, t, 2) / r1 * (m1 - m0) + w
    w1, w2, w = noise([(r1, mid[0]), (r2, mid[1]), (one, t)])
    m1 = model(linear(mid[0]) + force(r1, mid[0], 1) * m0 + w1, mid[0], 1)
    m2 = model(linear(mid[1]) + force(r2, mid[1], 1) * m0 + force(r2, mid[1], 2) * r2 / r1 * (m1 - m0) + w2, mid[1], 2)
    return linear(t) + force(one, t, 1) * m0 + force(one, t, 2) / r2 * (m2 - m0) + w


def _ddpm_posterior(step, start, stop, d0, xi):
    h = level(stop) - level(start)
    return (
        sigma(stop) / sigma(start) * mp.exp(-h) * step.y
        + alpha(stop) * -mp.expm1(-2 * h) * d0
        + sigma(stop) * mp.sqrt(-mp.expm1(-2 * h)) * xi
    )


def dpmpp_3m_sde(step, bend=1):
    """As k-diffusion writes it (η = 1), in v = σ/α, where x/α has no factor α_t; ``bend`` multiplies the last term."""
    k, times = step.k, step.times
    h = level(step.t) - level(step.s)
    z = 2 * h
    d0 = step.denoiser(step.y, step.s)
    result = _ddpm_posterior(step, step.s, step.t, d0, step.xi[0])
    phi_2 = mp.expm1(-z) / z + 1
    phi_3 = phi_2 / z - mp.mpf(1) / 2
    if k > 0:
        r0 = (level(step.s) - level(times[k - 1])) / h
        d1 = step.past_denoiser(0, times[k - 1])
        slope = (d0 - d1) / r0
        if k > 1:
            r1 = (level(times[k - 1]) - level(times[k - 2])) / h
            other = (d1 - step.past_denoiser(1, times[k - 2])) / r1
            curve = (slope - other) / (r0 + r1)
            slope += (slope - other) * r0 / (r0 + r1)
            result -= bend * alpha(step.t) * phi_3 * curve
        result += alpha(step.t) * phi_2 * slope
    return result


def dpmpp_2s_sde(step, noise, variant, middle=None):
    """As k-diffusion and diffusers write it."""
    s, t = step.s, step.t
    h = level(t) - level(s)
    m = time_at(level(s) + h / 2) if middle is None else mp.mpf(float(middle[step.k]))
    r = (level(m) - level(s)) / h
    d0 = step.denoiser(step.y, s, 0)
    d1 = step.denoiser(_ddpm_posterior(step, s, m, d0, step.xi[0]), m, 1)
    v = [sigma(time) / alpha(time) for time in (s, m, t)]
    share = (v[0] - v[1]) / (v[0] - v[2]) if noise == "tree" else mp.mpf(0)
    xi = mp.sqrt(share) * step.xi[0] + mp.sqrt(1 - share) * step.xi[1]
    weight = -mp.expm1(-2 * h) / 2 if variant == "midpoint" else 1 + mp.expm1(-2 * h) / (2 * h)
    return _ddpm_posterior(step, s, t, d0, xi) + alpha(t) * weight * (d1 - d0) / r


def ddim(step, eta):
    """Song, Meng & Ermon 2020, eq. (12) and (16); their α is the square of this file's."""
    s, t = step.s, step.t
    before, after = alpha(s) ** 2, alpha(t) ** 2
    fresh = mp.mpf(eta) * mp.sqrt((1 - after) / (1 - before)) * mp.sqrt(1 - before / after)
    epsilon = -sigma(s) * step.score(step.y, s)
    clean = (step.y - mp.sqrt(1 - before) * epsilon) / mp.sqrt(before)
    return mp.sqrt(after) * clean + mp.sqrt(1 - after - fresh**2) * epsilon + fresh * step.xi[0]


def analytic_ddpm(step, variance):
    """Bao et al. 2022, eq. (2) and Theorem 1 with DDPM's λ_n; their Γ is E|s|²/d, of data of one variance here."""
    s, t = step.s, step.t
    before, after = sigma(s) ** 2, sigma(t) ** 2  # their β̄_n and β̄_{n−1}
    kept = alpha(s) ** 2 / alpha(t) ** 2  # α_n
    fresh = after / before * (1 - kept)  # λ_n²
    gamma = 1 / (alpha(s) ** 2 * mp.mpf(variance) + before)
    best = fresh + (mp.sqrt(before / kept) - mp.sqrt(after - fresh)) ** 2 * (1 - before * gamma)
    clean = (step.y + before * step.score(step.y, s)) / alpha(s)
    mean = alpha(t) * clean + mp.sqrt(after - fresh) * (step.y - alpha(s) * clean) / mp.sqrt(before)
    return mean + mp.sqrt(best) * step.xi[0]


def li_accelerated(step, final_noise):
    a = mp.exp(-2 * (step.s - step.t))
    half = mp.sqrt((1 - a) / 2)
    y = step.y + half * step.xi[0]
    inner = y + (1 - a) * step.score(y, step.s)
    if final_noise == "scaled":
        return (inner + half * step.xi[1]) / mp.sqrt(a)
    return inner / mp.sqrt(a) + half * step.xi[1]


def stochastic_heun(step):
    h = step.s - step.t
    increment = mp.sqrt(2) * mp.sqrt(h) * step.xi[0]
    first = step.y + 2 * step.score(step.y, step.s, 0)
    guess = step.y + h * first + increment
    second = guess + 2 * step.score(guess, step.t, 1)
    return step.y + h * (first + second) / 2 + increment


def edm_heun(step, churn, lowest=0, highest=mp.inf, noise_factor=1, stages=2):
    """Karras et al. 2022, algorithm 2, with a denoiser of x = e^t Y at noise level v."""
    now, then = (sigma(time) / alpha(time) for time in (step.s, step.t))
    gamma = min(mp.mpf(churn) / (len(step.times) - 1), mp.sqrt(2) - 1) if lowest <= now <= highest else mp.mpf(0)
    up = now + gamma * now

    def time_of(v):
        return mp.log1p(v**2) / 2

    def denoise(x, v, stage):
        return step.denoiser(alpha(time_of(v)) * x, time_of(v), stage)

    x = step.y / alpha(step.s) + mp.sqrt(up**2 - now**2) * noise_factor * step.xi[0]
    slope = (x - denoise(x, up, 0)) / up
    end = x + (then - up) * slope
    if stages == 2:
        other = (end - denoise(end, then, 1)) / then
        end = x + (then - up) * (slope + other) / 2
    return alpha(step.t) * end


def randomised_midpoint(step, quantile):
    h = step.s - step.t
    u = mp.mpf(quantile)
    first = step.score(step.y, step.s, 0)
    middle = mp.exp(u * h) * step.y + mp.expm1(u * h) * first
    return mp.exp(h) * step.y + h * mp.exp((1 - u) * h) * step.score(middle, step.s - u * h, 1)


def ddram(step, quantile, density):
    h = step.s - step.t
    q = mp.mpf(quantile)
    # The inverse of the distribution function (1 − e^{−uh})/(1 − e^{−h}).
    u = -mp.log1p(q * mp.expm1(-h)) / h if density == "exponential" else q
    noise = mp.sqrt(mp.expm1(2 * u * h)) * step.xi[0]
    first = step.score(step.y, step.s, 0)
    middle = mp.exp(u * h) * step.y + 2 * mp.expm1(u * h) * first + noise
    weight = 2 * mp.expm1(h) if density == "exponential" else 2 * h * mp.exp((1 - u) * h)
    rest = mp.exp((1 - u) * h) * noise + mp.sqrt(mp.expm1(2 * (1 - u) * h)) * step.xi[1]
    return mp.exp(h) * step.y + weight * step.score(middle, step.s - u * h, 1) + rest


@cache
def _basis_integral(nodes, j, stop, end):
    def basis(x):
        return mp.fprod((x - node) / (nodes[j] - node) for i, node in enumerate(nodes) if i != j)

    return mp.chop(mp.quad(basis, [stop, nodes[0]]), (nodes[0] - end) * mp.mpf(10) ** -40)


def higher_order(step, order, refinements):
    """Picard iterations of e^t Y = (e^t Y)_0 + ½ ∫ e^{3t} s dq on polynomials through the nodes, q = 1 − e^{−2t}."""
    q0, q1 = (-mp.expm1(-2 * time) for time in (step.s, step.t))
    q = [q0 + (q1 - q0) * mp.mpf(i) / order for i in range(order)]
    time = [step.s] + [-mp.log1p(-x) / 2 for x in q[1:]]

    def moved(stop, scores):
        start = mp.exp(step.s) * step.y
        return start + sum(
            mp.exp(3 * time[j]) * scores[j] / 2 * _basis_integral(tuple(q), j, stop, q1) for j in range(order)
        )

    scores = [step.score(step.y, step.s, 0)] * order
    stage = 0
    for _ in range(refinements if order > 1 else 0):
        points = [mp.exp(-time[i]) * moved(q[i], scores) for i in range(1, order)]
        scores = scores[:1]
        for i, point in enumerate(points, start=1):
            stage += 1
            scores.append(step.score(point, time[i], stage))
    return mp.exp(-step.t) * moved(q1, scores)


def li_jiao(step, cells, drawn, inner):
    """Li & Jiao 2024, eq. (11), in τ = 1 − e^{−2t}; ``cells`` and ``drawn`` are the ends τ̂ and the draws, as times."""
    first = step.k * inner // 2
    hat = {n: -mp.expm1(-2 * cells[first + n + 1]) for n in range(-1, inner + 1)}
    tau = [-mp.expm1(-2 * drawn[first + n]) for n in range(inner + 1)]

    def weighed(i):
        return scores[i] / (2 * (1 - tau[i]) ** mp.mpf(1.5))

    points, scores = [step.y], []
    for n in range(1, inner + 1):
        scores.append(step.score(points[-1], drawn[first + n - 1], n - 1))
        total = step.y / mp.sqrt(1 - tau[0]) + weighed(0) * (tau[0] - hat[0])
        total += sum(weighed(i) * (hat[i - 1] - hat[i]) for i in range(1, n))
        total += weighed(n - 1) * (hat[n - 1] - tau[n])
        points.append(mp.sqrt(1 - tau[n]) * total)
    after = -mp.expm1(-2 * drawn[first + inner // 2])
    scale = mp.sqrt((1 - after) / (1 - tau[-1]))
    return scale * points[-1] + mp.sqrt((after - tau[-1]) / (1 - tau[-1])) * step.xi[0]

import mpmath as mp
import numpy as np
import pytest

import srkverify as sv
from srkverify.targets.families import FAMILIES, product_mixture

MIXTURES = {
    # weights, means, variances
    "not centred": ([0.4, 0.6], [-1.5, 1.5], [0.25, 0.25]),
    "centred": ([0.5, 0.5], [-1.5, 1.5], [0.25, 0.25]),
    "of unit covariance": ([0.5, 0.5], [-(0.75**0.5), 0.75**0.5], [0.25, 0.25]),
    "three unequal": ([0.2, 0.5, 0.3], [-3.0, 0.0, 2.0], [0.05, 1.0, 0.3]),
    "with a point mass": ([0.5, 0.5], [-2.0, 1.0], [0.0, 0.5]),
    "nearly normal": ([1.0 - 1e-9, 1e-9], [0.0, 8.0], [1.0, 0.5]),
}


def mixture(name):
    weights, means, variances = MIXTURES[name]
    return sv.GaussianMixture(weights, np.array(means)[:, None], variances)


def law(name, time):
    """Weights, means and standard deviations at a time, in many digits."""
    weights, means, variances = ([mp.mpf(value) for value in part] for part in MIXTURES[name])
    decay = mp.exp(-mp.mpf(time))
    weights = [weight / sum(weights) for weight in weights]
    spread = [mp.sqrt(1 + decay**2 * (variance - 1)) for variance in variances]
    return list(zip(weights, [decay * mean for mean in means], spread, strict=True))


@pytest.mark.parametrize("time", [0.3, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("name", MIXTURES)
def test_kl_from_normal_to_its_last_digits(name, time):
    parts = 40 if time < 1.0 else 12  # of a unit: the trapezoidal rule is spectrally accurate
    with mp.workdps(60):
        components = law(name, time)
        exact = mp.mpf(0)
        for step in range(-16 * parts, 16 * parts + 1):
            y = mp.mpf(step) / parts
            ratio = sum(w * mp.exp((y * y - ((y - m) / s) ** 2) / 2) / s for w, m, s in components)
            exact += mp.npdf(y) * (ratio * mp.log(ratio) - ratio + 1) / parts
        found = sv.start_kl(mixture(name), time)
        miss = float(abs(found.value - exact))
    assert miss <= found.error
    assert miss < 1e-9 * float(exact)
    assert found.method == "quadrature"
    # A KL that hangs on digits that the target has not (its covariance is 1 up to rounding) is not known, and says so.
    assert (found.error < 1e-9 * found.value) == (name != "of unit covariance" or time < 12.0)


@pytest.mark.parametrize("time", [0.4, 1.5, 4.0, 7.0])
@pytest.mark.parametrize("name", ["not centred", "centred", "three unequal"])
def test_what_the_output_keeps_is_what_the_reverse_process_keeps(name, time):
    """Extended precision, another rule and densities instead of series: good to 1e-18 of each density ratio."""
    seen = 0.1
    weights, means, variances = (np.array(part, dtype=np.longdouble) for part in MIXTURES[name])

    root = np.sqrt(8 * np.arctan(np.longdouble(1)))  # √2π

    def density(points, at):
        decay = np.exp(-np.longdouble(at))
        spread = 1 + decay**2 * (variances - 1)
        return (np.exp(-((points[:, None] - decay * means) ** 2) / (2 * spread)) / (root * np.sqrt(spread))) @ weights

    y, x = (np.arange(-reach * 16, reach * 16 + 1, dtype=np.longdouble) / 16 for reach in (16, 12))
    ratio = np.exp(-(y**2) / 2) / root / density(y, time) - 1
    decay = np.exp(np.longdouble(seen) - np.longdouble(time))
    kernel = np.exp(-((y - decay * x[:, None]) ** 2) / (2 * (1 - decay**2))) / (root * np.sqrt(1 - decay**2))
    change = kernel @ ratio / 16
    exact = float((density(x, seen) * (change - np.log1p(change))).sum() / 16)
    found = sv.start_kl(mixture(name), time, seen_at=seen)
    assert found.value == pytest.approx(exact, rel=3e-6 if time > 5.0 else 1e-10)
    assert found.error < 1e-6 * found.value


@pytest.mark.parametrize("variance", [0.0, 0.25, 1.0 - 1e-9, 9.0])
@pytest.mark.parametrize("time", [1e-3, 0.5, 6.0, 15.0])
def test_gaussian_directions_in_closed_form(variance, time):
    mean, seen = 0.7, 0.3 * time
    with mp.workdps(60):
        decay, rho = mp.exp(-mp.mpf(time)), mp.exp(mp.mpf(seen) - mp.mpf(time))
        before, after = (1 + mp.exp(-2 * mp.mpf(t)) * (mp.mpf(variance) - 1) for t in (time, seen))
        # The output of the reverse process is Y = X_s's mean + c (Z − mean of X_T) + independent noise.
        c = rho * after / before
        shift, output = c * decay * mp.mpf(mean), after + c**2 * (1 - before)
        at_start = (before - 1 - mp.log(before) + (decay * mp.mpf(mean)) ** 2) / 2
        at_output = (after / output - 1 - mp.log(after / output) + shift**2 / output) / 2
        target = sv.GaussianMixture([1.0], [[mean]], variance)
        for found, exact in (
            (sv.start_kl(target, time), at_start),
            (sv.start_kl(target, time, seen_at=seen), at_output),
        ):
            assert float(abs(found.value - exact)) <= found.error
            assert found.error < 1e-12 * float(exact)
            assert found.method == "gaussian"


def test_small_centred_gaussians_keep_their_digits():
    target = sv.GaussianMixture([1.0], np.zeros((1, 3)), [[0.25, 1.0, 4.0]])
    for time in (8.0, 30.0, 100.0):
        expected = 0.25 * np.exp(-4.0 * time) * (0.75**2 + 3.0**2)
        assert sv.start_kl(target, time).value == pytest.approx(expected, rel=3.0 * np.exp(-2.0 * time) + 1e-13)


def test_a_gaussian_is_a_mixture_of_equal_components():
    """The two branches agree: a mixture whose components differ by nothing that matters, and the closed form."""
    nearly = sv.GaussianMixture([0.5, 0.5], [[0.3], [0.3 + 1e-9]], 0.25)
    single = sv.GaussianMixture([1.0], [[0.3]], 0.25)
    for time in (0.1, 1.0, 4.0):
        for seen in (None, 0.05):
            one, two = (sv.start_kl(each, time, seen_at=seen) for each in (nearly, single))
            assert one.method == "quadrature"
            assert one.value == pytest.approx(two.value, rel=1e-8)


def test_blocks_add_up_and_rotations_change_nothing():
    one = sv.start_kl(product_mixture(1), 2.0, seen_at=0.01)
    many = sv.start_kl(product_mixture(1000), 2.0, seen_at=0.01)
    assert many.value == pytest.approx(1000.0 * one.value, rel=1e-14)
    two = FAMILIES["two_point"].target(5)
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
    found = sv.start_kl(two, 2.0)
    assert sv.start_kl(two.rotated(rotation), 2.0).value == pytest.approx(found.value, rel=1e-12)
    assert found.method == "gaussian+quadrature"
    line = sv.GaussianMixture([0.5, 0.5], [[-1.5], [1.5]], 0.25)
    rest = sv.GaussianMixture([1.0], np.zeros((1, 4)), 0.25)
    assert found.value == pytest.approx(sv.start_kl(line, 2.0).value + sv.start_kl(rest, 2.0).value, rel=1e-12)


@pytest.mark.parametrize("name", ["product_mixture", "two_point", "gaussian_decaying", "rough"])
def test_it_falls_with_the_horizon_and_on_the_way_to_the_output(name):
    target = FAMILIES[name].target(3)
    times = [0.2, 0.5, 1.0, 2.0, 4.0, 8.0]
    at_start = [sv.start_kl(target, time).value for time in times]
    at_output = [sv.start_kl(target, time, seen_at=0.01).value for time in times]
    assert all(np.diff(at_start) < 0.0)
    assert all(np.diff(at_output) < 0.0)
    # Data processing: the output is made of the start.
    assert all(np.array(at_output) < np.array(at_start))
    assert sv.start_kl(target, 2.0, seen_at=2.0) == sv.start_kl(target, 2.0)


@pytest.mark.parametrize("name", ["not centred", "centred"])
def test_samplers_come_to_the_limit(name):
    """Without its discretisation error the best sampler has the KL of the reverse process: gaps fall as K^−2."""
    target, limit = mixture(name), sv.start_kl(mixture(name), 1.0, seen_at=0.01).value
    gaps = []
    for steps in (64, 128, 256):
        tableau = sv.schemes.srk_third_point(sv.schedules.exponential(1.0, 0.01, steps))
        gaps.append(sv.kl(target, tableau, start="normal").value / limit - 1.0)
    assert abs(gaps[-1]) < 1e-2
    assert gaps[0] / gaps[1] == pytest.approx(4.0, abs=0.4)
    assert gaps[1] / gaps[2] == pytest.approx(4.0, abs=0.4)


@pytest.mark.parametrize("far", [30.0, 1000.0])
def test_far_modes_neither_overflow_nor_vanish(far):
    target = sv.GaussianMixture([0.5, 0.5], [[-far], [far]], 0.25)
    found = sv.start_kl(target, 1.0)
    # Without overlap KL is that of a component, less the entropy of their weights.
    single = sv.start_kl(sv.GaussianMixture([1.0], [[far]], 0.25), 1.0).value
    assert found.value == pytest.approx(single - np.log(2.0), rel=1e-8)
    assert np.isfinite(sv.start_kl(target, 1.0, seen_at=0.01).value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gaussian", 1.0), "target must be a GaussianMixture or a Product; got str"),
        ((None, 0.0), "horizon must be a finite number and > 0; got 0.0"),
        ((None, 1.0, 0.0), "seen_at must be a finite number and > 0; got 0.0"),
        ((None, 1.0, 1.5), "seen_at must be <= horizon, 1; got 1.5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    target = mixture("centred") if arguments[0] is None else arguments[0]
    with pytest.raises(ValueError, match=message):
        sv.start_kl(target, *arguments[1:])


def test_a_target_that_does_not_split_is_refused():
    target = sv.GaussianMixture([0.2, 0.3, 0.5], [[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]], 0.25)
    with pytest.raises(ValueError, match="does not split into independent one-dimensional blocks"):
        sv.start_kl(target, 1.0)

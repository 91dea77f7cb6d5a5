"""The particle engine, step by step, against plain NumPy on the same noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import simulate

import srkverify as sv
from srkverify import brownian
from srkverify.engines import cpu_memory, rng
from srkverify.tableau import Row, assemble

TIMES = sv.schedules.exponential(6.0, 0.01, 12)
KINDS = ("equal", "isotropic", "diagonal", "low_rank", "full")


def mixture(kind, components=3, dimension=5, seed=0, spread=2.0):
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet(np.ones(components))
    means = spread * generator.normal(size=(components, dimension))
    variances = generator.uniform(0.1, 2.0, size=(components, dimension))
    if kind == "equal":
        return sv.GaussianMixture(weights, means, 0.25)
    if kind == "isotropic":
        return sv.GaussianMixture(weights, means, variances[:, 0])
    if kind == "diagonal":
        return sv.GaussianMixture(weights, means, variances)
    if kind == "low_rank":  # some components of a lower rank than others
        variances[:, dimension // 2 :] = 0.05
        variances[::2, :1] = 0.05
    bases = np.linalg.qr(generator.normal(size=(components, dimension, dimension)))[0]
    return sv.GaussianMixture(weights, means, (bases * variances[:, None, :]) @ bases.swapaxes(1, 2))


def noise_of(tableau, particles, dimension, seed):
    """(K, M, n, d): the noises that the engine draws."""
    return np.array(
        [
            [rng.normals(seed, particles, dimension, k, m) for m in range(tableau.noise.shape[1])]
            for k in range(tableau.steps)
        ]
    ).reshape(tableau.steps, -1, particles, dimension)


def assert_is_the_reference(target, tableau, particles=21, seed=3, tolerance=1e-12):
    path = sv.sample(target, tableau, particles, seed, return_path=True)
    noise = noise_of(tableau, particles, target.dimension, seed)
    expected = simulate(tableau, target, path[0], noise)
    np.testing.assert_allclose(path, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", sv.schemes.SCHEMES)
def test_every_scheme_on_every_kind_of_mixture(scheme, kind):
    assert_is_the_reference(mixture(kind), sv.schemes.SCHEMES[scheme](TIMES))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("components", "dimension"), [(2, 1), (5, 4), (4, 17), (9, 2)])
def test_sizes_that_do_and_do_not_fill_tiles(kind, components, dimension):
    assert_is_the_reference(mixture(kind, components, dimension), sv.schemes.srk(TIMES), particles=9)


@pytest.mark.parametrize("scheme", ["ddpm", "srk"])
@pytest.mark.parametrize("dimension", [12, 64, 66, 140])
def test_noises_are_drawn_for_some_coordinates_at_a_time(scheme, dimension):
    assert_is_the_reference(mixture("diagonal", 2, dimension), sv.schemes.SCHEMES[scheme](TIMES), particles=9)


def test_components_of_weight_zero_are_left_out():
    target = sv.GaussianMixture([0.0, 0.3, 0.7, 0.0], np.arange(8.0).reshape(4, 2), [0.1, 0.2, 0.3, 0.4])
    assert_is_the_reference(target, sv.schemes.srk(TIMES))


def test_point_masses_far_apart():
    target = sv.GaussianMixture([0.5, 0.5], [[-1e3, 0.0, 0.0], [1e3, 1.0, 0.0]], 0.0)
    tableau = sv.schemes.srk_martingale(sv.schedules.exponential(10.0, 1e-6, 60))
    law = cpu_memory.make_law(target, tableau, np.float64)
    assert law.kind == cpu_memory.ISOTROPIC  # expanding |x − m|² would lose digits here
    path = sv.sample(target, tableau, 500, 1, return_path=True)
    expected = simulate(tableau, target, path[0], noise_of(tableau, 500, 3, 1))
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-7)  # relative 1e−10 of the largest coordinate
    ends = np.abs(path[-1][:, 0])
    assert np.abs(ends - 1e3).max() < 6.0 * np.sqrt(2e-6) + 1e-3 * np.sqrt(1e-6)


def test_expanded_squares_agree_with_differences():
    target, tableau = mixture("isotropic", 6, 7), sv.schemes.srk(TIMES)
    law = cpu_memory.make_law(target, tableau, np.float64)
    assert law.kind == cpu_memory.EXPANDED
    assert (
        cpu_memory.make_law(mixture("isotropic", 6, 7, spread=400.0), tableau, np.float64).kind == cpu_memory.ISOTROPIC
    )


@pytest.mark.parametrize(
    ("variances", "rank"),
    [
        ([0.1, 0.1, 0.1, 0.1, 0.3, 2.0], 2),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 0),
        ([0.1, 0.1, 0.1, 0.2, 0.3, 2.0], 3),
        ([0.1, 0.1, 0.2, 0.2, 0.3, 2.0], None),  # too many directions of their own
        ([0.1, 0.1, 0.1, 0.1 + 1e-13, 0.3, 2.0], 3),  # a gap above rounding
        ([1e-7, 1e-7, 1e-7, 1e-7, 0.3, 2e4], None),  # rounding of the isotropic part would be seen
    ],
)
def test_common_variances_are_recognised(variances, rank):
    bases = np.linalg.qr(np.random.default_rng(4).normal(size=(2, 6, 6)))[0]
    target = sv.GaussianMixture([0.5, 0.5], np.eye(2, 6), (bases * variances) @ bases.swapaxes(1, 2))
    law = cpu_memory.make_law(target, sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 12)), np.float64)
    assert (law.kind, law.rank) == ((cpu_memory.FULL, 6) if rank is None else (cpu_memory.LOW_RANK, rank))
    assert_is_the_reference(target, sv.schemes.srk(TIMES), tolerance=1e-11)


entries = st.floats(-0.9, 0.9).map(lambda x: round(x, 3))


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(0, 3), st.integers(0, 2), st.sampled_from(["equal", "full"]))
def test_any_table(data, stages, noises, memory, kind):
    """Random coefficients, up to three stages and noises, two remembered evaluations, stages left out at random."""
    times = np.array([1.5, 1.0, 0.6, 0.3, 0.2])
    steps = len(times) - 1
    evaluated = np.array(data.draw(st.lists(st.booleans(), min_size=steps * stages, max_size=steps * stages)))
    evaluated = evaluated.reshape(steps, stages)
    made = np.concatenate([[0], np.cumsum(evaluated.sum(axis=1))])[:-1]

    def column(allowed):
        return np.where(allowed, data.draw(st.lists(entries, min_size=steps, max_size=steps)), 0.0)

    def row(count, stage):
        return Row(
            state=column(True),
            scores=[column(evaluated[:, j]) for j in range(count)],
            noise=[column(True) for _ in range(noises)],
            past_points=[column(made > p) for p in range(memory)],
            past_scores=[column(made > p) for p in range(memory)],
            time=times[:-1] - 0.05 * (stage or 0),
            evaluated=True if stage is None else evaluated[:, stage],
        )

    tableau = assemble("random", times, [row(i, i) for i in range(stages)], row(stages, None))
    assert_is_the_reference(mixture(kind, 2, 3), tableau, particles=5)


@pytest.mark.parametrize("dimension", [5, 70])
def test_coupled_noise_is_the_brownian_paths(dimension):
    target, tableau = mixture("diagonal", dimension=dimension), sv.schemes.srk_martingale(TIMES)
    fine = sv.schedules.refined(TIMES, 3)
    path = sv.sample(target, tableau, 10, 4, return_path=True, path_times=fine)
    offsets, weights = brownian.noise_weights(tableau, fine)
    parts = np.array([[rng.normals(4, 10, dimension, s, b) for b in range(3)] for s in range(len(fine) - 1)])
    noise = np.array(
        [
            np.einsum("smb,sbnd->mnd", weights[offsets[k] : offsets[k + 1]], parts[offsets[k] : offsets[k + 1]])
            for k in range(tableau.steps)
        ]
    )
    np.testing.assert_allclose(path, simulate(tableau, target, path[0], noise), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["equal", "diagonal", "low_rank", "full"])
def test_start_is_a_component_and_its_normals(kind):
    """The components' frequencies within 4.5 standard errors: false alarm one in 5·10⁴."""
    target, count = mixture(kind), 20_000
    start = sv.sample(target, sv.schemes.ddpm(TIMES), count, 8, return_path=True)[0]
    z = rng.normals(8, count, 5, rng.START, rng.NORMAL)
    law = target.diffused(TIMES[0])
    gaps = start - law.means[:, None]
    if law.bases is not None:
        gaps = gaps @ law.bases
    mine = np.isclose(gaps / np.sqrt(law.variances)[:, None], z, rtol=0, atol=1e-9).all(axis=2)
    assert (mine.sum(axis=0) == 1).all()
    errors = np.sqrt(target.weights * (1.0 - target.weights) / count)
    assert (np.abs(mine.mean(axis=1) - target.weights) < 4.5 * errors).all()
    normal = sv.sample(target, sv.schemes.ddpm(TIMES), count, 8, start="normal", return_path=True)[0]
    np.testing.assert_array_equal(normal, z)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_follows_float64(kind):
    """The same random words: samples differ by rounding, which the steps do not amplify much."""
    target, tableau = mixture(kind), sv.schemes.srk(TIMES)
    double = sv.sample(target, tableau, 1000, 5)
    single = sv.sample(target, tableau, 1000, 5, dtype=np.float32)
    assert single.dtype == np.float32
    gaps = np.abs(double - single).max(axis=1)
    assert np.median(gaps) < 2e-6
    assert np.quantile(gaps, 0.99) < 1e-4


def test_zero_stage_noise_is_exponential_euler_and_ddpm_to_the_last_bit():
    target = mixture("isotropic")
    for noisy, plain in (("srk", "exponential_euler"), ("srk_martingale", "ddpm")):
        without = sv.schemes.SCHEMES[noisy](TIMES).without_stage_noise()
        expected = sv.sample(target, sv.schemes.SCHEMES[plain](TIMES), 200, 6)
        np.testing.assert_array_equal(sv.sample(target, without, 200, 6), expected)

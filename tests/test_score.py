"""``Score`` and the particles of samplers whose score is a function, against the compiled engine."""

import builtins
import types

import numpy as np
import pytest

import srkverify as sv
from srkverify.engines.posterior import Isotropic
from srkverify.score import PREDICTIONS, Score, to_score

TIMES = sv.schedules.exponential(6.0, 0.01, 12)
RNG = np.random.default_rng(0)
D = 7
BASES = np.linalg.qr(RNG.normal(size=(3, D, D)))[0]
MEANS = RNG.normal(size=(3, D))
FULL = (BASES * RNG.uniform(0.1, 1.0, (3, 1, D))) @ BASES.swapaxes(1, 2)
LAWS = {
    "isotropic": sv.GaussianMixture([0.2, 0.5, 0.3], MEANS, [0.1, 0.3, 0.2]),
    "diagonal": sv.GaussianMixture([0.2, 0.5, 0.3], MEANS, RNG.uniform(0.1, 1.0, (3, D))),
    "full": sv.GaussianMixture([0.2, 0.5, 0.3], MEANS, FULL),
}


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("scheme", sv.schemes.SCHEMES)
def test_particles_are_those_of_the_compiled_engine(kind, scheme):
    law, tableau = LAWS[kind], sv.schemes.SCHEMES[scheme](TIMES)
    score = Score(law.score, D, law=law, batch=17)
    whole = sv.sample(law, tableau, 50, seed=3)
    np.testing.assert_allclose(sv.sample(score, tableau, 50, seed=3, start="exact"), whole, rtol=0.0, atol=1e-10)
    part = sv.sample(score, tableau, 13, seed=3, start="exact", first_particle=30)
    np.testing.assert_allclose(part, whole[30:43], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_third_point_1"])
def test_paths_blocks_starts_types_and_coupled_noise(scheme):
    law, tableau = LAWS["isotropic"], sv.schemes.SCHEMES[scheme](TIMES)
    score = Score.from_law(law, batch=8)
    fine = sv.schedules.refined(TIMES, 3)
    for more in ({"start": "normal"}, {"path_times": fine, "start": "exact"}, {"return_path": True, "start": "exact"}):
        found, expected = (sv.sample(each, tableau, 20, 5, **more) for each in (score, law))
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-10)
    assert sv.sample(score, tableau, 20, 5).tolist() == sv.sample(score, tableau, 20, 5, start="normal").tolist()
    blocks = list(sv.sample_blocks(score, tableau, 20, 5, block=16))
    assert [len(block) for block in blocks] == [16, 4]
    np.testing.assert_allclose(np.concatenate(blocks), sv.sample(score, tableau, 20, 5), rtol=0.0, atol=1e-12)
    single = sv.sample(score, tableau, 20, 5, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, sv.sample(score, tableau, 20, 5).astype(np.float32))


def test_a_product_is_a_law_to_start_from():
    law = sv.Product([LAWS["isotropic"], sv.GaussianMixture([1.0], [[2.0]], 0.5)])
    tableau = sv.schemes.ddpm(TIMES)
    found = sv.sample(Score.from_law(law), tableau, 5, 1, start="exact", return_path=True)[0]
    np.testing.assert_allclose(found, sv.sample(law, tableau, 5, 1, return_path=True)[0], rtol=0.0, atol=1e-13)


def test_the_function_is_given_few_points_at_a_time():
    seen = []

    def function(points, time):
        seen.append((points.shape, points.dtype, type(time)))
        return -points

    sv.sample(Score(function, 3, batch=4), sv.schemes.ddpm([2.0, 1.0]), 10)
    assert seen == [((4, 3), np.float64, float), ((4, 3), np.float64, float), ((2, 3), np.float64, float)]
    assert Score(function, 3, batch=4)(np.zeros((0, 3)), 1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": 3.0}, "function must be callable with \\(points, time\\); got float"),
        ({"dimension": 0}, "dimension must be an integer >= 1; got 0"),
        ({"batch": 0}, "batch must be an integer >= 1; got 0"),
        ({"law": 1.0}, "law must be a GaussianMixture or a Product; got float"),
        ({"law": LAWS["full"]}, "law must have the score's dimension, 3; got 7"),
    ],
)
def test_wrong_attributes(arguments, message):
    with pytest.raises(ValueError, match=message):
        Score(**({"function": lambda x, t: -x, "dimension": 3} | arguments))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, t: -x[:, :2], "shape \\(5, 3\\); got \\(5, 2\\) at time 2"),
        (lambda x, t: -x[0], "shape \\(5, 3\\); got \\(3,\\)"),
        (lambda x, t: x * np.nan, "function of mine must return finite scores; got nan at time 2"),
        (lambda x, t: np.full(x.shape, 1e308), "finite; got infinity or NaN after step 1 of 3 of ddpm .* with mine"),
    ],
)
def test_what_a_function_may_not_return(function, message):
    score = Score(function, 3, name="mine")
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match=message):
        sv.sample(score, sv.schemes.ddpm([2.0, 1.0, 0.5, 0.1]), 5)


def test_what_sample_refuses_of_a_score():
    score, tableau = Score(lambda x, t: -x, 3), sv.schemes.ddpm(TIMES)
    with pytest.raises(ValueError, match=r"start must be 'normal' for a Score without a law.*say Score"):
        sv.sample(score, tableau, 5, start="exact")
    with pytest.raises(ValueError, match="start must be one of exact, normal"):
        sv.sample(score, tableau, 5, start="q")
    with pytest.raises(ValueError, match="threads must be left out for a Score"):
        sv.sample(score, tableau, 5, threads=2)
    with pytest.raises(ValueError, match="backend must be left out for a Score"):
        sv.sample(score, tableau, 5, backend="cuda")
    with pytest.raises(ValueError, match="target must be a GaussianMixture, a Product or a Score; got float"):
        sv.sample(1.0, tableau, 5)
    with pytest.raises(ValueError, match="points must have shape \\(n, 3\\); got \\(5,\\)"):
        score(np.zeros(5), 1.0)


def test_fast_scores_of_isotropic_mixtures():
    """Densities, scores and Jacobians by products of matrices are the mixture's own; one weight is zero."""
    means = RNG.normal(size=(40, 5)) + 3.0
    weights = RNG.dirichlet(np.ones(40))
    weights[3] = 0.0
    law = sv.GaussianMixture(weights / weights.sum(), means, RNG.uniform(0.001, 0.3, 40))
    fast, x = Isotropic(law), np.concatenate([law.sample(30, 0, 0.01), 10.0 * RNG.normal(size=(5, 5))])
    for time in (1e-3, 0.3, 3.0):
        with np.errstate(divide="ignore"):  # the zero weight's logarithm
            np.testing.assert_allclose(fast.log_density(x, time), law.log_density(x, time), rtol=1e-11, atol=1e-9)
            np.testing.assert_allclose(fast.score(x, time), law.score(x, time), rtol=1e-9, atol=1e-8)
            columns = [law.score_jvp(x, np.broadcast_to(unit, x.shape), time) for unit in np.eye(5)]
        jacobian = np.stack(columns, axis=2)
        scale = np.abs(jacobian).max()
        np.testing.assert_allclose(fast.jacobian(x, time), jacobian, rtol=0.0, atol=1e-9 * scale)


def test_jacobians_by_differences():
    law, x = LAWS["full"], LAWS["full"].sample(20, 0, 0.3)
    found = Score.from_law(law).jacobian_at(x, 0.3)
    columns = [law.score_jvp(x, np.broadcast_to(unit, x.shape), 0.3) for unit in np.eye(D)]
    np.testing.assert_allclose(found, np.stack(columns, axis=2), rtol=0.0, atol=1e-2 * np.abs(columns).max())


def predictions(points, time):
    """What an exact network predicts of each kind: by the posterior mean of x_0 of a mixture, not by its score."""
    law, alpha, variance = LAWS["isotropic"], np.exp(-time), 1.0 - np.exp(-2.0 * time)
    spread = law.variances[:, 0]
    total = alpha**2 * spread + variance
    off = ((points[:, None] - alpha * law.means) ** 2).sum(axis=2)
    share = law.weights * total ** (-0.5 * D) * np.exp(-0.5 * off / total)
    share /= share.sum(axis=1, keepdims=True)
    each = law.means + (alpha * spread / total)[:, None] * (points[:, None] - alpha * law.means)
    image = (share[:, :, None] * each).sum(axis=1)
    epsilon = (points - alpha * image) / np.sqrt(variance)
    return {"sample": image, "epsilon": epsilon, "v_prediction": alpha * epsilon - np.sqrt(variance) * image}


@pytest.mark.parametrize("time", [0.01, 0.5, 4.0])
def test_predictions_are_scores(time):
    law = LAWS["isotropic"]
    points = law.sample(20, 0, time)
    truth = law.score(points, time)
    for prediction, predicted in predictions(points, time).items():
        found = to_score(prediction, predicted, points, time)
        np.testing.assert_allclose(found, truth, rtol=0.0, atol=1e-9 * np.abs(truth).max(), err_msg=prediction)
    assert to_score("score", truth, points, time) is truth


def test_without_torch_a_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "torch":
            raise ImportError("no torch")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(RuntimeError, match="needs PyTorch, which is not installed: pip install 'srkverify\\[torch\\]'"):
        Score.from_torch(None, 3)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch, the extra 'torch'", exc_type=ImportError)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_modules_of_torch(torch, prediction):
    """A module that predicts exactly, images (1, 7, 1) in, in a box as diffusers has it, gives the exact score."""
    law, alphas = LAWS["isotropic"], np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
    asked = []

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x, step):
            assert x.shape[1:] == (1, 7, 1)
            assert step.shape == (len(x),)
            asked.append(float(step[0]))
            time = -0.5 * np.interp(float(step[0]), np.arange(1000), np.log(alphas))
            points = x.reshape(len(x), 7).detach().numpy()
            found = law.score(points, time) if prediction == "score" else predictions(points, time)[prediction]
            return types.SimpleNamespace(sample=self.scale * torch.tensor(found).reshape(x.shape))

    score = Score.from_torch(Module(), 7, prediction=prediction, alphas=alphas, shape=(1, 7, 1), law=law)
    for step in (3, 500.25, 999):
        time = float(-0.5 * np.interp(step, np.arange(1000), np.log(alphas)))
        points = law.sample(10, 0, time)
        truth = law.score(points, time)
        np.testing.assert_allclose(score(points, time), truth, rtol=0.0, atol=1e-8 * np.abs(truth).max())
        assert asked[-1] == pytest.approx(step, abs=1e-9)
    with pytest.raises(ValueError, match=r"time must be in \[5.*\], where alphas has e\^\(−2t\); got 7"):
        score(points, 7.0)


def test_a_plain_module_is_given_times_in_its_own_type(torch):
    module = torch.nn.Linear(3, 3)
    seen = []

    def call(x, time):
        seen.append((x.dtype, time.dtype, float(time[0]), torch.is_inference_mode_enabled()))
        return -x

    module.forward = call
    frozen = np.ones((2, 3))
    frozen.setflags(write=False)
    np.testing.assert_array_equal(Score.from_torch(module, 3)(frozen, 0.5), -frozen)
    np.testing.assert_array_equal(Score.from_torch(call, 3)(frozen, 0.5), -frozen)
    assert seen == [(torch.float32, torch.float32, 0.5, True), (torch.float64, torch.float64, 0.5, True)]
    with pytest.raises(ValueError, match="module must return shape \\(2, 3\\); got \\(3,\\)"):
        Score.from_torch(lambda x, time: x[0], 3)(frozen, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": "noise"}, "prediction must be one of score, epsilon, sample, v_prediction; got 'noise'"),
        ({"shape": (1, 2, 2)}, "shape must have the product 3, the dimension; got \\(1, 2, 2\\)"),
        ({"alphas": [0.5, 0.9]}, "alphas must decrease inside \\(0, 1\\)"),
    ],
)
def test_wrong_arguments_of_from_torch(torch, arguments, message):
    with pytest.raises(ValueError, match=message):
        Score.from_torch(lambda x, t: -x, 3, **arguments)

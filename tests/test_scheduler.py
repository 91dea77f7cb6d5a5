"""SRKScheduler: step by step against the plain reading of its tableau, in a real pipeline, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from reference import simulate

import srkverify as sv

reason = "needs diffusers and torch, the extra 'diffusers'"
torch = pytest.importorskip("torch", reason=reason, exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)

from srkverify.diffusers import SRKScheduler, available, scheduler  # noqa: E402

# How diffusers turns tensors into arrays is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAGE = Path(__file__).parents[1] / "docs" / "diffusers.md"
TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.5], [1.0, -0.3]], [[0.25, 0.5], [0.3, 0.1]])
STEPS, IMAGES = 12, 16


def made(scheme="srk_third_point_1", steps=STEPS, **options):
    new = SRKScheduler(scheme=scheme, **options)
    new.set_timesteps(steps)
    return new


def model(kind, x, time):
    """What a perfect model of a kind predicts at images ``x`` (n, 2, 1, 1)."""
    flat = x.double().numpy()[:, :, 0, 0]
    score = TARGET.score(flat, time=time)
    signal, variance = np.exp(-time), -np.expm1(-2 * time)
    epsilon, clean = -np.sqrt(variance) * score, (flat + variance * score) / signal
    output = {"epsilon": epsilon, "sample": clean, "v_prediction": signal * epsilon - np.sqrt(variance) * clean}[kind]
    return torch.tensor(output[:, :, None, None]).to(x.dtype)


def evaluation_times(new):
    """Forward times of the evaluations, from the definition: log ᾱ is linear between training steps."""
    betas = np.linspace(1e-4, 0.02, 1000)
    log = np.cumsum(np.log(1.0 - betas))
    exact = new.tableau.stage_times[new.tableau.evaluated]
    if new.config.set_alpha_to_one:
        exact = np.append(exact, new.tableau.times[-1])
    seen = -0.5 * np.interp(new.timesteps.double().numpy(), np.arange(1000), log)
    np.testing.assert_allclose(seen, exact, rtol=3e-5)  # timesteps are single precision
    return exact


def carried_out(monkeypatch, new, dtype=torch.float64, kind="epsilon", seed=0):
    """Return the images that the scheduler makes, with the exact score, and what the reference says of its tableau."""
    tableau = new.tableau
    rng = np.random.default_rng(seed)
    start = TARGET.sample(IMAGES, seed=seed, time=tableau.times[0]).astype(np.float32).astype(np.float64)
    noise = rng.normal(size=(tableau.steps, max(tableau.noise.shape[1], 1), *start.shape)).astype(np.float32)
    used = (tableau.noise != 0.0) | (tableau.stage_noise != 0.0).any(axis=1)
    waiting = iter([noise[k, m] for k in range(tableau.steps) for m in np.flatnonzero(used[k])])
    monkeypatch.setattr(
        scheduler, "randn_tensor", lambda shape, dtype, **_: torch.tensor(next(waiting)).reshape(shape).to(dtype)
    )
    x = torch.tensor(start[:, :, None, None]).to(dtype)
    for timestep, time in zip(new.timesteps, evaluation_times(new), strict=True):
        x = new.step(model(kind, x, time), timestep, x).prev_sample
        assert x.dtype == dtype
    assert next(waiting, None) is None
    expected = simulate(tableau, TARGET, start, noise.astype(np.float64))[-1]
    if new.config.set_alpha_to_one:
        time = tableau.times[-1]
        expected = np.exp(time) * (expected - np.expm1(-2 * time) * TARGET.score(expected, time=time))
    return x.double().numpy()[:, :, 0, 0], expected


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("scheme", available())
def test_every_scheme_is_carried_out_as_its_tableau_says(monkeypatch, scheme, to_one):
    found, expected = carried_out(monkeypatch, made(scheme, set_alpha_to_one=to_one))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("scheme", ["srk", "srk_third_point_1", "sa_p1c2"])
def test_all_kinds_of_prediction_give_the_same(monkeypatch, scheme, dtype, tolerance, kind):
    new = made(scheme, prediction_type=kind, set_alpha_to_one=False)
    found, expected = carried_out(monkeypatch, new, dtype, kind)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_half_precision_keeps_its_state_in_single_precision(monkeypatch):
    found, expected = carried_out(monkeypatch, made("srk_third_point_1"), torch.float16)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()  # 13 roundings of the model's inputs


def test_schemes_are_found_by_what_they_evaluate_first():
    assert {"srk", "srk_martingale", "srk_third_point_1", "ddpm", "exponential_euler", "dpmpp_2m_sde"} <= set(
        available()
    )
    assert {"sa_p2", "seeds_1", "seeds_3"} <= set(available())
    assert "edm_heun" not in available()  # raises the noise level before it evaluates


@pytest.mark.parametrize("name", available())
def test_every_scheme_runs_from_the_last_training_step(name):
    """There is so much noise that a scheme may do without an evaluation, but not without that at the state."""
    new = SRKScheduler(scheme=name, timestep_spacing="trailing")
    new.set_timesteps(10)
    assert new.tableau.times[0] > 4.7
    assert float(new.timesteps[0]) == 999.0


def test_only_the_first_evaluation_differs_from_the_scheme():
    for name in available():
        mine = made(name).tableau
        scheme = sv.schemes.SCHEMES[name](mine.times)
        np.testing.assert_array_equal(mine.stage_noise[1:], scheme.stage_noise[1:])
        np.testing.assert_array_equal(mine.noise, scheme.noise)
        first = np.flatnonzero(mine.evaluated[0])[0]
        assert not mine.stage_noise[0, first].any()
        assert (mine.stage_state[0, first], mine.stage_times[0, first]) == (1.0, mine.times[0])
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    new = made("srk", 50, timestep_spacing="linspace", set_alpha_to_one=False)
    mine, scheme = (sv.kl(target, each).value for each in (new.tableau, sv.schemes.srk(new.tableau.times)))
    assert mine == pytest.approx(scheme, rel=1e-3)  # measured: 8e-5
    assert mine != scheme


# The pipeline


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of tiny networks cost more than they do, on a busy machine many times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pipeline(new, size=8):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    made = diffusers.DDPMPipeline(unet, new)
    made.set_progress_bar_config(disable=True)
    return made


def drawn(pipe, generator, images=2, steps=6):
    return pipe(batch_size=images, num_inference_steps=steps, generator=generator, output_type="np").images


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_third_point_1", "seeds_3"])
def test_same_seed_same_image_and_a_list_of_generators_draws_each_image_alone(scheme):
    pipe = pipeline(SRKScheduler(scheme=scheme))
    both = drawn(pipe, seeded(1))
    np.testing.assert_array_equal(both, drawn(pipe, seeded(1)))
    assert np.abs(both - drawn(pipe, seeded(2))).max() > 0.01
    listed = drawn(pipe, [seeded(1), seeded(2)])
    alone = np.concatenate([drawn(pipe, [seeded(seed)], images=1) for seed in (1, 2)])
    np.testing.assert_allclose(listed, alone, rtol=0, atol=1e-5)  # the network's sums differ with the batch
    assert np.isfinite(both).all()


def test_a_pipeline_is_what_its_tableau_says():
    # The same run by hand: the network as a score, the pipeline's own noise in its order, the reference's arithmetic.
    new = SRKScheduler(scheme="srk", set_alpha_to_one=False)
    pipe = pipeline(new)
    images = drawn(pipe, seeded(3), steps=5)
    generator = seeded(3)
    start = torch.randn((2, 1, 8, 8), generator=generator)
    tableau = new.tableau
    used = (tableau.noise != 0.0) | (tableau.stage_noise != 0.0).any(axis=1)
    noise = np.zeros((tableau.steps, tableau.noise.shape[1], 2, 64))
    for k, m in np.argwhere(used):
        noise[k, m] = torch.randn((2, 1, 8, 8), generator=generator).reshape(2, 64).numpy()
    timesteps = iter(new.timesteps)

    class Network:
        def score(self, x, time):
            with torch.no_grad():
                image = torch.tensor(x, dtype=torch.float32).reshape(2, 1, 8, 8)
                epsilon = pipe.unet(image, next(timesteps)).sample.reshape(2, 64).double().numpy()
            return -epsilon / np.sqrt(-np.expm1(-2 * time))

    expected = simulate(tableau, Network(), start.reshape(2, 64).double().numpy(), noise)[-1]
    expected = np.clip(expected / 2 + 0.5, 0, 1).reshape(2, 8, 8, 1)
    np.testing.assert_allclose(images, expected, rtol=0, atol=2e-5)


def test_a_pipeline_is_saved_and_loaded_with_its_scheduler(tmp_path):
    pipe = pipeline(SRKScheduler(scheme="srk_martingale", beta_schedule="scaled_linear", steps_offset=1), size=16)
    images = drawn(pipe, seeded(0))
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())["scheme"] == "srk_martingale"
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.scheduler, SRKScheduler)
    np.testing.assert_array_equal(drawn(again, seeded(0)), images)
    alone = SRKScheduler.from_pretrained(tmp_path, subfolder="scheduler", scheme="srk")
    assert (alone.config.scheme, alone.config.beta_schedule) == ("srk", "scaled_linear")


def test_configurations_of_diffusers_schedulers_are_taken_over():
    old = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
    new = SRKScheduler.from_config(old.config, scheme="srk")
    assert (new.config.prediction_type, new.config.clip_sample, new.config.scheme) == ("v_prediction", False, "srk")
    np.testing.assert_allclose(new.alphas_cumprod, old.alphas_cumprod, rtol=2e-4, atol=1e-8)  # theirs: single precision
    back = diffusers.DDIMScheduler.from_config(new.config)
    assert back.config.beta_schedule == "squaredcos_cap_v2"
    betas = np.geomspace(1e-4, 0.03, 50)
    trained = SRKScheduler(num_train_timesteps=50, trained_betas=betas.tolist())
    np.testing.assert_allclose(trained.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-6)
    with pytest.raises(ValueError, match="thresholding must be False"):
        SRKScheduler.from_config(diffusers.DDPMScheduler(thresholding=True).config)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_noise_schedules_and_spacings_are_those_of_diffusers(schedule):
    for spacing in ("leading", "trailing", "linspace"):
        options = {"beta_schedule": schedule, "timestep_spacing": spacing}
        theirs, mine = diffusers.DDPMScheduler(**options), SRKScheduler(scheme="ddpm", **options)
        np.testing.assert_allclose(mine.alphas_cumprod, theirs.alphas_cumprod, rtol=2e-4, atol=1e-9)
        for steps in (7, 50, 1000):
            theirs.set_timesteps(steps)
            mine.set_timesteps(steps)
            np.testing.assert_array_equal(mine.timesteps, theirs.timesteps)
    images, noise = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    at = torch.tensor([0, 400, 999])
    for name in ("add_noise", "get_velocity"):
        found, expected = (getattr(each, name)(images, noise, at) for each in (mine, theirs))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    between = mine.add_noise(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([400.5]))
    ends = [float(mine.add_noise(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([at]))) for at in (400, 401)]
    assert float(between) == pytest.approx(np.prod(ends) ** 0.5, rel=1e-6)  # log ᾱ is linear


def test_its_ddpm_is_that_of_diffusers():
    theirs = diffusers.DDPMScheduler(clip_sample=False)
    images = [drawn(pipeline(each), seeded(0), steps=10) for each in (theirs, SRKScheduler(scheme="ddpm_posterior"))]
    np.testing.assert_allclose(*images, rtol=0, atol=1e-5)


# Runs that begin later, and images that change under way


@pytest.mark.parametrize("scheme", ["srk", "ddpm", "dpmpp_2m_sde", "seeds_2"])
def test_a_run_may_begin_at_a_later_grid_point(monkeypatch, scheme):
    new = made(scheme)
    begin = 4 * new.order
    timesteps, whole = new.timesteps.clone(), new.tableau
    new.set_begin_index(begin)
    monkeypatch.setattr(scheduler, "randn_tensor", lambda shape, dtype, **_: torch.zeros(shape, dtype=dtype))
    x = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    for timestep in timesteps[begin:]:
        x = new.step(0.1 * x, timestep, x).prev_sample
    assert new.step_index == len(timesteps)
    np.testing.assert_array_equal(new.tableau.times, whole.times[4:])
    np.testing.assert_array_equal(new.timesteps, timesteps)


def test_a_scheme_with_a_first_evaluation_of_its_own_begins_at_the_beginning():
    new = made("srk_third_point_1")
    new.set_begin_index(4)
    with pytest.raises(ValueError, match="begin_index must be that of an evaluation"):
        new.step(torch.zeros(1, 1, 2, 2), new.timesteps[4], torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="begin_index must be an integer >= 0"):
        new.set_begin_index(-1)


@pytest.mark.parametrize("scheme", ["ddpm", "srk", "srk_third_point"])
def test_what_a_pipeline_changes_on_the_way_changes_the_state(monkeypatch, scheme):
    monkeypatch.setattr(scheduler, "randn_tensor", lambda shape, dtype, **_: torch.ones(shape, dtype=dtype))

    def run(change):
        new, x = made(scheme), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        for index, timestep in enumerate(new.timesteps):
            if index == 6:
                x += change  # in place, as a mask would
            x = new.step(torch.zeros_like(x), timestep, x).prev_sample
        return float(x), new

    plain, new = run(0.0)
    moved, _ = run(1.0)
    # With a score of 0 what is left of it is the product of the states' factors; here from the evaluation's step on.
    step, stage = np.argwhere(new.tableau.evaluated)[6]
    factor = np.prod(new.tableau.state[step:]) / new.tableau.stage_state[step, stage] * np.exp(new.tableau.times[-1])
    assert moved - plain == pytest.approx(factor, rel=1e-12)


def test_clipping_bounds_the_predicted_image_and_is_no_tableau():
    new = made("srk", clip_sample=True, clip_sample_range=0.5)
    x = torch.full((1, 1, 2, 2), 3.0)
    out = new.step(torch.zeros_like(x), new.timesteps[0], x)
    assert float(out.pred_original_sample.abs().max()) == 0.5
    free = made("srk")
    assert float(free.step(torch.zeros_like(x), free.timesteps[0], x).pred_original_sample.max()) > 3.0


def test_learned_variances_are_left_aside():
    new, plain = made("ddpm_beta", variance_type="learned_range"), made("ddpm_beta")
    x, output = torch.randn(2, 1, 2, 2), torch.randn(2, 2, 2, 2)
    found = [
        each.step(given, each.timesteps[0], x, generator=seeded(0), return_dict=False)[0]
        for each, given in ((new, output), (plain, output[:, :1]))
    ]
    torch.testing.assert_close(*found, rtol=0, atol=0)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "srk_martingal"}, "scheme must be one of .* did you mean 'srk_martingale'"),
        ({"scheme": "edm_heun"}, "scheme must be one of"),
        ({"prediction_type": "eps"}, "prediction_type must be one of"),
        ({"timestep_spacing": "even"}, "timestep_spacing must be one of"),
        ({"beta_schedule": "cosine"}, "beta_schedule must be one of"),
        ({"beta_start": 0.0}, "beta_start must be a finite number and > 0"),
        ({"beta_end": 1.0}, "beta_end must be .* < 1"),
        ({"num_train_timesteps": 1}, "num_train_timesteps must be an integer >= 2"),
        ({"steps_offset": -1}, "steps_offset must be an integer >= 0"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas must be num_train_timesteps = 1000 numbers; got 2"),
        ({"trained_betas": [0.1, 1.2], "num_train_timesteps": 2}, "trained_betas must give betas strictly between"),
        ({"clip_sample_range": 0.0}, "clip_sample_range must be"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr must be False"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SRKScheduler(**options)


def test_bad_timesteps():
    new = SRKScheduler(scheme="srk")
    for given, message in (
        ({}, "num_inference_steps or timesteps must be given"),
        ({"num_inference_steps": 5, "timesteps": [3, 2]}, "and not both"),
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer >= 1"),
        ({"num_inference_steps": 1001}, "num_inference_steps must be an integer >= 1 and < 1001"),
        ({"num_inference_steps": 1}, "num_inference_steps must be >= 2"),
        ({"timesteps": [2, 3]}, "timesteps must decrease"),
        ({"timesteps": [1000, 3]}, "timesteps must decrease, from at most 999 to at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            new.set_timesteps(**given)
    with pytest.raises(ValueError, match="steps_offset must leave"):
        made(steps=1000, steps_offset=1)
    new.set_timesteps(timesteps=[900, 450.5, 0])
    np.testing.assert_array_equal(new.timesteps, [900.0, 450.5, 0.0])


def test_steps_out_of_order():
    new, x = SRKScheduler(scheme="srk"), torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="tableau must be asked for after set_timesteps"):
        new.step(x, 999, x)
    new.set_timesteps(4)
    for timestep in new.timesteps[:2]:
        new.step(x, timestep, x)
    with pytest.raises(ValueError, match=r"timestep must be 250, the one of index 2.* got 0"):
        new.step(x, new.timesteps[3], x)
    with pytest.raises(ValueError, match=r"model_output must have sample's shape \(1, 1, 2, 2\); got \(1, 2, 2, 2\)"):
        new.step(torch.zeros(1, 2, 2, 2), new.timesteps[2], x)
    for timestep in new.timesteps[2:]:
        new.step(x, timestep, x)
    with pytest.raises(ValueError, match="timestep must be one of a new run"):
        new.step(x, new.timesteps[3], x)
    new.set_timesteps(4)
    with pytest.raises(ValueError, match="timestep must be 750, the one of index 0"):
        new.step(x, 123, x)
    assert (len(new), new.init_noise_sigma, new.scale_model_input(x, 3) is x) == (1000, 1.0, True)


@pytest.mark.filterwarnings("ignore")  # of progress bars
def test_the_pages_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 3
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)

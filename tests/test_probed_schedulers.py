"""Tableaus read off diffusers' schedulers, against this package's own, and against the schedulers' runs."""

import copy

import numpy as np
import pytest
from reference import simulate

import srkverify as sv

reason = "needs diffusers and torch, the extra 'diffusers'"
torch = pytest.importorskip("torch", reason=reason, exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)

from srkverify.diffusers import _calls, tableau_of, times_of  # noqa: E402
from srkverify.schemes.dpm_solver import dpmpp_2m_sde  # noqa: E402
from srkverify.schemes.sa_solver import sa_solver  # noqa: E402

# How diffusers turns tensors into arrays is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

STEPS = 20
TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.5], [1.0, -0.3]], [[0.25, 0.5], [0.3, 0.1]])
LINE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)


def double(kind, **options):
    """A scheduler with linear β and timesteps set, its constants in double precision."""
    made = kind(num_train_timesteps=1000, beta_schedule="linear", **options)
    made.alphas_cumprod = torch.tensor(np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000)))
    if getattr(made, "final_alpha_cumprod", 1.0) != 1.0:
        made.final_alpha_cumprod = made.alphas_cumprod[0]
    made.set_timesteps(STEPS)
    if hasattr(made, "sigmas"):
        steps = np.append(made.timesteps.double().numpy(), 0.0)
        levels = np.sqrt((1.0 - made.alphas_cumprod.numpy()) / made.alphas_cumprod.numpy())
        made.sigmas = torch.tensor(np.interp(steps, np.arange(1000), levels))
    return made


def sde(order, **options):
    return {"algorithm_type": "sde-dpmsolver++", "solver_order": order, "final_sigmas_type": "sigma_min", **options}


def predicting(kind):
    return {"clip_sample": False, "prediction_type": kind}


# Scheduler, its options, options of its step, this package's scheme, tolerance: DPMSolverMultistep takes states in
# single precision, and SA-Solver's closed forms lose digits (its coefficients reach some hundreds in the last step).
TWINS = {
    "ddpm": ("DDPMScheduler", predicting("epsilon"), {}, lambda t: sv.schemes.ddpm(t, variance="posterior"), 1e-11),
    "ddpm_large": (
        "DDPMScheduler",
        {**predicting("v_prediction"), "variance_type": "fixed_large"},
        {},
        lambda t: sv.schemes.ddpm(t, variance="beta"),
        1e-11,
    ),
    "ddim": ("DDIMScheduler", predicting("sample"), {"eta": 1.0}, lambda t: sv.schemes.ddim(t, eta=1.0), 1e-11),
    "ddim_0.3": ("DDIMScheduler", predicting("epsilon"), {"eta": 0.3}, lambda t: sv.schemes.ddim(t, eta=0.3), 1e-11),
    "dpm_1": ("DPMSolverMultistepScheduler", sde(1), {}, lambda t: sa_solver(t, 1), 1e-6),
    "dpm_2": ("DPMSolverMultistepScheduler", sde(2), {}, dpmpp_2m_sde, 1e-6),
    "dpm_2_heun": (
        "DPMSolverMultistepScheduler",
        sde(2, solver_type="heun"),
        {},
        lambda t: dpmpp_2m_sde(t, "heun"),
        1e-6,
    ),
    "euler_ancestral": (
        "EulerAncestralDiscreteScheduler",
        {},
        {},
        lambda t: sv.schemes.ddpm(t, variance="posterior"),
        1e-6,
    ),
    **{
        f"sa_{p}{c}": (
            "SASolverScheduler",
            {"predictor_order": p, "corrector_order": c, "tau_func": lambda _: 1.0, "lower_order_final": False},
            {},
            lambda t, p=p, c=c: sa_solver(t, p, c, rescaled=True),
            1e-9,
        )
        for p, c in ((1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4))
    },
}


def probed(name):
    """Return a twin's scheduler, its tableau, and this package's."""
    kind, options, step, scheme, tolerance = TWINS[name]
    scheduler = double(getattr(diffusers, kind), **options)
    tableau = tableau_of(scheduler, **step)
    return scheduler, tableau, scheme(tableau.times), tolerance


def start_and_noise(tableau, target, particles=16, seed=0):
    start = target.sample(particles, seed=seed, time=tableau.times[0])
    return start, np.random.default_rng(seed).normal(size=(tableau.steps, max(tableau.noise.shape[1], 1), *start.shape))


@pytest.mark.parametrize("name", TWINS)
def test_probed_tableaus_are_those_of_the_package(name):
    _, tableau, expected, tolerance = probed(name)
    assert (tableau.steps, tableau.nfe) == (expected.steps, expected.nfe)
    for field in ("stage_times", "stage_state", "stage_scores", "state", "scores"):
        mine, theirs = getattr(tableau, field), getattr(expected, field)
        scale = np.maximum(1.0, np.abs(theirs))
        np.testing.assert_allclose((mine - theirs) / scale, 0.0, atol=tolerance, err_msg=field)
    for field in ("stage_noise", "noise", "stage_past_points", "stage_past_scores", "past_points", "past_scores"):
        mine, theirs = getattr(tableau, field), getattr(expected, field)
        width = max(mine.shape[-1], theirs.shape[-1])  # columns that are never used may be left out
        mine, theirs = (
            np.concatenate([each, np.zeros((*each.shape[:-1], width - each.shape[-1]))], axis=-1)
            for each in (mine, theirs)
        )
        scale = np.maximum(1.0, np.abs(theirs))
        np.testing.assert_allclose((mine - theirs) / scale, 0.0, atol=tolerance, err_msg=field)


@pytest.mark.parametrize("name", TWINS)
def test_runs_of_probed_tableaus_are_those_of_the_package(name):
    _, tableau, expected, tolerance = probed(name)
    start, noise = start_and_noise(expected, TARGET)
    found, twin = (simulate(each, TARGET, start, noise)[-1] for each in (tableau, expected))
    np.testing.assert_allclose(found, twin, rtol=0, atol=max(tolerance, 1e-12) * 10)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_1", "euler_ancestral"])
def test_their_exact_kl_is_that_of_the_package(name):
    _, tableau, expected, tolerance = probed(name)
    mine, theirs = (sv.kl(LINE, each, relative=1e-8) for each in (tableau, expected))
    assert mine.value == pytest.approx(theirs.value, rel=max(1e-7, 10 * tolerance), abs=mine.error + theirs.error)


OTHERS = {
    "lms": ("LMSDiscreteScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_3": ("UniPCMultistepScheduler", {"solver_order": 3, "final_sigmas_type": "sigma_min"}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "dpm_3": ("DPMSolverMultistepScheduler", sde(3)),
    "dpm_karras": ("DPMSolverMultistepScheduler", sde(2, use_karras_sigmas=True)),
    "singlestep": ("DPMSolverSinglestepScheduler", sde(2)),
    "sa_default": ("SASolverScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_with_a_nonlinear_score_is_what_the_probed_tableau_says(name):
    # Probing replaces points and scores by unit vectors; here the scheduler makes its own points, with exact scores.
    kind, options = OTHERS[name]
    scheduler = getattr(diffusers, kind)(**options)
    tableau = tableau_of(scheduler, STEPS)
    start, noise = start_and_noise(tableau, TARGET)
    seen = []

    class Watched:
        def score(self, u, time):
            seen.append(u)
            return TARGET.score(u, time=time)

    expected = simulate(tableau, Watched(), start, noise)[-1]
    scheduler.set_timesteps(STEPS)
    waiting = iter(noise[:, 0])
    x, path, times = start, [], times_of(scheduler)
    with _calls.noise_from(scheduler, lambda: next(waiting).ravel()):
        for timestep, time in zip(scheduler.timesteps, times, strict=False):
            level = np.sqrt(np.expm1(2 * time))
            scaled = scheduler.scale_model_input(torch.ones(1, 1), timestep)
            unit = 1.0 if float(scaled) == 1.0 else np.exp(time)  # of schedulers whose images explode
            path.append(x / unit if path else x)
            image = torch.tensor(x * unit if len(path) == 1 else x)
            epsilon = torch.tensor(-level * np.exp(-time) * TARGET.score(path[-1], time=time))
            if len(path) > tableau.steps:
                break  # the step that the table leaves out
            x = scheduler.step(epsilon, timestep, image).prev_sample.double().numpy()
        else:
            path.append(x / (unit if unit == 1.0 else np.exp(times[-1])))
    scale = max(1.0, np.abs(expected).max())
    last = min(len(path), tableau.nfe)
    np.testing.assert_allclose(np.array(path[:last]), np.array(seen[:last]), rtol=0, atol=2e-5 * scale)
    if name != "unipc":  # its last correction is made in the call that is left out
        np.testing.assert_allclose(path[tableau.steps], expected, rtol=0, atol=2e-5 * scale)


def test_the_scheduler_stays_as_it_is():
    scheduler = double(diffusers.SASolverScheduler)
    before = copy.deepcopy(scheduler.__dict__)
    tableau_of(scheduler)
    tableau_of(scheduler, 7)
    assert scheduler.__dict__.keys() == before.keys()
    assert (scheduler.last_sample, scheduler.step_index) == (None, None)
    np.testing.assert_array_equal(scheduler.timesteps, before["timesteps"])
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    assert module.randn_tensor is diffusers.utils.torch_utils.randn_tensor


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("DDPMScheduler", {}, "must be linear.*DDPMScheduler returned"),
        ("DDIMScheduler", {"clip_sample": False, "thresholding": True}, "must be linear.*DDIMScheduler returned"),
        ("HeunDiscreteScheduler", {}, "must go on to an earlier time in each call"),
        ("KDPM2AncestralDiscreteScheduler", {}, "must go on to an earlier time in each call"),
        ("PNDMScheduler", {}, "must go on to an earlier time in each call"),
        ("EulerDiscreteScheduler", {"prediction_type": "flow"}, "prediction_type of the scheduler must be one of"),
    ],
)
def test_what_is_no_tableau_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        tableau_of(getattr(diffusers, kind)(**options), 12)


def test_noise_of_its_own_is_refused():
    class Own(diffusers.DDPMScheduler):
        def step(self, model_output, timestep, sample, **options):
            found = super().step(model_output, timestep, sample, **options)
            found.prev_sample += torch.randn(found.prev_sample.shape, generator=torch.Generator().manual_seed(0))
            return found

    with pytest.raises(ValueError, match="must use one step's noise at a time, from randn_tensor"):
        tableau_of(Own(clip_sample=False), 12)


def test_steps_must_be_set_or_given():
    with pytest.raises(ValueError, match="steps must be given"):
        tableau_of(diffusers.DDIMScheduler(clip_sample=False))
    with pytest.raises(ValueError, match="steps must be an integer >= 2"):
        times_of(diffusers.DDIMScheduler(), 1)

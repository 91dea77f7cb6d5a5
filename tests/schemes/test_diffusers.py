"""Tableaus against the schedulers of diffusers, step by step: same score, same start, same noise.

The score is that of a mixture in two dimensions, exact. Schedulers compute in double precision if their constants are
set in it, except for the multistep one, which takes states in single precision, whatever it is given.
"""

import numpy as np
import pytest
from reference import simulate

import srkverify as sv
from srkverify.schemes.dpm_solver import dpmpp_2m_sde, dpmpp_2s_sde, dpmpp_3m_sde
from srkverify.schemes.heun import edm_heun
from srkverify.schemes.sa_solver import sa_solver

reason = "needs diffusers and torch, the extra 'diffusers'"
torch = pytest.importorskip("torch", reason=reason, exc_type=ImportError)
diffusers = pytest.importorskip("diffusers", reason=reason, exc_type=ImportError)

# How diffusers turns tensors into arrays is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.5], [1.0, -0.3]], [[0.25, 0.5], [0.3, 0.1]])
STEPS, PARTICLES = 12, 64


def schedule(kind, **options):
    """A scheduler with linear β, and its log-SNRs in double precision."""
    scheduler = kind(num_train_timesteps=1000, beta_schedule="linear", **options)
    betas = np.linspace(1e-4, 0.02, 1000)
    scheduler.alphas_cumprod = torch.tensor(np.cumprod(1.0 - betas))
    return scheduler


def times_of(scheduler, timesteps):
    """Forward times of training time steps: e^{−2t} is the cumulated α."""
    return -0.5 * np.log(scheduler.alphas_cumprod.numpy()[np.asarray(timesteps, dtype=int)])


def start_and_noise(tableau, seed=0):
    start = TARGET.sample(PARTICLES, seed=seed, time=tableau.times[0])
    return start, np.random.default_rng(seed).normal(size=(tableau.steps, max(tableau.noise.shape[1], 1), *start.shape))


class Given:
    """Takes the place of a scheduler's random numbers: returns what is given to it, in order."""

    def __init__(self, monkeypatch, kind, values):
        self.values = iter(values)
        module = __import__(kind.__module__, fromlist=["randn_tensor"])
        monkeypatch.setattr(module, "randn_tensor", self)

    def __call__(self, shape, generator=None, device=None, dtype=None, **_):
        return torch.tensor(next(self.values), dtype=dtype)


def run(scheduler, timesteps, times, start, **options):
    """Return all points that a scheduler makes of ``start``, when its model predicts the noise exactly."""
    x, path = torch.tensor(start), []
    for timestep, time in zip(timesteps, times, strict=False):
        epsilon = -np.sqrt(-np.expm1(-2 * time)) * TARGET.score(x.numpy(), time=time)
        x = scheduler.step(torch.tensor(epsilon), timestep, x, **options).prev_sample.double()
        path.append(x.numpy())
    return np.array(path)


def compare(monkeypatch, scheduler, tableau, timesteps, tolerance, **options):
    start, noise = start_and_noise(tableau)
    Given(monkeypatch, type(scheduler), noise[:, 0])
    path = run(scheduler, timesteps, tableau.times, start, **options)
    expected = simulate(tableau, TARGET, start, noise)[1:]
    np.testing.assert_allclose(path[: len(expected)], expected, rtol=0, atol=tolerance)
    return path


@pytest.mark.parametrize(("variance_type", "variance"), [("fixed_small", "posterior"), ("fixed_large", "beta")])
def test_ddpm(monkeypatch, variance_type, variance):
    scheduler = schedule(diffusers.DDPMScheduler, variance_type=variance_type, clip_sample=False)
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps[:-1]  # the last step ends at time 0, without noise
    tableau = sv.schemes.ddpm(times_of(scheduler, scheduler.timesteps), variance=variance)
    compare(monkeypatch, scheduler, tableau, timesteps, 1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(monkeypatch, eta):
    scheduler = schedule(diffusers.DDIMScheduler, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(STEPS)
    tableau = sv.schemes.ddim(times_of(scheduler, scheduler.timesteps), eta=eta)
    compare(monkeypatch, scheduler, tableau, scheduler.timesteps[:-1], 1e-12, eta=eta)


def double(scheduler):
    """Set a scheduler's time steps, its noise levels in double precision; return the forward times."""
    scheduler.set_timesteps(STEPS)
    times = times_of(scheduler, [*scheduler.timesteps.tolist(), 0])
    scheduler.sigmas = torch.tensor(np.sqrt(np.expm1(2 * times)))
    return times


def multistep(monkeypatch, scheme, **options):
    """Each step of the scheduler from the tableau's own states, and the tableau's; also the denoisers and times."""
    kind = diffusers.DPMSolverMultistepScheduler
    fixed = {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "sigma_min", "lower_order_final": False}
    scheduler = schedule(kind, **fixed, **options)
    times = double(scheduler)
    tableau = scheme(times)
    start, noise = start_and_noise(tableau)
    path = simulate(tableau, TARGET, start, noise)
    Given(monkeypatch, kind, noise[:, 0])
    made, denoisers = [], []
    for k, (timestep, time) in enumerate(zip(scheduler.timesteps, times, strict=False)):
        score = TARGET.score(path[k], time=time)
        epsilon = torch.tensor(-np.sqrt(-np.expm1(-2 * time)) * score)
        made.append(scheduler.step(epsilon, timestep, torch.tensor(path[k])).prev_sample.double().numpy())
        denoisers.append(np.exp(time) * path[k] + 2 * np.sinh(time) * score)
    return np.array(made), path[1:], denoisers, times


@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        ({"solver_order": 1}, lambda times: sa_solver(times, 1)),
        ({"solver_order": 2, "solver_type": "midpoint"}, dpmpp_2m_sde),
        ({"solver_order": 2, "solver_type": "heun"}, lambda times: dpmpp_2m_sde(times, "heun")),
    ],
)
def test_dpm_solver_multistep(monkeypatch, options, scheme):
    made, expected, _, _ = multistep(monkeypatch, scheme, **options)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)


def test_dpm_solver_multistep_of_order_3_has_the_wrong_sign_of_one_half(monkeypatch):
    # Its weight of D² is (1 − e^{−z} − z)/z² − ½ (diffusers 0.42.1, SDE form), where k-diffusion and its own ODE form
    # with z = 2ℓ for ℓ have + ½; it does not vanish with the step.
    made, expected, d, times = multistep(monkeypatch, dpmpp_3m_sde, solver_order=3, solver_type="heun")
    np.testing.assert_allclose(made[:2], expected[:2], rtol=0, atol=1e-6)
    level = sv.schedules.half_log_snr(times)
    for k in range(2, STEPS):
        h, r0, r1 = level[k + 1] - level[k], level[k] - level[k - 1], level[k - 1] - level[k - 2]
        slopes = (d[k] - d[k - 1]) * h / r0, (d[k - 1] - d[k - 2]) * h / r1
        curve = (slopes[0] - slopes[1]) * h / (r0 + r1)
        np.testing.assert_allclose(made[k] + np.exp(-times[k + 1]) * curve, expected[k], rtol=0, atol=2e-6)


@pytest.mark.parametrize("variant", ["midpoint", "heun"])
def test_dpm_solver_singlestep(monkeypatch, variant):
    kind = diffusers.DPMSolverSinglestepScheduler
    scheduler = schedule(
        kind, algorithm_type="sde-dpmsolver++", solver_order=2, solver_type=variant, final_sigmas_type="sigma_min"
    )
    times = double(scheduler)
    assert scheduler.order_list == [1, 2] * (STEPS // 2)
    tableau = dpmpp_2s_sde(times[::2], "independent", variant, middle=times[1::2])
    start, noise = start_and_noise(tableau)
    Given(monkeypatch, kind, noise.reshape(-1, *start.shape))
    path = run(scheduler, scheduler.timesteps, times, start)
    np.testing.assert_allclose(path[1::2], simulate(tableau, TARGET, start, noise)[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("predictor", "corrector"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4)])
def test_sa_solver(monkeypatch, predictor, corrector, tau):
    scheduler = schedule(
        diffusers.SASolverScheduler,
        predictor_order=predictor,
        corrector_order=corrector,
        tau_func=lambda time: tau,
        lower_order_final=False,
    )
    times = double(scheduler)
    tableau = sa_solver(times, predictor, corrector, tau, rescaled=True)
    start, noise = start_and_noise(tableau)
    Given(monkeypatch, type(scheduler), noise[:, 0])
    # A scheduler returns predicted points, which are what the next step's scores are evaluated at.
    path = run(scheduler, scheduler.timesteps, times, start)
    points = predicted_points(tableau, start, noise)
    np.testing.assert_allclose(path, points, rtol=0, atol=1e-9)


def predicted_points(tableau, start, noise):
    """The points at which the stages at the steps' ends are evaluated, and the output."""
    seen = []

    class Watched:
        def score(self, u, time):
            seen.append(u)
            return TARGET.score(u, time=time)

    path = simulate(tableau, Watched(), start, noise)
    return np.array([*seen[1:], path[-1]])


def test_heun_without_churn():
    # HeunDiscreteScheduler has no churn; EulerDiscreteScheduler's evaluates the model before it adds the noise.
    scheduler = schedule(diffusers.HeunDiscreteScheduler)
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas[:-1].double().numpy()[::2]  # each but the first occurs twice; the last, 0, is left out
    times = 0.5 * np.log1p(levels**2)
    tableau = edm_heun(times, churn=0.0)
    scheduler.sigmas = scheduler.sigmas.double()
    start, noise = start_and_noise(tableau)
    x = np.exp(times[0]) * start
    for k in range(tableau.steps):
        for timestep, time in ((2 * k, times[k]), (2 * k + 1, times[k + 1])):
            score = TARGET.score(np.exp(-time) * x, time=time)
            epsilon = torch.tensor(-np.sqrt(-np.expm1(-2 * time)) * score)
            x = scheduler.step(epsilon, scheduler.timesteps[timestep], torch.tensor(x)).prev_sample.double().numpy()
    expected = simulate(tableau, TARGET, start, noise)[-1]
    np.testing.assert_allclose(np.exp(-times[-1]) * x, expected, rtol=0, atol=1e-9)

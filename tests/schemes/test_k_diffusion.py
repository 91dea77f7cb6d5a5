"""Tableaus against k-diffusion's samplers: whole runs with the same exact score, start and noise, in doubles."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from reference import simulate

import srkverify as sv
from srkverify.schemes.dpm_solver import dpmpp_2m_sde, dpmpp_2s_sde, dpmpp_3m_sde
from srkverify.schemes.heun import edm_heun

torch = pytest.importorskip("torch", reason="needs torch", exc_type=ImportError)
PACKAGE = importlib.util.find_spec("k_diffusion")
if PACKAGE is None:
    pytest.skip("needs k-diffusion (its sampling.py alone: pip install --no-deps k-diffusion)", allow_module_level=True)

TARGET = sv.GaussianMixture([0.4, 0.6], [[-1.5, 0.5], [1.0, -0.3]], [[0.25, 0.5], [0.3, 0.1]])
TIMES = sv.schedules.exponential(3.0, 0.02, 10)
LEVELS = np.sqrt(np.expm1(2 * TIMES))  # v = σ/α
NOISE = np.random.default_rng(0).normal(size=(10, 2, 64, 2))


@pytest.fixture
def sampling(monkeypatch):
    """The file with the samplers; what else the package is made of, and wants, has no part in them."""
    utils = types.SimpleNamespace(append_dims=lambda x, count: x[(...,) + (None,) * (count - x.ndim)])
    for name, content in {"torchsde": {}, "torchdiffeq": {"odeint": None}, "_alone": {"utils": utils}}.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    path = Path(PACKAGE.submodule_search_locations[0]) / "sampling.py"
    spec = importlib.util.spec_from_file_location("_alone.sampling", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def denoiser(x, level, **_):
    time = 0.5 * np.log1p(float(level[0]) ** 2)
    y = np.exp(-time) * x.numpy()
    return torch.tensor(np.exp(time) * y + 2 * np.sinh(time) * TARGET.score(y, time=time))


def in_order(values):
    values = iter(values)
    return lambda *_: torch.tensor(next(values))


def compare(tableau, sampler, **options):
    start = TARGET.sample(64, seed=0, time=TIMES[0])
    end = sampler(denoiser, torch.tensor(np.exp(TIMES[0]) * start), torch.tensor(LEVELS), disable=True, **options)
    expected = simulate(tableau, TARGET, start, NOISE)[-1]
    np.testing.assert_allclose(np.exp(-TIMES[-1]) * end.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["midpoint", "heun"])
def test_dpmpp_2m_sde(sampling, variant):
    options = {"solver_type": variant, "noise_sampler": in_order(NOISE[:, 0])}
    compare(dpmpp_2m_sde(TIMES, variant), sampling.sample_dpmpp_2m_sde, **options)


def test_dpmpp_3m_sde(sampling):
    compare(dpmpp_3m_sde(TIMES), sampling.sample_dpmpp_3m_sde, noise_sampler=in_order(NOISE[:, 0]))


def test_dpmpp_2s_sde(sampling):
    # It asks a Brownian motion in v for its normalised increments, half-way and over the whole step.
    values = []
    for k in range(10):
        share = (LEVELS[k] - np.sqrt(LEVELS[k] * LEVELS[k + 1])) / (LEVELS[k] - LEVELS[k + 1])
        values += [NOISE[k, 0], np.sqrt(share) * NOISE[k, 0] + np.sqrt(1 - share) * NOISE[k, 1]]
    compare(dpmpp_2s_sde(TIMES), sampling.sample_dpmpp_sde, noise_sampler=in_order(values))


@pytest.mark.parametrize("churn", [0.0, 2.0, 40.0])
@pytest.mark.parametrize("stages", [1, 2])
def test_edm_with_churn(sampling, monkeypatch, stages, churn):
    monkeypatch.setattr(torch, "randn_like", in_order(NOISE[:, 0]))
    sampler = sampling.sample_heun if stages == 2 else sampling.sample_euler
    options = {"s_churn": churn, "s_tmin": 0.3, "s_tmax": 10.0, "s_noise": 1.003}
    compare(edm_heun(TIMES, churn, 0.3, 10.0, 1.003, stages), sampler, **options)

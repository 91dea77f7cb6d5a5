"""diffusers' own schedulers in the league: their code, asked for its coefficients on the league's grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from srkverify._check import Array
from srkverify.tableau import Tableau

INSTALL = "pip install 'srkverify[diffusers]'"


@dataclass(frozen=True)
class Scheduler:
    """A class of diffusers; all options that are not given are its own.

    ``calls_after`` is how many times it is called after the last step of the grid: DDPM and DDIM go on to ᾱ = 1.
    ``twin`` is the scheme of the package that it is, which says what a value costs.
    """

    kind: str
    twin: str
    calls_after: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)


def _always(_: Any) -> float:
    return 1.0  # SA-Solver's τ; by default it is 1 for training steps 200 to 800 and 0 elsewhere


SCHEDULERS: dict[str, Scheduler] = {
    "diffusers.DDPMScheduler": Scheduler("DDPMScheduler", "ddpm_posterior", 1, {"clip_sample": False}),
    "diffusers.DDIMScheduler(eta=1)": Scheduler("DDIMScheduler", "ddim", 1, {"clip_sample": False}, {"eta": 1.0}),
    "diffusers.DPMSolverMultistepScheduler(sde)": Scheduler(
        "DPMSolverMultistepScheduler",
        "dpmpp_2m_sde",
        options={"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "sigma_min"},
    ),
    "diffusers.SASolverScheduler": Scheduler("SASolverScheduler", "sa_p2c2", options={"tau_func": _always}),
}


def installed() -> bool:
    """Tell whether diffusers and torch are there; they are imported only where a scheduler is asked."""
    return edition() != ""


def edition() -> str:
    """Return the version of diffusers, empty if it or torch is not installed."""
    try:
        found, _ = (version(name) for name in ("diffusers", "torch"))
    except PackageNotFoundError:
        return ""
    return found


def tableau(name: str, times: Array) -> Tableau:
    """Return what a scheduler does on a grid whose K + 1 times are its training steps, ᾱ in double precision.

    Raises
    ------
    ImportError
        If diffusers or torch is not installed; the message says what to install.
    """
    from srkverify.diffusers import diffusers, tableau_of

    import torch  # isort: skip - the import above says what to install

    entry = SCHEDULERS[name]
    betas = -np.expm1(-2.0 * np.diff(times[::-1], prepend=0.0))
    scheduler = getattr(diffusers, entry.kind)(
        num_train_timesteps=len(times), trained_betas=betas.tolist(), **entry.options
    )
    scheduler.alphas_cumprod = torch.tensor(np.exp(-2.0 * times[::-1]))
    scheduler.set_timesteps(len(times) - 1 + entry.calls_after)
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = torch.tensor(np.sqrt(np.expm1(2.0 * times)))
    found = tableau_of(scheduler, name=name, **entry.step)
    if not np.allclose(found.times, times, rtol=1e-9, atol=0.0):
        raise ValueError(f"times must be those of the scheduler's steps; {name} has made others of them")
    return found

"""A small network that learns the score of images by denoising, on the processor, the same from run to run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from srkverify.score import Score
from srkverify.targets import GaussianMixture
from studies._images_data import digits
from studies._images_targets import empirical

BANDWIDTH = 0.1  # of the law of the images, in pixels' values: they are from −1 to 1, in steps of 1/8
HORIZON, EARLY_STOP = 5.0, 0.001
HELD_OUT = 297  # images that no network sees, of 1797
_FREQUENCIES, _RATE, _BATCH, _WARM = 16, 2e-3, 256, 50
_DECAY = 0.9, 0.999  # of Adam's moments
_PLACES = 2000  # of the table that times are drawn from


@dataclass(frozen=True, eq=False)
class Laws:
    """The law whose score a network learns, each image with N(0, BANDWIDTH²) around it, and that of other images."""

    trained: GaussianMixture
    held_out: GaussianMixture


@lru_cache(maxsize=1)
def laws() -> Laws:
    """Return the laws of scikit-learn's digits, 8×8: d = 64, 1500 images to learn from and 297 others."""
    images = digits()
    order = np.random.default_rng(0).permutation(len(images))
    return Laws(*(empirical(images[part], BANDWIDTH) for part in (order[HELD_OUT:], order[:HELD_OUT])))


def trained(law: GaussianMixture, steps: int, width: int, seed: int) -> Score:
    """Return the score that a network has learnt from the components of ``law`` in ``steps`` steps of Adam.

    The network is a perceptron with three hidden layers of ``width``. It predicts x_0 by way of what Karras et al.
    (arXiv 2206.00364) make of a denoiser. The loss is E ∫ |ŝ − s(x_t | x_0)|² dt, least where ŝ is the score of q_t and
    otherwise larger by ∫ E|ŝ − s|² dt, Girsanov's term: times are drawn where they count, stratified, and weighted.
    One thread, all randomness from ``seed``: the same on the same machine.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.tensor(law.means, dtype=torch.float32)
    mean, variance = images.mean(dim=0), float(images.var(dim=0).mean())
    network = _network(mean, variance, float(law.variances[0, 0]), width)
    places = torch.tensor(_times(variance, float(law.variances[0, 0])), dtype=torch.float32)
    moments = [(part, torch.zeros_like(part), torch.zeros_like(part)) for part in network.parameters()]
    for step in range(steps):
        share = (torch.arange(_BATCH) + torch.rand(_BATCH, generator=generator)) / _BATCH
        time = places[(share * _PLACES).long().clamp(max=_PLACES - 1)]
        alpha, spread = _moments(time, float(law.variances[0, 0]))
        noise = torch.randn(_BATCH, images.shape[1], generator=generator)
        chosen = torch.randint(len(images), (_BATCH,), generator=generator)
        score = network(alpha * images[chosen] + spread.sqrt() * noise, time)
        weight = (alpha**2 * variance + spread) / (alpha**2 * variance)
        loss = (weight * (spread.sqrt() * score + noise) ** 2).mean()
        network.zero_grad()
        loss.backward()
        rate = _RATE * min(1.0, (step + 1) / _WARM) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            _adam(moments, step + 1, rate)
    return Score.from_torch(network.eval(), law.dimension, law=law, name=f"a network after {steps} steps")


def _adam(moments: list[tuple[Any, Any, Any]], step: int, rate: float) -> None:
    """Do a step of Adam (Kingma & Ba, arXiv 1412.6980); PyTorch's own would load its compiler, and what that needs."""
    for part, first, second in moments:
        first.lerp_(part.grad, 1.0 - _DECAY[0])
        second.lerp_(part.grad**2, 1.0 - _DECAY[1])
        size = (second / (1.0 - _DECAY[1] ** step)).sqrt() + 1e-8
        part -= rate / (1.0 - _DECAY[0] ** step) * first / size


def _network(mean: Any, variance: float, least: float, width: int) -> Any:
    """Return the module (points, times) → scores; ``least`` is the variance of x_0 around its image."""
    import torch

    dimension = len(mean)
    frequencies = torch.exp(torch.linspace(math.log(0.5), math.log(16.0), _FREQUENCIES))
    layers: list[Any] = []
    for inputs, outputs in ((dimension + 2 * _FREQUENCIES, width), (width, width), (width, width)):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.SiLU()]

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(width, dimension))

        def forward(self, x: Any, time: Any) -> Any:
            alpha, spread = _moments(time, least)
            total = alpha**2 * variance + spread
            centred = x - alpha * mean
            angles = 0.5 * torch.log(spread) * frequencies
            found = self.layers(torch.cat([centred / total.sqrt(), torch.sin(angles), torch.cos(angles)], dim=1))
            image = mean + alpha * variance / total * centred + (spread * variance / total).sqrt() * found
            return (alpha * image - x) / spread

    return Network()


def _moments(time: Any, least: float) -> tuple[Any, Any]:
    """Return e^{−t} and the variance of x_t around e^{−t} times its image, (n, 1)."""
    import torch

    alpha = torch.exp(-time)[:, None]
    return alpha, 1.0 - (1.0 - least) * alpha**2


def _times(variance: float, least: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return quantiles of the law of times that makes the loss a plain mean, (_PLACES,)."""
    times = np.geomspace(EARLY_STOP, HORIZON, 8 * _PLACES)
    signal = np.exp(-2.0 * times) * variance
    spread = 1.0 - (1.0 - least) * np.exp(-2.0 * times)
    density = signal / ((signal + spread) * spread)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(times))])
    return np.interp((np.arange(_PLACES) + 0.5) / _PLACES, mass / mass[-1], times)

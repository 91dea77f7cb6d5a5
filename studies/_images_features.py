"""A fixed feature map of images: first-order wavelet scattering, with no weights to download."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from srkverify import _check
from srkverify._check import Array

ANGLES = 4
_CENTRE = 0.75 * np.pi  # frequency of the finest wavelet, in radians a pixel
_WIDTH = 0.8  # of its Gaussian window, in pixels


def scattering(images: Array, side: int, blocks: int, scales: int) -> Array:
    """Return averages over blocks of the images and of the moduli of their wavelet transforms (Bruna & Mallat 2013).

    Morlet wavelets ψ_{j,θ}, j = 0 … ``scales`` − 1, in four directions θ, at frequency 3π/4 · 2^{−j} with a Gaussian
    window of 0.8 · 2^j pixels and mean zero; convolutions are periodic; the moduli |x ⋆ ψ| are averaged over
    ``blocks`` × ``blocks`` squares. That is the scattering transform of order 1 with squares in place of its low-pass.

    Parameters
    ----------
    images : (n, side²)
    side, blocks : int
        ``blocks`` divides ``side``.
    scales : int
        At least 1.

    Returns
    -------
    (n, blocks² (1 + 4 scales))

    Raises
    ------
    ValueError
        If an argument has another shape or is out of its range.
    """
    side = _check.integer("side", side, at_least=2)
    blocks = _check.integer("blocks", blocks, at_least=1, below=side + 1)
    if side % blocks:
        raise ValueError(f"blocks must divide side = {side}; got {blocks}")
    points = _check.finite_array("images", images, dimensions=(2,))
    if points.shape[1] != side**2:
        raise ValueError(f"images must have {side**2} columns; got {points.shape[1]}")
    pictures = points.reshape(-1, side, side)
    transforms = np.fft.fft2(pictures)
    maps = [pictures, *(np.abs(np.fft.ifft2(transforms * wavelet)) for wavelet in wavelets(side, scales))]
    size = side // blocks
    averaged = [each.reshape(-1, blocks, size, blocks, size).mean(axis=(2, 4)) for each in maps]
    return np.stack(averaged, axis=1).reshape(len(points), -1)


@cache
def wavelets(side: int, scales: int) -> NDArray[np.complex128]:
    """Return the wavelets' Fourier transforms on a periodic grid, (4 scales, side, side), each 0 at frequency 0."""
    scales = _check.integer("scales", scales, at_least=1)
    frequency = 2.0 * np.pi * np.fft.fftfreq(side)
    down, across = np.meshgrid(frequency, frequency, indexing="ij")
    turns = 2.0 * np.pi * np.arange(-2, 3)
    found = []
    for scale in range(scales):
        width, centre = _WIDTH * 2.0**scale, _CENTRE / 2.0**scale
        for angle in np.pi * np.arange(ANGLES) / ANGLES:
            at = centre * np.cos(angle), centre * np.sin(angle)
            wave, window = (
                sum(
                    np.exp(-0.5 * width**2 * ((down + one - shift[0]) ** 2 + (across + two - shift[1]) ** 2))
                    for one in turns  # sampling in space makes the transform periodic
                    for two in turns
                )
                for shift in (at, (0.0, 0.0))
            )
            found.append(wave - wave[0, 0] / window[0, 0] * window)
    return np.stack(found).astype(np.complex128)

"""How the particle engine for CUDA is laid out: sizes of its kernels, and the tables they read.

Everything here is arithmetic on the host; nothing needs CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srkverify._check import Array
from srkverify.engines.cpu_memory import DIAGONAL, EXPANDED, FULL, ISOTROPIC, LOW_RANK, Law, Table
from srkverify.targets import GaussianMixture

WARP = 32
MOST_DIMENSION = 2048  # of a mixture; a product may have more
SHARED_BYTES = 48 << 10  # that every device gives a block
_MOST_COORDINATES = 8  # of a thread, if there are threads enough
_TILE_BYTES = 24 << 10  # of components in shared memory: for several blocks to fit
_TABLE_BYTES = 1 << 26  # of the logits' coefficients in one launch

Real = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Shape:
    """The constants of a kernel: see ``cuda_sampling_kernels``."""

    dtype: str
    kind: int
    equal: bool
    d: int
    threads: int
    components: int
    stages: int
    noises: int
    memory: int
    points: bool
    scores: bool
    coupled: bool
    tail: bool

    @property
    def padded(self) -> int:
        """Coordinates of a particle that its threads have between them."""
        return self.d * self.threads

    def constants(self) -> dict[str, Any]:
        """Return them by the names in the template."""
        return {
            "D": self.d,
            "P": self.threads,
            "T": self.components,
            "KIND": self.kind,
            "DIAGONAL": DIAGONAL,
            "EXPANDED": EXPANDED,
            "FULL": FULL,
            "ISOTROPIC": ISOTROPIC,
            "EQUAL": self.equal,
            "R": self.stages,
            "M": self.noises,
            "MEMORY": self.memory,
            "POINTS": self.points,
            "SCORES": self.scores,
            "COUPLED": self.coupled,
            "TAIL": self.tail,
            "LEVELS": self.threads.bit_length() - 1,
            "MINE": max(1, self.components // self.threads),
            "LOWEST": -float(np.finfo(self.dtype).max),
            "HUGE": float(np.finfo(self.dtype).max),
        }

    def shared(self, block: int, tile: int) -> int:
        """Bytes of shared memory of a block of threads with so many components in a tile."""
        size = np.dtype(self.dtype).itemsize
        noises = block * (self.d + 1)
        if self.kind == FULL:
            return (noises + 2 * block * self.d) * size
        return (noises + tile * self._component_numbers()) * size

    def _component_numbers(self) -> int:
        return self.padded * (2 if self.kind == DIAGONAL else 1) + 3

    def tile(self, components: int) -> int:
        """How many of the components are in shared memory at a time."""
        most = max(1, _TILE_BYTES // (self._component_numbers() * np.dtype(self.dtype).itemsize) // self.components)
        return min(components, most * self.components)


def make_shape(law: Law, table: Table, dtype: str) -> Shape:
    """Choose the sizes of a kernel.

    A thread has up to 8 coordinates, and more only if a warp has no more threads to share a particle: the rows of a
    tableau, the score, and T means of each coordinate then are in registers together with what a draw needs.
    """
    dimension = law.means.shape[1]
    stages, memory = table.past.shape[1] - 1, table.past.shape[2]
    single = dtype == "float32"
    threads = 1
    while threads < WARP and threads * _MOST_COORDINATES < dimension:
        threads *= 2
    d = -(-dimension // (4 * threads)) * 4
    shape = Shape(
        dtype=dtype,
        kind=FULL if law.kind == LOW_RANK else law.kind,
        equal=law.kind == EXPANDED and law.equal,
        d=d,
        threads=threads,
        components=1,
        stages=stages,
        noises=table.noises,
        memory=memory,
        points=bool(table.past[..., 0].any()),
        scores=bool(table.past[..., 1].any()),
        coupled=table.coupled,
        tail=d * threads != dimension,
    )
    held = d * (2 if law.kind == DIAGONAL else 1)  # numbers of a component that a thread has in registers
    together = (4 if single else 2) // (1 if held < 32 else 2)
    while together > 1 and shape.shared(WARP, together) > SHARED_BYTES:
        together //= 2
    return Shape(**{**shape.__dict__, "components": together})


def padded(array: Array, *shape: int) -> Array:
    """Return an array with zeros behind its entries on each axis."""
    result = np.zeros(shape)
    result[tuple(map(slice, array.shape))] = array
    return result


def law_arrays(law: Law, mixture: GaussianMixture, shape: Shape) -> dict[str, Any]:
    """Return what a kernel reads of a mixture, flat."""
    components, dimension = law.means.shape
    many = -(-components // shape.components) * shape.components
    bases = turned = np.zeros(1)
    if shape.kind == FULL:
        assert mixture.bases is not None
        many = components
        bases = padded(mixture.bases[mixture.weights > 0.0], components, shape.padded, shape.padded)
        turned = np.ascontiguousarray(np.swapaxes(bases, 1, 2))
    variances = np.broadcast_to(law.variances, (components, dimension))
    # A uniform number (n + ½)/2⁵² with an integer n is at least c where n is at least 2⁵² c − ½.
    levels = np.ceil(law.cumulative * 2.0**52 - 0.5).astype(np.int64)
    levels = np.concatenate([levels[:-1], np.full(many - components + 1, 2**62)])
    real = {
        "means": padded(law.turned_means, many, shape.padded),
        "variances": padded(variances, many, shape.padded),
        "bases": bases,
        "turned_bases": turned,
    }
    return {name: value.astype(shape.dtype).reshape(-1) for name, value in real.items()} | {"levels": levels}


def clock(times: Array) -> Array:
    """Return e^−t, e^−2t and 1 − e^−2t."""
    return np.stack([np.exp(-times), np.exp(-2.0 * times), -np.expm1(-2.0 * times)], axis=-1)


def table_rows(table: Table, dtype: str) -> Real:
    """Return the coefficients of all steps, a row for each: own, scores, past, and each stage's time."""
    steps = len(table.evaluated)
    times = np.concatenate([clock(table.stage_times), table.evaluated[:, :, None]], axis=2)
    parts = [table.own.astype(np.float64), table.scores, table.past, times]
    return np.concatenate([part.reshape(steps, -1) for part in parts], axis=1).astype(dtype)


def logit_rows(law: Law, table: Table, shape: Shape, begin: int, end: int) -> Real:
    """Return what logits of steps ``begin`` to ``end`` are made of, (steps, stages, 3, components).

    A logit is a·s + b with s the kernel's sum; the third number is what weights pull with.
    """
    components = len(law.means)
    many = -(-components // shape.components) * shape.components if shape.kind != FULL else components
    stages = table.evaluated.shape[1]
    constants = law.constants.reshape(len(table.made), stages, -1)[begin:end, :, :many].astype(np.float64)
    constants = np.concatenate([constants, np.full((*constants.shape[:2], many - constants.shape[2]), -1e30)], axis=2)
    slopes, pulls = np.full_like(constants, -0.5), np.ones_like(constants)
    if shape.kind in (EXPANDED, ISOTROPIC):
        shrink, spread, grown = np.moveaxis(clock(table.stage_times[begin:end]), -1, 0)[..., None]
        pulls[..., :components] = 1.0 / (spread * law.variances[:, 0] + grown)
        slopes = -0.5 * pulls
        if shape.kind == EXPANDED:
            slopes = shrink * pulls
            constants[..., :components] -= 0.5 * pulls[..., :components] * spread * law.norms
    return np.stack([slopes, constants, pulls], axis=2).astype(shape.dtype)


def steps_at_a_time(law: Law, table: Table, shape: Shape) -> int:
    """Return how many steps one launch is to take."""
    components = -(-len(law.means) // shape.components) * shape.components
    bytes_each = 3 * table.evaluated.shape[1] * components * np.dtype(shape.dtype).itemsize
    return int(np.clip(_TABLE_BYTES // bytes_each, 1, len(table.made)))

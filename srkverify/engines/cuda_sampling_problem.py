"""Mixtures and tableaus on a GPU, with the kernels that run them (:mod:`srkverify.engines.cuda_sampling`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from srkverify.engines import cuda_device, cuda_sampling_kernels
from srkverify.engines import cuda_sampling_plan as layout
from srkverify.engines.cpu_memory import Law, Table
from srkverify.engines.cuda_device import SIMULATED
from srkverify.engines.cuda_templates import specialised
from srkverify.targets import GaussianMixture

_BLOCKS = (64, 128, 256)  # threads of a block to choose from, beside a warp


@cache
def functions(dtype: str) -> dict[str, Any]:
    """Return what the templates call, for one type of particles."""
    return {
        "real": np.dtype(dtype).type,
        "numbers": cuda_device.kind(dtype),
        "draw": cuda_device.drawer(dtype),
        "weight": cuda_device.weight[dtype],
        "inverse": cuda_device.inverse[dtype],
        "load": cuda_device.load,
        "store": cuda_device.store,
    }


@cache
def run_steps_of(shape: layout.Shape) -> Callable[..., None]:
    """Return the kernel's function for one shape."""
    constants = shape.constants() | {"ALIGNMENT": None if SIMULATED else 16}
    return specialised(cuda_sampling_kernels.run_steps, constants, functions(shape.dtype))


@cache
def turn_of(dtype: str) -> Callable[..., None]:
    """Return the function of the kernel that multiplies by a matrix."""
    return specialised(cuda_sampling_kernels.turn, {}, functions(dtype))


def signature(dtype: str) -> tuple[Any, ...]:
    """Return the types of the arguments of ``run_steps``."""
    from numba.cuda import types

    reals, whole = getattr(types, dtype)[::1], types.int64
    arrays = (reals,) * 4 + (types.int64[::1],) + (reals,) * 3 + (types.int64[::1], reals)
    return (*arrays, *(whole,) * 10, types.boolean, types.boolean, reals, reals, whole, whole, types.int32[::1])


def turn_signature(dtype: str) -> tuple[Any, ...]:
    """Return the types of the arguments of ``turn``."""
    from numba.cuda import types

    reals = getattr(types, dtype)[::1]
    return (reals, reals, *(types.int64,) * 4, types.boolean, reals)


@cache
def kernel_of(shape: layout.Shape) -> Any:
    """Return the kernel that runs steps, compiled."""
    function = run_steps_of(shape)
    return cuda.jit(function) if SIMULATED else cuda.jit(signature(shape.dtype))(function)


@cache
def turn_kernel(dtype: str) -> Any:
    """Return the kernel that multiplies by a matrix."""
    return cuda.jit(turn_of(dtype))


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixture and a tableau as the kernel reads them, on the device; ``kept`` has the logits of the steps."""

    shape: layout.Shape
    law: Law
    table: Table
    arrays: dict[str, Any]
    steps: int
    block: int
    tile: int
    wave: int
    kept: dict[int, Any] = field(default_factory=dict)

    def logits(self, begin: int, end: int) -> Any:
        """Return the logits' coefficients of some steps; those of one launch are kept."""
        if begin not in self.kept:
            self.kept.clear()
            rows = layout.logit_rows(self.law, self.table, self.shape, begin, end).reshape(-1)
            self.kept[begin] = cuda.to_device(rows)
        return self.kept[begin]


def prepare(mixture: GaussianMixture, law: Law, table: Table, dtype: np.dtype[Any]) -> Problem:
    """Put a mixture and a tableau on the device.

    Raises
    ------
    ValueError
        If the mixture's dimension is above ``cuda_sampling_plan.MOST_DIMENSION``.
    """
    if law.means.shape[1] > layout.MOST_DIMENSION:
        raise ValueError(
            f"target must have mixtures of dimension <= {layout.MOST_DIMENSION} with backend 'cuda'; "
            f"got {law.means.shape[1]}"
        )
    shape = layout.make_shape(law, table, dtype.name)
    host = layout.law_arrays(law, mixture, shape) | {
        "start": layout.clock(table.times[0]).astype(dtype),
        "table": layout.table_rows(table, dtype.name).reshape(-1),
        "offsets": np.ascontiguousarray(table.offsets, np.int64),
        "weights": table.weights.astype(dtype).reshape(-1),
    }
    components = len(host["levels"])
    tile = shape.tile(components)
    block, blocks = _block(shape, tile)
    wave = blocks * (block // shape.threads)
    arrays = {name: cuda.to_device(value) for name, value in host.items()}
    return Problem(shape, law, table, arrays, layout.steps_at_a_time(law, table, shape), block, tile, wave)


def _block(shape: layout.Shape, tile: int) -> tuple[int, int]:
    """Return how many threads a block has and how many blocks the device works on at a time, for most warps."""
    if SIMULATED:
        return max(shape.threads, 4), 2
    (kernel,) = kernel_of(shape).overloads.values()
    found = [(0, 0, 0)]
    for block in (layout.WARP, *_BLOCKS):
        shared = shape.shared(block, tile)
        if shared <= layout.SHARED_BYTES:
            blocks = kernel.max_cooperative_grid_blocks(block, shared)
            found.append((block * blocks, block, blocks))
    _, block, blocks = max(found)
    if blocks == 0:
        raise MemoryError(f"backend 'cuda' needs {shape.shared(layout.WARP, tile)} bytes of shared memory for a block")
    return block, blocks

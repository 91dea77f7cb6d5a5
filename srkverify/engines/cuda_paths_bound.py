"""The path engine's functions, compiled for CUDA: the same code with other primitives.

The control code in ``paths_*`` is written over flat memory and calls what ``lanes``, ``panels``, ``rng`` and ``simd``
offer. Here each of its functions is taken as Python wrote it and given other globals, in which these modules are those
of one thread, which has one lane (``cuda_paths_lanes``, ``_panels``, ``_rng``). So there is one definition of how paths
are drawn and weighed.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from numba.core.dispatcher import Dispatcher

from srkverify.engines import (
    cuda_paths_lanes,
    cuda_paths_panels,
    cuda_paths_rng,
    lanes,
    panels,
    paths,
    paths_density,
    paths_directions,
    paths_frames,
    paths_memory,
    paths_mixtures,
    paths_proposal,
    paths_solve,
    paths_steps,
    paths_truth,
    rng,
    simd,
)

_MODULES = (
    paths,
    paths_density,
    paths_directions,
    paths_frames,
    paths_memory,
    paths_mixtures,
    paths_proposal,
    paths_solve,
    paths_steps,
    paths_truth,
)


def _replaced() -> dict[int, Any]:
    """Return what stands for the CPU's modules and primitives, by identity."""
    others = {lanes: cuda_paths_lanes, panels: cuda_paths_panels, rng: cuda_paths_rng}
    found: dict[int, Any] = {id(old): new for old, new in others.items()}
    for name in ("flat", "floats", "integers"):
        found[id(getattr(simd, name))] = getattr(cuda_paths_lanes, name)
    for name in ("own_lanes", "own_share", "anywhere", "together"):
        found[id(getattr(lanes, name))] = getattr(cuda_paths_lanes, name)
    return found


def _bind(modules: tuple[ModuleType, ...]) -> dict[str, Any]:
    """Return the modules' compiled functions, by ``module.name``, as device functions."""
    replaced, bound = _replaced(), {}
    spaces = {module.__name__: dict(vars(module)) for module in modules}
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
                code = FunctionType(value.py_func.__code__, spaces[module.__name__], name)
                make = cuda_paths_lanes.inlined if name == "view" else cuda_paths_lanes.device
                replaced[id(value)] = make(code)
                bound[f"{module.__name__.rpartition('.')[2]}.{name}"] = replaced[id(value)]
    for space in spaces.values():
        space.update({name: replaced[id(value)] for name, value in space.items() if id(value) in replaced})
    return bound


FUNCTIONS = _bind(_MODULES)

"""What the path engine's functions call, for CUDA: those of ``rng`` that it uses, on the thread's own lane."""

from __future__ import annotations

from typing import Any

import numpy as np

from srkverify.engines import cuda_device
from srkverify.engines import rng as _rng
from srkverify.engines.cuda_paths_lanes import device, own_lane

GROUP, LANES = _rng.GROUP, _rng.LANES

_draw = cuda_device.drawer("float64")


@device
def draw_group_apart(
    seed: Any, particle: Any, step: Any, stream: Any, group: Any, out: Any, at: Any, width: Any, spare: Any
) -> None:
    """Write standard normals of coordinates 4·group, … for the own particle of a vector to ``out[at:]``."""
    lane = own_lane()
    first, second, third, fourth = _draw(seed, particle + lane, step, stream, group)
    out[at + lane] = first
    out[at + LANES + lane] = second
    out[at + 2 * LANES + lane] = third
    out[at + 3 * LANES + lane] = fourth


@device
def draw_uniforms(seed: Any, particle: Any, step: Any, stream: Any, group: Any, spare: Any, out: Any, at: Any) -> None:
    """Write one uniform in (0, 1) of 52 bits for the own particle of a vector to ``out[at:]``."""
    lane = own_lane()
    high, low, _, _ = cuda_device.block(seed, particle + lane, step, stream, group, 0)
    out[at + lane] = ((np.int64(high) << 20) + (np.int64(low) >> 12) + 0.5) * 2.0**-52

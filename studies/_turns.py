"""Times of competitors that run in turns, and what is known of them."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from math import comb
from pathlib import Path
from typing import TypeVar

import numpy as np

from srkverify._check import Array

_CONFIDENCE = 0.95

Name = TypeVar("Name", bound=Hashable)


def in_turns(makers: Mapping[Name, Callable[[], Iterator[object]]], rounds: int, seed: int) -> dict[Name, Array]:
    """Return processor seconds (rounds,) of the first step of each iterator: once a round, in an order left to chance.

    What slows the machine down for a while slows all of them, so that the runs of a round are paired. Iterators are
    made anew each time, which is not counted: where in memory a run happens to lie can cost it two per cent, and has to
    vary from round to round if intervals are to know of it. One step of each, which may compile, goes before.
    """
    generator = np.random.default_rng(seed)
    names = list(makers)
    for make in makers.values():
        next(make())
    spent = {name: np.empty(rounds) for name in names}
    for turn in range(rounds):
        for index in generator.permutation(len(names)):
            run = makers[names[index]]()
            begin = time.process_time()
            next(run)
            spent[names[index]][turn] = time.process_time() - begin
    return spent


def median(values: Array) -> tuple[float, float, float]:
    """Return the median and the order statistics that hold the true one with a confidence of 95% or more.

    Of n independent draws of any continuous law, k or fewer are below its median with the binomial's probability.
    Fewer than six draws have no such interval; theirs is all that they span.
    """
    ordered, n = np.sort(values), len(values)
    left_out, missed = 0, 2.0 ** (1 - n)  # draws on each side, and the chance that the median is beyond the rest
    while missed + comb(n, left_out + 1) * 2.0 ** (1 - n) <= 1.0 - _CONFIDENCE:
        left_out += 1
        missed += comb(n, left_out) * 2.0 ** (1 - n)
    return float(np.median(ordered)), float(ordered[left_out]), float(ordered[n - 1 - left_out])


def machine() -> str:
    """Return the processor's name, for a time belongs to its machine."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()

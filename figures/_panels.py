"""What figures with a panel a family share: logarithmic axes, their limits, drawing again from a study's rows."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from figures import style

Row = dict[str, Any]
REFERENCE_LINE: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 0.9, "linestyle": (0, (4, 2))}
NOTE: dict[str, Any] = {"fontsize": 7.5, "color": "#555555"}


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return axis limits a little beyond the data, in logarithms."""
    low, high = min(values), max(values)
    margin = 1.6 if high > low else 3.0
    return low / margin, high * margin


def along(between: tuple[float, float], fraction: float) -> float:
    """Return the place at a fraction of the way between two limits, in logarithms."""
    return float(between[0] * (between[1] / between[0]) ** fraction)


def log_axes(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Make both axes logarithmic, with a tick a decade and a faint grid."""
    axes.set(xscale="log", yscale="log", xlim=across, ylim=up)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10.0, numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)


def draw_again(
    name: str, described: str | None, save: Callable[[Sequence[Row], Path], list[Path]], argv: list[str] | None
) -> int:
    """Draw a study's figures from the rows in a directory that it has written; returns the exit status."""
    command = argparse.ArgumentParser(prog=f"python -m figures.{name}", description=described)
    command.add_argument("directory", type=Path, help=f"directory with {name}.csv")
    directory = command.parse_args(argv).directory
    try:
        with open(directory / f"{name}.csv", encoding="utf-8", newline="") as file:
            written = save(list(csv.DictReader(file)), directory)
    except (OSError, ValueError, KeyError) as problem:
        command.exit(2, f"{command.prog}: error: {problem}\n")
    print("\n".join(map(str, written)))
    return 0

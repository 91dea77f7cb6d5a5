"""What figures with a panel a family share: logarithmic axes, their limits, drawing again from a study's rows."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from figures import style

Row = dict[str, Any]
Tables = dict[str, list[Row]]  # a study's tables, by file suffix
REFERENCE_LINE: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 0.9, "linestyle": (0, (4, 2))}
GRIDS = {"exponential": "exponential grid", "log_snr": "grid uniform in log-SNR"}
_WORDS: dict[str, Any] = {"": None, "True": True, "False": False}
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


def fan(axes: Axes, slopes: Sequence[int], across: tuple[float, float], up: float) -> None:
    """Draw reference slopes N^−p between two fractions of the way across, from a fraction of the way up."""
    begin, end = (along(axes.get_xlim(), fraction) for fraction in across)
    level = along(axes.get_ylim(), up)
    for slope in slopes:
        far = level * (end / begin) ** -slope
        axes.plot([begin, end], [level, far], **REFERENCE_LINE)
        axes.annotate(f"$N^{{-{slope}}}$", (end, far), xytext=(2, -1), textcoords="offset points", va="center", **NOTE)


def draw_again(
    name: str, described: str | None, draw: Callable[[Tables], dict[str, Figure]], argv: list[str] | None
) -> int:
    """Draw a study's figures from the tables in a directory that it has written; returns the exit status."""
    command = argparse.ArgumentParser(prog=f"python -m figures.{name}", description=described)
    command.add_argument("directory", type=Path, help=f"directory with {name}.csv")
    directory = command.parse_args(argv).directory
    try:
        with style.style():
            figures = draw(read_tables(directory, name))
            written = [path for stem, figure in figures.items() for path in style.save(figure, directory / stem)]
    except (OSError, ValueError, KeyError) as problem:
        command.exit(2, f"{command.prog}: error: {problem}\n")
    print("\n".join(map(str, written)))
    return 0


def read_tables(directory: Path, name: str) -> Tables:
    """Return the tables that a study has written as CSV, by file suffix, as the study had them: numbers, None, bool."""
    tables = {}
    for path in [directory / f"{name}.csv", *sorted(directory.glob(f"{name}_*.csv"))]:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]
        tables[path.stem.removeprefix(name)] = rows
    return tables


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text

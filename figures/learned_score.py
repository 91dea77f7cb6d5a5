"""Errors of learned scores by time, KL of paths with them, what they add to it, and samples, from the rows.

``python -m figures.learned_score DIR`` draws them again from DIR/learned_score.csv and the tables beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures import _panels, style
from figures._panels import NOTE, REFERENCE_LINE, Row, Tables, limits, log_axes

_INTERVAL = 1.96
_SHADES = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#000000")
_LOOKS = {  # of schemes that have none of their own
    "ddpm_posterior": style.Look("DDPM, posterior variance", "#000000", ">"),
    "seeds_2": style.Look("SEEDS-2, 2 evaluations", "#8a6d00", "h"),
    "dpmpp_3m_sde": style.Look("DPM-Solver++(3M) SDE", "#7a3b69", "*"),
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``learned_score_errors``, ``_kl``, ``_added`` and ``_samples``, those of them that there are rows for.

    Raises
    ------
    ValueError
        If there is no row that can be drawn.
    """
    rows = [row for row in tables.get("", []) if isfinite(row["kl"]) and row["kl"] > 0.0]
    learned = [row for row in rows if row["training"] and isfinite(row["ratio"])]
    figures = {}
    if tables.get("_errors"):
        figures["errors"] = _errors(tables["_errors"])
    if rows:
        figures["kl"] = _kl(rows)
    if learned:
        figures["added"] = _added(learned)
    if tables.get("_samples"):
        figures["samples"] = _samples(tables["_samples"])
    if not figures:
        raise ValueError("rows must hold at least one cell; got none")
    return {f"learned_score_{name}": figure for name, figure in figures.items()}


def _errors(rows: Sequence[Row]) -> Figure:
    """Draw what a unit of log time adds to Girsanov's term, t E|ŝ − s|²: areas are shares of it."""
    figure = Figure(figsize=(style.WIDTH, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    trained = sorted({row["training"] for row in rows})
    top = 0.0
    for axes, name, title in zip(panels, ("seen", "unseen"), ("images learned from", "other images"), strict=True):
        for place, training in enumerate(trained):
            own = sorted((row for row in rows if row["training"] == training), key=lambda row: row["time"])
            if training == 0 and name == "seen":
                continue
            times = np.array([row["time"] for row in own])
            value, error = (times * [row[key] for row in own] for key in (name, f"{name}_error"))
            colour = style.REFERENCE if training == 0 else _SHADES[(place - 1) % len(_SHADES)]
            axes.plot(times, value, color=colour, linestyle="--" if training == 0 else "-")
            axes.fill_between(
                times, value - _INTERVAL * error, value + _INTERVAL * error, color=colour, alpha=0.25, linewidth=0
            )
            if training:
                top = max(top, float(value.max()))
        axes.set(xscale="log", title="", xlabel="forward time t")
        axes.set_title(title, loc="left")
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("t E|ŝ − s|² (nats per unit of log t)")
    panels[0].set_ylim(0.0, 1.35 * top if top else None)
    handles = [
        Line2D([], [], color=_SHADES[(place - 1) % len(_SHADES)], label=f"{training} steps of training")
        for place, training in enumerate(trained)
        if training
    ]
    if 0 in trained:
        label = "exact score of the images learned from"
        handles.append(Line2D([], [], color=style.REFERENCE, linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if len(handles) > 3 else len(handles))
    return figure


def _kl(rows: Sequence[Row]) -> Figure:
    """Draw KL of paths against K, a panel for each score, and Girsanov's term."""
    scores = _scores(rows)
    across = _across(rows)
    up = limits([row["kl"] for row in rows])
    figure, panels = _grid(len(scores), 2.1)
    for axes, (training, share) in zip(panels, scores, strict=True):
        own = [row for row in rows if (row["training"], row["share"]) == (training, share)]
        log_axes(axes, across, up)
        for scheme in _schemes(rows):
            each = sorted((row for row in own if row["scheme"] == scheme), key=lambda row: row["steps"])
            _line(axes, scheme, each, "kl")
        term = own[0].get("girsanov") or 0.0
        if training and isfinite(term):
            axes.axhline(term, **REFERENCE_LINE)
        axes.set_title(_named(training, share), loc="left")
        _steps_axis(axes, rows)
    _labels(figure, panels, scores, "KL of paths (nats)", _schemes(rows), "Girsanov's ∫ E|ŝ − s|² dt")
    return figure


def _added(rows: Sequence[Row]) -> Figure:
    """Draw what a score adds, over Girsanov's term, against K."""
    scores = _scores(rows)
    across = _across(rows)
    figure, panels = _grid(len(scores), 2.1, alike=False)
    for axes, (training, share) in zip(panels, scores, strict=True):
        own = [row for row in rows if (row["training"], row["share"]) == (training, share)]
        ends = [row["ratio"] + side * _INTERVAL * row["ratio_error"] for row in own for side in (-1.0, 1.0)]
        low, high = min(0.0, *ends), max(1.5, *ends)
        axes.set(xscale="log", xlim=across, ylim=(low - 0.05 * (high - low), high + 0.08 * (high - low)))
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        for scheme in _schemes(rows):
            each = sorted((row for row in own if row["scheme"] == scheme), key=lambda row: row["steps"])
            _line(axes, scheme, each, "ratio")
        axes.axhline(1.0, **REFERENCE_LINE)
        axes.set_title(_named(training, share), loc="left")
        _steps_axis(axes, rows)
    _labels(figure, panels, scores, "added KL / Girsanov's", _schemes(rows), "additive")
    return figure


def _samples(rows: Sequence[Row]) -> Figure:
    """Draw samples, a line for each score."""
    trained = sorted({row["training"] for row in rows}, key=lambda steps: (steps == 0, steps))
    count = max(row["sample"] for row in rows) + 1
    figure = Figure(figsize=(style.WIDTH, 0.25 + 0.62 * len(trained)), layout="constrained")
    panels = figure.subplots(len(trained), count, squeeze=False)
    for line, training in zip(panels, trained, strict=True):
        own = {row["sample"]: row for row in rows if row["training"] == training}
        for place, axes in enumerate(line):
            axes.set_axis_off()
            if place in own:
                pixels = np.array(own[place]["pixels"].split(), dtype=float)
                side = round(len(pixels) ** 0.5)
                axes.imshow(pixels.reshape(side, -1), cmap="gray", vmin=0, vmax=16, interpolation="nearest")
        line[0].text(-0.15, 0.5, _named(training, 1.0), transform=line[0].transAxes, ha="right", va="center", **NOTE)
    return figure


def _line(axes: Axes, scheme: str, rows: Sequence[Row], name: str) -> None:
    if not rows:
        return
    look = _look(scheme)
    values, errors = ([row[key] for row in rows] for key in (name, f"{name}_error"))
    axes.errorbar(
        [row["steps"] for row in rows],
        values,
        yerr=_INTERVAL * np.array(errors),
        color=look.colour,
        marker=look.marker,
        elinewidth=0.8,
        capsize=1.5,
        markersize=4.0,
    )


def _columns(count: int) -> int:
    return 2 if count == 4 else min(3, count)


def _grid(count: int, height: float, alike: bool = True) -> tuple[Figure, list[Axes]]:
    columns = _columns(count)
    lines = -(-count // columns)
    figure = Figure(figsize=(style.WIDTH, height * lines + 1.0), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=alike, sharex=True).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, list(panels[:count])


def _labels(
    figure: Figure, panels: Sequence[Axes], scores: Sequence[Any], up: str, schemes: Sequence[str], reference: str
) -> None:
    columns = _columns(len(scores))
    for axes in panels[::columns]:
        axes.set_ylabel(up)
    for axes in panels[-columns:]:
        axes.set_xlabel("steps K")
        axes.tick_params(labelbottom=True)
    looks = [_look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    handles.append(Line2D([], [], label=reference, **REFERENCE_LINE))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _across(rows: Sequence[Row]) -> tuple[float, float]:
    low, high = (choose(row["steps"] for row in rows) for choose in (min, max))
    return low / 1.25, high * 1.25


def _steps_axis(axes: Axes, rows: Sequence[Row]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(sorted({row["steps"] for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _look(scheme: str) -> style.Look:
    return _LOOKS.get(scheme) or style.look(scheme)


def _named(training: int, share: float) -> str:
    if training == 0:
        return "exact score"
    return f"trained {training} steps" + ("" if share == 1.0 else f", {share:g} of the error")


def _scores(rows: Sequence[Row]) -> list[tuple[int, float]]:
    return sorted({(row["training"], row["share"]) for row in rows}, key=lambda each: (each[0], -each[1]))


def _schemes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["scheme"] for row in rows))


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from the tables in a directory; returns the exit status."""
    return _panels.draw_again("learned_score", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

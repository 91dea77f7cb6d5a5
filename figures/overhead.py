"""What a step costs over one of DDPM, and its parts, against the components of the score, a panel a dimension.

``python -m figures.overhead DIR`` draws the figures again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, NullLocator

from figures import _panels, style
from figures._panels import Row, Tables

REFERENCE, AGAIN = "ddpm", "ddpm again"
_TILE = 4  # components that are computed together: fewer cost as much
_LEVELS = (0.1, 0.05, 0.01)
_LOWEST = 1e-3  # overhead that still is drawn
_FLOOR = "#d9d9d9"
_PARTS = {  # Okabe & Ito's colours, and markers
    "score": ("#000000", "s"),
    "noise": ("#D55E00", "o"),
    "update": ("#009E73", "v"),
    "second noise": ("#56B4E9", "^"),
}
_EXTRA = "srk"


def draw(tables: Tables) -> dict[str, Figure]:
    """Return two figures for each kind of covariance: ratios to DDPM with the laws fitted, and parts in nanoseconds.

    Raises
    ------
    ValueError
        If nothing was measured.
    """
    rows = tables.get("", [])
    if not rows:
        raise ValueError("rows must hold at least one time; got none")
    figures = {}
    for covariance in dict.fromkeys(row["covariance"] for row in rows):
        own, parts, laws = (
            [row for row in tables.get(suffix, []) if row["covariance"] == covariance]
            for suffix in ("", "_parts", "_fits")
        )
        figures[f"overhead_ratio_{covariance}"] = _ratios(own, laws)
        figures[f"overhead_parts_{covariance}"] = _parts(own, parts)
    return figures


def _dimensions(rows: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["dimension"] for row in rows))


def _figure(lines: int, columns: int, legend: int, title: str) -> tuple[Figure, np.ndarray]:
    figure = Figure(
        figsize=(style.WIDTH if columns > 1 else 0.5 * style.WIDTH, 0.6 + 0.17 * legend + 2.1 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    return figure, figure.subplots(lines, columns, sharex=True, sharey="row", squeeze=False)


def _across(axes: Axes, rows: Sequence[Row]) -> None:
    """Make the horizontal axis one of components, with a tick every other power of two."""
    places = sorted({row["components"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xlim(places[0] / 1.5, places[-1] * 1.5)
    shown = places[::2] if len(places) > 6 else places
    axes.set_xticks(shown, [f"{place}" for place in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)


def _ratios(rows: Sequence[Row], laws: Sequence[Row]) -> Figure:
    dimensions = _dimensions(rows)
    names = [name for name in dict.fromkeys(row["name"] for row in rows) if name not in (REFERENCE, AGAIN)]
    title = "Time of a step over that of DDPM, and what it is above 1: mixtures of c components"
    figure, panels = _figure(2, len(dimensions), 3, f"{title}, {rows[0]['covariance']}")
    highest = max(row["ratio_high"] for row in rows)
    for column, dimension in enumerate(dimensions):
        own = [row for row in rows if row["dimension"] == dimension]
        known = {law["name"]: law for law in laws if law["dimension"] == dimension}
        upper, lower = panels[:, column]
        for axes in (upper, lower):
            _across(axes, rows)
        upper.axhline(1.0, **_panels.REFERENCE_LINE)
        upper.set_ylim(0.9, highest + 0.1)
        upper.set_title(f"d = {dimension}", loc="left", pad=4)
        _floor(lower, own)
        _levels(lower)
        _slope(lower, -1.0, "1/c", 0.8)
        for name in names:
            points = sorted((row for row in own if row["name"] == name), key=lambda row: row["components"])
            if not points:
                continue
            _draw_ratio(upper, points, 0.0)
            _curve(upper, points, known, 0.0)
            if points[0]["evaluations"] == 1:
                _draw_ratio(lower, points, 1.0)
                _curve(lower, points, known, 1.0)
        lower.set_xlabel("components c")
    panels[0, 0].set_ylabel("time / DDPM's")
    panels[1, 0].set_ylabel("overhead")
    figure.legend(handles=_legend(names), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _levels(axes: Axes) -> None:
    axes.set(yscale="log", ylim=(_LOWEST, 1.0))
    ticks = (0.001, *reversed(_LEVELS), 0.5, 1.0)
    axes.set_yticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    for level in _LEVELS:
        axes.axhline(level, **_panels.REFERENCE_LINE)


def _floor(axes: Axes, rows: Sequence[Row]) -> None:
    """Shade what DDPM differs from itself, ends of intervals included."""
    points = sorted((row for row in rows if row["name"] == AGAIN), key=lambda row: row["components"])
    edge = [max(abs(row["ratio_low"] - 1.0), abs(row["ratio_high"] - 1.0)) for row in points]
    axes.fill_between([row["components"] for row in points], _LOWEST, edge, color=_FLOOR, linewidth=0.0, zorder=0.5)


def _slope(axes: Axes, power: float, label: str, level: float) -> None:
    """Draw a reference slope above the data, from (falling) or to (rising) a level."""
    begin, end = (_panels.along(axes.get_xlim(), fraction) for fraction in ((0.62, 0.86) if power < 0 else (0.4, 0.66)))
    first = level if power < 0 else level * (begin / end) ** power
    last = first * (end / begin) ** power
    axes.plot([begin, end], [first, last], **_panels.REFERENCE_LINE)
    axes.annotate(label, (end, last), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)


def _draw_ratio(axes: Axes, points: Sequence[Row], minus: float) -> None:
    """Draw ratios with their intervals; on a logarithmic axis, hollow if the interval reaches nothing."""
    look = style.look(points[0]["name"])
    for row in points:
        value, low, high = (row[f"ratio{end}"] - minus for end in ("", "_low", "_high"))
        hollow = minus > 0.0 and low <= 0.0
        bottom = max(low, _LOWEST) if minus > 0.0 else low
        if minus > 0.0 and high <= _LOWEST:
            continue
        axes.plot([row["components"]] * 2, [bottom, high], color=look.colour, linewidth=0.9, zorder=3)
        if minus == 0.0 or value > _LOWEST:
            face = "white" if hollow else look.colour
            axes.plot(row["components"], value, look.marker, mfc=face, mec=look.colour, mew=0.9, ms=3.8, zorder=4)


def _curve(axes: Axes, points: Sequence[Row], laws: dict[str, Row], minus: float) -> None:
    law, base = laws.get(points[0]["name"]), laws.get(REFERENCE)
    if law is None or base is None or not isfinite(base["fixed_ns"] + law["fixed_ns"]):
        return
    count = np.geomspace(points[0]["components"], points[-1]["components"], 200)
    computed = np.maximum(count, _TILE)
    step = base["fixed_ns"] + base["component_ns"] * computed
    if isfinite(law["extra_ns"]):
        ratio = 1.0 + law["extra_ns"] / step
    else:
        ratio = (law["fixed_ns"] + law["component_ns"] * computed) / step
    axes.plot(count, ratio - minus, color=style.look(points[0]["name"]).colour, linewidth=1.0, zorder=2)


def _legend(names: Sequence[str]) -> list[Line2D | Patch]:
    looks = [style.look(name) for name in names]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.colour, marker=look.marker, ms=4.0, linewidth=1.0, label=look.label) for look in looks
    ]
    handles.append(Patch(color=_FLOOR, label="DDPM over itself: noise"))
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label="DDPM's time; 10%, 5%, 1% of it; slopes"))
    return handles


def _parts(rows: Sequence[Row], parts: Sequence[Row]) -> Figure:
    dimensions = _dimensions(rows)
    title = "Parts of a step, in processor time of a particle and coordinate: mixtures of c components"
    figure, panels = _figure(1, len(dimensions), 2, f"{title}, {rows[0]['covariance']}")
    known = [row["ns"] for row in parts if row["name"] in _PARTS and row["ns"] > 0.0] or [1.0]
    highest = 2.0 * max(known)
    for axes, dimension in zip(panels[0], dimensions, strict=True):
        _across(axes, rows)
        axes.set_yscale("log")
        axes.set_title(f"d = {dimension}", loc="left", pad=4)
        axes.set_xlabel("components c")
        _slope(axes, 1.0, "c", 0.6 * highest)
        for name, (colour, marker) in _PARTS.items():
            own = [row for row in parts if (row["dimension"], row["name"]) == (dimension, name)]
            _draw_part(axes, own, "ns", colour, marker, line=True)
        extra = [row for row in rows if (row["dimension"], row["name"]) == (dimension, _EXTRA)]
        look = style.look(_EXTRA)
        _draw_part(axes, extra, "extra_ns", look.colour, look.marker, line=False)
    panels[0, 0].set_ylim(0.4 * min(known), highest)
    panels[0, 0].set_ylabel("nanoseconds")
    labels = {"second noise": "a second normal, alone"}
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=4.0, linewidth=1.0, label=labels.get(name, f"{name} of DDPM"))
        for name, (colour, marker) in _PARTS.items()
    ]
    look = style.look(_EXTRA)
    handles.append(Line2D([], [], color=look.colour, marker=look.marker, ms=4.0, linestyle="", label="SRK less DDPM"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _draw_part(axes: Axes, rows: Sequence[Row], key: str, colour: str, marker: str, *, line: bool) -> None:
    """Draw times with intervals, which may reach below what a logarithmic axis shows."""
    points = sorted((row for row in rows if row[f"{key}_high"] > 0.0), key=lambda row: row["components"])
    for row in points:
        low = max(row[f"{key}_low"], 1e-3)
        axes.plot([row["components"]] * 2, [low, row[f"{key}_high"]], color=colour, linewidth=0.9, zorder=3)
    drawn = [row for row in points if row[key] > 0.0]
    axes.plot(
        [row["components"] for row in drawn],
        [row[key] for row in drawn],
        color=colour,
        marker=marker,
        ms=3.8,
        linewidth=1.0 if line else 0.0,
        zorder=4,
    )


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("overhead", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

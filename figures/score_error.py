"""KL against the error of the score, and what is left of Girsanov's value against K, a panel a kind, from the rows.

``python -m figures.score_error DIR`` draws them again from DIR/score_error.csv and DIR/score_error_growth.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from figures import _panels, style
from figures._panels import Row, Tables, along, limits

_COLUMNS = 3
_DEEPEST = 1e-10  # nats, of what is drawn
_TITLES = {
    "noise": "i.i.d. noise",
    "relative": "relative error, (1 ± a) s",
    "jacobian": "Jacobian error, s ± a x",
    "model": "wrong mixture",
}


@dataclass(frozen=True)
class Point:
    """What stands in a panel: hollow if its value is that of a negative number."""

    scheme: str
    x: float
    y: float
    error: float = 0.0
    hollow: bool = False


@dataclass(frozen=True)
class View:
    """A figure: its title, its axes, and its points by kind of error."""

    title: str
    across: str
    up: str
    panels: dict[str, list[Point]]
    reference: list[tuple[float, float]]  # Girsanov's value, in all panels
    reference_label: str
    slope: tuple[str, float, str] | None = None  # of one kind's panel, to compare by eye
    percent: bool = False  # shares, each panel with limits of its own
    hollow: str = ""  # what hollow markers mean


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``score_error_growth``, ``score_error_kl`` and ``score_error_steps``, each for the first target.

    Raises
    ------
    ValueError
        If there is no cell that can be drawn.
    """
    rows, growth = tables.get("", []), tables.get("_growth", [])
    rows = [row for row in rows if row["target"] == rows[0]["target"] and isfinite(row["worst"])]
    growth = [row for row in growth if rows and row["target"] == rows[0]["target"]]
    if not rows:
        raise ValueError("rows must hold at least one cell with a finite KL; got none")
    views = {"growth": _growth(rows), "kl": _worst(rows), "steps": _steps(growth)}
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    drawn = {f"score_error_{name}": _figure(view, schemes) for name, view in views.items() if any(view.panels.values())}
    if not drawn:
        raise ValueError("rows must hold at least one difference of KLs above its error; got none")
    return drawn


def _growth(rows: Sequence[Row]) -> View:
    most = max(row["steps"] for row in rows)
    shown = [row for row in rows if row["steps"] == most and abs(row["excess"]) > 3.0 * row["excess_error"]]
    panels: dict[str, list[Point]] = {kind: [] for kind in _kinds(rows)}
    for row in shown:
        value = row["excess"]
        panels[row["kind"]].append(
            Point(row["scheme"], row["epsilon"], abs(value), row["excess_error"], bool(value < 0.0))
        )
    return View(
        f"What an error of the score adds to KL, mean of both signs; {_name(rows)}, K = {most}",
        "score error ε",
        "KL − KL$_0$ (nats)",
        panels,
        _girsanov(rows),
        "(T − δ)ε², Girsanov's value",
        ("noise", 4.0, "$ε^4$"),
        hollow="KL − KL$_0$ < 0",
    )


def _worst(rows: Sequence[Row]) -> View:
    by_scheme: dict[str, set[int]] = {}
    for row in rows:
        by_scheme.setdefault(row["scheme"], set()).add(_evaluations(row))
    common = set.intersection(*by_scheme.values())
    shown = [row for row in rows if common and _evaluations(row) == max(common)]
    panels: dict[str, list[Point]] = {kind: [] for kind in _kinds(rows)}
    for row in shown:
        panels[row["kind"]].append(Point(row["scheme"], row["epsilon"], row["worst"]))
    return View(
        f"KL with the error of the worse sign, at {max(common, default=0)} score evaluations; {_name(rows)}",
        "score error ε",
        "KL (nats)",
        panels,
        _girsanov(rows),
        "(T − δ)ε², Girsanov's value",
    )


def _steps(growth: Sequence[Row]) -> View:
    panels: dict[str, list[Point]] = {kind: [] for kind in _kinds(growth)}
    for row in growth:
        value, error = row["kept"], row["kept_error"]
        if isfinite(value) and abs(value) > error:
            panels[row["kind"]].append(Point(row["scheme"], row["steps"], abs(value), error, bool(value < 0.0)))
    ends = [row["steps"] for row in growth] or [1]
    return View(
        f"What the output keeps of Girsanov's value as ε → 0; {_name(growth)}",
        "steps K",
        "c ε² / (T − δ)ε²",
        panels,
        [(min(ends), 1.0), (max(ends), 1.0)],
        "Girsanov's value",
        ("noise", -2.0, "$K^{-2}$"),
        percent=True,
        hollow="c < 0",
    )


def _figure(view: View, schemes: Sequence[str]) -> Figure:
    kinds = list(view.panels)
    columns = min(_COLUMNS, len(kinds))
    lines = ceil(len(kinds) / columns)
    points = [point for panel in view.panels.values() for point in panel]
    handles = _legend(view, schemes, any(point.hollow for point in points))
    figure = Figure(
        figsize=(style.WIDTH, 0.72 + 0.17 * ceil(len(handles) / 3) + 2.15 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(view.title, fontsize=9.0, x=0.012, ha="left")
    across = limits([point.x for point in points])
    lowest = 0.0 if view.percent else _DEEPEST  # below is what nobody sees
    up = limits([point.y for point in points if point.y > lowest])
    all_axes = figure.subplots(lines, columns, sharex=True, sharey=not view.percent, squeeze=False).ravel()
    for index, axes in enumerate(all_axes):
        if index >= len(kinds):
            axes.set_visible(False)
            continue
        panel = view.panels[kinds[index]]
        if view.percent:
            up = limits([point.y for point in panel] + [y for _, y in view.reference])
        _panels.log_axes(axes, across, up)
        if len(places := sorted({point.x for point in points})) <= 5:
            axes.set_xticks(places, [f"{place:g}" for place in places])
        if view.percent:
            if up[1] < 300.0 * up[0]:
                axes.yaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100.0 * value:g}%"))
        x, y = zip(*view.reference, strict=True)
        axes.plot(x, y, **_panels.REFERENCE_LINE, zorder=5)  # also where points lie on it
        if view.slope and kinds[index] == view.slope[0]:
            _slope(axes, *view.slope[1:])
        _draw_points(axes, panel, schemes)
        axes.set_title(_title(kinds[index]), loc="left", pad=4)
        if index + columns >= len(kinds):
            axes.set_xlabel(view.across)
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel(view.up)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _draw_points(axes: Axes, panel: Sequence[Point], schemes: Sequence[str]) -> None:
    for scheme in schemes:
        points = sorted((point for point in panel if point.scheme == scheme), key=lambda point: point.x)
        if not points:
            continue
        look = style.look(scheme)
        # Where the sign changes the values pass through zero: no line joins the two sides.
        for start in range(len(points)):
            pair = points[start : start + 2]
            if len(pair) == 2 and pair[0].hollow == pair[1].hollow:
                axes.plot([p.x for p in pair], [p.y for p in pair], color=look.colour, linewidth=1.0, zorder=3)
        for point in points:
            bar = [[min(point.error, 0.9 * point.y)], [point.error]]
            axes.errorbar(point.x, point.y, bar, fmt="none", ecolor=look.colour, elinewidth=0.8, zorder=3)
            inside = "white" if point.hollow else look.colour
            axes.plot(point.x, point.y, look.marker, mfc=inside, mec=look.colour, mew=1.0, zorder=4, markersize=4.0)


def _slope(axes: Axes, slope: float, label: str) -> None:
    """Draw a reference slope where a panel has no points: lower right, or upper right if it falls."""
    begin, end = (along(axes.get_xlim(), fraction) for fraction in ((0.60, 0.82) if slope > 0.0 else (0.50, 0.84)))
    up = axes.get_ylim()
    first = along(up, 0.04 if slope > 0.0 else 0.86)
    last = first * (end / begin) ** slope
    axes.plot([begin, end], [first, last], color="#444444", linewidth=0.9, zorder=2)
    axes.annotate(label, (end, last), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)


def _legend(view: View, schemes: Sequence[str], hollow: bool) -> list[Line2D]:
    handles: list[Any] = []
    for scheme in schemes:
        look = style.look(scheme)
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, label=look.label))
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label=view.reference_label))
    if hollow:
        handles.append(Line2D([], [], color="#444444", marker="o", mfc="white", linestyle="", label=view.hollow))
    return handles


def _girsanov(rows: Sequence[Row]) -> list[tuple[float, float]]:
    return sorted({(row["epsilon"], row["girsanov"]) for row in rows})


def _evaluations(row: Row) -> int:
    return int(row["steps"] * round(row["nfe"] / row["steps"]))


def _kinds(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in rows))


def _name(rows: Sequence[Row]) -> str:
    return str(rows[0]["target"]).replace("_", " ") if rows else ""


def _title(kind: str) -> str:
    if kind.startswith("wave_"):
        return f"waves, ω = {kind.removeprefix('wave_')}/σ$_t$"
    return _TITLES.get(kind, kind.replace("_", " "))


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("score_error", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

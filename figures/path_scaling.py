"""KL of paths against K and against d, and the KL of the output beside it, a panel a family, from the study's rows.

``python -m figures.path_scaling DIR`` draws them again from DIR/path_scaling.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from figures import _panels, style
from figures._panels import Row, Tables, along, limits

_COLUMNS = (3, 4)  # of up to six panels, and of more
_MOST_RELATIVE_ERROR = 0.25  # of a filled marker
_DEEPEST = 0.9  # of a value, the longest error bar downwards: an axis of logarithms has no zero


@dataclass(frozen=True)
class View:
    """What stands on the axes."""

    name: str
    title: str
    across: str
    up: str
    slopes: tuple[tuple[float, str], ...]  # drawn apart, to compare by eye
    fan: tuple[float, float, float]  # where they begin and end across, and begin up, as fractions of a panel


STEPS = View(
    "steps",
    "KL of paths against the number of steps, at the largest d",
    "steps K",
    "path KL (nats)",
    ((-1.0, "1/K"), (-2.0, "1/K²")),
    (0.46, 0.84, 0.96),
)
DIMENSION = View(
    "dimension",
    "KL of paths against the dimension, K = {steps:g}",
    "dimension d",
    "path KL (nats)",
    ((1.0, "d"),),
    (0.55, 0.85, 0.05),
)
OUTPUT = View(
    "output",
    "KL of the output against KL of paths, at the largest d: K grows to the left",
    "path KL (nats)",
    "output KL (nats)",
    (),
    (0.0, 0.0, 0.0),
)
VIEWS = (STEPS, DIMENSION, OUTPUT)


@dataclass(frozen=True)
class Point:
    """A cell in a panel, with standard errors and whether both numbers are trusted and known well."""

    scheme: str
    dimension: float
    steps: float
    x: float
    y: float
    x_error: float
    y_error: float
    sound: bool

    @property
    def drawn(self) -> bool:
        """Whether it is more than its error."""
        return self.x > self.x_error and self.y > self.y_error

    @property
    def joined(self) -> bool:
        """Whether it is so much more that a line through it means something."""
        return self.x > 2.0 * self.x_error and self.y > 2.0 * self.y_error


def draw(tables: Tables) -> dict[str, Figure]:
    """Return the figures ``path_scaling_steps``, ``path_scaling_dimension`` and ``path_scaling_output``.

    A figure in which nothing is above its error is left out.

    Raises
    ------
    ValueError
        If that is so for all.
    """
    rows = tables.get("", [])
    shown = [view for view in VIEWS if any(_shown(rows, view).values())]
    return {f"path_scaling_{view.name}": draw_view(rows, view) for view in shown or VIEWS}


def draw_view(rows: Sequence[Row], view: View) -> Figure:
    """Return the figure of one view: at the largest d of each family or, against d, at the largest K.

    What is smaller than its standard error is not drawn, and lines join what is more than twice it.
    """
    panels = _shown(rows, view)
    families = list(panels)
    points = [point for panel in panels.values() for point in panel]
    if not points:
        raise ValueError("rows must hold at least one cell with an estimate above its error; got none")
    schemes = list(dict.fromkeys(row["scheme"] for row in rows if any(p.scheme == row["scheme"] for p in points)))
    most_steps = max(point.steps for point in points)
    largest = {name: max((point.dimension for point in panel), default=0.0) for name, panel in panels.items()}
    columns = min(_COLUMNS[len(families) > 6], len(families))
    lines = ceil(len(families) / columns)
    figure = Figure(
        figsize=(style.WIDTH, 0.72 + 0.17 * ceil((len(schemes) + 2) / 3) + 2.15 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(view.title.format(steps=most_steps), fontsize=9.0, x=0.012, ha="left")
    all_axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    across, up = limits([point.x for point in points]), limits([point.y for point in points])
    if view is STEPS:
        up = up[0], up[1] * along((1.0, across[1] / across[0]), view.fan[1] - view.fan[0])
    elif view is DIMENSION:
        up = up[0] / along((1.0, across[1] / across[0]), view.fan[1] - view.fan[0]), up[1]
    for index, axes in enumerate(all_axes):
        if index >= len(families):
            axes.set_visible(False)
            continue
        name = families[index]
        _panels.log_axes(axes, across, up)
        if view is not OUTPUT and len(places := sorted({point.x for point in points})) <= 6:
            axes.set_xticks(places, [f"{place:g}" for place in places])
        elif view is OUTPUT and columns > _COLUMNS[0]:
            axes.xaxis.set_major_locator(LogLocator(10.0, numticks=4))  # labels of every decade would touch
        _references(axes, view)
        _draw_points(axes, panels[name], schemes)
        at = "" if view is DIMENSION or not panels[name] else f", d = {largest[name]:g}"
        axes.set_title(f"{name.replace('_', ' ')}{at}", loc="left", pad=4)
        if index + columns >= len(families):
            axes.set_xlabel(view.across)
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel(view.up)
    figure.legend(handles=_legend(schemes, points, view), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _shown(rows: Sequence[Row], view: View) -> dict[str, list[Point]]:
    """Return what stands in each family's panel."""
    solved = [row for row in rows if row["path_kl"] is not None]
    most_steps = max((row["steps"] for row in solved), default=0)
    largest: dict[str, float] = {}
    for row in solved:
        largest[row["family"]] = max(row["dimension"], largest.get(row["family"], 0.0))
    panels: dict[str, list[Point]] = {name: [] for name in largest}
    for row in solved:
        at_end = row["steps"] == most_steps if view is DIMENSION else row["dimension"] == largest[row["family"]]
        point = _point(row, view)
        if at_end and point.drawn:
            panels[row["family"]].append(point)
    return panels


def _point(row: Row, view: View) -> Point:
    path, output = (row["path_kl"], row["path_error"]), (row["marginal_kl"], row["standard_error"])
    sound = row["path_error"] <= _MOST_RELATIVE_ERROR * row["path_kl"]
    if view is OUTPUT:
        if row["exact_kl"] is not None:
            output = row["exact_kl"], row["exact_error"]
        trusted = row["exact_kl"] is not None or isfinite(row["marginal_error"])
        sound = sound and trusted and output[1] <= _MOST_RELATIVE_ERROR * output[0]
    x = {"steps": (row["steps"], 0.0), "dimension": (row["dimension"], 0.0), "output": path}[view.name]
    y = output if view is OUTPUT else path
    return Point(row["scheme"], row["dimension"], row["steps"], x[0], y[0], x[1], y[1], sound)


def _draw_points(axes: Axes, panel: Sequence[Point], schemes: Sequence[str]) -> None:
    for scheme in schemes:
        points = sorted((point for point in panel if point.scheme == scheme), key=lambda point: (point.steps, point.x))
        if not points:
            continue
        look = style.look(scheme)
        bars = [
            [[min(error, _DEEPEST * value) for value, error in each], [error for _, error in each]]
            for each in ([(p.x, p.x_error) for p in points], [(p.y, p.y_error) for p in points])
        ]
        x, y = [point.x for point in points], [point.y for point in points]
        axes.errorbar(x, y, bars[1], bars[0], fmt="none", ecolor=look.colour, elinewidth=0.8, zorder=3)
        joined = [point for point in points if point.joined]
        axes.plot([point.x for point in joined], [point.y for point in joined], color=look.colour, linewidth=1.0)
        for point in points:
            inside = look.colour if point.sound else "white"
            axes.plot(point.x, point.y, look.marker, mfc=inside, mec=look.colour, mew=1.0, ms=4.0, zorder=4)


def _references(axes: Axes, view: View) -> None:
    """Draw reference slopes where there are no data; for the output, also where it would keep all of path KL."""
    line = {**_panels.REFERENCE_LINE, "zorder": 2}
    begin, end = (along(axes.get_xlim(), fraction) for fraction in view.fan[:2])
    level = along(axes.get_ylim(), view.fan[2])
    for slope, label in view.slopes:
        far = level * (end / begin) ** slope
        axes.plot([begin, end], [level, far], **line)
        axes.annotate(label, (end, far), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)
    if view is OUTPUT:
        ends = max(axes.get_xlim()[0], axes.get_ylim()[0]), min(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot(ends, ends, **line)


def _legend(schemes: Sequence[str], points: Sequence[Point], view: View) -> list[Line2D]:
    handles = []
    for scheme in schemes:
        look = style.look(scheme)
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, label=look.label))
    if not all(point.sound for point in points):
        label = f"doubted, or error above {100 * _MOST_RELATIVE_ERROR:g}%"
        handles.append(Line2D([], [], color="#444444", marker="o", mfc="white", linestyle="", label=label))
    label = "output KL = path KL" if view is OUTPUT else "reference slopes"
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label=label))
    return handles


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("path_scaling", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

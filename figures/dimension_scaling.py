"""Score evaluations to reach KL ≤ ε² against d and against 1/ε, a panel a family, from the study's rows.

``python -m figures.dimension_scaling DIR`` draws them again from DIR/dimension_scaling.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures import _panels, style
from figures._panels import Row, Tables, along, limits

_COLUMNS = 3


@dataclass(frozen=True)
class View:
    """What stands on the horizontal axis, and at which value of the other variable."""

    name: str
    label: str
    bound: tuple[float, str]  # slope of a theorem's bound, drawn from the first points
    slopes: tuple[tuple[float, str], ...]  # drawn apart, to compare by eye


DIMENSION = View(
    "dimension",
    "dimension d",
    (1.5, "SRK's bound:\n$d^{3/2}$"),
    ((0.5, "$d^{1/2}$"), (0.25, "$d^{1/4}$")),
)
ACCURACY = View(
    "accuracy",
    "accuracy 1/ε",
    (2.0, "DDPM's bound:\n$ε^{-2}$"),
    ((1.0, "$ε^{-1}$"), (0.5, "$ε^{-1/2}$")),
)
_FAN = (0.36, 0.86)  # where the reference slopes stand, as fractions of a panel's width


def draw(tables: Tables) -> dict[str, Figure]:
    """Return the figures ``dimension_scaling_dimension`` and ``dimension_scaling_accuracy`` from the study's rows.

    Raises
    ------
    ValueError
        If no row has an answer.
    """
    rows = tables.get("", [])
    return {f"dimension_scaling_{view.name}": draw_view(rows, view) for view in (DIMENSION, ACCURACY)}


def draw_view(rows: Sequence[Row], view: View) -> Figure:
    """Return the figure of one view: at the smallest ε against d, or at the largest d against 1/ε."""
    solved = [row for row in rows if row["steps"] is not None]
    if not solved:
        raise ValueError("rows must hold at least one cell with an answer; got none")
    if view is DIMENSION:
        fixed = min(row["epsilon"] for row in solved)
        shown = [row for row in solved if row["epsilon"] == fixed]
        title = f"Score evaluations until KL ≤ ε², ε = {fixed:g}"
    else:
        fixed = max(row["dimension"] for row in solved)
        shown = [row for row in solved if row["dimension"] == fixed]
        title = f"Score evaluations until KL ≤ ε², d = {_power(fixed)}"
    families = list(dict.fromkeys(row["family"] for row in shown))
    schemes = list(dict.fromkeys(row["scheme"] for row in shown))
    columns, lines = min(_COLUMNS, len(families)), ceil(len(families) / _COLUMNS)
    legend_lines = ceil((len(schemes) + 2) / 3)
    figure = Figure(
        figsize=(style.WIDTH, 0.72 + 0.17 * legend_lines + 2.15 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    across = limits([_abscissa(row, view) for row in shown])
    up = _with_room(limits([row["nfe"] for row in shown]), shown, view, across)
    for index, axes in enumerate(panels):
        if index >= len(families):
            axes.set_visible(False)
            continue
        panel = [row for row in shown if row["family"] == families[index]]
        _panel(axes, panel, schemes, view, across, up)
        axes.set_title(families[index].replace("_", " "), loc="left", pad=4)
        if index + columns >= len(families):
            axes.set_xlabel(view.label)
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("score evaluations")
    figure.legend(handles=_legend(schemes, shown), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _panel(
    axes: Axes,
    rows: Sequence[Row],
    schemes: Sequence[str],
    view: View,
    across: tuple[float, float],
    up: tuple[float, float],
) -> None:
    _panels.log_axes(axes, across, up)
    if view is ACCURACY and len(places := sorted({_abscissa(row, view) for row in rows})) <= 5:
        axes.set_xticks(places, [f"{place:.3g}" for place in places])
    _slopes(axes, rows, view)
    for scheme in schemes:
        points = sorted((_abscissa(row, view), row) for row in rows if row["scheme"] == scheme)
        if not points:
            continue
        look = style.look(scheme)
        x, y = [place for place, _ in points], [row["nfe"] for _, row in points]
        spread = [
            [row["nfe"] - row["nfe_low"] for _, row in points],
            [row["nfe_high"] - row["nfe"] for _, row in points],
        ]
        axes.errorbar(x, y, spread, color=look.colour, elinewidth=0.9, capsize=2.0, zorder=3)
        for place, row in points:
            inside = "white" if row["how"] == "extrapolated" else look.colour
            axes.plot(place, row["nfe"], look.marker, mfc=inside, mec=look.colour, mew=1.0, zorder=4, clip_on=False)


def _slopes(axes: Axes, rows: Sequence[Row], view: View) -> None:
    """Draw the bound's slope from the dearest first point, and the reference slopes where there are no data."""
    line, text = {**_panels.REFERENCE_LINE, "zorder": 2}, _panels.NOTE
    slope, label = view.bound
    left = min(_abscissa(row, view) for row in rows)
    start = max(row["nfe"] for row in rows if _abscissa(row, view) == left)
    end = min(axes.get_xlim()[1], left * (axes.get_ylim()[1] / start) ** (1.0 / slope))
    axes.plot([left, end], [start, start * (end / left) ** slope], **line)
    plain = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # the line may pass behind the words
    axes.annotate(label, (0.03, 0.97), xycoords="axes fraction", va="top", bbox=plain, **text)
    begin, end = (along(axes.get_xlim(), fraction) for fraction in _FAN)
    low = axes.get_ylim()[0] * 1.5
    for slope, label in view.slopes:
        high = low * (end / begin) ** slope
        axes.plot([begin, end], [low, high], **line)
        axes.annotate(label, (end, high), xytext=(3, 0), textcoords="offset points", va="center", **text)


def _with_room(
    up: tuple[float, float], rows: Sequence[Row], view: View, across: tuple[float, float]
) -> tuple[float, float]:
    """Lower the limits until the reference slopes fit below the data."""
    begin, end = (along(across, fraction) for fraction in _FAN)
    nearby = [row["nfe"] for row in rows if _abscissa(row, view) >= begin] or [up[0]]
    height = 1.5 * (end / begin) ** max(slope for slope, _ in view.slopes)
    return min(up[0], min(nearby) / (2.0 * height)), up[1]


def _legend(schemes: Sequence[str], rows: Sequence[Row]) -> list[Line2D]:
    handles = []
    for scheme in schemes:
        look = style.look(scheme)
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, label=look.label))
    if any(row["how"] == "extrapolated" for row in rows):
        handles.append(
            Line2D([], [], color="#444444", marker="o", mfc="white", linestyle="", label="extrapolated in K")
        )
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes"))
    return handles


def _abscissa(row: Row, view: View) -> float:
    return float(row["dimension"]) if view is DIMENSION else 1.0 / float(row["epsilon"])


def _power(value: float) -> str:
    exponent = len(str(int(value))) - 1
    return f"$10^{exponent}$" if value == 10**exponent and exponent > 2 else f"{value:g}"


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("dimension_scaling", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

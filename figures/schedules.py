"""Where optimal grids put their steps, what they gain for each scheme, and KL against K beside the exponential grid.

``python -m figures.schedules DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from figures import _panels, style
from figures._panels import Row, Tables
from srkverify.schedules import half_log_snr

_LEAST_DENSITY = 1e-3  # a step in a thousand, per unit of half log-SNR
_TIMES = (6.0, 3.0, 1.0, 0.3, 0.1, 0.01, 0.001, 0.0001)
# The grids in use, in grey: their dashes.
_DASHES = {
    "exponential": (0, ()),
    "uniform": (0, (1, 1)),
    "cosine": (0, (5, 1.5)),
    "linear_beta": (0, (5, 1.5, 1, 1.5)),
    "log_snr": (0, (2.5, 1.5)),
}
_LABELS = {"linear_beta": "linear β", "log_snr": "uniform log-SNR"}
_TARGET_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``schedules_density``, ``schedules_gains`` and ``schedules_steps``, those for which there are rows.

    Raises
    ------
    ValueError
        If no optimum is known.
    """
    rows, gains, density = (tables.get(suffix, []) for suffix in ("", "_gains", "_density"))
    optimal = [row for row in density if row["grid"] == "optimal"]
    figures = {}
    if optimal:
        figures["schedules_density"] = _density(density, optimal)
    if gains:
        figures["schedules_gains"] = _gains(gains)
        figures["schedules_steps"] = _steps(rows, gains)
    if not figures:
        raise ValueError("rows must hold at least one optimum; got none")
    return figures


def _unique(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _title(name: str) -> str:
    return name.replace("_", " ")


def _label(grid: str) -> str:
    return _LABELS.get(grid, grid)


def _figure(height: float, lines: int, title: str) -> Figure:
    figure = Figure(
        figsize=(style.WIDTH, 0.75 + height + 0.17 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05),
    )
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    return figure


def _grid_of_panels(figure: Figure, names: Sequence[str]) -> list[Axes]:
    columns = min(2, len(names))
    panels = figure.subplots(ceil(len(names) / columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return list(panels)


def _density(rows: Sequence[Row], optimal: Sequence[Row]) -> Figure:
    steps = max(row["steps"] for row in optimal)
    targets, schemes = _unique(optimal, "target"), _unique(optimal, "scheme")
    named = {grid: [row for row in rows if row["grid"] == grid] for grid in _unique(rows, "grid") if grid != "optimal"}
    title = f"Where the KL-optimal grid puts its steps, K = {steps}, and where the grids in use do"
    figure = _figure(2.1 * ceil(len(targets) / 2), max(len(schemes), len(named)), title)
    panels = _grid_of_panels(figure, targets)
    places = [row["log_snr"] for row in optimal]
    for index, (axes, target) in enumerate(zip(panels, targets, strict=False)):
        axes.set(yscale="log", ylim=(_LEAST_DENSITY, 2.0), xlim=(min(places), max(places)))
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        for grid, shape in named.items():
            look: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 0.9, "linestyle": _DASHES.get(grid, "-")}
            axes.plot([row["log_snr"] for row in shape], [row["density"] for row in shape], **look)
        for scheme in schemes:
            own = [row for row in optimal if (row["target"], row["scheme"], row["steps"]) == (target, scheme, steps)]
            seen = style.look(scheme)
            x, y = [row["log_snr"] for row in own], [row["density"] for row in own]
            axes.plot(x, y, color=seen.colour, marker=seen.marker, markevery=(3 + schemes.index(scheme), 10), ms=3.5)
        axes.annotate(_title(target), (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=8.0)
        if index >= len(targets) - 2:
            axes.set_xlabel("half log-SNR λ")
            axes.tick_params(labelbottom=True)
        if index % 2 == 0:
            axes.set_ylabel("share of steps per unit of λ")
        if index < 2:
            _time_axis(axes)
    handles = [_handle(scheme) for scheme in schemes]
    handles += [
        Line2D([], [], color=style.REFERENCE, linewidth=0.9, linestyle=_DASHES.get(grid, "-"), label=_label(grid))
        for grid in named
    ]
    # A column of schemes, one of grids in use.
    blank = [Line2D([], [], linestyle="", label=" ")] * abs(len(schemes) - len(named))
    handles[len(schemes) : len(schemes)] = blank if len(schemes) < len(named) else []
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=3.0, handlelength=3.0)
    return figure


def _time_axis(axes: Axes) -> None:
    """Show forward times above a panel."""
    low, high = axes.get_xlim()
    shown = [time for time in _TIMES if low - 1e-9 <= float(half_log_snr(time)) <= high + 1e-9]
    above = axes.secondary_xaxis("top")
    above.xaxis.set_major_locator(FixedLocator([float(half_log_snr(time)) for time in shown]))
    above.set_xticklabels([f"{time:g}" for time in shown])
    above.set_xlabel("forward time τ", labelpad=3)


def _handle(scheme: str) -> Line2D:
    seen = style.look(scheme)
    return Line2D([], [], color=seen.colour, marker=seen.marker, label=seen.label)


def _gains(gains: Sequence[Row]) -> Figure:
    grids, schemes, targets = (_unique(gains, column) for column in ("grid", "scheme", "target"))
    ladder = sorted({row["steps"] for row in gains})
    title = "KL on a grid in use over KL on the optimal grid"
    if len(ladder) > 1:
        title += f"; in each band K = {', '.join(map(str, ladder))} downwards"
    figure = _figure(0.42 * len(schemes) + 0.5, 1, title)
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    for axes, grid in zip(panels, grids, strict=True):
        shown = [row for row in gains if row["grid"] == grid and isfinite(row["factor"])]
        high = max((row["factor"] for row in shown), default=10.0)
        axes.set(xscale="log", xlim=(0.7, 3.0 * high), ylim=(len(schemes) - 0.5, -0.5))
        axes.xaxis.set_major_locator(LogLocator(10.0, numticks=3))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.axvline(1.0, color="#444444", linewidth=0.8)
        axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.5)
        for edge in range(1, len(schemes)):
            axes.axhline(edge - 0.5, color="#cccccc", linewidth=0.5)
        for row in shown:
            offset = 0.56 * ((ladder.index(row["steps"]) + 0.5) / len(ladder) - 0.5)
            seen, marker = style.look(row["scheme"]), _TARGET_MARKERS[targets.index(row["target"]) % 7]
            place = schemes.index(row["scheme"]) + offset
            axes.plot(row["factor"], place, marker, mfc="none", mec=seen.colour, mew=0.9, ms=4.0)
        axes.set_title(_label(grid), loc="left", pad=4)
        axes.tick_params(axis="y", length=0)
    labels = [style.look(scheme).label.replace(", ", ",\n").replace("++(2M)", "++\n(2M)") for scheme in schemes]
    panels[0].set_yticks(range(len(schemes)), labels)
    panels[len(grids) // 2].set_xlabel("factor in KL")
    handles = [
        Line2D([], [], linestyle="", marker=marker, mfc="none", mec="#444444", label=_title(target))
        for target, marker in zip(targets, _TARGET_MARKERS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.6)
    return figure


def _steps(rows: Sequence[Row], gains: Sequence[Row]) -> Figure:
    targets, schemes = _unique(gains, "target"), _unique(gains, "scheme")
    ladder = sorted({row["steps"] for row in gains})
    drawn = [
        row
        for row in rows
        if row["grid"] == "exponential" and ladder[0] <= row["steps"] <= ladder[-1] and isfinite(row["kl"])
    ]
    best = {(row["target"], row["scheme"], row["steps"]): row["optimal_kl"] for row in gains}
    values = [row["kl"] for row in drawn] + list(best.values())
    figure = _figure(2.1 * ceil(len(targets) / 2), 3, "KL of the output against the number of steps")
    panels = _grid_of_panels(figure, targets)
    across, up = _panels.limits([float(steps) for steps in ladder]), _panels.limits([kl for kl in values if kl > 0.0])
    for index, (axes, target) in enumerate(zip(panels, targets, strict=False)):
        _panels.log_axes(axes, across, up)
        axes.set_xticks(ladder, [f"{steps}" for steps in ladder])
        for scheme in schemes:
            seen = style.look(scheme)
            usual = sorted(
                (row["steps"], row["kl"]) for row in drawn if (row["target"], row["scheme"]) == (target, scheme)
            )
            optimal = sorted((key[2], kl) for key, kl in best.items() if key[:2] == (target, scheme))
            for points, dashes, inside in ((usual, (0, (3, 1.5)), "white"), (optimal, "-", seen.colour)):
                if points:
                    x, y = zip(*points, strict=True)
                    axes.plot(x, y, color=seen.colour, marker=seen.marker, mfc=inside, linestyle=dashes, linewidth=1.0)
        if index == 0:
            _slopes(axes, across, up)
        axes.set_title(_title(target), loc="left", pad=4)
        if index >= len(targets) - 2:
            axes.set_xlabel("steps K")
            axes.tick_params(labelbottom=True)
        if index % 2 == 0:
            axes.set_ylabel("KL (nats)")
    grey: dict[str, Any] = {"color": "#444444", "marker": "o", "linewidth": 1.0}
    handles = [_handle(scheme) for scheme in schemes]
    handles += [
        Line2D([], [], **grey, label="optimal grid"),
        Line2D([], [], **grey, mfc="white", linestyle=(0, (3, 1.5)), label="exponential grid"),
        Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6, handlelength=3.0)
    return figure


def _slopes(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    begin, end = (_panels.along(across, fraction) for fraction in (0.5, 0.8))
    for slope in (2, 4):
        level = _panels.along(up, 0.95)
        axes.plot([begin, end], [level, level * (end / begin) ** -slope], **_panels.REFERENCE_LINE)
        axes.annotate(
            f"K$^{{-{slope}}}$",
            (end, level * (end / begin) ** -slope),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            **_panels.NOTE,
        )


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("schedules", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

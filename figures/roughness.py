"""The order of KL against the stiffness b, KL against b, and KL as δ → 0, from the study's tables.

``python -m figures.roughness DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from figures import _panels, style
from figures._panels import Row, Tables

_THEORY: dict[str, Any] = {"color": "#000000", "linewidth": 1.0, "linestyle": (0, (1, 1))}
_GRID_LOOKS = (
    ("#D55E00", "o"),
    ("#0072B2", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#000000", "x"),
)
_ORDERS = (-1.2, 7.2)  # of the panels; what lies beyond is drawn at the edge
_LEAST = 1e-10  # nats: no panel reaches below


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``roughness_order``, ``roughness_collapse`` and ``roughness_stop``.

    Raises
    ------
    ValueError
        If no KL is known.
    """
    solved = [row for row in tables.get("", []) if row["kl"] is not None and row["kl"] > 0.0]
    if not solved:
        raise ValueError("rows must hold at least one KL; got none")
    theory = tables.get("_theory", [])
    figures = {}
    if tables.get("_curves"):
        figures["roughness_order"] = _order(tables["_curves"], tables.get("_orders", []), theory)
    figures["roughness_collapse"] = _collapse(solved, theory)
    figures["roughness_stop"] = _stop(solved)
    return figures


def _unique(rows: Sequence[Row], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in rows))


def _figure(height: float, lines: int, title: str) -> Figure:
    figure = Figure(
        figsize=(style.WIDTH, 0.6 + height + 0.17 * lines), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05)
    )
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    return figure


def _handles(schemes: Sequence[str]) -> list[Line2D]:
    looks = [style.look(scheme) for scheme in schemes]
    return [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]


def _order(curves: Sequence[Row], orders: Sequence[Row], theory: Sequence[Row]) -> Figure:
    grids, schemes = _unique(curves, "grid"), _unique(curves, "scheme")
    figure = _figure(2.5, ceil((len(schemes) + 2) / 3), "Order of KL in 1/K between K and 2K: each target, and medians")
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    for axes, grid in zip(panels, grids, strict=True):
        shown = [row for row in curves if row["grid"] == grid]
        axes.set(xscale="log", xlim=_panels.limits([row["stiffness"] for row in shown]), ylim=_ORDERS)
        axes.xaxis.set_major_locator(LogLocator(10.0, numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        for nominal in (2.0, 4.0):
            axes.axhline(nominal, zorder=1, **_panels.REFERENCE_LINE)
        axes.axhline(0.0, color="#444444", linewidth=0.6, zorder=1)
        for scheme in schemes:
            look = style.look(scheme)
            own = [row for row in orders if row["grid"] == grid and row["scheme"] == scheme]
            x, y = [row["stiffness"] for row in own], [_inside(row["order"]) for row in own]
            ends = [[_inside(row[end]) for row in own] for end in ("low", "high")]
            axes.plot(x, y, look.marker, color=look.colour, ms=2.0, mew=0.5, alpha=0.35, zorder=2)
            axes.vlines(x, *ends, color=look.colour, linewidth=0.5, alpha=0.35, zorder=2)
            line = [row for row in shown if row["scheme"] == scheme]
            x, y = [row["stiffness"] for row in line], [_inside(row["order"]) for row in line]
            axes.plot(x, y, color=look.colour, marker=look.marker, ms=3.5, linewidth=1.1, zorder=3)
        if grid == "uniform" and theory and "ddpm" in schemes:
            axes.plot([row["stiffness"] for row in theory], [row["order"] for row in theory], zorder=4, **_THEORY)
        axes.set_title(f"{grid} grids", loc="left", pad=4)
        axes.set_xlabel("largest remembered stiffness b")
    panels[0].set_ylabel("order p of KL ~ K$^{-p}$")
    handles = [*_handles(schemes), Line2D([], [], **_THEORY, label="DDPM, theory, uniform grids")]
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label="nominal orders, 2 and 4"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _inside(order: float) -> float:
    """Return an order moved to the edge of a panel that it lies beyond."""
    return min(max(order, _ORDERS[0] + 0.1), _ORDERS[1] - 0.1)


def _collapse(rows: Sequence[Row], theory: Sequence[Row]) -> Figure:
    grids, schemes = _unique(rows, "grid"), _unique(rows, "scheme")
    columns = min(3, len(schemes))
    lines = ceil(len(schemes) / columns)
    figure = _figure(
        1.9 * lines,
        0 if columns * lines > len(schemes) else 1,
        "KL against the largest remembered stiffness b: every target and K",
    )
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    across = _panels.limits([row["stiffness"] for row in rows])
    up = _panels.limits([max(row["kl"], _LEAST) for row in rows])
    for index, axes in enumerate(panels):
        if index >= len(schemes):
            axes.set_visible(False)
            continue
        _panels.log_axes(axes, across, up)
        axes.xaxis.set_major_locator(LogLocator(10.0, numticks=6))
        axes.yaxis.set_major_locator(LogLocator(10.0, numticks=6))
        for grid, (colour, marker) in zip(grids, _GRID_LOOKS, strict=False):
            own = [row for row in rows if row["grid"] == grid and row["scheme"] == schemes[index]]
            x, y = [row["stiffness"] for row in own], [row["kl"] for row in own]
            axes.plot(x, y, marker, mfc="none", mec=colour, mew=0.6, ms=3.0, alpha=0.8)
        if theory:
            axes.plot([row["stiffness"] for row in theory], [row["kl"] for row in theory], **_THEORY)
        axes.set_title(style.look(schemes[index]).label, loc="left", pad=4)
        if index >= columns * (lines - 1):
            axes.set_xlabel("b")
        axes.tick_params(labelbottom=index + columns >= len(schemes))
        if index % columns == 0:
            axes.set_ylabel("KL (nats)")
    handles = [
        Line2D([], [], linestyle="", marker=marker, mfc="none", mec=colour, label=grid)
        for grid, (colour, marker) in zip(grids, _GRID_LOOKS, strict=False)
    ]
    handles.append(Line2D([], [], **_THEORY, label="DDPM, theory, uniform grids"))
    if columns * lines > len(schemes):  # in the panel that is left
        panels[-1].set_visible(True)
        panels[-1].set_axis_off()
        panels[-1].legend(handles=handles, loc="center", labelspacing=1.0)
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.6)
    return figure


def _stop(rows: Sequence[Row]) -> Figure:
    grids, schemes = _unique(rows, "grid"), _unique(rows, "scheme")
    ladders = [{row["steps"] for row in rows if row["scheme"] == scheme} for scheme in schemes]
    steps = max(set.intersection(*ladders) or ladders[0])
    rows = [row for row in rows if row["steps"] == steps]
    fixed = sorted({row["variance"] for row in rows if row["variance"] != row["early_stop"]})
    lines: list[tuple[str, list[Row]]] = (
        [
            (f"v = {variance:g}", [row for row in rows if row["variance"] == variance])
            for variance in {fixed[0]: 0, fixed[-1]: 0}
        ]
        if fixed
        else []
    )
    equal = [row for row in rows if row["variance"] == row["early_stop"]]
    if len({row["early_stop"] for row in equal}) > 1:
        lines.insert(1, ("v = δ", equal))
    lines = lines or [("", rows)]
    figure = _figure(
        1.65 * len(lines),
        ceil(len(schemes) / 3),
        f"KL as the early stop δ → 0, K = {steps}; v: variance of the components",
    )
    panels = figure.subplots(len(lines), len(grids), sharex=True, sharey=True, squeeze=False)
    across = _panels.limits([row["early_stop"] for row in rows])[::-1]
    up = _panels.limits([row["kl"] for row in rows])
    for line, (label, shown) in zip(panels, lines, strict=True):
        for axes, grid in zip(line, grids, strict=True):
            _panels.log_axes(axes, across, up)
            axes.xaxis.set_major_locator(LogLocator(10.0, numticks=7))
            axes.yaxis.set_major_locator(LogLocator(10.0, numticks=6))
            for scheme in schemes:
                look = style.look(scheme)
                own = sorted(
                    (r["early_stop"], r["kl"], r["error"]) for r in shown if (r["grid"], r["scheme"]) == (grid, scheme)
                )
                if own:
                    x, y, error = zip(*own, strict=True)
                    axes.errorbar(
                        x, y, error, color=look.colour, marker=look.marker, ms=3.5, linewidth=1.0, elinewidth=0.8
                    )
            axes.set_title(f"{grid}, {label}" if label else grid, loc="left", pad=4)
        line[0].set_ylabel("KL (nats)")
    for axes in panels[-1]:
        axes.set_xlabel("early stop δ")
    figure.legend(handles=_handles(schemes), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("roughness", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

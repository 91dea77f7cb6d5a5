"""KL against score evaluations of all samplers, a panel a target, a figure a grid, from the league's rows.

``python -m figures.league DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from figures import _panels, style
from figures._panels import Row, Tables

_COLUMNS = 3
_BETWEEN = (1e-11, 30.0)  # nats; a panel shows no more
_SLOPES = (2, 4, 6)
_ALWAYS = ("ddpm", "srk", "srk_martingale", "srk_third_order_informed")  # drawn in colour whatever their rank
_UNRANKED = ("told", "diffusers")  # of the target, and as diffusers has them: their lines lie on their twins'
_BEST = 6  # so many of the best ranked, too
_OTHERS = "#c9c9c9"
# For samplers that the style has no look for: what those drawn leave free.
_SPARE = (("#8c6d31", "p"), ("#a50f15", "<"), ("#56B4E9", "8"), ("#000000", "|"), ("#117733", "1"), ("#888888", "2"))
_LABELS = {
    "er_sde_2": "ER-SDE-Solver-2",
    "srk_third_point_adapted": "SRK, third point, adapted noise, 2 ev.",
    "srk_adapted": "SRK, adapted noise",
    "dpmpp_2s_sde": "DPM-Solver++(2S) SDE, 2 evaluations",
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``league_GRID`` for each grid.

    Raises
    ------
    ValueError
        If no KL is finite.
    """
    shown = [row for row in tables.get("", []) if isfinite(row["kl"]) and row["kl"] > 0.0]
    if not shown:
        raise ValueError("rows must hold at least one finite KL; got none")
    looks = _looks(tables)
    return {
        f"league_{grid}": _figure([row for row in shown if row["grid"] == grid], grid, looks)
        for grid in dict.fromkeys(row["grid"] for row in shown)
    }


def _looks(tables: Tables) -> dict[str, style.Look]:
    """Return the looks of the samplers that are drawn in colour: the best ranked, and those that readers look for."""
    ranked = [row["scheme"] for row in tables.get("_ranking", [])]
    full = max((row["pairs"] for row in tables.get("_ranking", [])), default=0)
    own = [row for row in tables.get("_ranking", []) if row["origin"] not in _UNRANKED]
    best = [row["scheme"] for row in own if row["pairs"] == full][:_BEST]
    names = list(dict.fromkeys([*best, *(name for name in _ALWAYS if name in ranked)]))
    spare = iter(_SPARE)
    looks = {}
    for name in names:
        if name in style.LOOKS:
            looks[name] = style.LOOKS[name]
        else:
            looks[name] = style.Look(_LABELS.get(name, name.replace("_", " ")), *next(spare))
    return looks


def _figure(rows: Sequence[Row], grid: str, looks: dict[str, style.Look]) -> Figure:
    targets = list(dict.fromkeys(row["target"] for row in rows))
    columns = min(_COLUMNS, len(targets))
    lines = ceil(len(targets) / columns)
    figure = Figure(
        figsize=(style.WIDTH, 0.6 + 0.17 * ceil((len(looks) + 2) / 3) + 2.0 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    title = f"KL of the output against score evaluations, {_panels.GRIDS.get(grid, grid)}"
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    across = _panels.limits([row["nfe"] for row in rows])
    low, high = _panels.limits([row["kl"] for row in rows])
    up = (max(low, _BETWEEN[0]), min(high, _BETWEEN[1]))
    for index, axes in enumerate(panels):
        if index >= len(targets):
            axes.set_visible(False)
            continue
        _panels.log_axes(axes, across, up)
        axes.xaxis.set_major_locator(FixedLocator([8, 16, 32, 64, 128, 256]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
        _lines(axes, [row for row in rows if row["target"] == targets[index]], looks)
        _panels.fan(axes, _SLOPES, (0.06, 0.36), 0.36)  # at the lower left, where there are no data
        axes.set_title(targets[index].replace("_", " "), loc="left", pad=4)
        if index + columns >= len(targets):
            axes.set_xlabel("score evaluations")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("KL (nats)")
    figure.legend(handles=_legend(looks), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _lines(axes: Axes, rows: Sequence[Row], looks: dict[str, style.Look]) -> None:
    for scheme in dict.fromkeys(row["scheme"] for row in rows):
        x, y = zip(*sorted((row["nfe"], row["kl"]) for row in rows if row["scheme"] == scheme), strict=True)
        look = looks.get(scheme)
        if look is None:
            axes.plot(x, y, color=_OTHERS, linewidth=0.6, zorder=1.5)
        else:
            axes.plot(x, y, color=look.colour, marker=look.marker, markersize=3.0, linewidth=0.9, zorder=2.5)


def _legend(looks: dict[str, style.Look]) -> list[Line2D]:
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks.values()]
    others = Line2D([], [], color=_OTHERS, linewidth=0.9, label="all other samplers")
    return [*handles, others, Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes")]


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("league", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""KL of the state against q_t along the run, a panel a target and grid, from the study's rows.

``python -m figures.forgetting DIR`` draws it again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures import _panels, style
from figures._panels import Row, Tables

_COLUMNS = 2
_LOWEST = 1e-13  # below, numerical error is near
_MOST_NOISE = 1e3  # before, data hardly show


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``forgetting``: KL against the variance of the noise, from left to right as the run goes.

    Raises
    ------
    ValueError
        If no KL is finite.
    """
    rows = [
        row
        for row in tables.get("", [])
        if isfinite(row["kl"]) and row["kl"] > max(_LOWEST, row["kl_error"]) and row["noise"] < _MOST_NOISE
    ]
    if not rows:
        raise ValueError("rows must hold at least one finite KL; got none")
    places = list(dict.fromkeys((row["law"], row["grid"]) for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    columns = min(_COLUMNS, len(places))
    lines = ceil(len(places) / columns)
    figure = Figure(
        figsize=(style.WIDTH, 0.5 + 0.17 * ceil(len(schemes) / 3) + 2.3 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    low, high = _panels.limits([row["noise"] for row in rows])
    up = _panels.limits([row["kl"] for row in rows])
    for index, axes in enumerate(panels):
        if index >= len(places):
            axes.set_visible(False)
            continue
        _panels.log_axes(axes, (high, low), up)
        for scheme in schemes:
            _line(axes, [row for row in rows if (row["law"], row["grid"], row["scheme"]) == (*places[index], scheme)])
        law, grid = places[index]
        axes.set_title(f"{law.replace('_', ' ')}, {_panels.GRIDS[grid]}", loc="left", pad=4)
        if index + columns >= len(places):
            axes.set_xlabel("noise variance $e^{2t} - 1$ (the run goes to the right)")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("KL against $q_t$ (nats)")
    looks = [style.look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return {"forgetting": figure}


def _line(axes: Axes, rows: Sequence[Row]) -> None:
    if not rows:
        return
    look = style.look(rows[0]["scheme"])
    x, y, errors = zip(*((row["noise"], row["kl"], row["kl_error"]) for row in rows), strict=True)
    axes.errorbar(x, y, errors, fmt="none", ecolor=look.colour, elinewidth=0.8)
    axes.plot(x, y, color=look.colour, marker=look.marker, markersize=2.6, linewidth=0.9)


def main(argv: list[str] | None = None) -> int:
    """Draw the figure again from a directory that the study has written."""
    return _panels.draw_again("forgetting", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

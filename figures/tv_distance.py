"""Total variation and Pinsker's bound against K, and their ratio against d, from the study's rows.

``python -m figures.tv_distance DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite, pi, sqrt

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures import _panels, style
from figures._panels import Row, Tables, along

_COLUMNS = 3
_SMALL = 0.2  # TV up to here has a ratio worth showing: beyond, it bends to 1
_KNOWN = 0.05  # error of a ratio that is drawn
_GAUSSIAN = sqrt(2.0 / pi)  # of a normal log-ratio


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``tv_distance_steps``, at a middle d, and ``tv_distance_ratio``, at the largest K.

    Raises
    ------
    ValueError
        If no total variation is known.
    """
    rows = [row for row in tables.get("", []) if not row["note"] and row["tv"] > 0.0 and isfinite(row["pinsker"])]
    if not rows:
        raise ValueError("rows must hold at least one total variation; got none")
    figures = {"tv_distance_steps": _steps(rows)}
    known = [row for row in rows if row["tv"] <= _SMALL and _uncertain(row) < _KNOWN]
    if known:
        figures["tv_distance_ratio"] = _ratio(known)
    return figures


def _steps(rows: Sequence[Row]) -> Figure:
    dimensions = sorted({row["dimension"] for row in rows})
    shown = dimensions[(len(dimensions) - 1) // 2]  # at the largest, most samplers are at 1
    rows = [row for row in rows if row["dimension"] == shown]
    figure, panels, schemes = _panel_each(rows, f"Total variation (full) and √(KL/2) (dotted) against K, d = {shown:g}")
    across, up = (_panels.limits(values) for values in ([r["steps"] for r in rows], [r["tv"] for r in rows]))
    up = (up[0] / 30.0, 3.0)
    for name, axes in panels.items():
        _panels.log_axes(axes, across, up)
        axes.set_xticks([8, 32, 128], ["8", "32", "128"])
        _fan(axes, across)
        for scheme in schemes:
            look = style.look(scheme)
            own = sorted(
                (r["steps"], r["tv"], r["pinsker"]) for r in rows if (r["family"], r["scheme"]) == (name, scheme)
            )
            if own:
                x, tv, bound = zip(*own, strict=True)
                axes.plot(x, bound, color=look.colour, linewidth=0.8, linestyle=":")
                axes.plot(x, tv, color=look.colour, marker=look.marker, markersize=3.0, linewidth=0.9)
    _label(panels, "steps K", "total variation")
    return figure


def _ratio(rows: Sequence[Row]) -> Figure:
    figure, panels, schemes = _panel_each(rows, "TV over Pinsker's bound √(KL/2), where TV ≤ 0.2, at the largest K")
    most = max(row["steps"] for row in rows)
    rows = [row for row in rows if row["steps"] == most]
    for name, axes in panels.items():
        axes.set(xscale="log", xlim=_panels.limits([row["dimension"] for row in rows]), ylim=(0.0, 1.05))
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.minorticks_off()
        axes.axhline(_GAUSSIAN, **_panels.REFERENCE_LINE)
        for scheme in schemes:
            look = style.look(scheme)
            own = sorted(
                (row["dimension"], row["ratio"], _uncertain(row))
                for row in rows
                if (row["family"], row["scheme"]) == (name, scheme)
            )
            if own:
                x, y, errors = zip(*own, strict=True)
                axes.errorbar(x, y, errors, color=look.colour, marker=look.marker, markersize=3.0, linewidth=0.9)
    _label(panels, "dimension d", "TV / √(KL/2)")
    return figure


def _uncertain(row: Row) -> float:
    return float(row["ratio"] * (row["tv_error"] / row["tv"] + 0.5 * row["kl_error"] / row["kl"]))


def _panel_each(rows: Sequence[Row], title: str) -> tuple[Figure, dict[str, Axes], list[str]]:
    """Return a figure with a panel a family, and the samplers in it."""
    families, schemes = (list(dict.fromkeys(row[name] for row in rows)) for name in ("family", "scheme"))
    columns = min(_COLUMNS, len(families))
    lines = ceil(len(families) / columns)
    figure = Figure(
        figsize=(style.WIDTH, 0.6 + 0.17 * ceil((len(schemes) + 1) / 3) + 2.1 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(title, fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    looks = [style.look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    reference = "reference slopes" if "against K" in title else "normal log-ratio, √(2/π)"
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label=reference))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure, dict(zip(families, panels, strict=False)), schemes


def _label(panels: dict[str, Axes], across: str, up: str) -> None:
    for index, (name, axes) in enumerate(panels.items()):
        axes.set_title(name.replace("_", " "), loc="left", pad=4)
        if index + _COLUMNS >= len(panels):
            axes.set_xlabel(across)
            axes.tick_params(labelbottom=True)
        if index % _COLUMNS == 0:
            axes.set_ylabel(up)


def _fan(axes: Axes, across: tuple[float, float]) -> None:
    begin, end = along(across, 0.08), along(across, 0.42)
    level = along(axes.get_ylim(), 0.36)
    for slope, label in ((1, "1/K"), (2, "1/K²")):
        far = level * (end / begin) ** -slope
        axes.plot([begin, end], [level, far], **_panels.REFERENCE_LINE)
        axes.annotate(label, (end, far), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("tv_distance", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

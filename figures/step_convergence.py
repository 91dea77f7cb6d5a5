"""KL and TV against score evaluations, a panel a target, from the study's rows.

``python -m figures.step_convergence DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures import _panels, style
from figures._panels import Row, Tables, along

_COLUMNS = 3
_LOWEST = {"kl": 1e-14, "tv": 1e-7}  # below, numerical error is near
_SLOPES = {"kl": (2, 4), "tv": (1, 2)}
_NAMES = {"kl": "KL (nats)", "tv": "total variation"}
_TITLES = {"kl": "KL of the output against score evaluations", "tv": "Total variation against score evaluations"}


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``step_convergence_kl`` and ``step_convergence_tv``.

    Raises
    ------
    ValueError
        If no KL is finite.
    """
    figures = {}
    for of in ("kl", "tv"):
        shown = [row for row in tables.get("", []) if isfinite(row[of]) and row[of] > _LOWEST[of]]
        if shown:
            figures[f"step_convergence_{of}"] = _figure(shown, of)
    if not figures:
        raise ValueError("rows must hold at least one finite KL; got none")
    return figures


def _figure(rows: Sequence[Row], of: str) -> Figure:
    targets, schemes = (list(dict.fromkeys(row[name] for row in rows)) for name in ("target", "scheme"))
    columns = min(_COLUMNS, len(targets))
    lines = ceil(len(targets) / columns)
    figure = Figure(
        figsize=(style.WIDTH, 0.6 + 0.17 * ceil((len(schemes) + 1) / 3) + 2.2 * lines),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    figure.suptitle(_TITLES[of], fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    across = _panels.limits([row["nfe"] for row in rows])
    up = _panels.limits([row[of] for row in rows])
    for index, axes in enumerate(panels):
        if index >= len(targets):
            axes.set_visible(False)
            continue
        _panels.log_axes(axes, across, up)
        _fan(axes, _SLOPES[of])
        for scheme in schemes:
            _line(axes, [row for row in rows if (row["target"], row["scheme"]) == (targets[index], scheme)], scheme, of)
        axes.set_title(targets[index].replace("_", " "), loc="left", pad=4)
        if index + columns >= len(targets):
            axes.set_xlabel("score evaluations")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel(_NAMES[of])
    figure.legend(handles=_legend(schemes), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _line(axes: Axes, rows: Sequence[Row], scheme: str, of: str) -> None:
    look = style.look(scheme)
    points = sorted((row["nfe"], row[of], row[f"{of}_error"]) for row in rows)
    if points:
        x, y, errors = zip(*points, strict=True)
        bars = [min(error, 0.9 * value) for value, error in zip(y, errors, strict=True)]
        axes.errorbar(x, y, [bars, errors], fmt="none", ecolor=look.colour, elinewidth=0.8)
        axes.plot(x, y, color=look.colour, marker=look.marker, markersize=3.0, linewidth=0.9)


def _fan(axes: Axes, slopes: Sequence[int]) -> None:
    """Draw reference slopes at the lower left, where there are no data."""
    begin, end = (along(axes.get_xlim(), fraction) for fraction in (0.06, 0.34))
    level = along(axes.get_ylim(), 0.42)
    for slope in slopes:
        far = level * (end / begin) ** -slope
        axes.plot([begin, end], [level, far], **_panels.REFERENCE_LINE)
        label = f"$N^{{-{slope}}}$"
        axes.annotate(label, (end, far), xytext=(2, -1), textcoords="offset points", va="center", **_panels.NOTE)


def _legend(schemes: Sequence[str]) -> list[Line2D]:
    looks = [style.look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    return [*handles, Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes")]


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("step_convergence", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""KL of samplers over that of a rival, a dot a random mixture, from the study's rows.

``python -m figures.random_mixtures DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures import _panels, style
from figures._panels import Row, Tables

_ACROSS = 0.22  # of a line's height, over which dots spread
_MEAN = "#222222"


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``random_mixtures``: a panel a grid and budget, a line a sampler, dots for laws, a bar for the mean.

    Raises
    ------
    ValueError
        If no ratio is known.
    """
    rows = [row for row in tables.get("", []) if row["ratio"] > 0.0 and isfinite(row["ratio"])]
    if not rows:
        raise ValueError("rows must hold at least one ratio of two KL; got none")
    summary = tables["_ratios"]
    against = summary[0]["against"]
    schemes = [name for name in dict.fromkeys(row["scheme"] for row in rows) if name != against]
    grids, budgets = (sorted({row[key] for row in rows}) for key in ("grid", "evaluations"))
    figure = Figure(
        figsize=(style.WIDTH, 0.8 + len(grids) * (0.5 + 0.24 * max(1, len(schemes)))),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )
    panels = figure.subplots(len(grids), len(budgets), sharex=True, sharey=True, squeeze=False)
    ratios = [row["ratio"] for row in rows]
    for grid, line in zip(grids, panels, strict=True):
        for budget, axes in zip(budgets, line, strict=True):
            here = [row for row in rows if (row["grid"], row["evaluations"]) == (grid, budget)]
            means = {row["scheme"]: row for row in summary if (row["grid"], row["evaluations"]) == (grid, budget)}
            axes.set(xscale="log", xlim=_panels.limits([*ratios, 1.0]))
            axes.axvline(1.0, **_panels.REFERENCE_LINE)
            axes.set_title(f"{_panels.GRIDS[grid]}, {budget} evaluations", loc="left", pad=4)
            _lines(axes, here, means, schemes)
    for axes in panels[-1]:
        axes.set_xlabel(f"KL over that of {style.look(against).label}")
    return {"random_mixtures": figure}


def _lines(axes: Axes, rows: Sequence[Row], means: dict[str, Row], schemes: Sequence[str]) -> None:
    for place, scheme in enumerate(schemes):
        look = style.look(scheme)
        own = sorted((row["law"], row["ratio"]) for row in rows if row["scheme"] == scheme)
        if not own:
            continue
        # Laws in their order from bottom to top, so that the same law is at the same height on each line.
        heights = place + _ACROSS * np.linspace(-1.0, 1.0, len(own)) if len(own) > 1 else [place]
        axes.scatter(
            [ratio for _, ratio in own],
            heights,
            s=8.0,
            color=look.colour,
            alpha=0.7,
            edgecolors="#444444",
            linewidths=0.2,
        )
        mean = means[scheme]
        if isfinite(mean["low"]):
            axes.plot([mean["low"], mean["high"]], [place, place], color=_MEAN, linewidth=1.2)
        axes.plot([mean["mean"]], [place], color=_MEAN, marker="|", markersize=11.0, markeredgewidth=1.4)
    axes.set_yticks(range(len(schemes)), [style.look(scheme).label for scheme in schemes])
    axes.set_ylim(len(schemes) - 0.5, -0.5)
    axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.minorticks_off()


def main(argv: list[str] | None = None) -> int:
    """Draw the figure again from a directory that the study has written."""
    return _panels.draw_again("random_mixtures", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

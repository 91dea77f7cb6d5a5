"""Distances against score evaluations, a panel a target, and samples side by side, from the rows of studies.images.

``python -m figures.images DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from math import ceil, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from figures import _panels, style
from figures._panels import Row, Tables

_EXACT = "exact"
_MEASURES = {
    "frechet": "Fréchet distance, pixels",
    "features": "Fréchet distance, scattering",
    "sliced": "sliced Wasserstein distance",
    "energy": "energy distance",
}
_TITLES = {
    "digits_fitted": "digits 8×8, 10 components",
    "digits_empirical": "digits 8×8, each of 1797 a component",
    "patches_fitted": "patches 8×8, 10 components",
    "mnist_fitted": "MNIST 28×28, 10 components",
    "mnist_empirical": "MNIST 28×28, each of 5000 a component",
}
# For samplers that the style has no look for: what those drawn leave free.
_LOOKS = {
    "ddim_eta0": style.Look("DDIM, η = 0 (an ODE)", "#8c6d31", "p"),
    "er_sde_3": style.Look("ER-SDE-Solver-3", "#a50f15", "8"),
}
_CLEAR = 2.0  # errors above zero make a distance that can be drawn
_HIGHEST = 300.0  # times the floor: beyond, nothing looks like an image
_IMAGE_GAP, _BLOCK_GAP, _ZOOM = 1, 5, {8: 8, 28: 3}  # pixels of the images; what one is enlarged by


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``images_frechet`` and ``images_measures``, where there are distances, and ``images_grid_TARGET``.

    Raises
    ------
    ValueError
        If there are neither distances nor images.
    """
    figures = {}
    shown = [row for row in tables.get("", []) if not np.isnan(row["frechet"])]
    if shown:
        floors = {row["target"]: row for row in tables.get("_floors", [])}
        figures["images_frechet"] = _distances(shown, floors, ["frechet"], 2)
        figures["images_measures"] = _distances(shown, floors, [name for name in _MEASURES if name != "frechet"], 3)
    pictures = [row for row in tables.get("_grids", []) if row["images"]]
    for target in dict.fromkeys(row["target"] for row in pictures):
        figures[f"images_grid_{target}"] = _grid(target, [row for row in pictures if row["target"] == target])
    if not figures:
        raise ValueError("rows must hold at least one distance or one image; got none")
    return figures


def look(scheme: str) -> style.Look:
    """Return how a sampler is drawn."""
    return _LOOKS.get(scheme) or style.look(scheme)


def _distances(rows: Sequence[Row], floors: dict[str, Row], measures: Sequence[str], columns: int) -> Figure:
    """Return a panel for each target and measure."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    panels = [(target, measure) for target in targets for measure in measures]
    columns = min(columns, len(panels))
    lines = ceil(len(panels) / columns)
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    height = {2: 2.5, 3: 1.9}.get(columns, 3.0)
    legend = 0.17 * ceil((len(schemes) + 1) / 3)
    figure = Figure(
        figsize=(style.WIDTH, 0.4 + legend + height * lines), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    )
    places = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
    across = _panels.limits([row["nfe"] for row in rows])
    for index, axes in enumerate(places):
        if index >= len(panels):
            axes.set_visible(False)
            continue
        target, measure = panels[index]
        own = [row for row in rows if row["target"] == target]
        _panel(axes, own, measure, floors.get(target), across)
        several = len(measures) > 1
        title = _TITLES.get(target, target.replace("_", " "))
        if not several or index % columns == 0:
            axes.set_title(title, loc="left", pad=4)
        axes.set_ylabel(_MEASURES[measure] if several or index % columns == 0 else "")
        if index + columns >= len(panels):
            axes.set_xlabel("score evaluations")
            axes.tick_params(labelbottom=True)
    handles = [_handle(scheme) for scheme in schemes]
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label="plain distance of as many exact draws"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.4)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], measure: str, floor: Row | None, across: tuple[float, float]) -> None:
    """Draw the distances that are clear of zero, with their errors, and what exact draws are at."""
    error = f"{measure}_error"
    clear = [row for row in rows if isfinite(row[measure]) and row[measure] > _CLEAR * row[error]]
    values = [row[measure] for row in clear]
    level = floor[measure] if floor else None
    if level:
        values = [value for value in values if value < _HIGHEST * level] + [level]
    _panels.log_axes(axes, across, _panels.limits(values or [1.0]))
    axes.xaxis.set_major_locator(FixedLocator(sorted({row["evaluations"] for row in rows})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:g}"))
    _panels.fan(axes, (2,), (0.68, 0.86), 0.95)
    if level:
        axes.axhline(level, **_panels.REFERENCE_LINE, zorder=1.5)
    for scheme in dict.fromkeys(row["scheme"] for row in rows):
        points = sorted((row["nfe"], row[measure], row[error]) for row in clear if row["scheme"] == scheme)
        if points:
            x, y, bars = (np.array(part) for part in zip(*points, strict=True))
            axes.errorbar(x, y, yerr=np.minimum(bars, 0.9 * y), **_line(scheme), elinewidth=0.6, capsize=0)


def _line(scheme: str) -> dict[str, Any]:
    own = look(scheme)
    return {"color": own.colour, "marker": own.marker, "markersize": 3.2, "linewidth": 0.9}


def _handle(scheme: str) -> Line2D:
    return Line2D([], [], **_line(scheme), label=look(scheme).label)


def _grid(target: str, rows: Sequence[Row]) -> Figure:
    """Return samples of a target: a line a sampler, a block of columns a budget, the same starts and noise in all."""
    side = rows[0]["side"]
    budgets = sorted({row["evaluations"] for row in rows if row["scheme"] != _EXACT}) or [0]  # exact images alone
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    known = {(row["scheme"], row["evaluations"]): decoded(row) for row in rows}
    count = max(len(images) for images in known.values())
    block = count * (side + _IMAGE_GAP) - _IMAGE_GAP
    wide = len(budgets) * (block + _BLOCK_GAP) - _BLOCK_GAP
    tall = len(schemes) * (side + _IMAGE_GAP) - _IMAGE_GAP
    canvas = np.full((tall, wide), 255, np.uint8)
    for line, scheme in enumerate(schemes):
        for column, budget in enumerate(budgets):
            images = known.get((scheme, 0 if scheme == _EXACT else budget), np.empty((0, side, side), np.uint8))
            for place, image in enumerate(images):
                left = column * (block + _BLOCK_GAP) + place * (side + _IMAGE_GAP)
                top = line * (side + _IMAGE_GAP)
                canvas[top : top + side, left : left + side] = image
    zoom = _ZOOM.get(side, 1)
    canvas = np.kron(canvas, np.ones((zoom, zoom), np.uint8))
    left_margin, top_margin = 1.35, 0.46  # inches, for the labels
    width = style.WIDTH - left_margin - 0.05
    height = width * tall / wide
    figure = Figure(figsize=(style.WIDTH, height + top_margin + 0.05))
    total = height + top_margin + 0.05
    axes = figure.add_axes((left_margin / style.WIDTH, 0.05 / total, width / style.WIDTH, height / total))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, wide, tall, 0), interpolation="none")
    axes.set_axis_off()
    for line, scheme in enumerate(schemes):
        name = "fine run" if scheme == _EXACT else _short(scheme)
        axes.text(-2.0 * wide / 200, line * (side + _IMAGE_GAP) + side / 2, name, ha="right", va="center", fontsize=7.5)
    for column, budget in enumerate(budgets):
        middle = column * (block + _BLOCK_GAP) + block / 2
        axes.text(middle, -0.012 * wide, str(budget or ""), ha="center", va="bottom", fontsize=7.5)
    title = f"{_TITLES.get(target, target.replace('_', ' '))}: samples by score evaluations, common starts and noise"
    figure.text(0.012, 1.0 - 0.06 / total, title, ha="left", va="top", fontsize=8.5)
    return figure


def decoded(row: Row) -> NDArray[np.uint8]:
    """Return the images of a row, (count, side, side) grey values."""
    flat = np.frombuffer(base64.b64decode(row["images"]), dtype=np.uint8)
    return flat.reshape(-1, row["side"], row["side"])


def _short(scheme: str) -> str:
    """Return a label that fits beside a line of images."""
    return {
        "srk_martingale": "SRK, martingale",
        "srk_third_point": "SRK, third point",
        "srk_third_point_1": "SRK, third point",
        "srk_third_order": "SRK, weak order 3",
        "dpmpp_2m_sde": "DPM-Solver++(2M)",
        "ddpm_posterior": "DDPM, posterior",
        "ddpm_beta": "DDPM, β",
        "seeds_3": "SEEDS-3",
        "sa_p2": "SA-Solver",
        "ddim_eta0": "DDIM, η = 0",
    }.get(scheme, look(scheme).label)


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("images", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

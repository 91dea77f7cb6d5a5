"""The largest constants found, and steps against the dimension on the family with the largest exponent.

``python -m figures.hard_instances DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures import _panels, style
from figures._panels import Row, Tables, along

_GRIDS = {"exponential": ("#0072B2", "D"), "optimised": ("#009E73", "v")}
_DDPM = style.look("ddpm")


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``hard_instances_found``: constants on the left, the worst family on the right.

    Raises
    ------
    ValueError
        If no search has ended.
    """
    constants, curves = tables.get("", []), tables.get("_curves", [])
    if not constants and not curves:
        raise ValueError("rows must hold at least one search; got none")
    figure = Figure(figsize=(style.WIDTH, 3.2), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))
    left, right = figure.subplots(1, 2)
    _constants(left, constants)
    _steps(right, tables.get("_exponents", []), curves)
    return {"hard_instances_found": figure}


def _constants(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw every result, so that one sees whether searches agree, and DDPM on the same direction and grid.

    The constants are those at four times the steps of the search, where no error passes through zero by accident.
    """
    if not rows:
        axes.set_visible(False)
        return
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    for index, (grid, (colour, marker)) in enumerate(_GRIDS.items()):
        own = [row for row in rows if row["grid"] == grid]
        x = [shapes.index(row["shape"]) + 0.24 * (index - 0.5) for row in own]
        errors = [row["constant_error"] for row in own]
        scheme = style.look(rows[0]["scheme"]).label
        axes.errorbar(
            x,
            [row["constant_4k"] for row in own],
            errors,
            fmt=marker,
            color=colour,
            markersize=5.0,
            label=f"{scheme}, {grid} grid",
        )
        axes.plot(
            x,
            [row["constant"] * row["ddpm_ratio"] for row in own],
            _DDPM.marker,
            mfc="white",
            mec=colour,
            markersize=5.0,
            label=f"DDPM there, {grid} grid",
        )
    axes.set_yscale("log")
    axes.set_xlim(-0.5, len(shapes) - 0.5)
    axes.set_xticks(
        range(len(shapes)), [{"gaussian": "Gaussian"}.get(shape, f"{shape} components") for shape in shapes]
    )
    axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_ylabel("largest KL · K² / d found (nats), at 4K")
    axes.set_title("Constants", loc="left", pad=4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=6.5, columnspacing=1.0)


def _steps(axes: Axes, exponents: Sequence[Row], curves: Sequence[Row]) -> None:
    if not curves:
        axes.set_visible(False)
        return
    worst = max(exponents, key=lambda row: float(row["exponent"]))["seed"] if exponents else curves[0]["seed"]
    own = sorted((row for row in curves if row["seed"] == worst), key=lambda row: int(row["dimension"]))
    x = [row["dimension"] for row in own]
    scheme = style.look(own[0]["scheme"])
    every = [row[name] for row in own for name in ("steps", "ddpm_steps")]
    across, up = _panels.limits(x), _panels.limits([*every, max(every) * 30.0])
    _panels.log_axes(axes, across, up)
    for look, name in ((_DDPM, "ddpm_steps"), (scheme, "steps")):
        axes.plot(
            x, [row[name] for row in own], color=look.colour, marker=look.marker, markersize=4.0, label=look.label
        )
    counted = [(row["dimension"], row["counted"]) for row in own if row["counted"] is not None]
    if counted:
        axes.plot(*zip(*counted, strict=True), "o", mfc="none", mec="#000000", markersize=8.0, label="K* counted")
    begin, end = along(across, 0.08), along(across, 0.5)
    level = along(up, 0.5)
    for slope, label in ((1.5, "$d^{3/2}$"), (0.5, "$d^{1/2}$")):
        far = min(level * (end / begin) ** slope, up[1] / 1.3)
        stop = begin * (far / level) ** (1.0 / slope)
        axes.plot([begin, stop], [level, far], **_panels.REFERENCE_LINE)
        axes.annotate(label, (stop, far), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)
    axes.set_xlabel("dimension d")
    axes.set_ylabel("steps K* to KL ≤ ε², ε = 0.3")
    axes.set_title("Family with the largest exponent", loc="left", pad=4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=6.5, columnspacing=1.0)


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("hard_instances", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

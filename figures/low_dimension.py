"""Score evaluations against the ambient d and the intrinsic k, and the KL of single directions against K.

``python -m figures.low_dimension DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from figures import _panels, style
from figures._panels import Row, Tables, along
from figures.style import Look

_LOWEST = 1e-18  # nats: below, rounding is near, and no reader cares
_LOOKS = {
    "srk_adapted": Look("SRK, adapted stage noise", "#000000", "*"),
    "srk_third_point_adapted": Look("third point, adapted, 2 evaluations", "#E69F00", "p"),
    "srk_third_point": Look("third point, 2 evaluations", "#009E73", "v"),
    "srk_third_point_1": Look("third point, 1 evaluation", "#009E73", "P"),
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``low_dimension_steps`` and ``low_dimension_directions``; the former for the first kind of directions.

    Raises
    ------
    ValueError
        If no number of steps is known.
    """
    solved = [row for row in tables.get("", []) if row["steps"] is not None]
    if not solved:
        raise ValueError("rows must hold at least one number of steps; got none")
    solved = [row for row in solved if row["intrinsic"] == solved[0]["intrinsic"]]
    units = [row for row in tables.get("_directions", []) if row["intrinsic"] == solved[0]["intrinsic"]]
    schemes = list(dict.fromkeys(row["scheme"] for row in solved))
    figures = {"low_dimension_steps": _steps(solved, schemes)}
    if units:
        figures["low_dimension_directions"] = _directions(units, schemes)
    return figures


def _steps(rows: Sequence[Row], schemes: Sequence[str]) -> Figure:
    epsilon = min(row["epsilon"] for row in rows)
    rows = [row for row in rows if row["epsilon"] == epsilon]
    variances = list(dict.fromkeys(row["ambient_variance"] for row in rows))
    sweeps = [varied for varied in "dk" if any(row["varied"] == varied for row in rows)]
    figure = _figure(2.35 * len(sweeps), len(schemes) + 1)
    figure.suptitle(f"Score evaluations until KL ≤ ε², ε = {epsilon:g}", fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(len(sweeps), len(variances), sharey=True, squeeze=False)
    up = _panels.limits([row["nfe"] for row in rows])
    for varied, line in zip(sweeps, panels, strict=True):
        variable, fixed = ("dimension", "rank") if varied == "d" else ("rank", "dimension")
        for variance, axes in zip(variances, line, strict=True):
            shown = [row for row in rows if row["varied"] == varied and row["ambient_variance"] == variance]
            if not shown:
                axes.set_visible(False)
                continue
            _panels.log_axes(axes, _panels.limits([row[variable] for row in shown]), (up[0] / 1.5, up[1]))
            _fan(axes, ((0.5, "$^{1/2}$"), (0.25, "$^{1/4}$")), varied)
            for scheme in schemes:
                points = sorted((row[variable], row["nfe"], row) for row in shown if row["scheme"] == scheme)
                _line(axes, scheme, [point[:2] for point in points], [_spread(point[2]) for point in points])
            known = f"{'k' if varied == 'd' else 'd'} = {shown[0][fixed]:g}"
            axes.set_title(f"{known}, other directions of variance {variance:g}", loc="left", pad=4)
            axes.set_xlabel("ambient dimension d" if varied == "d" else "intrinsic dimension k")
        line[0].set_ylabel("score evaluations")
    figure.legend(handles=_legend(schemes), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _spread(row: Row) -> tuple[float, float]:
    """Return how far below and above the interval of the number of evaluations reaches."""
    each = row["nfe"] / row["steps"]
    return each * (row["steps"] - row["steps_low"]), each * (row["steps_high"] - row["steps"])


def _directions(units: Sequence[Row], schemes: Sequence[str]) -> Figure:
    variances = list(dict.fromkeys(row["ambient_variance"] for row in units))
    titles = {("intrinsic", variances[0]): f"intrinsic direction ({units[0]['intrinsic']})"}
    titles |= {("ambient", variance): f"ambient direction, variance {variance:g}" for variance in variances}
    figure = _figure(2.7, len(schemes) + 1)
    figure.suptitle("KL of one direction in nats", fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    drawn = [row for row in units if row["kl"] > _LOWEST and row["kl"] < float("inf")]
    across = _panels.limits([row["steps"] for row in units])
    up = _panels.limits([row["kl"] for row in drawn] or [1.0])
    for axes, ((part, variance), title) in zip(panels, titles.items(), strict=True):
        shown = [row for row in units if row["part"] == part and row["ambient_variance"] == variance]
        _panels.log_axes(axes, across, up)
        if axes is panels[0]:
            _fan(axes, ((-2.0, "$^{-2}$"), (-4.0, "$^{-4}$"), (-6.0, "$^{-6}$")), "K", (0.06, 0.4, 0.5))
        exact = []
        for scheme in schemes:
            own = [row for row in shown if row["scheme"] == scheme]
            points = sorted((row["steps"], row["kl"]) for row in own if row in drawn)
            if own and max(row["kl"] for row in own) < _LOWEST:
                exact.append(_look(scheme))
            _line(axes, scheme, points, [(0.0, 0.0)] * len(points))
        if exact:
            axes.annotate("exact:", (0.03, 0.06), xycoords="axes fraction", va="center", **_panels.NOTE)
            for place, look in enumerate(exact):
                axes.plot(
                    0.25 + 0.08 * place, 0.06, look.marker, color=look.colour, transform=axes.transAxes, clip_on=False
                )
        axes.set_title(title, loc="left", pad=4)
        axes.set_xlabel("steps K")
    panels[0].set_ylabel("KL in nats")
    figure.legend(handles=_legend(schemes), loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _figure(height: float, entries: int) -> Figure:
    return Figure(
        figsize=(style.WIDTH, 0.6 + height + 0.17 * ceil(entries / 3)),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05),
    )


def _line(
    axes: Axes, scheme: str, points: Sequence[tuple[float, float]], spread: Sequence[tuple[float, float]]
) -> None:
    if not points:
        return
    look = _look(scheme)
    x, y = zip(*points, strict=True)
    axes.errorbar(
        x,
        y,
        list(zip(*spread, strict=True)),
        color=look.colour,
        marker=look.marker,
        markersize=6.0 if look.marker == "*" else 4.0,
        linewidth=1.0,
        elinewidth=0.9,
        zorder=3,
    )


def _fan(
    axes: Axes,
    slopes: Sequence[tuple[float, str]],
    variable: str,
    place: tuple[float, float, float] = (0.06, 0.36, 0.76),
) -> None:
    """Draw reference slopes from one point, ``place``: begin and end across and the height, as fractions."""
    begin, end = (along(axes.get_xlim(), fraction) for fraction in place[:2])
    level = along(axes.get_ylim(), place[2])
    for slope, power in slopes:
        far = level * (end / begin) ** slope
        axes.plot([begin, end], [level, far], **_panels.REFERENCE_LINE, zorder=2)
        axes.annotate(
            f"{variable}{power}", (end, far), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE
        )


def _look(scheme: str) -> Look:
    return _LOOKS.get(scheme) or style.look(scheme)


def _legend(schemes: Sequence[str]) -> list[Line2D]:
    looks = [_look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    return [*handles, Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes")]


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("low_dimension", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

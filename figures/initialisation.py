"""What a start from N(0, I) costs against the horizon T, and the horizon of least KL against K, from the study's rows.

``python -m figures.initialisation DIR`` draws them again from the tables in DIR.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from figures import _panels, style
from figures._panels import Row, Tables

_AT_START, _AT_OUTPUT = ("#D55E00", "o", "at the start"), ("#0072B2", "s", "left at the output")


def draw(tables: Tables) -> dict[str, Figure]:
    """Return ``initialisation_rates`` and ``initialisation_horizons``, both at the smallest and the largest d.

    Raises
    ------
    ValueError
        If there is no row.
    """
    figures = {}
    if tables.get("_starts"):
        figures["initialisation_rates"] = _rates(tables["_starts"])
    if tables.get(""):
        figures["initialisation_horizons"] = _horizons(tables[""])
    if not figures:
        raise ValueError("rows must hold at least one horizon; got none")
    return figures


def _rates(rows: Sequence[Row]) -> Figure:
    families, largest = list(dict.fromkeys(row["family"] for row in rows)), max(row["dimension"] for row in rows)
    rows = [row for row in rows if row["dimension"] == largest]
    figure = _figure(2.95)
    figure.suptitle(f"KL that a start from N(0, I) costs, d = {largest:g}", fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)[0]
    values = [row[of] for row in rows for of in ("kl_start", "kl_output") if row[of] > 0.0]
    for family, axes in zip(families, panels, strict=True):
        own = [row for row in rows if row["family"] == family]
        times = [row["horizon"] for row in own]
        for (colour, marker, _), of in ((_AT_START, "kl_start"), (_AT_OUTPUT, "kl_output")):
            points = [(row["horizon"], row[of], min(row[f"{of}_error"], 0.9 * row[of])) for row in own if row[of] > 0.0]
            if points:
                x, y, errors = zip(*points, strict=True)
                axes.errorbar(x, y, errors, color=colour, marker=marker, markersize=3.5, linewidth=1.0)
        axes.plot(times, [row["bound"] for row in own], color="#000000", linewidth=1.0, linestyle=(0, (1, 1.5)))
        # Slopes apart from the data, from the lower left corner.
        level, begin, end = min(values) * 1e9, min(times), min(times) + 0.3 * (max(times) - min(times))
        for rate in (2, 4, 8):
            far = level * exp(-rate * (end - begin))
            axes.plot([begin, end], [level, far], **_panels.REFERENCE_LINE)
            label = f"$e^{{-{rate}T}}$"
            axes.annotate(label, (end, far), xytext=(3, 0), textcoords="offset points", va="center", **_panels.NOTE)
        _log_up(axes)
        axes.set_title(family.replace("_", " "), loc="left", pad=4)
        axes.set_xlabel("horizon T")
    panels[0].set_ylabel("KL (nats)")
    handles = [Line2D([], [], color=c, marker=m, label=label) for c, m, label in (_AT_START, _AT_OUTPUT)]
    handles.append(Line2D([], [], color="#000000", linestyle=(0, (1, 1.5)), label="the theorem's term $e^{-2T}d$"))
    handles.append(Line2D([], [], **_panels.REFERENCE_LINE, label="reference slopes"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.6)
    return figure


def _horizons(rows: Sequence[Row]) -> Figure:
    families, schemes = (list(dict.fromkeys(row[name] for row in rows)) for name in ("family", "scheme"))
    dimensions = sorted({row["dimension"] for row in rows})
    ends = dict(zip((dimensions[0], dimensions[-1]), ("-", ":"), strict=True))
    figure = _figure(3.3)
    figure.suptitle("Horizon of least KL from N(0, I) against K", fontsize=9.0, x=0.012, ha="left")
    panels = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)[0]
    steps = sorted({row["steps"] for row in rows})
    for family, axes in zip(families, panels, strict=True):
        for scheme in schemes:
            look = style.look(scheme)
            for dimension, dashes in ends.items():
                own = sorted(
                    (row["steps"], row["horizon"])
                    for row in rows
                    if (row["family"], row["scheme"], row["dimension"]) == (family, scheme, dimension)
                )
                if own:
                    x, y = zip(*own, strict=True)
                    axes.plot(
                        x, y, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.0, linestyle=dashes
                    )
        axes.set_xscale("log")
        axes.set_xticks(steps, [f"{k:g}" for k in steps])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0.0)
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_title(family.replace("_", " "), loc="left", pad=4)
        axes.set_xlabel("steps K")
    panels[0].set_ylabel("horizon T* of least KL")
    looks = [style.look(scheme) for scheme in schemes]
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks]
    for dimension, dashes in ends.items():
        handles.append(Line2D([], [], color="#444444", linestyle=dashes, label=f"d = {dimension:g}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


def _figure(height: float) -> Figure:
    return Figure(figsize=(style.WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))


def _log_up(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10.0, numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)


def main(argv: list[str] | None = None) -> int:
    """Draw the figures again from a directory that the study has written."""
    return _panels.draw_again("initialisation", __doc__, draw, argv)


if __name__ == "__main__":
    raise SystemExit(main())

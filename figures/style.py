"""How figures look: fonts and lines, and each scheme's colour, marker and label."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
WIDTH = 7.0  # inches, the text width of a page
REFERENCE = "#8a8a8a"


@dataclass(frozen=True)
class Look:
    """How a scheme is drawn."""

    label: str
    colour: str
    marker: str


# Okabe & Ito's palette, which readers with any colour vision tell apart; markers differ as well.
LOOKS: dict[str, Look] = {
    "euler_maruyama": Look("Euler–Maruyama", "#000000", "x"),
    "exponential_euler": Look("exponential Euler", "#E69F00", "s"),
    "ddpm": Look("DDPM", "#D55E00", "o"),
    "ddpm_beta": Look("DDPM, σ² = β", "#D55E00", "<"),
    "ddpm_posterior": Look("DDPM, σ² = posterior", "#D55E00", ">"),
    "srk": Look("SRK", "#0072B2", "D"),
    "srk_martingale": Look("SRK, martingale weights", "#56B4E9", "^"),
    "srk_third_point": Look("SRK, third point, 2 evaluations", "#009E73", "v"),
    "srk_third_point_1": Look("SRK, third point, 1 evaluation", "#009E73", "P"),
    "srk_third_order": Look("SRK, weak order 3", "#000000", "*"),
    "srk_third_order_fitted": Look("SRK, weak order 3, fitted", "#882255", "*"),
    "srk_third_order_informed": Look("SRK, weak order 3, told variances", "#332288", "p"),
    "dpmpp_2m_sde": Look("DPM-Solver++(2M) SDE", "#CC79A7", "X"),
    "sa_p2": Look("SA-Solver, predictor 2", "#E69F00", "h"),
    "seeds_3": Look("SEEDS-3, 3 evaluations a step", "#7a4fa0", "d"),
}
_SPARE_COLOURS = ("#000000", "#CC79A7", "#F0E442", "#56B4E9")
_SPARE_MARKERS = ("p", "h", "*", "d", "8")


def look(scheme: str) -> Look:
    """Return how ``scheme`` is drawn; a name without an entry gets a look of its own, always the same."""
    if scheme in LOOKS:
        return LOOKS[scheme]
    index = sum(scheme.encode())
    colour = _SPARE_COLOURS[index % len(_SPARE_COLOURS)]
    return Look(scheme.replace("_", " "), colour, _SPARE_MARKERS[index % len(_SPARE_MARKERS)])


def style() -> Any:
    """Return the context in which figures are drawn and saved."""
    return rc_context(RC)  # type: ignore[arg-type]


def save(figure: Figure, stem: Path, metadata: Mapping[str, str] | None = None) -> list[Path]:
    """Write ``figure`` as STEM.png (200 dpi) and STEM.pdf, each in one move; return the two paths."""
    FigureCanvasAgg(figure)
    written = []
    for kind in ("png", "pdf"):
        path = stem.with_name(f"{stem.name}.{kind}")
        handle, name = tempfile.mkstemp(dir=stem.parent, prefix=f".{stem.name}.", suffix=f".{kind}")
        os.close(handle)
        try:
            # Without a date the same rows give the same file.
            plain = {"CreationDate": None} if kind == "pdf" else {}
            figure.savefig(name, format=kind, metadata={**plain, **(metadata or {})})
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        written.append(path)
    return written

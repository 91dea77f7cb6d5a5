"""What the study of roughness says: KL as δ → 0, the order against the stiffness, where it breaks, and what is left."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp, inf, log, sqrt
from statistics import median

from studies._geometric_mean import geometric_mean
from studies._study import Report, Row, Table, Tables

_EDGES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, inf)
_FAR = 30.0  # b beyond which nothing of an expansion is left
_STIFF = 3.0


def report(tables: Tables, options: Namespace) -> Report:
    """Return tables and verdict; ranges are over targets and numbers of steps, intervals are of 95%."""
    rows, orders, breaks, theory = (tables.get(suffix, []) for suffix in ("", "_orders", "_breaks", "_theory"))
    solved = [row for row in rows if row["kl"] is not None]
    if not solved:
        return Report([], ["No KL is known: no verdict."])
    shown = [_stop_table(rows), _order_table(orders), _break_table(breaks)]
    said = [*_break_words(breaks), _collapse_words(breaks), _theory_words(orders, theory)]
    said += [_left_words(solved), _lone_words(solved), *_grid_words(rows, orders), _missing_words(rows)]
    return Report([table for table in shown if table.rows], [words for words in said if words] or ["Too few KLs."])


def spread(values: Iterable[float]) -> str:
    """Return the median and the range of numbers; "–" if there are none."""
    known = list(values)
    if not known:
        return "–"
    text = _short(median(known))
    return text if len(known) == 1 else f"{text} ({_short(min(known))}–{_short(max(known))})"


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 99.5 or abs(value) >= 9950 else f"{value:.0f}"


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _where(rows: Sequence[Row], **fixed: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in fixed.items())]


def _shown_steps(rows: Sequence[Row]) -> int:
    """Return the largest number of steps that all schemes have."""
    ladders = [{row["steps"] for row in _where(rows, scheme=scheme)} for scheme in _names(rows, "scheme")]
    shared = set.intersection(*ladders)
    return int(max(shared or ladders[0]))


def _stop_table(rows: Sequence[Row]) -> Table:
    steps, variance = _shown_steps(rows), min(row["variance"] for row in rows)
    own = _where(rows, steps=steps, variance=variance)
    stops = sorted({row["early_stop"] for row in own}, reverse=True)
    lines = []
    for grid in _names(own, "grid"):
        for scheme in _names(own, "scheme"):
            known = {row["early_stop"]: row["kl"] for row in _where(own, grid=grid, scheme=scheme)}
            values = [known.get(stop) for stop in stops]
            lines.append([grid, scheme, *("–" if value is None else f"{value:.1e}" for value in values)])
    title = f"KL in nats with K = {steps}, components of variance {variance:g}"
    return Table(title, ["grid", "scheme", *(f"δ = {stop:g}" for stop in stops)], lines)


def _order_table(orders: Sequence[Row]) -> Table:
    bins = [(low, high) for low, high in pairwise(_EDGES)]
    used = [edge for edge in bins if any(edge[0] <= row["stiffness"] < edge[1] for row in orders)]
    lines = []
    for grid in _names(orders, "grid"):
        for scheme in _names(orders, "scheme"):
            own = _where(orders, grid=grid, scheme=scheme)
            parts = [[row["order"] for row in own if low <= row["stiffness"] < high] for low, high in used]
            lines.append([grid, scheme, *(f"{median(part):.2f}" if part else "–" for part in parts)])
    titles = [f"b < {high:g}" if low == 0.0 else f"> {low:g}" if high == inf else f"< {high:g}" for low, high in used]
    return Table("Order p of KL ~ K^−p between K and 2K, by b: medians", ["grid", "scheme", *titles], lines)


def _break_table(breaks: Sequence[Row]) -> Table:
    lines = []
    for grid in _names(breaks, "grid"):
        for scheme in _names(breaks, "scheme"):
            own = _where(breaks, grid=grid, scheme=scheme)
            if not own:
                continue
            found = [row["stiffness"] for row in own if row["stiffness"] is not None]
            most = max(row["most_stiffness"] for row in own)
            lines.append(
                [grid, scheme, f"{own[0]['half_order']:g}", f"{len(found)}/{len(own)}", spread(found), _short(most)]
            )
    header = ["grid", "scheme", "half of p", "targets", "breaks at b", "largest b"]
    return Table("Where the order falls below half of its nominal value for good: median (range)", header, lines)


def _break_words(breaks: Sequence[Row]) -> list[str]:
    words = []
    for grid in _names(breaks, "grid"):
        for scheme in _names(breaks, "scheme"):
            found = [
                row["stiffness"] for row in _where(breaks, grid=grid, scheme=scheme) if row["stiffness"] is not None
            ]
            if len(found) < 3:
                continue
            middle, low, high = geometric_mean(found)
            words.append(
                f"{grid}: the order of {scheme} falls below half at b = {middle:.2g} [{low:.2g}, {high:.2g}] "
                f"(geometric mean over {len(found)} targets)."
            )
    return words


def _collapse_words(breaks: Sequence[Row]) -> str:
    """Compare how far the places of the break lie apart in b and in h/δ, on uniform grids."""
    ratios = []
    for scheme in _names(breaks, "scheme"):
        found = [row for row in _where(breaks, grid="uniform", scheme=scheme) if row["stiffness"] is not None]
        if len(found) > 2:
            plain = [row["stiffness"] * _ratio(row["variance"], row["early_stop"]) for row in found]
            stiff = [row["stiffness"] for row in found]
            ratios.append((scheme, max(stiff) / min(stiff), max(plain) / min(plain)))
    if not ratios:
        return ""
    listed = ", ".join(f"{scheme} {_short(stiff)} and {_short(plain)}" for scheme, stiff, plain in ratios)
    return f"Over targets these places differ by a factor, in b and in h/δ: {listed}."


def _ratio(variance: float, stop: float) -> float:
    """Return h/δ over b on a uniform grid, whose last step is the stiffest."""
    kept = exp(-2.0 * stop)
    return (1.0 - (1.0 - variance) * kept) / ((1.0 - variance) * kept * stop)


def _theory_words(orders: Sequence[Row], theory: Sequence[Row]) -> str:
    own = _where(orders, grid="uniform", scheme="ddpm")
    if not own or len(theory) < 2:
        return ""
    off = []
    for row in own:
        near = min(theory, key=lambda point: abs(log(point["stiffness"] / row["stiffness"])))
        off.append(row["order"] - near["order"])
    size = sqrt(sum(value * value for value in off) / len(off))
    return (
        "DDPM on uniform grids against the order of an excess of variance by 1 + b, which is half at b = 2.2: "
        f"measured orders differ by {size:.2f} (root mean square), at most {max(map(abs, off)):.2f}."
    )


def _left_words(rows: Sequence[Row]) -> str:
    """Say what is left of the advantage over DDPM on uniform grids, far beyond the break and before it."""
    parts = []
    rivals = {_place(row): row["kl"] for row in _where(rows, grid="uniform", scheme="ddpm")}
    for scheme in _names(rows, "scheme"):
        own = [row for row in _where(rows, grid="uniform", scheme=scheme) if _place(row) in rivals]
        far = [rivals[_place(row)] / row["kl"] for row in own if row["stiffness"] > _FAR]
        near = [rivals[_place(row)] / row["kl"] for row in own if row["stiffness"] < 1.0]
        if scheme != "ddpm" and far and near:
            parts.append(f"{scheme} {spread(far)}, of {spread(near)} where b < 1")
    return f"DDPM's KL over that of other schemes, uniform grids, b > {_FAR:g}: {'; '.join(parts)}." if parts else ""


def _place(row: Row) -> tuple[float, float, int]:
    return row["variance"], row["early_stop"], row["steps"]


def _lone_words(rows: Sequence[Row]) -> str:
    """Say how often a component by itself has the same KL: whether the break is local."""
    parts = []
    for scheme in _names(rows, "scheme"):
        own = [row for row in _where(rows, grid="uniform", scheme=scheme) if row["stiffness"] > _STIFF]
        near = [row for row in own if 0.5 * row["kl"] <= row["component_kl"] <= 2.0 * row["kl"]]
        if own:
            parts.append(f"{scheme} {len(near)} of {len(own)}")
    if not parts:
        return ""
    listed = ", ".join(parts)
    return (
        f"On uniform grids with b > {_STIFF:g} one component by itself has the same KL within a factor of 2: {listed}."
    )


def _grid_words(rows: Sequence[Row], orders: Sequence[Row]) -> list[str]:
    """Say how KL grows as δ → 0 on the smallest variance, and how large b becomes, grid by grid."""
    steps, variance = _shown_steps(rows), min(row["variance"] for row in rows)
    words = []
    for grid in _names(rows, "grid"):
        own = _where(rows, grid=grid, steps=steps, variance=variance)
        parts = []
        for scheme in _names(own, "scheme"):
            course = sorted(
                ((r["early_stop"], r["kl"]) for r in _where(own, scheme=scheme) if r["kl"] is not None), reverse=True
            )
            if len(course) > 1:
                parts.append(f"{scheme} {_short(course[-1][1] / course[0][1])} (to {course[-1][0]:g})")
        if not parts:
            continue
        most = max(row["stiffness"] for row in _where(rows, grid=grid))
        raw = max(row["stiffest_step"] for row in _where(rows, grid=grid))
        first = max(row["early_stop"] for row in own)
        words.append(
            f"{grid}: b is at most {_short(most)}, {_short(raw)} without memory; from δ = {first:g} on, with "
            f"v = {variance:g} and K = {steps}, KL grows by a factor {', '.join(parts)}."
        )
    return words


def _missing_words(rows: Sequence[Row]) -> str:
    missing = [row for row in rows if row["kl"] is None]
    if not missing:
        return ""
    listed = ", ".join(f"{scheme} {len(_where(missing, scheme=scheme))}" for scheme in _names(missing, "scheme"))
    return f"Of {len(rows)} KLs {len(missing)} are beyond the exact engine ({listed}); they are left out."

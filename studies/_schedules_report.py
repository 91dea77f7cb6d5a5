"""What the study of time grids says: gains of the optimum, whether one shape serves all, orders, ranking."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from math import isfinite, nan
from statistics import median

import numpy as np

from srkverify.schedules import half_log_snr
from studies._study import Report, Row, Table, Tables

_LITTLE = 1.25  # a regret up to here is a good shape


def report(tables: Tables, options: Namespace) -> Report:
    """Return tables and verdict; ranges are over targets and numbers of steps."""
    rows, gains, orders, transfer, density = (
        tables.get(suffix, []) for suffix in ("", "_gains", "_orders", "_transfer", "_density")
    )
    if not gains:
        return Report([], ["No optimum is done: no verdict."])
    shown = [_gain_table(rows, gains, orders, density), _steps_table(gains)]
    shown += [_cross_table(transfer, "scheme"), _cross_table(transfer, "target"), _longer_table(transfer)]
    said = [
        *_gain_words(gains),
        _knots_words(rows),
        _share_words(density),
        *_shape_words(gains, transfer),
        *_order_words(orders),
        _rank_words(gains),
    ]
    return Report([table for table in shown if table.rows], [words for words in said if words])


def spread(values: Iterable[float | None]) -> str:
    """Return the median and the range of numbers, "–" if there are none."""
    known = [value for value in values if value is not None and isfinite(value)]
    if not known:
        return "–"
    text = _short(median(known))
    return text if len(known) == 1 else f"{text} ({_short(min(known))}–{_short(max(known))})"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 9.95 or value >= 9950 else f"{value:.0f}"


def share_before(rows: Sequence[Row], log_snr: float) -> float:
    """Return the share of a grid's steps at a smaller half log-SNR, from its step density by the trapezoidal rule."""
    places = np.array([row["log_snr"] for row in rows])
    density = np.array([row["density"] for row in rows])
    total = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(places)))
    return float(np.interp(log_snr, places, total) / total[-1]) if len(rows) > 1 else nan


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _where(rows: Sequence[Row], **fixed: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in fixed.items())]


def _gain_table(rows: Sequence[Row], gains: Sequence[Row], orders: Sequence[Row], density: Sequence[Row]) -> Table:
    most = max(row["steps"] for row in gains)
    grids, lines = _names(gains, "grid"), []
    for target in _names(gains, "target"):
        for scheme in _names(gains, "scheme"):
            own = _where(gains, target=target, scheme=scheme, steps=most)
            if not own:
                continue
            factors = {row["grid"]: row["factor"] for row in own}
            last = {row["grid"]: row["order"] for row in _where(orders, target=target, scheme=scheme, to_steps=most)}
            slopes = [f"{last[grid]:.2f}" if grid in last else "–" for grid in ("exponential", "optimal")]
            early = share_before(_where(density, target=target, scheme=scheme, steps=most), _ONE)
            values = [_short(factors[grid]) if grid in factors else "–" for grid in grids]
            line = [target, scheme, f"{own[0]['optimal_kl']:.2e}", *values]
            lines.append([*line, _fewer(rows, target, scheme, most), f"{100 * early:.0f}%", *slopes])
    title = f"K = {most}: KL of the optimum in nats, and how many times as large it is on other grids; p of KL ~ K^−p"
    short = {"exponential": "exp.", "linear_beta": "linear-β"}
    header = ["target", "scheme", "KL", *(short.get(grid, grid) for grid in grids)]
    return Table(title, [*header, "few knots", "τ > 1", "p exp.", "p opt."], lines)


_ONE = float(half_log_snr(1.0))


def _fewer(rows: Sequence[Row], target: str, scheme: str, steps: int) -> str:
    """Return what the fewest knots lose against the most."""
    own = {
        row["parameters"]: row["kl"] for row in _where(rows, target=target, scheme=scheme, steps=steps, grid="optimal")
    }
    return _short(own[min(own)] / own[max(own)]) if len(own) > 1 else "–"


def _steps_table(gains: Sequence[Row]) -> Table:
    grids = _names(gains, "grid")
    lines = [
        [scheme, *(spread(row["times_steps"] for row in _where(gains, scheme=scheme, grid=grid)) for grid in grids)]
        for scheme in _names(gains, "scheme")
    ]
    title = "Steps that a grid needs for the KL of the optimum with K steps, over K: median (range)"
    return Table(title, ["scheme", *grids], lines, left=1)


def _same_steps(transfer: Sequence[Row]) -> list[Row]:
    return [row for row in transfer if row["steps"] == row["from_steps"]]


def _cross_table(transfer: Sequence[Row], what: str) -> Table:
    """Return the regret of shapes made for another scheme on the same target, or for another target."""
    other = "target" if what == "scheme" else "scheme"
    rows = [row for row in _same_steps(transfer) if row[other] == row[f"from_{other}"]]
    names = _names(rows, what)
    lines = [
        [donor, *(spread(row["regret"] for row in _where(rows, **{f"from_{what}": donor, what: to})) for to in names)]
        for donor in _names(rows, f"from_{what}")
    ]
    title = f"KL on the grid made for another {what}, over that on the own optimum: median (range)"
    return Table(title, [f"made for / used by {what}", *names], lines, left=1)


def _longer(transfer: Sequence[Row]) -> dict[int, list[Row]]:
    """Return what shapes do for their own target and scheme with more steps, by how many times as many."""
    found: dict[int, list[Row]] = {}
    for row in transfer:
        own = row["target"] == row["from_target"] and row["scheme"] == row["from_scheme"]
        if own and row["steps"] > row["from_steps"]:
            found.setdefault(round(row["steps"] / row["from_steps"]), []).append(row)
    return found


def _longer_table(transfer: Sequence[Row]) -> Table:
    longer = _longer(transfer)
    lines = []
    for scheme in _names(transfer, "scheme"):
        own = [_where(rows, scheme=scheme) for rows in longer.values()]
        regrets = [spread(row["regret"] for row in rows) for rows in own]
        lines.append([scheme, *regrets, *(spread(row["gain"] for row in rows) for rows in own)])
    header = ["scheme", *(f"regret at {factor}K" for factor in longer), *(f"gain at {factor}K" for factor in longer)]
    title = (
        "The shape found with K steps, used with more: KL over the own optimum's, and the exponential grid's over it"
    )
    return Table(title, header, lines, left=1)


def _gain_words(gains: Sequence[Row]) -> list[str]:
    words = []
    for scheme in _names(gains, "scheme"):
        own = _where(gains, scheme=scheme)
        factors = {grid: spread(row["factor"] for row in _where(own, grid=grid)) for grid in _names(own, "grid")}
        if "exponential" not in factors:
            continue
        steps = spread(row["times_steps"] for row in _where(own, grid="exponential"))
        rest = ", ".join(
            f"{factors[grid]} over {name}"
            for grid, name in (("cosine", "cosine"), ("linear_beta", "linear-β"))
            if grid in factors
        )
        words.append(
            f"{scheme}: the optimum has {factors['exponential']} times less KL than the exponential grid, which needs "
            f"{steps} times the steps for it{'; ' + rest if rest else ''}."
        )
    best: dict[tuple[str, str, int], Row] = {}
    for row in gains:
        key = row["target"], row["scheme"], row["steps"]
        best[key] = min(best.get(key, row), row, key=lambda row: row["factor"])
    counts = {grid: sum(row["grid"] == grid for row in best.values()) for grid in _names(gains, "grid")}
    listed = ", ".join(f"{grid} {count}" for grid, count in counts.items() if count)
    factor = spread(row["factor"] for row in best.values())
    words.append(f"Over the best grid in use for each case ({listed}) it gains {factor}.")
    return words


def _knots_words(rows: Sequence[Row]) -> str:
    optimal = _where(rows, grid="optimal")
    losses: dict[str, list[float]] = {}
    used = sorted({row["parameters"] for row in optimal})
    if len(used) < 2:
        return ""
    for row in _where(optimal, parameters=used[0]):
        key = {name: row[name] for name in ("target", "scheme", "steps")}
        for full in _where(optimal, **key, parameters=used[-1]):
            losses.setdefault(row["scheme"], []).append(row["kl"] / full["kl"])
    listed = ", ".join(f"{scheme} {spread(values)}" for scheme, values in losses.items())
    return f"With {used[0]} knots instead of {used[-1]} KL is larger by a factor: {listed}."


def _share_words(density: Sequence[Row]) -> str:
    shares: dict[str, list[float]] = {}
    for scheme in _names(_where(density, grid="optimal"), "scheme"):
        own = _where(density, scheme=scheme)
        groups = {(row["target"], row["steps"]) for row in own}
        for target, steps in sorted(groups):
            shares.setdefault(scheme, []).append(100 * share_before(_where(own, target=target, steps=steps), _ONE))
    if not shares:
        return ""
    named = share_before(_where(density, grid="exponential"), _ONE)
    listed = ", ".join(f"{scheme} {spread(values)}" for scheme, values in shares.items())
    return f"Steps spent at τ > 1, in per cent (exponential grid: {100 * named:.0f}): {listed}."


def _shape_words(gains: Sequence[Row], transfer: Sequence[Row]) -> list[str]:
    words, same, longer = [], _same_steps(transfer), _longer(transfer)
    for rows in list(longer.values())[:1]:
        parts = [
            (scheme, spread(row["regret"] for row in own), spread(row["gain"] for row in own))
            for scheme in _names(rows, "scheme")
            if (own := _where(rows, scheme=scheme)) and any(row["regret"] is not None for row in own)
        ]
        if parts:
            listed = ", ".join(f"{scheme} {regret}, left over exponential {gain}" for scheme, regret, gain in parts)
            words.append(f"A shape used with twice the steps, KL over that of the own optimum: {listed}.")
    for what, other in (("scheme", "target"), ("target", "scheme")):
        foreign = [
            row
            for row in same
            if row[other] == row[f"from_{other}"] and row[what] != row[f"from_{what}"] and row["regret"] is not None
        ]
        if foreign:
            good = sum(row["regret"] <= _LITTLE for row in foreign)
            words.append(
                f"Used for another {what} a shape has {spread(row['regret'] for row in foreign)} times the KL of the "
                f"own optimum; within {100 * (_LITTLE - 1):.0f}% of it in {good} of {len(foreign)} cases."
            )
    donors: dict[tuple[str, str], list[float]] = {}
    for row in same:
        if row["regret"] is not None and isfinite(row["regret"]):
            donors.setdefault((row["from_target"], row["from_scheme"]), []).append(row["regret"])
    if len(donors) > 1:
        (target, scheme), values = min(donors.items(), key=lambda item: median(item[1]))
        rivals = {grid: _where(gains, grid=grid) for grid in ("exponential", "cosine")}
        listed = ", ".join(f"{grid} {spread(row['factor'] for row in rows)}" for grid, rows in rivals.items() if rows)
        words.append(
            f"One shape for all: the best is that of {scheme} on {target}, {spread(values)} times the KL of each own "
            f"optimum; for comparison {listed}."
        )
    return words


def _order_words(orders: Sequence[Row]) -> list[str]:
    words = []
    for scheme in _names(orders, "scheme"):
        own = _where(orders, scheme=scheme)
        parts = [
            f"{grid} {spread(row['order'] for row in _where(own, grid=grid))}"
            for grid in ("exponential", "optimal")
            if _where(own, grid=grid)
        ]
        words.append(f"Order p of KL ~ K^−p, {scheme}: {', '.join(parts)}.")
    return words


def _rank_words(gains: Sequence[Row], first: str = "srk", second: str = "ddpm") -> str:
    ratios: dict[str, list[float]] = {"exponential": [], "optimal": []}
    rows = _where(gains, grid="exponential")
    for row in _where(rows, scheme=first):
        for rival in _where(rows, scheme=second, target=row["target"], steps=row["steps"]):
            ratios["exponential"].append(rival["kl"] / row["kl"])
            ratios["optimal"].append(rival["optimal_kl"] / row["optimal_kl"])
    if not ratios["optimal"]:
        return ""
    flips = sum((a > 1.0) != (b > 1.0) for a, b in zip(*ratios.values(), strict=True))
    return (
        f"KL of {second} over that of {first}: {spread(ratios['exponential'])} on exponential grids, "
        f"{spread(ratios['optimal'])} with each on its own optimum; the better of the two changes in {flips} of "
        f"{len(ratios['optimal'])} cases."
    )

"""What the rows of the overhead study say: the law of a step's time, tables and words."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isfinite, nan, sqrt

import numpy as np
from scipy.stats import t as student

from srkverify._check import Array
from studies._study import Report, Row, Table, Tables

REFERENCE, AGAIN = "ddpm", "ddpm again"  # the second is measured as the schemes are: what is noise
LEVELS = (10, 5, 1)  # per cent of overhead
TILE = 4  # components, and coordinates, that the engine computes together
_CONFIDENCE = 0.95
_COLUMNS = 6
Place = tuple[str, int]


def whole(count: int) -> int:
    """Return how many components or coordinates are computed: the next multiple of four."""
    return TILE * -(-count // TILE)


def fits(rows: Sequence[Row]) -> list[Row]:
    """Fit the laws of each scheme, covariance and dimension.

    A step takes n + s c nanoseconds with c components: n for noise, update and what a score costs whatever c is. Least
    squares of relative errors, for all times are known to about the same share of themselves. Where a step evaluates
    one score the overhead over DDPM is e/(n + s c), with e fitted to the measured ratios, of equal weight; it is below
    x from c = (e/x − n)/s on. Intervals are Student's, of what scatter about the laws there is: noise, and what caches
    do as mixtures outgrow them.
    """
    found = []
    for (covariance, dimension), group in _grouped(rows).items():
        names = dict.fromkeys(row["name"] for row in group)
        known = {name: [row for row in group if row["name"] == name] for name in names}
        for name, own in known.items():
            label = {"covariance": covariance, "dimension": dimension, "name": name}
            found.append({**label, "evaluations": own[0]["evaluations"], **_law(own, known.get(REFERENCE, []))})
    return found


def _grouped(rows: Sequence[Row]) -> dict[Place, list[Row]]:
    groups: dict[Place, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["covariance"], row["dimension"]), []).append(row)
    return groups


def _law(rows: Sequence[Row], reference: Sequence[Row]) -> Row:
    (fixed, slope), covariance, scatter, width = _line(rows)
    law = {"points": len(rows), **_named("fixed_ns", fixed, width * sqrt(covariance[0, 0]))}
    law |= {**_named("component_ns", slope, width * sqrt(covariance[1, 1])), "scatter": scatter}
    extra, unsure, line = nan, nan, _line(reference)
    if rows and reference and rows[0]["evaluations"] == reference[0]["evaluations"] and rows[0]["name"] != REFERENCE:
        extra, unsure = _extra(rows, line[0])
    width = _width(len(rows) - 1)
    law |= _named("extra_ns", extra, width * unsure)
    for level in LEVELS:
        (fixed, slope), covariance = line[:2]
        place = (100.0 * extra / level - fixed) / slope
        gradient = np.array([-1.0, -place]) / slope
        error = sqrt(gradient @ covariance @ gradient + (100.0 * unsure / level / slope) ** 2)
        seen = None if np.isnan(extra) else _seen(rows, level)
        law |= {**_named(f"below_{level}", place, width * error), f"seen_{level}": seen}
    return law


def _line(rows: Sequence[Row]) -> tuple[Array, Array, float, float]:
    """Return n and s, their covariance, the relative scatter and the factor of a standard error; NaN if unknown."""
    times = np.array([row["ns"] for row in rows])
    design = np.array([[1.0, whole(row["components"])] for row in rows]).reshape(-1, 2) / times[:, None]
    freedom = len(rows) - 2
    if len(rows) < 2 or np.linalg.matrix_rank(design) < 2:
        return np.full(2, nan), np.full((2, 2), nan), nan, nan
    solved = np.linalg.lstsq(design, np.ones(len(rows)), rcond=None)[0]
    scatter = sqrt(float(((design @ solved - 1.0) ** 2).sum()) / freedom) if freedom else nan
    return solved, scatter**2 * np.linalg.inv(design.T @ design), scatter, _width(freedom)


def _extra(rows: Sequence[Row], line: Array) -> tuple[float, float]:
    """Return e of the overhead e/(n + s c) and its standard error."""
    inverse = np.array([1.0 / (line[0] + line[1] * whole(row["components"])) for row in rows])
    overhead = np.array([row["ratio"] - 1.0 for row in rows])
    extra = float(inverse @ overhead / (inverse @ inverse))
    left = float(((overhead - extra * inverse) ** 2).sum())
    return extra, sqrt(left / (len(rows) - 1) / float(inverse @ inverse)) if len(rows) > 1 else nan


def _width(freedom: int) -> float:
    return float(student.ppf(0.5 + 0.5 * _CONFIDENCE, freedom)) if freedom > 0 else nan


def _seen(rows: Sequence[Row], level: float) -> int | None:
    """Return the least number of components from which on every ratio's interval is below the level."""
    found = None
    for row in sorted(rows, key=lambda row: row["components"], reverse=True):
        if row["ratio_high"] > 1.0 + 0.01 * level:
            break
        found = row["components"]
    return found


def _named(name: str, value: float, half: float) -> Row:
    return {name: float(value), f"{name}_low": float(value - half), f"{name}_high": float(value + half)}


def report(measured: Tables, options: Namespace) -> Report:
    """Return the tables of ratios, parts and laws, and the verdict."""
    rows, shares, laws = (measured.get(suffix, []) for suffix in ("", "_parts", "_fits"))
    if not rows:
        return Report([], ["Nothing was measured."])
    said = [_ratio_words(rows), _part_words(rows, shares), _floor_words(rows), _where_words(laws), _meaning(laws)]
    tables = [_ratio_table(rows), _part_table(rows, shares), _law_table(laws)]
    return Report(tables, [text for text in said if text] or ["Too few times for a verdict."])


def _columns(rows: Sequence[Row]) -> list[int]:
    """Return some of the numbers of components, the ends among them."""
    every = sorted({row["components"] for row in rows})
    places = np.linspace(0, len(every) - 1, min(_COLUMNS, len(every)))
    return [every[index] for index in dict.fromkeys(round(place) for place in places)]


def _ratio_table(rows: Sequence[Row]) -> Table:
    columns, lines = _columns(rows), []
    for place, group in _grouped(rows).items():
        for name in dict.fromkeys(row["name"] for row in group if row["name"] != REFERENCE):
            known = {row["components"]: row for row in group if row["name"] == name}
            cells = [_ratio(known[column]) if column in known else "–" for column in columns]
            lines.append([place[0], name, str(place[1]), *cells])
    header = ["covariance", "scheme", "d", *(f"c = {column}" for column in columns)]
    return Table("Time of a step over DDPM's, mixtures of c components (± half of the 95% interval)", header, lines)


def _ratio(row: Row) -> str:
    return f"{row['ratio']:.3f} ± {0.5 * (row['ratio_high'] - row['ratio_low']):.3f}"


def _part_table(rows: Sequence[Row], shares: Sequence[Row]) -> Table:
    names, lines = list(dict.fromkeys(row["name"] for row in shares)), []
    whole_step = {(*_place(row), row["components"]): row for row in rows if row["name"] == REFERENCE}
    for place, group in _grouped(shares).items():
        for column in _columns(group):
            known = {row["name"]: row for row in group if row["components"] == column}
            step = whole_step.get((*place, column))
            cells = [_nanoseconds(known.get(name)) for name in names]
            lines.append([place[0], str(place[1]), str(column), _nanoseconds(step), *cells])
    header = ["covariance", "d", "c", "DDPM", *names]
    return Table(
        "Nanoseconds of a particle, coordinate and step: DDPM, its parts, what SRK adds", header, lines, left=1
    )


def _named_place(place: Place, rows: Sequence[Row]) -> str:
    """Return a dimension and, if there are several, the covariance."""
    several = len({row["covariance"] for row in rows}) > 1
    return f"d = {place[1]}, {place[0]}" if several else f"d = {place[1]}"


def _place(row: Row) -> Place:
    return row["covariance"], row["dimension"]


def _nanoseconds(row: Row | None) -> str:
    if row is None:
        return "–"
    return f"{row['ns']:.2f} ± {0.5 * (row['ns_high'] - row['ns_low']):.2f}"


def _law_table(laws: Sequence[Row]) -> Table:
    lines = []
    for law in laws:
        extra = _interval(law, "extra_ns", ".2f")
        places = [_from(law, level) for level in LEVELS]
        line = [
            _interval(law, "fixed_ns", ".2f"),
            _interval(law, "component_ns", ".4f"),
            f"{100 * law['scatter']:.0f}%",
        ]
        lines.append([law["covariance"], law["name"], str(law["dimension"]), *line, extra, *places])
    header = ["covariance", "scheme", "d", "n", "s", "scatter", "e", *(f"≤ {level}% from c" for level in LEVELS)]
    return Table("Laws: a step takes n + s c ns, the overhead is e/(n + s c); with 95% intervals", header, lines)


def _interval(law: Row, name: str, form: str) -> str:
    if not isfinite(law[name]):
        return "–"
    if not isfinite(law[f"{name}_high"]):
        return f"{law[name]:{form}} ± ?"
    return f"{law[name]:{form}} ± {0.5 * (law[f'{name}_high'] - law[f'{name}_low']):{form}}"


def _from(law: Row, level: int) -> str:
    """Return from how many components on the overhead is below a level, by the law."""
    value, low, high = (law[f"below_{level}{end}"] for end in ("", "_low", "_high"))
    if not isfinite(value):
        return "–"
    if value <= 1.0:
        return "1" if high <= 1.0 or not isfinite(high) else f"1 [1, {high:.0f}]"
    return f"{value:.0f} [{max(low, 1.0):.0f}, {high:.0f}]" if isfinite(high) else f"{value:.0f} [?]"


def _ratio_words(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["name"] == "srk"]
    if not own:
        return ""
    pieces = []
    for place, group in _grouped(own).items():
        first, last = (pick(group, key=lambda row: row["components"]) for pick in (min, max))
        pieces.append(
            f"{_named_place(place, own)}: {_spread(first, 'ratio', '.3f')} at c = {first['components']}, "
            f"{_spread(last, 'ratio', '.4f')} at c = {last['components']}"
        )
    return f"A step of SRK takes as long as one of DDPM times: {'; '.join(pieces)}."


def _spread(row: Row, name: str, form: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:{form}} [{low:{form}}, {high:{form}}]"


def _part_words(rows: Sequence[Row], shares: Sequence[Row]) -> str:
    """Say what SRK's extra cost is made of, where the score is cheapest and so the difference is known best."""
    pieces = []
    for place, group in _grouped(shares).items():
        least = min(row["components"] for row in group)
        cheap = {row["name"]: row for row in group if row["components"] == least}
        extra = [row for row in rows if (_place(row), row["components"], row["name"]) == (place, least, "srk")]
        if extra and {"second noise", "noise"} <= set(cheap):
            pieces.append(
                f"{_named_place(place, rows)}: {_spread(extra[0], 'extra_ns', '.2f')} ns, of which a normal drawn "
                f"{_spread(cheap['second noise'], 'ns', '.2f')} (DDPM's own: {_spread(cheap['noise'], 'ns', '.2f')})"
            )
    if not pieces:
        return ""
    return (
        "SRK's extra cost is one more normal vector and its update, not a score evaluation. At the least c, for each "
        f"particle, coordinate and step: {'; '.join(pieces)}."
    )


def _floor_words(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["name"] == AGAIN]
    if not own:
        return ""
    farthest = max(own, key=lambda row: abs(row["ratio"] - 1.0))
    halves = [0.5 * (row["ratio_high"] - row["ratio_low"]) for row in own]
    outside = sum(not row["ratio_low"] <= 1.0 <= row["ratio_high"] for row in own)
    return (
        f"Noise floor: DDPM over itself, measured in the same way, is off 1 by at most "
        f"{100 * abs(farthest['ratio'] - 1.0):.1f}% (d = {farthest['dimension']}, c = {farthest['components']}); half "
        f"intervals are {100 * float(np.median(halves)):.1f}% in the median, and {outside} of {len(own)} leave 1 out."
    )


def _where_words(laws: Sequence[Row]) -> str:
    pieces = []
    for law in laws:
        if law["name"] == "srk" and isfinite(law["extra_ns"]):
            seen = [f"{law[f'seen_{level}'] or 'nowhere'}" for level in LEVELS]
            pieces.append(
                f"{_named_place(_place(law), laws)}: c = {', '.join(_from(law, level) for level in LEVELS)} "
                f"(every measured interval is below from c = {', '.join(seen)})"
            )
    levels = ", ".join(f"{level}%" for level in LEVELS)
    return f"SRK's overhead is below {levels}, by the law, from {'; '.join(pieces)}." if pieces else ""


def _meaning(laws: Sequence[Row]) -> str:
    """Say what SRK's extra cost is in units of score, of isotropic mixtures if there are any."""
    line = {_place(law): law["component_ns"] for law in laws if law["name"] == REFERENCE}
    worth = {
        _place(law): law["extra_ns"] / line[_place(law)]
        for law in laws
        if law["name"] == "srk" and isfinite(law["extra_ns"]) and isfinite(line.get(_place(law), nan))
    }
    if not worth:
        return ""
    listed = [f"{value:.2g} ({_named_place(place, laws)})" for place, value in worth.items()]
    text = (
        f"In units of score SRK's extra cost is {', '.join(listed)} components, whatever the score costs: it vanishes."
    )
    plain = [place for place in worth if place[0] == "isotropic"]
    if not plain:
        return text
    last = max(plain, key=lambda place: place[1])
    share = 2.0 * worth[last]
    return (
        f"{text} An isotropic component is two multiply-adds a coordinate. For a network that spends N of them at that "
        f"rate the overhead at d = {last[1]} is {share:.2g}/N: {100 * 1e-6 * share:.1g}% for N = 10^6."
    )

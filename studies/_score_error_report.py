"""What the study of score errors says: exponents in ε, what Girsanov's value leaves over, and who keeps a lead."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from math import isfinite, isnan, nan

from srkverify.complexity import Exponent
from studies._common_slope import common_slope
from studies._study import Report, Row, Table, Tables

_MIDDLE = 0.1  # ε nearest to which growth with K is read


def report(tables: Tables, options: Namespace) -> Report:
    """Return the tables of growth and of robustness, and the verdict."""
    rows, growth, lead = (tables.get(name, []) for name in ("", "_growth", "_lead"))
    if not rows:
        return Report([], ["No cell is done: no verdict."])
    kinds = _distinct(rows, "kind")
    said = [_bound(rows)]
    for kind in kinds:
        part = [[row for row in table if row["kind"] == kind] for table in (rows, growth, lead)]
        said += [_about(kind, *part[:2]), _robust(kind, part[0], part[2])]
    return Report([_growth_table(rows, growth), _robust_table(growth, lead)], [text for text in said if text])


def growth_in_size(rows: Sequence[Row]) -> Exponent:
    """Exponent of |KL − KL_0|, averaged over signs, in ε: common to the targets, at their largest K.

    NaN if the difference changes its sign, or is nowhere more than its error.
    """
    largest = {name: max(row["steps"] for row in rows if row["target"] == name) for name in _distinct(rows, "target")}
    return _slope([row for row in rows if row["steps"] == largest[row["target"]]], "epsilon")


def growth_in_steps(rows: Sequence[Row]) -> Exponent:
    """Exponent q of |KL − KL_0| ~ K^−q, averaged over signs, at the ε nearest to 0.1: common to the targets."""
    middle = min((row["epsilon"] for row in rows), key=lambda size: abs(size - _MIDDLE), default=nan)
    found = _slope([row for row in rows if row["epsilon"] == middle], "steps")
    return Exponent(-found.value, -found.high, -found.low, found.points)


def _slope(rows: Sequence[Row], place: str) -> Exponent:
    known = [row for row in rows if abs(row["excess"]) > 20.0 * row["excess_error"]]
    one_sign = len({row["excess"] > 0.0 for row in known}) == 1
    if not one_sign or len({row[place] for row in known}) < 2:
        return Exponent(nan, nan, nan, len(known))
    names = _distinct(known, "target")
    groups = [names.index(row["target"]) for row in known]
    return common_slope([row[place] for row in known], [abs(row["excess"]) for row in known], groups)


def _growth_table(rows: Sequence[Row], growth: Sequence[Row]) -> Table:
    least, most = min(row["steps"] for row in growth), max(row["steps"] for row in growth)
    lines = []
    for kind, scheme in _cases(rows):
        here = [row for row in rows if (row["kind"], row["scheme"]) == (kind, scheme)]
        found = [row for row in growth if (row["kind"], row["scheme"]) == (kind, scheme)]
        ends = [[row for row in found if row["steps"] == steps] for steps in (least, most)]
        lines.append(
            [
                kind,
                scheme,
                _shown(growth_in_size(here)),
                *(_span([100.0 * row["kept"] for row in end], ".3g") for end in ends),
                _shown(growth_in_steps(here)),
                _span([row["interference"] for row in ends[1]], "+.2f"),
            ]
        )
    header = ["error", "scheme", "ε^p: p", f"kept %, K={least}", f"K={most}", "K^−q: q", f"κ, K={most}"]
    title = (
        "Mean KL of both signs less KL_0: exponents with 95% intervals, share of Girsanov's (T − δ)ε² as ε → 0, "
        "interference κ; ranges over targets"
    )
    return Table(title, header, lines)


def _robust_table(growth: Sequence[Row], lead: Sequence[Row]) -> Table:
    evaluations = _common_evaluations(lead)
    lines = []
    for kind, scheme in _cases(growth):
        found = [
            row for row in growth if (row["kind"], row["scheme"]) == (kind, scheme) and _evaluations(row) == evaluations
        ]
        ahead = [row for row in lead if (row["kind"], row["scheme"], row["evaluations"]) == (kind, scheme, evaluations)]
        if not found:
            continue
        lines.append(
            [
                kind,
                scheme,
                _span([row["kl"] for row in found], ".1e"),
                _span([row["doubled"] for row in found], ".2g"),
                _span([row["lead"] for row in ahead], ".3g"),
                _span([row["lost"] for row in ahead], ".2g"),
                _span([row["behind"] for row in ahead], ".2g"),
                _span([row["lead_at_largest"] for row in ahead], ".2g"),
            ]
        )
    largest = max((row["largest"] for row in lead), default=nan)
    header = [
        "error",
        "scheme",
        "KL_0",
        "ε: KL doubled",
        "lead, ε=0",
        "ε: lead < 2",
        "ε: behind",
        f"lead, ε={largest:g}",
    ]
    title = f"KL of the worse sign at {evaluations} evaluations; lead: DDPM's KL over this one's; ranges over targets"
    return Table(title, header, lines)


def _bound(rows: Sequence[Row]) -> str:
    """Say whether KL ≤ KL_0 + (T − δ)ε² held, with and without the factor 2."""
    known = [row for row in rows if isfinite(row["worst"]) and isfinite(row["kl"])]
    if not known:
        return ""
    above = [row for row in known if row["worst"] > row["kl"] + row["girsanov"] + row["excess_error"]]
    worst = max(known, key=lambda row: row["worst"] / (row["kl"] + row["girsanov"]))
    ratio = worst["worst"] / (worst["kl"] + worst["girsanov"])
    where = f"{worst['kind']}, {worst['scheme']}, K = {worst['steps']}, ε = {worst['epsilon']:g}, {worst['target']}"
    text = (
        f"KL of the worse sign against KL_0 + (T − δ)ε², discretisation and additive term: above the sum in "
        f"{len(above)} of {len(known)} cases, by a factor of {ratio:.2f} at most ({where})"
    )
    return text + ("; below twice the sum everywhere." if ratio <= 2.0 else "; above twice the sum too.")


def _about(kind: str, rows: Sequence[Row], growth: Sequence[Row]) -> str:
    """Say how KL grows with one kind of error, and what of Girsanov's value it is."""
    known = [row for row in growth if not isnan(row["kept"])]
    if not known:
        return f"{kind}: too few cells for a verdict."
    least, most = (choose(row["steps"] for row in known) for choose in (min, max))
    ends = [{(row["target"], row["scheme"]): row["kept"] for row in known if row["steps"] == k} for k in (least, most)]
    by_scheme = {name: [row for row in rows if row["scheme"] == name] for name in _distinct(rows, "scheme")}
    exponents = {name: growth_in_size(part) for name, part in by_scheme.items()}
    text = f"{kind}: mean KL − KL_0 ~ ε^p, p = {_exponents(exponents)}"
    text += f". Of Girsanov's (T − δ)ε² the output has {_span([100.0 * each for each in ends[1].values()], '.3g')}%"
    error = 100.0 * max(row["kept_error"] for row in known if row["steps"] == most)
    text += f" at K = {most} (numerical error {error:.0e} points or less)"
    if least < most:
        text += f" and {_span([100.0 * each for each in ends[0].values()], '.3g')}% at K = {least}"
    top = max(known, key=lambda row: row["kept"])
    if top["kept"] - top["kept_error"] > 1.0:
        text += f"; more than all of it, {100.0 * top['kept']:.0f}%, with {top['scheme']} at K = {top['steps']}"
    steps = {name: growth_in_steps(part) for name, part in by_scheme.items()}
    falling = {name: each for name, each in steps.items() if each.low > 1.0}
    if falling:
        text += f". It falls as K^−q, q = {_exponents(falling)}, for {', '.join(falling)}"
    kappa = [abs(row["interference"]) for row in known if not isnan(row["interference"])]
    return f"{text}." + (f" Interference with the discretisation: |κ| ≤ {max(kappa):.2f}." if kappa else "")


def _robust(kind: str, rows: Sequence[Row], lead: Sequence[Row]) -> str:
    """Say how far the schemes' leads over DDPM go at equal evaluations, and who has the least KL in the end."""
    evaluations = _common_evaluations(lead)
    ahead = [row for row in lead if row["evaluations"] == evaluations]
    if not ahead:
        return ""
    first = [row["lead"] for row in ahead]
    text = f"{kind}, {evaluations} evaluations: leads over DDPM, {_span(first, '.2g')} without error,"
    lost = [row["lost"] for row in ahead if not isnan(row["lost"])]
    text += f" fall below 2 at ε = {_span(lost, '.2g')} and" if lost else ""
    size = max(row["largest"] for row in ahead)
    last = [row["lead_at_largest"] for row in ahead if row["largest"] == size]
    text += f" are {_span(last, '.2g')} at ε = {size:g}"
    winners: dict[str, list[str]] = {}
    for target in _distinct(ahead, "target"):
        here = [
            row
            for row in rows
            if (row["target"], row["epsilon"], _evaluations(row)) == (target, size, evaluations)
            and isfinite(row["worst"])
        ]
        if here:
            winners.setdefault(min(here, key=lambda row: row["worst"])["scheme"], []).append(target)
    said = "; ".join(f"{scheme} on {', '.join(targets)}" for scheme, targets in winners.items())
    return f"{text}." + (f" Least KL there: {said}." if said else "")


def _common_evaluations(lead: Sequence[Row]) -> int:
    """Return the largest number of evaluations that all schemes have; 0 if there is none."""
    each = [{row["evaluations"] for row in lead if row["scheme"] == name} for name in _distinct(lead, "scheme")]
    return max(set.intersection(*each), default=0) if each else 0


def _evaluations(row: Row) -> int:
    """Return score evaluations as K times those of a step: what a first step needs besides does not count."""
    return int(row["steps"] * round(row["nfe"] / row["steps"]))


def _exponents(found: dict[str, Exponent]) -> str:
    """Return the range of exponents, with the widest interval, and the schemes without one."""
    known = {name: each for name, each in found.items() if not isnan(each.value)}
    if not known:
        return "? (a change of sign)"
    text = _span([each.value for each in known.values()], ".2f")
    widths = [0.5 * (each.high - each.low) for each in known.values() if not isnan(each.low)]
    text += f" (± {max(widths):.2f} or less)" if widths else ""
    changed = [name for name in found if name not in known]
    return text + (f", with a change of sign for {', '.join(changed)}" if changed else "")


def _shown(exponent: Exponent) -> str:
    if isnan(exponent.value):
        return "–"
    if isnan(exponent.low):
        return f"{exponent.value:.2f}"
    return f"{exponent.value:.2f} ± {0.5 * (exponent.high - exponent.low):.2f}"


def _span(values: Iterable[float], form: str) -> str:
    """Return the range of the values that are numbers."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return "–"
    low, high = (format(each, form) for each in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


def _cases(rows: Sequence[Row]) -> list[tuple[str, str]]:
    present = {(row["kind"], row["scheme"]) for row in rows}
    all_cases = [(kind, scheme) for kind in _distinct(rows, "kind") for scheme in _distinct(rows, "scheme")]
    return [case for case in all_cases if case in present]


def _distinct(rows: Sequence[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))

"""What the rows of the dimension-scaling study say, in tables and words."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from studies._study import Report, Row, Table, Tables
from studies._theorems import powers


@dataclass(frozen=True)
class Assessment:
    """Measured K* of one family and scheme beside a bound C d^a/ε^b.

    C is the largest K* ε^b/d^a at the smallest dimension (at the largest ε, if there is but one dimension), so that
    the bound is tested on the others.

    Attributes
    ----------
    verdict : "yes"; "grid" if K* ≤ C d^a/ε^b throughout but a fitted exponent exceeds the theorem's; "no"; or "–".
    worst : largest K* over the bound, away from where C was set.
    slack : the bound over K* at the largest d and smallest ε.
    """

    verdict: str
    worst: float
    slack: float


def report(tables: Tables, options: Namespace) -> Report:
    """Return the tables of exponents and costs, and the verdict."""
    rows, fits = tables.get("", []), tables.get("_fits", [])
    if not rows:
        return Report([], ["No cell is done."])
    groups = _grouped(rows)
    said = _verdict(groups, fits)
    missing = [row for row in rows if row["steps"] is None]
    if missing:
        first = missing[0]
        where = f"{first['family']}, {first['scheme']}, d = {first['dimension']}, ε = {first['epsilon']:g}"
        said.append(f"No answer in {len(missing)} of {len(rows)} cells, first {where}: {first['note']}")
    return Report([_exponent_table(groups, fits), _cost_table(groups)], said)


def assess(rows: Sequence[Row], fits: Sequence[Row]) -> Assessment:
    """Compare the rows of one family and scheme, with their fits, to the theorem's bound."""
    theorem = {fit["variable"]: fit["theorem"] for fit in fits}
    solved = [row for row in rows if row["steps"] is not None]
    if len(solved) < 2 or not theorem:
        return Assessment("–", float("nan"), float("nan"))
    a, b = theorem["dimension"], theorem["inverse_epsilon"]

    def constant(row: Row) -> float:
        return float(row["steps"] * row["epsilon"] ** b / row["dimension"] ** a)

    key = "dimension" if len({row["dimension"] for row in solved}) > 1 else "epsilon"
    easiest = min(row[key] for row in solved) if key == "dimension" else max(row[key] for row in solved)
    bound = max(constant(row) for row in solved if row[key] == easiest)
    worst = max((constant(row) for row in solved if row[key] != easiest), default=bound) / bound
    steeper = any(fit["low"] > fit["theorem"] for fit in fits if fit["fit"] == "joint")
    verdict = "no" if worst > 1.0 else "grid" if steeper else "yes"
    return Assessment(verdict, worst, bound / constant(_corner(solved)))


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["scheme"]), []).append(row)
    return groups


def _corner(rows: Sequence[Row]) -> Row:
    """Return the row at the largest dimension and the smallest ε."""
    return max(rows, key=lambda row: (row["dimension"], -row["epsilon"]))


def _fits_of(fits: Sequence[Row], name: tuple[str, str], cost: str = "steps") -> list[Row]:
    return [fit for fit in fits if (fit["family"], fit["scheme"]) == name and fit["cost"] == cost]


def _joint(fits: Sequence[Row], name: tuple[str, str], variable: str) -> Row | None:
    found = [fit for fit in _fits_of(fits, name) if fit["fit"] == "joint" and fit["variable"] == variable]
    return found[0] if found else None


def _exponent_table(groups: dict[tuple[str, str], list[Row]], fits: Sequence[Row]) -> Table:
    def cells(variable: str, name: tuple[str, str]) -> list[str]:
        fit = _joint(fits, name, variable)
        if fit is None or isnan(fit["exponent"]):
            return ["–", "–" if fit is None else f"{fit['theorem']:g}"]
        return [f"{fit['exponent']:.3f} [{fit['low']:.3f}, {fit['high']:.3f}]", f"{fit['theorem']:g}"]

    lines = []
    for name, rows in groups.items():
        found = assess(rows, _fits_of(fits, name))
        slack = "–" if isnan(found.slack) else f"{found.slack:.1e}"
        lines.append([*name, *cells("dimension", name), *cells("inverse_epsilon", name), found.verdict, slack])
    header = ["family", "scheme", "K* ~ d^a: a [95%]", "thm", "(1/ε)^b: b [95%]", "thm", "holds", "loose ×"]
    title = "Exponents of K* (from K* on, KL ≤ ε²), beside the theorem's"
    return Table(title, header, lines)


def _cost_table(groups: dict[tuple[str, str], list[Row]]) -> Table:
    lines = []
    corner: Row | None = None
    for (family, scheme), rows in groups.items():
        solved = [row for row in rows if row["steps"] is not None]
        if not solved:
            continue
        corner = _corner(solved)
        advantage = _advantage(groups, family, scheme)
        lines.append(
            [
                family,
                scheme,
                f"{corner['nfe']}",
                f"[{corner['nfe_low']}, {corner['nfe_high']}]",
                corner["how"],
                f"{advantage[0]:.2f}" if advantage else "–",
                f"{advantage[1]:.2f}–{advantage[2]:.2f}" if advantage else "–",
            ]
        )
    header = ["family", "scheme", "evaluations", "interval", "how", "DDPM/this", "on the grid"]
    place = "" if corner is None else f" at d = {corner['dimension']}, ε = {corner['epsilon']:g}"
    return Table(f"Score evaluations to reach KL ≤ ε²{place}", header, lines)


def _advantage(groups: dict[tuple[str, str], list[Row]], family: str, scheme: str) -> tuple[float, float, float] | None:
    """Return evaluations of DDPM over those of ``scheme``: at the corner, least and largest on the grid."""
    cost = {
        (row["dimension"], row["epsilon"]): row["nfe"]
        for row in groups.get((family, "ddpm"), [])
        if row["steps"] is not None
    }
    common = [
        row for row in groups[family, scheme] if row["steps"] is not None and (row["dimension"], row["epsilon"]) in cost
    ]
    if not common:
        return None
    ratios = [cost[row["dimension"], row["epsilon"]] / row["nfe"] for row in common]
    corner = _corner(common)
    return cost[corner["dimension"], corner["epsilon"]] / corner["nfe"], min(ratios), max(ratios)


def _verdict(groups: dict[tuple[str, str], list[Row]], fits: Sequence[Row]) -> list[str]:
    schemes = list(dict.fromkeys(scheme for _, scheme in groups))
    paragraphs = [_about(scheme, groups, fits) for scheme in schemes]
    compared = [
        (family, first["exponent"], second["exponent"])
        for family, scheme in groups
        if scheme == "srk"
        and (first := _at_corner(fits, (family, "ddpm")))
        and (second := _at_corner(fits, (family, "srk")))
        and not isnan(first["exponent"] + second["exponent"])
    ]
    if compared:
        apart = [entry for entry in compared if abs(entry[1] - entry[2]) >= 0.1]
        text = (
            "SRK against DDPM: at the largest d, the exponents of K* in 1/ε agree to 0.1 on "
            f"{len(compared) - len(apart)} of {len(compared)} families. Where they agree, the gap between the theorems "
            "(1 against 2) is not in the marginal KL of the output, and SRK's advantage is a factor."
        )
        if apart:
            listed = ", ".join(f"{family} (SRK {srk:.2f}, DDPM {ddpm:.2f})" for family, ddpm, srk in apart)
            text += f" They differ on {listed}."
        text += (
            " An upper bound over all targets is not refuted, nor proved, by these targets: "
            "what is measured is how far it is from them."
        )
        paragraphs.append(text)
    dips = [row for row in (row for rows in groups.values() for row in rows) if row["first_rung"] is not None]
    if dips:
        names = ", ".join(dict.fromkeys(f"{row['scheme']} on {row['family']}" for row in dips))
        paragraphs.append(
            f"KL is not monotone in K for {names}: in {len(dips)} cells it dips to ε² and comes back "
            "above it before K* (column first_rung), for its leading errors cancel near one K."
        )
    return paragraphs


def _at_corner(fits: Sequence[Row], name: tuple[str, str]) -> Row | None:
    found = [fit for fit in _fits_of(fits, name) if fit["fit"] == "largest dimension"]
    return found[0] if found else None


def _about(scheme: str, groups: dict[tuple[str, str], list[Row]], fits: Sequence[Row]) -> str:
    """Say in a paragraph what was measured of one scheme."""
    names = [name for name in groups if name[1] == scheme]
    found = {name: assess(groups[name], _fits_of(fits, name)) for name in names}
    known = [name for name in names if found[name].verdict != "–"]
    if not known:
        return f"{scheme}: too few cells for a verdict."
    theorem = {fit["variable"]: fit["theorem"] for fit in _fits_of(fits, known[0])}
    a, b = theorem["dimension"], theorem["inverse_epsilon"]
    held = [name[0] for name in known if found[name].verdict == "yes"]
    text = f"{scheme}, bound {powers(a, b)}{' (the theorem on SRK)' if b == 1.0 and scheme != 'srk' else ''}: "
    text += f"respected on {len(held)} of {len(known)} families"
    for verdict, words in (
        ("grid", "the bound holds at every point, but a fitted exponent exceeds the theorem's, on"),
        ("no", "K* grows beyond the bound on"),
    ):
        others = [name for name in known if found[name].verdict == verdict]
        if others:
            listed = ", ".join(f"{name[0]} (K*/bound ≤ {found[name].worst:.2g})" for name in others)
            text += f"; {words} {listed}"
    text += f". Exponents: {_range(fits, known, 'dimension', 'd', a)}; "
    text += f"{_range(fits, known, 'inverse_epsilon', '1/ε', b)}. "
    slacks = [found[name].slack for name in known]
    text += (
        f"With its constant set at the smallest d, the bound exceeds K* "
        f"{min(slacks):.2g} to {max(slacks):.2g} times at the largest d and smallest ε."
    )
    ratios = [_advantage(groups, *name) for name in known if scheme != "ddpm"]
    measured = [ratio for ratio in ratios if ratio]
    if measured:
        corners = [ratio[0] for ratio in measured]
        text += (
            f" At equal score evaluations DDPM needs {min(corners):.2f} to {max(corners):.2f} times as many there, "
            f"{min(r[1] for r in measured):.2f} to {max(r[2] for r in measured):.2f} times over the whole grid."
        )
    return text


def _range(fits: Sequence[Row], names: Sequence[tuple[str, str]], variable: str, symbol: str, theorem: float) -> str:
    values = {
        name[0]: fit["exponent"]
        for name in names
        if (fit := _joint(fits, name, variable)) and not isnan(fit["exponent"])
    }
    if not values:
        return f"in {symbol} not determined"
    low, high = min(values, key=lambda n: values[n]), max(values, key=lambda n: values[n])
    return (
        f"in {symbol} from {values[low]:.2f} ({low}) to {values[high]:.2f} ({high}), the theorem's {theorem:g} "
        f"being larger by {theorem - values[high]:.2f} to {theorem - values[low]:.2f}"
    )

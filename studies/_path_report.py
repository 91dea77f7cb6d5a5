"""What the rows of the path study say, in tables and words."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isfinite, isnan, log, nan

from studies._study import Report, Row, Table, Tables
from studies._theorems import powers

Name = tuple[str, str]
_ERRORS = 3.0  # standard errors by which a point must be above the bound to refute it


@dataclass(frozen=True)
class Assessment:
    """Measured path KL of one family and scheme beside what the theorem allows.

    K = C d^a/ε^b steps for KL = ε² are KL ≤ B (d^a/K)^{2/b}. B is the largest that a point at the smallest dimension
    needs (at the smallest K, if there is but one dimension), so that the bound is tested on the others. The logarithm
    that Õ may hide is K = C d^a/ε^b log(dK), whose slopes at L = log(dK) are (a + 1/L)/(1 − 1/L) and b/(1 − 1/L).

    Attributes
    ----------
    verdict : "yes" if no point is above the bound and no fitted exponent of K* above the theorem's, beyond their
        errors; "points" if the former is so and exponents are not determined; "log" if both are so with a logarithm;
        else "no" if a point is above, and "steep" if only an exponent is; "–" with nothing to compare.
    worst : largest path KL over the bound, away from where B was set.
    slack : steps that the bound asks for over those that were taken, at the largest d and K.
    """

    verdict: str
    worst: float
    slack: float


def report(tables: Tables, options: Namespace) -> Report:
    """Return the tables of exponents, costs and values, and the verdict."""
    rows, fits = tables.get("", []), tables.get("_fits", [])
    if not rows:
        return Report([], ["No cell is done."])
    groups = grouped(rows)
    said = verdict(groups, fits)
    missing = [row for row in rows if row["path_kl"] is None]
    if missing:
        first = missing[0]
        where = f"{first['family']}, {first['scheme']}, d = {first['dimension']}, K = {first['steps']}"
        said.append(f"No estimate in {len(missing)} of {len(rows)} cells, first {where}: {first['note']}")
    return Report([_law_table(fits), _cost_table(groups, fits), _corner_table(groups)], said)


def grouped(rows: Sequence[Row]) -> dict[Name, list[Row]]:
    """Return the rows of each family and scheme that have an estimate; groups without one are kept, empty."""
    groups: dict[Name, list[Row]] = {}
    for row in rows:
        group = groups.setdefault((row["family"], row["scheme"]), [])
        if row["path_kl"] is not None:
            group.append(row)
    return groups


def assess(rows: Sequence[Row], fit: Row | None) -> Assessment:
    """Compare path KLs of one family and scheme, and the fit to their upper half of K, with the theorem."""
    if len(rows) < 2 or fit is None:
        return Assessment("–", nan, nan)
    a, b = fit["theorem_d"], fit["theorem_eps"]

    key = "dimension" if len({row["dimension"] for row in rows}) > 1 else "steps"
    easiest = min(row[key] for row in rows)
    others = [row for row in rows if row[key] != easiest]

    def constant(row: Row, logarithm: bool = False, errors: float = 0.0) -> float:
        hidden = log(row["dimension"] * row["steps"]) if logarithm else 1.0
        lowest = row["path_kl"] - errors * row["path_error"]
        return float(lowest * (row["steps"] / (row["dimension"] ** a * hidden)) ** (2.0 / b))

    def largest(logarithm: bool) -> float:
        return max(constant(row, logarithm) for row in rows if row[key] == easiest)

    def above(logarithm: bool) -> bool:
        return any(constant(row, logarithm, _ERRORS) > largest(logarithm) for row in others)

    def steep(logarithm: bool) -> bool:
        share = 1.0 / fit["log_dk"] if logarithm else 0.0
        allowed = {"cost_d": (a + share) / (1.0 - share), "cost_eps": b / (1.0 - share)}
        return any(fit[f"{name}_low"] > slope for name, slope in allowed.items())

    bound, last = largest(False), constant(_corner(rows))
    if bound <= 0.0 or not others:
        return Assessment("–", nan, nan)
    if above(False) or steep(False):
        answer = "no" if above(True) else "steep" if steep(True) else "log"
    else:
        answer = "yes" if determined(fit, "cost_eps") else "points"
    loose = (bound / last) ** (0.5 * b) if last > 0.0 else nan
    return Assessment(answer, max(map(constant, others)) / bound, loose)


def determined(fit: Row, name: str) -> bool:
    """Return whether an exponent's interval is finite and no wider than the exponent itself."""
    return bool(fit[f"{name}_high"] - fit[f"{name}_low"] <= fit[name])


def verdict(groups: dict[Name, list[Row]], fits: Sequence[Row]) -> list[str]:
    """Return paragraphs: the bound for each scheme, the separation, and what the output keeps of path KL."""
    schemes = list(dict.fromkeys(scheme for _, scheme in groups))
    paragraphs = [_about(scheme, groups, fits) for scheme in schemes]
    paragraphs += [_separation(groups, fits), _kept(schemes, groups)]
    return [text for text in paragraphs if text]


def _corner(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: (row["dimension"], row["steps"]))


def _fit(fits: Sequence[Row], name: Name, quantity: str = "path", window: str = "upper half") -> Row | None:
    wanted = (*name, quantity, window)
    for fit in fits:
        if (fit["family"], fit["scheme"], fit["quantity"], fit["window"]) == wanted:
            return fit
    return None


def _shown(fit: Row | None, name: str, *, faint: bool = True) -> str:
    """Return an exponent and half its interval; one that is not determined only if ``faint``."""
    if fit is None or isnan(fit[name]) or not (faint or determined(fit, name)):
        return "–"
    if isnan(fit[f"{name}_low"]):
        return f"{fit[name]:.2f} ± ?"
    return f"{fit[name]:.2f} ± {0.5 * (fit[f'{name}_high'] - fit[f'{name}_low']):.2f}"


def _law_table(fits: Sequence[Row]) -> Table:
    lines = []
    for fit in fits:
        if (fit["quantity"], fit["window"]) != ("path", "all"):
            continue
        name = (fit["family"], fit["scheme"])
        late = [_shown(_fit(fits, name), "p"), _shown(_fit(fits, name, "marginal"), "p", faint=False)]
        points = f"{fit['points']}/{fit['points'] + fit['left_out']}"
        scatter = "–" if isnan(fit["scatter"]) else f"{fit['scatter']:.2f}"
        lines.append([*name, _shown(fit, "a"), _shown(fit, "p"), scatter, points, *late])
    header = ["family", "scheme", "d^a: a", "K^-p: p", "τ", "used", "p, late", "p of output, late"]
    title = "Path KL ~ d^a K^-p, with 95% intervals; τ: scatter beyond the statistical errors; late: upper half of K"
    return Table(title, header, lines)


def _cost_table(groups: dict[Name, list[Row]], fits: Sequence[Row]) -> Table:
    lines = []
    for name, rows in groups.items():
        fit = _fit(fits, name)
        if fit is None:
            continue
        found = assess(rows, fit)
        exponents = [_shown(fit, "cost_d"), f"{fit['theorem_d']:g}", _shown(fit, "cost_eps"), f"{fit['theorem_eps']:g}"]
        slack, worst = ("–" if isnan(each) else f"{each:.3g}" for each in (found.slack, found.worst))
        lines.append([*name, *exponents, found.verdict, worst, slack])
    header = ["family", "scheme", "K* ~ d^", "thm", "(1/ε)^", "thm", "holds", "KL/bound", "loose ×"]
    title = "Exponents of K*, at which path KL is ε², from the upper half of K, beside the theorem's"
    return Table(title, header, lines)


def _corner_table(groups: dict[Name, list[Row]]) -> Table:
    lines = []
    for name, rows in groups.items():
        if not rows:
            continue
        row = _corner(rows)
        exact = "–" if row["exact_kl"] is None else f"{row['exact_kl']:.3e}"
        doubted = "" if isfinite(row["marginal_error"]) else " ?"
        output = f"{_measured(row['marginal_kl'], row['standard_error'])}{doubted}"
        share = ratio(row)
        lines.append(
            [
                *name,
                f"{row['dimension']}",
                f"{row['steps']}",
                f"{'≤ ' if row['bound'] == 'upper' else ''}{_measured(row['path_kl'], row['path_error'])}",
                output,
                exact,
                "–" if share is None else f"{share[0]:.1e}",
            ]
        )
    header = ["family", "scheme", "d", "K", "path KL", "KL of output", "exact", "ratio"]
    title = "At the largest d and K, in nats (≤: upper bound, for stage noise; ?: doubted; ratio: output/path)"
    return Table(title, header, lines)


def ratio(row: Row) -> tuple[float, float] | None:
    """Return the KL of the output over that of paths, with its error; None unless known to a third of itself."""
    value, error = row["marginal_kl"], row["marginal_error"]
    if row["exact_kl"] is not None:
        value, error = row["exact_kl"], row["exact_error"]
    if row["path_kl"] is None or value <= 0.0 or row["path_kl"] <= 0.0:
        return None
    relative = hypot(error / value, row["path_error"] / row["path_kl"])
    return (value / row["path_kl"], relative * value / row["path_kl"]) if relative < 1.0 / 3.0 else None


def _measured(value: float, error: float) -> str:
    return f"{value:.2e} ± {error:.0e}"


def _about(scheme: str, groups: dict[Name, list[Row]], fits: Sequence[Row]) -> str:
    """Say in a paragraph what was measured of one scheme."""
    found = {
        name: (assess(rows, fit), fit)
        for name, rows in groups.items()
        if name[1] == scheme and (fit := _fit(fits, name)) is not None
    }
    known = {name: (result, fit) for name, (result, fit) in found.items() if result.verdict != "–"}
    if not known:
        return f"{scheme}: too few cells for a verdict."
    first = next(iter(known.values()))[1]
    a, b = first["theorem_d"], first["theorem_eps"]
    whose = " (the theorem on SRK)" if b == 1.0 and scheme != "srk" else ""
    held = [name for name, (result, _) in known.items() if result.verdict in ("yes", "points", "log")]
    text = f"{scheme}, bound {powers(a, b)}{whose}: respected on {len(held)} of {len(known)} families"
    for kind, words in (
        ("points", "at every point, with exponents that are not determined, on"),
        ("log", "of these with the logarithm that Õ may hide on"),
        ("steep", "a fitted exponent of K* exceeds the theorem's on"),
        ("no", "path KL grows beyond the bound on"),
    ):
        names = [name for name, (result, _) in known.items() if result.verdict == kind]
        if names:
            text += f"; {words} {', '.join(name[0] for name in names)}"
            text += f" (path KL/bound ≤ {max(known[name][0].worst for name in names):.2g})"
    exponents = [
        _range([fit[key] for _, fit in known.values() if determined(fit, key)]) for key in ("cost_d", "cost_eps")
    ]
    text += f". K* ~ d^{exponents[0]} (1/ε)^{exponents[1]}." if "?" not in exponents else ". Exponents not determined."
    slacks = [result.slack for result, _ in known.values() if not isnan(result.slack)]
    if slacks:
        text += f" Set at the smallest d, the bound asks for {_range(slacks, '.3g')} times the steps at the corner."
    return text


def _separation(groups: dict[Name, list[Row]], fits: Sequence[Row]) -> str:
    """Say whether path KL falls as 1/K for DDPM and as 1/K² for SRK."""
    compared = []
    for family, scheme in groups:
        first, second = (_fit(fits, (family, name)) for name in ("ddpm", "srk"))
        if scheme == "srk" and first and second and isfinite(first["p_low"] + second["p_low"]):
            compared.append((family, first, second))
    if not compared:
        return ""
    seen = [
        family
        for family, first, second in compared
        if first["p_high"] < second["p_low"] and (round(first["p"]), round(second["p"])) == (1, 2)
    ]
    text = (
        f"DDPM against SRK: path KL falls as K^-p with p = {_range([each['p'] for _, each, _ in compared])} for DDPM "
        f"and {_range([each['p'] for _, _, each in compared])} for SRK over the upper half of K; intervals apart, with "
        f"1 and 2 the nearest integers, on {len(seen)} of {len(compared)} families. "
    )
    verdict = "is" if len(seen) == len(compared) else "is in part" if seen else "is not"
    return f"{text}The separation between the theorems, 1/K against 1/K², {verdict} seen in the KL of paths."


def _kept(schemes: Sequence[str], groups: dict[Name, list[Row]]) -> str:
    """Say what share of path KL the output keeps, at the corner of each family."""
    parts = []
    for scheme in schemes:
        corners = [_corner(rows) for name, rows in groups.items() if name[1] == scheme and rows]
        shares = [share[0] for row in corners if (share := ratio(row)) is not None]
        if shares:
            parts.append(f"{scheme} {_range(shares, '.1e')}")
    return (
        f"KL of the output over that of paths, at the corners where it is known: {'; '.join(parts)}." if parts else ""
    )


def _range(values: Sequence[float], form: str = ".2f") -> str:
    known = [value for value in values if not isnan(value)]
    if not known:
        return "?"
    low, high = (format(each, form) for each in (min(known), max(known)))
    return low if low == high else f"{low}–{high}"

"""What the study of low dimension says: the cost of one ambient direction, exponents in d and in k, and who adapts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isnan, log

from studies._study import Report, Row, Table, Tables

FREE = 0.05  # exponents in d up to here count as none: 7% more steps a decade and less
EXACT = 1e-20  # nats a direction and step count: what rounding leaves of zero
_SHOWN_STEPS = (16, 64, 256)
_LITTLE = 0.1  # of the KL
_COMPARED = ("ddpm", "ddpm_posterior", "srk", "srk_adapted", "srk_third_point", "srk_third_point_adapted")


def report(tables: Tables, options: Namespace) -> Report:
    """Return tables and verdict."""
    costs, units, fits = tables[""], tables["_directions"], tables["_fits"]
    variances = list(dict.fromkeys(row["ambient_variance"] for row in [*costs, *units]))
    intrinsics = list(dict.fromkeys(row["intrinsic"] for row in costs))
    shown = [_direction_table(units, variance) for variance in variances if units]
    shown += [_exponent_table(costs, fits, intrinsic, variances) for intrinsic in intrinsics]
    return Report(shown, _verdict(costs, units, fits) if costs else ["No cell is done: no verdict."])


def adapts(fits: Sequence[Row], scheme: str, intrinsic: str, variance: float) -> str:
    """Return "yes", "no" or "open" by the interval of the exponent in d over the last two decades; "–" without one."""
    fit = find(fits, scheme, intrinsic, variance, "d")
    if fit is None or isnan(fit["low"]):
        return "–"
    return "yes" if fit["high"] <= FREE else "no" if fit["low"] > FREE else "open"


def find(
    fits: Sequence[Row], scheme: str, intrinsic: str, variance: float, variable: str, kind: str = "tail"
) -> Row | None:
    """Return the fit of one exponent, or None."""
    key = (scheme, intrinsic, variance, variable, kind)
    names = ("scheme", "intrinsic", "ambient_variance", "variable", "fit")
    return next((fit for fit in fits if tuple(fit[name] for name in names) == key), None)


def rate(units: Sequence[Row]) -> float:
    """Return p of KL ~ K^−p between the last two rungs of one curve; NaN if there are no two, 0 if KL is 0."""
    curve = sorted((row["steps"], row["kl"]) for row in units)[-2:]
    if len(curve) < 2:
        return float("nan")
    (few, before), (many, after) = curve
    return 0.0 if min(before, after) <= 0.0 else log(before / after) / log(many / few)


def _direction_table(units: Sequence[Row], variance: float) -> Table:
    rows = []
    for scheme in dict.fromkeys(row["scheme"] for row in units):
        curve = _curve(units, scheme, variance)
        if not curve:
            continue
        at = {row["steps"]: row["kl"] for row in curve}
        values = [f"{at[steps]:.1e}" if steps in at else "–" for steps in _SHOWN_STEPS]
        rows.append([scheme, *values, "exact" if _exact(curve) else f"{rate(curve):.2f}"])
    header = ["scheme", *(f"K = {steps}" for steps in _SHOWN_STEPS), "~ K^−p: p"]
    return Table(f"KL of one ambient direction of variance {variance:g}, in nats", header, rows, left=1)


def _curve(units: Sequence[Row], scheme: str, variance: float) -> list[Row]:
    """Return the curve of an ambient direction once: it is the same beside every kind of intrinsic directions."""
    found = {
        row["steps"]: row
        for row in units
        if (row["scheme"], row["ambient_variance"], row["part"]) == (scheme, variance, "ambient")
    }
    return list(found.values())


def _exponent_table(costs: Sequence[Row], fits: Sequence[Row], intrinsic: str, variances: Sequence[float]) -> Table:
    rows = []
    for variance in variances:
        for scheme in dict.fromkeys(row["scheme"] for row in costs):
            group = _group(costs, scheme, intrinsic, variance)
            if not group:
                continue
            exponents = [_interval(find(fits, scheme, intrinsic, variance, variable)) for variable in "dk"]
            corner = _corner(group)
            spent = "–" if corner is None else f"{corner['nfe']}"
            verdict = adapts(fits, scheme, intrinsic, variance)
            rows.append([scheme, f"{variance:g}", *exponents, spent, _free_up_to(group), verdict])
    header = ["scheme", "var", "in d [95%]", "in k [95%]", "evaluations", "ambient ≤ 10% to d", "adapts"]
    return Table(f"Exponents of K* over the last two decades of d and of k, intrinsic: {intrinsic}", header, rows)


def _interval(fit: Row | None) -> str:
    if fit is None:
        return "–"
    value, low, high = (fit[key] + 0.0 if abs(fit[key]) >= 5e-4 else 0.0 for key in ("exponent", "low", "high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _corner(group: Sequence[Row]) -> Row | None:
    """Return the row at the largest d of those with k fixed, at the smallest ε."""
    solved = [row for row in group if row["varied"] == "d" and row["steps"] is not None]
    return max(solved, key=lambda row: (row["dimension"], -row["epsilon"]), default=None)


def _free_up_to(group: Sequence[Row]) -> str:
    """Return the largest d up to which the ambient directions make little of the KL, for every ε."""
    solved = [row for row in group if row["varied"] == "d" and row["steps"] is not None]
    free = None
    for dimension in sorted({row["dimension"] for row in solved}):
        if any(row["ambient_share"] > _LITTLE for row in solved if row["dimension"] == dimension):
            break
        free = dimension
    return "–" if free is None else f"{free:g}"


def _verdict(costs: Sequence[Row], units: Sequence[Row], fits: Sequence[Row]) -> list[str]:
    schemes = list(dict.fromkeys(row["scheme"] for row in costs))
    intrinsic = costs[0]["intrinsic"]
    lines = []
    parts = []
    for answer, words in (("yes", "do not grow with d"), ("no", "grow with d"), ("open", "are undecided")):
        names = [
            f"{scheme} {_interval(find(fits, scheme, intrinsic, 0.0, 'd'))}"
            for scheme in schemes
            if adapts(fits, scheme, intrinsic, 0.0) == answer
        ]
        if names:
            parts.append(f"{words} for {', '.join(names)}")
    if parts:
        lines.append(f"Steps on point masses beside an intrinsic {intrinsic} (exponent in d): {'; '.join(parts)}.")
    exact = [scheme for scheme in schemes if _exact(_curve(units, scheme, 0.0))]
    paid = {scheme: curve for scheme in schemes if (curve := _curve(units, scheme, 0.0)) and scheme not in exact}
    if exact or paid:
        listed = ", ".join(f"K^−{rate(curve):.2f} for {scheme}" for scheme, curve in paid.items())
        lines.append(
            f"Mechanism: KL of a point mass is zero to rounding (below {EXACT:g} nats), whatever K is, for "
            f"{', '.join(exact) or 'no scheme'}{f'; it falls as {listed}' if paid else ''}."
        )
    lines += _srk(costs, fits, intrinsic)
    for variance in sorted({row["ambient_variance"] for row in costs} - {0.0}):
        free = {scheme: _free_up_to(_group(costs, scheme, intrinsic, variance)) for scheme in schemes}
        none = f"{min(row['dimension'] for row in costs if row['varied'] == 'd'):g}"
        listed = ", ".join(f"{scheme} {place}" for scheme, place in free.items() if place not in ("–", none))
        lines.append(
            f"Nearly low-dimensional, variance {variance:g}: ambient directions make less than a tenth of the KL, at "
            f"every ε, up to d = {listed or 'none'}."
        )
    lines.append(
        "What is tested are linear subspaces, in any position, for samplers commute with rotations; curved supports do "
        "not split into one-dimensional parts and are beyond exact KL."
    )
    return lines


def _srk(costs: Sequence[Row], fits: Sequence[Row], intrinsic: str) -> list[str]:
    """Say whether SRK adapts, as it is and with the stage noise made for it, on point masses."""

    def exponent(scheme: str, variable: str) -> str:
        return _interval(find(fits, scheme, intrinsic, 0.0, variable))

    lines = []
    answer = adapts(fits, "srk", intrinsic, 0.0)
    if answer in ("yes", "no"):
        lines.append(
            f"SRK with the paper's coefficients {'adapts' if answer == 'yes' else 'does not adapt'}: exponent in d "
            f"{exponent('srk', 'd')}, DDPM with posterior variance {exponent('ddpm_posterior', 'd')}."
        )
    corners = {scheme: _corner(_group(costs, scheme, intrinsic, 0.0)) for scheme in _COMPARED}
    spent = {scheme: row for scheme, row in corners.items() if row is not None}
    if adapts(fits, "srk_adapted", intrinsic, 0.0) == "yes" and "srk" in spent:
        place = spent["srk"]
        counted = ", ".join(f"{scheme} {row['nfe']}" for scheme, row in spent.items())
        lines.append(
            "SRK adapts with the stage noise of this study (σ_t² ∇s is frozen over a step, not ∇s), at one evaluation "
            f"a step: exponent in d {exponent('srk_adapted', 'd')}, in k {exponent('srk_adapted', 'k')}. Score "
            f"evaluations at k = {place['rank']}, d = {place['dimension']:g}, ε = {place['epsilon']:g}: {counted}."
        )
    return lines


def _group(costs: Sequence[Row], scheme: str, intrinsic: str, variance: float) -> list[Row]:
    key = (scheme, intrinsic, variance)
    return [row for row in costs if (row["scheme"], row["intrinsic"], row["ambient_variance"]) == key]


def _exact(curve: Sequence[Row]) -> bool:
    return bool(curve) and max(row["kl"] for row in curve) < EXACT

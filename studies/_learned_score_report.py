"""What the study of learned scores says: how far off networks are, and what each sampler makes of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import hypot, isfinite, nan

import numpy as np

from studies._learned_score_network import EARLY_STOP
from studies._study import Report, Row, Table, Tables

_INTERVAL = 1.96  # standard errors, of an interval of 95%
_AMPLIFIED = 1.1  # of Girsanov's term, at the least, is more than additive


def networks(errors: Sequence[Row]) -> list[Row]:
    """Integrate errors over time, by the trapezoidal rule: a row for each network, 0 steps for the exact score."""
    rows = []
    for training in sorted({row["training"] for row in errors}):
        own = sorted((row for row in errors if row["training"] == training), key=lambda row: -row["time"])
        lengths = -np.diff([*(row["time"] for row in own), EARLY_STOP])
        weights = 0.5 * (lengths + np.concatenate([[0.0], lengths[:-1]]))
        weights[-1] += 0.5 * lengths[-1]  # from the last time to the end nothing changes
        found = {"training": training}
        for name in ("seen", "unseen"):
            found[name] = float(weights @ [row[name] for row in own])
            found[f"{name}_error"] = float(np.linalg.norm(weights * [row[f"{name}_error"] for row in own]))
        rows.append(found | {"norm": float(weights @ [row["norm"] for row in own])})
    return rows


def added(rows: Sequence[Row], found: Sequence[Row]) -> list[Row]:
    """Set beside each KL that of the exact score, the difference, Girsanov's term, and the ratio of the last two.

    A difference that has been taken path by path stays. What is not known, as the cell is missing, is NaN. Of the exact
    score differences and ratios are 0.
    """
    exact = {(row["scheme"], row["steps"]): row for row in rows if row["training"] == 0}
    terms = {row["training"]: (row["seen"], row["seen_error"]) for row in found}
    result = []
    for row in rows:
        plain = exact.get((row["scheme"], row["steps"]), {})
        exact_kl, exact_error = plain.get("kl", nan), plain.get("kl_error", nan)
        term, term_error = (row["share"] ** 2 * part for part in terms.get(row["training"], (nan, nan)))
        gap, gap_error = row["added"], row["added_error"]
        if gap is None:
            gap, gap_error = row["kl"] - exact_kl, hypot(row["kl_error"], exact_error)
        ratio = gap / term if term else 0.0
        more = {
            "exact_kl": exact_kl,
            "exact_error": exact_error,
            "added": gap,
            "added_error": gap_error,
            "girsanov": term,
            "girsanov_error": term_error,
            "ratio": ratio,
            "ratio_error": hypot(gap_error, ratio * term_error) / term if term else 0.0,
        }
        result.append(row | more)
    return result


def report(tables: Tables, options: Namespace) -> Report:
    """Return the tables of networks, of KL, and of what scores add to it, and the verdict."""
    rows, found, samples = (tables.get(name, []) for name in ("", "_networks", "_samples"))
    if not rows:
        return Report([], ["No cell is done: no verdict."])
    learned = [row for row in rows if row["training"] and isfinite(row["ratio"])]
    said = [
        _errors(found),
        _of_ddpm(learned),
        _additive(learned),
        _sum(learned),
        _part(learned),
        _first(rows),
        _near(samples),
    ]
    shown = [_networks_table(found, samples), _kl_table(rows)]
    return Report(shown + ([_ratios_table(learned)] if learned else []), [text for text in said if text])


def named(training: int, share: float = 1.0) -> str:
    """Return a score's name."""
    if training == 0:
        return "exact"
    return f"{training} steps" + ("" if share == 1.0 else f", {share:g} of its error")


def _networks_table(found: Sequence[Row], samples: Sequence[Row]) -> Table:
    lines = []
    for row in found:
        own = [each for each in samples if each["training"] == row["training"]]
        near = [float(np.median([each[name] for each in own])) if own else nan for name in ("seen", "unseen")]
        lines.append(
            [
                named(row["training"]),
                _pm(row["seen"], row["seen_error"]),
                _pm(row["unseen"], row["unseen_error"]),
                f"{row['norm']:.0f}",
                *(f"{each:.2f}" for each in near),
            ]
        )
    header = ["score", "∫ E|ŝ − s|² dt, seen", "unseen", "∫ E|s|² dt", "nearest, seen", "unseen"]
    title = (
        "Errors of scores against the exact ones of the images learned from (seen) and of others (nats, 95%); "
        "median distance of samples to the nearest image, a pixel"
    )
    return Table(title, header, lines, left=1)


def _kl_table(rows: Sequence[Row]) -> Table:
    steps = sorted({row["steps"] for row in rows})
    lines = []
    for training, share in _scores(rows):
        for scheme in _distinct(rows, "scheme"):
            own = _by_steps(rows, training, share, scheme)
            each = [_pm(own[k]["kl"], own[k]["kl_error"]) if k in own else "" for k in steps]
            bound = "≤" if any(row["stage_noise"] for row in own.values()) else ""
            lines.append([named(training, share), scheme, bound, *each])
    title = "KL of paths (nats, 95%); ≤: an upper bound on it"
    return Table(title, ["score", "scheme", "", *(f"K = {k}" for k in steps)], lines, left=3)


def _ratios_table(learned: Sequence[Row]) -> Table:
    steps = sorted({row["steps"] for row in learned})
    lines = []
    for training, share in _scores(learned):
        for scheme in _distinct(learned, "scheme"):
            own = _by_steps(learned, training, share, scheme)
            each = [_pm(own[k]["ratio"], own[k]["ratio_error"]) if k in own else "" for k in steps]
            lines.append([named(training, share), scheme, *each])
    title = "What the score adds to the KL of paths, over Girsanov's ∫ E|ŝ − s|² dt (95%)"
    return Table(title, ["score", "scheme", *(f"K = {k}" for k in steps)], lines)


def _errors(found: Sequence[Row]) -> str:
    """Say how far off networks are, on images that they have learned from and on others."""
    learned = [row for row in found if row["training"]]
    if not learned:
        return ""
    each = "; ".join(
        f"after {row['training']} steps {_pm(row['seen'], row['seen_error'])} nats, "
        f"{_pm(row['unseen'], row['unseen_error'])} on images not seen"
        for row in learned
    )
    text = f"∫ E|ŝ − s|² dt of networks (± 95%): {each}"
    own = [row for row in found if row["training"] == 0]
    if own:
        text += f". The exact score of the images seen: {_pm(own[0]['unseen'], own[0]['unseen_error'])} on the others"
    return text + "."


def _of_ddpm(learned: Sequence[Row]) -> str:
    """Say whether DDPM's KL grows as it must, by a weighted sum over its own grid."""
    own = [row for row in learned if row["scheme"] == "ddpm" and isfinite(row["of_ddpm"])]
    if not own:
        return ""
    off = [abs(row["added"] - row["of_ddpm"]) / hypot(row["added_error"], row["of_ddpm_error"]) for row in own]
    return (
        f"DDPM: what the score adds is Σ e^−h sinh(h) E|ŝ − s|², as derived, within {max(off):.1f} standard errors in "
        f"all {len(own)} cases."
    )


def _additive(learned: Sequence[Row]) -> str:
    """Say which samplers add Girsanov's term, and which more."""
    whole = [row for row in learned if row["share"] == 1.0]
    if not whole:
        return ""
    most = max(row["steps"] for row in whole)
    text, parts = "What a network's error adds, over Girsanov's term: ", []
    for scheme in _distinct(whole, "scheme"):
        own = [row for row in whole if row["scheme"] == scheme]
        known = sorted({row["steps"] for row in own})
        each = [
            f"{_range([row for row in own if row['steps'] == k])} at K = {k}"
            for k in dict.fromkeys((known[0], known[-1]))
        ]
        parts.append(f"{scheme} " + ", ".join(each))
    last = [row for row in whole if row["steps"] == most]
    more = _distinct([row for row in last if row["ratio"] - _INTERVAL * row["ratio_error"] > _AMPLIFIED], "scheme")
    end = (
        f"By more than {_AMPLIFIED:g} at K = {most}: {', '.join(more)}"
        if more
        else f"None adds more than {_AMPLIFIED:g} times the term at K = {most}, beyond its interval"
    )
    return text + "; ".join(parts) + f" (networks' range, ± 95%). {end}."


def _sum(learned: Sequence[Row]) -> str:
    """Say how far above the sum of both terms KL is, at the most."""
    known = [row for row in learned if isfinite(row["exact_kl"])]
    if not known:
        return ""
    worst = max(known, key=lambda row: row["kl"] / (row["exact_kl"] + row["girsanov"]))
    total = worst["exact_kl"] + worst["girsanov"]
    ratio, error = worst["kl"] / total, _INTERVAL * hypot(worst["kl_error"], worst["exact_error"]) / total
    where = f"{worst['scheme']}, K = {worst['steps']}, {named(worst['training'], worst['share'])}"
    return f"KL of paths is at most {ratio:.2f} ± {error:.2f} times the sum of both terms ({where})."


def _part(learned: Sequence[Row]) -> str:
    """Say whether what is added is quadratic in the error: a part of it, squared, adds that part."""
    texts = []
    for share in sorted({row["share"] for row in learned if row["share"] != 1.0}, reverse=True):
        same, other = [], []
        for scheme in _distinct(learned, "scheme"):
            own = [row for row in learned if (row["scheme"], row["share"]) == (scheme, share)]
            pairs = [(row, _by_steps(learned, row["training"], 1.0, scheme).get(row["steps"])) for row in own]
            known = [(part, whole) for part, whole in pairs if whole is not None]
            off = [pair for pair in known if _differ(*pair)]
            if off:
                part, whole = max(off, key=lambda pair: abs(pair[0]["ratio"] - pair[1]["ratio"]))
                both = f"{part['ratio']:.2f} ± {_INTERVAL * part['ratio_error']:.2f}, not {whole['ratio']:.2f}"
                other.append(f"{scheme} {both}, at K = {part['steps']}")
            elif known:
                same.append(scheme)
        text = f"With {share:g} of the error and {share**2:g} of the term the ratio is the same, within 95%, for "
        text += ", ".join(same) if same else "no scheme"
        texts.append(text + (f"; discretisation and score error interfere in {'; '.join(other)}" if other else ""))
    return ". ".join(texts) + "." if texts else ""


def _differ(part: Row, whole: Row) -> bool:
    error = hypot(part["ratio_error"], whole["ratio_error"])
    return bool(abs(part["ratio"] - whole["ratio"]) > _INTERVAL * error)


def _first(rows: Sequence[Row]) -> str:
    """Say what of a lead over DDPM is left with each score, at the largest K."""
    steps, texts = max(row["steps"] for row in rows), []
    for training, share in _scores(rows):
        own = [row for row in rows if (row["training"], row["share"], row["steps"]) == (training, share, steps)]
        base = [row for row in own if row["scheme"] == "ddpm"]
        if not base or len(own) < 2:
            continue
        best = min(own, key=lambda row: row["kl"])
        value = f"{named(training, share)}: {best['scheme']}, {_pm(best['kl'], best['kl_error'])}"
        texts.append(f"{value} against {_pm(base[0]['kl'], base[0]['kl_error'])}")
    return f"Least KL of paths at K = {steps}, against DDPM's (nats): {'; '.join(texts)}." if texts else ""


def _near(samples: Sequence[Row]) -> str:
    """Say how near samples are to images learned from."""
    texts = []
    for training in sorted({row["training"] for row in samples}):
        own = [row for row in samples if row["training"] == training]
        near = [float(np.median([row[name] for row in own])) for name in ("seen", "unseen")]
        texts.append(f"{named(training)} {near[0]:.2f} and {near[1]:.2f}")
    return (
        f"Samples from N(0, I), median distance a pixel to the nearest image seen and not seen: {'; '.join(texts)}."
        if texts
        else ""
    )


def _scores(rows: Sequence[Row]) -> list[tuple[int, float]]:
    return sorted({(row["training"], row["share"]) for row in rows}, key=lambda each: (each[0], -each[1]))


def _by_steps(rows: Sequence[Row], training: int, share: float, scheme: str) -> dict[int, Row]:
    wanted = (training, share, scheme)
    return {row["steps"]: row for row in rows if (row["training"], row["share"], row["scheme"]) == wanted}


def _distinct(rows: Sequence[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _range(rows: Sequence[Row]) -> str:
    low, high = (choose(row["ratio"] for row in rows) for choose in (min, max))
    error = _INTERVAL * max(row["ratio_error"] for row in rows)
    return f"{low:.2f} ± {error:.2f}" if len(rows) == 1 else f"{low:.2f}–{high:.2f} ± {error:.2f}"


def _pm(value: float, error: float) -> str:
    """Return a value with its interval of 95%, in as many digits as that leaves."""
    wide = _INTERVAL * error
    if not isfinite(value) or not isfinite(wide):
        return "?"
    digits = 2 if wide == 0.0 else int(np.clip(1 - np.floor(np.log10(wide)), 0, 6))
    return f"{value:.{digits}f} ± {wide:.{digits}f}"

"""What the league says: the ranked table, the winner of every pair, and where rivals beat this project's samplers."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from math import inf, isfinite, isnan
from statistics import median

from studies._league_schedulers import INSTALL, SCHEDULERS, edition
from studies._league_targets import UNRANKED
from studies._study import Report, Row, Table, Tables

_LEVELS = ("nfe_1e-02", "nfe_1e-04", "nfe_1e-06", "nfe_1e-08")
_RANKED = "nfe_1e-04"
_RESOLVED = 20.0  # a KL that is compared, over its numerical error
_ALIKE = 0.01  # of a KL: more is another sampler
_SRK = ("paper", "ours")


def report(tables: Tables, options: Namespace) -> Report:
    """Return the ranking, the best of each pair, and the verdict."""
    ranked, reached = tables["_ranking"], tables["_reached"]
    if not ranked:
        return Report([], ["No cell is done: no verdict."])
    pairs = list(dict.fromkeys((row["target"], row["grid"]) for row in reached))
    missing = [name for name in options.schemes if name not in {row["scheme"] for row in ranked}]
    left_out = [name for name in missing if name in SCHEDULERS and not edition()]
    missing = [name for name in missing if name not in left_out]
    verdict = _verdict(pairs, tables, missing)
    if left_out:
        verdict.append(f"Left out, for diffusers is not installed ({INSTALL}): {', '.join(left_out)}.")
    return Report([_ranking(ranked, len(pairs)), _winners(pairs, tables)], verdict)


def spent(row: Row, level: str = _RANKED) -> float:
    """Return the evaluations to a level, infinite beyond the ladder."""
    return inf if row[level] is None else float(row[level])


def best(reached: Sequence[Row], pair: tuple[str, str], schemes: set[str], level: str = _RANKED) -> Row | None:
    """Return the row with the fewest evaluations to a level on a pair among ``schemes``; None if none gets there."""
    rows = [row for row in reached if (row["target"], row["grid"]) == pair and row["scheme"] in schemes]
    rows = [row for row in rows if isfinite(spent(row, level))]
    return min(rows, key=lambda row: spent(row, level)) if rows else None


def duel(reached: Sequence[Row], one: str, other: str) -> tuple[float, int, int]:
    """Return the median of evaluations of ``one`` over those of ``other``, pairs won by ``one``, and pairs compared.

    Pairs that both cover and at least one of the two finishes; a ratio is 0 or infinite where one does not.
    """
    ours, theirs = (
        {(row["target"], row["grid"]): spent(row) for row in reached if row["scheme"] == name} for name in (one, other)
    )
    common = [pair for pair in ours if pair in theirs and min(ours[pair], theirs[pair]) < inf]
    ratios = [0.0 if theirs[pair] == inf else ours[pair] / theirs[pair] for pair in common]
    won = sum(ours[pair] < theirs[pair] for pair in common)
    return (median(ratios) if ratios else float("nan")), won, len(common)


def _ranking(ranked: Sequence[Row], pairs: int) -> Table:
    places = {row["scheme"]: place for place, row in enumerate(_everywhere(ranked), 1)}
    rows = [
        [
            f"{places.get(row['scheme'], '')}",
            row["scheme"],
            row["origin"],
            f"{row['each']}",
            f"{row['pairs']}/{pairs}",
        ]
        + [_number(row[level], row["most"]) for level in _LEVELS]
        + [_ratio(row["over_best"]), "–" if isnan(row["order"]) else f"{row['order']:.1f}", _won(row)]
        for row in ranked
    ]
    header = ["", "scheme", "whose", "evals/step", "pairs", "1e-2", "1e-4", "1e-6", "1e-8", "over best", "order", "won"]
    title = "Score evaluations to a KL (nats): medians over pairs of a target and a grid; over best and won: at 1e-4"
    return Table(title, header, rows, left=3)


def _winners(pairs: Sequence[tuple[str, str]], tables: Tables) -> Table:
    sides = _sides(tables["_ranking"])
    rows = [
        [*pair, *(_named(best(tables["_reached"], pair, sides[side])) for side in ("all", "one", "ours", "rival"))]
        for pair in pairs
    ]
    header = ["target", "grid", "best", "best, 1 eval/step", "best SRK type", "best rival"]
    return Table("Fewest evaluations to KL = 1e-4 on each pair", header, rows, left=6)


def _sides(ranked: Sequence[Row]) -> dict[str, set[str]]:
    return {
        "all": {row["scheme"] for row in ranked if row["origin"] not in UNRANKED},
        "one": {row["scheme"] for row in ranked if row["origin"] not in UNRANKED and row["each"] == 1},
        "ours": {row["scheme"] for row in ranked if row["origin"] in _SRK},
        "rival": {row["scheme"] for row in ranked if row["origin"] == "rival"},
    }


def _verdict(pairs: Sequence[tuple[str, str]], tables: Tables, missing: Sequence[str]) -> list[str]:
    ranked, reached = tables["_ranking"], tables["_reached"]
    sides = _sides(ranked)
    lines = []
    everywhere = _everywhere(ranked)
    finished = [row for row in everywhere if isfinite(row[_RANKED])]
    if finished:
        lines.append(
            f"Fewest evaluations to KL = 1e-4, of the {len(everywhere)} samplers that cover the most pairs: "
            + ", ".join(f"{row['scheme']} ({row[_RANKED]:.0f}, {row['origin']})" for row in finished[:4])
            + " (medians)."
        )
    one = [row for row in finished if row["each"] == 1]
    if one:
        lines.append(f"Best with one evaluation a step: {one[0]['scheme']} ({one[0]['origin']}).")
    ours = next((row["scheme"] for row in finished if row["origin"] in _SRK), None)
    rivals = [row["scheme"] for row in finished if row["origin"] == "rival"]
    partial = [
        row["scheme"]
        for row in ranked
        if row not in everywhere and row["origin"] not in UNRANKED and isfinite(row[_RANKED])
    ]
    if ours:
        lines.extend(_duels(reached, ours, [*rivals[:3], *partial]))
        lines.extend(_over_best(pairs, reached, ours, sides["rival"], level, "best rival") for level in _LEVELS[1:])
        lines.extend(value_by_value(tables[""], ours, rival) for rival in rivals[:3])
    beaten, free = Counter[str](), 0
    for pair in pairs:
        mine, theirs = best(reached, pair, sides["ours"]), best(reached, pair, sides["rival"])
        if theirs and (mine is None or spent(theirs) < spent(mine)):
            beaten[theirs["scheme"]] += 1
        elif mine:
            free += 1
    if beaten:
        named = ", ".join(f"{name} ({count})" for name, count in beaten.most_common())
        lines.append(
            f"A rival beats every SRK-type sampler on {beaten.total()} of {len(pairs)} pairs: {named}; "
            f"an SRK-type sampler is first on {free}."
        )
    elif free:
        lines.append(f"No rival beats the best SRK-type sampler on any of {free} pairs.")
    lines.extend(_told(pairs, tables, sides["all"]))
    lines.extend(_paper(everywhere))
    lines.extend(_twins(tables[""]))
    if missing:
        lines.append(f"Not covered by an exact KL here: {', '.join(missing)}.")
    return lines


def _duels(reached: Sequence[Row], ours: str, rivals: Sequence[str]) -> list[str]:
    """Say how the best SRK-type sampler does against rivals, on the pairs that both cover."""
    lines = []
    for rival in rivals:
        ratio, won, count = duel(reached, rival, ours)
        if count:
            lines.append(
                f"{rival} against {ours}: {ratio:.2f} times its evaluations (median of {count} pairs), "
                f"fewer on {won} of {count}."
            )
    return lines


def _over_best(
    pairs: Sequence[tuple[str, str]], reached: Sequence[Row], ours: str, others: set[str], level: str, whom: str
) -> str:
    """Say how many evaluations a sampler takes over those of each pair's best of others, in words ``whom``."""
    both = ((best(reached, pair, {ours}, level), best(reached, pair, others, level)) for pair in pairs)
    ratios = [spent(mine, level) / spent(theirs, level) for mine, theirs in both if mine and theirs]
    at = f"{ours} at KL = {level.removeprefix('nfe_')}, over each pair's {whom}"
    if not ratios:
        return f"{at}: no pair on which both get there."
    return (
        f"{at}: {median(ratios):.2f} times the evaluations (median of {len(ratios)} pairs on which both get there), "
        f"at most {max(ratios):.2f}; more on {sum(ratio > 1.0 for ratio in ratios)}."
    )


def _told(pairs: Sequence[tuple[str, str]], tables: Tables, untold: set[str]) -> list[str]:
    """Say how samplers that are told the data's effective variances do against the best of those that are not."""
    whom = "best that is not told the data's effective variances"
    return [
        _over_best(pairs, tables["_reached"], row["scheme"], untold, level, whom)
        for row in tables["_ranking"]
        if row["origin"] == "told"
        for level in _LEVELS[1:]
    ]


def value_by_value(rows: Sequence[Row], ours: str, rival: str) -> str:
    """Say where the best SRK-type sampler has a smaller KL than a rival, budget by budget."""
    mine, theirs = (
        {(row["target"], row["grid"], row["evaluations"]): row["kl"] for row in rows if row["scheme"] == name}
        for name in (ours, rival)
    )
    ratios = {
        place: value / theirs[place]
        for place, value in mine.items()
        if isfinite(value) and theirs.get(place, 0.0) > 0.0
    }
    if not ratios:
        return f"{ours} and {rival} share no budget."
    worse = Counter(place[0] for place, ratio in ratios.items() if ratio > 1.0)
    where = f", larger on {', '.join(f'{name} ({count})' for name, count in worse.items())}" if worse else ""
    return (
        f"KL of {ours} over that of {rival} at the same budget: {median(ratios.values()):.2g} (median), at most "
        f"{max(ratios.values()):.3g}; smaller in {len(ratios) - worse.total()} of {len(ratios)} places{where}."
    )


def _paper(everywhere: Sequence[Row]) -> list[str]:
    place = next((index for index, row in enumerate(everywhere, 1) if row["scheme"] == "srk"), None)
    if place is None:
        return []
    row = everywhere[place - 1]
    return [
        f"The paper's srk is number {place} of {len(everywhere)}: {_number(row[_RANKED], row['most'])} evaluations to "
        f"KL = 1e-4, order {row['order']:.1f}."
    ]


def _everywhere(ranked: Sequence[Row]) -> list[Row]:
    """Return the rows of the samplers that have a place: those that cover the most pairs."""
    own = [row for row in ranked if row["origin"] not in UNRANKED]
    most = max((row["pairs"] for row in own), default=0)
    return [row for row in own if row["pairs"] == most]


def _twins(rows: Sequence[Row]) -> list[str]:
    """Say how the KL of diffusers' schedulers differs from that of the same schemes here."""
    values = {
        (row["scheme"], row["target"], row["grid"], row["evaluations"]): row["kl"]
        for row in rows
        if isfinite(row["kl"]) and row["kl"] > _RESOLVED * row["kl_error"]
    }
    lines = []
    for name, entry in SCHEDULERS.items():
        ratios: dict[int, list[float]] = {}
        for (scheme, *place, budget), value in values.items():
            twin = values.get((entry.twin, *place, budget), 0.0)
            if scheme == name and twin > 0.0:
                ratios.setdefault(budget, []).append(value / twin)
        if not ratios:
            continue
        differing = {budget: found for budget, found in ratios.items() if abs(median(found) - 1.0) > _ALIKE}
        same = [abs(ratio - 1.0) for budget in ratios.keys() - differing.keys() for ratio in ratios[budget]]
        said = f"{name} has the KL of {entry.twin}" if same else f"{name} differs from {entry.twin}"
        if same:
            said += f", to {max(same):.0e} of it in {len(same)} values"
        if differing:
            factors = ", ".join(f"{median(found):.3g} at {budget}" for budget, found in sorted(differing.items()))
            said += f"{' but' if same else ''} by factors of the KL (medians, at evaluations): {factors}"
        lines.append(f"{said}.")
    return lines


def _won(row: Row) -> str:
    return "–" if row["origin"] in UNRANKED else f"{row['won']}"


def _named(row: Row | None) -> str:
    return "–" if row is None else f"{row['scheme']} {spent(row):.0f}"


def _number(value: float, most: float) -> str:
    return f"{value:.0f}" if isfinite(value) else f">{most:.0f}"


def _ratio(value: float) -> str:
    return "–" if not isfinite(value) else f"{value:.2f}"

"""List the studies: ``python -m studies``."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

from studies._say import say

ORDER = (  # from one step to whole budgets; studies that are not named come after, `all` last
    "step_convergence",
    "forgetting",
    "league",
    "random_mixtures",
    "score_error",
    "learned_score",
    "images",
    "overhead",
    "tv_distance",
    "low_dimension",
    "hard_instances",
    "roughness",
    "schedules",
    "initialisation",
    "dimension_scaling",
    "path_scaling",
)
ALL = "all"


def studies() -> Iterator[tuple[str, str]]:
    """Yield each study's name and the first line of its docstring, without importing it; ``all`` comes last."""
    found = {path.stem: path for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    places = {name: place for place, name in enumerate(ORDER)}
    for name in sorted(found, key=lambda name: (name == ALL, places.get(name, len(ORDER)))):
        described = ast.get_docstring(ast.parse(found[name].read_text(encoding="utf-8"))) or ""
        yield name, described.split("\n", 1)[0]


def main(argv: list[str] | None = None) -> int:
    """Print the list."""
    argparse.ArgumentParser(
        prog="python -m studies",
        description="List the studies. python -m studies.NAME runs one; each takes --quick, --out, --help.",
    ).parse_args(argv)
    listed = list(studies())
    width = max((len(name) for name, _ in listed), default=0)
    for name, question in listed:
        say(f"{name:<{width}}  {question}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

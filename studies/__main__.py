"""List the studies: ``python -m studies``."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path


def studies() -> Iterator[tuple[str, str]]:
    """Yield each study's name and the first line of its docstring, without importing it."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        described = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        yield path.stem, described.split("\n", 1)[0]


def main(argv: list[str] | None = None) -> int:
    """Print the list."""
    argparse.ArgumentParser(
        prog="python -m studies",
        description="List the studies. python -m studies.NAME runs one; each takes --quick, --out, --help.",
    ).parse_args(argv)
    listed = list(studies())
    width = max((len(name) for name, _ in listed), default=0)
    for name, question in listed:
        print(f"{name:<{width}}  {question}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

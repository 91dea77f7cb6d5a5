"""The version of the code that a study's results depend on, as a digest of what ``solve`` can reach.

Reached are all modules of :mod:`srkverify` and, in the studies' own modules, the definitions that ``solve`` and the
cell's class name, directly or through each other. Comments, docstrings, verdicts and figures may change without making
stored results stale; a number that a result depends on may not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_LIBRARY, _STUDIES = "srkverify", "studies"


@lru_cache(maxsize=64)
def fingerprint(module: str, *names: str) -> str:
    """Return 16 hexadecimal digits that change with the code of ``names`` in ``module`` and of what they use."""
    reached: set[tuple[str, str]] = set()
    waiting = [(module, name) for name in names]
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting.extend(_uses(*place))
    digest = hashlib.sha256(_library().encode())
    for where, name in sorted(reached):
        for node in _definitions(where).get(name, ()):
            digest.update(f"{where} {name} {ast.dump(node)}\n".encode())
    return digest.hexdigest()[:16]


def _uses(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield what the definitions of a name refer to, in its own module and in other modules of the studies."""
    known = _definitions(module)
    for node in known.get(name, ()):
        if isinstance(node, ast.ImportFrom):
            yield from _imported(node, name)
        elif not isinstance(node, ast.Import):
            yield from ((module, each.id) for each in ast.walk(node) if isinstance(each, ast.Name) and each.id in known)


def _imported(node: ast.ImportFrom, name: str) -> Iterator[tuple[str, str]]:
    source = node.module or ""
    if source.split(".")[0] != _STUDIES:
        return
    original = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
    if source == _STUDIES and find_spec(f"{_STUDIES}.{original}"):
        whole = f"{_STUDIES}.{original}"  # a module: which of its names are used is not known
        yield from ((whole, each) for each in _definitions(whole))
    else:
        yield source, original


@lru_cache(maxsize=64)
def _definitions(module: str) -> dict[str, list[ast.stmt]]:
    """Return the statements at the top of a module that bind each name."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"module must be one that can be imported; got {module!r}")
    bound: dict[str, list[ast.stmt]] = {}
    for node in _parsed(Path(spec.origin)).body:
        for name in _names(node):
            bound.setdefault(name, []).append(node)
    return bound


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
    else:
        yield from (
            each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        )


@lru_cache(maxsize=1)
def _library() -> str:
    spec = find_spec(_LIBRARY)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {ast.dump(_parsed(path))}\n".encode())
    return digest.hexdigest()


def _parsed(path: Path) -> ast.Module:
    """Parse a file and leave out its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree

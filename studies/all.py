"""Run all studies, one after another, and write what they found as one page, report.html.

Each study writes its own tables and figures as its own command would, from one store of cells: what any run has solved
is not solved again. The page is written anew after each study, so that a stopped run leaves one. A study that fails
does not stop the others; the page says so, and the exit status is 1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import platform
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from figures import _svg
from srkverify import __version__
from studies import _command, _html, _run, _sweep
from studies.__main__ import ALL, studies
from studies._executors import Cluster, processors
from studies._say import say
from studies._store import Store
from studies._study import Study
from studies._turns import machine

PAGE = "report.html"
_PACKAGES = ("numpy", "scipy", "numba", "matplotlib")


def names() -> list[str]:
    """Return the studies' names in the order of the list."""
    return [name for name, _ in studies() if name != ALL]


def load(name: str) -> Study:
    """Return a study."""
    study: Study = importlib.import_module(f"studies.{name}").STUDY
    return study


def arguments(options: Namespace) -> list[str]:
    """Return the arguments that every study gets."""
    given = [f"--out={options.out}", f"--store={options.store}"]
    given += [f"--{name}={getattr(options, name)}" for name in ("workers", "scheduler") if getattr(options, name)]
    return given + [f"--{name}" for name in ("quick", "parquet") if getattr(options, name)]


def prices(options: Namespace) -> Iterator[str]:
    """Yield what a run of each study would cost, and of all."""
    total = _sweep.Price(0, 0, 0.0)
    for name in options.only:
        try:
            study = load(name)
            own = _run.parsed(study, _run.parser(study).parse_args(arguments(options)))
            yield _run.priced(study, own)
            with Store(own.store) as store:
                left = _sweep.price(study, study.cells(own), store)
        except Exception as problem:
            yield f"{name}: {failure(problem)}"
            continue
        total = _sweep.Price(total.cells + left.cells, total.stored + left.stored, total.seconds + left.seconds)
    yield _run.price_text(ALL, total, None)


def run_all(options: Namespace) -> int:
    """Run the studies and write the page after each; returns the exit status."""
    questions = dict(studies())
    sections = {name: _html.Section(name, questions.get(name, "")) for name in options.only}
    status = 0
    for number, name in enumerate(options.only, 1):
        if sys.stderr.isatty():
            print(f"[{number}/{len(options.only)}] {name} …", file=sys.stderr)
        sections[name] = section = attempt(name, sections[name], options, prefix=f"f{number}")
        write(options, list(sections.values()))
        for problem in _html.some(section.problems):
            print(f"{name}: {problem}", file=sys.stderr)
        say(f"{name}: {section.sentence}")
        if section.state == _html.INTERRUPTED:
            return _run.INTERRUPTED
        status = status if section.state in (_html.DONE, _html.LEFT_OUT) else 1
    return status


def attempt(name: str, section: _html.Section, options: Namespace, prefix: str) -> _html.Section:
    """Run a study and return its section, whatever happens."""
    command = " ".join(["python -m", f"studies.{name}", *(["--quick"] if options.quick else [])])
    section = dataclasses.replace(section, command=command)
    try:
        study = load(name)
        section = dataclasses.replace(section, method=study.described.strip().partition("\n")[2])
        if study.missing:
            return dataclasses.replace(section, state=_html.LEFT_OUT, problems=(study.missing,))
        own = _run.parsed(study, _run.parser(study).parse_args(arguments(options)))
        return described(section, _run.run(study, own), options, prefix)
    except KeyboardInterrupt:
        return dataclasses.replace(section, state=_html.INTERRUPTED, problems=("interrupted",))
    except Exception as problem:
        return dataclasses.replace(section, state=_html.FAILED, problems=(failure(problem),))


def failure(problem: Exception) -> str:
    """Return a line on what went wrong and where, the last place in this project."""
    here = Path(__file__).parents[1]
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if here in Path(frame.filename).parents]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(problem).__name__}: {problem}{place}"


def described(section: _html.Section, result: _run.Result, options: Namespace, prefix: str) -> _html.Section:
    """Return the section of a result."""
    outcome, study = result.outcome, result.study
    state = _html.DONE if outcome.complete else _html.INTERRUPTED if outcome.interrupted else _html.INCOMPLETE
    stored = "all" if outcome.stored == outcome.cells else f"{outcome.stored:,}"
    cost = [
        f"{outcome.cells:,} cells",
        f"{stored} solved by former runs" if outcome.stored else "",
        f"{len(outcome.failures):,} failed" if outcome.failures else "none failed",
        f"{_run.duration(outcome.seconds)} of processor time",
    ]
    grid = study.cells(result.options)
    own = {name: value for name, value in vars(result.options).items() if name not in vars(options)}
    settings = [(name.replace("_", " "), shown(value)) for name, value in own.items() if "seed" not in name]
    return dataclasses.replace(
        section,
        state=state,
        problems=tuple(_run.complaints(outcome)),
        report=result.report,
        drawings=tuple(
            drawing(stem, figure, f"{prefix}-{number}") for number, (stem, figure) in enumerate(result.figures.items())
        ),
        cost=" · ".join(filter(None, cost)),
        settings=[*settings, ("seeds", seeds(own, grid)), ("files", shown(result.files))],
        code=_sweep.version(study),
    )


def drawing(stem: str, figure: Any, prefix: str) -> _html.Drawing:
    """Return a figure for the page."""
    drawn = _svg.svg(figure, prefix, _svg.described(figure))
    return _html.Drawing(stem, drawn, _svg.caption(figure), _svg.width(figure))


def seeds(options: Mapping[str, Any], grid: Sequence[Any]) -> str:
    """Return the seeds that a run was made with: of its options and of its cells."""
    found: dict[str, dict[Any, None]] = {name: {value: None} for name, value in options.items() if "seed" in name}
    for cell in grid:
        for field in dataclasses.fields(cell):
            if "seed" in field.name:
                found.setdefault(field.name, {})[getattr(cell, field.name)] = None
    named = [f"{name.replace('_', ' ')} {shown(tuple(values))}" for name, values in found.items()]
    return "; ".join([*named, "what is random in a cell has a seed made of the cell's settings"])


def shown(value: Any) -> str:
    """Return a setting in words."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return value.name
    if isinstance(value, (tuple, list)):
        return ", ".join(map(shown, value))
    return str(value)


def write(options: Namespace, sections: Sequence[_html.Section]) -> None:
    """Write the page in one move."""
    done = sum(section.state != _html.WAITING for section in sections)
    lead = f"{done} of {len(sections)} studies" if done < len(sections) else f"{done} stud{'y' if done == 1 else 'ies'}"
    lead += ", a quick run on smaller grids than the studies’ own." if options.quick else "."
    code = hashlib.sha256(" ".join(section.code for section in sections).encode()).hexdigest()[:16]
    command = ["python -m studies.all", *(["--quick"] if options.quick else [])]
    if sorted(options.only) != sorted(names()):
        command.append(f"--only {','.join(options.only)}")
    packages = [f"{name} {version(name)}" for name in _PACKAGES]
    where = f"{machine()}, {processors()} of {os.cpu_count()} processors, {platform.system()}"
    now = datetime.now(UTC)
    facts = [
        ("date", f"{now.day} {now:%B %Y, %H:%M} UTC"),
        ("machine", where if options.scheduler is None else f"a cluster at {options.scheduler}; this is {where}"),
        ("versions", ", ".join([f"srkverify {__version__}", f"Python {platform.python_version()}", *packages])),
        ("code", f"``{code}``"),
        ("command", f"``{' '.join(command)}``"),
    ]
    _command.write_text(options.out / PAGE, _html.page(sections, facts, lead))


def parser() -> _command.Parser:
    """Return the command line."""
    result = _command.Parser(
        prog="python -m studies.all",
        description=(__doc__ or "").strip(),
        epilog="example:\n  python -m studies.all --quick --only step_convergence,overhead --out look",
    )
    result.add_argument(
        "--only",
        type=_command.listed(_command.name_of("study", names())),
        default=tuple(names()),
        metavar="NAME,…",
        help=f"studies to run (default: all): {', '.join(names())}",
    )
    result.add_output_options()
    result.add_sweep_options()
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    command = parser()
    options = command.parse_args(argv)
    if options.store is None:
        options.store = options.out / "results.sqlite"
    try:
        with Store(options.store):  # what is wrong with it, or with the scheduler, is said once
            pass
        if options.dry_run:
            for line in prices(options):
                say(line)
            return 0
        if options.scheduler is not None:
            Cluster(options.scheduler).stop()
        status = run_all(options)
    except (ValueError, OSError) as problem:
        command.error(str(problem))
    except KeyboardInterrupt:
        return _run.INTERRUPTED
    say(f"\nWritten: {options.out / PAGE}")
    return status


if __name__ == "__main__":
    sys.exit(main())

"""All studies on one page: toy studies that succeed, fail and are interrupted, solved in this process."""

import dataclasses
import html
import re
import sqlite3
import sys
from argparse import Namespace
from concurrent.futures import Future
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "sweeps"))

import toy_study  # noqa: E402

from studies import __main__ as listing  # noqa: E402
from studies import _run, _sweep  # noqa: E402
from studies import all as every  # noqa: E402
from studies._study import Report  # noqa: E402

TOYS = ("toy_squares", "toy_cubes", "toy_roots")


class Here:
    """Cells solved at once in this process; an interrupt comes instead of the first."""

    def __init__(self, interrupted=False):
        self.interrupted = interrupted

    def slots(self):
        return 1

    def submit(self, task, *arguments):
        if self.interrupted:
            raise KeyboardInterrupt
        future = Future()
        future.set_result(task(*arguments))
        return future

    def restart(self):
        pass

    def stop(self):
        pass


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Three toy studies, by name, in place of the real ones; a test may change them."""

    def options(parser):
        toy_study.add_options(parser)
        parser.add_argument("--seed", type=int, default=5)
        parser.set_defaults(log=tmp_path / "log")

    known = {
        name: dataclasses.replace(
            toy_study.STUDY, name=name, described=f"Is {name} true.\n\nBy counting.", add_options=options
        )
        for name in TOYS
    }
    monkeypatch.setattr(every, "studies", lambda: [(name, f"Is {name} true.") for name in [*known, "all"]])
    monkeypatch.setattr(every, "load", lambda name: known[name])
    monkeypatch.setattr(_run, "_executor", lambda study, options: Here())
    return known


def run(tmp_path, *options):
    return every.main([f"--out={tmp_path}", *options])


def page(tmp_path, dated=True):
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text if dated else re.sub(r"<dt>date</dt><dd>.*?</dd>", "", text)


def section(tmp_path, name):
    return re.search(rf'<section id="{name}".*?</section>', page(tmp_path), re.DOTALL)[0]


def test_all_studies_are_run_on_one_store_and_stand_on_one_page(toys, tmp_path, capsys):
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "6 squares" in line] == [f"{name}: 6 squares." for name in TOYS]
    assert f"Written: {tmp_path / 'report.html'}" in out
    text = page(tmp_path)
    assert [match[1] for match in re.finditer(r'<section id="(\w+)"', text)] == list(TOYS)
    for name in TOYS:
        part = section(tmp_path, name)
        assert f"Is {name} true?" in part
        assert "<p>6 squares.</p>" in part
        assert "<td>25</td>" in part
        assert part.count("<svg") == 1
        assert "seed 5" in part
        assert _sweep.version(toys[name]) in part
        assert "6 cells · none failed · " in part
        assert f"<code>python -m studies.{name}</code>" in part
        assert f"{name}.csv, {name}.json, toy_study_squares.png" in part
        assert (tmp_path / f"{name}.csv").exists()
    for fact in ("Python 3.", "numpy ", "scipy ", "numba ", "matplotlib ", "srkverify ", " UTC", "processors"):
        assert fact in text
    with sqlite3.connect(tmp_path / "results.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM cells GROUP BY study").fetchall() == [(6,)] * 3
    connection.close()


def test_the_same_rows_give_the_same_page(toys, tmp_path):
    pages = []
    for _ in range(3):
        assert run(tmp_path, "--only=toy_cubes,toy_roots") == 0
        pages.append(page(tmp_path, dated=False))
    assert "all solved by former runs" in pages[1]
    assert pages[1] == pages[2]
    assert pages[0] == pages[1].replace("all solved by former runs · ", "")
    assert len((tmp_path / "log").read_text().splitlines()) == 6 * 2  # nothing is solved twice


def test_what_fails_is_said_and_stops_nothing_else(toys, tmp_path, capsys):
    def broken(tables, options):
        raise ZeroDivisionError("no <mean> of nothing")

    fates = dataclasses.replace(toys["toy_squares"], cells=lambda o: toy_study.cells(Namespace(**vars(o) | FATES)))
    toys |= {"toy_squares": fates, "toy_cubes": dataclasses.replace(toys["toy_cubes"], report=broken)}
    assert run(tmp_path) == 1
    errors = capsys.readouterr().err
    assert "toy_squares: failed: toy_squares: " in errors
    assert "ValueError: number must be lucky; got 1" in errors
    assert "toy_cubes: ZeroDivisionError: no <mean> of nothing (test_all.py, line " in errors
    assert "Traceback" not in errors
    partial, failed, good = (section(tmp_path, name) for name in TOYS)
    assert '<span class="state bad">incomplete</span>' in partial
    assert "This study is incomplete" in partial
    assert "number must be lucky; got 1" in partial
    assert "6 cells · 1 failed" in partial
    assert "5 squares." in partial
    assert '<span class="state bad">failed</span>' in failed
    assert "no &lt;mean&gt; of nothing" in failed
    assert "6 squares." in good
    assert "state bad" not in good
    assert (tmp_path / "toy_cubes.csv").exists()
    # Once nothing fails, the page says so: the cell that failed is tried again.
    toys |= {name: dataclasses.replace(toys["toy_roots"], name=name) for name in TOYS}
    assert run(tmp_path) == 0
    assert "state bad" not in page(tmp_path)


FATES = {"fates": "1:raises"}


def test_a_study_whose_package_is_absent_is_left_out(toys, tmp_path, capsys):
    toys["toy_cubes"] = dataclasses.replace(toys["toy_cubes"], needs={"no_such_package": "cubes"})
    assert run(tmp_path, "--only=toy_cubes,toy_roots") == 0
    said = "toy_cubes needs no_such_package, which is not installed: pip install 'srkverify[cubes]'"
    assert said in capsys.readouterr().err
    assert "left out" in section(tmp_path, "toy_cubes")
    assert said in html.unescape(section(tmp_path, "toy_cubes"))
    assert "6 squares." in section(tmp_path, "toy_roots")


def test_a_study_that_cannot_be_imported_stops_nothing_else(toys, tmp_path, capsys, monkeypatch):
    def load(name):
        if name == "toy_cubes":
            raise ImportError("no such cube")
        return toys[name]

    monkeypatch.setattr(every, "load", load)
    assert run(tmp_path, "--only=toy_cubes,toy_roots") == 1
    assert "toy_cubes: ImportError: no such cube" in capsys.readouterr().err
    assert "no such cube" in section(tmp_path, "toy_cubes")
    assert "6 squares." in section(tmp_path, "toy_roots")
    assert run(tmp_path, "--dry-run") == 0
    assert "toy_cubes: ImportError: no such cube" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["sweep", "report"])
def test_an_interrupt_leaves_a_page_of_what_there_is(toys, tmp_path, monkeypatch, where):
    def interrupted(tables, options):
        raise KeyboardInterrupt

    if where == "sweep":
        monkeypatch.setattr(_run, "_executor", lambda study, options: Here(study.name == "toy_cubes"))
    else:
        toys["toy_cubes"] = dataclasses.replace(toys["toy_cubes"], report=interrupted)
    assert run(tmp_path) == 130
    first, second, third = (section(tmp_path, name) for name in TOYS)
    assert "6 squares." in first
    assert '<span class="state bad">interrupted</span>' in second
    assert '<span class="state">not run yet</span>' in third
    assert "2 of 3 studies" in page(tmp_path)
    assert not (tmp_path / "toy_roots.csv").exists()
    monkeypatch.setattr(_run, "_executor", lambda study, options: Here())
    toys["toy_cubes"] = dataclasses.replace(toys["toy_cubes"], report=toy_study.report)
    assert run(tmp_path) == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 18


def test_the_page_is_there_while_a_later_study_runs(toys, tmp_path):
    seen = {}

    def looking(tables, options):
        seen.update({name: section(tmp_path, name) for name in TOYS})
        return Report([], ["Seen."])

    toys["toy_cubes"] = dataclasses.replace(toys["toy_cubes"], report=looking)
    assert run(tmp_path) == 0
    assert "6 squares." in seen["toy_squares"]
    assert "not run yet" in seen["toy_cubes"]
    assert "not run yet" in seen["toy_roots"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".report")] == []


def test_options_reach_every_study(toys, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    elsewhere = tmp_path / "cells.sqlite"
    assert run(tmp_path, "--quick", "--parquet", "--only=toy_roots,toy_squares", f"--store={elsewhere}") == 0
    assert [match[1] for match in re.finditer(r'<section id="(\w+)"', page(tmp_path))] == ["toy_roots", "toy_squares"]
    assert "3 squares." in section(tmp_path, "toy_roots")
    assert (tmp_path / "toy_roots.parquet").exists()
    assert elsewhere.exists()
    assert not (tmp_path / "results.sqlite").exists()
    assert "python -m studies.all --quick --only toy_roots,toy_squares" in page(tmp_path)
    assert "python -m studies.toy_roots --quick" in page(tmp_path)
    assert "a quick run" in page(tmp_path)


def test_a_dry_run_says_what_each_costs_and_all(toys, tmp_path, capsys):
    assert run(tmp_path, "--dry-run", "--workers=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*TOYS, "all"]
    assert "6 cells, 0 stored, 6 to solve: about 0.06 s of processor time, 0.03 s on 2 processes" in lines[0]
    assert "18 cells, 0 stored, 18 to solve: about 0.18 s of processor time" in lines[-1]
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "log").exists()
    assert run(tmp_path, "--only=toy_cubes") == 0
    capsys.readouterr()
    assert run(tmp_path, "--dry-run") == 0
    assert "all: 18 cells, 6 stored, 12 to solve" in capsys.readouterr().out


def test_progress_is_a_line_a_study_on_a_terminal(toys, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(tmp_path, "--only=toy_cubes,toy_roots") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert lines == ["[1/2] toy_cubes …", "[2/2] toy_roots …"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert run(tmp_path, "--only=toy_cubes") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--only=toy_square", "study must be one of toy_squares, toy_cubes, toy_roots; got 'toy_square'"),
        ("--workers=0", "workers must be an integer >= 1"),
        ("--store={tmp_path}/text", "store must be a file that the studies have written, or new"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(toys, tmp_path, capsys, argument, message):
    (tmp_path / "text").write_text("not a database, but long enough to be looked at by whoever opens it\n" * 20)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, argument.format(tmp_path=tmp_path))
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_seeds_are_those_of_options_and_of_cells():
    @dataclasses.dataclass(frozen=True)
    class Cell:
        target_seed: int

    said = every.seeds({"seed": 3, "steps": 4}, [Cell(1), Cell(2), Cell(1)])
    assert said.startswith("seed 3; target seed 1, 2; ")


def test_the_list_has_the_studies_in_their_order_and_all_last(capsys):
    assert listing.main([]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[-1] == "all"
    assert every.names() == names[:-1]
    assert [name for name in listing.ORDER if name in names] == names[: len(set(names) & set(listing.ORDER))]


def test_help_needs_no_study(capsys):
    with pytest.raises(SystemExit) as ended:
        every.main(["--help"])
    assert ended.value.code == 0
    assert "report.html" in capsys.readouterr().out

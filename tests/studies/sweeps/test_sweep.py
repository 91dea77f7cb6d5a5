"""The sweep engine under what happens to long runs: kills, interrupts, full disks, a second run, a cluster."""

import contextlib
import csv
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import toy_study  # noqa: E402

from studies import _run, _sweep  # noqa: E402
from studies._store import Store, StoreFullError  # noqa: E402

PATIENCE = 60.0  # seconds that a loaded machine may need for what takes one


def command(out, *options, log=None):
    arguments = [f"--out={out}", f"--log={log or out / 'log'}", *options]
    return [sys.executable, "-m", "toy_study", *arguments]


def environment():
    root = HERE.parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(root)]), "OPENBLAS_NUM_THREADS": "1"}


def run(out, *options, **more):
    return subprocess.run(
        command(out, *options, **more), env=environment(), capture_output=True, text=True, timeout=2 * PATIENCE
    )


def begin(out, *options, **more):
    # A group of its own, as a terminal would give it; and SIGINT as a terminal's child has it.
    return subprocess.Popen(
        command(out, *options, **more),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def solved(log):
    """Return how often each number was begun, and by which processes."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(int(number) for number, _ in lines), {int(process) for _, process in lines}


def stored(path):
    """Return the numbers of the cells that are done, straight from the file."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        cells = connection.execute("SELECT parameters FROM cells WHERE rows IS NOT NULL").fetchall()
    connection.close()
    return sorted(json.loads(parameters)["number"] for (parameters,) in cells)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)


def table(out):
    with open(out / "toy_study.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_second_run_solves_nothing_again_and_writes_the_same_files(tmp_path):
    first = run(tmp_path, "--parquet")
    assert first.returncode == 0, first.stderr
    rows = table(tmp_path)
    assert [(int(row["number"]), int(row["square"])) for row in rows] == [(n, n * n) for n in range(6)]
    assert "Squares" in first.stdout
    assert "6 squares." in first.stdout
    assert (tmp_path / "toy_study_squares.pdf").exists()
    bytes_before = (tmp_path / "toy_study.csv").read_bytes()
    (tmp_path / "toy_study.csv").unlink()
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "toy_study.csv").read_bytes() == bytes_before
    assert set(solved(tmp_path / "log")[0].values()) == {1}
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = parquet.read_table(tmp_path / "toy_study.parquet").to_pydict()
    assert columns == {
        "number": list(range(6)),
        "square": [n * n for n in range(6)],
        "tenth": [n / 10 for n in range(6)],
        "text": [""] * 6,
    }


def test_a_killed_run_goes_on_where_it_stopped_and_leaves_no_orphans(tmp_path):
    store, log = tmp_path / "results.sqlite", tmp_path / "log"
    process = begin(tmp_path, "--count=12", "--seconds=0.2")
    until(lambda: log.exists() and len(stored(store)) >= 3, "three cells to be stored")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    workers = solved(log)[1]
    until(lambda: not any(map(alive, workers)), "the workers of a killed run to end")
    before = stored(store)
    assert 3 <= len(before) < 12
    begun = solved(log)[0]
    again = run(tmp_path, "--count=12", "--seconds=0.2")
    assert again.returncode == 0, again.stderr
    assert stored(store) == list(range(12))
    after = solved(log)[0]
    assert all(after[number] == begun[number] for number in before)
    assert len(table(tmp_path)) == 12


def test_an_interrupt_keeps_what_is_done(tmp_path):
    store = tmp_path / "results.sqlite"
    process = begin(tmp_path, "--count=40", "--seconds=0.2")
    until(lambda: (tmp_path / "log").exists() and len(stored(store)) >= 2, "two cells to be stored")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "goes on from there" in errors
    assert "Traceback" not in errors
    done = stored(store)
    assert 2 <= len(done) < 40
    assert [int(row["number"]) for row in table(tmp_path)] == done


def test_a_killed_worker_costs_only_its_cell_and_the_cell_is_tried_again(tmp_path):
    store, log = tmp_path / "results.sqlite", tmp_path / "log"
    process = begin(tmp_path, "--count=16", "--seconds=0.2", "--workers=2")
    until(lambda: log.exists() and len(solved(log)[0]) >= 4, "four cells to begin")
    os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert stored(store) == list(range(16))
    assert sorted(solved(log)[0].values()) == [1] * 15 + [2]


def test_failures_are_recorded_with_their_reason_and_the_rest_goes_on(tmp_path):
    first = run(tmp_path, "--fates=1:raises,3:dies,4:dies once", "--workers=2")
    assert first.returncode == 1
    assert "failed: toy_study: " in first.stderr
    assert "ValueError: number must be lucky; got 1" in first.stderr
    assert "was killed, perhaps for want of memory" in first.stderr
    assert "Traceback" not in first.stderr
    assert stored(tmp_path / "results.sqlite") == [0, 2, 4, 5]
    assert [int(row["number"]) for row in table(tmp_path)] == [0, 2, 4, 5]
    with sqlite3.connect(tmp_path / "results.sqlite") as connection:
        messages = dict(connection.execute("SELECT parameters, message FROM cells WHERE rows IS NULL").fetchall())
    connection.close()
    assert {json.loads(parameters)["number"]: message.split(":")[0] for parameters, message in messages.items()} == {
        1: "ValueError",
        3: "the process that ran it was killed, perhaps for want of memory",
    }
    settings = json.loads((tmp_path / "toy_study.json").read_text())
    assert len(settings["sweep"]["failures"]) == 2
    before = solved(tmp_path / "log")[0]
    assert run(tmp_path, "--fates=1:raises,3:dies,4:dies once").returncode == 1
    after = solved(tmp_path / "log")[0]
    assert {number for number in after if after[number] > before[number]} == {1, 3}  # failed cells are tried again


def test_two_runs_on_one_file_share_the_work(tmp_path):
    log, store = tmp_path / "log", tmp_path / "shared.sqlite"
    places = [tmp_path / "a", tmp_path / "b"]
    options = ["--count=20", "--seconds=0.1", f"--store={store}", "--workers=1"]
    both = [begin(place, *options, log=log) for place in places]
    for process in both:
        _, errors = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, errors
    assert stored(store) == list(range(20))
    assert table(places[0]) == table(places[1])
    assert len(table(places[0])) == 20
    # Both begin with the same cell and then meet the other's; a run looks before it begins one.
    begun = solved(log)[0]
    assert max(begun.values()) <= 2


def test_a_terminal_sees_progress_with_rate_and_time_left_and_a_file_does_not(tmp_path):
    assert run(tmp_path / "quiet", "--count=2").stderr == ""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    process = subprocess.Popen(
        command(tmp_path, "--count=10", "--seconds=0.5", "--workers=1"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that a terminal has been closed
        while piece := os.read(reader, 4096):
            seen += piece
    os.close(reader)
    assert process.wait(PATIENCE) == 0
    assert re.search(r"toy_study +\d+%\|.*\| \d\d:\d\d<\d\d:\d\d, \d+/10 cells, [\d.]+/s", seen.decode())


def mounted(place, size):
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    return made.returncode == 0


def test_a_full_disk_ends_the_run_with_every_result_stored(tmp_path):
    place = tmp_path / "disk"
    if not mounted(place, "2m"):
        pytest.skip("needs the right to mount a small disk")
    try:
        log = tmp_path / "log"
        full = run(tmp_path / "out", "--count=60", "--size=40000", f"--store={place / 'results.sqlite'}", log=log)
        assert full.returncode == 1
        assert "stopped: " in full.stderr
        assert "Traceback" not in full.stderr
        done = stored(place / "results.sqlite")
        assert 0 < len(done) < 60
        begun, _ = solved(log)
        assert sorted(begun) == done  # nothing that was computed is lost
        assert len(table(tmp_path / "out")) == len(done)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        again = run(tmp_path / "out", "--count=60", "--size=40000", f"--store={place / 'results.sqlite'}", log=log)
        assert again.returncode == 0, again.stderr
        assert stored(place / "results.sqlite") == list(range(60))
        assert set(solved(log)[0].values()) == {1}
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_full_from_the_start_is_said_before_anything_is_computed(tmp_path):
    place = tmp_path / "disk"
    if not mounted(place, "512k"):
        pytest.skip("needs the right to mount a small disk")
    try:
        full = run(tmp_path / "out", f"--store={place / 'results.sqlite'}", log=tmp_path / "log")
        assert full.returncode == 1
        assert "No space left" in full.stderr
        assert not solved(tmp_path / "log")[0]
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_cluster_of_two_workers_solves_the_same_cells_and_survives_the_loss_of_one(tmp_path):
    distributed = pytest.importorskip("distributed")
    log = tmp_path / "log"
    script = tmp_path / "cluster.py"
    script.write_text(
        "import sys\nfrom distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:\n"
        "        print(cluster.scheduler_address, flush=True)\n        sys.stdin.read()\n"
    )
    assert distributed.__version__
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as cluster:
        address = cluster.stdout.readline().strip()
        options = ["--count=14", "--seconds=0.3", f"--scheduler={address}", "--fates=13:raises"]
        process = begin(tmp_path, *options)
        until(lambda: log.exists() and len(solved(log)[0]) >= 4, "four cells to begin")
        os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)
        _, errors = process.communicate(timeout=2 * PATIENCE)
        cluster.stdin.close()
    assert process.returncode == 1
    assert "number must be lucky; got 13" in errors
    assert stored(tmp_path / "results.sqlite") == list(range(13))
    begun, workers = solved(log)
    assert sum(begun.values()) <= 14 + 3  # the cell that ran, and what the lost worker held finished and unsent
    assert len(workers) >= 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--scheduler=nowhere", "--scheduler must be the address of a dask scheduler that answers"),
        ("--workers=0", "workers must be an integer >= 1"),
        ("--store={tmp_path}/text", "store must be a file that the studies have written, or new"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(tmp_path, argument, message):
    if "scheduler" in argument:
        pytest.importorskip("distributed")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at by whoever opens it\n" * 20)
    wrong = run(tmp_path, argument.format(tmp_path=tmp_path))
    assert wrong.returncode == 2
    assert message in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_a_dry_run_prices_what_is_left(tmp_path, capsys, monkeypatch):
    arguments = [f"--out={tmp_path}", f"--log={tmp_path / 'log'}", "--seconds=3", "--workers=2"]
    assert _run.run_command(toy_study.STUDY, [*arguments, "--dry-run"]) == 0
    assert "6 cells, 0 stored, 6 to solve: about 18 s of processor time, 9 s on 2 processes" in capsys.readouterr().out
    assert not (tmp_path / "log").exists()
    # What the stored cells took corrects the study's own estimate.
    grid = toy_study.cells(_run.parsed(toy_study.STUDY, _run.parser(toy_study.STUDY).parse_args(arguments)))
    with Store(tmp_path / "results.sqlite") as store:
        for job in _sweep.jobs(toy_study.STUDY, grid)[:2]:
            store.put(_sweep.Entry(job.key, "toy_study", job.parameters, "", [], None, job.cost, 2.0 * job.cost))
    assert _run.run_command(toy_study.STUDY, [*arguments, "--dry-run"]) == 0
    assert "6 cells, 2 stored, 4 to solve: about 24 s" in capsys.readouterr().out


class Here:
    """Cells solved at once, in this process; ``broken`` of them lose their process."""

    def __init__(self, broken=()):
        self.order, self.broken, self.most = [], list(broken), 2

    def slots(self):
        return self.most

    def submit(self, task, module, code, parameters):
        future = Future()
        self.order.append(parameters["number"])
        if parameters["number"] in self.broken:
            self.broken.remove(parameters["number"])
            future.set_exception(BrokenExecutor("lost"))
        else:
            future.set_result(task(module, code, parameters))
        return future

    def stop(self):
        pass


def grid(tmp_path, seconds=(), **more):
    return [
        toy_study.Cell(number, str(tmp_path / "log"), second, **more)
        for number, second in enumerate(seconds or [0.0] * 5)
    ]


def test_dear_cells_come_first_and_rows_keep_the_order_of_the_grid(tmp_path):
    here = Here()
    with Store(tmp_path / "store") as store:
        outcome = _sweep.sweep(toy_study.STUDY, grid(tmp_path, (0.01, 0.03, 0.02)), store, here)
    assert here.order == [1, 2, 0]
    assert [row["number"] for row in outcome.rows] == [0, 1, 2]
    assert outcome.complete
    assert (outcome.cells, outcome.stored) == (3, 0)


def test_a_cell_whose_process_dies_has_a_second_chance_and_no_third(tmp_path):
    here = Here(broken=[1, 3, 3])
    with Store(tmp_path / "store") as store:
        outcome = _sweep.sweep(toy_study.STUDY, grid(tmp_path), store, here)
    assert here.order == [0, 1, 2, 3, 4, 1, 3]
    assert [row["number"] for row in outcome.rows] == [0, 1, 2, 4]
    assert len(outcome.failures) == 1
    assert "number 3" in outcome.failures[0]


def test_a_result_belongs_to_its_parameters_and_to_the_code(tmp_path, monkeypatch):
    with Store(tmp_path / "store") as store:
        _sweep.sweep(toy_study.STUDY, grid(tmp_path), store, Here())
        more = Here()
        _sweep.sweep(toy_study.STUDY, [*grid(tmp_path), toy_study.Cell(9, str(tmp_path / "log"))], store, more)
        assert more.order == [9]
        monkeypatch.setattr(_sweep, "version", lambda study: "another")
        changed = Here()
        _sweep.sweep(toy_study.STUDY, grid(tmp_path), store, changed)
        assert sorted(changed.order) == list(range(5))


def test_a_worker_with_other_code_is_refused(tmp_path):
    answer = _sweep.solve("toy_study", "0123456789abcdef", {"number": 1, "log": str(tmp_path / "log")})
    assert answer.rows is None
    assert "another version of the code" in answer.message


def test_rows_that_are_not_plain_values_are_a_failure_not_a_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_study, "STUDY", toy_study.Study(**{**vars(toy_study.STUDY), "solve": complex_rows}))
    with Store(tmp_path / "store") as store:
        outcome = _sweep.sweep(toy_study.STUDY, grid(tmp_path, (0.0,)), store, Here())
    assert "TypeError" in outcome.failures[0]


def complex_rows(cell):
    return [{"number": 1j}]


def test_a_full_store_keeps_what_is_handed_in_and_then_says_so(tmp_path, monkeypatch):
    def full(store, entry, written=Store._write):
        if store._reserve is not None and entry.cost > 0.02:
            raise sqlite3.OperationalError("database or disk is full")
        written(store, entry)

    monkeypatch.setattr(Store, "_write", full)
    with Store(tmp_path / "store") as store:
        outcome = _sweep.sweep(toy_study.STUDY, grid(tmp_path, (0.0, 0.02, 0.0)), store, Here())
    assert "full" in outcome.stopped
    # The dear cell met the full disk; it and the one beside it were stored, the third was not begun.
    assert [row["number"] for row in outcome.rows] == [0, 1]
    monkeypatch.setattr(Store, "reserve", no_space)
    with Store(tmp_path / "other") as store:
        assert "No space" in _sweep.sweep(toy_study.STUDY, grid(tmp_path), store, Here()).stopped


def no_space(store):
    raise StoreFullError("No space left")

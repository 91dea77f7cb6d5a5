import os
import shutil
import sqlite3
import threading

import pytest

from studies._store import VERSION, Entry, Store


def entry(key, rows=(), message=None, seconds=1.0):
    return Entry(str(key), "toy", "{}", "code", None if message else list(rows), message, 0.5, seconds)


def test_numbers_come_back_to_the_last_bit(tmp_path):
    row = {"a": 0.1 + 0.2, "b": float("inf"), "c": 5e-324, "d": None, "e": True, "f": "δ", "g": 2**60}
    with Store(tmp_path / "store") as store:
        store.put(entry("k", [row]))
        assert store.entries(["k", "absent"])["k"].rows == [row]
        assert "absent" not in store.entries(["k", "absent"])


def test_what_is_done_is_never_overwritten_and_what_failed_is(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put(entry("k", message="ValueError: no"))
        assert store.entries(["k"])["k"].rows is None
        store.put(entry("k", [{"x": 1}]))
        store.put(entry("k", [{"x": 2}]))
        store.put(entry("k", message="ValueError: no"))
        assert store.entries(["k"])["k"].rows == [{"x": 1}]
        assert store.entries(["k"])["k"].message is None


def test_pace_is_what_cells_took_over_what_was_foreseen(tmp_path):
    with Store(tmp_path / "store") as store:
        assert store.pace("toy") == 1.0
        store.put(entry("a", seconds=1.0))
        store.put(entry("b", seconds=2.0))
        store.put(entry("c", message="ValueError: no", seconds=9.0))
        assert store.pace("toy") == 3.0
        assert store.pace("another") == 1.0


def test_thousands_of_keys_are_looked_up_at_once(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put(entry(1999))
        assert list(store.entries(map(str, range(2500)))) == ["1999"]


def test_a_power_cut_leaves_a_store_with_the_first_results(tmp_path):
    """The log is cut at any byte, as a disk that lost power may leave it: what was written before is there, no more."""
    path = tmp_path / "store"
    with Store(path) as store:
        for key in range(30):
            store.put(entry(key, [{"x": key}]))
        whole = os.path.getsize(f"{path}-wal")
        copies = []
        for number, size in enumerate([0, 17, whole // 3, whole // 2 + 5, whole - 4097, whole - 1, whole]):
            copy = tmp_path / f"copy{number}"
            shutil.copy(path, copy)
            with open(f"{path}-wal", "rb") as log:
                (tmp_path / f"copy{number}-wal").write_bytes(log.read(size))
            copies.append(copy)
    counts = []
    for copy in copies:
        with Store(copy) as store:
            found = store.entries(map(str, range(30)))
            assert sorted(map(int, found)) == list(range(len(found)))
            assert all(found[key].rows == [{"x": int(key)}] for key in found)
            counts.append(len(found))
        with sqlite3.connect(copy) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    assert counts == sorted(counts)
    assert counts[0] < counts[3] < counts[-1] == 30


def test_writers_at_the_same_time_wait_for_each_other(tmp_path):
    problems = []

    def write(offset):
        try:
            with Store(tmp_path / "store") as store:
                for key in range(offset, offset + 40):
                    store.put(entry(key, [{"x": key}]))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=write, args=(offset,)) for offset in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    with Store(tmp_path / "store") as store:
        assert len(store.entries(map(str, range(80)))) == 80


def test_a_store_that_another_run_is_about_to_make_is_waited_for(tmp_path):
    """SQLite does not wait when two runs switch a new file to its write-ahead log: it fails at once."""
    other = sqlite3.connect(tmp_path / "store", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    release.start()
    with Store(tmp_path / "store") as store:
        release.join()
        store.put(entry("k", [{"x": 1}]))
    other.close()


def test_files_of_others_and_of_the_future_are_refused_untouched(tmp_path):
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(ValueError, match="store must be a file that the studies have written"):
        Store(tmp_path / "other")
    with Store(tmp_path / "later"):
        pass
    with sqlite3.connect(tmp_path / "later") as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(ValueError, match=f"version <= {VERSION}; got .*later"):
        Store(tmp_path / "later")
    with pytest.raises(OSError, match="unable to open"):
        Store(tmp_path / "nowhere" / "store")

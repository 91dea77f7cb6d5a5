import csv
import json
import re
import time
from argparse import Namespace
from functools import partial
from math import isnan

import numpy as np
import pytest
from scipy.stats import binom

import srkverify as sv
from figures import _panels
from figures import overhead as figure
from srkverify.engines import cpu_memory
from studies import _overhead_report, _turns, overhead
from studies._overhead_report import AGAIN, REFERENCE, fits, whole
from studies._turns import in_turns, median

TINY = ["--dimensions=4", "--components=1,8,64", "--rounds=7", "--milliseconds=0.3"]
FILES = {"overhead.csv", "overhead_parts.csv", "overhead_fits.csv", "overhead.json"} | {
    f"overhead_{what}_isotropic.{kind}" for what in ("ratio", "parts") for kind in ("png", "pdf")
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run."""
    out = tmp_path_factory.mktemp("overhead")
    assert overhead.main([*TINY, f"--out={out}"]) == 0
    return out


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def law(n=1.2, s=0.08, extra=0.9, noise=0.0, components=overhead.COMPONENTS, dimension=16):
    """Rows of DDPM, DDPM again, SRK and a scheme of two evaluations, with relative errors ``noise``."""
    generator = np.random.default_rng(3)
    rows = []
    for c in components:
        step = n + s * whole(c)
        truth = {REFERENCE: step, AGAIN: step, "srk": step + extra, "srk_third_point": 2.0 * step + extra}
        found = {name: value * (1.0 + noise * generator.standard_normal()) for name, value in truth.items()}
        for name, value in found.items():
            numbers = {"ns": value, "ratio": value / found[REFERENCE], "extra_ns": value - found[REFERENCE]}
            spread = {"ns": 2.0 * noise * value, "ratio": 3.0 * noise, "extra_ns": 3.0 * noise * value}
            rows.append(
                {
                    "machine": "abacus",
                    "covariance": "isotropic",
                    "dimension": dimension,
                    "components": c,
                    "name": name,
                    "evaluations": 1 + (name == "srk_third_point"),
                    **numbers,
                    **{f"{key}_low": numbers[key] - half for key, half in spread.items()},
                    **{f"{key}_high": numbers[key] + half for key, half in spread.items()},
                }
            )
    return rows


def shares(rows):
    """Parts that suit the rows of ``law``."""
    label = {"machine": "abacus", "covariance": "isotropic"}
    sizes = {"noise": 0.9, "update": 0.3, "score": 5.0, "second noise": 0.85, "second update": 0.05}
    return [
        {**label, "dimension": row["dimension"], "components": row["components"], "name": name}
        | {"ns": value, "ns_low": 0.9 * value, "ns_high": 1.1 * value}
        for row in rows
        if row["name"] == REFERENCE
        for name, value in sizes.items()
    ]


def fitted(rows, name):
    (found,) = (row for row in fits(rows) if row["name"] == name)
    return found


@pytest.mark.parametrize("n", [7, 8, 9, 15, 25, 60])
def test_the_interval_of_a_median_has_its_confidence_and_is_the_narrowest(n):
    _, low, high = median(np.arange(float(n)))
    outside = round(low)  # order statistics on each side of the interval
    assert high == n - 1 - outside
    assert 1.0 - 2.0 * binom.cdf(outside, n, 0.5) >= 0.95
    assert 1.0 - 2.0 * binom.cdf(outside + 1, n, 0.5) < 0.95


def test_the_interval_of_a_median_covers_it_for_a_skewed_law():
    draws = np.random.default_rng(0).exponential(size=(4000, 15))
    found = np.array([median(row) for row in draws])
    inside = ((found[:, 1] <= np.log(2.0)) & (found[:, 2] >= np.log(2.0))).mean()
    # The exact coverage is 0.9648; four standard errors of 4000 draws have a false alarm in 16,000.
    assert abs(inside - 0.9648) < 4.0 * np.sqrt(0.9648 * 0.0352 / 4000)


def test_competitors_run_once_a_round_anew_and_making_them_is_not_counted(monkeypatch):
    now, order = [0.0], []
    lengths = {"a": 1.0, "b": 2.5, "c": 4.0}

    def make(name):
        now[0] += 100.0  # not counted
        order.append(name)

        def run():
            now[0] += lengths[name]
            yield
            raise AssertionError("one step of each iterator is enough")

        return run()

    monkeypatch.setattr(_turns.time, "process_time", lambda: now[0])
    spent = in_turns({name: partial(make, name) for name in lengths}, 20, seed=1)
    for name, seconds in lengths.items():
        np.testing.assert_allclose(spent[name], np.full(20, seconds), rtol=1e-9)
    rounds = [tuple(order[i : i + 3]) for i in range(3, len(order), 3)]
    assert len(rounds) == 20
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 3  # the order is left to chance


def test_parts_add_up_to_what_they_are_parts_of():
    generator = np.random.default_rng(2)
    names = [REFERENCE, "srk", *((name, "bare") for name in ("moved", "drawn", "noisy", "twice"))]
    spent = {name: generator.uniform(1.0, 2.0, 9) for name in names}
    found = overhead.parts(spent)
    np.testing.assert_allclose(found["noise"] + found["update"] + found["score"], spent[REFERENCE])
    np.testing.assert_allclose(found["second noise"] + found["second update"], spent["srk"] - spent[REFERENCE])
    del spent["srk"]
    assert "second update" not in overhead.parts(spent)


def test_tableaus_without_a_score_differ_in_one_thing_each():
    ddpm = sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 8))
    tableaus = overhead.without_score(ddpm)
    assert list(tableaus) == ["moved", "drawn", "noisy", "twice"]
    assert all(tableau.nfe == 0 for tableau in tableaus.values())
    drawn = [cpu_memory.make_table(tableau, np.float64, None).noises for tableau in tableaus.values()]
    assert drawn == [0, 1, 1, 2]
    target = sv.GaussianMixture([1.0], [[1.0, 2.0, 3.0]], 0.25)
    moved, unused, noisy, twice = (
        sv.sample(target, tableau, 500, start="normal", return_path=True, progress=False)
        for tableau in tableaus.values()
    )
    np.testing.assert_array_equal(unused, moved)
    np.testing.assert_array_equal(twice, noisy)
    np.testing.assert_allclose(moved[-1], np.prod(ddpm.state) * moved[0], rtol=1e-12)
    # The noise of a step has the variance that the tableau says: 1500 squares, four standard errors.
    added = (noisy[1:] - ddpm.state[:, None, None] * noisy[:-1]) / ddpm.noise[:, :1, None]
    assert abs((added**2).mean(axis=(1, 2)) - 1.0).max() < 4.5 * np.sqrt(2.0 / 1500)


def test_stage_noise_that_is_dropped_is_still_drawn():
    """Why the second normal is measured by its column, and not by ``without_stage_noise``."""
    srk = sv.schemes.srk(sv.schedules.exponential(6.0, 0.01, 8))
    assert cpu_memory.make_table(srk.without_stage_noise(), np.float64, None).noises == 2


def test_a_run_has_all_rows_and_files(tiny):
    assert {path.name for path in tiny.iterdir() if "sqlite" not in path.name} == FILES
    rows, parts = read(tiny / "overhead.csv"), read(tiny / "overhead_parts.csv")
    assert len(rows) == 3 * (2 + len(overhead.SCHEME_NAMES))
    assert len(parts) == 3 * 5
    for row in rows:
        assert float(row["ns_low"]) <= float(row["ns"]) <= float(row["ns_high"])
        assert row["machine"] == _turns.machine()
        assert int(row["particles"]) % 64 == 0
        if row["name"] == REFERENCE:
            assert (float(row["ratio"]), float(row["extra_ns"])) == (1.0, 0.0)
    assert json.loads((tiny / "overhead.json").read_text(encoding="utf-8"))["options"]["rounds"] == 7


def test_times_are_those_of_a_plain_run(tiny):
    """Units are right, within a factor of three, for machines are not quiet."""
    row = next(r for r in read(tiny / "overhead.csv") if (r["name"], r["components"]) == (REFERENCE, "64"))
    target = overhead.mixture("isotropic", 64, 4, 0)
    tableau = sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 200))
    sv.sample(target, tableau, 2048, start="normal", threads=1, progress=False)
    spent = []
    for _ in range(5):
        begin = time.process_time()
        sv.sample(target, tableau, 2048, start="normal", threads=1, progress=False)
        spent.append(time.process_time() - begin)
    assert 1.0 / 3.0 < float(row["ns"]) / (1e9 * min(spent) / (2048 * 4 * 200)) < 3.0


def test_two_evaluations_take_longer_than_one_where_the_score_is_dear(tiny):
    """About twice as long; how long exactly is the study's business, on a machine that is left alone."""
    rows = {(r["name"], r["components"]): float(r["ratio"]) for r in read(tiny / "overhead.csv")}
    assert rows["srk_third_point", "64"] > max(1.0, rows["srk", "64"])


def test_the_law_is_found():
    rows = law(noise=0.005)
    found = fitted(rows, "srk")
    for key, truth in (("fixed_ns", 2.1), ("component_ns", 0.08), ("extra_ns", 0.9)):
        assert found[f"{key}_low"] < truth < found[f"{key}_high"], key
        assert found[f"{key}_high"] - found[f"{key}_low"] < 0.1 * truth
    for level in (10, 5, 1):
        truth = (100.0 * 0.9 / level - 1.2) / 0.08
        assert found[f"below_{level}_low"] < truth < found[f"below_{level}_high"]
        assert found[f"below_{level}_high"] - found[f"below_{level}_low"] < 0.15 * truth
    assert 0.002 < found["scatter"] < 0.01
    same = fitted(rows, AGAIN)
    assert same["extra_ns_low"] < 0.0 < same["extra_ns_high"]
    assert same["below_10"] < 1.0
    double = fitted(rows, "srk_third_point")
    assert double["component_ns"] == pytest.approx(0.16, rel=0.02)
    assert isnan(double["extra_ns"])
    assert double["seen_10"] is None


def test_intervals_of_the_law_have_their_coverage():
    generator = np.random.default_rng(8)
    truth = (100.0 * 0.9 / 5 - 1.2) / 0.08
    inside, rows = 0, law()
    plain = [(row, row["ns"]) for row in rows]
    for _ in range(200):
        for row, ns in plain:
            row["ns"] = ns * (1.0 + 0.01 * generator.standard_normal())
        base = {row["components"]: row["ns"] for row in rows if row["name"] == REFERENCE}
        for row in rows:
            row["ratio"] = row["ns"] / base[row["components"]]
        found = fitted(rows, "srk")
        inside += found["below_5_low"] < truth < found["below_5_high"]
    # The base of ratios is that of the line, too, and larger overheads are less sure: 90% to 100% are accepted.
    assert inside / 200 > 0.90


def test_a_level_is_seen_only_where_all_that_follow_are_below_it():
    rows = law(noise=0.0)
    seen = {level: fitted(rows, "srk")[f"seen_{level}"] for level in (10, 5, 1)}
    assert seen == {10: 128, 5: 256, 1: None}  # 0.9/(1.2 + 0.08 · 128) = 0.079, and 0.011 at 1024
    worst = next(row for row in rows if (row["name"], row["components"]) == ("srk", 512))
    worst["ratio_high"] = 1.2
    assert fitted(rows, "srk")["seen_10"] == 1024


def test_fold_and_report_cope_with_what_is_missing():
    for rows in (law(noise=0.01), law(components=(8,)), law()[:1], [r for r in law() if r["name"] == "srk"], []):
        solved = [{**row, "kind": "scheme"} for row in rows] + [{**row, "kind": "part"} for row in shares(rows)]
        tables = overhead.fold(solved, Namespace())
        said = _overhead_report.report(tables, Namespace())
        assert said.verdict
        assert all(len(line) == len(table.header) for table in said.tables for line in table.rows)


def test_the_verdict_says_where_the_overhead_vanishes():
    rows = law(noise=0.003)
    tables = {"": rows, "_parts": shares(rows), "_fits": fits(rows)}
    text = " ".join(_overhead_report.report(tables, Namespace()).verdict)
    assert re.search(
        r"A step of SRK takes as long as one of DDPM times: d = 16: 1\.\d+ \[1\.\d+, 1\.\d+\] at c = 1", text
    )
    assert "one more normal vector and its update, not a score evaluation" in text
    places = re.search(r"below 10%, 5%, 1%, by the law, from d = 16: c = (\d+) \[.*?\], (\d+) \[.*?\], (\d+) \[", text)
    assert [int(place) for place in places.groups()] == pytest.approx([97.5, 210.0, 1110.0], rel=0.05)
    assert "Noise floor: DDPM over itself" in text
    assert "In units of score SRK's extra cost is 11 (d = 16) components" in text
    assert "22/N: 0.002% for N = 10^6" in text  # 2 · 0.9/0.08


def test_figures_are_the_same_from_rows_and_from_csv(tiny, tmp_path):
    tables = _panels.read_tables(tiny, "overhead")
    drawn = figure.draw(tables)
    assert set(drawn) == {"overhead_ratio_isotropic", "overhead_parts_isotropic"}
    ratio = drawn["overhead_ratio_isotropic"]
    assert [axes.get_xlabel() for axes in ratio.axes] == ["", "components c"]
    assert ratio.axes[1].get_yscale() == "log"
    labels = [text.get_text() for text in ratio.legends[0].get_texts()]
    assert labels[:2] == ["SRK", "SRK, martingale weights"]
    before = {path.name: path.read_bytes() for path in tiny.glob("*.p*")}
    assert figure.main([str(tiny)]) == 0
    assert {path.name: path.read_bytes() for path in tiny.glob("*.p*")} == before


def test_a_figure_needs_a_time():
    with pytest.raises(ValueError, match="rows must hold at least one time; got none"):
        figure.draw({"": [], "_parts": [], "_fits": []})
    rows = law(components=(8,))
    figure.draw({"": rows, "_parts": shares(rows), "_fits": fits(rows)})


def test_a_time_belongs_to_its_machine():
    (cell,) = overhead.cells(overhead_options(["--dimensions=4", "--components=8"]))
    assert cell.machine == _turns.machine()
    with pytest.raises(ValueError, match="machine must be that of the cell, 'abacus'; got"):
        overhead.solve(overhead.Cell("isotropic", 4, 8, (), 7, 1.0, 0, "abacus"))


def overhead_options(arguments):
    from studies._run import parsed, parser

    return parsed(overhead.STUDY, parser(overhead.STUDY).parse_args(arguments))


def test_cells_cost_what_their_runs_last(tmp_path):
    full = overhead.cells(overhead_options([f"--out={tmp_path}"]))
    assert len(full) == 33
    assert 40.0 < sum(cell.cost for cell in full) < 120.0
    quick = overhead.cells(overhead_options([f"--out={tmp_path}", "--quick"]))
    assert sum(cell.cost for cell in quick) < 12.0
    assert max(cell.cost for cell in full) < 30.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--covariances=full"], "argument --covariances: covariance must be one of .*; got 'full'"),
        (["--schemes=ddpm"], "argument --schemes: scheme must be one of .*; got 'ddpm'"),
        (["--components=0"], "argument --components: components must be an integer >= 1"),
        (["--rounds=6"], "argument --rounds: rounds must be an integer >= 7"),
        (["--milliseconds=0"], "argument --milliseconds: milliseconds must be a finite number .*> 0"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        overhead.main([f"--out={tmp_path}", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error

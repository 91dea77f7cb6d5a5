import contextlib
import csv
import io
from math import isnan, pi, sqrt

import pytest

import srkverify as sv
from figures import _panels
from figures import tv_distance as figure
from srkverify.targets.families import FAMILIES
from studies import _tv_distance_report as words
from studies import tv_distance as study
from studies._curves import crossing
from studies._run import parsed, parser

TINY = [
    "--families=product_mixture,gaussian_decaying",
    "--schemes=ddpm,srk",
    "--dimensions=1,10,100",
    "--steps=16,32,64,128",
]


def law(a, p, *, constant=1.0, ratio=0.7):
    """Rows of TV = C d^a K^−p, cut at 1, of which Pinsker's bound is 1/ratio times."""
    rows = []
    for d in study.DIMENSIONS:
        for k in study.STEPS:
            tv = min(1.0, constant * d**a * k**-p)
            label = {"family": "rough", "scheme": "srk", "dimension": d, "steps": k, "nfe": k}
            pinsker = tv / ratio
            numbers = {"kl": 2.0 * pinsker**2, "kl_error": 0.0, "tv": tv, "tv_error": 0.0, "pinsker": pinsker}
            rows.append({**label, **numbers, "ratio": ratio, "note": ""})
    return rows


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("tv")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return out, printed.getvalue()


def test_exponents_of_a_power_law_are_found():
    fit = study.summary("rough", "srk", law(0.5, 1.0))
    for name, expected in {"p_first": 1.0, "p_last": 1.0, "a": 0.5, "cost_d": 0.5, "cost_eps": 1.0}.items():
        assert fit[name] == pytest.approx(expected, abs=1e-9), name
        assert fit[f"{name}_low"] <= expected + 1e-9
        assert fit[f"{name}_high"] >= expected - 1e-9
    assert (fit["ratio_low"], fit["ratio_high"]) == (0.7, 0.7)
    assert (fit["theorem_d"], fit["theorem_eps"]) == (1.5, 1.0)
    steep = study.summary("rough", "srk", law(0.25, 2.0))
    assert steep["p_first"] == pytest.approx(2.0)
    assert steep["cost_d"] == pytest.approx(0.125)
    assert steep["cost_eps"] == pytest.approx(0.5)


def test_saturated_and_unresolved_values_enter_no_fit():
    rows = law(0.5, 1.0)
    assert all(row["tv"] <= study.SMALL for row in study.small(rows))
    assert study.summary("rough", "srk", rows)["last_dimension"] < study.DIMENSIONS[-1]
    lost = [{**row, "tv_error": row["tv"]} for row in rows]
    fit = study.summary("rough", "srk", lost)
    assert isnan(fit["a"])
    assert fit["first_dimension"] is None
    noted = [{**row, "note": "steps: unstable"} for row in rows]
    assert not study.small(noted)


def test_a_crossing_is_where_the_curve_stays_below():
    curve = [(k, 10.0 / k) for k in (8, 16, 32, 64)]
    assert crossing(curve, 0.25) == pytest.approx(40.0)
    assert crossing(curve, 0.1) is None
    assert crossing(curve, 2.0) == 8.0
    assert crossing([(8, 0.1), (16, 0.5), (32, 0.1)], 0.2) == pytest.approx(16 * 2 ** (0.9162907 / 1.6094379), rel=1e-6)
    assert crossing([(8, float("inf")), (16, 0.1)], 0.2) == 16.0
    assert crossing([], 0.2) is None


@pytest.mark.parametrize("family", ["product_mixture", "low_rank", "rough", "two_point_growing"])
def test_rows_agree_with_the_front_door(family):
    """One density for all dimensions, against each target on its own."""
    rows = study.solve(study.Cell(family, "srk", 24, (1, 8, 50)))
    for row in rows:
        entry = FAMILIES[family]
        times = sv.schedules.exponential(entry.horizon(row["dimension"]), entry.early_stop(row["dimension"]), 24)
        target, table = entry.target(row["dimension"]), sv.schemes.srk(times)
        assert row["tv"] == pytest.approx(sv.tv(target, table).value, rel=2 * study._RELATIVE)
        assert row["kl"] == pytest.approx(sv.kl(target, table).value, rel=2 * study._RELATIVE)
        assert row["tv"] <= row["pinsker"]
        assert row["ratio"] == pytest.approx(row["tv"] / sqrt(0.5 * row["kl"]))


def test_an_unstable_sampler_has_a_note_and_no_ratio():
    (row,) = study.solve(study.Cell("rough", "exponential_euler", 3, (10_000,)))
    assert row["note"].startswith("steps:") or row["tv"] == pytest.approx(1.0)
    assert isnan(row["ratio"]) or row["ratio"] < 1.0


def test_a_run_writes_rows_fits_and_figures_and_answers_the_question(tiny):
    out, printed = tiny
    with open(out / "tv_distance.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3 * 4
    assert "srk: TV ~ K^−" in printed
    assert "the theorem with Pinsker: d^1.5/ε" in printed
    assert f"a normal log-ratio has {sqrt(2 / pi):.3f}" in printed
    figures = figure.draw(_panels.read_tables(out, "tv_distance"))
    assert list(figures) == ["tv_distance_steps", "tv_distance_ratio"]
    for drawn in figures.values():
        assert [axes.get_title(loc="left") for axes in drawn.axes] == ["product mixture", "gaussian decaying"]


def test_in_many_dimensions_the_ratio_is_that_of_a_normal_log_ratio(tiny):
    out, _ = tiny
    rows = _panels.read_tables(out, "tv_distance")[""]
    for row in rows:
        if row["family"] == "product_mixture" and row["dimension"] == 100 and row["tv"] < 0.15:
            assert row["ratio"] == pytest.approx(sqrt(2 / pi), abs=0.02)


def test_missing_cells_leave_a_report_and_no_figure():
    tables = study.fold([], None)
    assert words.report(tables, None).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one total variation"):
        figure.draw(tables)


def test_the_default_grid_is_affordable():
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=."]))
    assert sum(cell.cost for cell in study.cells(options)) < 250.0

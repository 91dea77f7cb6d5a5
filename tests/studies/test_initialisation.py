import contextlib
import csv
import io
from math import exp, log

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import initialisation as figure
from srkverify.targets.families import FAMILIES
from studies import _initialisation_report as words
from studies import initialisation as study
from studies._run import parsed, parser

TINY = [
    "--families=product_mixture,gaussian_decaying",
    "--schemes=ddpm,srk_martingale",
    "--dimensions=4,50",
    "--steps=12,24,48",
    "--horizons=2,4,5,6",
    "--workers=1",
]


def start_row(horizon, rate, constant=0.3):
    value = constant * exp(-rate * horizon)
    label = {"family": "two_point", "dimension": 4, "horizon": horizon, "bound": 4 * exp(-2 * horizon)}
    return {**label, "kl_start": value, "kl_start_error": 0.0, "kl_output": value**2, "kl_output_error": 0.0}


def optimum(steps, horizon, at_edge=False):
    label = {"family": "two_point", "dimension": 4, "scheme": "srk", "steps": steps, "at_edge": at_edge}
    return {**label, "horizon": horizon, "kl": 1e-3, "kl_exact_start": 9e-4, "kl_usual": 4e-3}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("start")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


def test_rates_and_growth_of_known_laws_are_found():
    start, output = study.rates([start_row(time, 4.0) for time in study.HORIZONS])
    assert (start["rate"], output["rate"]) == (pytest.approx(4.0), pytest.approx(8.0))
    assert start["constant"] == pytest.approx(0.3)
    assert start["low"] <= 4.0 + 1e-9
    assert start["high"] >= 4.0 - 1e-9
    (fit,) = study.growth([optimum(k, 0.7 + 0.5 * log(k)) for k in (16, 32, 64)])
    assert fit["slope"] == pytest.approx(0.5)


def test_horizons_at_the_edge_of_the_search_enter_no_fit():
    (fit,) = study.growth([optimum(8, 0.4, at_edge=True), *(optimum(k, 0.5 * log(k)) for k in (16, 32, 64))])
    assert (fit["slope"], fit["points"]) == (pytest.approx(0.5), 3)
    (none,) = study.growth([optimum(8, 0.4, at_edge=True), optimum(16, 1.0)])
    assert np.isnan(none["slope"])


def test_the_start_of_a_gaussian_is_the_closed_form():
    (row,) = study.solve(study.Cell("gaussian_decaying", 6, 0.01, 2.0, None, None))
    x = exp(-4.0) * (np.arange(1.0, 7.0) ** -2 - 1.0)
    assert row["kl_start"] == pytest.approx(0.5 * float((x - np.log1p(x)).sum()), rel=1e-10)
    assert row["bound"] == pytest.approx(6.0 * exp(-4.0))
    assert row["kl_output"] < row["kl_start"]  # data processing


def test_what_is_left_at_the_output_is_what_a_fine_sampler_reaches():
    """As K grows the KL of a sampler from N(0, I) tends to it: third order, K = 400."""
    (row,) = study.solve(study.Cell("product_mixture", 1, 0.01, 1.0, None, None))
    tableau = sv.schemes.srk_third_point(sv.schedules.exponential(1.0, 0.01, 400))
    found = sv.kl(FAMILIES["product_mixture"].target(1), tableau, start="normal")
    assert found.value == pytest.approx(row["kl_output"], rel=1e-3)


@pytest.mark.parametrize(("scheme", "steps"), [("ddpm", 24), ("srk_martingale", 32)])
def test_no_horizon_of_a_fine_scan_is_better(scheme, steps):
    (row,) = study.solve(study.Cell("product_mixture", 4, 0.01, None, scheme, steps))
    target = FAMILIES["product_mixture"].target(4)

    def kl(horizon, start="normal"):
        tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(horizon, 0.01, steps))
        return sv.kl(target, tableau, start=start).value

    assert row["kl"] == pytest.approx(kl(row["horizon"]), rel=5e-3)
    assert row["kl"] <= 1.005 * min(kl(float(horizon)) for horizon in np.geomspace(0.5, 8.0, 60))
    assert row["kl_exact_start"] == pytest.approx(kl(row["horizon"], "exact"), rel=5e-3)
    assert row["kl_usual"] == pytest.approx(kl(6.0), rel=5e-3)


def test_copies_share_their_best_horizon():
    one, many = (
        study.solve(study.Cell("product_mixture", d, 0.01, None, "ddpm", 16))[0]["horizon"] for d in (1, 1_000)
    )
    assert one == pytest.approx(many, abs=3 * study._CLOSE)


def test_a_run_has_all_tables_figures_and_an_answer(tiny):
    out, printed = tiny
    with open(out / "initialisation.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 2 * 3
    assert "product_mixture: KL(q_T ‖ N(0, I)) ~ e^−rT with r = 2.0" in printed
    assert "gaussian_decaying: KL(q_T ‖ N(0, I)) ~ e^−rT with r = 4.00; of it at the output: r = 8.00." in printed
    assert "ddpm: at K = 48 the best horizon is T* = " in printed
    figures = figure.draw(_panels.read_tables(out, "initialisation"))
    assert list(figures) == ["initialisation_rates", "initialisation_horizons"]
    for drawn in figures.values():
        assert [axes.get_title(loc="left") for axes in drawn.axes] == ["product mixture", "gaussian decaying"]


def test_missing_cells_leave_a_report_and_no_figure():
    tables = study.fold([], None)
    assert words.report(tables, None).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one horizon"):
        figure.draw(tables)
    only_starts = study.fold([{"kind": "start", **start_row(4.0, 2.0)}], None)
    assert len(words.report(only_starts, None).tables) == 1


def test_the_default_grid_is_affordable():
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=."]))
    assert sum(cell.cost for cell in study.cells(options)) < 250.0

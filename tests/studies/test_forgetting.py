import contextlib
import io
from argparse import Namespace
from dataclasses import fields
from math import exp, expm1, inf, isnan, log

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import forgetting as figure
from studies import _forgetting_report as words
from studies import forgetting as study
from studies._run import parsed, parser

TINY = ["--laws=overlapping,unimodal", "--schemes=ddpm,dpmpp_2m_sde", "--evaluations=16", "--points=4", "--workers=1"]


def run_of(values, scheme="srk"):
    """Rows of one run with these KL."""
    return [
        {
            "law": "unequal",
            "grid": "exponential",
            "scheme": scheme,
            "steps": len(values),
            "step": step,
            "time": 1.0 / step,
        }
        | {"noise": expm1(2.0 / step), "kl": value, "kl_error": 0.0, "note": ""}
        for step, value in enumerate(values, 1)
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("forgetting")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


def test_on_a_gaussian_the_variance_obeys_a_recursion():
    """N(1, ¼): one line for each of DDPM's steps, and the KL of two Gaussians with the same mean."""
    rows = study.solve(study.Cell("unimodal", "exponential", "ddpm", 12, 12, 5.0, 0.05))
    tableau = sv.schemes.ddpm(sv.schedules.exponential(5.0, 0.05, 12))
    truth = [exp(-2.0 * t) * 0.25 - expm1(-2.0 * t) for t in tableau.times]
    variance = truth[0]
    assert [row["step"] for row in rows] == list(range(1, 13))
    for k, row in enumerate(rows):
        variance = (tableau.state[k] - tableau.scores[k, 0] / truth[k]) ** 2 * variance + (tableau.noise[k] ** 2).sum()
        ratio = truth[k + 1] / variance
        assert row["kl"] == pytest.approx(0.5 * (ratio - 1.0 - log(ratio)), rel=1e-9)
        assert (row["time"], row["noise"]) == (tableau.times[k + 1], pytest.approx(expm1(2.0 * tableau.times[k + 1])))


def test_the_last_point_is_the_whole_run_and_points_are_spread_over_it():
    rows = study.solve(study.Cell("overlapping", "log_snr", "srk", 20, 5, 6.0, 0.01))
    assert [row["step"] for row in rows] == [1, 6, 10, 15, 20]
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    tableau = sv.schemes.srk(sv.schedules.warped(6.0, 0.01, 20, warp=(0.0,)))
    assert rows[-1]["kl"] == pytest.approx(sv.kl(target, tableau).value, rel=1e-2)
    assert rows[2]["kl"] == pytest.approx(sv.kl(target, tableau.first(10)).value, rel=1e-2)


def test_what_is_made_is_the_sum_of_all_rises():
    rows = run_of([1e-6, 4e-6, 2e-6, 3e-6, 1.5e-6])
    (run,) = study.fold(rows[::-1], Namespace())["_runs"]
    assert run["made"] == pytest.approx(5e-6)
    assert (run["peak"], run["peak_noise"]) == (4e-6, expm1(1.0))
    assert run["left"] == 1.5e-6
    assert run["kept"] == pytest.approx(0.3)
    assert words.report({"_runs": [run, {**run, "kept": 1.0}]}, Namespace()).verdict == [
        "srk: of the KL that steps make 30% to 100% are left at the end."
    ]


def test_what_is_made_is_at_most_the_kl_of_paths():
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    tableau = sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, 16))
    rows = study.solve(study.Cell("overlapping", "exponential", "ddpm", 16, 16, 6.0, 0.01))
    paths = sv.kl(target, tableau, method="path", particles=20_000, seed=0)
    made = study.account(rows)["made"]
    assert 0.01 * paths.path_kl < made < paths.path_kl + 5.0 * paths.path_error  # one-sided: 3e-7


@pytest.mark.parametrize(
    ("noise", "early", "late", "left"),
    [(1e3, "srk", "srk_martingale", 2.56e-4), (1.0, "srk_martingale", "srk", 2.3e-4)],
)
def test_what_srk_does_wrong_before_data_show_is_forgotten(noise, early, late, left):
    """Two numbers of the page; both samplers' own are on it too."""
    times = sv.schedules.exponential(6.0, 0.01, 64)
    first, then = (sv.schemes.SCHEMES[name](times) for name in (early, late))
    count = int((np.expm1(2.0 * times) > noise).sum())
    tables = {
        field.name: np.concatenate([getattr(first, field.name)[:count], getattr(then, field.name)[count:]])
        for field in fields(sv.Tableau)
        if field.name not in ("name", "times", "noise_paths")
    }
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    assert sv.kl(target, sv.Tableau("both", times, **tables)).value == pytest.approx(left, rel=0.02)


def test_a_run_that_blows_up_has_no_account():
    tables = study.fold(run_of([1e-3, inf, 1e-3]), Namespace())
    (run,) = tables["_runs"]
    assert (run["made"], run["peak"]) == (inf, inf)
    assert isnan(run["kept"])
    shown = words.report(tables, Namespace())
    assert shown.tables[0].rows[0][2:] == ["∞", "∞", "–", "0.001", "–"]
    assert shown.verdict == ["srk: KL is not finite along any run."]


def test_a_run_has_tables_a_verdict_and_a_figure(tiny):
    out, printed = tiny
    tables = _panels.read_tables(out, "forgetting")
    assert len(tables[""]) == 2 * 2 * 4
    assert len(tables["_runs"]) == 4
    assert all(row["left"] <= row["made"] for row in tables["_runs"])
    assert "dpmpp_2m_sde: of the KL that steps make" in printed
    (drawn,) = figure.draw(tables).values()
    left, right = drawn.axes
    assert left.get_title(loc="left") == "overlapping, exponential grid"
    assert left.xaxis_inverted()
    assert len(right.lines) == 2
    assert (out / "forgetting.png").exists()
    assert figure.main([str(out)]) == 0


def test_without_rows_there_is_no_figure_and_no_verdict():
    assert words.report(study.fold([], Namespace()), Namespace()).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one finite KL"):
        figure.draw({"": run_of([inf])})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--early-stop=7"], "--horizon must be > --early-stop = 7; got 6"),
        (["--schemes=sa_p3c3"], "--schemes must remember at most two evaluations"),
        (["--schemes=seeds_3", "--evaluations=2"], "--evaluations must pay for a step of seeds_3; got 2"),
    ],
)
def test_bad_grids(arguments, message):
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=.", *arguments]))
    with pytest.raises(ValueError, match=message):
        study.cells(options)

import contextlib
import csv
import io
from math import inf, isnan

import pytest

from figures import _panels
from figures import step_convergence as figure
from studies import _step_convergence_report as words
from studies import step_convergence as study
from studies._run import parsed, parser

TINY = ["--targets=overlapping,gaussian", "--schemes=ddpm,srk_third_point", "--steps=8,16,32,64", "--workers=1"]

# Another program's values of the same quantities: design notes, T = 6, δ = 0.01, exponential grid, exact start.
TABLE = {
    "euler_maruyama": (7.012e-3, 1.911e-3, 4.997e-4),
    "ddpm": (1.318e-2, 3.345e-3, 8.455e-4),
    "ddpm_posterior": (9.421e-3, 2.247e-3, 5.484e-4),
    "srk": (4.790e-3, 1.164e-3, 2.858e-4),
    "srk_martingale": (1.135e-3, 2.545e-4, 5.984e-5),
    "srk_third_point": (3.965e-5, 2.740e-6, 1.825e-7),
    "dpmpp_2m_sde": (1.248e-5, 8.579e-7, 5.863e-8),
}


def rows_of(law, steps=study.STEPS, **more):
    """Rows of one sampler with KL = law(K), and TV = √KL."""
    return [
        {"target": "overlapping", "scheme": "srk", "grid": "exponential", "steps": k, "nfe": k, "kl": law(k)}
        | {"kl_error": 0.0, "tv": law(k) ** 0.5, "tv_error": 0.0, "note": ""}
        | more
        for k in steps
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("steps")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


@pytest.mark.parametrize("scheme", TABLE)
def test_rows_agree_with_values_of_another_program(scheme):
    for steps, expected in zip((32, 64, 128), TABLE[scheme], strict=True):
        (row,) = study.solve(study.Cell("overlapping", scheme, "exponential", steps, 6.0, 0.01))
        assert row["kl"] == pytest.approx(expected, rel=6e-4)  # four printed digits, and a quadrature to 1e-4
        assert row["tv"] <= (0.5 * row["kl"]) ** 0.5  # Pinsker
        assert row["tv"] > 0.3 * (0.5 * row["kl"]) ** 0.5


def test_a_power_law_is_found_to_the_last_digit_and_a_correction_shows_in_the_interval():
    found = study.order(rows_of(lambda k: 3.0 * k**-4.0), "kl")
    assert found["order"] == pytest.approx(4.0, abs=1e-12)
    assert found["constant"] == pytest.approx(3.0)
    assert (found["nominal"], found["last"], found["points"]) == (4, 512, study.MOST)
    half = study.order(rows_of(lambda k: 3.0 * k**-4.0), "tv")
    assert (half["order"], half["nominal"]) == (pytest.approx(2.0), 2)
    bent = study.order(rows_of(lambda k: 3.0 * k**-4.0 * (1.0 + 30.0 / k)), "kl")
    # −d log KL/d log K = 4 + 30/(K + 30): between 4.06 and 4.19 on the rungs used.
    assert 4.05 < bent["low"] < bent["order"] < bent["high"] < 4.2
    assert bent["order"] > 4.06


def test_no_fit_reaches_across_a_dip_or_below_the_error():
    dipped = study.order(rows_of(lambda k: (k**-1.0 - 91.5 * k**-2.0) ** 2 + 1e-12), "kl")
    assert dipped["first"] > 91
    assert dipped["order"] < 2.5
    noisy = rows_of(lambda k: max(k**-4.0, 1e-8), kl_error=2e-9)
    assert study.order(noisy, "kl")["last"] <= 91  # 91^−4 = 1.5e-8 < 20·2e-9
    unknown = study.order(rows_of(lambda k: inf if k < 300 else k**-2.0), "kl")
    assert isnan(unknown["order"])
    assert unknown["points"] == 0
    assert isnan(study.order(rows_of(lambda k: 1e-3 * k), "kl")["order"])


def test_evaluations_are_those_from_which_on_the_level_is_kept():
    law = rows_of(lambda k: 100.0 * k**-2.0)
    assert study.evaluations(law, 1e-2) == pytest.approx(100.0)
    assert study.evaluations(law, 1e-6) is None  # at K = 10^4, beyond the ladder
    assert study.evaluations(law, 10.0) == 4.0  # the first rung will do
    back = rows_of(lambda k: {8: 1e-3, 16: 1e-1, 32: 1e-3}[k], steps=(8, 16, 32))
    assert 16 < study.evaluations(back, 1e-2) < 32
    assert study.evaluations(rows_of(lambda k: inf if k < 10 else 1e-3, steps=(8, 16)), 1e-2) == 16.0


def test_an_unstable_sampler_has_a_row_with_a_note(monkeypatch):
    def blown_up(*arguments, **settings):
        raise ValueError("steps: 4 of ddpm: the sampler is unstable there")

    monkeypatch.setattr(study.sv, "kl", blown_up)
    (row,) = study.solve(study.Cell("overlapping", "ddpm", "exponential", 4, 6.0, 0.01))
    assert (row["kl"], row["note"][:6]) == (inf, "steps:")
    assert isnan(row["tv"])
    tables = study.fold([row], None)
    assert isnan(tables["_orders"][0]["order"])
    assert words.report(tables, None).tables[0].rows[0][2] == "–"


def test_a_run_has_all_rows_tables_and_figures(tiny):
    out, printed = tiny
    with open(out / "step_convergence.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 4
    assert {row["nfe"] for row in rows if row["scheme"] == "srk_third_point"} == {"16", "32", "64", "128"}
    assert "gaussian: orders, and score evaluations" in printed
    assert "ddpm: order 1." in printed
    figures = figure.draw(_panels.read_tables(out, "step_convergence"))
    assert list(figures) == ["step_convergence_kl", "step_convergence_tv"]
    for drawn in figures.values():
        assert [axes.get_title(loc="left") for axes in drawn.axes] == ["overlapping", "gaussian"]
        assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in drawn.axes)
        lines = [line for line in drawn.axes[0].get_lines() if line.get_marker() not in ("None", "", None)]
        assert [len(line.get_xdata()) for line in lines] == [4, 4]


def test_missing_cells_leave_a_report_and_no_figure():
    tables = study.fold([], None)
    assert words.report(tables, None).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one finite KL"):
        figure.draw(tables)


def test_the_grid_keeps_memory_schemes_short_and_refuses_what_makes_none(capsys):
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=."]))
    grid = study.cells(options)
    most = {scheme: max(c.steps for c in grid if c.scheme == scheme) for scheme in ("srk", "dpmpp_2m_sde")}
    assert most == {"srk": 512, "dpmpp_2m_sde": 256}
    assert sum(cell.cost for cell in grid) < 200.0
    with pytest.raises(SystemExit) as end:
        study.main(["--horizon=0.001"])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("--horizon must be > --early-stop = 0.01; got 0.001\n")

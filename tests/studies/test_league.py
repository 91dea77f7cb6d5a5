import contextlib
import io
from argparse import Namespace
from math import inf, isnan, log

import numpy as np
import pytest
from matplotlib.colors import to_hex

import srkverify as sv
from figures import _panels, style
from figures import league as figure
from studies import _league_report as words
from studies import _league_schedulers as theirs
from studies import _league_targets as entry
from studies import league as study
from studies._run import parsed, parser

# How diffusers turns tensors into arrays is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

TINY = [
    "--targets=unimodal,overlapping,product_1000",
    "--grids=exponential",
    "--schemes=ddpm,srk,srk_third_point,dpmpp_2m_sde",
    "--evaluations=16,32,64",
    "--workers=1",
]
OPTIONS = Namespace(targets=("overlapping", "unimodal", "product_1000"), schemes=("srk", "ddpm", "sa_p2"))


def curve(scheme, law, target_law="overlapping", rungs=(8, 16, 32, 64), each=1, **more):
    """Rows of a sampler with KL = law(evaluations)."""
    return [
        {"law": target_law, "grid": "exponential", "scheme": scheme, "evaluations": n, "steps": n // each, "nfe": n}
        | {"kl": law(n), "kl_error": 0.0, "note": ""}
        | more
        for n in rungs
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("league")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


# Another program's values: design notes, T = 6, δ = 0.01, exponential grid, exact start, K = 32 and 64.
@pytest.mark.parametrize(
    ("scheme", "evaluations", "expected"),
    [("ddpm", 64, 3.345e-3), ("srk", 64, 1.164e-3), ("srk_third_point", 64, 3.965e-5), ("dpmpp_2m_sde", 32, 1.248e-5)],
)
def test_rows_agree_with_values_of_another_program(scheme, evaluations, expected):
    (row,) = study.solve(study.Cell("overlapping", "exponential", scheme, evaluations, 6.0, 0.01))
    assert row["kl"] == pytest.approx(expected, rel=2e-3)  # four printed digits, and a quadrature to 1e-3
    assert row["nfe"] == evaluations


def test_the_gaussian_in_16_dimensions_is_a_sum_of_closed_forms():
    # Euler–Maruyama is linear on a Gaussian: mean and variance of a coordinate by its recursion, written out here.
    times = entry.GRIDS["log_snr"](6.0, 0.01, 32)
    expected = 0.0
    for variance in np.geomspace(1e-2, 4.0, 16):
        spread = np.exp(-2.0 * times) * variance - np.expm1(-2.0 * times)
        middle = 0.5 * np.exp(-times)
        mean, var = middle[0], spread[0]
        for k, h in enumerate(times[:-1] - times[1:]):
            mean, var = (
                mean + h * (mean - 2.0 * (mean - middle[k]) / spread[k]),
                var * (1.0 + h - 2.0 * h / spread[k]) ** 2 + 2.0 * h,
            )
        true, at = spread[-1], middle[-1]
        expected += 0.5 * (true / var - 1.0 - log(true / var) + (mean - at) ** 2 / var)
    (row,) = study.solve(study.Cell("anisotropic", "log_snr", "euler_maruyama", 32, 6.0, 0.01))
    assert row["kl"] == pytest.approx(expected, rel=1e-9)


def test_the_second_grid_is_uniform_in_half_log_snr():
    steps = np.diff(sv.schedules.half_log_snr(entry.GRIDS["log_snr"](6.0, 0.01, 32)))
    assert np.ptp(steps) < 1e-9 * steps.mean()


def test_a_budget_is_spent_and_never_exceeded():
    for scheme, make in entry.ENTRANTS.items():
        if scheme in theirs.SCHEDULERS and not theirs.edition():
            continue
        for budget in (8, 32, 128):
            steps = entry.steps_within(scheme, budget, 6.0)
            if steps:
                spent, more = (make(sv.schedules.exponential(6.0, 0.01, k)).nfe for k in (steps, steps + 1))
                assert spent <= budget < more, scheme
    assert entry.steps_within("higher_order_3", 8, 6.0) == 0


def test_samplers_play_where_their_kl_is_exact():
    assert entry.plays("sa_p3c3", "anisotropic")
    # With a memory of three evaluations a KL on a mixture takes a quarter of a minute: only if all rungs are asked for.
    assert entry.plays("sa_p3c3", "overlapping")
    assert entry.terms("sa_p3c3", "overlapping").last == 0
    assert entry.terms("sa_p3c3", "anisotropic").last > 256
    assert (
        entry.terms("srk_third_order_fitted", "separated").first
        > entry.terms("srk_third_order_fitted", "unequal").first
    )
    for drawn in ("ddram", "randomised_midpoint"):
        assert entry.plays(drawn, "overlapping")
        assert not entry.plays(drawn, "product_1000")  # one draw for all coordinates: KL does not add
    assert set(entry.SLOW) | set(entry.PAPER) | set(entry.OURS) <= set(entry.ENTRANTS)


def test_product_has_a_thousand_times_the_kl_and_laws_are_solved_once():
    rows = curve("srk", lambda n: n**-2.0)
    shown = study.fold(rows, OPTIONS)[""]
    kl = {(row["target"], row["nfe"]): row["kl"] for row in shown}
    assert kl["product_1000", 16] == pytest.approx(1000.0 * kl["overlapping", 16])
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=.", "--targets=overlapping,product_1000"]))
    grid = study.cells(options)
    assert {cell.law for cell in grid} == {"overlapping"}
    assert len(grid) == len(set(grid))


def test_levels_orders_and_censoring_of_known_laws():
    found = study.reaches(curve("srk", lambda n: 100.0 * n**-4.0))
    assert found["nfe_1e-02"] == pytest.approx(10.0)
    assert found["nfe_1e-04"] == pytest.approx(10.0**1.5)
    assert found["nfe_1e-06"] is None
    assert found["order"] == pytest.approx(4.0)
    assert found["most"] == 64
    blown = study.reaches(curve("srk", lambda n: inf if n < 32 else n**-3.0))
    assert blown["nfe_1e-04"] == 32.0
    assert blown["order"] == pytest.approx(3.0)
    noisy = study.reaches(curve("srk", lambda n: n**-3.0, kl_error=1.0))
    assert isnan(noisy["order"])


def test_ranking_of_known_laws():
    rows = [
        *curve("ddpm", lambda n: n**-2.0),  # 100 evaluations: beyond
        *curve("srk", lambda n: 0.09 * n**-2.0),  # 30
        *curve("sa_p2", lambda n: 16.0 * n**-4.0),  # 20
        *curve("srk", lambda n: 0.01 * n**-2.0, "unimodal"),  # 10
        *curve("ddpm", lambda n: 0.16 * n**-2.0, "unimodal"),  # 40
    ]
    tables = study.fold(rows, Namespace(**{**vars(OPTIONS), "targets": ("overlapping", "unimodal")}))
    ranked = {row["scheme"]: row for row in tables["_ranking"]}
    assert list(ranked) == ["srk", "ddpm", "sa_p2"]  # who covers fewer pairs comes last
    assert ranked["srk"]["nfe_1e-04"] == pytest.approx(300.0**0.5)  # in logarithms
    assert ranked["srk"]["over_best"] == pytest.approx(1.5**0.5)  # 1.5 and 1
    assert ranked["ddpm"]["nfe_1e-04"] == inf
    assert (ranked["srk"]["won"], ranked["sa_p2"]["won"], ranked["ddpm"]["won"]) == (1, 1, 0)
    assert ranked["sa_p2"]["pairs"] == 1
    ratio, won, count = words.duel(tables["_reached"], "sa_p2", "srk")
    assert (ratio, won, count) == (pytest.approx(2.0 / 3.0), 1, 1)
    said = words.report(tables, OPTIONS)
    assert any("A rival beats every SRK-type sampler on 1 of 2 pairs: sa_p2 (1)" in line for line in said.verdict)
    # Of 20 evaluations 30, and of 40 ten; budget by budget 0.36, 1.44, 5.76, 23.04.
    assert "0.88 times the evaluations (median of 2 pairs on which both get there), at most 1.50; more on 1." in (
        next(line for line in said.verdict if line.startswith("srk at KL = 1e-04, over each pair's best rival"))
    )
    assert "srk at KL = 1e-06, over each pair's best rival: no pair on which both get there." in said.verdict
    assert words.value_by_value(tables[""], "srk", "sa_p2") == (
        "KL of srk over that of sa_p2 at the same budget: 3.6 (median), at most 23; smaller in 1 of 4 places, "
        "larger on overlapping (3)."
    )
    assert said.tables[0].rows[1][6] == ">64"
    winners = {row[0]: row[2:] for row in said.tables[1].rows}
    assert winners["overlapping"] == ["sa_p2 20", "sa_p2 20", "srk 30", "sa_p2 20"]


def test_an_unresolved_sampler_has_a_row_with_a_note_and_other_errors_are_raised(monkeypatch):
    def failing(message):
        def raised(*arguments, **settings):
            raise ValueError(message)

        return raised

    cell = study.Cell("overlapping", "exponential", "ddpm", 8, 6.0, 0.01)
    monkeypatch.setattr(entry, "block_kl", failing("steps: ddpm is unstable there"))
    (row,) = study.solve(cell)
    assert (row["kl"], row["note"][:6]) == (inf, "steps:")
    assert study.fold([row], OPTIONS)["_ranking"][0]["nfe_1e-04"] == inf
    monkeypatch.setattr(entry, "block_kl", failing("target: no"))
    with pytest.raises(ValueError, match="target: no"):
        study.solve(cell)


def test_a_run_has_tables_a_verdict_and_a_figure(tiny):
    out, printed = tiny
    tables = _panels.read_tables(out, "league")
    assert len(tables[""]) == 3 * 4 * 3
    assert {row["scheme"] for row in tables["_ranking"]} == {"ddpm", "srk", "srk_third_point", "dpmpp_2m_sde"}
    assert "samplers that cover the most pairs" in " ".join(printed.split())
    figures = figure.draw(tables)
    assert list(figures) == ["league_exponential"]
    drawn = figures["league_exponential"]
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["unimodal", "overlapping", "product 1000"]
    colours = {to_hex(line.get_color()).upper() for line in drawn.axes[1].get_lines()}
    assert {style.LOOKS[name].colour.upper() for name in ("ddpm", "srk", "dpmpp_2m_sde")} <= colours


@pytest.mark.skipif(not theirs.edition(), reason="needs diffusers and torch, the extra 'diffusers'")
@pytest.mark.parametrize("name", theirs.SCHEDULERS)
def test_diffusers_schedulers_are_run_on_the_leagues_grids(name):
    scheme = theirs.SCHEDULERS[name]
    for grid in entry.GRIDS.values():
        times = grid(6.0, 0.01, 32)
        tableau, twin = entry.ENTRANTS[name](times), entry.ENTRANTS[scheme.twin](times)
        np.testing.assert_allclose(tableau.times, times, rtol=1e-12)
        assert (tableau.nfe, tableau.memory) == (twin.nfe, twin.memory)
        assert entry.memory(name) == twin.memory
    values = [
        study.solve(study.Cell("unimodal", "exponential", each, 32, 6.0, 0.01))[0]["kl"] for each in (name, scheme.twin)
    ]
    if name == "diffusers.SASolverScheduler":  # its last step is of order 1, unless lower_order_final is switched off
        assert values[0] / values[1] == pytest.approx(7.34, rel=0.01)
    else:
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_what_diffusers_has_is_compared_with_its_twin_and_has_no_place():
    name, twin = "diffusers.DDIMScheduler(eta=1)", "ddim"
    rows = [
        *curve(twin, lambda n: 0.1 * n**-2.0),
        *curve(name, lambda n: 0.1 * n**-2.0 * (1.0 + 1e-7 if n > 8 else 3.0)),
        *curve("ddpm", lambda n: n**-2.0),
    ]
    tables = study.fold(rows, Namespace(**{**vars(OPTIONS), "targets": ("overlapping",)}))
    ranked = {row["scheme"]: row for row in tables["_ranking"]}
    assert (ranked[name]["origin"], ranked[name]["won"], ranked[twin]["won"]) == ("diffusers", 0, 1)
    said = words.report(tables, Namespace(schemes=(twin, name, "ddpm")))
    assert {row[1]: row[0] for row in said.tables[0].rows} == {twin: "1", name: "", "ddpm": "2"}
    assert said.tables[1].rows[0][2] == "ddim 32"
    line = next(line for line in said.verdict if line.startswith("diffusers."))
    assert "has the KL of ddim, to 1e-07 of it in 3 values but by factors" in line
    assert line.endswith("3 at 8.")


@pytest.mark.parametrize("name", sv.schemes.INFORMED)
def test_who_is_told_is_told_of_the_law(name):
    (row,) = study.solve(study.Cell("unimodal", "log_snr", name, 8, 6.0, 0.01))
    assert row["kl"] < 1e-20
    law, times = entry.LAWS["anisotropic"].make(), entry.GRIDS["log_snr"](6.0, 0.01, 16)
    (row,) = study.solve(study.Cell("anisotropic", "log_snr", name, 16, 6.0, 0.01))
    expected = sv.kl(law, sv.schemes.INFORMED[name](times, sv.effective_variances(law, times)))
    assert row["kl"] == pytest.approx(expected.value, rel=1e-6)


def test_who_is_told_has_no_place():
    name = "analytic_ddpm"
    rows = [*curve("ddpm", lambda n: 0.09 * n**-2.0), *curve(name, lambda n: 0.01 * n**-2.0)]
    tables = study.fold(rows, Namespace(**{**vars(OPTIONS), "targets": ("overlapping",)}))
    ranked = {row["scheme"]: row for row in tables["_ranking"]}
    assert (ranked[name]["origin"], ranked[name]["won"], ranked["ddpm"]["won"]) == ("told", 0, 1)
    said = words.report(tables, Namespace(schemes=("ddpm", name)))
    assert {row[1]: row[0] for row in said.tables[0].rows} == {name: "", "ddpm": "1"}
    assert said.tables[1].rows[0][2] == "ddpm 30"
    assert any(
        line.startswith(f"{name} at KL = 1e-04, over each pair's best that is not told") and ": 0.33 times" in line
        for line in said.verdict
    )


def test_without_diffusers_a_line_says_what_to_install(monkeypatch):
    for module in (study, words):
        monkeypatch.setattr(module, "edition", lambda: "")
    schemes = ("srk", "diffusers.DDPMScheduler")
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=.", "--targets=overlapping"]))
    options.schemes = schemes
    assert {cell.scheme for cell in study.cells(options)} == {"srk"}
    tables = study.fold(curve("srk", lambda n: n**-2.0), OPTIONS)
    line = words.report(tables, Namespace(schemes=schemes)).verdict[-1]
    assert line == f"Left out, for diffusers is not installed ({theirs.INSTALL}): diffusers.DDPMScheduler."


def test_missing_cells_leave_a_report_and_no_figure():
    tables = study.fold([], OPTIONS)
    assert words.report(tables, OPTIONS).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one finite KL"):
        figure.draw(tables)


def test_the_default_grid_is_affordable_and_bad_options_are_one_line(capsys):
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=."]))
    grid = study.cells(options)
    assert sum(cell.cost for cell in grid) < 700.0
    assert len({cell.law for cell in grid}) == len(entry.LAWS)
    for wrong in ("--horizon=0.001", "--schemes=sa_p3c3 --targets=overlapping"):
        with pytest.raises(SystemExit) as end:
            study.main(wrong.split())
        assert end.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1

import contextlib
import io
from argparse import Namespace
from math import log

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import roughness as figure
from studies import _roughness_report, roughness
from studies._geometric_mean import geometric_mean
from studies._grids import GRIDS
from studies._roughness_orders import theory

TINY = [
    "--schemes=ddpm,srk_martingale",
    "--early-stops=0.1,1e-3",
    "--variances=0.1",
    "--ratios=5",
    "--steps=8,16,32,64,128",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tables of a tiny run as read back from its files, its printed output, and the directory."""
    out = tmp_path_factory.mktemp("roughness")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert roughness.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return _panels.read_tables(out, "roughness"), printed.getvalue(), out


@pytest.mark.parametrize("variance", [0.0, 0.3])
def test_stiffness_and_memory_are_those_of_the_score_and_of_the_forward_process(variance):
    times = sv.schedules.exponential(5.0, 0.02, 9)
    stiff, memory = roughness.stiffness(times, variance)
    target = sv.GaussianMixture([1.0], [[2.0]], variance)
    for k, end in enumerate(times[1:]):
        # The slope of the score by differences; the correlation from X_τ = e^{−t} X_δ + noise of variance 1 − e^{−2t}.
        points = 2.0 * np.exp(-end) + np.array([[-1e-3], [1e-3]])
        slope = float(np.diff(target.score(points, end)[:, 0])[0] / 2e-3)
        assert stiff[k] == pytest.approx((times[k] - end) * (-slope - 1.0), rel=1e-6)
        assert 1.0 - memory[k] ** 2 == pytest.approx(np.expm1(-2.0 * (end - times[-1])) * slope, rel=1e-6, abs=1e-12)


def test_theory_is_consistent_and_half_an_order_is_at_its_place():
    rows = theory([{"grid": "uniform", "stiffness": 1e-4}, {"grid": "uniform", "stiffness": 1e4}])
    places, kl, order = (np.array([row[key] for row in rows]) for key in ("stiffness", "kl", "order"))
    slopes = np.diff(np.log(kl)) / np.diff(np.log(places))
    np.testing.assert_allclose(slopes, 0.5 * (order[1:] + order[:-1]), atol=0.01)
    assert np.exp(np.interp(-1.0, -order, np.log(places))) == pytest.approx(2.16, abs=0.03)
    assert theory([]) == []


@pytest.mark.parametrize(("variance", "stop"), [(0.0, 1e-3), (1e-3, 1e-3), (1e-2, 1e-5)])
def test_ddpm_on_uniform_grids_has_the_excess_of_variance_that_theory_says(variance, stop):
    total, steps = 1.0 - (1.0 - variance) * np.exp(-2.0 * stop), 20_000
    target = sv.GaussianMixture([1.0], [[0.0]], variance)
    excess = 4.0 / steps / total
    grid = sv.schedules.uniform(4.0, stop, steps)
    stiff, memory = roughness.stiffness(grid, variance)
    assert (stiff * memory).max() == pytest.approx(excess, rel=0.05)
    # To leading order in b ≈ 0.02 to 0.1 and in V(δ).
    expected = 0.5 * (np.log1p(excess) - excess / (1.0 + excess))
    assert sv.kl(target, sv.schemes.ddpm(grid)).value == pytest.approx(expected, rel=0.15)


def test_ddpm_on_exponential_grids_has_the_excess_of_variance_that_theory_says():
    stop, steps = 1e-6, 4000
    part = (5.0 - np.log(stop)) / steps  # h = κ τ below τ = 1; the excess is κ on point masses, κ/2 where v ≫ δ
    for variance, factor in ((0.0, 1.0), (1e-3, 0.5)):
        target = sv.GaussianMixture([1.0], [[0.0]], variance)
        found = sv.kl(target, sv.schemes.ddpm(sv.schedules.exponential(6.0, stop, steps))).value
        assert found == pytest.approx((factor * part) ** 2 / 4.0, rel=0.03)


def test_rows_agree_with_kl_of_the_target_itself(tiny):
    tables, _, _ = tiny
    assert len(tables[""]) == 2 * 4 * (5 + 5 + 4)
    checked = 0
    for row in tables[""][::5]:
        if row["kl"] is None:
            continue
        span = 6.0, row["early_stop"], row["steps"]
        warp = [float(value) for value in str(row["warp"]).split()] if row["warp"] else None
        times = GRIDS[row["grid"]](*span) if warp is None else sv.schedules.warped(*span, warp)
        target = sv.GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], row["variance"])
        found = sv.kl(target, sv.schemes.SCHEMES[row["scheme"]](times), relative=1e-3)
        assert row["kl"] == pytest.approx(found.value, abs=row["error"] + found.error + 1e-5 * found.value)
        stiff, memory = roughness.stiffness(times, row["variance"])
        assert row["stiffness"] == pytest.approx((stiff * memory).max(), rel=1e-4)
        assert row["stiffness"] <= row["stiffest_step"] == pytest.approx(stiff.max(), rel=1e-4)
        checked += 1
    assert checked >= 12


def test_uniform_grids_break_and_exponential_ones_do_not(tiny):
    tables, _, _ = tiny
    rough = {"early_stop": 1e-3, "variance": 5e-3, "scheme": "ddpm"}

    def orders(grid):
        return [row["order"] for row in tables["_orders"] if row["grid"] == grid and rough.items() <= row.items()]

    assert max(orders("uniform")[:-1]) < 0.7
    assert min(orders("exponential")) > 1.5
    assert min(orders("optimal")) > 1.5
    stiff = [row["stiffness"] for row in tables["_breaks"] if row["grid"] == "uniform" and row["scheme"] == "ddpm"]
    known = [value for value in stiff if value is not None]
    assert known
    assert all(0.5 < value < 4.0 for value in known)


def test_cells_go_as_far_as_schemes_and_shapes_do():
    options = Namespace(**{**roughness.STUDY.full, "tuned_for": "ddpm"})
    grid = roughness.cells(options)
    assert len(grid) == len(set(grid)) == 3 * 5 * 18
    ladders = {(cell.scheme, cell.grid): cell.steps for cell in grid}
    assert ladders["srk", "uniform"] == (8, 16, 32, 64, 128, 256)
    assert ladders["srk", "optimal"] == (16, 32, 64, 128, 256)
    assert ladders["dpmpp_2m_sde", "optimal"] == (16, 32, 64)
    assert {cell.tuned_for for cell in grid if cell.grid != "optimal"} == {""}


def test_a_density_that_the_engine_cannot_hold_is_a_note():
    cell = roughness.Cell("dpmpp_2m_sde", 0.0, 1e-4, "uniform", (16, 32), 6.0, 1.0, "", (), 0)
    rows = roughness.solve(cell)
    assert [row["kl"] for row in rows] == [None, None]
    assert all("more grid points than the engine holds" in row["note"] for row in rows)
    known = [{**row, "kl": 1.0, "error": 0.0, "note": ""} for row in rows]
    verdict = _roughness_report.report(roughness.fold([*known, *rows], Namespace()), Namespace()).verdict
    assert "Of 4 KLs 2 are beyond the exact engine (dpmpp_2m_sde 2); they are left out." in verdict


def synthetic(nominal=2.0, place=3.0, scheme="srk"):
    """Rows whose order in b ~ 1/K is p/(1 + (b/place)²): half of p at ``place``."""
    rows = []
    for variance, stop in ((0.1, 0.1), (0.0, 0.01), (0.01, 0.01), (0.05, 0.01)):
        total = 1.0 - (1.0 - variance) * np.exp(-2.0 * stop)
        for steps in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
            b = 6.0 / steps / total
            # The integral of the order over log b.
            kl = float(np.exp(nominal * (log(b) - 0.5 * np.log1p((b / place) ** 2))))
            label = {"scheme": scheme, "grid": "uniform", "variance": variance, "early_stop": stop, "steps": steps}
            more = {"stiffness": b, "stiffest_step": b, "component_kl": kl, "warp": None, "note": ""}
            rows.append({**label, "kl": kl, "error": 1e-3 * kl, **more})
    return rows


@pytest.mark.parametrize(("scheme", "nominal"), [("srk", 2.0), ("srk_third_point", 4.0)])
def test_breaks_are_found_where_the_data_have_them(scheme, nominal):
    tables = roughness.fold(synthetic(nominal, 3.0, scheme), Namespace())
    found = [row["stiffness"] for row in tables["_breaks"] if row["stiffness"] is not None]
    assert found == pytest.approx([3.0] * 4, rel=0.08)
    for row in tables["_orders"]:
        assert row["order"] == pytest.approx(nominal / (1.0 + (row["stiffness"] / 3.0) ** 2), abs=0.03 * nominal)
        assert row["high"] - row["low"] == pytest.approx(4e-3 / log(2.0))
    for row in tables["_curves"]:
        assert row["low"] <= row["order"] <= row["high"]
    verdict = "\n".join(_roughness_report.report(tables, Namespace()).verdict)
    assert f"uniform: the order of {scheme} falls below half at b = 3 [" in verdict
    assert "(geometric mean over 4 targets)" in verdict
    assert f"the same KL within a factor of 2: {scheme} 1" in verdict


def test_intervals_are_student_s_in_logarithms():
    middle, low, high = geometric_mean([1.0, 2.0, 4.0])
    assert middle == pytest.approx(2.0)
    half = 4.302653 * log(2.0) / np.sqrt(3.0)  # t at 97.5%, 2 degrees of freedom, from tables
    assert (log(high / middle), log(middle / low)) == pytest.approx((half, half), rel=1e-5)


def test_missing_cells_and_values_are_coped_with():
    empty = roughness.fold([], Namespace())
    assert set(empty) == {"", "_orders", "_curves", "_breaks", "_theory"}
    assert not any(empty.values())
    assert _roughness_report.report(empty, Namespace()).verdict == ["No KL is known: no verdict."]
    with pytest.raises(ValueError, match="at least one KL"):
        figure.draw(empty)
    rows = synthetic()
    for row in rows[::3]:
        row.update(kl=None, error=None, note="no KL")
    for kept in (rows, rows[:1], rows[1:2], rows[1::4]):
        tables = roughness.fold(kept, Namespace())
        assert _roughness_report.report(tables, Namespace()).verdict
    assert set(figure.draw(roughness.fold(rows, Namespace()))) == {
        "roughness_order",
        "roughness_collapse",
        "roughness_stop",
    }


def test_the_run_says_what_it_found_and_draws_it(tiny):
    tables, printed, out = tiny
    tabled = [line for text in printed.split("\n\n") if "---" in text for line in text.splitlines()]
    assert max(map(len, tabled)) <= 120
    drawn = figure.draw(tables)
    assert list(drawn) == ["roughness_order", "roughness_collapse", "roughness_stop"]
    assert all((out / f"{stem}.png").stat().st_size > 20_000 for stem in drawn)
    panels = drawn["roughness_order"].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["uniform grids", "exponential grids", "optimal grids"]
    colour = figure.style.look("ddpm").colour
    (line,) = [line for line in panels[0].lines if line.get_color() == colour and line.get_linewidth() == 1.1]
    own = [row["order"] for row in tables["_curves"] if (row["grid"], row["scheme"]) == ("uniform", "ddpm")]
    np.testing.assert_allclose(line.get_ydata(), own)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--grids=uniforn", "did you mean 'uniform'"),
        ("--horizon=0.05", "--horizon must be > all --early-stops"),
        ("--variances=1.5", "variance must be a finite number and >= 0 and < 1"),
        ("--ratios=20", "--ratios must be < 1 over the largest"),
        ("--tuned-for=ddmp", "did you mean 'ddpm'"),
    ],
)
def test_bad_arguments_are_one_line(argument, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        roughness.main([argument, f"--out={tmp_path}"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line

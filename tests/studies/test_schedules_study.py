import contextlib
import io
from argparse import Namespace

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import schedules as figure
from srkverify.engines import gaussian
from studies import _schedules_report, schedules
from studies._grids import GRIDS, kl_on, step_density

TINY = [
    "--targets=gaussian_decaying,overlapping",
    "--schemes=ddpm,srk_martingale",
    "--steps=6,12",
    "--ladder=6,12,24,48",
    "--parameters=2,3",
]
SPAN = 6.0, 0.01


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tables of a tiny run as read back from its files, its printed output, and the directory."""
    out = tmp_path_factory.mktemp("schedules")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert schedules.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return _panels.read_tables(out, "schedules"), printed.getvalue(), out


def kl(target, scheme, times):
    return sv.kl(schedules.TARGETS[target](), sv.schemes.SCHEMES[scheme](times), relative=1e-4).value


def test_rows_agree_with_kl_of_the_target_itself(tiny):
    tables, _, _ = tiny
    optimal = [row for row in tables[""] if row["grid"] == "optimal"]
    assert len(optimal) == 2 * 2 * 2 * 2
    for row in optimal:
        warp = [float(value) for value in str(row["warp"]).split()]
        assert len(warp) == row["parameters"]
        times = sv.schedules.warped(*SPAN, row["steps"], warp)
        assert row["kl"] == pytest.approx(kl(row["target"], row["scheme"], times), rel=5e-3)
    for row in tables[""][::7]:
        if row["grid"] in GRIDS and row["target"] == "gaussian_decaying":
            times = GRIDS[row["grid"]](*SPAN, row["steps"])
            assert row["kl"] == pytest.approx(kl(row["target"], row["scheme"], times), rel=1e-12)


def test_optima_are_better_than_all_grids_in_use_and_fewer_knots_no_better(tiny):
    tables, _, _ = tiny
    assert len(tables["_gains"]) == 8 * len(GRIDS)
    assert min(row["factor"] for row in tables["_gains"]) > 1.0
    best = schedules.optima(tables[""])
    assert {row["parameters"] for row in best.values()} == {3}
    for row in tables[""]:
        if row["grid"] == "optimal":
            assert row["kl"] >= (1 - 1e-9) * best[row["target"], row["scheme"], row["steps"]]["kl"]


def test_transfer_is_the_same_warp_elsewhere(tiny):
    tables, _, _ = tiny
    best = schedules.optima(tables[""])
    assert len(tables["_transfer"]) == 8 * (2 + 4)
    for row in tables["_transfer"][::5]:
        donor = best[row["from_target"], row["from_scheme"], row["from_steps"]]
        warp = [float(value) for value in donor["warp"].split()]
        times = sv.schedules.warped(*SPAN, row["steps"], warp)
        assert row["kl"] == pytest.approx(kl(row["target"], row["scheme"], times), rel=5e-3)
        own = best.get((row["target"], row["scheme"], row["steps"]))
        assert row["regret"] == (None if own is None else pytest.approx(row["kl"] / own["kl"]))


def test_step_density_is_that_of_known_clocks():
    places, density = step_density(sv.schedules.warped(*SPAN, 3000, [0.0]), 9)
    assert density == pytest.approx(1.0 / (places[-1] - places[0]), rel=1e-6)
    places, density = step_density(sv.schedules.uniform(*SPAN, 3000), 9)
    # dτ/dλ = −(1 − e^{−2τ}), and a share dτ/(T − δ) of the steps.
    times = 0.5 * np.log1p(np.exp(-2.0 * places))
    np.testing.assert_allclose(density[:-1], -np.expm1(-2.0 * times[:-1]) / (6.0 - 0.01), rtol=2e-2)
    rows = [{"log_snr": place, "density": value} for place, value in zip(places, density, strict=True)]
    middle = float(sv.schedules.half_log_snr(3.0))
    assert _schedules_report.share_before(rows, middle) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("variance", "end", "sign"), [(0.25, 0.049, -1), (0.25, 0.04, -1), (0.0, 0.005, 1)])
def test_srk_errs_to_both_sides_and_ddpm_to_one(variance, end, sign):
    # The variance after one step from τ = 0.05: why an optimal grid can cancel SRK's errors and not DDPM's.
    times = np.array([0.05, end])
    off = {
        name: gaussian.deviations(sv.schemes.SCHEMES[name](times), np.array([variance])).variance[0]
        for name in ("srk", "ddpm")
    }
    assert np.sign(off["srk"]) == sign
    assert off["ddpm"] > 0.0


def test_unstable_grids_have_infinite_kl():
    blocks = sv.divergence.reduce(schedules.TARGETS["narrow"]())
    found = kl_on(sv.schedules.uniform(*SPAN, 2), blocks, "euler_maruyama")
    assert found.value > 1.0


def synthetic(schemes=("ddpm", "srk"), gain=4.0, order=2.0, ladder=(8, 16, 32, 64, 128)):
    """Rows of KL = K^−p on every grid, and 1/gain of it on the optimum, for K = 16 and 32."""
    rows = []
    for place, scheme in enumerate(schemes):
        label = {"target": "narrow", "scheme": scheme}
        more = {"error": 0.0, "parameters": None, "start": None, "evaluations": 1, "warp": None}
        for steps in ladder:
            value = 0.1**place * steps**-order
            rows += [{"kind": "kl", **label, "steps": steps, "grid": grid, "kl": value, **more} for grid in GRIDS]
            if steps in (16, 32):
                for knots, loss in ((2, 1.5), (4, 1.0)):
                    more_of_it = {**more, "parameters": knots, "warp": "0 0"}
                    rows.append({**rows[-1], "grid": "optimal", "kl": loss * value / gain, **more_of_it})
                for to in schemes:
                    donor = {"from_target": "narrow", "from_scheme": scheme, "from_steps": steps}
                    kl = (1.0 if to == scheme else 3.0) * 0.1 ** schemes.index(to) * steps**-order / gain
                    rows.append(
                        {
                            "kind": "transfer",
                            **donor,
                            "target": "narrow",
                            "scheme": to,
                            "steps": steps,
                            "kl": kl,
                            "error": 0.0,
                        }
                    )
    return rows


def test_gains_orders_and_regrets_follow_the_data():
    tables = schedules.fold(synthetic(), Namespace())
    assert {(row["factor"], row["steps"]) for row in tables["_gains"]} == {(4.0, 16), (4.0, 32)}
    for row in tables["_gains"]:
        assert row["times_steps"] == pytest.approx(2.0, rel=0.05)
        assert row["times_steps_low"] <= row["times_steps"] <= row["times_steps_high"]
    assert all(row["order"] == pytest.approx(2.0) for row in tables["_orders"])
    for row in tables["_transfer"]:
        assert row["regret"] == pytest.approx(1.0 if row["scheme"] == row["from_scheme"] else 3.0)
        assert row["gain"] == pytest.approx(4.0 / row["regret"])
    verdict = "\n".join(_schedules_report.report(tables, Namespace()).verdict)
    assert "ddpm: the optimum has 4 (4–4) times less KL than the exponential grid, which needs 2 (2–2) times" in verdict
    assert "With 2 knots instead of 4 KL is larger by a factor: ddpm 1.5 (1.5–1.5), srk 1.5 (1.5–1.5)." in verdict
    assert "Used for another scheme a shape has 3 (3–3) times" in verdict
    assert "within 25% of it in 0 of 4 cases" in verdict
    assert "KL of ddpm over that of srk: 10 (10–10) on exponential grids, 10 (10–10) with each" in verdict


def test_missing_cells_and_unstable_grids_are_coped_with():
    empty = schedules.fold([], Namespace())
    assert set(empty) == {"", "_gains", "_orders", "_transfer", "_density"}
    assert not any(empty.values())
    assert _schedules_report.report(empty, Namespace()).verdict == ["No optimum is done: no verdict."]
    with pytest.raises(ValueError, match="at least one optimum"):
        figure.draw(empty)
    rows = synthetic()
    for row in rows:
        if row["kind"] == "kl" and row["grid"] == "uniform" and row["steps"] < 64:
            row["kl"] = float("inf")
    for kept in (rows, rows[::2], rows[1::3], [row for row in rows if row["kind"] == "transfer"], rows[:3]):
        tables = schedules.fold([dict(row) for row in kept], Namespace())
        assert _schedules_report.report(tables, Namespace()).verdict
    tables = schedules.fold(rows, Namespace())
    (factor,) = {row["factor"] for row in tables["_gains"] if row["grid"] == "uniform"}
    assert factor == float("inf")
    assert set(figure.draw(tables)) == {"schedules_gains", "schedules_steps"}


def test_the_run_says_what_it_found_and_draws_it(tiny):
    tables, printed, out = tiny
    assert "KL on the grid made for another scheme" in printed
    assert "times less KL than the exponential grid" in printed
    tabled = [line for text in printed.split("\n\n") if "---" in text for line in text.splitlines()]
    assert max(map(len, tabled)) <= 120
    drawn = figure.draw(tables)
    assert list(drawn) == ["schedules_density", "schedules_gains", "schedules_steps"]
    assert all((out / f"{stem}.png").stat().st_size > 20_000 for stem in drawn)
    panels = [axes for axes in drawn["schedules_density"].axes if axes.lines]
    assert len(panels) == 2
    assert len(panels[0].lines) == len(GRIDS) + 2
    lines = [line for line in panels[0].lines if line.get_color() == figure.style.look("srk_martingale").colour]
    shown = [
        r["density"]
        for r in tables["_density"]
        if (r["target"], r["scheme"], r["steps"]) == ("gaussian_decaying", "srk_martingale", 12)
    ]
    np.testing.assert_allclose(lines[0].get_ydata(), shown)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--targets=narow", "did you mean 'narrow'"),
        ("--horizon=0.001", "--horizon must be > --early-stop"),
        ("--parameters=1", "parameters must be an integer >= 2"),
        ("--steps=1", "steps must be an integer >= 2"),
    ],
)
def test_bad_arguments_are_one_line(argument, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        schedules.main([argument, f"--out={tmp_path}"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line

import contextlib
import io
import re
from argparse import Namespace

import mpmath as mp
import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import low_dimension as figure
from srkverify.divergence import block_kl
from srkverify.divergence.reduction import GaussianBlock
from srkverify.schemes import SCHEMES
from srkverify.schemes.adapted import adapted_noise
from studies import _low_dimension_report, low_dimension
from studies._common_slope import common_slope

TINY = [
    "--schemes=ddpm_posterior,srk,srk_adapted",
    "--intrinsics=mixture",
    "--ambient-variances=0,0.01",
    "--rank=2",
    "--dimensions=2,20,200,2e3",
    "--dimension=200",
    "--ranks=2,20,200",
    "--epsilons=0.3,0.2",
    "--ladder=8,16,32,64,128",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tables of a tiny run as read back from its files, and its printed output."""
    out = tmp_path_factory.mktemp("low")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert low_dimension.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return _panels.read_tables(out, "low_dimension"), printed.getvalue(), out


@pytest.mark.parametrize(("begin", "end"), [(6.0, 0.5), (0.02, 0.0199), (0.0100001, 0.01), (12.0, 1e-4)])
def test_stage_noise_is_the_integral_that_defines_it(begin, end):
    along, across = (float(each[0]) for each in adapted_noise(np.array([begin, end])))
    with mp.workdps(30):
        tau, stop = mp.mpf(begin), mp.mpf(end)
        h = tau - stop

        def kernel(u):
            seen = (mp.exp(-u) - mp.exp(u - 2 * h)) / (1 - mp.exp(-2 * h))
            return mp.sqrt(2) * seen * (1 - mp.exp(-2 * tau)) / (1 - mp.exp(-2 * (tau - u)))

        places = [tau - stop * (tau / stop) ** (mp.mpf(8 - i) / 8) for i in range(9)]
        variance = mp.quad(lambda u: kernel(u) ** 2, places)
        covariance = mp.quad(lambda u: kernel(u) * mp.sqrt(2) * mp.exp(h - u), places)
        share = covariance / mp.sqrt(mp.exp(2 * h) - 1)
        rest = mp.sqrt(variance - share**2)
    assert along == pytest.approx(float(share), rel=1e-12)
    assert across == pytest.approx(float(rest), rel=1e-12)


@pytest.mark.parametrize("name", ["srk_adapted", "srk_third_point_adapted"])
@pytest.mark.parametrize(("horizon", "early_stop", "steps"), [(6.0, 0.01, 1), (6.0, 0.01, 7), (9.0, 1e-5, 500)])
def test_adapted_schemes_are_exact_on_point_masses(name, horizon, early_stop, steps):
    block = GaussianBlock(np.zeros(1), np.ones(1), np.ones(1))  # at 1: the mean counts as well
    times = sv.schedules.exponential(horizon, early_stop, steps)
    assert block_kl(block, SCHEMES[name](times)).value < 1e-20
    assert block_kl(block, sv.schemes.srk_martingale(times)).value > 1e-10  # the test can fail


def test_the_noise_of_a_step_on_a_point_mass_has_the_posterior_variance():
    tableau = SCHEMES["srk_adapted"](sv.schedules.exponential(6.0, 0.01, 10))
    begin, end = tableau.times[:-1], tableau.times[1:]
    marginal, h = 1.0 - np.exp(-2.0 * begin), begin - end
    noise = np.zeros((10, 2))
    noise[:, 0] = tableau.noise[:, 0]
    noise -= tableau.scores / marginal[:, None] * tableau.stage_noise[:, 0]
    posterior = (1.0 - np.exp(-2.0 * h)) * (1.0 - np.exp(-2.0 * end)) / marginal
    np.testing.assert_allclose((noise**2).sum(axis=1), posterior, rtol=1e-11)


@pytest.mark.parametrize(("name", "order"), [("srk_adapted", 2), ("srk_third_point_adapted", 4)])
def test_adapted_schemes_keep_their_order_on_the_mixture(name, order):
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    coarse, fine = (
        sv.kl(target, SCHEMES[name](sv.schedules.exponential(6.0, 0.01, steps)), relative=1e-4).value
        for steps in (64, 128)
    )
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_rows_agree_with_kl_of_the_target_itself(tiny):
    tables, _, _ = tiny
    checked = 0
    for row in tables[""]:
        if row["how"] == "extrapolated" or row["epsilon"] != 0.2:
            continue
        line = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
        flat = sv.GaussianMixture([1.0], [[0.0]], row["ambient_variance"])
        rest = row["dimension"] - row["rank"]
        target = sv.targets.Product([line, flat][: 1 + (rest > 0)], [row["rank"], rest][: 1 + (rest > 0)])

        def kl(steps, target=target, scheme=row["scheme"]):
            return sv.kl(target, SCHEMES[scheme](sv.schedules.exponential(6.0, 0.01, steps)), relative=1e-3).value

        assert kl(row["steps_high"]) <= row["epsilon"] ** 2
        assert row["steps_low"] == 1 or kl(row["steps_low"] - 1) > row["epsilon"] ** 2
        checked += 1
    assert checked >= 20


def test_tables_hold_every_target_and_direction(tiny):
    tables, _, _ = tiny
    assert len(tables[""]) == 3 * 2 * (4 + 3) * 2
    assert {row["part"] for row in tables["_directions"]} == {"intrinsic", "ambient"}
    for row in tables[""]:
        assert row["steps_low"] <= row["steps"] <= row["steps_high"]
        assert row["nfe"] == row["steps"]
        assert 0.0 <= row["ambient_share"] <= 1.0
        assert (row["ambient_share"] == 0.0) or row["dimension"] > row["rank"]


def test_who_adapts_is_seen_in_a_tiny_run(tiny):
    tables, printed, _ = tiny
    answers = {s: _low_dimension_report.adapts(tables["_fits"], s, "mixture", 0.0) for s in ("ddpm_posterior", "srk")}
    assert answers["ddpm_posterior"] == "yes"
    assert "SRK adapts with the stage noise of this study" in printed
    tables_of_text = printed.split("\n\n")[:3]
    assert max(len(line) for text in tables_of_text for line in text.splitlines()) <= 115


def synthetic(in_d, in_k, scheme="srk"):
    """Rows of K* = 100 d^a/ε with k fixed and 100 k^b/ε with d fixed."""
    sweeps = [("d", 4, 10**n, 10.0 ** (n * in_d)) for n in range(1, 7)]
    sweeps += [("k", 10**n, 10**4, 10.0 ** (n * in_k)) for n in range(5)]
    return [
        {
            "kind": "cost",
            "scheme": scheme,
            "intrinsic": "mixture",
            "ambient_variance": 0.0,
            "varied": varied,
            "rank": rank,
            "dimension": dimension,
            "epsilon": epsilon,
            "steps": round(100 * growth / epsilon),
            "steps_low": round(100 * growth / epsilon),
            "steps_high": round(100 * growth / epsilon),
            "nfe": round(100 * growth / epsilon),
            "how": "exact",
            "ambient_share": 0.0 if in_d == 0.0 else 0.5,
            "note": "",
        }
        for varied, rank, dimension, growth in sweeps
        for epsilon in (0.3, 0.1)
    ]


@pytest.mark.parametrize(("in_d", "in_k", "answer"), [(0.0, 0.5, "yes"), (0.25, 0.0, "no"), (0.5, 0.5, "no")])
def test_exponents_and_verdict_follow_the_data(in_d, in_k, answer):
    tables = low_dimension.fold(synthetic(in_d, in_k), Namespace())
    for variable, truth in (("d", in_d), ("k", in_k)):
        for kind in ("all", "tail"):
            fit = _low_dimension_report.find(tables["_fits"], "srk", "mixture", 0.0, variable, kind)
            assert fit["exponent"] == pytest.approx(truth, abs=1e-3)
            assert fit["low"] <= fit["exponent"] <= fit["high"]
    assert _low_dimension_report.adapts(tables["_fits"], "srk", "mixture", 0.0) == answer
    words = "adapts" if answer == "yes" else "does not adapt"
    assert any(f"coefficients {words}" in line for line in _low_dimension_report.report(tables, Namespace()).verdict)


def test_scatter_that_could_be_either_leaves_the_question_open():
    rows = synthetic(0.0, 0.5)
    for row in rows[::2]:
        row["steps"] *= 1 if row["dimension"] % 3 else 2
    for row, factor in zip(rows, (1.0, 1.6) * len(rows), strict=False):
        row["steps"] = round(row["steps"] * factor * (1.0 + 0.6 * (row["dimension"] in (10**5,))))
    fits = low_dimension.fold(rows, Namespace())["_fits"]
    assert _low_dimension_report.adapts(fits, "srk", "mixture", 0.0) == "open"


def test_missing_cells_and_answers_are_coped_with():
    assert low_dimension.fold([], Namespace()) == {"": [], "_directions": [], "_fits": []}
    empty = {"": [], "_directions": [], "_fits": []}
    assert _low_dimension_report.report(empty, Namespace()).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one number of steps"):
        figure.draw(empty)
    rows = synthetic(0.5, 0.5)
    for row in rows:
        row.update(steps=None, steps_low=None, steps_high=None, nfe=None, how="none", ambient_share=None)
    report = _low_dimension_report.report(low_dimension.fold(rows, Namespace()), Namespace())
    assert report.tables[0].rows[0][2:] == ["–", "–", "–", "–", "–"]


def test_a_common_slope_is_least_squares_with_an_intercept_a_group():
    rng = np.random.default_rng(0)
    x, groups = np.exp(rng.uniform(0.0, 5.0, 12)), np.repeat([0.1, 0.3, 0.2], 4)
    y = np.exp(0.7 * np.log(x) + np.repeat([1.0, -2.0, 0.5], 4) + 0.1 * rng.standard_normal(12))
    found = common_slope(x, y, groups)
    design = np.stack([np.log(x), *(groups == label for label in (0.1, 0.2, 0.3))], axis=1)
    solved, squares, *_ = np.linalg.lstsq(design, np.log(y), rcond=None)
    spread = np.sqrt(squares[0] / 8 * np.linalg.inv(design.T @ design)[0, 0])
    assert found.value == pytest.approx(solved[0], rel=1e-10)
    assert found.high - found.value == pytest.approx(2.3060 * spread, rel=1e-4)  # Student's t, 8 degrees of freedom
    assert np.isnan(common_slope([1.0, 2.0], [1.0, 3.0]).low)


def test_figures_from_files(tiny):
    tables, _, out = tiny
    figures = figure.draw(tables)
    assert set(figures) == {"low_dimension_steps", "low_dimension_directions"}
    assert len(figures["low_dimension_steps"].axes) == 4
    assert (out / "low_dimension_steps.png").stat().st_size > 10_000


def test_the_figures_command_says_what_it_lacks(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        figure.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "low_dimension.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schemes=srk_adaptd"], "scheme must be one of .*; did you mean 'srk_adapted'|did you mean 'srk_adapted'"),
        (["--intrinsics=point"], "intrinsic must be one of .*mixture.*gaussian"),
        (["--ambient-variances=-1"], "variance must be a finite number.* >= 0"),
        (["--rank=5", "--dimensions=2,3"], "--dimensions must hold one that is >= --rank"),
        (["--horizon=0.001"], "--horizon must be > --early-stop = 0.01; got 0.001"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        low_dimension.main([f"--out={tmp_path}", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error

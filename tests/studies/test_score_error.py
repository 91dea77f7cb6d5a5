import contextlib
import csv
import io
import json
from math import isnan, nan, sqrt

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import score_error as figure
from srkverify import perturbed
from srkverify.divergence.score_error import squared_error
from studies import _run, _score_error_growth, _score_error_report, score_error
from studies._score_error_growth import doubled, growth, leads

TINY = [
    "--targets=two_modes,gaussian",
    "--kinds=noise,relative,model,wave_1",
    "--schemes=ddpm,srk,dpmpp_2m_sde",
    "--sizes=0.1,0.03",
    "--steps=8,16",
]
FILES = {f"score_error{end}" for end in (".csv", "_growth.csv", "_lead.csv", ".json")} | {
    f"score_error_{view}.{kind}" for view in ("growth", "kl", "steps") for kind in ("png", "pdf")
}
SPAN = 5.99


def options(*arguments):
    """Options as the command fills them in."""
    return _run.parsed(score_error.STUDY, _run.parser(score_error.STUDY).parse_args(arguments))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("study") / "results"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert score_error.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return out, printed.getvalue()


def test_files_and_rows(tiny):
    out, printed = tiny
    assert {path.name for path in out.iterdir()} == FILES | {"results.sqlite"}
    rows = _panels.read_tables(out, "score_error")[""]
    # Noise that DPM-Solver++ would remember is exact on the Gaussian alone.
    assert len(rows) == 2 * 2 * (2 * 4 * 3 - 1)
    absent = ("two_modes", "noise", "dpmpp_2m_sde")
    assert not [row for row in rows if (row["target"], row["kind"], row["scheme"]) == absent]
    assert {row["epsilon"] for row in rows} == {0.03, 0.1}
    assert all((row["kl_minus"] is None) == (row["kind"] == "noise") for row in rows)
    assert json.loads((out / "score_error.json").read_text(encoding="utf-8"))["options"]["steps"] == [8, 16]
    for kind in ("noise", "relative", "model", "wave_1"):
        assert f"\n{kind}: mean KL − KL_0 ~ ε^p" in printed
    assert "KL of the worse sign against KL_0 + (T − δ)ε²" in printed


def test_rows_agree_with_kl_of_the_target_itself(tiny):
    rows = _panels.read_tables(tiny[0], "score_error")[""]
    target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    for row in rows:
        if row["target"] != "two_modes" or row["epsilon"] != 0.1 or row["kind"] == "model":
            continue
        tableau = sv.schemes.SCHEMES[row["scheme"]](sv.schedules.exponential(6.0, 0.01, row["steps"]))
        a = row["parameter"]
        found = {
            "noise": lambda t=tableau, a=a: sv.kl(
                target, perturbed.noisy(t, lambda times: a / np.sqrt(1.0 - np.exp(-2.0 * times)))
            ),
            "relative": lambda t=tableau, a=a: sv.kl(target, perturbed.relative(t, a)),
            "wave_1": lambda t=tableau, a=a: sv.kl(target, t, score=perturbed.Wavy(target, a, 1.0, 0.7)),
        }[row["kind"]]()
        assert row["kl_plus"] == pytest.approx(found.value, abs=2.0 * found.error + row["excess_error"])
        assert row["kl"] == pytest.approx(sv.kl(target, tableau).value, rel=1e-6)
        mean = row["kl_plus"] if row["kl_minus"] is None else 0.5 * (row["kl_plus"] + row["kl_minus"])
        assert row["excess"] == pytest.approx(mean - row["kl"], rel=1e-12)
        assert row["girsanov"] == pytest.approx(SPAN * 0.01)


@pytest.mark.parametrize("name", score_error.TARGETS)
def test_every_kind_has_the_size_that_it_says(name):
    """By another rule for the integral over time: Gauss–Legendre in log t below 1, and in t above."""
    target = score_error.TARGETS[name]
    points, weights = np.polynomial.legendre.leggauss(16)
    low, half = np.log(0.01), -0.5 * np.log(0.01)
    early = np.exp(low + half * (points + 1.0))
    times, shares = np.append(early, 3.5 + 2.5 * points), np.append(half * weights * early, 2.5 * weights) / SPAN
    for kind, size in [(kind, 0.1) for kind in score_error.KINDS] + [("model", -0.1), ("wave_4", -0.1)]:
        a = score_error._parameter(name, kind, size)
        assert a * size > 0.0
        error = {
            "noise": {"noise": lambda times, a=a: a / np.sqrt(1.0 - np.exp(-2.0 * times))},
            "relative": {"relative": a},
            "jacobian": {"slope": a},
            "model": {"score": score_error._model(target, a)},
        }.get(kind) or {"score": perturbed.Wavy(target, a, float(kind[-1]), 0.7)}
        assert shares @ squared_error(target, times, **error) == pytest.approx(0.01, rel=1e-3)


def row(size, kl, plus, minus, **more):
    values = [plus] if minus is None else [plus, minus]
    return {
        "target": "two_modes",
        "kind": "relative" if minus is not None else "noise",
        "scheme": "ddpm",
        "steps": 16,
        "nfe": 16,
        "epsilon": size,
        "parameter": size,
        "kl": kl,
        "kl_error": 0.0,
        "kl_plus": plus,
        "kl_minus": minus,
        "worst": max(values),
        "excess": sum(values) / len(values) - kl,
        "excess_error": 1e-13,
        "girsanov": SPAN * size**2,
    } | more


def quadratic(sizes=(0.001, 0.003, 0.01, 0.03, 0.1), kl=1e-3, c=0.8, kappa=0.5, fourth=2.0, **more):
    """Rows with KL(±ε) = KL_0 ± 2κε√(c KL_0) + c ε² + fourth ε⁴."""
    cross = 2.0 * kappa * sqrt(abs(c) * kl)
    each = [(s, kl + c * s**2 + fourth * s**4, cross * s) for s in sizes]
    return [row(s, kl, mean + tilt, mean - tilt, **more) for s, mean, tilt in each]


def test_a_quadratic_law_is_found():
    (found,) = growth(quadratic(), SPAN)
    assert found["c"] == pytest.approx(0.8, rel=1e-6)
    assert abs(found["c"] - 0.8) <= found["c_error"] < 1e-4
    assert found["kept"] == pytest.approx(0.8 / SPAN, rel=1e-6)
    assert found["interference"] == pytest.approx(0.5, rel=1e-3)
    (found,) = growth(quadratic(sizes=(0.015, 0.02, 0.025, 0.03), fourth=0.0), SPAN)
    # 0.8 ε² + 2·0.5·√(0.8e-3) ε = 1e-3
    root = (sqrt(0.8e-3 + 4.0 * 0.8 * 1e-3) - sqrt(0.8e-3)) / 1.6
    assert found["doubled"] == pytest.approx(root, rel=2e-3)
    assert _score_error_report.growth_in_size(quadratic(fourth=0.0)).value == pytest.approx(2.0, abs=1e-6)


def test_differences_within_their_errors_are_not_used():
    noisy = [each | {"excess_error": 1e-5} for each in quadratic()]
    (found,) = growth(noisy, SPAN)
    assert found["points"] == 2  # 0.8·0.03² is 72 errors, and 0.8·0.01² is 8
    (found,) = growth([each | {"excess_error": 1.0} for each in quadratic()], SPAN)
    assert found["points"] == 0
    assert isnan(found["c"])
    assert isnan(found["interference"])


@pytest.mark.parametrize(
    ("plain", "worst", "expected"),
    [
        (1e-4, [2e-3, 2e-1], 0.01 * (1e-4 / 1.9e-3) ** (1.0 / np.log10(0.1999 / 1.9e-3))),  # below the ladder
        (1e-4, [1.1e-4, 1.1e-3], 0.01 * 10.0**0.5),  # between: added 1e-5 and 1e-3
        (1.0, [1.1, 1.2], nan),  # beyond
        (1e-4, [0.9e-4, 3e-4], 0.1),  # less than KL_0 before
        (1e-4, [3e-4, 1.1e-4], nan),  # not for good
        (1e-4, [float("inf"), float("inf")], nan),
    ],
)
def test_doubled(plain, worst, expected):
    assert doubled(plain, [0.01, 0.1], worst) == pytest.approx(expected, rel=1e-3, nan_ok=True)


def test_leads_over_ddpm_at_equal_evaluations():
    sizes = (0.01, 0.1, 1.0)
    base = [row(s, 1e-2, w, w) for s, w in zip(sizes, (1e-2, 2e-2, 1.0), strict=True)]
    own = [
        row(s, 1e-4, w, w, scheme="srk_third_point", steps=8, nfe=16)
        for s, w in zip(sizes, (1e-4, 1e-2, 2.0), strict=True)
    ]
    (found,) = leads(base + own)
    assert found["evaluations"] == 16
    assert found["lead"] == pytest.approx(100.0)
    assert found["lead_at_largest"] == pytest.approx(0.5)
    assert found["lost"] == pytest.approx(0.1)  # 2e-2 against 1e-2
    assert found["behind"] == pytest.approx(0.1 * 10.0**0.5)  # half-way from 2 to ½
    assert leads(own) == []
    (other,) = leads([*base, *[each | {"worst": 1e-9} for each in own]])
    assert isnan(other["lost"])
    assert isnan(other["behind"])
    assert _score_error_growth._falls(100.0, [0.1, 1.0], [1.5, 0.5], 2.0) == 0.1  # lost before the ladder begins


def test_the_exponent_in_steps_and_a_change_of_sign():
    rows = [
        each
        for steps in (16, 32, 64)
        for each in quadratic(c=0.8 * (16 / steps) ** 2, fourth=0.0, steps=steps, nfe=steps)
    ]
    found = _score_error_report.growth_in_steps(rows)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-6)
    mixed = [*quadratic(), *quadratic(sizes=(0.3,), c=-0.8, kappa=0.0, fourth=0.0)]
    assert isnan(_score_error_report.growth_in_size(mixed).value)


def test_the_report_says_what_the_rows_say():
    rows = [
        *quadratic(),
        *[row(s, 1e-3, 1e-3 - 1e-2 * s**2, None) for s in (0.01, 0.1)],
        *quadratic(scheme="srk", kl=1e-5),
    ]
    said = _score_error_report.report(score_error.fold(rows, options()), options())
    text = "\n".join(said.verdict)
    above = [each for each in rows if each["worst"] > each["kl"] + each["girsanov"] + each["excess_error"]]
    assert f"above the sum in {len(above)} of {len(rows)} cases" in text
    assert "relative: mean KL − KL_0 ~ ε^p, p = 2.0" in text
    assert f"{100 * 0.8 / SPAN:.3g}% at K = 16" in text
    assert "|κ| ≤ 0.50" in text
    assert "Least KL there: srk on two_modes." in text
    for table in said.tables:
        assert all(len(line) == len(table.header) for line in table.rows)


@pytest.mark.parametrize("rows", [[], quadratic()[:1], [row(0.1, float("inf"), float("inf"), float("inf"))]])
def test_few_rows_or_none_are_no_trouble(rows):
    rows = [each | {"excess": nan} if each["kl"] == float("inf") else each for each in rows]
    tables = score_error.fold(rows, options())
    assert _score_error_report.report(tables, options()).verdict
    if not any(each["kl"] < 1.0 for each in rows):
        with pytest.raises(ValueError, match="rows must hold"):
            figure.draw(tables)


def test_figures_from_memory_and_from_csv(tiny):
    out, _ = tiny
    tables = _panels.read_tables(out, "score_error")
    again = score_error.fold(tables[""], options(*TINY))
    for each in (tables, again):
        figures = figure.draw(each)
        assert set(figures) == {"score_error_growth", "score_error_kl", "score_error_steps"}
        panels = [axes.get_title(loc="left") for axes in figures["score_error_kl"].axes]
        assert panels[:4] == ["i.i.d. noise", "relative error, (1 ± a) s", "wrong mixture", "waves, ω = 1/σ$_t$"]
    with open(out / "score_error_growth.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(again["_growth"])


def test_an_unstable_sampler_is_infinite(monkeypatch):
    def blown_up(*_, **__):
        raise ValueError("steps: ddpm with 2 steps spreads over more grid points")

    monkeypatch.setattr(score_error, "block_kl", blown_up)
    rows = score_error.solve(score_error.Cell("two_modes", "relative", "ddpm", 2, (0.1,)))
    assert rows[0]["worst"] == float("inf")
    assert isnan(rows[0]["excess"])
    monkeypatch.setattr(score_error, "block_kl", lambda *_, **__: (_ for _ in ()).throw(ValueError("else")))
    with pytest.raises(ValueError, match="else"):
        score_error.solve(score_error.Cell("two_modes", "relative", "ddpm", 2, (0.1,)))


def test_wrong_arguments_and_costs(capsys):
    with pytest.raises(SystemExit) as stopped:
        score_error.main(["--kinds=wave_3"])
    assert stopped.value.code == 2
    assert "kind must be one of noise, relative, jacobian, model, wave_1" in capsys.readouterr().err
    grid = score_error.cells(options())
    assert len(grid) == 3 * 6 * 7 * 4 - 2 * 2 * 4  # memory and noise on mixtures
    assert all(cell.cost > 0.0 for cell in grid)
    assert len(set(grid)) == len(grid)

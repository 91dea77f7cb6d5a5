import contextlib
import io
import json
from math import isnan, nan

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, the extra 'torch'", exc_type=ImportError)
pytest.importorskip("sklearn", reason="needs scikit-learn, the extra 'images'", exc_type=ImportError)

import srkverify as sv
from figures import _panels
from figures import learned_score as figure
from srkverify.divergence import score_errors
from srkverify.score import Score
from studies import _learned_score_network as network
from studies import _learned_score_report, _run, _study, learned_score
from studies._learned_score_report import added, networks

TINY = [
    "--training=5,40",
    "--width=16",
    "--schemes=ddpm,srk",
    "--steps=4,8",
    "--shares=0.5",
    "--paths=256",
    "--points=8",
]
TABLES = ("", "_networks", "_errors", "_samples")
FILES = {f"learned_score{end}" for end in [f"{table}.csv" for table in TABLES] + [".json"]} | {
    f"learned_score_{view}.{kind}" for view in ("errors", "kl", "added", "samples") for kind in ("png", "pdf")
}


def options(*arguments):
    """Options as the command fills them in."""
    return _run.parsed(learned_score.STUDY, _run.parser(learned_score.STUDY).parse_args(arguments))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("study") / "results"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert learned_score.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return out, printed.getvalue()


def test_files_and_rows(tiny):
    out, printed = tiny
    assert {path.name for path in out.iterdir()} == FILES | {"results.sqlite"}
    tables = _panels.read_tables(out, "learned_score")
    assert set(tables) == set(TABLES)
    scores = [(row["training"], row["share"]) for row in tables[""] if (row["scheme"], row["steps"]) == ("srk", 4)]
    assert sorted(scores) == [(0, 1.0), (5, 1.0), (40, 0.5), (40, 1.0)]
    assert len(tables[""]) == 4 * 2 * 2
    assert [row["training"] for row in tables["_networks"]] == [0, 5, 40]
    assert len(tables["_samples"]) == 3 * 10
    assert all(len(row["pixels"].split()) == 64 for row in tables["_samples"])
    assert json.loads((out / "learned_score.json").read_text(encoding="utf-8"))["options"]["training"] == [5, 40]
    for text in ("DDPM: what the score adds is", "With 0.5 of the error", "Least KL of paths at K = 8", "≤"):
        assert text in printed


def test_rows_are_what_they_say(tiny):
    """KL with the exact score from other paths, and DDPM's growth, to 4 standard errors: false alarm 4·10⁻⁴."""
    rows = _panels.read_tables(tiny[0], "learned_score")[""]
    law = network.laws().trained
    (row,) = [row for row in rows if (row["training"], row["scheme"], row["steps"]) == (0, "ddpm", 8)]
    tableau = sv.schemes.ddpm(sv.schedules.exponential(network.HORIZON, network.EARLY_STOP, 8))
    again = sv.kl(law, tableau, "path", score=Score.from_law(law), particles=256, seed=99, progress=False)
    assert abs(again.value - row["kl"]) < 4.0 * np.hypot(again.error, row["kl_error"])
    ddpm = [row for row in rows if row["scheme"] == "ddpm" and row["training"]]
    assert len(ddpm) == 6
    for row in ddpm:
        assert abs(row["added"] - row["of_ddpm"]) < 4.0 * np.hypot(row["added_error"], row["of_ddpm_error"])
    part, whole = ([row for row in ddpm if (row["training"], row["share"]) == (40, share)] for share in (0.5, 1.0))
    for one, other in zip(part, whole, strict=True):
        assert one["added"] == pytest.approx(
            0.25 * other["added"], rel=1e-9
        )  # path by path, with no term of first order
    assert all(row["added"] == 0.0 for row in rows if row["training"] == 0)


def test_training_learns_and_repeats():
    law = network.laws().trained
    grid = sv.schedules.exponential(network.HORIZON, network.EARLY_STOP, 12)
    errors = []
    for steps in (2, 120, 120):
        score = network.trained(law, steps, 64, seed=1)
        errors.append(score_errors(law, score, grid, particles=32).additive.value)
    assert errors[1] == errors[2]
    assert errors[1] < errors[0] - 3.0  # of 62, with standard errors of 0.8
    assert score.law is law


def test_the_loss_is_girsanovs_term():
    """Times are drawn with a density that makes the plain mean of the loss ∫ … dt, up to a constant: its shape."""
    variance, least = 0.3, 0.01
    times = network._times(variance, least)
    assert network.EARLY_STOP < times[0] < times[-1] < network.HORIZON
    signal = np.exp(-2.0 * times) * variance
    spread = 1.0 - (1.0 - least) * np.exp(-2.0 * times)
    density = 1.0 / np.gradient(times)  # of quantiles that are equally spaced
    weight = (signal + spread) / signal  # of |√v ŝ + z|², which is v |ŝ − s|²
    product = density * weight * spread
    np.testing.assert_allclose(product[5:-5] / np.median(product), 1.0, rtol=0.02)


def error_rows(training, seen, unseen, count=50):
    grid = sv.schedules.exponential(5.0, network.EARLY_STOP, count)
    return [
        {
            "training": training,
            "time": float(time),
            "seen": seen(time),
            "seen_error": 0.01 * seen(time),
            "unseen": unseen(time),
            "unseen_error": 0.0,
            "norm": 1.0,
        }
        for time in grid[:-1]
    ]


def test_errors_are_integrated_over_time():
    rows = error_rows(7, lambda t: 1.0 / (0.01 + t), lambda t: 2.0, count=200)
    (found,) = networks(rows)
    assert found["seen"] == pytest.approx(np.log(5.01 / 0.011), rel=2e-3)
    assert found["unseen"] == pytest.approx(2.0 * (5.0 - network.EARLY_STOP), rel=1e-12)
    assert found["unseen_error"] == 0.0
    assert 0.0 < found["seen_error"] < 0.01 * found["seen"]


def row(training, scheme, steps, kl, share=1.0, gap=None, error=0.01):
    return {
        "training": training,
        "share": share,
        "scheme": scheme,
        "steps": steps,
        "nfe": steps,
        "stage_noise": scheme == "srk",
        "paths": 100,
        "kl": kl,
        "kl_error": error,
        "added": gap,
        "added_error": None if gap is None else 0.5 * error,
        "of_ddpm": 0.9,
        "of_ddpm_error": 0.1,
    }


def synthetic():
    """Rows with a term of 2 nats: DDPM adds it, SRK adds 1.5 times that at K = 8, and a tenth of it interferes."""
    return [
        row(0, "ddpm", 4, 10.0, gap=0.0),
        row(0, "ddpm", 8, 5.0, gap=0.0),
        row(0, "srk", 8, 1.0, gap=0.0),
        row(3, "ddpm", 4, 12.0),
        row(3, "ddpm", 8, 7.0),
        row(3, "srk", 8, 4.0),
        row(9, "ddpm", 8, 7.0, gap=2.0),
        row(9, "srk", 8, 4.0, gap=3.0),
        row(9, "ddpm", 8, 5.5, share=0.5, gap=0.5),
        row(9, "srk", 8, 3.0, share=0.5, gap=2.0),
    ]


def test_what_a_score_adds():
    found = networks(error_rows(0, lambda t: 0.0, lambda t: 9.0))
    for training in (3, 9):
        found += networks(error_rows(training, lambda t: 2.0 / (5.0 - network.EARLY_STOP), lambda t: 3.0))
    rows = added(synthetic(), found)
    ratios = {(each["training"], each["share"], each["scheme"], each["steps"]): each["ratio"] for each in rows}
    assert ratios[3, 1.0, "ddpm", 4] == pytest.approx(1.0)
    assert ratios[3, 1.0, "srk", 8] == pytest.approx(1.5)
    assert ratios[9, 0.5, "ddpm", 8] == pytest.approx(1.0)
    assert ratios[9, 0.5, "srk", 8] == pytest.approx(4.0)
    assert ratios[0, 1.0, "ddpm", 4] == 0.0
    (plain,) = [each for each in rows if (each["training"], each["scheme"]) == (3, "srk")]
    assert plain["added_error"] == pytest.approx(0.01 * np.sqrt(2.0))
    said = _learned_score_report.report({"": rows, "_networks": found, "_samples": []}, options())
    text = "\n".join(said.verdict)
    assert "By more than 1.1 at K = 8: srk." in text
    assert "srk 1.50–1.50 ± 0.0" in text
    assert "the ratio is the same, within 95%, for ddpm; discretisation and score error interfere in srk 4.00" in text
    assert "0.5 of the error and 0.25 of the term" in text
    assert (
        "KL of paths is at most 2.00 ± 0.02 times the sum of both terms (srk, K = 8, 9 steps, 0.5 of its error)" in text
    )
    assert "exact: srk, 1.000 ± 0.020 against 5.000 ± 0.020" in text
    for table in said.tables:
        assert all(len(line) == len(table.header) for line in table.rows)


def test_few_rows_or_none_are_no_trouble():
    assert learned_score.fold([], options()) == {"": [], "_networks": [], "_errors": [], "_samples": []}
    assert _learned_score_report.report({}, options()).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="rows must hold at least one cell"):
        figure.draw({})
    # The exact score's cell is missing, or all networks'.
    for part in (synthetic()[3:6], synthetic()[:3]):
        errors = error_rows(part[0]["training"], lambda t: 1.0, lambda t: 1.0)
        raw = [each | {"table": ""} for each in part] + [each | {"table": "_errors"} for each in errors]
        tables = learned_score.fold(raw, options())
        assert _learned_score_report.report(tables, options()).verdict
        assert "learned_score_kl" in figure.draw(tables)
        assert all(isnan(each["ratio"]) == bool(each["training"]) for each in tables[""])
    assert isnan(added(synthetic()[:1], [])[0]["girsanov"])
    assert _learned_score_report._pm(nan, 1.0) == "?"


def test_figures_from_memory_and_from_csv(tiny):
    out, _ = tiny
    tables = _panels.read_tables(out, "learned_score")
    names = {f"learned_score_{view}" for view in ("errors", "kl", "added", "samples")}
    assert set(figure.draw(tables)) == names
    panels = [axes.get_title(loc="left") for axes in figure.draw(tables)["learned_score_kl"].axes]
    assert panels[:4] == ["exact score", "trained 5 steps", "trained 40 steps", "trained 40 steps, 0.5 of the error"]


def test_wrong_arguments_absent_extras_and_costs(capsys, monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        learned_score.main(["--schemes=nothing"])
    assert stopped.value.code == 2
    assert "scheme must be one of" in capsys.readouterr().err
    grid = learned_score.cells(options())
    assert [cell.training for cell in grid] == [300, 2000, 8000]
    assert [cell.shares for cell in grid] == [(1.0,), (1.0,), (1.0, 0.1, 0.0)]
    assert all(cell.cost > 0.0 for cell in grid)
    for package in ("torch", "sklearn"):
        monkeypatch.setattr(_study, "find_spec", lambda name, absent=package: None if name == absent else True)
        with pytest.raises(SystemExit) as stopped:
            learned_score.main([f"--out={tmp_path}"])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"needs {package}, which is not installed: pip install 'srkverify[torch,images]'" in said

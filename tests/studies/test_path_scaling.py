import contextlib
import csv
import io
import json
import re
import subprocess
import sys
from math import inf, isnan

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import path_scaling as figure
from studies import __main__ as listing
from studies import _command, _path_report, _run, path_scaling
from studies._mixtures import FAMILIES, random_mixture
from studies._path_report import assess, ratio
from studies._power_law import fit_power_law

TINY = [
    "--families=product_mixture,diagonal_2",
    "--schemes=ddpm,srk",
    "--dimensions=2,6",
    "--steps=8,16,32",
    "--particles=512",
]
FILES = {"path_scaling.csv", "path_scaling_fits.csv", "path_scaling.json", "results.sqlite"} | {
    f"path_scaling_{view}.{kind}" for view in ("steps", "dimension", "output") for kind in ("png", "pdf")
}


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def options(*arguments):
    """Options as the command fills them in."""
    return _run.parsed(path_scaling.STUDY, _run.parser(path_scaling.STUDY).parse_args(arguments))


def law(
    a, p, *, families=("diagonal_2",), scheme="srk", noise=0.0, output=1e-2, constant=10.0, steps=(16, 32, 64, 128)
):
    """Rows of path KL C d^a K^−p with relative errors ``noise``, and of an output with a share ``output`` of it."""
    generator = np.random.default_rng(5)
    rows = []
    for family in families:
        for d in (4, 16, 64):
            for K in steps:
                truth = constant * d**a * float(K) ** -p
                value = truth * (1.0 + noise * generator.standard_normal())
                numbers = {"dimension": d, "steps": K, "nfe": K, "path_kl": value, "path_error": noise * truth}
                numbers |= {"marginal_kl": output * value, "marginal_error": 0.1 * output * value}
                numbers |= {"standard_error": 0.1 * output * value, "exact_kl": None, "exact_error": None}
                named = {"family": family, "scheme": scheme, "bound": "upper", "doubts": "", "note": ""}
                rows.append(named | numbers)
    return rows


def joint(rows, window="all", quantity="path"):
    (fit,) = (f for f in path_scaling.fits(rows) if (f["window"], f["quantity"]) == (window, quantity))
    return fit


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("paths") / "new"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert path_scaling.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


def test_every_cell_has_a_row_with_errors(tiny):
    out, _ = tiny
    rows = read(out / "path_scaling.csv")
    assert {path.name for path in out.iterdir()} == FILES
    assert len(rows) == 2 * 2 * 2 * 3
    for row in rows:
        assert float(row["path_error"]) > 0.0
        assert float(row["marginal_error"]) > 0.0
        assert (row["marginal_error"] == "inf") == bool(row["doubts"])
        assert int(row["starts"]) * int(row["inner"]) == 512
        assert row["bound"] == ("upper" if row["scheme"] == "srk" else "exact")
        assert (row["exact_kl"] != "") == (row["family"] == "product_mixture")
        assert row["note"] == ""


def test_estimates_agree_with_what_is_known(tiny):
    out, _ = tiny
    rows = [row for row in read(out / "path_scaling.csv") if row["family"] == "product_mixture" and not row["doubts"]]
    assert rows
    for row in rows:
        value, error, exact = (float(row[key]) for key in ("marginal_kl", "marginal_error", "exact_kl"))
        assert abs(value - exact) < 5.0 * error
        # The output is a function of the path.
        assert exact < float(row["path_kl"]) + 4.0 * float(row["path_error"])


def test_a_row_is_what_kl_says_of_the_cell(tiny):
    out, _ = tiny
    row = next(r for r in read(out / "path_scaling.csv") if (r["family"], r["scheme"]) == ("diagonal_2", "ddpm"))
    cell = path_scaling.Cell("diagonal_2", "ddpm", int(row["dimension"]), int(row["steps"]), 512, 0.1, 0)
    tableau = sv.schemes.ddpm(sv.schedules.exponential(6.0, 0.01, cell.steps))
    seed = cell.own_seed("run")
    found = sv.kl(random_mixture(2, 2, full=False), tableau, "path", particles=512, seed=seed, inner=path_scaling.INNER)
    assert float(row["path_kl"]) == pytest.approx(found.path_kl, rel=1e-12)


def test_rows_do_not_depend_on_the_rest_of_the_grid(tiny):
    out, _ = tiny
    known = {(r["scheme"], r["dimension"]): r for r in read(out / "path_scaling.csv") if r["family"] == "diagonal_2"}
    grid = path_scaling.cells(options(*TINY, "--families=diagonal_2", "--schemes=srk", "--steps=32"))
    assert len(grid) == 2
    for cell in grid:
        (row,) = path_scaling.solve(cell)
        assert repr(row["path_kl"]) == known["srk", str(cell.dimension)]["path_kl"]


def test_seeds_are_the_cells_own_and_do_not_change_with_what_is_spent():
    grid = path_scaling.cells(options())
    assert len({cell.own_seed("run") for cell in grid}) == len(grid)
    cell = path_scaling.Cell("diagonal_2", "srk", 4, 64, None, 0.1, 0)
    assert cell.own_seed("run") == path_scaling.Cell("diagonal_2", "srk", 4, 64, 512, 5.0, 0).own_seed("run")
    assert cell.own_seed("run") != cell.own_seed("pilot")
    assert cell.own_seed("run") != path_scaling.Cell("diagonal_2", "srk", 4, 64, None, 0.1, 1).own_seed("run")


def test_fits_metadata_and_report_are_kept(tiny):
    out, printed = tiny
    fits = read(out / "path_scaling_fits.csv")
    assert len(fits) == 2 * 2 * 2 * 2
    ddpm = next(row for row in fits if (row["family"], row["scheme"]) == ("diagonal_2", "ddpm"))
    assert float(ddpm["a_low"]) < float(ddpm["a"]) < float(ddpm["a_high"])
    assert (float(ddpm["theorem_d"]), float(ddpm["theorem_eps"])) == (1.0, 2.0)
    record = json.loads((out / "path_scaling.json").read_text(encoding="utf-8"))
    assert record["options"]["dimensions"] == [2, 6]
    assert record["versions"]["numpy"]
    said = _path_report.report(_panels.read_tables(out, "path_scaling"), options())
    for table in said.tables:
        text = _command.table(table.header, table.rows, table.left)
        assert text in printed
        assert max(map(len, text.splitlines())) <= 110
    for words in (
        "ddpm, bound d/ε^2",
        "srk, bound d^1.5/ε:",
        "DDPM against SRK",
        "KL of the output over that of paths",
    ):
        assert words in printed


def test_the_budget_decides_where_particles_are_not_given(monkeypatch):
    asked = []

    def kl(target, tableau, method, *, particles, inner, **_):
        asked.append(particles)
        return type("Found", (), {"path_kl": 0.01, "path_error": np.sqrt(0.02 / (particles // inner))})()

    monkeypatch.setattr(path_scaling.sv, "kl", kl)

    def estimated(budget):
        return path_scaling.estimate(path_scaling.Cell("diagonal_2", "srk", 4, 64, None, budget, 0), None, None)

    estimated(1e9)
    # Variance 2 KL a path: a relative error of 4% needs 2/(0.04² KL) starts.
    assert asked[1] == pytest.approx(path_scaling.INNER * 2.0 / (0.04**2 * 0.01), rel=1e-3)
    estimated(1000.5 * path_scaling.Cell("diagonal_2", "srk", 4, 64, None, 1.0, 0).a_start)
    assert asked[3] == 1000 * path_scaling.INNER
    estimated(1e-9)
    assert len(asked) == 5  # no pilot where more could not be had
    assert asked[4] >= 32 * path_scaling.INNER


@pytest.mark.parametrize(("a", "p"), [(1.0, 1.0), (1.0, 2.0), (0.5, 4.0)])
def test_known_exponents_are_found(a, p):
    rows = law(a, p, noise=0.02)
    fit = joint(rows)
    for name, truth in (("a", a), ("p", p), ("cost_d", a / p), ("cost_eps", 2.0 / p)):
        assert fit[f"{name}_low"] < truth < fit[f"{name}_high"]
        assert fit[f"{name}_high"] - fit[f"{name}_low"] < 0.15
    assert fit["scatter"] < 0.02
    assert fit["points"] == 12
    assert joint(rows, quantity="marginal")["p"] == pytest.approx(p, abs=0.1)


def test_intervals_have_their_coverage():
    generator = np.random.default_rng(11)
    d, steps = (grid.ravel() for grid in np.meshgrid([4.0, 16.0, 64.0], [16.0, 32.0, 64.0, 128.0]))
    errors = 0.02 + 0.1 * steps / 128.0
    inside = 0
    for _ in range(300):
        values = d / steps * np.exp(errors * generator.standard_normal(len(d)))
        found = fit_power_law(d, steps, values, errors * values).steps
        inside += found.low < 1.0 < found.high
    assert 0.90 < inside / 300 < 0.995


def test_curvature_widens_the_intervals_and_shows_as_scatter():
    straight, curved = law(1.0, 2.0, noise=0.005), law(1.0, 2.0, noise=0.005)
    for row in curved:
        row["path_kl"] *= 1.0 + 20.0 / row["steps"]
    first, second = joint(straight), joint(curved)
    assert second["scatter"] > 0.03 > first["scatter"]
    assert second["p_high"] - second["p_low"] > 3.0 * (first["p_high"] - first["p_low"])
    assert abs(joint(curved, "upper half")["p"] - 2.0) < abs(second["p"] - 2.0)


def test_noisy_points_count_little_and_doubtful_ones_not_at_all():
    rows = law(1.0, 2.0, noise=0.01)
    for row in rows:
        if row["steps"] == 128:
            row["path_kl"], row["path_error"] = -row["path_kl"], 2.0 * row["path_kl"]
            row["marginal_error"] = inf
    for quantity in ("path", "marginal"):
        fit = joint(rows, quantity=quantity)
        assert (fit["points"], fit["left_out"]) == (9, 3)
        assert fit["p"] == pytest.approx(2.0, abs=0.2)


def test_too_few_points_give_no_exponent():
    fit = joint(law(1.0, 2.0, noise=0.01, steps=(16,)))
    assert isnan(fit["p"])
    assert isnan(fit["cost_eps"])
    assert fit["a"] == pytest.approx(1.0, abs=0.1)
    assert isnan(fit_power_law([], [], [], []).steps.value)
    exact = fit_power_law([1.0, 10.0, 1.0], [8.0, 8.0, 16.0], [1.0, 10.0, 0.25], [0.0, 0.0, 0.0])
    assert exact.steps.value == pytest.approx(2.0)
    assert isnan(exact.steps.low)


@pytest.mark.parametrize(
    ("scheme", "a", "p", "expected"),
    [
        ("ddpm", 1.0, 1.0, "yes"),
        ("ddpm", 0.9, 1.1, "yes"),
        ("ddpm", 1.05, 0.93, "log"),
        ("ddpm", 1.0, 0.5, "steep"),
        ("ddpm", 2.0, 1.0, "no"),
        ("srk", 1.0, 2.0, "yes"),
        ("srk", 1.0, 1.0, "steep"),
        ("srk", 4.5, 2.0, "no"),
    ],
)
def test_the_verdict_follows_the_data(scheme, a, p, expected):
    rows = law(a, p, scheme=scheme, noise=0.002, steps=(64, 128, 256))
    found = assess(rows, joint(rows, "upper half"))
    assert found.verdict == expected
    if (scheme, p) == ("srk", 2.0) and a == 1.0:
        assert found.slack == pytest.approx(16.0, rel=0.05)  # d^{3/2} against d^{1/2} from d = 4 to 64


def test_a_verdict_without_exponents_says_so():
    rows = law(1.0, 2.0, noise=0.01, steps=(16,))
    assert assess(rows, joint(rows, "upper half")).verdict == "points"
    assert assess(rows[:1], joint(rows)).verdict == "–"
    assert assess([], None).verdict == "–"


@pytest.mark.parametrize(("p", "words"), [(2.0, "is seen"), (1.0, "is not seen")])
def test_the_separation_is_said_to_be_seen_only_where_it_is(p, words):
    rows = law(1.0, 1.0, scheme="ddpm", noise=0.01) + law(1.0, p, noise=0.01)
    said = _path_report.report(path_scaling.fold(rows, options()), options()).verdict
    assert f"1/K against 1/K², {words} in the KL of paths" in " ".join(said)


def test_the_ratio_uses_the_exact_kl_and_is_left_out_where_unknown():
    (row, *_) = law(1.0, 1.0, noise=0.01)
    assert ratio(row)[0] == pytest.approx(0.01)
    assert ratio({**row, "exact_kl": 0.5 * row["path_kl"], "exact_error": 0.0})[0] == pytest.approx(0.5)
    assert ratio({**row, "marginal_error": inf}) is None
    assert ratio({**row, "marginal_kl": -1e-3}) is None
    assert ratio({**row, "path_kl": None}) is None


def test_random_mixtures_are_the_same_again_and_grow_by_coordinates():
    for full in (False, True):
        first, again = random_mixture(10, 8, full=full), random_mixture(10, 8, full=full)
        assert first.means.tobytes() == again.means.tobytes()
        assert (first.variances >= 0.1 - 1e-12).all()
        assert (first.variances <= 0.5 + 1e-12).all()
        assert (first.bases is not None) == full
        larger = random_mixture(10, 32, full=full)
        np.testing.assert_allclose(2.0 * larger.means[:, :8], first.means, rtol=1e-14)
        np.testing.assert_array_equal(larger.weights, first.weights)
    distances = np.square(larger.means[:, None] - larger.means[None]).sum(axis=2)
    assert distances.sum() / (10 * 9) == pytest.approx(9.0, rel=0.15)


def test_every_family_has_targets_in_its_dimensions():
    for name, family in FAMILIES.items():
        target = family.target(family.dimensions[0])
        assert target.dimension == family.dimensions[0], name
        assert family.microseconds(64) >= family.microseconds(4) > 0.0


def test_rows_survive_a_figure_that_fails(tiny, tmp_path, monkeypatch, capsys):
    def broken(tables):
        raise OSError("no space left on device")

    out, _ = tiny
    monkeypatch.setattr(figure, "draw", broken)
    with pytest.raises(SystemExit) as stopped:
        path_scaling.main([*TINY, f"--out={tmp_path}", f"--store={out / 'results.sqlite'}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert read(tmp_path / "path_scaling.csv") == read(out / "path_scaling.csv")


def test_cells_that_are_missing_leave_the_others_and_their_fits(tiny):
    rows = [row for row in _panels.read_tables(tiny[0], "path_scaling")[""] if row["scheme"] == "ddpm"][1:]
    folded = path_scaling.fold(rows, options())
    assert {fit["scheme"] for fit in folded["_fits"]} == {"ddpm"}
    assert "ddpm, bound d/ε^2" in " ".join(_path_report.report(folded, options()).verdict)
    nothing = path_scaling.fold([], options())
    assert _path_report.report(nothing, options()).verdict == ["No cell is done."]
    with pytest.raises(ValueError, match="rows must hold at least one cell"):
        figure.draw(nothing)


def test_cells_without_an_estimate_are_said_to_be_so(monkeypatch):
    def refused(*_, **__):
        raise ValueError("tableau must have an output law whose density double precision holds")

    monkeypatch.setattr(path_scaling.sv, "kl", refused)
    settings = ["--families=diagonal_2", "--schemes=ddpm", "--dimensions=2,3", "--steps=8", "--particles=256"]
    rows = [row for cell in path_scaling.cells(options(*settings)) for row in path_scaling.solve(cell)]
    assert [row["path_kl"] for row in rows] == [None, None]
    assert "double precision" in rows[0]["note"]
    said = " ".join(_path_report.report(path_scaling.fold(rows, options()), options()).verdict)
    assert "No estimate in 2 of 2 cells, first diagonal_2, ddpm, d = 2, K = 8" in said
    assert "too few cells" in said


def test_cells_say_what_they_cost_roughly():
    grid = path_scaling.cells(options())
    assert 100.0 < sum(cell.cost for cell in grid) < 400.0  # 180 processor seconds where this was written
    (cell,) = path_scaling.cells(
        options("--families=full_2", "--schemes=srk", "--dimensions=4", "--steps=8", "--particles=800")
    )
    assert cell.cost == pytest.approx(800 / path_scaling.INNER * cell.a_start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families=diagonal_3"], "argument --families: family must be one of .*; got 'diagonal_3'"),
        (["--schemes=srk,dpm"], "argument --schemes: scheme must be one of .*; got 'dpm'"),
        (["--dimensions=0"], "argument --dimensions: dimension must be an integer >= 1 and <= 1000; got '0'"),
        (["--steps=1"], "argument --steps: steps must be an integer >= 2 .* got '1'"),
        (["--particles=7"], "argument --particles: particles must be an integer >= .* got '7'"),
        (["--particles=31"], "argument --particles: particles must be an integer >= 32 .* got '31'"),
        (["--budget=0"], "argument --budget: budget must be a finite number.* > 0; got '0'"),
        (["--seed=-1"], "argument --seed: seed must be an integer >= 0 .* got '-1'"),
        (["--epsilons=1"], "unrecognized arguments: --epsilons=1"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        path_scaling.main([f"--out={tmp_path}", *arguments])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err), captured.err


def test_errors_of_the_command_itself(tmp_path):
    command = [sys.executable, "-m", "studies.path_scaling", "--steps=two", f"--out={tmp_path}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("python -m studies.path_scaling: error: argument --steps: steps must be")


def test_help_has_examples_and_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        path_scaling.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("families", "schemes", "dimensions", "steps", "particles", "budget", "seed", "out", "quick"):
        assert f"--{option}" in text
    assert "example:" in text


def test_the_study_is_listed(capsys):
    assert listing.main([]) == 0
    assert re.search(r"^path_scaling +Does the bound hold for the KL of paths", capsys.readouterr().out, re.M)

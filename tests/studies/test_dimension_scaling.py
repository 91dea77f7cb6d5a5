import contextlib
import csv
import io
import json
import re
import subprocess
import sys

import pytest

import srkverify as sv
from figures import _panels
from figures import dimension_scaling as figure
from srkverify.divergence import Divergence, reduce
from srkverify.targets.families import family
from studies import __main__ as listing
from studies import _command, _kl_table, _run, _scaling_report, dimension_scaling
from studies._kl_table import KLTable, score_evaluations

TINY = [
    "--families=product_mixture,gaussian_decaying",
    "--schemes=ddpm,srk,srk_third_point",
    "--dimensions=1,16,1e3",
    "--epsilons=0.3,0.1",
    "--ladder=4,8,16,32,64",
    "--exact-up-to=32",
]
FILES = {
    "dimension_scaling.csv",
    "dimension_scaling_curves.csv",
    "dimension_scaling_fits.csv",
    "dimension_scaling.json",
    "results.sqlite",
    "dimension_scaling_dimension.png",
    "dimension_scaling_dimension.pdf",
    "dimension_scaling_accuracy.png",
    "dimension_scaling_accuracy.pdf",
}


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def options(*arguments):
    """Options as the command fills them in."""
    return _run.parsed(dimension_scaling.STUDY, _run.parser(dimension_scaling.STUDY).parse_args(arguments))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("study") / "new" / "results"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert dimension_scaling.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


def test_every_cell_has_a_row_with_its_interval(tiny):
    out, _ = tiny
    rows = read(out / "dimension_scaling.csv")
    assert len(rows) == 2 * 3 * 3 * 2
    for row in rows:
        steps, low, high = (int(row[key]) for key in ("steps", "steps_low", "steps_high"))
        assert 1 <= low <= steps <= high
        assert row["how"] in ("exact", "interpolated", "extrapolated")
        assert int(row["nfe"]) == steps * (2 if row["scheme"] == "srk_third_point" else 1)
        assert float(row["kl"]) <= float(row["epsilon"]) ** 2 + float(row["kl_error"])
        assert row["note"] == ""
    assert {row["how"] for row in rows} == {"exact", "interpolated", "extrapolated"}


def test_rows_agree_with_kl_of_the_target_itself(tiny):
    out, _ = tiny
    for row in read(out / "dimension_scaling.csv"):
        d, steps, epsilon = int(row["dimension"]), int(row["steps"]), float(row["epsilon"])
        if row["how"] == "extrapolated" or d == 1000:
            continue
        entry, scheme = family(row["family"]), sv.schemes.scheme(row["scheme"])

        def kl(steps, entry=entry, scheme=scheme, d=d):
            times = sv.schedules.exponential(entry.horizon(d), entry.early_stop(d), steps)
            return sv.kl(entry.target(d), scheme(times)).value

        assert kl(int(row["steps_high"])) <= epsilon**2
        if steps > 1:
            assert kl(int(row["steps_low"]) - 1) > epsilon**2


def test_curves_fits_and_metadata_are_kept(tiny):
    out, _ = tiny
    curves, fits = read(out / "dimension_scaling_curves.csv"), read(out / "dimension_scaling_fits.csv")
    assert {row["steps"] for row in curves} >= {"16", "32", "64"}
    assert len(fits) == 2 * 3 * 2 * 4
    ddpm = next(row for row in fits if (row["family"], row["scheme"]) == ("product_mixture", "ddpm"))
    assert float(ddpm["exponent"]) == pytest.approx(0.5, abs=0.05)
    assert float(ddpm["low"]) < float(ddpm["exponent"]) < float(ddpm["high"])
    record = json.loads((out / "dimension_scaling.json").read_text(encoding="utf-8"))
    assert record["options"]["dimensions"] == [1, 16, 1000]
    assert record["versions"]["numpy"]


def test_the_report_has_tables_that_fit_and_a_verdict_for_each_scheme(tiny):
    out, printed = tiny
    said = _scaling_report.report(_panels.read_tables(out, "dimension_scaling"), options())
    for table in said.tables:
        text = _command.table(table.header, table.rows, table.left)
        assert text in printed
        assert max(map(len, text.splitlines())) <= 110
    for scheme, bound in (("ddpm", "d/ε^2"), ("srk", "d^1.5/ε"), ("srk_third_point", "d^1.5/ε (the theorem on SRK)")):
        assert f"\n{scheme}, bound {bound}: respected on 2 of 2 families" in printed
    assert "SRK against DDPM" in printed
    assert "DDPM/this" in printed


def test_a_second_run_says_the_same_and_leaves_nothing_else(tiny, tmp_path):
    out, _ = tiny
    assert {path.name for path in out.iterdir()} == FILES
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert dimension_scaling.main([*TINY, f"--out={out}", f"--store={tmp_path / 'empty.sqlite'}"]) == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(after) == FILES
    assert all(before[name] == after[name] for name in FILES if name.endswith((".csv", ".png", ".pdf")))


def test_rows_do_not_depend_on_the_rest_of_the_grid(tiny):
    out, _ = tiny
    known = _panels.read_tables(out, "dimension_scaling")[""]
    names = ("product_mixture", "srk_third_point")
    (cell,) = dimension_scaling.cells(options(*TINY, "--families=product_mixture", "--schemes=srk_third_point"))
    again = dimension_scaling.fold(dimension_scaling.solve(cell), options())[""]
    assert [(row["steps"], row["kl"]) for row in again] == [
        (row["steps"], row["kl"]) for row in known if (row["family"], row["scheme"]) == names
    ]


def test_rows_survive_a_figure_that_fails(tiny, tmp_path, monkeypatch, capsys):
    def broken(tables):
        raise OSError("no space left on device")

    out, _ = tiny
    monkeypatch.setattr(figure, "draw", broken)
    with pytest.raises(SystemExit) as stopped:
        dimension_scaling.main([*TINY, f"--out={tmp_path}", f"--store={out / 'results.sqlite'}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert read(tmp_path / "dimension_scaling.csv") == read(out / "dimension_scaling.csv")


def test_cells_that_are_missing_leave_the_others_and_their_fits(tiny):
    tables = _panels.read_tables(tiny[0], "dimension_scaling")
    left = [row for row in tables[""] if row["scheme"] == "srk"]
    folded = dimension_scaling.fold([{"kind": "cost", **row} for row in left], options())
    assert folded[""] == left
    assert folded["_curves"] == []
    assert {fit["scheme"] for fit in folded["_fits"]} == {"srk"}
    assert "srk, bound d^1.5/ε: respected" in " ".join(_scaling_report.report(folded, options()).verdict)
    nothing = dimension_scaling.fold([], options())
    assert _scaling_report.report(nothing, options()).verdict == ["No cell is done."]
    with pytest.raises(ValueError, match="rows must hold at least one cell"):
        figure.draw(nothing)


def test_cells_without_an_answer_are_said_to_be_so():
    settings = ["--families=rough", "--schemes=ddpm", "--dimensions=100", "--epsilons=0.1", "--ladder=16"]
    (cell,) = dimension_scaling.cells(options(*settings))
    tables = dimension_scaling.fold(dimension_scaling.solve(cell), options())
    (row,) = tables[""]
    assert (row["steps"], row["how"]) == (None, "none")
    assert "at least 2 stable rungs" in row["note"]
    said = " ".join(_scaling_report.report(tables, options()).verdict)
    assert "No answer in 1 of 1 cells" in said
    assert "too few cells" in said


def test_cells_say_what_they_cost_roughly():
    costs = {(cell.family, cell.scheme): cell.cost for cell in dimension_scaling.cells(options())}
    assert len(costs) == 30
    # 13 processor seconds where this was written, the dearest cell 1.6 of them.
    assert 10.0 < sum(costs.values()) < 30.0
    assert max(costs, key=costs.get)[0] in ("rough", "two_point_growing")
    assert min(costs, key=costs.get)[1] in ("ddpm", "exponential_euler")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families=product_mixtur"], "argument --families: family must be one of .* did you mean 'product_mixture'"),
        (["--schemes=srk,dpm"], "argument --schemes: scheme must be one of .*; got 'dpm'"),
        (["--dimensions=1,0"], "argument --dimensions: dimension must be an integer >= 1 and <= 1000000; got '0'"),
        (["--dimensions=1.5"], "argument --dimensions: .* got '1.5'"),
        (["--dimensions=ten"], "argument --dimensions: .* got 'ten'"),
        (["--epsilons=0"], "argument --epsilons: epsilon must be a finite number.* > 0 and < 1; got '0'"),
        (["--epsilons=1"], "argument --epsilons: .* < 1; got '1'"),
        (["--epsilons=nan"], "argument --epsilons: .* got 'nan'"),
        (["--ladder=0,4"], "argument --ladder: steps must be an integer >= 1"),
        (["--exact-up-to=-1"], "argument --exact-up-to: steps must be an integer >= 0"),
        (["--horizon=0.005"], "argument --horizon: horizon must be > the early stop, 0.01 for .*; got 0.005"),
        (["--early-stop=-1"], "argument --early-stop: early stop must be a finite number.* > 0; got '-1'"),
        (["--dimension=1"], "unrecognized arguments: --dimension=1"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        dimension_scaling.main([f"--out={tmp_path}", *arguments])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err), captured.err


def test_an_output_that_is_a_file_is_refused_before_anything_is_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_run, "run", lambda *_: pytest.fail("computed"))
    taken = tmp_path / "file"
    taken.write_text("mine")
    for out in (taken, taken / "below"):
        with pytest.raises(SystemExit) as stopped:
            dimension_scaling.main([f"--out={out}"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "--out must be a directory, existing or new, that can be written to; got" in error
    assert taken.read_text() == "mine"


def test_errors_of_the_command_itself(tmp_path):
    command = [sys.executable, "-m", "studies.dimension_scaling", "--epsilons=2", f"--out={tmp_path}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("python -m studies.dimension_scaling: error: argument --epsilons: epsilon must be")
    assert line.endswith("got '2'")


def test_help_has_an_example_and_every_grid(capsys):
    with pytest.raises(SystemExit) as stopped:
        dimension_scaling.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("families", "schemes", "dimensions", "epsilons", "ladder", "horizon", "early-stop", "out", "quick"):
        assert f"--{option}" in text
    assert "example:" in text


def test_the_list_of_studies_has_one_line_each(capsys):
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("dimension_scaling  Does SRK's bound") for line in lines)
    assert len(lines) == len(list(listing.studies()))


def test_copies_and_dimensions_share_their_blocks(monkeypatch):
    computed = []

    def counted(block, tableau, **_):
        computed.append(block)
        return Divergence(1.0, 0.1, "quadrature")

    monkeypatch.setattr(_kl_table, "block_kl", counted)
    table = KLTable()
    for name, d in (("product_mixture", 3), ("product_mixture", 500), ("low_rank", 4)):
        found = table.kl(reduce(family(name).target(d)), "srk", 6.0, 0.01, 8)
        assert found.value == pytest.approx(d)
    assert len(computed) == 1
    table.kl(reduce(family("two_point").target(7)), "srk", 6.0, 0.01, 8)
    table.kl(reduce(family("two_point").target(7000)), "srk", 6.0, 0.01, 8)
    assert len(computed) == 4  # one mixture, and Gaussian directions in two numbers


def test_a_sampler_that_blows_up_has_infinite_kl():
    found = KLTable().kl(reduce(family("rough").target(100_000)), "ddpm", 6.0, 1e-7, 1)
    assert found.value == float("inf")


@pytest.mark.parametrize(
    ("scheme", "horizon", "expected"),
    [
        ("ddpm", 6.0, (1, 0)),
        ("srk_third_point", 6.0, (2, 0)),
        ("srk_third_point_1", 6.0, (1, 1)),
        ("srk_third_order", 6.0, (1, 0)),
        ("srk_third_order", 2.0, (1, 1)),
    ],
)
def test_score_evaluations_are_read_off_the_tableau(scheme, horizon, expected):
    assert score_evaluations(scheme, horizon) == expected


def synthetic(a, b, family="product_mixture", scheme="srk"):
    """Rows of a cost 100 d^a (1/ε)^b, with their fits."""
    rows = [
        {
            "family": family,
            "scheme": scheme,
            "dimension": d,
            "epsilon": epsilon,
            "steps": round(100 * d**a * epsilon**-b),
            "nfe": round(100 * d**a * epsilon**-b),
        }
        for d in (1, 10, 100)
        for epsilon in (0.3, 0.1)
    ]
    return rows, [fit for fit in dimension_scaling.fits(rows) if fit["cost"] == "steps"]


@pytest.mark.parametrize(
    ("a", "b", "verdict"), [(0.5, 1.0, "yes"), (1.5, 0.5, "yes"), (2.0, 1.0, "no"), (0.5, 1.3, "grid")]
)
def test_the_verdict_follows_the_data(a, b, verdict):
    rows, fits = synthetic(a, b)
    found = _scaling_report.assess(rows, fits)
    assert found.verdict == verdict
    if (a, b) == (0.5, 1.0):
        assert found.slack == pytest.approx(100.0, rel=0.02)  # d^{3/2} against d^{1/2} at d = 100

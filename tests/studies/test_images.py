import base64
import contextlib
import csv
import io
from math import inf, isinf, nan

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, the extra 'images'", exc_type=ImportError)
pytest.importorskip("mlxtend", reason="needs mlxtend, the extra 'images'", exc_type=ImportError)

import srkverify as sv
from figures import _panels
from figures import images as figure
from studies import _images_report, _run, _study, images
from studies._grids import GRIDS
from studies._images_data import DATA
from studies._images_features import scattering, wavelets
from studies._images_targets import empirical, fitted, problem, reduced

TINY = ["--data=digits_fitted", "--schemes=ddpm,srk,srk_third_order", "--evaluations=5,10", "--particles=128"]
TABLES = ("", "_floors", "_saved", "_grids")
VIEWS = ("frechet", "measures", "grid_digits_fitted")
FILES = {f"images{end}" for end in [f"{table}.csv" for table in TABLES] + [".json"]} | {
    f"images_{view}.{kind}" for view in VIEWS for kind in ("png", "pdf")
}


def options(*arguments):
    """Options as the command fills them in."""
    return _run.parsed(images.STUDY, _run.parser(images.STUDY).parse_args(arguments))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("study") / "results"
    # Pictures as base 64 are longer than the csv module's fields by default: reading them must not depend on that.
    assert csv.field_size_limit() > 4 * 28**2 * 4 / 3
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert images.main([*TINY, f"--out={out}", "--workers=1"]) == 0
    return out, printed.getvalue()


def test_files_rows_and_figures_of_a_run(tiny):
    out, printed = tiny
    assert {path.name for path in out.iterdir()} == FILES | {"results.sqlite"}
    tables = _panels.read_tables(out, "images")
    assert set(tables) == set(TABLES)
    found = {(row["scheme"], row["evaluations"]): row for row in tables[""]}
    assert len(found) == len(tables[""]) == 3 * 2
    for (_, budget), row in found.items():
        assert 0 < row["nfe"] <= budget
        assert all(row[f"{measure}_error"] > 0.0 for measure in images.MEASURES)
    # DDPM converges: each distance falls, by more than four standard errors.
    for measure in images.MEASURES:
        few, many = found["ddpm", 5], found["ddpm", 10]
        error = np.hypot(few[f"{measure}_error"], many[f"{measure}_error"])
        assert few[measure] - many[measure] > 4.0 * error
    (floor,) = tables["_floors"]
    assert all(floor[measure] > 0.0 for measure in images.MEASURES)
    assert len(tables["_grids"]) == 3 * 2 + 1
    assert "SRK for the Fréchet distance of ddpm" in printed
    assert set(figure.draw(tables)) == {f"images_{view}" for view in VIEWS}


def test_distances_are_those_of_another_simulation(tiny):
    """Fréchet distance from plain moments of other paths, many of them: 5 standard errors, false alarm 10⁻⁶."""
    (row,) = [
        row for row in _panels.read_tables(tiny[0], "images")[""] if (row["scheme"], row["evaluations"]) == ("ddpm", 10)
    ]
    its = problem("digits_fitted")
    tableau = sv.schemes.ddpm(GRIDS["log_snr"](5.0, 1e-3, row["steps"]))
    draws = its.pixels(np.asarray(sv.sample(its.mixture, tableau, 20_000, 77, progress=False)))
    mean, matrix = sv.distances.moments(its.mixture, 1e-3)
    found = sv.distances.frechet(draws, mean, matrix)
    assert abs(found.value - row["frechet"]) < 5.0 * np.hypot(found.error, row["frechet_error"])


def test_the_same_path_in_every_run():
    """Where noise is shared, a sampler of many steps comes to the fine run's images; with other seeds it does not."""
    cell = images.Cell("digits_fitted", "srk_third_point_1", 50, 64, "log_snr", 5.0, 1e-3, 3, (50, images.FINE))
    path = images._path(cell.grid, cell.horizon, cell.early_stop, cell.common)
    fine = images._fine(cell.target, 64, cell.grid, path, cell.seed)
    tableau = sv.schemes.SCHEMES["srk_third_point_1"](GRIDS["log_snr"](5.0, 1e-3, 50))
    ours, coupled = images._run(problem("digits_fitted"), tableau, 64, path, cell.seed)
    other, _ = images._run(problem("digits_fitted"), tableau, 64, path, cell.seed + 1)
    assert coupled
    assert np.median(np.linalg.norm(ours - fine, axis=1)) < 0.1 * np.median(np.linalg.norm(other - fine, axis=1))
    assert np.all(np.diff(path) < 0.0)
    for steps in cell.common:
        times = GRIDS["log_snr"](5.0, 1e-3, steps)
        assert np.abs(times[:, None] / np.array(path) - 1.0).min(axis=1).max() < 1e-9


@pytest.mark.parametrize("horizon", [2.0, 5.0])
@pytest.mark.parametrize("scheme", images.DEFAULT_SCHEMES)
def test_budgets_are_kept_and_used(scheme, horizon):
    for budget in (1, 2, 3, 5, 10, 50, 201):
        steps = images.steps_within(scheme, budget, horizon)
        spent = [sv.schemes.SCHEMES[scheme](sv.schedules.uniform(horizon, 0.5, k)).nfe for k in (steps, steps + 1) if k]
        assert spent[-1] > budget
        assert steps == 0 or spent[0] <= budget


def test_images_go_through_bytes():
    pictures = np.array([[-1.0, 1.0, 0.0, 7.0], [-9.0, 0.5, -0.5, 1.0]])
    row = {"images": images.encoded(pictures), "side": 2}
    assert base64.b64decode(row["images"])[:2] == bytes([0, 255])
    assert figure.decoded(row).tolist() == [[[0, 255], [128, 255]], [[0, 191], [64, 255]]]


def test_data_are_pixels():
    shapes = {"digits": (1797, 64), "patches": (5000, 64), "mnist": (5000, 784)}
    for name, shape in shapes.items():
        points = DATA[name].load()
        assert points.shape == shape == (shape[0], DATA[name].side ** 2)
        assert -1.0 <= points.min() < points.max() <= 1.0
        assert not points.flags.writeable
    with pytest.raises(ValueError, match="side"):
        images.DATA["patches"].load(side=1)


def test_a_fitted_mixture_is_its_definition():
    """One component: the mean, and a covariance whose 3 first eigenvalues are the data's and the others their mean."""
    points = DATA["digits"].load()[:300, 8:40]
    law = fitted(points, 1, 3)
    values = np.linalg.eigvalsh(np.cov(points.T, bias=True))[::-1]
    assert law.means[0] == pytest.approx(points.mean(axis=0))
    found = np.linalg.eigvalsh(sv.distances.moments(law)[1])[::-1]
    assert found == pytest.approx([*values[:3], *[values[3:].mean()] * 29], rel=1e-6)
    assert fitted(points, 1, 3, noise=0.01).variances.min() == pytest.approx(1e-4, rel=1e-6)
    law = empirical(points[:5], 0.1)
    assert law.means == pytest.approx(points[:5])
    assert law.variances == pytest.approx(0.01)
    with pytest.raises(ValueError, match="rank"):
        fitted(points, 2, 32)


def test_a_reduced_law_is_the_same_law():
    points = DATA["digits"].load()[:60]
    law = fitted(points, 2, 3, noise=0.2)
    small = reduced(law)
    assert isinstance(small, sv.Product)
    for one, other in zip(sv.distances.moments(small), sv.distances.moments(law), strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    x = np.random.default_rng(0).standard_normal((4, 64))
    assert small.score(x, time=0.3) == pytest.approx(law.score(x, time=0.3), rel=1e-7, abs=1e-7)


def test_features_see_what_they_are_made_for():
    """Stripes have a direction, which turns with them; a constant passes the first map alone."""
    across = np.tile(np.sin(0.75 * np.pi * np.arange(8)), (8, 1))
    flat, stripes, turned = scattering(np.stack([np.full(64, 0.3), across.ravel(), across.T.ravel()]), 8, 2, 2).reshape(
        3, 9, 4
    )
    assert flat[0] == pytest.approx(0.3)
    assert np.abs(flat[1:]).max() < 1e-12
    assert stripes[3].mean() > 3.0 * stripes[2].mean() > 0.1  # π/2 is across; others see less, and 0 nothing
    assert np.abs(stripes[1]).max() < 1e-12
    assert turned[1] == pytest.approx(stripes[3])
    assert np.abs(wavelets(8, 2)[:, 0, 0]).max() < 1e-12
    with pytest.raises(ValueError, match="blocks must divide side"):
        scattering(np.zeros((1, 64)), 8, 3, 1)


def row(scheme, nfe, frechet, error=1e-6, target="digits_fitted"):
    distances = {name: value for each in images.MEASURES for name, value in ((each, frechet), (f"{each}_error", error))}
    return {
        "target": target,
        "scheme": scheme,
        "evaluations": nfe,
        "steps": nfe,
        "nfe": nfe,
        "particles": 100,
        "coupled": True,
        **distances,
        "note": "",
        "side": 2,
        "images": images.encoded(np.zeros((2, 4))),
    }


def synthetic(error=1e-6):
    """DDPM's distance is 100/N², SRK's 25/N²: half the evaluations; a rival's 6.25/N², a quarter."""
    laws = {"ddpm": 100.0, "srk": 25.0, "dpmpp_2m_sde": 6.25}
    runs = [row(scheme, n, c / n**2, error * c / n**2) for scheme, c in laws.items() for n in (5, 10, 20, 50, 200)]
    return [row(images.EXACT, 0, 0.03, nan), *runs]


def test_evaluations_saved_are_those_of_known_laws():
    tables = images.fold(synthetic(), options())
    found = {(each["scheme"], each["nfe"]): each for each in tables["_saved"]}
    for nfe in (20, 50, 200):
        assert found["srk", nfe]["needed"] == pytest.approx(nfe / 2)
    assert found["srk", 5]["needed"] == 5 == found["srk", 5]["first"]
    for nfe in (20, 50, 200):
        assert found["dpmpp_2m_sde", nfe]["needed"] == pytest.approx(max(5, nfe / 4))
    said = _images_report.report(tables, options())
    text = "\n".join(said.verdict)
    assert "25 [25, 25] for 50, 25 saved" in text
    assert "SRK against ddpm: 0.50 times its evaluations" in text
    assert "20: dpmpp_2m_sde" in text
    for table in said.tables:
        assert all(len(line) == len(table.header) for line in table.rows)


def test_the_interval_is_that_of_the_errors():
    """Errors of 10% each: log N to half of √2 · 0.1, so that 95% is ± 1.96 · 0.071; a quarter for 400 draws."""
    found = images.fold(synthetic(0.1), options())["_saved"]
    (each,) = [each for each in found if (each["scheme"], each["nfe"]) == ("srk", 20)]
    # Ten is itself a place of the ladder, so that only the error there and that of DDPM's distance count.
    width = np.log(each["high"] / each["low"])
    assert width == pytest.approx(2.0 * 1.96 * 0.5 * np.sqrt(2.0) * 0.1, rel=0.25)
    assert each["low"] < 10.0 < each["high"]


def test_what_is_beyond_within_the_error_or_infinite():
    rows = [row("ddpm", 5, 1.0), row("ddpm", 10, 1e-3, 1e-3), row("srk", 5, inf, nan), row("srk", 10, 2.0)]
    tables = images.fold(rows, options())
    (each,) = tables["_saved"]  # DDPM's second distance is within its error of zero
    assert each["needed"] is None
    assert isinf(each["low"])
    assert not each["open"]
    said = _images_report.report(tables, options())
    assert any("5 not reached [∞, ∞]" in line for line in said.verdict)
    assert any("infinite" in cell for table in said.tables for line in table.rows for cell in line)
    assert "images_frechet" in figure.draw(tables)


def test_errors_that_hide_a_distance_leave_it_open():
    """An estimate below zero whose error is above DDPM's distance shows nothing; one far above is beyond."""
    rows = [row("ddpm", 5, 1.0, 0.1), row("srk", 5, -0.5, 2.0), row("seeds_3", 5, 3.0, 0.1)]
    tables = images.fold(rows, options())
    found = {each["scheme"]: each for each in tables["_saved"]}
    assert (found["srk"]["needed"], found["srk"]["open"]) == (None, True)
    assert (found["seeds_3"]["needed"], found["seeds_3"]["open"]) == (None, False)
    line = _images_report.report(tables, options()).tables[-1].rows[0]
    assert list(line) == ["digits_fitted", "ddpm", "5", "open", "beyond"]


def test_few_rows_or_none_are_no_trouble():
    assert images.fold([], options()) == {table: [] for table in TABLES}
    empty = images.fold([], options())
    assert _images_report.report(empty, options()).verdict == ["No cell with distances is done: no verdict."]
    with pytest.raises(ValueError, match="rows must hold at least one distance or one image"):
        figure.draw(empty)
    everything = synthetic()
    for part in (everything[:1], everything[1:2], everything[6:8], everything[4:9]):
        tables = images.fold(part, options())
        assert _images_report.report(tables, options()).verdict
        assert figure.draw(tables)


def test_figures_show_each_target_and_sampler():
    rows = synthetic() + [{**each, "target": "patches_fitted"} for each in synthetic()]
    figures = figure.draw(images.fold(rows, options()))
    assert set(figures) == {
        "images_frechet",
        "images_measures",
        "images_grid_digits_fitted",
        "images_grid_patches_fitted",
    }
    titles = [axes.get_title(loc="left") for axes in figures["images_frechet"].axes]
    assert titles == ["digits 8×8, 10 components", "patches 8×8, 10 components"]
    assert len(figures["images_measures"].axes) == 6
    names = [text.get_text() for text in figures["images_grid_digits_fitted"].axes[0].texts]
    assert names[:2] == ["fine run", "DDPM"]


def test_wrong_arguments_absent_extras_and_costs(capsys, monkeypatch, tmp_path):
    for argument, said in (("--schemes=no", "scheme must be one of"), ("--horizon=0.0005", "--horizon must be >")):
        with pytest.raises(SystemExit) as stopped:
            images.main([argument, f"--out={tmp_path}"])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
    grid = images.cells(options())
    assert len(grid) == len(images.DEFAULT_TARGETS) * (1 + 5 * len(images.DEFAULT_SCHEMES))
    assert all(cell.cost > 0.0 for cell in grid)
    assert len({cell.common for cell in grid}) == 1
    for package in ("mlxtend", "sklearn"):
        monkeypatch.setattr(_study, "find_spec", lambda name, absent=package: None if name == absent else True)
        with pytest.raises(SystemExit) as stopped:
            images.main([f"--out={tmp_path}"])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"needs {package}, which is not installed: pip install 'srkverify[images]'" in said

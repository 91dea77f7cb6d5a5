import contextlib
import csv
import io
from math import exp, log, sqrt

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import hard_instances as figure
from srkverify import schedules
from studies import _hard_instances_report as words
from studies import _hard_instances_targets as targets
from studies import hard_instances as study
from studies._run import parsed, parser


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("hard")
    arguments = ["--steps=8,12", "--seeds=1", "--budget=40", "--dimensions=10,30,100", f"--out={out}"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main(arguments) == 0
    return out, printed.getvalue()


def cell(**changes):
    return study.Cell(
        **{"goal": "constant", "scheme": "srk", "shape": "two", "grid": "exponential", "steps": 16, "seed": 0}
        | {"budget": 400}
        | changes
    )


def test_a_planted_optimum_is_found_within_its_bounds():
    planted, bounds = np.array([0.7, -1.2, 2.4]), [(0.0, 1.0), (-2.0, 2.0), (1.0, 3.0)]
    found = study.search(lambda place: -float(((np.asarray(place) - planted) ** 2).sum()), bounds, cell(budget=4_000))
    assert found == pytest.approx(planted, abs=0.1)
    again = study.search(lambda place: -float(((np.asarray(place) - planted) ** 2).sum()), bounds, cell(budget=4_000))
    assert found == again  # seeded
    edge = study.search(lambda place: place[0], [(0.0, 1.0)], cell())
    assert study.at_bound(edge, [(0.0, 1.0)])
    assert not study.at_bound([0.5], [(0.0, 1.0)])


@pytest.mark.parametrize("shape", targets.SHAPES)
def test_every_place_within_bounds_is_a_law(shape):
    generator = np.random.default_rng(1)
    low, high = np.array(targets.SHAPES[shape]).T
    for _ in range(20):
        block = targets.one_direction(shape, low + (high - low) * generator.random(len(low)))
        if shape != "gaussian":
            assert block.mixture.weights.sum() == pytest.approx(1.0)
            assert (block.mixture.weights > 0.0).all()
            assert len(block.mixture.weights) == {"two": 2, "three": 3}[shape]
        assert "N(" in targets.described(block)


def test_a_family_follows_its_powers_and_starts_at_ten():
    family = targets.family_of([log(0.1), log(2.0), log(0.3), log(0.02), 1.0, 0.5, 0.25, 0.75])
    first, horizon, stop = family.at(10)
    assert (horizon, stop) == (pytest.approx(6.0), pytest.approx(0.02))
    assert first.mixture.weights == pytest.approx([0.3, 0.7])
    block, horizon, stop = family.at(1_000)
    assert block.mixture.variances == pytest.approx([1e-3, 1e-3])
    assert block.mixture.means == pytest.approx([-20.0, 20.0])
    assert block.mixture.weights[0] == pytest.approx(0.3 / 100**0.25)
    assert stop == pytest.approx(0.02 / 100**0.75)
    assert exp(-horizon) * 20.0 == pytest.approx(exp(-6.0) * 2.0)  # as small at the horizon as in d = 10
    assert len(targets.family_bounds()) == 8


def test_what_is_reported_is_what_the_front_door_says():
    for shape, grid in (("two", "exponential"), ("gaussian", "exponential")):
        (row,) = study.solve(cell(shape=shape, grid=grid, budget=40))
        numbers = [part.replace("N(", "").rstrip(")").split() for part in row["target"].split(" + ")]
        if shape == "two":
            parts = [[float(text.strip(",")) for text in part] for part in numbers]
            weights, means, variances = (np.array(column) for column in zip(*parts, strict=True))
            target = sv.GaussianMixture(weights / weights.sum(), means[:, None], variances[:, None])
        else:
            target = sv.GaussianMixture([1.0], [[0.0]], float(numbers[0][1]))
        table = sv.schemes.srk(schedules.exponential(6.0, 0.01, 16))
        # Parameters are printed with three digits.
        assert row["constant"] == pytest.approx(sv.kl(target, table).value * 16**2, rel=0.03)
        rival = sv.kl(target, sv.schemes.ddpm(schedules.exponential(6.0, 0.01, 16))).value
        assert row["ddpm_ratio"] == pytest.approx(rival * 16**2 / row["constant"], rel=0.03)


def test_the_search_beats_the_directions_that_other_studies_use():
    (row,) = study.solve(cell(budget=120))
    usual = sv.kl(
        sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25), sv.schemes.srk(schedules.exponential(6.0, 0.01, 16))
    )
    assert row["constant"] > 1.5 * usual.value * 16**2


def test_a_grid_keeps_its_shape_with_other_numbers_of_steps():
    for make in (schedules.exponential, schedules.cosine):
        assert targets.resampled(make(6.0, 0.01, 32), 32) == pytest.approx(make(6.0, 0.01, 32), rel=1e-12)
    assert targets.resampled(schedules.exponential(6.0, 0.01, 32), 64) == pytest.approx(
        schedules.exponential(6.0, 0.01, 64), rel=0.02
    )


def test_a_zero_of_the_error_does_not_pass_for_a_good_grid(monkeypatch):
    monkeypatch.setattr(targets, "kl_on", lambda times, *_: type("D", (), {"value": 0.0 if len(times) == 33 else 0.01}))
    assert targets.robust_kl(schedules.exponential(6.0, 0.01, 32), [], "srk", 0.1) == pytest.approx(0.16)


def test_steps_are_counted_from_which_on_the_level_is_kept():
    family = targets.family_of([log(0.25), log(1.5), log(0.4), log(0.01), 0.0, 0.0, 0.0, 0.0])
    found = study._counted(family, 100, "srk")
    target = sv.targets.Product([sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)], [100])

    def kl(steps):
        return sv.kl(target, sv.schemes.srk(schedules.exponential(6.0, 0.01, steps))).value

    assert kl(round(1.03 * found)) <= study.EPSILON**2 <= kl(round(0.97 * found))


def test_the_envelope_takes_the_worst_of_all_seeds():
    rows = [
        {"shape": "two", "grid": grid, "steps": k, "constant": constant * k**2 * k**-2.5}
        for k in (16, 32, 64)
        for grid, constant in (("exponential", 1.0), ("exponential", 3.0), ("optimised", 9.0))
    ]
    (row,) = study.envelope(rows)
    assert row["p"] == pytest.approx(2.5)
    assert row["exponent"] == pytest.approx(0.4)
    assert study.envelope(rows[:1]) == []


def test_a_run_has_all_tables_a_figure_and_an_honest_answer(tiny):
    out, printed = tiny
    with open(out / "hard_instances.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 + 3
    assert "Largest KL·K²/d found for srk on the exponential grid" in printed
    assert "below the theorem's 1.5" in printed
    assert "A search is no proof" in printed
    tables = _panels.read_tables(out, "hard_instances")
    (found,) = tables["_exponents"]
    curve = tables["_curves"]
    assert [row["dimension"] for row in curve] == [10, 30, 100]
    assert found["exponent_low"] <= found["exponent"] <= found["exponent_high"]
    for row in curve:
        assert row["steps"] == pytest.approx(sqrt(row["dimension"] * row["constant"]) / study.EPSILON)
    drawn = figure.draw(tables)["hard_instances_found"]
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["Constants", "Family with the largest exponent"]


def test_missing_cells_leave_a_report_and_no_figure():
    tables = study.fold([], None)
    assert words.report(tables, None).verdict == ["No cell is done: no verdict."]
    with pytest.raises(ValueError, match="at least one search"):
        figure.draw(tables)


def test_the_default_grid_is_affordable():
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=."]))
    grid = study.cells(options)
    assert len({(c.goal, c.shape, c.grid, c.steps, c.seed) for c in grid}) == len(grid)
    assert sum(c.cost for c in grid) < 300.0

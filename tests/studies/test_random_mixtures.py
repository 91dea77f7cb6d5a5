import contextlib
import io
from argparse import Namespace
from math import exp, inf, isnan

import numpy as np
import pytest

import srkverify as sv
from figures import _panels
from figures import random_mixtures as figure
from studies import _random_mixtures_report as words
from studies import random_mixtures as study
from studies._random_laws import random_law
from studies._run import parsed, parser

TINY = ["--laws=3", "--schemes=ddpm,srk_martingale", "--evaluations=16", "--grids=exponential", "--workers=1"]
OPTIONS = Namespace(against="dpmpp_2m_sde")


def rows_of(scheme, values):
    """Rows of one sampler on as many laws."""
    return [
        {"law": law, "grid": "exponential", "evaluations": 16, "scheme": scheme, "nfe": 16, "kl": value}
        | {"kl_error": 0.0, "note": ""}
        for law, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The output directory of a tiny run, and its printed output."""
    out = tmp_path_factory.mktemp("mixtures")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert study.main([*TINY, f"--out={out}"]) == 0
    return out, printed.getvalue()


def test_laws_are_the_same_whatever_their_number_and_differ_between_seeds():
    first, more, other = ([random_law(index, seed) for index in range(n)] for n, seed in ((3, 1), (7, 1), (3, 2)))
    for one, same in zip(first, more, strict=False):
        np.testing.assert_array_equal(one.means, same.means)
        np.testing.assert_array_equal(one.weights, same.weights)
    assert not any(np.array_equal(one.means, two.means) for one, two in zip(first, other, strict=True))
    assert all(law.weights.min() > 0.02 for law in more)
    assert np.abs(more[3].means).max() <= 0.3 * 3.0  # every fourth is small


def test_rows_have_the_kl_of_the_law():
    cell = study.Cell(2, 5, "exponential", "srk", 20, 6.0, 0.01)
    (row,) = study.solve(cell)
    law = random_law(2, 5)
    expected = sv.kl(law, sv.schemes.srk(sv.schedules.exponential(6.0, 0.01, 20)))
    assert row["kl"] == pytest.approx(expected.value, rel=1e-2)
    assert row["nfe"] == 20


def test_ratios_of_known_values():
    rows = [*rows_of("dpmpp_2m_sde", [1e-4, 1e-4, 1e-4]), *rows_of("srk", [1e-4 / exp(2.0), 1e-4, 1e-4 * exp(0.5)])]
    tables = study.fold(rows, OPTIONS)
    (own,) = [row for row in tables["_ratios"] if row["scheme"] == "srk"]
    assert own["mean"] == pytest.approx(exp(-0.5))
    assert (own["median"], own["worst"]) == (pytest.approx(1.0), pytest.approx(exp(0.5)))
    assert (own["won"], own["laws"]) == (1, 3)
    half = 4.302652729911275 * (3.5 / 2.0 / 3.0) ** 0.5  # t of two degrees of freedom, variance (2.25 + 0.25 + 1)/2
    assert own["low"] == pytest.approx(exp(-0.5 - half))
    assert own["high"] == pytest.approx(exp(-0.5 + half))
    said = words.report(tables, OPTIONS).verdict
    assert said == [
        "srk: KL 0.61 to 0.61 times that of dpmpp_2m_sde (geometric means); smaller in 1 of 3 places, "
        "at worst 1.6 times."
    ]


def test_an_unstable_sampler_is_not_won_and_has_no_place_in_the_mean():
    rows = [*rows_of("dpmpp_2m_sde", [1e-4, 1e-4]), *rows_of("srk", [inf, 2e-4])]
    tables = study.fold(rows, OPTIONS)
    (own,) = [row for row in tables["_ratios"] if row["scheme"] == "srk"]
    assert (own["won"], own["laws"], own["worst"]) == (0, 2, inf)
    assert own["mean"] == pytest.approx(2.0)
    assert isnan(own["low"])
    assert words.report(tables, OPTIONS).tables[0].rows[1][2] == "2 (– … –)"


def test_without_the_rival_there_is_no_ratio():
    tables = study.fold(rows_of("srk", [1e-4]), OPTIONS)
    assert isnan(tables[""][0]["ratio"])
    assert tables["_ratios"][0]["laws"] == 0
    with pytest.raises(ValueError, match="at least one ratio"):
        figure.draw(tables)


def test_a_run_has_tables_a_verdict_and_a_figure(tiny):
    out, printed = tiny
    tables = _panels.read_tables(out, "random_mixtures")
    assert len(tables[""]) == 9  # the rival plays though it is not named
    assert {row["scheme"] for row in tables["_ratios"]} == {"ddpm", "srk_martingale", "dpmpp_2m_sde"}
    assert all(row["ratio"] == 1.0 for row in tables[""] if row["scheme"] == "dpmpp_2m_sde")
    assert "smaller in 0 of 3 places" in printed
    drawn = figure.draw(tables)
    (axes,) = drawn["random_mixtures"].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["DDPM", "SRK, martingale weights"]
    assert (out / "random_mixtures.png").exists()
    assert figure.main([str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--early-stop=7"], "--horizon must be > --early-stop = 7; got 6"),
        (["--schemes=sa_p3c3"], "--schemes must remember at most two evaluations"),
        (["--against=sa_p3c3"], "--against must remember at most two evaluations"),
    ],
)
def test_bad_grids(arguments, message):
    options = parsed(study.STUDY, parser(study.STUDY).parse_args(["--out=.", *arguments]))
    with pytest.raises(ValueError, match=message):
        study.cells(options)

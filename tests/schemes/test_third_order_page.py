"""The tables of docs/third_order.md and docs/order_conditions.md on order 3, computed anew, to their printed digits."""

import re
from pathlib import Path

import numpy as np
import pytest
import waves

import srkverify as sv
from srkverify import schedules, schemes
from srkverify.engines import gaussian
from srkverify.schemes._third_order import TERMS, Freedoms
from srkverify.schemes.third_order import FITTED, INFORMED
from studies._league_targets import LAWS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "third_order.md").read_text(encoding="utf-8")
ORDERS = (DOCS / "order_conditions.md").read_text(encoding="utf-8")
VARIANCES = (1e-4, 1e-3, 0.01, 0.05, 0.25, 1.0, 4.0)
MIXTURES = {
    "0.4 N(−1.5": ([0.4, 0.6], [-1.5, 1.5], [0.25, 0.25]),
    "0.05 N(−2": ([0.05, 0.95], [-2.0, 2.0], [0.25, 0.25]),
    "0.2 N(−3": ([0.2, 0.5, 0.3], [-3.0, 0.0, 2.0], [0.1, 0.5, 0.2]),
    "0.5 N(−1.5": ([0.5, 0.3, 0.2], [-1.5, 0.5, 2.0], [1.0, 0.04, 0.0025]),
}
NAMES = {"third order": "srk_third_order", "DPM-Solver++(2M) SDE": "dpmpp_2m_sde"}


def table(text, head):
    """Rows of cells of the table whose first line begins with ``head``."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in lines]


def number(cell):
    """Return a printed number and half a unit of its last digit; final zeros before the point are no digits."""
    mantissa, _, power = cell.replace("−", "-").partition("e")
    decimals = len(mantissa.partition(".")[2])
    zeros = len(mantissa) - len(mantissa.rstrip("0")) if decimals == 0 else 0
    return float(cell.replace("−", "-")), 0.5 * 10.0 ** (int(power or 0) - decimals + zeros)


def assert_printed(cell, value, slack=0.0):
    shown, half = number(cell)
    assert abs(value - shown) <= 1.001 * half + slack * value, f"{cell} for {value:.3g}"


def grid(steps, name="exponential"):
    if name == "exponential":
        return schedules.exponential(6.0, 0.01, steps)
    return schedules.warped(6.0, 0.01, steps, warp=(0.0,))


def gaussian_ratios(scheme, rival):
    targets = (sv.GaussianMixture([1.0], [[0.5]], variance) for variance in VARIANCES)
    return [sv.kl(target, scheme).value / sv.kl(target, rival).value for target in targets]


def test_kl_on_mixtures():
    """The first two columns, of four that take longer and longer; quadrature to 1%."""
    rows, current = table(PAGE, "| target | sampler |"), None
    assert len(rows) == 12
    for first, sampler, *cells in rows:
        current = first or current
        weights, means, variances = next(law for name, law in MIXTURES.items() if current.startswith(name))
        target = sv.GaussianMixture(weights, np.array(means)[:, None], np.array(variances)[:, None])
        scheme = schemes.scheme(NAMES.get(sampler, sampler))
        for steps, cell in zip((16, 32), cells, strict=False):
            found = sv.kl(target, scheme(grid(steps)), absolute=1e-13, relative=1e-2)
            assert_printed(cell, found.value, slack=1e-2)


def test_kl_on_gaussians():
    rows = table(PAGE, "| KL over that of DPM-Solver++(2M) SDE, N(½, λ) | λ")
    assert [row[0] for row in rows] == ["K = 8", "16", "32", "64", "128"]
    for name, *cells in rows:
        times = grid(int(name.removeprefix("K = ")))
        for cell, value in zip(
            cells, gaussian_ratios(schemes.srk_third_order(times), schemes.dpmpp_2m_sde(times)), strict=True
        ):
            assert_printed(cell, value)


def test_kl_of_the_fitted_one_on_gaussians():
    rows, kind = table(PAGE, "| KL over that of DPM-Solver++(2M) SDE, N(½, λ), same evaluations"), "exponential"
    assert len(rows) == 8
    for name, *cells in rows:
        kind = "log_snr" if name.startswith("uniform") else kind
        evaluations = int(re.search(r"\d+", name.replace("log-SNR", ""))[0])
        own = schemes.srk_third_order_fitted(grid(evaluations, kind))
        for cell, value in zip(cells, gaussian_ratios(own, schemes.dpmpp_2m_sde(grid(evaluations, kind))), strict=True):
            assert_printed(cell, value)


def test_where_the_other_error_vanishes():
    """Output variances decide, for means are exact; a place is next to the curve if the sign changes near it."""
    variances, ladder = np.geomspace(1e-4, 4.0, 40), range(8, 65)

    def errors(scheme, kind):
        tableaus = (scheme(grid(steps, kind)) for steps in ladder)
        return np.array([gaussian.deviations(tableau, variances).variance for tableau in tableaus])

    counts = {}
    for kind in ("exponential", "log_snr"):
        own, other = errors(schemes.srk_third_order_fitted, kind), errors(schemes.dpmpp_2m_sde, kind)
        sign, near = np.pad(np.sign(other), 1, mode="edge"), np.zeros(other.shape, bool)
        for neighbour in (sign[:-2, 1:-1], sign[2:, 1:-1], sign[1:-1, :-2], sign[1:-1, 2:]):
            near |= neighbour != np.sign(other)
        ahead = np.abs(own) > np.abs(other)
        counts[kind] = own.size, ahead.sum(), (ahead & near).sum(), (near & ~ahead).sum()
    assert counts == {"exponential": (2280, 0, 0, 0), "log_snr": (2280, 33, 32, 87)}
    assert all(text in PAGE for text in ("4527 of 4560", "other 33", "32 are next", "87 others", "all 2280 places"))


def test_terms():
    for names, _, plain, fitted in table(PAGE, "| | | plain | fitted |"):
        for column, freedoms in ((plain, Freedoms()), (fitted, FITTED)):
            cells = column.replace("−", "-").split(", ")
            terms = [name.strip("` ") for name in names.split(",")]
            assert [float(cell) for cell in cells] == [getattr(freedoms, term) for term in terms]


def test_several_dimensions():
    law = [[1.0, 0.0], [0.3, 0.8], [-0.6, 0.5]]
    rows = table(ORDERS, "| | n | K = 6 | 12 | 24 | order |")
    assert len(rows) == 8
    for name, count, *cells in rows:
        if name:
            steps = (6, 12, 24) if count == "2" else (5, 10, 20)
            times = [0.5 * np.log1p(np.geomspace(2.0, 1.0, k + 1)) for k in steps]
            errors = [waves.error(schemes.scheme(name)(each), law[: int(count)]) for each in times]
            for cell, error in zip(cells, [*errors, np.log2(errors[1] / errors[2])], strict=True):
                assert_printed(cell, error)


def test_a_wrong_digit_is_seen():
    assert_printed("390", 386.0)
    assert_printed("6e−4", 6.4e-4)
    for cell, value in (("390", 384.0), ("6e−4", 6.6e-4), ("0.04", 0.034)):
        with pytest.raises(AssertionError):
            assert_printed(cell, value)


def test_told_variances():
    """All of the anisotropic Gaussian, and of one mixture what takes no time."""
    rows = {first: cells for first, *cells in table(PAGE, "| told, over fitted / over 2M |")}
    assert set(rows) == {"overlapping", "unequal", "three_modes", "multiscale", "anisotropic", "low_rank"}
    places = [(name, count) for name in ("exponential", "log_snr") for count in (8, 16, 32, 64)]
    for (kind, evaluations), cell in zip(places, rows["anisotropic"], strict=True):
        assert_told(cell, LAWS["anisotropic"].make(), kind, evaluations)
    for kind, cell in (("exponential", rows["overlapping"][1]), ("log_snr", rows["overlapping"][5])):
        assert_told(cell, LAWS["overlapping"].make(), kind, 16)


def assert_told(cell, target, kind, evaluations):
    times = grid(evaluations, kind)
    told = schemes.srk_third_order_informed(times, sv.effective_variances(target, times))
    others = schemes.srk_third_order_fitted(times), schemes.dpmpp_2m_sde(times)
    own, *values = (sv.kl(target, each, absolute=1e-13, relative=1e-2).value for each in (told, *others))
    for printed, value in zip(cell.split(" / "), values, strict=True):
        assert_printed(printed, own / value, slack=2e-2)


def test_terms_that_were_fitted_with_variances_told():
    (plain, early), head = table(PAGE, "| | stage | middle |"), TERMS
    for term, one, other in zip(head, plain[1:], early[1:], strict=True):
        assert number(one)[0] == getattr(INFORMED, term)
        assert number(other)[0] == getattr(INFORMED, f"{term}_early")

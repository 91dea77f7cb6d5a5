"""How the free terms of srk_third_order_informed were found: ``python -m studies._third_order_fit_informed``.

As those of srk_third_order_fitted (studies/_third_order_fit.py), on other laws: isotropic Gaussians are exact here. To
random mixtures and pairs of equal modes come the same beside Gaussian directions of other variances, for what is told
of such a law suits no part of it, and Gaussians of eight variances. No target of the league is among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from srkverify import Product, effective_variances
from srkverify._check import Array
from srkverify.schemes import dpmpp_2m_sde
from srkverify.schemes._third_order import TERMS, Freedoms, with_freedoms
from srkverify.schemes.third_order import INFORMED
from srkverify.tableau import Tableau
from srkverify.targets import GaussianMixture
from studies import _third_order_fit as plain
from studies._league_targets import GRIDS
from studies._third_order_fit import LAWS as RANDOM
from studies._third_order_fit import Case, Local

_ENOUGH_MIXTURE, _ENOUGH_GAUSSIAN = 0.01, 0.05  # ε


@dataclass(frozen=True)
class Blend:
    """A mixture of the fit, if any, beside Gaussian directions, whose mean is 1/2: variances, and how many of each."""

    mixture: int | None
    variances: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def target(self) -> Product:
        """The law whose effective variances are told."""
        blocks = [] if self.mixture is None else [plain.mixture(self.mixture)]
        blocks += [GaussianMixture([1.0], [[0.5]], variance) for variance in self.variances]
        return Product(blocks, [1] * (len(blocks) - len(self.counts)) + list(self.counts))


def _gaussians() -> list[Blend]:
    generator = np.random.default_rng(1)
    drawn = np.exp(generator.uniform(np.log(1e-3), np.log(4.0), (4, 8)))
    return [Blend(None, tuple(variances), (1,) * 8) for variances in drawn.tolist()]


LAWS = [
    *(Blend(index) for index in [*range(8), *range(RANDOM, RANDOM + len(plain.PAIRS))]),
    *(Blend(8, (1e-3,), (3,)), Blend(9, (0.01,), (9,)), Blend(10, (1.0,), (1,)), Blend(RANDOM + 1, (1e-4,), (15,))),
    *_gaussians(),
]


def _cases() -> list[Case]:
    """Return all laws with few evaluations, and with many, which are dear, some on one grid each."""
    mixtures, gaussians = range(16), range(16, len(LAWS))
    grids = list(GRIDS)
    found = [Case(law, grids[place % 2], 44) for place, law in enumerate((0, 3, 5, 8, 10, 13, 1, 6))]
    found += [Case(law, grids[law % 2], 26) for law in mixtures]
    found += [Case(law, grid, 15) for grid in grids for law in mixtures]
    found += [Case(law, grids[0], 9) for law in mixtures] + [Case(law, grids[1], 9) for law in mixtures[:12]]
    found += [Case(law, grid, count) for count in (44, 26, 15, 9) for grid in grids for law in gaussians]
    return found


CASES = _cases()


def tableau(case: Case, freedoms: Freedoms) -> Tableau:
    """Return the sampler of a case."""
    return with_freedoms(plain.times(case), freedoms, variances=_told(case))


@cache
def _told(case: Case) -> Array:
    return effective_variances(LAWS[_index(case)].target, plain.times(case))


def _index(case: Case) -> int:
    assert case.law is not None
    return case.law


def deviation(case: Case, tableau: Tableau) -> Array:
    """Return what the output of a law is off by, (1, numbers), its squares adding up to KL to leading order."""
    law, parts = LAWS[_index(case)], []
    if law.mixture is not None:
        parts.append(plain.deviation(replace(case, law=law.mixture), tableau)[0])
    if law.variances:
        off = plain.of_gaussians(tableau, np.array(law.variances))
        parts.append((np.sqrt(law.counts)[:, None] * off).ravel())
    return np.concatenate(parts)[None]


def around(case: Case, freedoms: Freedoms, terms: Sequence[str]) -> Local:
    """Return KL around ``freedoms`` as a function of the named terms."""
    return plain.linearised(lambda moved: deviation(case, tableau(case, moved)), freedoms, terms, enough(case))


@cache
def enough(case: Case) -> Array:
    """Return ε KL_2M."""
    share = _ENOUGH_GAUSSIAN if LAWS[_index(case)].mixture is None else _ENOUGH_MIXTURE
    return share * np.square(deviation(case, dpmpp_2m_sde(plain.times(case)))).sum(axis=1)


def alike(found: Sequence[Local]) -> Array:
    """Return equal weights."""
    return np.full(len(found), 1.0 / len(found))


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, and print the terms."""
    asked = plain.options("python -m studies._third_order_fit_informed", __doc__ or "", "4 min", "plain terms", argv)
    start = Freedoms() if asked.anew else INFORMED
    terms = [*TERMS, *(f"{term}_early" for term in TERMS)]
    print(plain.fit(start, terms, asked.most, CASES, around, alike))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

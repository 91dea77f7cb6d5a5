"""Estimate KL(q_δ ‖ sampler's output) from samples and by paths, each in the same seconds, against the exact value.

Prints a Markdown table: the root mean square error of every estimator over the repeats, and how many times that of
``sv.kl(..., method="path")`` it is. Each takes as many samples as it can handle in the given seconds, sampling
included. Targets are 0.4 N(−m, I/4) + 0.6 N(m, I/4) with m = 1.5 (1, …, 1)/√d, where KL is known exactly.

The last column is the error when both samples are of q_δ, at the n of the dimension's first scheme: what an estimator
reports of a perfect sampler, and so the least KL that it can tell from none.
"""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from _kl_baselines import BASELINES, Array, nearest_neighbours
from tqdm import tqdm

import srkverify as sv
from studies import _command

EXAMPLE = """examples:
  python benchmarks/kl_estimators.py                           everything (about an hour)
  python benchmarks/kl_estimators.py --quick                   two dimensions, in about a minute
  python benchmarks/kl_estimators.py --dimensions 1,10 --schemes srk --seconds 30
  python benchmarks/kl_estimators.py --estimators kNN,KDE      baselines alone, without ratios"""

HORIZON, EARLY_STOP = 6.0, 0.01
SCHEMES = ("ddpm", "srk", "srk_martingale")
PATH = "path"
ESTIMATORS = (PATH, *BASELINES)  # the path estimator first: the others are measured by it
DEFAULTS = {"seconds": 10.0, "repeats": 3, "dimensions": (1, 2, 10, 50, 100)}
QUICK = {"seconds": 0.3, "repeats": 2, "dimensions": (1, 10)}

SMALLEST = 256  # samples, or twice the dimension
MOST_NUMBERS = 2**26  # of a sample: half a GiB
LEAST_USE, MARGIN = 0.75, 0.9  # of the budget, by the time of a size and by a prediction
CORRECTIONS = 4
TIMED, PERFECT, SECOND = 10**6, 2 * 10**6, 5 * 10**5  # what keeps their seeds apart from those of the repeats

HEADER = ("d", "scheme", "estimator", "n", "seconds", "estimate", "exact", "RMS error", "× path", "RMS error at KL = 0")
WIDTHS = (3, 14, 9, 8, 7, 18, 9, 9, 7, 19)
NAMES = (1, 2)  # columns that are no numbers

Job = Callable[[int, int], tuple[float, float]]  # from samples and seed to an estimate and its own standard error


@dataclass(frozen=True)
class Cell:
    """A target with its sampler, or None for one that makes no error, and the forward time of their laws."""

    target: sv.GaussianMixture
    tableau: sv.Tableau | None
    time: float

    def samples(self, n: int, seed: int) -> tuple[Array, Array]:
        """Return independent samples of q_δ and of the sampler's output, each (n, d)."""
        truth = self.target.sample(n, seed, self.time)
        if self.tableau is None:
            return truth, self.target.sample(n, seed + SECOND, self.time)
        return truth, np.asarray(sv.sample(self.target, self.tableau, n, seed, progress=False), dtype=np.float64)

    def job(self, estimator: str, neighbours: int) -> Job:
        """Return an estimator as a function of the number of samples and the seed."""
        if estimator == PATH:
            return self._path
        estimate = BASELINES[estimator][0]
        if estimate is nearest_neighbours:
            estimate = partial(nearest_neighbours, neighbours=neighbours)
        return lambda n, seed: (estimate(*self.samples(n, seed)), np.nan)

    def kl(self, **settings: Any) -> sv.Divergence:
        """Return what ``sv.kl`` gives."""
        assert self.tableau is not None
        return sv.kl(self.target, self.tableau, **settings)

    def _path(self, n: int, seed: int) -> tuple[float, float]:
        result = self.kl(method="path", particles=n, seed=seed)
        return result.value, result.error


@dataclass(frozen=True)
class Run:
    """What the repeats of a job gave, with n samples each: estimates, their own standard errors, mean seconds."""

    n: int
    estimates: Array
    errors: Array
    spent: float

    def rms(self, exact: float) -> float:
        """Root mean square error."""
        return float(np.sqrt(np.square(self.estimates - exact).mean()))


class Remarks(dict[tuple[str, str], list[str]]):
    """What a table does not say: where an estimator has which trouble."""

    def add(self, estimator: str, trouble: str, where: str) -> None:
        """Note a trouble."""
        places = self.setdefault((estimator, trouble), [])
        if where not in places:
            places.append(where)

    def lines(self) -> Iterator[str]:
        """Yield a list in Markdown."""
        for (estimator, trouble), places in self.items():
            yield f"- {estimator}, {', '.join(places)}: {trouble}"


def seconds(job: Job, n: int) -> float:
    """Wall time of one estimate."""
    begin = time.perf_counter()
    job(n, TIMED)
    return time.perf_counter() - begin


def most_samples(job: Job, budget: float, dimension: int) -> int:
    """Return how many samples fit in a budget of seconds.

    They are doubled as long as the next size is predicted to fit, at the growth of the last two times; what is left of
    the budget is filled by the same rule, and corrected if the time of that shows the prediction to be off. Nothing
    smaller than the smallest size is tried, even if it does not fit.
    """
    n = least = max(SMALLEST, 2 * dimension)
    most = MOST_NUMBERS // dimension
    seconds(job, n)  # compiles
    spent, order = seconds(job, n), 1.0
    while spent * 2.0**order <= budget and 2 * n <= most:
        n, before = 2 * n, spent
        spent = seconds(job, n)
        order = float(np.clip(np.log2(spent / before), 1.0, 2.0))
    for _ in range(CORRECTIONS):
        fitting = int(np.clip(n * (MARGIN * budget / spent) ** (1.0 / order), least, most))
        if LEAST_USE * budget <= spent <= budget or fitting == n:
            break
        n, spent = fitting, seconds(job, fitting)
    return n


def run(job: Job, n: int, seeds: range) -> Run:
    """Make an estimate with each of the seeds."""
    begin = time.perf_counter()
    pairs = np.array([job(n, seed) for seed in seeds])
    return Run(n, pairs[:, 0], pairs[:, 1], (time.perf_counter() - begin) / len(seeds))


def make_cell(dimension: int, scheme: str, steps: int) -> Cell:
    """Return a target in so many dimensions, with its sampler."""
    mean = np.full((1, dimension), 1.5 / np.sqrt(dimension))
    target = sv.GaussianMixture([0.4, 0.6], np.concatenate([-mean, mean]), 0.25)
    tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(HORIZON, EARLY_STOP, steps))
    return Cell(target, tableau, float(tableau.times[-1]))


def measure(given: Namespace, remarks: Remarks) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table, each as soon as it is measured."""
    grid = [(dimension, scheme) for dimension in given.dimensions for scheme in given.schemes]
    floors: dict[tuple[int, str], float] = {}
    first = given.seed + PERFECT
    for dimension, scheme in tqdm(grid, desc="measure", disable=None, leave=False):
        cell, reference = make_cell(dimension, scheme, given.steps), np.nan
        exact = cell.kl().value
        for name in (name for name in ESTIMATORS if name in given.estimators):
            if name != PATH and dimension > BASELINES[name][1]:
                remarks.add(name, f"left out, meant for d ≤ {BASELINES[name][1]}", f"d = {dimension}")
                continue
            job, where = cell.job(name, given.neighbours), f"d = {dimension} {scheme}"
            try:
                n = most_samples(job, given.seconds, dimension)
                found = run(job, n, range(given.seed, given.seed + given.repeats))
                if name != PATH and (dimension, name) not in floors:
                    perfect = replace(cell, tableau=None).job(name, given.neighbours)
                    floors[dimension, name] = run(perfect, n, range(first, first + given.repeats)).rms(0.0)
            except ValueError as problem:
                remarks.add(name, f"no value: {problem}", where)
                yield str(dimension), scheme, name, "", "", "none", f"{exact:.3e}", "", "", ""
                continue
            if n == MOST_NUMBERS // dimension:
                remarks.add(name, "n is what memory allows, not time", where)
            if found.spent > 1.2 * given.seconds:
                remarks.add(name, f"took {found.spent / given.seconds:.1f} times its seconds", where)
            rms, floor, mean = found.rms(exact), "", f"{found.estimates.mean():+.3e}"
            if name == PATH:
                reference, mean = rms, f"{mean} ± {found.errors.mean():.0e}"
            else:
                floor = f"{floors[dimension, name]:.1e}"
            ratio = f"{rms / reference:.3g}" if np.isfinite(reference) else ""
            numbers = (str(n), f"{found.spent:.1f}", mean, f"{exact:.3e}", f"{rms:.1e}", ratio, floor)
            yield str(dimension), scheme, name, *numbers


def line(cells: tuple[str, ...]) -> str:
    """Return a line of the table: names flush left, numbers flush right."""
    wide = enumerate(zip(cells, WIDTHS, strict=True))
    return f"| {' | '.join(f'{cell:<{width}}' if i in NAMES else f'{cell:>{width}}' for i, (cell, width) in wide)} |"


def parse() -> tuple[Namespace, _command.Parser]:
    """Return what the command line asks for, and its parser."""
    parser = _command.Parser(description=__doc__, epilog=EXAMPLE)
    positive, integer, name_of = _command.number("seconds", above=0.0), _command.integer, _command.name_of
    dimensions = _command.listed(integer("dimensions", 1, 10**4))
    schemes = _command.listed(name_of("schemes", sv.schemes.SCHEMES))
    estimators = _command.listed(name_of("estimators", ESTIMATORS))
    texts = {"schemes": f"default {','.join(SCHEMES)}", "estimators": f"default {','.join(ESTIMATORS)}"}
    steps, repeats, seed = integer("steps", 1, 10**4), integer("repeats", 1, 1000), integer("seed", 0, 10**5)
    k = integer("neighbours", 1, 200)
    add = parser.add_argument
    add("--quick", action="store_true", help="0.3 seconds, 2 repeats, d = 1 and 10")
    add("--seconds", type=positive, help="of one estimate (default 10)")
    add("--repeats", type=repeats, help="estimates with different seeds (default 3)")
    add("--dimensions", type=dimensions, metavar="D,...", help="default 1,2,10,50,100")
    add("--steps", type=steps, default=64, help="K of every sampler (default 64)")
    add("--schemes", type=schemes, default=SCHEMES, metavar="NAME,...", help=texts["schemes"])
    add("--estimators", type=estimators, default=ESTIMATORS, metavar="NAME,...", help=texts["estimators"])
    add("--neighbours", type=k, default=5, help="k of kNN (default 5)")
    add("--seed", type=seed, default=0, help="of the first repeat (default 0)")
    given = parser.parse_args()
    for name, value in (QUICK if given.quick else DEFAULTS).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given, parser


def main() -> int:
    """Print the table, and below it what it leaves out."""
    given, parser = parse()
    warnings.simplefilter("ignore", sv.UnreliableEstimateWarning)  # such an estimate shows an infinite error
    print(line(HEADER))
    print(line(tuple("-" * width if i in NAMES else f"{'-' * (width - 1)}:" for i, width in enumerate(WIDTHS))))
    remarks = Remarks()
    try:
        for row in measure(given, remarks):
            tqdm.write(line(row))
    except ValueError as problem:
        parser.error(str(problem))
    if remarks:
        print("", *remarks.lines(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Time the exact engines: `python benchmarks/exact.py [--quick]`.

Prints wall seconds (median of the repeats, after a warm-up that compiles) beside the bar each engine is held to, and
how the cost of one SRK evaluation grows with the number of steps.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

import srkverify as sv

MIXTURE = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)


def seconds(job: Callable[[], object], repeats: int) -> float:
    """Median wall time of ``job``."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        job()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def mixture_job(scheme: str, steps: int, relative: float | None = None) -> Callable[[], object]:
    """Return one exact KL of the one-dimensional mixture of docs/theory.md, resolution check included."""
    tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(6.0, 0.01, steps))
    return lambda: sv.kl(MIXTURE, tableau, relative=relative)


def gaussian_job(scheme: str, steps: int, dimension: int) -> Callable[[], object]:
    """Return one exact KL of a Gaussian with ``dimension`` different eigenvalues."""
    tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(6.0, 0.01, steps))
    eigenvalues = np.logspace(-6.0, 1.0, dimension)[None, :]
    target = sv.GaussianMixture([1.0], np.ones((1, dimension)), eigenvalues)
    return lambda: sv.kl(target, tableau)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one repeat")
    quick = parser.parse_args().quick
    repeats = 1 if quick else 5
    for scheme in sv.schemes.COMPARED:
        mixture_job(scheme, 16)()
    gaussian_job("ddpm", 8, 8)()

    print("1-D mixture, one KL with its error        seconds    bar")
    ladder = (128, 512) if quick else (128, 512, 2048)
    measured = {}
    for scheme in ("ddpm", "srk", "srk_third_point", "srk_third_point_1", "dpmpp_2m_sde", "ddim_eta0"):
        for steps in ladder if scheme == "srk" else ladder[:2]:
            measured[scheme, steps] = seconds(mixture_job(scheme, steps), repeats)
            bar = {("srk", 512): "0.2", ("srk", 2048): "1.5"}.get((scheme, steps), "")
            print(f"{scheme:<20} K = {steps:<6}         {measured[scheme, steps]:>10.3f}    {bar}")
    last, before = ladder[-1], ladder[-2]
    growth = np.log(measured["srk", last] / measured["srk", before]) / np.log(last / before)
    print(f"cost of srk grows as K^{growth:.2f} from K = {before} to {last} (bar: 1.5)\n")

    dimension, steps = (10**5, 100) if quick else (10**6, 1000)
    print(f"Gaussian, {dimension} eigenvalues, K = {steps}      seconds    bar")
    for scheme in ("ddpm", "srk", "srk_third_point", "srk_third_point_1"):
        spent = seconds(gaussian_job(scheme, steps, dimension), 1)
        print(f"{scheme:<35} {spent:>15.2f}    {'' if quick else '10'}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB (bar: 1)\n")

    print("1-D mixture to 1%, with a memory of two or three evaluations")
    for scheme in ("srk_third_order", "sa_p3c3"):
        print(f"{scheme:<20} K = {32:<6}         {seconds(mixture_job(scheme, 32, relative=1e-2), 1):>10.3f}")


if __name__ == "__main__":
    main()

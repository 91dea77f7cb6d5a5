"""The front door: ``kl`` and ``tv`` of a sampler's output law against the truth."""

from __future__ import annotations

from typing import Any, Literal, overload

from srkverify import _check
from srkverify._problem import check_problem
from srkverify.divergence.effective_variance import effective_variances
from srkverify.divergence.exact import Divergence, as_mixture, block_kl, mixture_tv, output_density
from srkverify.divergence.initial import start_kl
from srkverify.divergence.ratios import Estimate
from srkverify.divergence.reduction import NotReducibleError, reduce
from srkverify.divergence.sampled import BACKENDS, LEAST_INNER, PathDivergence, UnreliableEstimateWarning, path_kl
from srkverify.divergence.sampled_error import ScoreErrors, score_errors
from srkverify.divergence.score_error import pairs
from srkverify.divergence.score_paths import LEAST_PATHS, PathBound, score_path_kl
from srkverify.divergence.total_variation import total_variation
from srkverify.perturbed import Wavy
from srkverify.score import Score
from srkverify.tableau import Drawn, Tableau
from srkverify.targets import Target

__all__ = [
    "Divergence",
    "Estimate",
    "NotReducibleError",
    "PathBound",
    "PathDivergence",
    "ScoreErrors",
    "UnreliableEstimateWarning",
    "block_kl",
    "effective_variances",
    "kl",
    "output_density",
    "reduce",
    "score_errors",
    "start_kl",
    "tv",
]

# What each method takes, and what it is by default.
METHODS: dict[str, dict[str, Any]] = {
    "exact": {"absolute": 1e-10, "relative": 1e-6, "score": None},
    "path": {"particles": 100_000, "seed": 0, "inner": None, "threads": None, "backend": "cpu", "progress": True},
}
# And "path" with a score that is a function.
SCORE_PATHS = {"particles": 4096, "seed": 0, "inner": 16, "progress": True}


@overload
def kl(
    target: Target,
    tableau: Tableau | Drawn,
    method: Literal["exact"] = "exact",
    *,
    start: str = "exact",
    absolute: float | None = None,
    relative: float | None = None,
    score: Target | Wavy | None = None,
) -> Divergence: ...


@overload
def kl(
    target: Target,
    tableau: Tableau,
    method: Literal["path"],
    *,
    start: str = "exact",
    particles: int | None = None,
    seed: int | None = None,
    inner: int | None = None,
    threads: int | None = None,
    backend: str | None = None,
    progress: bool | None = None,
) -> PathDivergence: ...


@overload
def kl(
    target: Target,
    tableau: Tableau,
    method: Literal["path"],
    *,
    start: str = "exact",
    particles: int | None = None,
    seed: int | None = None,
    inner: int | None = None,
    progress: bool | None = None,
    score: Score,
) -> PathBound: ...


def kl(
    target: Target,
    tableau: Tableau | Drawn,
    method: str = "exact",
    *,
    start: str = "exact",
    absolute: float | None = None,
    relative: float | None = None,
    particles: int | None = None,
    seed: int | None = None,
    inner: int | None = None,
    threads: int | None = None,
    backend: str | None = None,
    progress: bool | None = None,
    score: Target | Wavy | Score | None = None,
) -> Divergence | PathDivergence | PathBound:
    """KL(q_δ ‖ law of the sampler's output), in nats.

    ``"exact"`` splits the target into independent blocks on which the output law is known exactly: Gaussian
    directions by their moments, one-dimensional mixtures by quadrature of the density. ``"path"`` takes any mixture
    in any dimension: it draws x from q_δ and from the sampler, estimates the density of the output there by paths that
    lead back to the horizon, and reports standard errors; blocks of a :class:`~srkverify.targets.Product` are
    estimated one by one, copies once. Both are derived in docs/theory.md.

    Parameters
    ----------
    target : GaussianMixture or Product
        In any dimension d.
    tableau : Tableau or Drawn
        The sampler on its grid; one that is drawn for "exact" only, in one dimension, for all coordinates share the
        draws.
    method : str
        ``"exact"`` or ``"path"``.
    start : str
        Law at the horizon T: ``"exact"`` (q_T, isolates the discretisation error) or ``"normal"`` (N(0, I), adds
        the initialisation error).
    absolute, relative : float
        For "exact": the quadrature is refined until its error is below the larger of ``absolute`` (by default 1e-10)
        and ``relative``·KL (1e-6).
    particles : int
        For "path": number of backward paths, shared among starts (100,000); one more is drawn for each start to
        estimate the KL of paths. With a Score, of paths of the truth (4096).
    seed : int
        For "path": in [0, 2⁶⁴) (0). The result does not depend on the number of threads.
    inner : int
        For "path": paths a start, a multiple of 4, ≥ 8; by default what a pilot run finds best, 8 to 64. With a Score,
        draws of what the stages of a step see of its noises, ≥ 1 (16): more make the bound closer, if it is one, unless
        the tableau has a memory.
    threads : int
        For "path": number of threads; by default, of processors that this process may use. Not with a Score.
    backend : str
        For "path": ``"cpu"`` or ``"cuda"``, a GPU, whose results are the same to rounding ("cpu"). Not with a Score.
    progress : bool
        For "path": whether to show a progress bar on a terminal after two seconds (True).
    score : GaussianMixture, Product, :class:`~srkverify.perturbed.Wavy`, or :class:`~srkverify.score.Score`
        What the sampler evaluates, if not the target's score. For "exact": the score of a law, a wrong model of the
        target or one with waves. It must split as the target does: into one-dimensional mixtures, or Gaussians of
        commuting covariances. For "path": any function, a network for example, as a Score. The density of its output is
        not estimated, only the KL of paths, an upper bound. Other imperfect scores are tableaus
        (:mod:`srkverify.perturbed`), for any method.

    Returns
    -------
    Divergence, PathDivergence or, with a Score, PathBound
        With ``.value``, ``.error`` (numerical, or a standard error) and ``.method``; from paths also with the KL of
        paths ``.path_kl`` ± ``.path_error``, ``.check`` (E e^L = 1), ``.ess`` and ``.doubts``. If an estimate cannot be
        trusted, ``.doubts`` says why, ``.error`` is infinite and an :class:`UnreliableEstimateWarning` is given.

    Raises
    ------
    ValueError
        If an argument is not of its kind, unknown or of the other method. For "exact": if the target does not reduce
        to one-dimensional blocks, the tableau is beyond the exact engines, or the sampler is unstable on its grid. For
        "path": if the noises of a step do not give its output a density.
    RuntimeError, MemoryError
        With backend "cuda": if there is no CUDA or no GPU (the message says what is missing), or too little memory.

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)
    >>> times = sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=64)
    >>> print(f"{sv.kl(target, sv.schemes.srk(times)).value:.3e}")
    1.164e-03
    >>> result = sv.kl(target, sv.schemes.srk(times), method="path", particles=20_000)
    >>> abs(result.value - 1.164e-3) < 4 * result.error
    True
    """
    check_problem(target, tableau, start, drawn=method != "path")
    options = {
        "absolute": absolute,
        "relative": relative,
        "particles": particles,
        "seed": seed,
        "inner": inner,
        "threads": threads,
        "backend": backend,
        "progress": progress,
        "score": score,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if method == "path" and isinstance(score, Score):
        assert isinstance(tableau, Tableau)
        return score_path_kl(target, tableau, score, start, **_settings_with_score(given))
    settings = _settings(method, given)
    if isinstance(score, Score):
        raise ValueError("score must be a mixture's with method 'exact'; got a Score: method='path' takes any function")
    if method == "path":
        assert isinstance(tableau, Tableau)
        return path_kl(target, tableau, start, **settings)
    _check_drawn(target, tableau)
    absolute, relative = _check_accuracy(settings["absolute"], settings["relative"])
    blocks = pairs(target, score)
    parts = [block_kl(block, tableau, start, absolute / len(blocks), relative, score=own) for block, own in blocks]
    return Divergence(
        sum(part.value for part in parts),
        sum(part.error for part in parts),
        "+".join(sorted({part.method for part in parts})),
    )


def tv(
    target: Target,
    tableau: Tableau | Drawn,
    *,
    start: str = "exact",
    absolute: float = 1e-10,
    relative: float = 1e-6,
) -> Divergence:
    """Total variation between q_δ and the sampler's output law, exact in any dimension.

    It does not add over the independent blocks into which the target splits, but the characteristic function of the
    log-ratio multiplies; docs/theory.md, section 5. Parameters, result and errors as in :func:`kl` with "exact".

    Examples
    --------
    >>> import srkverify as sv
    >>> target = sv.targets.Product([sv.GaussianMixture([0.4, 0.6], [[-1.5], [1.5]], 0.25)], [1000])
    >>> times = sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=64)
    >>> print(f"{sv.tv(target, sv.schemes.srk(times)).value:.4f}")
    0.5536
    """
    check_problem(target, tableau, start, drawn=True)
    absolute, relative = _check_accuracy(absolute, relative)
    if isinstance(tableau, Drawn):
        _check_drawn(target, tableau)
        return mixture_tv(as_mixture(reduce(target)[0]).mixture, tableau, start, absolute, relative)
    return total_variation(reduce(target), tableau, start, absolute, relative)


def _check_drawn(target: Target, tableau: Tableau | Drawn) -> None:
    if isinstance(tableau, Drawn) and target.dimension != 1:
        raise ValueError(
            f"target must have one dimension for {tableau.name}, which in each step draws a number that all "
            f"coordinates share; got dimension {target.dimension}"
        )


def _settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a method's settings, those given and else its own, or raise ``ValueError``."""
    defaults = METHODS[_check.choice("method", method, METHODS)]
    for name, value in given.items():
        if name not in defaults:
            (other,) = (key for key in METHODS if name in METHODS[key])
            if name == "score":
                kind = type(value).__name__
                raise ValueError(f"score must be left out unless method is 'exact', or be a Score; got {kind}")
            raise ValueError(f"{name} must be left out unless method is {other!r}; got {value!r} with {method!r}")
    settings = defaults | given
    if method == "path":
        _check.choice("backend", settings["backend"], BACKENDS)
        _check.integer("seed", settings["seed"], at_least=0, below=2**64)
        if settings["threads"] is not None:
            _check.integer("threads", settings["threads"], at_least=1)
        inner = settings["inner"]
        if inner is not None and _check.integer("inner", inner, at_least=LEAST_INNER) % 4:
            raise ValueError(f"inner must be a multiple of 4, >= {LEAST_INNER}; got {inner!r}")
        _check.integer("particles", settings["particles"], at_least=4 * (inner or LEAST_INNER), below=2**60)
    return settings


def _settings_with_score(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of paths with a score that is a function, those given and else its own."""
    for name, value in given.items():
        if name not in SCORE_PATHS and name != "score":
            raise ValueError(f"{name} must be left out with a Score; got {value!r}")
    settings = SCORE_PATHS | {name: value for name, value in given.items() if name != "score"}
    _check.integer("seed", settings["seed"], at_least=0, below=2**64)
    _check.integer("particles", settings["particles"], at_least=LEAST_PATHS, below=2**60)
    _check.integer("inner", settings["inner"], at_least=1)
    return settings


def _check_accuracy(absolute: float, relative: float) -> tuple[float, float]:
    return _check.number("absolute", absolute, at_least=0.0), _check.number("relative", relative, at_least=0.0)

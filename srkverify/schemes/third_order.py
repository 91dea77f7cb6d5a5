"""SRK of weak order 3, KL ~ K⁻⁶ on mixtures, with one score evaluation a step; derived in docs/third_order.md."""

from __future__ import annotations

from numpy.typing import ArrayLike

from srkverify import _check
from srkverify.schemes._third_order import Freedoms, with_freedoms
from srkverify.schemes._told import Told
from srkverify.tableau import Tableau

# Found by studies/_third_order_fit.py, and rounded.
FITTED = Freedoms(
    scale=0.0355,
    exponent=0.0,
    end=1.56,
    stage=0.5,
    middle=-1.92,
    moment=-0.408,
    apart=-3.39,
    own=-0.258,
    own_early=1.2,
    past=-0.117,
    past_early=0.82,
    before=0.15,
    before_early=-0.361,
)
# Found by studies/_third_order_fit_informed.py, and rounded.
INFORMED = Freedoms(
    stage=0.12,
    stage_early=1.7,
    middle=-1.3,
    middle_early=1.0,
    moment=0.3,
    apart=-1.9,
    apart_early=-0.46,
    own=0.2,
    own_early=-2.7,
    past=0.07,
    past_early=-0.41,
    before=0.046,
    before_early=-0.24,
)


def srk_third_order(times: ArrayLike, reference: float = 2.0, evaluate_twice: bool | None = None) -> Tableau:
    """SRK of weak order 3 with a memory of two evaluations; one evaluation a step.

    KL ~ K⁻⁶ on Gaussians and on mixtures. A clock belongs to a variance: it makes steps without error if the data have
    it. Each step takes the clock of σ^reference, σ² = 1 − e^{−2t} being the variance of the noise at its beginning, for
    errors arise where the data's variance is about as large as the noise's.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    reference : float
        Exponent ≥ 0. 0 is the clock of unit variance; the larger, the nearer to the clock of variance 0, which is best
        for data of low dimension.
    evaluate_twice : bool, optional
        Whether the first step has an evaluation besides that at its beginning, as order 3 asks. If not given: unless
        the run begins with noise of variance e^{2t} − 1 ≥ 10⁴, where it changes next to nothing (docs/third_order.md).

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, or ``reference`` is negative or not finite.

    Notes
    -----
    Not published elsewhere; conditions and measured orders are in docs/third_order.md.
    """
    exponent = _check.number("reference", reference, at_least=0.0)
    name = "srk_third_order" if exponent == 2.0 else f"srk_third_order_{exponent:g}"
    return with_freedoms(times, Freedoms(exponent=exponent), name, evaluate_twice)


def srk_third_order_fitted(times: ArrayLike, evaluate_twice: bool | None = None) -> Tableau:
    """SRK of weak order 3 whose free terms were fitted: :func:`srk_third_order` with a smaller error constant.

    The numbers, the same for all targets, grids and steps, make KL small on random mixtures and pairs of equal modes
    on a line and on Gaussians of variance 10⁻⁴ … 4, with 8 to 48 evaluations.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    evaluate_twice : bool, optional
        As in :func:`srk_third_order`.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times.

    Notes
    -----
    Not published elsewhere. What was fitted, and how it does on targets that it was not fitted to: docs/third_order.md.
    """
    return with_freedoms(times, FITTED, "srk_third_order_fitted", evaluate_twice)


def srk_third_order_informed(times: ArrayLike, variances: Told, evaluate_twice: bool | None = None) -> Tableau:
    """SRK of weak order 3 that is told how well noise can be predicted, as the loss of a trained network tells.

    Exact on isotropic Gaussians in any number of steps. Weak order 3 whatever it is told.

    Parameters
    ----------
    times : (K+1,) decreasing forward times.
    variances : float, (K+1,) on ``times``, or function of forward times
        The data's effective variances λ ≥ 0: :func:`srkverify.effective_variances` for a mixture. If
        L = E|ε − ε̂(X_t)|²/d is the least loss of a prediction of the noise ε in X_t = e^{−t} X_0 + σ_t ε, then
        λ_t = (e^{2t} − 1) L/(1 − L). For Gaussian data of variance λ it is λ, at all times; for others it falls from
        the data's variance to that of their details.
    evaluate_twice : bool, optional
        As in :func:`srk_third_order`.

    Raises
    ------
    ValueError
        If ``times`` is not a decreasing grid of positive times, or ``variances`` are not as many numbers ≥ 0.

    Notes
    -----
    Not published elsewhere. How λ enters, and what was fitted: docs/third_order.md.
    """
    return with_freedoms(times, INFORMED, "srk_third_order_informed", evaluate_twice, variances)

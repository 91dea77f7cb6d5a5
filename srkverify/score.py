"""A score that is a function: NumPy in, NumPy out; a network of PyTorch's by an adapter.

What predicts something else than the score of q_t says the same. With α = e^{−t} and σ² = 1 − e^{−2t}, so that
x_t = α x_0 + σ ε with ε ~ N(0, I), the best guesses of ε, of x_0 and of v = α ε − σ x_0 at x_t = x are

    ε = −σ s,   x_0 = (x + σ² s)/α,   v = −(σ/α)(x + s),

so that s = −ε/σ = (α x_0 − x)/σ² = −x − (α/σ) v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from srkverify import _check
from srkverify._check import Array
from srkverify.engines.posterior import Isotropic
from srkverify.targets import GaussianMixture, Product, Target

DENOISING = ("epsilon", "sample", "v_prediction")  # of diffusers' schedulers
PREDICTIONS = ("score", *DENOISING)

_DIFFERENCE = 1e-3  # for Jacobians, in σ_t
_EXTRA = "pip install 'srkverify[torch]'"


@dataclass(frozen=True, eq=False)
class Score:
    """A score s(x, t) of q_t on R^d, as any function that computes it.

    Attributes
    ----------
    function : function of (points, time)
        Takes points (n, d), float64, and one forward time > 0, and returns n scores (n, d).
    dimension : int
        d.
    law : GaussianMixture or Product, optional
        From whose q_T samplers may start; without it from N(0, I) only.
    jacobian : function of (points, time), optional
        Returns ∇s, (n, d, d), for the bounds of ``sv.kl`` with stage noise, which are valid with any; by default of
        differences, d + 1 evaluations each.
    batch : int
        Most points that the function is given at a time, ≥ 1.
    name : str
        For messages.

    Raises
    ------
    ValueError
        If an attribute is not of its kind. A call raises it if points have another shape than (n, d), or the function
        returns another shape or numbers that are not finite.

    Examples
    --------
    >>> import srkverify as sv
    >>> from srkverify.score import Score
    >>> score = Score(lambda points, time: -points, dimension=3)  # of N(0, I), at all times
    >>> tableau = sv.schemes.srk(sv.schedules.exponential(horizon=6.0, early_stop=0.01, steps=16))
    >>> sv.sample(score, tableau, particles=100, seed=0).shape
    (100, 3)
    """

    function: Callable[[Array, float], ArrayLike]
    dimension: int
    law: Target | None = None
    jacobian: Callable[[Array, float], Array] | None = None
    batch: int = 4096
    name: str = "score"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"function must be callable with (points, time); got {type(self.function).__name__}")
        _check.integer("dimension", self.dimension, at_least=1)
        _check.integer("batch", self.batch, at_least=1)
        if self.law is None:
            return
        if not isinstance(self.law, (GaussianMixture, Product)):
            raise ValueError(f"law must be a GaussianMixture or a Product; got {type(self.law).__name__}")
        if self.law.dimension != self.dimension:
            raise ValueError(f"law must have the score's dimension, {self.dimension}; got {self.law.dimension}")

    def __call__(self, points: Array, time: float) -> Array:
        """Return scores (n, d) at ``points`` (n, d) and forward time ``time``, ``batch`` points at a time."""
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ValueError(f"points must have shape (n, {self.dimension}); got {points.shape}")
        result = np.empty(points.shape)
        for begin in range(0, len(points), self.batch):
            some = points[begin : begin + self.batch]
            found = np.asarray(self.function(some, time))
            if found.shape != some.shape:
                raise ValueError(
                    f"function of {self.name} must return one score for each point, shape {some.shape}; "
                    f"got {found.shape} at time {time:.6g}"
                )
            result[begin : begin + self.batch] = found
        if not np.isfinite(result).all():
            lost = int(np.argmin(np.isfinite(result).all(axis=1)))
            raise ValueError(
                f"function of {self.name} must return finite scores; got {result[lost][~np.isfinite(result[lost])][0]} "
                f"at time {time:.6g}, at a point of length {np.linalg.norm(points[lost]):.3g}"
            )
        return result

    def jacobian_at(self, points: Array, time: float) -> Array:
        """Return ∇s (n, d, d) at ``points`` (n, d): by ``jacobian``, or by differences of a thousandth of σ_t."""
        if self.jacobian is not None:
            return self.jacobian(points, time)
        (n, d), width = points.shape, _DIFFERENCE * float(np.sqrt(-np.expm1(-2.0 * time)))
        result, plain = np.empty((n, d, d)), self(points, time)
        for j in range(d):
            moved = points.copy()
            moved[:, j] += width
            result[:, :, j] = (self(moved, time) - plain) / width
        return result

    @classmethod
    def from_law(cls, law: Target, *, batch: int = 4096) -> Score:
        """Return the exact score of a mixture, as a function: of isotropic ones fast, and with its Jacobian."""
        name = f"the score of a {type(law).__name__}"
        if isinstance(law, GaussianMixture) and law.kind == "isotropic":
            exact = Isotropic(law)
            return cls(exact.score, law.dimension, law=law, jacobian=exact.jacobian, batch=batch, name=name)
        return cls(law.score, law.dimension, law=law, batch=batch, name=name)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        dimension: int,
        *,
        prediction: str = "score",
        alphas: ArrayLike | None = None,
        shape: Sequence[int] | None = None,
        law: Target | None = None,
        batch: int = 4096,
        name: str = "network",
    ) -> Score:
        """Return the score that a PyTorch network predicts.

        The network runs where its parameters are and in their type, without gradients; what it does in training
        (dropout, say) is for the caller to switch off by ``module.eval()``.

        Parameters
        ----------
        module : torch.nn.Module, or function of tensors
            Called with points (n, d), or (n, *shape), and times (n,). Returns a tensor of the points' shape, or an
            object that has it as ``.sample``, as diffusers' networks do.
        dimension : int
            d.
        prediction : str
            What it predicts, by the names of diffusers: ``"score"``, ``"epsilon"`` (the noise), ``"sample"`` (x_0) or
            ``"v_prediction"``.
        alphas : (N,) numbers in (0, 1), decreasing, optional
            ᾱ of a model in discrete time, a scheduler's ``alphas_cumprod``. The network is then called with timesteps,
            the place of e^{−2t} in this table, between its entries by interpolation in log ᾱ; else with t itself.
        shape : sequence of int, optional
            Of a point as the network takes it, (C, H, W) for example; its product is d.
        law, batch, name
            As in :class:`Score`.

        Raises
        ------
        RuntimeError
            If PyTorch is not installed: the message says how to install it.
        ValueError
            If an argument is not of its kind. A call raises it too if a time is outside of the table.
        """
        torch = _torch()
        _check.choice("prediction", prediction, PREDICTIONS)
        size = tuple(shape) if shape is not None else (dimension,)
        if int(np.prod(size)) != dimension:
            raise ValueError(f"shape must have the product {dimension}, the dimension; got {size}")
        table = None if alphas is None else _log_table(alphas)
        parameter = next(iter(module.parameters()), None) if isinstance(module, torch.nn.Module) else None
        kind, device = (torch.float64, "cpu") if parameter is None else (parameter.dtype, parameter.device)

        def function(points: Array, time: float) -> ArrayLike:
            with torch.inference_mode():
                x = torch.tensor(points, dtype=kind, device=device).reshape(-1, *size)
                found = module(x, torch.full((len(x),), _timestep(time, table), dtype=kind, device=device))
                found = found if isinstance(found, torch.Tensor) else found.sample
                if found.shape != x.shape:
                    raise ValueError(f"module must return shape {tuple(x.shape)}; got {tuple(found.shape)}")
                predicted = found.reshape(points.shape).cpu().double().numpy()
            return to_score(prediction, predicted, points, time)

        return cls(function, dimension, law=law, batch=batch, name=name)


def to_score(prediction: str, predicted: Any, points: Any, time: float) -> Any:
    """Return the score that is meant by a prediction of another kind, ``PREDICTIONS``, at ``points``.

    Arrays of NumPy or tensors. See :mod:`srkverify.score` for the formulas.
    """
    alpha, variance = float(np.exp(-time)), float(-np.expm1(-2.0 * time))
    if _check.choice("prediction", prediction, PREDICTIONS) == "score":
        return predicted
    if prediction == "epsilon":
        return -predicted / variance**0.5
    if prediction == "sample":
        return (alpha * predicted - points) / variance
    return -points - alpha / variance**0.5 * predicted


def to_prediction(prediction: str, score: Any, points: Any, time: float) -> Any:
    """Return what a network of another kind predicts where the score is ``score``: the inverse of :func:`to_score`."""
    alpha, variance = float(np.exp(-time)), float(-np.expm1(-2.0 * time))
    if _check.choice("prediction", prediction, PREDICTIONS) == "score":
        return score
    if prediction == "epsilon":
        return -(variance**0.5) * score
    if prediction == "sample":
        return (points + variance * score) / alpha
    return -(variance**0.5) / alpha * (points + score)


def _torch() -> Any:
    try:
        import torch
    except ImportError as problem:
        raise RuntimeError(f"Score.from_torch needs PyTorch, which is not installed: {_EXTRA}") from problem
    return torch


def _log_table(alphas: ArrayLike) -> Array:
    """Return −log ᾱ, increasing."""
    table = _check.finite_array("alphas", alphas, dimensions=(1,))
    if table.max() >= 1.0 or table.min() <= 0.0 or (np.diff(table) >= 0.0).any():
        raise ValueError(f"alphas must decrease inside (0, 1); got {table[0]:.6g} to {table[-1]:.6g}")
    return -np.log(table)


def _timestep(time: float, table: Array | None) -> float:
    """Return the place of e^{−2t} in a table of ᾱ, a whole number if it is one within 1e−6; t without a table."""
    if table is None:
        return time
    low, high = table[0], table[-1]
    if not (1.0 - 1e-9) * low <= 2.0 * time <= (1.0 + 1e-9) * high:
        raise ValueError(
            f"time must be in [{low / 2.0:.6g}, {high / 2.0:.6g}], where alphas has e^(−2t); got {time:.6g}"
        )
    place = float(np.interp(2.0 * time, table, np.arange(len(table))))
    return round(place) if abs(place - round(place)) < 1e-6 else place

"""SRKScheduler: any scheme of this package as a scheduler of diffusers, which evaluates where the scheme wants it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from srkverify import _check, schedules, schemes
from srkverify._check import Array
from srkverify.diffusers._noise_schedule import SPACINGS, spaced, steps_at, times_at, training_times
from srkverify.diffusers._run import Run, evaluation_times, first_evaluation, started_at_state
from srkverify.score import DENOISING, to_prediction, to_score
from srkverify.tableau import Tableau

_LEARNED = ("learned", "learned_range")


@lru_cache(maxsize=1)
def available() -> tuple[str, ...]:
    """Return the schemes that a scheduler can run: those whose first evaluation is at the state, but for noise."""
    names = []
    for name, scheme in schemes.SCHEMES.items():
        tableau = scheme(schedules.exponential(2.0, 0.5, 8))
        stage = first_evaluation(tableau)
        if stage is not None and tableau.stage_state[0, stage] == 1.0 and tableau.stage_times[0, stage] == 2.0:
            names.append(name)
    return tuple(names)


class SRKScheduler(SchedulerMixin, ConfigMixin):
    """A scheme of :data:`srkverify.schemes.SCHEMES` in place of a pipeline's scheduler.

    A pipeline hands each image to its model and the model's output to :meth:`step`. What goes round here is the next
    point at which the scheme wants the score; the state and the step's noise stay inside, and the last call returns the
    image. ``timesteps`` are the evaluations' times in training steps, whole or not (log ᾱ is linear between two).

    Parameters
    ----------
    num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas
        The β-schedule of the model's training, as in diffusers: "linear", "scaled_linear", "squaredcos_cap_v2", or all
        of its β. Computed in double precision.
    prediction_type : what the model predicts: "epsilon", "sample" (x_0) or "v_prediction".
    timestep_spacing, steps_offset : which training steps the grid holds: "leading", "trailing" or "linspace".
    scheme : one of :func:`available`.
    set_alpha_to_one
        True: the grid ends at the last of the n chosen training steps, and a last evaluation there takes the image to
        ᾱ = 1, by the denoiser and without noise, as DDPM and DDIM do. False: the grid ends at training step 0.
    clip_sample, clip_sample_range
        Clip the predicted x_0. What is clipped is no tableau: :attr:`tableau` is what runs without.
    variance_type
        "learned" and "learned_range" say that the model has twice as many channels; the second half is not used.
    thresholding, rescale_betas_zero_snr : must be False; here so that a configuration that has them is refused.

    Raises
    ------
    ValueError
        If an option is not allowed.
    """

    _compatibles = [each.name for each in KarrasDiffusionSchedulers]  # noqa: RUF012
    order = 1
    _index: int | None
    _begin: int | None
    _run: Run | None
    _handed: torch.Tensor | None  # what the last step returned

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Any = None,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        scheme: str = "srk_third_point_1",
        set_alpha_to_one: bool = True,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        variance_type: str | None = None,
        thresholding: bool = False,
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        count = _check.integer("num_train_timesteps", num_train_timesteps, at_least=2)
        _check.choice("prediction_type", prediction_type, DENOISING)
        _check.choice("timestep_spacing", timestep_spacing, SPACINGS)
        _check.integer("steps_offset", steps_offset, at_least=0, below=count)
        _check.choice("scheme", scheme, available())
        _check.number("clip_sample_range", clip_sample_range, above=0.0)
        for name, given in (("thresholding", thresholding), ("rescale_betas_zero_snr", rescale_betas_zero_snr)):
            if given:
                raise ValueError(
                    f"{name} must be False: a tableau is linear and begins at a finite time; got {given!r}"
                )
        if trained_betas is None:
            _check.number("beta_start", beta_start, above=0.0, below=1.0)
            _check.number("beta_end", beta_end, above=0.0, below=1.0)
        self._training = training_times(count, beta_start, beta_end, beta_schedule, trained_betas)
        self.alphas_cumprod = torch.tensor(np.exp(-2.0 * self._training), dtype=torch.float32)
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(count - 1, -1, -1)
        self._tableau: Tableau | None = None
        self._times = self._training[:0]  # of the evaluations
        self._restart()

    def __len__(self) -> int:
        """Return the number of training steps."""
        return int(self._options.num_train_timesteps)

    @property
    def tableau(self) -> Tableau:
        """What a run computes, as a table: ``sv.kl(target, scheduler.tableau)`` is the exact KL of its output.

        It is the scheme's tableau but for the first evaluation, which is at the state without stage noise: the model's
        first input is the noise that the pipeline has drawn. With ``set_alpha_to_one`` it ends before the last
        evaluation, which maps its output to the denoiser's value there.
        """
        if self._tableau is None:
            raise ValueError("tableau must be asked for after set_timesteps; no timesteps are set")
        return self._tableau

    @property
    def step_index(self) -> int | None:
        """How many steps of this run are done; None before the first."""
        return self._index

    @property
    def begin_index(self) -> int | None:
        """The index of the first step, if it has been set."""
        return self._begin

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run at ``timesteps[begin_index]``, as for image-to-image."""
        self._begin = _check.integer("begin_index", begin_index, at_least=0)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """Choose the grid of the next run, and forget the last one.

        Parameters
        ----------
        num_inference_steps : number n of grid points, the training steps that DDPM would choose. A scheme with r
            evaluations a step calls the model about rn times: ``len(timesteps)``.
        device : where ``timesteps`` lie.
        timesteps : the grid itself, decreasing training steps from ``num_train_timesteps`` − 1 down to 0, instead of n.

        Raises
        ------
        ValueError
            If not exactly one of the two is given, or the grid has fewer points than the scheme needs.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError(
                "num_inference_steps or timesteps must be given, and not both; "
                f"got {num_inference_steps!r} and {timesteps!r}"
            )
        config = self._options
        if timesteps is None:
            assert num_inference_steps is not None
            grid = spaced(len(self), num_inference_steps, config.timestep_spacing, config.steps_offset)
        else:
            grid = _check.finite_array("timesteps", timesteps, dimensions=(1,))
            if grid.min() < 0.0 or grid.max() > len(self) - 1 or (np.diff(grid) >= 0.0).any():
                raise ValueError(
                    f"timesteps must decrease, from at most {len(self) - 1} to at least 0; got {timesteps}"
                )
        if not config.set_alpha_to_one and grid[-1] > 0.0:
            grid = np.append(grid, 0.0)
        if len(grid) < 2:
            raise ValueError(
                f"num_inference_steps must be >= 2, for a grid of at least one step; got {num_inference_steps!r}"
            )
        self._use(times_at(grid, self._training))
        self.num_inference_steps = len(grid) if config.set_alpha_to_one else len(grid) - 1
        self.order = max(1, round(len(self.timesteps) / self.num_inference_steps))
        self.timesteps = self.timesteps.to(device)
        self._restart()

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """Return the image as it is: the model's input is not scaled."""
        return sample

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Take the model's output at ``timestep`` and ``sample``; return the next image to give to the model.

        Parameters
        ----------
        model_output : the prediction, of the shape of ``sample``.
        timestep : the next of ``timesteps``; they must come in order, for the scheduler remembers the run.
        sample : the image that the model was given. If a pipeline has changed it since the last step (inpainting), the
            state is changed as much.
        generator : one for all images of the batch, or a list with one for each.
        return_dict : False for a tuple.

        Returns
        -------
        :class:`diffusers.schedulers.scheduling_ddpm.DDPMSchedulerOutput` with ``prev_sample``, the next point (the
        image, after the last step), and ``pred_original_sample``, the predicted x_0.

        Raises
        ------
        ValueError
            If the step is out of order, or ``set_timesteps`` has not been called.
        """
        index = self._turn(timestep)
        if self._options.variance_type in _LEARNED and model_output.shape[1] == 2 * sample.shape[1]:
            model_output = model_output[:, : sample.shape[1]]
        if model_output.shape != sample.shape:
            raise ValueError(
                f"model_output must have sample's shape {tuple(sample.shape)}; got {tuple(model_output.shape)}"
            )
        point = _precise(sample)
        if self._run is None:
            self._run = Run(self.tableau, point, self._options.set_alpha_to_one)
        else:
            assert self._handed is not None
            self._run.shift(point - self._handed)
        score, original = self._score(_precise(model_output), point, float(self._times[index]))

        def draw() -> torch.Tensor:
            return randn_tensor(point.shape, generator=generator, device=point.device, dtype=point.dtype)

        found = self._run.advance(point, score, draw).to(sample.dtype)
        self._handed = _precise(found).clone()  # rounded as it was handed out; a pipeline may change it in place
        self._index = index + 1
        if not return_dict:
            return found, original.to(sample.dtype)
        return DDPMSchedulerOutput(prev_sample=found, pred_original_sample=original.to(sample.dtype))

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return √ᾱ x_0 + √(1 − ᾱ) z at (n,) training steps, whole or not."""
        signal, spread = self._levels(original_samples, timesteps)
        return signal * original_samples + spread * noise

    def get_velocity(self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return v = √ᾱ z − √(1 − ᾱ) x_0 at (n,) training steps, whole or not."""
        signal, spread = self._levels(sample, timesteps)
        return signal * noise - spread * sample

    def _levels(self, images: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return √ᾱ and √(1 − ᾱ) of each image, to multiply with."""
        times = times_at(np.atleast_1d(timesteps.detach().cpu().numpy()), self._training)
        shape = (-1,) + (1,) * (images.ndim - 1)
        both = np.exp(-times), np.sqrt(-np.expm1(-2.0 * times))
        signal, spread = (torch.tensor(each).reshape(shape).to(images.dtype).to(images.device) for each in both)
        return signal, spread

    def _score(self, output: torch.Tensor, point: torch.Tensor, time: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the score and the predicted x_0 that a model's output at a point means."""
        score = to_score(self._options.prediction_type, output, point, time)
        original = to_prediction("sample", score, point, time)
        if self._options.clip_sample:
            original = original.clamp(-self._options.clip_sample_range, self._options.clip_sample_range)
            score = to_score("sample", original, point, time)
        return score, original

    def _use(self, times: Array) -> None:
        """Make the tableau on a grid, and the timesteps at which it evaluates."""
        tableau = started_at_state(schemes.scheme(self._options.scheme)(times))
        at = evaluation_times(tableau, self._options.set_alpha_to_one)
        if at.max() > self._training[-1] * (1.0 + 1e-12) or at.min() < self._training[0] * (1.0 - 1e-12):
            raise ValueError(
                f"scheme must evaluate between training steps 0 and {len(self) - 1}; {self._options.scheme} does not"
            )
        steps = steps_at(at, self._training)
        whole = (steps == np.round(steps)).all()
        self._tableau, self._times = tableau, at
        self.timesteps = torch.tensor(steps, dtype=torch.int64 if whole else torch.float32)

    def _restart(self) -> None:
        self._index = self._begin = self._run = self._handed = None

    @property
    def _options(self) -> Any:
        return self.config  # with an attribute for each option

    def _turn(self, timestep: Any) -> int:
        """Return the index of this step, or raise if it is not this one's turn."""
        self.tableau  # noqa: B018 - raises if there is none
        given = float(timestep)
        if self._index is None:
            at = [index for index, each in enumerate(self.timesteps.tolist()) if abs(each - given) < 1e-3]
            begin = self._begin if self._begin is not None else at[0] if at else -1
            if begin > 0:
                self._begin_at(begin)
            self._index = max(begin, 0)
        if self._index == len(self.timesteps):
            raise ValueError(f"timestep must be one of a new run: the last one is done (set_timesteps); got {given:g}")
        expected = float(self.timesteps[self._index])
        if abs(given - expected) > 1e-3:
            raise ValueError(
                f"timestep must be {expected:g}, the one of index {self._index}, for the scheduler remembers the run "
                f"and takes its timesteps in order (set_timesteps begins anew); got {given:g}"
            )
        return self._index

    def _begin_at(self, index: int) -> None:
        """Let the scheme begin later: at a grid point from which it would evaluate where it does anyway."""
        kept = self.timesteps, self._times
        if index < len(self._times):
            rest = self.tableau.times[self.tableau.times <= self._times[index]]
            if len(rest) >= 2 and rest[0] == self._times[index]:
                self._use(rest)
                if np.allclose(self._times, kept[1][index:], rtol=1e-12, atol=0.0):
                    self._times = np.concatenate([kept[1][:index], self._times])
                    self.timesteps = kept[0]
                    return
                self.timesteps, self._times = kept
        raise ValueError(
            f"begin_index must be that of an evaluation with which {self._options.scheme} can begin, at a grid point; "
            f"got {index} (schemes that evaluate between grid points by memory begin at 0 only)"
        )


def _precise(image: torch.Tensor) -> torch.Tensor:
    """Return an image in single precision at least."""
    return image if image.dtype in (torch.float32, torch.float64) else image.to(torch.float32)

"""The loop of all samplers, from noise to data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, NoiseSchedule, Prediction
from iddpm.diffusion.level_distribution import LevelChoice

Noise = Callable[[int], Tensor]
"""Standard normal noise as a function of the step number, counted from the noisiest step (0)."""


class Step(NamedTuple):
    """What one step of a sampler returns."""

    x: Tensor
    """The state one step closer to the data."""
    prediction: Prediction
    """The model's prediction for the state before."""
    memory: Any = None
    """Passed to the next step; the history of a multistep solver."""


class Sampler(Protocol):
    """One step of a sampler. Samplers hold settings, no state.

    >>> import torch
    >>> from iddpm import cosine, sample
    >>> from iddpm.diffusion.prediction import from_x0
    >>> class AtOnce:  # a sampler that trusts the estimate of every step
    ...     def step(self, denoise, x, i, schedule, draw, memory=None):
    ...         prediction = denoise(x, schedule.at(torch.full((len(x),), i)))
    ...         return Step(prediction.x0, prediction)
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)
    >>> sample(AtOnce(), half, cosine(4), torch.randn(1, 2))
    tensor([[0.5000, 0.5000]])
    """

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: Any,
    ) -> Step:
        """Go from step ``i`` of ``schedule`` to the one below; from 0, to the data.

        Args:
            denoise: the model.
            x: the state at step ``i``, [N, C, *spatial].
            i: index into ``schedule``.
            schedule: the steps that are visited.
            draw: returns this step's standard normal noise, the shape of ``x``.
            memory: the ``memory`` that the step before returned; None at the first.
        """


@dataclass(frozen=True, eq=False)
class State:
    """The state of a trajectory after a step."""

    number: int
    """Number of steps taken."""
    index: int
    """The step of the schedule at which the step started."""
    x: Tensor
    """The state, [N, C, *spatial]; after the last step, the sample."""
    x0: Tensor
    """The model's estimate of the data before the step."""


@torch.no_grad()
def trajectory(
    sampler: Sampler,
    denoise: Denoise,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    noise: Noise | None = None,
    self_condition: bool = False,
    levels: LevelChoice = "mode",
    **conditioning: Any,
) -> Iterator[State]:
    """Sample from noise to data and yield the state after every step.

    Args:
        sampler: the sampler.
        denoise: the model, or any function of that form.
        schedule: the steps to visit, respaced or not.
        x_T: standard normal, [N, C, *spatial].
        noise: a function of the step number that returns the step's noise; by default PyTorch's
            global generator draws it.
        self_condition: pass each step's estimate of x0 on to the next as ``estimate`` (Chen et al.
            2022, algorithm 2), for a denoiser that was trained so.
        levels: the last step of a model with a probability for each level of the data: the most
            probable level (``"mode"``), a drawn one (``"draw"``), or their mean, which is not a
            level (``"mean"``). Other models ignore it.
        conditioning: passed to ``denoise``, such as class labels ``y``.

    >>> from iddpm import DDIM, cosine, even_timesteps
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)  # all data is 0.5
    >>> few = cosine(1000).respace(even_timesteps(1000, 3))
    >>> for state in trajectory(DDIM(), half, few, torch.full((1, 1), 2.0)):
    ...     print(state.number, state.index, round(float(state.x), 2))
    1 2 1.78
    2 1 0.51
    3 0 0.5
    """
    if conditioning:
        denoise = partial(denoise, **conditioning)
    x, memory, estimate = x_T, None, None
    for number, i in enumerate(reversed(range(len(schedule)))):
        draw = partial(torch.randn_like, x) if noise is None else partial(noise, number)
        seen = denoise if estimate is None else partial(denoise, estimate=estimate)
        x, prediction, memory = sampler.step(seen, x, i, schedule, draw, memory)
        estimate = prediction.x0 if self_condition else None
        if i == 0 and prediction.levels is not None:
            ended = prediction.levels.end(levels, draw)
            x = x if ended is None else ended
        yield State(number + 1, i, x, prediction.x0)


def sample(
    sampler: Sampler,
    denoise: Denoise,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    noise: Noise | None = None,
    self_condition: bool = False,
    levels: LevelChoice = "mode",
    **conditioning: Any,
) -> Tensor:
    """Sample from noise to data and return the samples; arguments as in :func:`trajectory`.

    >>> import torch
    >>> from iddpm import DDIM, Denoiser, GaussianDiffusion, UNet, cosine, space_timesteps
    >>> network = UNet(
    ...     dims=2, in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1, 2),
    ... )
    >>> diffusion = GaussianDiffusion(cosine(1000), "learned_range")
    >>> few = diffusion.schedule.respace(space_timesteps(1000, 4))
    >>> x = sample(DDIM(), Denoiser(network, diffusion), few, torch.randn(2, 1, 8, 8))
    >>> x.shape
    torch.Size([2, 1, 8, 8])
    """
    x = x_T
    for state in trajectory(
        sampler,
        denoise,
        schedule,
        x_T,
        noise=noise,
        self_condition=self_condition,
        levels=levels,
        **conditioning,
    ):
        x = state.x
    return x


def is_pure_noise(schedule: NoiseSchedule, i: int) -> bool:
    """Return whether step ``i`` is pure noise, with log-SNR -infinity."""
    return schedule.ends_in_pure_noise and i == len(schedule) - 1


def level_of(schedule: NoiseSchedule, i: int, x: Tensor) -> tuple[Tensor, Level]:
    """Return step ``i`` as a batch: the indices [N] and their noise levels."""
    t = torch.full((len(x),), i)
    return t, schedule.at(t)

"""Editing: inpainting, partial noising and interpolation."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, NoiseSchedule, Prediction
from iddpm.diffusion.level_distribution import LevelChoice
from iddpm.diffusion.prediction import posterior_mean
from iddpm.sampling.sampler_loop import Noise, Sampler, State, trajectory


def slerp(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Go from ``a`` to ``b`` along the great circle (Shoemake 1985), for the noises of two items.

    A straight line would pass through improbable noise: normal vectors of many dimensions all have
    about the same length.

    Args:
        a, b: [C, *spatial].
        weights: [F], 0 for ``a`` and 1 for ``b``.

    Returns:
        [F, C, *spatial].

    >>> a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> slerp(a, b, torch.tensor([0.5]))
    tensor([[[0.7071, 0.7071]]])
    """
    x, y = a.double().flatten(), b.double().flatten()
    angle = torch.acos((x @ y / (x.norm() * y.norm())).clamp(-1, 1))
    w = weights.double().to(a.device)
    if float(angle.sin()) < 1e-6:  # one direction: the circle is the line
        of_a, of_b = 1 - w, w
    else:
        of_a, of_b = (((1 - w) * angle).sin() / angle.sin(), (w * angle).sin() / angle.sin())
    return (of_a[:, None] * x + of_b[:, None] * y).to(a.dtype).reshape(len(w), *a.shape)


def noised(schedule: NoiseSchedule, x0: Tensor, noise: Tensor) -> Tensor:
    """Return data [N, C, *spatial] with ``noise`` added up to the noisiest step."""
    alpha_bar = schedule.alpha_bar[-1]
    return float(alpha_bar.sqrt()) * x0 + float((1 - alpha_bar).sqrt()) * noise


def redraw(
    sampler: Sampler,
    denoise: Denoise,
    schedule: NoiseSchedule,
    x0: Tensor,
    initial: Tensor,
    *,
    noise: Noise | None = None,
    **conditioning: Any,
) -> Iterator[State]:
    """Add noise up to the noisiest step of ``schedule`` and denoise (SDEdit, Meng et al. 2022).

    The last step of the schedule determines how much is kept: end it at an interior step.

    Args:
        sampler, denoise, schedule, noise, conditioning: as in
            :func:`~iddpm.sampling.sampler_loop.trajectory`.
        x0: data in [-1, 1], [N, C, *spatial].
        initial: standard normal, the shape of ``x0``.

    >>> from iddpm import DDIM, cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)  # all data is 0.5
    >>> x0, lower = torch.zeros(1, 2), cosine(1000).respace([0, 200, 400])  # to step 400 of 999
    >>> [state.x for state in redraw(DDIM(), half, lower, x0, torch.randn(1, 2))][-1]
    tensor([[0.5000, 0.5000]])
    """
    x = noised(schedule, x0, initial)
    return trajectory(sampler, denoise, schedule, x, noise=noise, **conditioning)


def keep_known(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Replace the model's estimate by the known data.

    The noise estimate follows, so every sampler takes the known part along the forward process: an
    ODE solver with its initial noise, DDPM by the posterior q(x_{t-1} | x_t, x0).

    Args:
        denoise: the model.
        known: data in [-1, 1], [N, C, *spatial]; looked at only where ``mask`` is false.
        mask: bool, broadcasts against ``known``; true where the model is to fill in.

    >>> from iddpm import cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)
    >>> known, mask = torch.tensor([[-1.0, 0.0]]), torch.tensor([False, True])
    >>> keep_known(half, known, mask)(torch.randn(1, 2), cosine(1000).at(torch.tensor([500]))).x0
    tensor([[-1.0000,  0.5000]])
    """

    def kept(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        prediction = denoise(x_t, level, **conditioning)
        mean = prediction.mean
        if mean is not None:
            mean = torch.where(mask, mean, posterior_mean(known, x_t, level))
        x0 = torch.where(mask, prediction.x0, known)
        return replace(prediction.with_x0(x0, x_t, level), mean=mean)

    return kept


@torch.no_grad()
def inpaint(
    sampler: Sampler,
    denoise: Denoise,
    schedule: NoiseSchedule,
    known: Tensor,
    mask: Tensor,
    initial: Tensor,
    *,
    resample: int = 1,
    jump: int = 10,
    noise: Noise | None = None,
    self_condition: bool = False,
    levels: LevelChoice = "mode",
    **conditioning: Any,
) -> Iterator[State]:
    """Fill in what a mask marks and yield the state after every step towards the data.

    At every noise level the known part is noised data (:func:`keep_known`). The model fits the rest
    to it, but early steps do not depend on later ones. Resampling (RePaint, Lugmayr et al. 2022,
    section 4.2) goes back ``jump`` steps by adding noise and denoises again, ``resample`` times in
    total over every interval.

    The last state holds the known part bit for bit.

    Args:
        sampler, denoise, schedule, self_condition, levels, conditioning: as in
            :func:`~iddpm.sampling.sampler_loop.trajectory`.
        known: data in [-1, 1], [N, C, *spatial]; looked at only where ``mask`` is false.
        mask: bool, broadcasts against ``known``; true where to fill in.
        initial: standard normal, the shape of ``known``.
        resample: 1 is replacement alone; RePaint takes 10.
        jump: steps to go back; RePaint takes 10 of 250.
        noise: of each step and jump, counted together.

    Raises:
        ValueError: ``resample`` or ``jump`` below 1, or a jump as long as the schedule.

    >>> from iddpm import DDIM, cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)  # all data is 0.5
    >>> known, mask = torch.tensor([[-1.0, 0.0]]), torch.tensor([False, True])
    >>> [state.x for state in inpaint(DDIM(), half, cosine(4), known, mask, torch.randn(1, 2))][-1]
    tensor([[-1.0000,  0.5000]])
    """
    noise = noise or (lambda _: torch.randn_like(initial))
    kept = keep_known(denoise, known, mask)
    alpha_bar = [1.0, *schedule.alpha_bar.tolist()]  # by the number of steps left
    x, number, taken = torch.where(mask, initial, noised(schedule, known, initial)), 0, 0
    at = len(schedule)
    for left, down_to in stretches(len(schedule), resample, jump):
        if left > at:  # back up: one step of the forward process
            share = alpha_bar[left] / alpha_bar[at]
            x = share**0.5 * x + (1 - share) ** 0.5 * noise(number)
            number += 1
        lower = schedule.respace(range(left))
        drawn = partial(_counted_from, noise, number)
        states = trajectory(
            sampler,
            kept,
            lower,
            x,
            noise=drawn,
            self_condition=self_condition,
            levels=levels,
            **conditioning,
        )
        for state in islice(states, left - down_to):
            x = state.x
            if state.index == 0:
                x = torch.where(mask, x, known)
            taken += 1
            yield replace(state, number=taken, x=x)
        number += left - down_to
        at = down_to


def _counted_from(noise: Noise, start: int, number: int) -> Tensor:
    return noise(start + number)


def stretches(steps: int, resample: int, jump: int) -> list[tuple[int, int]]:
    """Return the denoising parts of RePaint: the steps left at their start and end.

    Raises:
        ValueError: as :func:`inpaint`.
    """
    if resample < 1 or jump < 1:
        raise ValueError(f"resample={resample} and jump={jump} must be 1 or more")
    if resample > 1 and jump >= steps:
        raise ValueError(
            f"jump={jump} cannot go back within {steps} steps: use a shorter jump or more steps"
        )
    again = dict.fromkeys(range(0, steps - jump, jump), resample - 1)
    parts, start, left = [], steps, steps
    while left > 0:
        left -= 1
        if again.get(left, 0) > 0:
            again[left] -= 1
            parts.append((start, left))
            start = left = left + jump
    return [*parts, (start, 0)]

"""The variational bound of a model on a batch: all of its terms, or some of each item's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddpm.diffusion import (
    AnalyticVariance,
    Denoise,
    GaussianDiffusion,
    NoiseSchedule,
    Prediction,
)
from iddpm.diffusion.prediction import VarianceKind
from iddpm.diffusion.variational_bound import per_item, prior_term, vlb_term
from iddpm.runtime.seeds import normal, stream


@dataclass(frozen=True, eq=False)
class Process:
    """A reverse process whose bound is measured: some steps of the one that was trained.

    Attributes:
        whole: the process that was trained.
        kept: its steps that are visited, increasing.
        diffusion: the process of those steps, with its kind of variance.
        analytic: where the variance comes from when it is analytic.
    """

    whole: NoiseSchedule
    kept: tuple[int, ...]
    diffusion: GaussianDiffusion
    analytic: AnalyticVariance | None = None

    def place(self, t: Tensor, uniform: Tensor) -> Tensor:
        """Return where the terms of the steps ``t`` are looked at: there, whatever ``uniform``."""
        return t

    def term(
        self,
        prediction: Prediction,
        x0: Tensor,
        x_t: Tensor,
        position: Tensor,
        place: Tensor,
        bits: int | None,
    ) -> Tensor:
        """Return the bound's terms [N] float64 in bits per dimension; see :func:`vlb_term`.

        Args:
            prediction: the model's, at the noise levels of the trained process.
            x0, x_t: data and its noisy version, [N, C, *spatial].
            position: [N] int64, positions in ``kept``.
            place: what :meth:`place` returned, where ``x_t`` was looked at.
            bits: bit depth of the data; None for continuous data.
        """
        if len(self.kept) < len(self.whole):
            # The mean of x_{t-1} that a network may predict is not the mean of a longer step.
            prediction = replace(prediction, mean=None)
        if self.analytic is not None:
            level = self.diffusion.schedule.at(position)
            prediction = self.analytic.attach(prediction, x_t, level)
        terms = vlb_term(self.diffusion, prediction, x0, x_t, position, bits=bits)
        return terms.cpu().double()


def process(
    whole: NoiseSchedule,
    kept: Sequence[int],
    variance: VarianceKind,
    analytic: AnalyticVariance | None = None,
) -> Process:
    """Return the process that visits ``kept``; ``analytic`` is needed for that variance alone."""
    assert (variance == "analytic") == (analytic is not None)
    diffusion = GaussianDiffusion(whole.respace(kept), variance)
    return Process(whole, tuple(kept), diffusion, analytic)


@dataclass(frozen=True, eq=False)
class Terms:
    """What was measured of a batch of N items at M of the K steps of a process.

    Attributes:
        prior: float64 [N], bits per dimension.
        positions: int64 [N, M], which steps.
        vb: float64 [N, M], the bound's terms there, in bits per dimension.
        weights: float64 [N, M], what the terms count with: one over the probability of the look.
        x0_mse, eps_mse: float64 [N, M], mean squared errors of the estimates of data and noise.
    """

    prior: Tensor
    positions: Tensor
    vb: Tensor
    weights: Tensor
    x0_mse: Tensor
    eps_mse: Tensor

    @property
    def steps(self) -> Tensor:
        """[N], the terms but the decoder's, summed or estimated."""
        return (self.vb * self.weights * (self.positions > 0)).sum(dim=1)

    @property
    def decoder(self) -> Tensor:
        """[N], the term of step 0."""
        return (self.vb * self.weights * (self.positions == 0)).sum(dim=1)

    @property
    def total(self) -> Tensor:
        """[N], the bound."""
        return self.prior + self.steps + self.decoder


ForwardNoise = Callable[[Tensor], Tensor]
"""From steps [N] of the trained process to standard normal noise, the shape of the batch."""


@dataclass(frozen=True)
class ItemNoise:
    """Noise that is a function of (seed, item, step): the same in every batch and for every stride.

    Attributes:
        seed: the user's seed.
        items: numbers of the batch's items in their source.
        shape: (C, *spatial).
        device: where the noise is wanted; it is drawn on the CPU, in float32.
        purpose: keeps it apart from noise that is drawn for something else.
    """

    seed: int
    items: Sequence[int]
    shape: Sequence[int]
    device: torch.device | str = "cpu"
    purpose: str = "likelihood"

    def __call__(self, t: Tensor) -> Tensor:
        """Return the noise [N, C, *spatial] of the items at their steps ``t`` [N]."""
        drawn = [
            normal(self.seed, self.purpose, (1, *self.shape), step=step, start=item)
            for item, step in zip(self.items, t.tolist(), strict=True)
        ]
        return torch.from_numpy(np.concatenate(drawn)).to(self.device)

    def uniform(self, t: Tensor) -> Tensor:
        """Return uniform numbers [N] float64 in [0, 1) for the items at their steps ``t`` [N]."""
        drawn = [
            stream(self.seed, f"{self.purpose} place", step=step, index=item).random()
            for item, step in zip(self.items, t.tolist(), strict=True)
        ]
        return torch.tensor(drawn, dtype=torch.float64)


@torch.no_grad()
def look(
    denoise: Denoise, whole: NoiseSchedule, x0: Tensor, t: Tensor, eps: Tensor, *, clip: bool,
    **conditioning: Any,
) -> tuple[Tensor, Prediction]:  # fmt: skip
    """Return x_t and what the model says of it at the steps ``t`` [N] of the trained process.

    Steps may lie between two others.
    """
    x_t = GaussianDiffusion(whole).q_sample(x0, t, eps)
    level = whole.at(t)
    prediction = denoise(x_t, level, **conditioning)
    if clip:
        prediction = prediction.clipped(x_t, level)
    return x_t, prediction


@torch.no_grad()
def whole_bounds(
    denoise: Denoise,
    processes: Sequence[Process],
    x0: Tensor,
    noise: ForwardNoise,
    *,
    bits: int | None,
    clip: bool = True,
    on_step: Callable[[], None] = lambda: None,
    uniform: ForwardNoise = lambda t: torch.full(t.shape, 0.5, dtype=torch.float64),
    **conditioning: Any,
) -> list[Terms]:
    """Measure the bounds of several processes at once: a step that they share is evaluated once.

    Args:
        denoise: the model.
        processes: of one trained process; a continuous one goes alone.
        x0: data in [-1, 1], [N, C, *spatial].
        noise: the forward noise.
        bits: bit depth of the data; None for continuous data.
        clip: keep the estimate of x0 within [-1, 1].
        on_step: called after every evaluation of the network.
        uniform: from steps [N] to numbers in [0, 1): where a continuous process looks.
        conditioning: passed to ``denoise``.
    """
    whole = processes[0].whole
    places = [{step: k for k, step in enumerate(each.kept)} for each in processes]
    seen: list[list[tuple[Tensor, ...]]] = [[] for _ in processes]
    for step in sorted(set().union(*places), reverse=True):
        t = torch.full((len(x0),), step)
        eps, place = noise(t), processes[0].place(t, uniform(t))
        x_t, prediction = look(denoise, whole, x0, place, eps, clip=clip, **conditioning)
        errors = _errors(prediction, x0, eps)
        for each, numbers, terms in zip(processes, places, seen, strict=True):
            if step in numbers:
                position = torch.full((len(x0),), numbers[step])
                term = each.term(prediction, x0, x_t, position, place, bits)
                terms.append((position, term, *errors))
        on_step()
    return [
        _terms(each, x0, terms, torch.ones(len(x0), len(each.kept), dtype=torch.float64))
        for each, terms in zip(processes, seen, strict=True)
    ]


@torch.no_grad()
def terms_at(
    denoise: Denoise,
    process: Process,
    x0: Tensor,
    noise: ForwardNoise,
    positions: Tensor,
    weights: Tensor,
    *,
    bits: int | None,
    clip: bool = True,
    on_step: Callable[[], None] = lambda: None,
    uniform: ForwardNoise = lambda t: torch.full(t.shape, 0.5, dtype=torch.float64),
    **conditioning: Any,
) -> Terms:
    """Measure the terms of each item at its own steps of a process.

    Args:
        denoise, x0, noise, bits, clip, on_step, uniform, conditioning: as in :func:`whole_bounds`.
        process: of K steps.
        positions: int64 [N, M] in 0 to K - 1, for instance drawn by
            :func:`~iddpm.evaluation.sampled_bound.systematic`.
        weights: float64 [N, M] that the terms count with in a sum: one over the probability of
            the draw makes the sum an unbiased estimate of the whole bound.
    """
    kept = torch.tensor(process.kept)
    seen: list[tuple[Tensor, ...]] = []
    for position in positions.T:
        t = kept[position]
        eps, place = noise(t), process.place(t, uniform(t))
        x_t, prediction = look(denoise, process.whole, x0, place, eps, clip=clip, **conditioning)
        term = process.term(prediction, x0, x_t, position, place, bits)
        seen.append((position, term, *_errors(prediction, x0, eps)))
        on_step()
    return _terms(process, x0, seen, weights)


def joined(parts: Sequence[Terms]) -> Terms:
    """Return what was measured of several batches as one."""
    names = [field.name for field in fields(Terms)]
    return Terms(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _errors(prediction: Prediction, x0: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    apart = prediction.x0 - x0
    if prediction.residual is not None:
        apart = prediction.residual.scaled(apart)
    return (
        per_item(apart**2).cpu().double(),
        per_item((prediction.eps - eps) ** 2).cpu().double(),
    )


def _terms(process: Process, x0: Tensor, seen: list[tuple[Tensor, ...]], weights: Tensor) -> Terms:
    positions, vb, x0_mse, eps_mse = (
        torch.stack(column, dim=1) for column in zip(*seen, strict=True)
    )
    prior = prior_term(process.diffusion, x0).cpu().double()
    return Terms(prior, positions, vb, weights, x0_mse, eps_mse)

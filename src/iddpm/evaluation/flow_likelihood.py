"""The likelihood under the probability-flow ODE: a value for each item, and no bound.

Noise can be removed by an ODE that has the same marginals as the process (Song et al. 2021, "Score-
based generative modeling through SDEs", section 4.3). With s, minus half
the log-SNR, and the estimate of x0 it reads

    dx_t / ds = sqrt(alpha_bar) (sqrt(alpha_bar) x_t - x0(x_t)),

and what its divergence adds up to on the way from the data to noise is the difference of the
log-densities at both ends. It is what the model's deterministic samplers draw from, up to how well
both are integrated; the variational bound is about its stochastic ones.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, GaussianDiffusion, NoiseSchedule
from iddpm.diffusion.schedule import broadcast
from iddpm.diffusion.variational_bound import per_item
from iddpm.evaluation.bound_terms import Process, Terms

SIGMA_MAX = 80.0
"""Noise, in units of the data, above which the flow stands still."""
DOUBLINGS = 6
"""How often an item's steps are halved at most to reach a tolerance."""


@dataclass(frozen=True, eq=False)
class Flow(Process):
    """The flow of a process from its least noise to its most, in steps even in log-SNR.

    The schedule of ``diffusion`` has the N + 1 levels where its N steps start and end.
    """


def flow_of(whole: NoiseSchedule, steps: int) -> Flow:
    """Return the flow through a trained process in ``steps`` steps.

    It starts at step 0, whose noise blurs the data a little, and ends where the signal is a part in
    80 of the noise, or at the last step.

    Raises:
        ValueError: no steps, or a process of one level.
    """
    if steps < 1:
        raise ValueError(f"the flow takes at least 1 step, not {steps}")
    lam = whole.half_log_snr[: len(whole) - whole.ends_in_pure_noise]
    if len(lam) < 2:
        raise ValueError("the flow leads between two noise levels, and this process has 1")
    first, last = float(lam[0]), max(float(lam[-1]), -math.log(SIGMA_MAX))
    wanted = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    above = torch.searchsorted(-lam, -wanted).clamp(1, len(lam) - 1)
    share = ((wanted - lam[above - 1]) / (lam[above] - lam[above - 1])).clamp(0, 1)
    spaced = whole.respace((above - 1 + share).tolist())
    return Flow(whole, tuple(range(steps + 1)), GaussianDiffusion(spaced, "fixed_small"))


def flow_likelihood(
    denoise: Denoise,
    flow: Flow,
    x0: Tensor,
    probes: Tensor,
    *,
    clip: bool = True,
    on_step: Callable[[], None] = lambda: None,
    **conditioning: Any,
) -> Terms:
    """Return minus the log-density of data under the flow, as terms in bits per dimension.

    Heun's method: two evaluations and their divergences for a step, an error of 1 / N^2 in the
    number of steps. A divergence is the mean of v . (J v) over the probes v (Hutchinson 1989):
    without bias for independent entries of variance 1, and exact for as many probes as there are
    dimensions, whose outer products have the identity for their mean.

    Args:
        denoise: the model.
        flow: the steps.
        x0: data of any continuous kind, about [-1, 1], [N, C, *spatial].
        probes: [M, N, C, *spatial].
        clip: keep the estimate of x0 within [-1, 1].
        on_step: called after every step.
        conditioning: passed to ``denoise``.

    Returns:
        Terms whose ``prior`` is minus the log-density of the noise that the data becomes and whose
        steps are minus the divergences.
    """
    lam = flow.diffusion.schedule.half_log_snr

    def slope(x: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return dx / ds, its divergence per dimension [N], and the estimate of x0."""
        level = flow.diffusion.schedule.at(torch.full((len(x),), index))
        signal = broadcast(level.alpha_bar.sqrt(), x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            estimate = denoise(x, level, **conditioning).x0
            if clip:
                estimate = estimate.clamp(-1, 1)
            change = signal * (signal * x - estimate)
            parts = [
                per_item(v * torch.autograd.grad(change, x, v, retain_graph=True)[0])
                for v in probes
            ]
        return change.detach(), torch.stack(parts).mean(dim=0).double(), estimate.detach()

    # The data plus the noise of step 0 is what has a density there, and x_t is that times alpha.
    first = float(flow.diffusion.schedule.alpha_bar[0].sqrt())
    x, terms, x0_mse = first * x0, [], []
    here = slope(x, 0)
    for index in range(1, len(lam)):
        h = float(lam[index - 1] - lam[index])
        there = slope(x + h * here[0], index)
        x = x + 0.5 * h * (here[0] + there[0])
        terms.append(-0.5 * h * (here[1] + there[1]))
        x0_mse.append(per_item((here[2] - x0) ** 2))
        if index < len(lam) - 1:
            here = slope(x, index)
        on_step()
    nats = per_item(0.5 * (x.double() ** 2 + math.log(2 * math.pi))) - math.log(first)
    vb = torch.stack(terms, dim=1).cpu() / math.log(2)
    positions = torch.arange(1, len(lam)).expand(len(x0), -1)
    mse = torch.stack(x0_mse, dim=1).cpu().double()
    prior = nats.cpu() / math.log(2)
    return Terms(prior, positions, vb, torch.ones_like(vb), mse, torch.full_like(mse, math.nan))


def refined_flow_likelihood(
    measure: Callable[..., Terms],
    flow: Flow,
    x0: Tensor,
    probes: Tensor,
    *,
    tolerance: float,
    **conditioning: Tensor,
) -> Terms:
    """Return what :func:`flow_likelihood` does, with as many steps as each item needs.

    The steps are halved until the error that is left is at most the tolerance: a third of what the
    last halving changed, since the error of Heun's method falls by four (Richardson 1911). An item
    never depends on the others of its batch. Each of the steps of ``flow`` holds what its parts add
    up to, and the last of their errors of x0.

    Args:
        measure: :func:`flow_likelihood` of a model.
        flow: the steps to start with.
        x0: as there.
        probes: as there, the same at every number of steps.
        tolerance: in bits per dimension.
        conditioning: tensors of N rows.

    Warns:
        UserWarning: items whose error is larger after six halvings.
    """
    terms = measure(flow, x0, probes, **conditioning)
    rows, steps = torch.arange(len(x0)), len(flow.kept) - 1
    for doubling in range(1, DOUBLINGS + 1):
        finer = flow_of(flow.whole, steps * 2**doubling)
        at = rows.to(x0.device)
        given = {name: value[at] for name, value in conditioning.items()}
        found = measure(finer, x0[at], probes[:, at], **given)
        left = (found.total - terms.total[rows]).abs() / 3
        terms = _with_rows(terms, rows, _summed(found, 2**doubling))
        rows = rows[left > tolerance]
        if not len(rows):
            return terms
    warnings.warn(
        f"{len(rows)} of {len(x0)} items have a larger error than the tolerance after "
        f"{steps * 2**DOUBLINGS} steps of the ODE",
        stacklevel=2,
    )
    return terms


def _summed(terms: Terms, parts: int) -> Terms:
    """Return terms of a flow as those of one with ``parts`` times fewer steps."""
    vb = terms.vb.unflatten(1, (-1, parts)).sum(dim=2)
    x0_mse = terms.x0_mse[:, parts - 1 :: parts]
    weights, none = torch.ones_like(vb), torch.full_like(vb, math.nan)
    positions = torch.arange(1, vb.shape[1] + 1).expand(len(vb), -1)
    return Terms(terms.prior, positions, vb, weights, x0_mse, none)


def _with_rows(terms: Terms, rows: Tensor, found: Terms) -> Terms:
    """Return terms with those of some items replaced."""
    places = (rows,)
    return replace(
        terms,
        prior=terms.prior.index_put(places, found.prior),
        vb=terms.vb.index_put(places, found.vb),
        x0_mse=terms.x0_mse.index_put(places, found.x0_mse),
    )


def probes_of(noise: Tensor, count: int) -> Tensor:
    """Return probes [M, N, C, *spatial] for a divergence, from noise of that shape.

    Signs, whose estimate varies less than that of normal numbers; every direction once where there
    are as many probes as dimensions, or more.
    """
    dims = noise[0, 0].numel()
    if count < dims:
        return noise.sign()
    directions = math.sqrt(dims) * torch.eye(dims, dtype=noise.dtype, device=noise.device)
    shaped: Tensor = directions.reshape(dims, 1, *noise.shape[2:])
    return shaped.expand(dims, *noise.shape[1:])


def dequantized(x0: Tensor, uniform: Tensor, bits: int) -> Tensor:
    """Return levels with noise that is uniform over the width of one, from numbers in [0, 1)."""
    width: float = 2 / (2**bits - 1)
    return x0 + (uniform - 0.5) * width


def with_width(terms: Terms, bits: int) -> Terms:
    """Return terms of a density as those of levels: a level's width is part of its probability.

    With uniform noise the mean of minus log2(density x width) is above minus log2 of the mean, what
    the levels themselves cost (Theis et al. 2016): a decoder of that width at position 0.
    """
    width = torch.full((len(terms.prior), 1), -math.log2(2 / (2**bits - 1)), dtype=torch.float64)
    none = torch.zeros_like(width)

    def joined(values: Tensor, more: Tensor) -> Tensor:
        return torch.cat([values, more.to(values.dtype)], dim=1)

    return Terms(
        terms.prior,
        joined(terms.positions, none),
        joined(terms.vb, width),
        joined(terms.weights, none + 1),
        joined(terms.x0_mse, none),
        joined(terms.eps_mse, none + math.nan),
    )

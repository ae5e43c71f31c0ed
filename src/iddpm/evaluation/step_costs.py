"""Error statistics of a model at every timestep, from which the cost of any step t -> s follows.

One step's divergence depends on where it starts and on where it ends. What the network says depends
on the start alone, so T evaluations per item are enough for all T (T - 1) / 2 pairs:

- With a variance that all pixels share, a pair needs the mean squared error of x0 alone.
- With ``learned_range`` the log-variance of a pixel is low + r f, where f is the network's fraction
  and low and r = log(beta / posterior variance) belong to the pair. The divergence then needs the
  means of f, exp(-r f) and error^2 exp(-r f) over pixels: smooth functions of the one number r,
  which a few Chebyshev points hold to about ten digits.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from iddpm.diffusion import AnalyticVariance, Denoise, Gaussian, GaussianDiffusion, NoiseSchedule
from iddpm.diffusion.analytic import LEAST_SHARE, steadied_power
from iddpm.diffusion.prediction import Prediction, VarianceKind
from iddpm.diffusion.variational_bound import log_likelihood
from iddpm.evaluation.bound_terms import ForwardNoise, look
from iddpm.evaluation.chebyshev import chebyshev_points, interpolation
from iddpm.evaluation.stride import optimal_timesteps
from iddpm.runtime.processes import ALONE, Ranks

POINTS = 32
"""Chebyshev points in r, which spans about 10 nats: more change nothing (see the tests)."""


class Group(NamedTuple):
    """Some items to look at."""

    x0: Tensor
    """[N, C, *spatial] in [-1, 1]."""
    noise: ForwardNoise
    conditioning: dict[str, Any]


@dataclass(frozen=True, eq=False)
class StepTable:
    """Means over items of what a model says at each of the T steps of a process; all float64.

    Attributes:
        schedule: the process.
        variance: the kind of variance that the model was trained with.
        x0_mse: [T], mean squared error of the estimate of x0.
        eps_power: [T], mean square of the unclipped estimate of the noise.
        fraction: [T], the mean of f; of the log-variance when it is ``learned``; else 0.
        decay, damped: [T, R], the means of exp(-r f) and of error^2 exp(-r f) at the points in r;
            with ``learned`` the one point r = 1; R = 0 for a fixed variance.
        decoder: [R], minus the log-likelihood of step 0 in nats per dimension, with the same
            log-variance for all pixels, at the points of ``decoder_points``.
        learned_decoder: [R], that with the model's own variance, at the points of log-variance
            ``low_points``; empty for a fixed variance.
    """

    schedule: NoiseSchedule
    variance: VarianceKind
    x0_mse: Tensor
    eps_power: Tensor
    fraction: Tensor
    decay: Tensor
    damped: Tensor
    decoder: Tensor
    learned_decoder: Tensor

    @property
    def analytic(self) -> AnalyticVariance:
        """The best variance for these estimates."""
        return AnalyticVariance(self.schedule, self.eps_power)

    def pairs(self, variance: VarianceKind) -> Tensor:
        """Return the divergence of each step t -> s, [T, T] indexed [s, t], in bits per dimension.

        Infinite where s is not below t.

        Raises:
            ValueError: a learned variance that the model does not have.
        """
        self._check(variance)
        alpha_bar = self.schedule.alpha_bar
        steps = len(alpha_bar)
        result = torch.full((steps, steps), math.inf, dtype=torch.float64)
        for t in range(1, steps):
            result[:t, t] = self._divergence(variance, t) / math.log(2)
        return result

    def decoders(self, variance: VarianceKind) -> Tensor:
        """Return the decoder's term when step t comes before step 0, [T], in bits per dimension.

        Step 0 borrows its variance from the step before it, so its cost depends on that step. The
        value at t = 0 means nothing.

        Raises:
            ValueError: as for :meth:`pairs`.
        """
        self._check(variance)
        low = low_log_variances(self.schedule)
        if variance == "analytic":
            wanted = self.analytic.of_x0[:1].log().expand(len(low))
        elif variance == "learned":
            return self.learned_decoder.expand(len(low)) / math.log(2)
        elif variance == "learned_range":
            nats = interpolation(low_points(self.schedule), low) @ self.learned_decoder
            return nats / math.log(2)
        else:
            wanted = low
        return interpolation(decoder_points(self.schedule), wanted) @ self.decoder / math.log(2)

    def optimal(self, variance: VarianceKind, count: int) -> list[int]:
        """Return the ``count`` steps with the least bound; see :func:`optimal_timesteps`."""
        return optimal_timesteps(self.pairs(variance), self.decoders(variance), count)

    def _divergence(self, variance: VarianceKind, t: int) -> Tensor:
        """KL(q(x_s | x_t, x0) || p(x_s | x_t)) for all s < t, [t], in nats per dimension."""
        now, before = self.schedule.alpha_bar[t], self.schedule.alpha_bar[:t]
        beta = 1 - now / before
        posterior = beta * (1 - before) / (1 - now)
        of_x0 = before.sqrt() * beta / (1 - now)
        r = torch.log((1 - now) / (1 - before))  # log(beta / posterior)
        error = of_x0**2 * self.x0_mse[t] / posterior
        if variance == "analytic":
            excess = torch.log1p(of_x0**2 * self.analytic.of_x0[t] / posterior)
        elif variance == "fixed_large":
            excess = r
        elif variance == "fixed_small":
            excess = torch.zeros_like(r)
        elif variance == "learned":  # f is the log-variance itself
            ratio = posterior * self.decay[t, 0]
            error = of_x0**2 * self.damped[t, 0]
            return 0.5 * (ratio - 1 - posterior.log() + self.fraction[t] + error)
        else:
            values = interpolation(r_points(self.schedule), r)
            error = of_x0**2 / posterior * (values @ self.damped[t])
            return 0.5 * (values @ self.decay[t] - 1 + r * self.fraction[t] + error)
        return 0.5 * (torch.expm1(-excess) + excess + error * torch.exp(-excess))

    def _check(self, variance: VarianceKind) -> None:
        if variance.startswith("learned") and variance != self.variance:
            raise ValueError(
                f"variance {variance!r} was requested from a model with variance {self.variance!r}"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return what was measured by name, to be stored."""
        names = ("x0_mse", "eps_power", "fraction", "decay", "damped", "decoder", "learned_decoder")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_tensors(
        cls, schedule: NoiseSchedule, variance: VarianceKind, tensors: dict[str, Tensor]
    ) -> Self:
        """Return the table that :meth:`tensors` came from."""
        return cls(schedule, variance, **tensors)


@torch.no_grad()
def measure_steps(
    denoise: Denoise,
    diffusion: GaussianDiffusion,
    groups: Iterable[Group],
    *,
    bits: int | None,
    clip: bool = True,
    on_step: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> StepTable:
    """Look at every item at every step once.

    Args:
        denoise: the model.
        diffusion: the process that it was trained on.
        groups: the items.
        bits: bit depth of the data; None for continuous data.
        clip: keep the estimate of x0 within [-1, 1] (never that of ``eps_power``).
        on_step: called after every evaluation of the network.
        ranks: who shares the steps; all have the same items.
    """
    schedule, kind = diffusion.schedule, diffusion.variance
    total: list[dict[str, Tensor]] | None = None
    items = 0

    def looks(group: Group) -> Iterator[dict[str, Tensor]]:
        x0, noise, conditioning = group
        for step in range(len(schedule))[ranks.turns]:
            t = torch.full((len(x0),), step)
            eps = noise(t)
            x_t, raw = look(denoise, schedule, x0, t, eps, clip=False, **conditioning)
            said = raw
            if clip:
                said = raw.clipped(x_t, schedule.at(t))
            row = _row(said, x0, kind, schedule)
            row["power"] = raw.eps.double().square().mean().cpu()
            row["noise_power"] = eps.double().square().mean().cpu()
            if step == 0:
                row |= _decoders(said, x0, kind, schedule, bits)
            on_step()
            yield row

    for group in groups:
        count = len(group.x0)
        rows = ranks.in_rounds(looks(group), len(schedule))
        weighed = [{name: count * value for name, value in row.items()} for row in rows]
        total = weighed if total is None else _sum(total, weighed)
        items += count
    assert total is not None
    mean = {name: torch.stack([row[name] for row in total]) / items for name in total[-1]}
    return StepTable(
        schedule,
        kind,
        x0_mse=mean["x0_mse"],
        eps_power=steadied_power(mean["power"], mean["noise_power"]),
        fraction=mean["fraction"],
        decay=mean["decay"],
        damped=mean["damped"],
        decoder=total[0]["decoder"] / items,
        learned_decoder=total[0]["learned_decoder"] / items,
    )


def low_log_variances(schedule: NoiseSchedule) -> Tensor:
    """[T], log posterior variance of step t -> 0, which step 0 borrows; at t = 0 that of t = 1."""
    if len(schedule) == 1:
        return schedule.posterior_log_variance
    first, now = schedule.alpha_bar[0], schedule.alpha_bar[1:]
    low = torch.log((1 - now / first) * (1 - first) / (1 - now))
    return torch.cat([low[:1], low])


def r_points(schedule: NoiseSchedule) -> Tensor:
    """Points over the range of log(beta / posterior variance) of all pairs."""
    first, last = schedule.alpha_bar[0], schedule.alpha_bar[-1]
    return chebyshev_points(0.0, float(torch.log((1 - last) / (1 - first))), POINTS)


def low_points(schedule: NoiseSchedule) -> Tensor:
    """Points over the range of :func:`low_log_variances`."""
    low = low_log_variances(schedule)
    return chebyshev_points(float(low.min()), float(low.max()), POINTS)


def decoder_points(schedule: NoiseSchedule) -> Tensor:
    """Points over all log-variances that step 0 may have when all pixels share one."""
    low, first = low_log_variances(schedule), schedule.alpha_bar[:1]
    largest = torch.log((1 - first) / first)
    least = torch.cat([low, largest + math.log(LEAST_SHARE)]).min()
    return chebyshev_points(float(least), float(torch.cat([low, largest]).max()), POINTS)


def _row(
    said: Prediction, x0: Tensor, kind: VarianceKind, schedule: NoiseSchedule
) -> dict[str, Tensor]:
    """What one step adds to the table: means over the items of a group."""
    error = (said.x0 - x0).double() ** 2
    if not kind.startswith("learned"):
        empty = torch.zeros(0, dtype=torch.float64)
        zero = torch.zeros((), dtype=torch.float64)
        return {"x0_mse": error.mean().cpu(), "fraction": zero, "decay": empty, "damped": empty}
    assert said.variance is not None
    f = said.variance.double()
    points = [1.0]
    if kind == "learned_range":
        f, points = (f + 1) / 2, r_points(schedule).tolist()
    decay, damped = [], []
    for r in points:
        factor = torch.exp(-r * f)
        decay.append(factor.mean())
        damped.append((error * factor).mean())
    return {
        "x0_mse": error.mean().cpu(),
        "fraction": f.mean().cpu(),
        "decay": torch.stack(decay).cpu(),
        "damped": torch.stack(damped).cpu(),
    }


def _decoders(
    said: Prediction, x0: Tensor, kind: VarianceKind, schedule: NoiseSchedule, bits: int | None
) -> dict[str, Tensor]:
    """Cost the decoder at the points of its variance."""

    if said.levels is not None:  # a decoder of its own, whatever the variance
        value = -said.levels.log_prob(x0).double().mean().cpu()
        own_points = {"learned": 1, "learned_range": POINTS}.get(kind, 0)
        return {"decoder": value.expand(POINTS), "learned_decoder": value.expand(own_points)}

    def nats(log_variance: Tensor) -> Tensor:
        p = Gaussian(said.x0.double(), log_variance)
        return -log_likelihood(x0.double(), p, bits, said.residual).mean().cpu()

    one = torch.ones_like(x0, dtype=torch.float64)
    shared = torch.stack([nats(float(v) * one) for v in decoder_points(schedule)])
    own = []
    if kind == "learned":
        assert said.variance is not None
        own = [nats(said.variance.double())]
    if kind == "learned_range":
        assert said.variance is not None
        fraction = (said.variance.double() + 1) / 2
        high = float(torch.log(schedule.betas[0]))
        own = [nats(float(v) + (high - float(v)) * fraction) for v in low_points(schedule)]
    empty = torch.zeros(0, dtype=torch.float64)
    return {"decoder": shared, "learned_decoder": torch.stack(own) if own else empty}


def _sum(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return [
        {name: row[name] + other[name] for name in row} for row, other in zip(a, b, strict=True)
    ]

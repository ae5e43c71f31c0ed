"""A probability for each level of the data, from the network and from the noisy data itself.

The noise of different values is independent. Given all of x_t, the probability of level k at one
position is therefore proportional to N(x_t; signal x_k, noise^2) p(level k | the other positions).
The first factor is known, and the network predicts the second. Any estimate of x0 gives a valid
bound. This one does not have to learn to read a level from x_t, and as a decoder it gives all its
probability to levels.

Where a network also estimates values from those around them, the second factor has another factor
in it, a Cauchy density around that estimate. Its tails are heavy: with those of a Gaussian,
a single edge that comes unexpected costs more than all else, and trainings diverged.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from iddpm.diffusion.schedule import Level

LevelChoice = Literal["mode", "draw", "mean"]
"""The result of the last sampling step: the most probable level, a drawn level, or the mean."""
_CHUNK = {"cpu": 2**18}
"""Probabilities per chunk, by kind of device; on CPUs a chunk fits into the cache of a core."""
_CHUNK_ELSEWHERE = 2**24
_LOCAL_GAIN = 3.0
"""Log-precision per unit of the network's output; most of it depends on the noise."""
_LOCAL_VARIANCE = 0.1
"""Variance beside that of the noise, from which log-precisions are counted."""
_LOCAL_START = -3.0
"""A log-precision at which the estimate hardly counts: where a network starts."""
_LOCAL_BOUNDS = (-20.0, 6.0)
"""Least and largest logarithm of the precision, in units of that of x_t."""


@dataclass(frozen=True, eq=False)
class LevelDistribution:
    """The probability of each of K levels at each position of N items, computed in chunks.

    Attributes:
        features: [N, C * F, *spatial], the network's features; channel c has the features c F to
            (c + 1) F.
        weight, bias: [C, F, K] and [C, K], from features to logits.
        x_t: the noisy data, [N, C, *spatial], float32 or float64.
        level: its noise.
        local: an estimate of each value from those around it, if there is one, [N, 3 C, *spatial]:
            a center in units of x_t, a shift in units of its standard deviation, and a
            log-precision.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    x_t: Tensor
    level: Level
    local: Tensor | None = None

    @property
    def count(self) -> int:
        """Return the number of levels K."""
        return self.bias.shape[1]

    def mean(self) -> Tensor:
        """Return E[x0 | x_t], like x_t, in [-1, 1]."""
        return self._computed(None)[0]

    def log_prob(self, x0: Tensor) -> Tensor:
        """Return the log-probability of the levels of ``x0``, of the same shape, in nats."""
        return self._computed(self._numbers(x0))[1]

    def mode(self) -> Tensor:
        """Return the most probable level of each value, in [-1, 1]."""
        return self._picked(lambda p, rows, c: p.argmax(dim=1))

    def draw(self, uniform: Tensor) -> Tensor:
        """Draw a level for each value from uniform numbers in (0, 1), shaped like ``x_t``."""
        numbers = _rows(uniform)

        def drawn(p: Tensor, rows: slice, c: int) -> Tensor:
            reached = p.cumsum(dim=1)
            wanted = numbers[rows, c, None] * reached[:, -1:]
            return torch.searchsorted(reached, wanted).squeeze(1).clamp(max=self.count - 1)

        return self._picked(drawn)

    def end(self, choice: LevelChoice, noise: Callable[[], Tensor]) -> Tensor | None:
        """Return the result of the last sampling step; None for that of the sampler.

        ``noise`` returns standard normal noise shaped like ``x_t``; only ``draw`` calls it.
        """
        if choice == "mean":
            return None
        if choice == "mode":
            return self.mode()
        return self.draw(torch.special.ndtr(noise().to(self.x_t)))

    def at(self, items: Tensor) -> "LevelDistribution":
        """Return the distribution of some of the items, by their numbers [M] on the CPU."""
        here = items.to(self.x_t.device)
        level = Level(*(value[items] for value in self.level))
        local = None if self.local is None else self.local[here]
        return replace(
            self, features=self.features[here], x_t=self.x_t[here], level=level, local=local
        )

    def mixed(self, scale: float | Tensor) -> "LevelDistribution":
        """Return logits at ``scale`` on the line from the second half of the items to the first.

        The scale is a number, or one for each item, [N, 1, ...].
        """

        def line(both: Tensor) -> Tensor:
            first, second = both.chunk(2)
            return torch.lerp(
                second, first, scale.to(first) if isinstance(scale, Tensor) else scale
            )

        half = torch.arange(len(self.features) // 2)
        local = None if self.local is None else line(self.local)
        return replace(self.at(half), features=line(self.features), local=local)

    def _inputs(self) -> tuple[Tensor, ...]:
        """Return features [P, C, F], weight, bias, x_t / noise [P, C] and signal / noise [P].

        Behind them, if there is a local estimate, its center and the data's scale, both [P, C] and
        divided by its standard deviation.
        """
        x = self.x_t
        noise = torch.sqrt(1 - self.level.alpha_bar)
        ratio = (self.level.alpha_bar.sqrt() / noise).to(x)
        per_noise = (1 / noise).to(x).reshape(-1, *[1] * (x.dim() - 1))
        places = x[0, 0].numel()
        features = _rows(self.features).unflatten(1, self.weight.shape[:2]).to(x.dtype)
        maps = self.weight.to(x.dtype), self.bias.to(x.dtype)
        known = _rows(x * per_noise), ratio.repeat_interleave(places)
        if self.local is None:
            return features, *maps, *known
        around = _standardized(self.local.to(x.dtype), ratio.reshape(per_noise.shape), per_noise)
        return features, *maps, *known, *(_rows(part) for part in around)

    def _computed(self, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_p = _LevelMoments.apply(numbers, *self._inputs())
        return _unrows(mean, self.x_t), _unrows(log_p, self.x_t) if numbers is not None else log_p

    def _numbers(self, x0: Tensor) -> Tensor:
        return _rows(((x0 + 1) * ((self.count - 1) / 2)).round().long().clamp(0, self.count - 1))

    @torch.no_grad()
    def _picked(self, pick: Callable[[Tensor, slice, int], Tensor]) -> Tensor:
        inputs = self._inputs()
        grid = _grid(self.bias.to(self.x_t.dtype))
        numbers = torch.empty_like(inputs[3], dtype=torch.int64)
        with torch.autocast(self.x_t.device.type, enabled=False):
            for c, rows in _chunks(numbers, self.count):
                logits, _ = _logits(inputs, c, rows, grid)
                numbers[rows, c] = pick(torch.softmax(logits, dim=1), rows, c)
        return _unrows(grid[numbers], self.x_t)


def distribution_of(
    output: Any, x_t: Tensor, level: Level, scale: Tensor | None = None
) -> tuple[LevelDistribution, Tensor]:
    """Return the level distribution of a network's output, and its remaining channels.

    Args:
        output: features and further channels [N, C F + M, *spatial], weight [C, F, K] and bias
            [C, K], and perhaps local estimates, as :class:`~iddpm.networks.LevelHead` returns them.
        x_t: the noisy data.
        level: its noise.
        scale: the factor of x_t in the network's input, if there is one.

    Raises:
        ValueError: another kind of output.
    """
    if not (isinstance(output, tuple) and len(output) in (3, 4)):
        raise ValueError(
            "predicts='categorical' needs a network that returns features, a weight and a "
            "bias: wrap it in iddpm.LevelHead"
        )
    channels, weight, bias, *rest = output
    local = rest[0] if rest else None
    count = weight.shape[0] * weight.shape[1]
    if len(weight) != x_t.shape[1] or channels.shape[1] < count:
        raise ValueError(
            f"the level head maps {weight.shape[1]} features of each of {len(weight)} channels, "
            f"and the network returns {channels.shape[1]} channels for data of {x_t.shape[1]}"
        )
    if local is not None and scale is not None:
        width = x_t.shape[1]
        local = torch.cat([local[:, :width] / scale, local[:, width:]], dim=1)
    distribution = LevelDistribution(channels[:, :count], weight, bias, x_t, level, local)
    return distribution, channels[:, count:]


def likelihood_alone(x_t: Tensor, level: Level, count: int) -> LevelDistribution:
    """Return the probability of each of ``count`` levels given only the noisy data.

    All levels are equally probable a priori: p(level k | x_t) is proportional to q(x_t | x_k). It
    has no parameters and is accurate if the noise is much smaller than a level.
    """
    nothing = x_t.new_zeros(len(x_t), 0, *x_t.shape[2:])
    weight = x_t.new_zeros(x_t.shape[1], 0, count)
    return LevelDistribution(nothing, weight, x_t.new_zeros(x_t.shape[1], count), x_t, level)


class _LevelMoments(torch.autograd.Function):
    """The mean of the levels and the log-probability of some of them, computed in chunks.

    Probabilities are computed again in the backward pass: storing them would take K numbers for
    each value of the data. Everything is computed in the type of ``z``, also under autocast:
    bfloat16 cannot distinguish the levels near 1.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor | None, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means [P, C] and the log-probabilities [P, C], empty without numbers."""
        _, _, bias, z, *_ = inputs
        grid = _grid(bias)
        mean = torch.empty_like(z)
        log_p = torch.empty_like(z) if numbers is not None else z.new_empty(0)
        with torch.autocast(z.device.type, enabled=False):
            for c, rows in _chunks(z, len(grid)):
                logits, _ = _logits(inputs, c, rows, grid)
                if numbers is not None:
                    logits = torch.log_softmax(logits, dim=1)
                    log_p[rows, c] = logits.gather(1, numbers[rows, c, None]).squeeze(1)
                mean[rows, c] = torch.softmax(logits, dim=1) @ grid
        ctx.save_for_backward(mean, *inputs)
        ctx.numbers = numbers
        return mean, log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_log_p: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to all inputs but the known ratio."""
        mean, *inputs = ctx.saved_tensors
        features, weight, bias, z, ratio, *local = inputs
        grid, numbers = _grid(bias), ctx.numbers
        by_features, by_z = torch.empty_like(features), torch.empty_like(z)
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        by_local = [torch.empty_like(part) for part in local]
        with torch.autocast(z.device.type, enabled=False):
            for c, rows in _chunks(z, len(grid)):
                h = features[rows, c]
                logits, away = _logits(inputs, c, rows, grid)
                p = torch.softmax(logits, dim=1)
                of = of_mean[rows, c]
                shift = of * mean[rows, c]
                if numbers is not None:
                    shift = shift + of_log_p[rows, c]
                # The gradient of the logits: p (grid - mean) for the mean, one-hot - p for log p.
                by_logits = p.mul_(torch.outer(of, grid).sub_(shift[:, None]))
                if numbers is not None:
                    by_logits.scatter_add_(1, numbers[rows, c, None], of_log_p[rows, c, None])
                by_features[rows, c] = by_logits @ weight[c].T
                by_weight[c] += h.T @ by_logits
                by_bias[c] += by_logits.sum(dim=0)
                by_z[rows, c] = ratio[rows] * (by_logits @ grid)
                if away is not None:
                    # -log(1 + away^2), with away = center - scale x_k.
                    by_away = by_logits.mul_(away).mul_(-2).div_(away.square_().add_(1))
                    by_local[0][rows, c] = by_away.sum(dim=1)
                    by_local[1][rows, c] = -(by_away @ grid)
        return None, by_features, by_weight, by_bias, by_z, None, *by_local


def _standardized(local: Tensor, ratio: Tensor, per_noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return an estimate's center and the data's scale, divided by its standard deviation.

    With the precision q of the estimate in units of that of x_t, 1 / q = (1 + SNR / 10) exp(-a) up
    to a gain: for a = 0 its variance is that of the noise and of data of little contrast, and what
    the network has to say depends less on the noise.
    """
    center, shift, said = local.chunk(3, dim=1)
    log_q = _LOCAL_GAIN * said + _LOCAL_START - torch.log1p(_LOCAL_VARIANCE * ratio**2)
    root = (log_q.clamp(*_LOCAL_BOUNDS) / 2).exp()
    return root * center * per_noise + shift, root * ratio


def _logits(
    inputs: Sequence[Tensor], c: int, rows: slice, grid: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the logits [R, K] of R values of one channel, and the distances of its estimates.

    The likelihood of x_t under a level is Gaussian, in units of the noise: -(z - ratio x_k)^2 / 2.
    The density around a local estimate is that of Cauchy: -log(1 + (center - scale x_k)^2).
    """
    features, weight, bias, z, ratio, *local = inputs
    logits = torch.addmm(bias[c], features[rows, c], weight[c])
    away = torch.addcmul(z[rows, c, None], ratio[rows, None], grid, value=-1)
    logits = logits.addcmul_(away, away, value=-0.5)
    if not local:
        return logits, None
    center, scale = (part[rows, c, None] for part in local)
    away = torch.addcmul(center, scale, grid, value=-1)
    return logits.sub_((away * away).log1p_()), away


def _grid(bias: Tensor) -> Tensor:
    """Return the levels in [-1, 1], rounded as the levels of the data are."""
    count = bias.shape[1]
    return torch.arange(count, dtype=bias.dtype, device=bias.device) / ((count - 1) / 2) - 1


def _chunks(z: Tensor, count: int) -> Iterator[tuple[int, slice]]:
    """Yield channels and slices of rows with at most a chunk of probabilities each."""
    size = max(_CHUNK.get(z.device.type, _CHUNK_ELSEWHERE) // count, 1)
    for c in range(z.shape[1]):
        for start in range(0, len(z), size):
            yield c, slice(start, start + size)


def _rows(x: Tensor) -> Tensor:
    """Return [N, C, *spatial] as [P, C], a row for each position."""
    return x.flatten(2).transpose(1, 2).flatten(0, 1)


def _unrows(rows: Tensor, like: Tensor) -> Tensor:
    """Return [P, C] in the shape of ``like``."""
    shape = (len(like), *like.shape[2:], like.shape[1])
    return rows.reshape(shape).movedim(-1, 1)

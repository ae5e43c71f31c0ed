"""Noise schedules: how much noise there is at each step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

MAX_COSINE_BETA = 0.999
"""Cap on the last betas of the cosine schedule (Nichol & Dhariwal 2021, section 3.2)."""
LOG_SNR_MAX, LOG_SNR_MIN = 13.3, -5.0
"""Ends of the log-SNR schedule for data of 8 bits (Kingma et al. 2021, appendix)."""


class Level(NamedTuple):
    """The noise level of each item of a batch: float64 [N] on the CPU.

    >>> level = cosine(1000).at(torch.tensor([0, 499]))
    >>> [round(float(a), 2) for a in level.alpha_bar], level.shown.tolist()
    ([1.0, 0.49], [0.0, 499.0])
    """

    alpha_bar: Tensor
    """Remaining share of the signal's variance, in [0, 1)."""
    alpha_bar_prev: Tensor
    """The same one step closer to the data; 1 for the data itself."""
    shown: Tensor
    """The network's time input."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The steps of a diffusion process, from the least noisy (0) to the noisiest (N - 1).

    Tables are float64 on the CPU: in float32 a beta of the cosine schedule with 4,000 steps has an
    error of 8e-3. Respacing returns another schedule, so timesteps need no mapping afterwards.

    Attributes:
        alpha_bar: [N], strictly decreasing in (0, 1); the last may be 0: pure noise. The noise in
            x_t has the variance 1 - alpha_bar.
        index: [N] int64, each step's index in the schedule that was respaced; float64 if a step
            lies between two of them.
        shown: [N], the network's time input at each step.

    >>> alpha_bar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    >>> schedule = NoiseSchedule(alpha_bar, index=torch.arange(3), shown=torch.arange(3))
    >>> schedule.respace([0, 2]).alpha_bar.tolist()
    [0.9, 0.1]
    """

    alpha_bar: Tensor
    index: Tensor
    shown: Tensor

    def __post_init__(self) -> None:
        """Raise ValueError for tables that are not a diffusion process."""
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])
        falls = bool((self.alpha_bar < before).all())  # false for NaN
        if not falls or float(self.alpha_bar[-1]) < 0:
            raise ValueError(
                "alpha_bar must fall strictly from below 1 to at least 0, and goes from "
                f"{float(self.alpha_bar[0])} to {float(self.alpha_bar[-1])}"
            )

    def __len__(self) -> int:
        """Return the number of steps N."""
        return len(self.alpha_bar)

    @property
    def ends_in_pure_noise(self) -> bool:
        """Whether the last step contains nothing of the data: its log-SNR is -infinity."""
        return float(self.alpha_bar[-1]) == 0

    def at(self, t: Tensor) -> Level:
        """Return the noise levels of the steps ``t`` [N], int64 or float64.

        A fractional step lies between two others: its log-SNR, its time input and the alpha_bar of
        the step before it are interpolated linearly.
        """
        t = t.cpu()
        if not t.is_floating_point():
            return Level(self.alpha_bar[t], self.alpha_bar_prev[t], self.shown[t])
        below = t.long()
        share, above = t - below, (below + 1).clamp(max=len(self) - 1)
        before = torch.lerp(self.alpha_bar_prev[below], self.alpha_bar_prev[above], share)
        shown = torch.lerp(self.shown[below].double(), self.shown[above].double(), share)
        return Level(self._between(below, above, share), before, shown)

    def respace(self, kept: Sequence[float]) -> "NoiseSchedule":
        """Return the process with only the steps ``kept``, in increasing order.

        A fractional step lies between two others: its log-SNR, time input and index are
        interpolated linearly. Whole steps keep the values of the table to the last bit.

        Raises:
            ValueError: no step, a step out of range, an order that does not increase, or a step
                between pure noise and the step before it, where the log-SNR is not finite.
        """
        steps = list(kept)
        in_range = all(0 <= step <= len(self) - 1 for step in steps)  # false for NaN
        if not steps or not in_range or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(
                f"kept steps must increase within 0..{len(self) - 1}, and are {_shorten(steps)}"
            )
        below = torch.tensor([int(step) for step in steps])
        share = torch.tensor(steps, dtype=torch.float64) - below
        if not bool(share.any()):
            return NoiseSchedule(self.alpha_bar[below], self.index[below], self.shown[below])
        above = (below + 1).clamp(max=len(self) - 1)
        if self.ends_in_pure_noise and bool(((above == len(self) - 1) & (share > 0)).any()):
            raise ValueError(
                f"no step lies between {len(self) - 2} and {len(self) - 1}, where the signal "
                f"is 0; kept steps were {_shorten(steps)}"
            )

        def between(table: Tensor) -> Tensor:
            return torch.lerp(table[below].double(), table[above].double(), share)

        alpha_bar = self._between(below, above, share)
        return NoiseSchedule(alpha_bar, between(self.index), between(self.shown))

    def _between(self, below: Tensor, above: Tensor, share: Tensor) -> Tensor:
        """Return alpha_bar between steps, linear in log-SNR; the table's value at whole steps."""
        # From log-SNR back to alpha_bar: 2 lambda = log(alpha_bar / (1 - alpha_bar)).
        lam = self.half_log_snr
        between = torch.sigmoid(2 * torch.lerp(lam[below], lam[above], share))
        return torch.where(share == 0, self.alpha_bar[below], between)

    def position_of(self, half_log_snr: Tensor) -> Tensor:
        """Return the steps, mostly fractional, of half-log-SNRs [N] in nats; float64.

        It inverts :meth:`at`. Values out of range take the ends; the upper end of a process that
        ends in pure noise is the step before it.
        """
        noise, wanted, last = -self.half_log_snr, -half_log_snr.double(), len(self) - 1
        if last == 0:
            return torch.zeros_like(wanted)
        above = torch.searchsorted(noise, wanted).clamp(1, last)
        share = (wanted - noise[above - 1]) / (noise[above] - noise[above - 1])
        return (above - 1 + share).clamp(0, last)

    @cached_property
    def alpha_bar_prev(self) -> Tensor:
        """[N], alpha_bar one step closer to the data; 1 at step 0."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def half_log_snr(self) -> Tensor:
        """[N], lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) in nats, decreasing.

        It is -infinity at a last step of pure noise. It is the time of the ODE solvers (Lu et al.
        2022); exp(-lambda) is the noise level sigma of EDM.
        """
        return 0.5 * torch.log(self.alpha_bar / (1 - self.alpha_bar))

    @cached_property
    def betas(self) -> Tensor:
        """[N], variance of the noise that each step adds."""
        return 1 - self.alpha_bar / self.alpha_bar_prev

    @cached_property
    def posterior_variance(self) -> Tensor:
        """[N], variance of q(x_{t-1} | x_t, x_0); 0 at step 0 (Ho et al. 2020, equation 7)."""
        return self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> Tensor:
        """[N], its logarithm; step 0 has the value of step 1, or of its beta if it is alone."""
        neighbor = self.posterior_variance[1:2] if len(self) > 1 else self.betas[:1]
        return torch.cat([neighbor, self.posterior_variance[1:]]).log()

    @cached_property
    def large_log_variance(self) -> Tensor:
        """[N], log beta; step 0 has the posterior variance of step 1."""
        return torch.cat([self.posterior_log_variance[:1], self.betas[1:].log()])


def linear(
    num_steps: int = 1000,
    *,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    rescale_timesteps: bool = True,
) -> NoiseSchedule:
    r"""Return the linear schedule (Ho et al. 2020), scaled to the same noise for every length.

    .. math::

        \bar\alpha_t = \prod_{s=1}^{t} (1 - \beta_s)

    Args:
        num_steps: T; the betas are multiplied by 1000 / T.
        beta_start, beta_end: first and last beta at T = 1000.
        rescale_timesteps: show the network t * 1000 / T instead of t.

    Raises:
        ValueError: so few steps that a beta would reach 1 (20 or fewer by default).

    >>> f"{float(linear(1000).alpha_bar[-1]):.1e}"
    '4.0e-05'
    """
    _check_length(num_steps)
    scale = 1000 / num_steps
    if scale * max(beta_start, beta_end) >= 1:
        fewest = math.floor(1000 * max(beta_start, beta_end)) + 1
        raise ValueError(
            f"a linear schedule of {num_steps} steps would need a beta of "
            f"{scale * max(beta_start, beta_end):g}, and betas stay below 1: use at least "
            f"{fewest} steps, a lower beta_end, or the cosine schedule"
        )
    betas = torch.linspace(scale * beta_start, scale * beta_end, num_steps, dtype=torch.float64)
    return _from_betas(betas, rescale_timesteps)


def cosine(
    num_steps: int = 1000, *, offset: float = 0.008, rescale_timesteps: bool = True
) -> NoiseSchedule:
    r"""Return the cosine schedule (Nichol & Dhariwal 2021, equation 17).

    .. math::

        \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad
        f(t) = \cos^2\left(\frac{t / T + s}{1 + s} \cdot \frac{\pi}{2}\right)

    Args:
        num_steps: T.
        offset: s, which keeps the first betas from being too small.
        rescale_timesteps: show the network t * 1000 / T instead of t.

    >>> schedule = cosine(1000)
    >>> len(schedule), round(float(schedule.alpha_bar[499]), 2)
    (1000, 0.49)
    >>> len(schedule.respace([0, 499, 999]))
    3
    """
    _check_length(num_steps)
    time = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=MAX_COSINE_BETA)
    return _from_betas(betas, rescale_timesteps)


def log_snr(
    num_steps: int = 1000,
    *,
    log_snr_max: float = LOG_SNR_MAX,
    log_snr_min: float = LOG_SNR_MIN,
    rescale_timesteps: bool = True,
) -> NoiseSchedule:
    """Return the schedule whose log-SNR falls linearly (Kingma et al. 2021, "VDM").

    log-SNR is log(alpha_bar / (1 - alpha_bar)), the paper's -gamma, in nats. Both ends are steps
    of the process for every length, so all lengths have the same prior and the same decoder.

    Args:
        num_steps: T; a single step has the noisiest level.
        log_snr_max: log-SNR of step 0; see :func:`log_snr_of_levels`.
        log_snr_min: log-SNR of step T - 1.
        rescale_timesteps: show the network the log-SNR, scaled so that step 0 is 0 and the
            noisiest 1000, for every T; otherwise t.

    Raises:
        ValueError: no steps, or a log-SNR that does not decrease.

    >>> [round(2 * float(half), 1) for half in log_snr(100).half_log_snr[[0, -1]]]
    [13.3, -5.0]
    """
    _check_length(num_steps)
    if not log_snr_min < log_snr_max:
        raise ValueError(
            f"the log-SNR falls from log_snr_max to log_snr_min, and {log_snr_max:g} is not above "
            f"{log_snr_min:g}: use values such as {LOG_SNR_MAX:g} and {LOG_SNR_MIN:g}"
        )
    index = torch.arange(num_steps)
    share = index.double() / max(num_steps - 1, 1) if num_steps > 1 else torch.ones(1).double()
    alpha_bar = torch.sigmoid(log_snr_max + share * (log_snr_min - log_snr_max))
    return NoiseSchedule(alpha_bar, index, 1000 * share if rescale_timesteps else index.double())


def log_snr_of_levels(bits: int) -> float:
    """Return the log-SNR at which the noise is 0.165 levels: 13.3 for data of 8 bits.

    Rounding the noisy data then gives a wrong level for two or three of a thousand values.
    """
    return LOG_SNR_MAX + 2 * math.log((2**bits - 1) / 255)


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """Return the schedule rescaled so that its last step is pure noise.

    sqrt(alpha_bar) is shifted and scaled so that the last value is 0 and the first is unchanged
    (Lin et al. 2024, algorithm 1). Sampling then starts from noise of the same distribution as in
    training, and the mean of a sample, its brightness, is not biased. Pure noise does not depend
    on the data, so predict v, x0 or edm, not eps.

    Raises:
        ValueError: a schedule of one step.

    >>> linear(1000).ends_in_pure_noise, zero_terminal_snr(linear(1000)).ends_in_pure_noise
    (False, True)
    """
    if len(schedule) < 2:
        raise ValueError("a zero terminal SNR needs at least 2 steps and the schedule has 1")
    root = schedule.alpha_bar.sqrt()
    moved = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    alpha_bar = torch.cat([schedule.alpha_bar[:1], moved[1:-1], torch.zeros(1).double()])
    return NoiseSchedule(alpha_bar, schedule.index, schedule.shown)


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Cast float64 values [N] once to the type and device of ``like``, with shape [N, 1, ...].

    Compute coefficients in float64 before.
    """
    values = values.to(device=like.device, dtype=like.dtype)
    return values.reshape(-1, *[1] * (like.dim() - 1))


def _from_betas(betas: Tensor, rescale_timesteps: bool) -> NoiseSchedule:
    index = torch.arange(len(betas))
    shown = index.double() * (1000 / len(betas) if rescale_timesteps else 1.0)
    return NoiseSchedule(torch.cumprod(1 - betas, 0), index, shown)


def _check_length(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"a schedule needs at least 1 step, not {num_steps}")


def _shorten(steps: list[float]) -> str:
    return str(steps) if len(steps) <= 8 else f"{steps[:4]}...{steps[-4:]} ({len(steps)} steps)"

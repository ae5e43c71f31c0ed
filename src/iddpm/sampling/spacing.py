"""Timestep spacings: the timesteps of a sampler."""

import math

import torch
from torch import Tensor

from iddpm.diffusion import NoiseSchedule

SIGMA_MAX = 80.0
"""Noise level from which the few-step spacings start at most (Karras et al. 2022, table 1)."""
RHO = 7.0
"""Exponent of ``karras``: larger for more steps near the data (Karras et al. 2022, section 3)."""


def even_timesteps(num_steps: int, count: int) -> list[int]:
    """Spread ``count`` of ``num_steps`` timesteps evenly, from 0 to the noisiest, T - 1.

    The noisiest is kept even when it is the only one, because sampling starts there.

    Raises:
        ValueError: fewer than 1 or more than ``num_steps`` timesteps.

    >>> even_timesteps(1000, 5)
    [0, 250, 500, 749, 999]
    >>> even_timesteps(1000, 1)
    [999]
    """
    _check_count(num_steps, count)
    return [num_steps - 1] if count == 1 else space_timesteps(num_steps, str(count))


def evenly(schedule: NoiseSchedule, count: int) -> list[int]:
    """Return :func:`even_timesteps` of a schedule."""
    return even_timesteps(len(schedule), count)


def strided(schedule: NoiseSchedule, count: int) -> list[int]:
    """Return ``count`` timesteps of a schedule at an integer stride from 0 (Song et al. 2021)."""
    return _strided(len(schedule), count)


def log_snr_timesteps(
    schedule: NoiseSchedule, count: int, *, sigma_max: float = SIGMA_MAX
) -> list[float]:
    """Spread ``count`` timesteps evenly in log-SNR (Lu et al. 2022).

    They are positions in ``schedule`` for :meth:`~iddpm.diffusion.NoiseSchedule.respace`, mostly
    between whole steps, and split the way from the noisiest level to that of step 0 into ``count``
    equal parts. The noisiest is kept. Step 0 is omitted, because an evaluation there would be
    wasted: the last step goes to the data from the level above. If the schedule ends in pure
    noise, with log-SNR -infinity, this is the noisiest level.

    Args:
        schedule: the trained process.
        count: number of timesteps.
        sigma_max: start no noisier than this, in units of sigma = sqrt((1 - alpha_bar) /
            alpha_bar). The state there is standard normal but for a share 1 / sigma_max of the
            data's mean. The cosine schedule goes to 2e4, and a third of the log-SNR lies above 80.

    Raises:
        ValueError: fewer than 1 or more than T timesteps; a ``sigma_max`` below the lowest level.

    >>> from iddpm import cosine
    >>> [round(t) for t in log_snr_timesteps(cosine(1000), 5)]
    [19, 166, 680, 946, 991]
    """
    noisiest, cleanest = _ends(schedule, count, sigma_max)
    return _positions(schedule, cleanest + _parts(count) * (noisiest - cleanest))


def karras_timesteps(
    schedule: NoiseSchedule, count: int, rho: float = RHO, *, sigma_max: float = SIGMA_MAX
) -> list[float]:
    """Spread ``count`` timesteps evenly in sigma^(1 / rho) (Karras et al. 2022, equation 5).

    A larger ``rho`` puts more steps near the data. All else is as in :func:`log_snr_timesteps`.

    Raises:
        ValueError: besides, a ``rho`` that is not above 0.

    >>> from iddpm import cosine
    >>> [round(t) for t in karras_timesteps(cosine(1000), 5)]
    [87, 582, 906, 974, 991]
    """
    if not 0 < rho < math.inf:
        raise ValueError(f"rho={rho} must be above 0 and finite")
    noisiest, cleanest = _ends(schedule, count, sigma_max)
    # sigma^(1 / rho) in units of its value at step 0, where it is 1
    last = math.exp((cleanest - noisiest) / rho)
    even = 1 + _parts(count) * (last - 1)
    return _positions(schedule, cleanest - rho * torch.log(even))


def space_timesteps(num_steps: int, request: str | int) -> list[int]:
    """Choose timesteps as the published command line does (Nichol & Dhariwal 2021, appendix F).

    Args:
        num_steps: T of the process that was trained.
        request: ``250`` or ``"250"``: that many, evenly, first and last included;
            ``"10,15,20"``: these numbers in three equal sections; ``"ddim50"``: 50 at an
            integer stride from 0, as Song et al. 2021 take them; ``""``: all.

    Returns:
        The kept timesteps in increasing order.

    >>> space_timesteps(1000, 5)
    [0, 250, 500, 749, 999]
    >>> space_timesteps(1000, "ddim5")
    [0, 200, 400, 600, 800]
    >>> space_timesteps(100, "2,3")
    [0, 49, 50, 74, 99]

    Raises:
        ValueError: the request cannot be met.
    """
    request = str(request)
    if request == "":
        return list(range(num_steps))
    if request.startswith("ddim"):
        return _strided(num_steps, _count(request, request[len("ddim") :]))
    counts = [_count(request, part) for part in request.split(",")]
    size, larger = divmod(num_steps, len(counts))
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (section < larger)
        if count > length:
            raise ValueError(
                f"cannot take {count} steps from a section of {length} "
                f"({num_steps} steps, request {request!r})"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):  # summed, not multiplied: ties must round as the published code's
            kept.append(start + round(position))
            position += stride
        start += length
    return sorted(set(kept))


def noisiest_step(schedule: NoiseSchedule, sigma_max: float = SIGMA_MAX) -> int:
    """Return the last step whose sigma is at most this, or 0."""
    return max(0, int((schedule.half_log_snr >= -math.log(sigma_max)).sum()) - 1)


def _ends(schedule: NoiseSchedule, count: int, sigma_max: float) -> tuple[float, float]:
    """Return the half-log-SNRs of the noisiest level to visit and of step 0."""
    _check_count(len(schedule), count)
    lam = schedule.half_log_snr
    if schedule.ends_in_pure_noise and len(lam) > 1:
        lam = lam[:-1]
    cleanest, noisiest = lam[[0, -1]].tolist()
    if not sigma_max > 0 or (len(schedule) > 1 and -math.log(sigma_max) >= cleanest):
        raise ValueError(
            f"sigma_max={sigma_max} must be above that of the cleanest step, "
            f"{math.exp(-cleanest):.2g}"
        )
    return max(noisiest, -math.log(sigma_max)), cleanest


def _parts(count: int) -> Tensor:
    """Return 1 / count, 2 / count, ..., 1."""
    return torch.arange(1, count + 1, dtype=torch.float64) / count


def _positions(schedule: NoiseSchedule, lam: Tensor) -> list[float]:
    """Return the steps of falling half-log-SNRs; the last is pure noise, if there is any."""
    positions: list[float] = schedule.position_of(lam).tolist()
    return [*positions[:-1], len(schedule) - 1.0] if schedule.ends_in_pure_noise else positions


def _check_count(num_steps: int, count: int) -> None:
    if not 1 <= count <= num_steps:
        raise ValueError(
            f"cannot take {count} steps of a process of {num_steps}: use 1 to {num_steps}"
        )


def _strided(num_steps: int, count: int) -> list[int]:
    for stride in range(1, num_steps):
        kept = range(0, num_steps, stride)
        if len(kept) == count:
            return list(kept)
    raise ValueError(f"no integer stride takes exactly {count} of {num_steps} steps")


def _count(request: str, part: str) -> int:
    try:
        count = int(part)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(
            f"timesteps {request!r} is invalid: use a count ('250'), counts by section "
            "('10,15,20') or an integer stride ('ddim50')"
        )
    return count

"""Which timesteps a sampler visits."""

import torch
from torch import Tensor

from iddpm.diffusion import NoiseSchedule


def even_timesteps(num_steps: int, count: int) -> list[int]:
    """Spread ``count`` of ``num_steps`` timesteps evenly, from 0 to the noisiest, T - 1.

    The noisiest is kept even when it is the only one, because sampling starts there.

    Raises:
        ValueError: fewer than 1 or more than ``num_steps`` asked for.
    """
    _check_count(num_steps, count)
    return [num_steps - 1] if count == 1 else space_timesteps(num_steps, str(count))


def log_snr_timesteps(schedule: NoiseSchedule, count: int) -> list[float]:
    """Spread ``count`` timesteps evenly in log-SNR (Lu et al. 2022), from 0 to the noisiest.

    They are positions in ``schedule`` for :meth:`~iddpm.diffusion.NoiseSchedule.respace`, mostly
    between whole steps; the first is 0 and the last T - 1, which is kept even when it is the only
    one.

    Raises:
        ValueError: fewer than 1 or more than T asked for.
    """
    _check_count(len(schedule), count)
    lam = schedule.half_log_snr
    return _positions(lam, torch.linspace(0, 1, count, dtype=torch.float64) * (lam[-1] - lam[0]))


def karras_timesteps(schedule: NoiseSchedule, count: int, rho: float = 7.0) -> list[float]:
    """Spread ``count`` timesteps evenly in sigma^(1 / rho) (Karras et al. 2022, equation 5).

    Here sigma = sqrt((1 - alpha_bar) / alpha_bar). A larger ``rho`` puts more steps near the data.
    What is returned and refused is as in :func:`log_snr_timesteps`.

    Raises:
        ValueError: besides, a ``rho`` that is not above 0.
    """
    _check_count(len(schedule), count)
    if not 0 < rho < float("inf"):
        raise ValueError(f"rho={rho} must be above 0 and finite")
    lam = schedule.half_log_snr
    # sigma^(1 / rho) in units of its value at step 0, where it is 1
    last = torch.exp((lam[0] - lam[-1]) / rho)
    even = 1 + torch.linspace(0, 1, count, dtype=torch.float64) * (last - 1)
    return _positions(lam, -rho * torch.log(even))


def space_timesteps(num_steps: int, request: str) -> list[int]:
    """Choose timesteps as the published command line does (Nichol & Dhariwal 2021, appendix F).

    Args:
        num_steps: T of the process that was trained.
        request: ``"250"``: that many, evenly, first and last included; ``"10,15,20"``: so many in
            each of as many equal sections; ``"ddim50"``: 50 at an integer stride from 0, as Song
            et al. 2021 take them; ``""``: all.

    Returns:
        The kept timesteps in increasing order.

    Raises:
        ValueError: the request cannot be met.
    """
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


def _positions(lam: Tensor, change: Tensor) -> list[float]:
    """Return where ``lam``, linear between steps, has changed by so much since step 0."""
    noise, wanted = -lam, -(lam[0] + change)  # both increase
    above = torch.searchsorted(noise, wanted).clamp(1, max(len(lam) - 1, 1))
    positions = [float(len(lam) - 1)]
    if len(change) > 1:
        share = (wanted - noise[above - 1]) / (noise[above] - noise[above - 1])
        # The ends are set, because rounding may move them out of the schedule.
        positions = [0.0, *(above - 1 + share)[1:-1].tolist(), *positions]
    return positions


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
            f"timesteps {request!r} is not understood: use a count ('250'), counts by section "
            "('10,15,20') or an integer stride ('ddim50')"
        )
    return count

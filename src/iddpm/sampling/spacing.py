"""Which timesteps a sampler visits."""


def even_timesteps(num_steps: int, count: int) -> list[int]:
    """Spread ``count`` of ``num_steps`` timesteps evenly, from 0 to the noisiest, T - 1.

    The noisiest is kept even when it is the only one, because sampling starts there.

    Raises:
        ValueError: fewer than 1 or more than ``num_steps`` asked for.
    """
    if not 1 <= count <= num_steps:
        raise ValueError(
            f"cannot take {count} steps of a process of {num_steps}: use 1 to {num_steps}"
        )
    return [num_steps - 1] if count == 1 else space_timesteps(num_steps, str(count))


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

"""The steps that give the best likelihood, by dynamic programming."""

from torch import Tensor


def optimal_timesteps(pairs: Tensor, decoders: Tensor, count: int) -> list[int]:
    """Choose ``count`` of T timesteps, 0 and T - 1 among them, so that the bound is least.

    The bound is a sum over the steps taken, so the best way to reach t in k steps extends the best
    way to some s < t in k - 1 (Watson et al. 2021, "Learning to efficiently sample from diffusion
    probabilistic models").

    Args:
        pairs: [T, T], the term of a step t -> s at [s, t]; infinite where s is not below t.
        decoders: [T], the decoder's term when t is the step before 0.
        count: 1 to T. A single step is T - 1, as for an even stride.

    Raises:
        ValueError: a ``count`` out of range.
    """
    steps = len(pairs)
    if not 1 <= count <= steps:
        raise ValueError(f"cannot take {count} steps of a process of {steps}: use 1 to {steps}")
    if count in (1, steps):
        return [steps - 1] if count == 1 else list(range(steps))
    best = pairs[0] + decoders  # of the ways to t with one step below it
    below: list[Tensor] = []
    for _ in range(count - 2):
        best, came_from = (best[:, None] + pairs).min(dim=0)
        below.append(came_from)
    path = [steps - 1]
    for came_from in reversed(below):
        path.append(int(came_from[path[-1]]))
    return [0, *reversed(path)]

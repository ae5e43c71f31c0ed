"""Classes by name or number."""

from collections.abc import Sequence

import torch
from torch import Tensor

from iddpm.config import Config
from iddpm.randomness import stream


def class_labels(
    config: Config,
    where: str,
    n: int,
    seed: int,
    classes: Sequence[int | str] | int | str | None,
) -> Tensor | None:
    """Return the class of each of ``n`` samples, int64 [n], or None for an unconditional model.

    Args:
        config: the model's settings.
        where: the name of the model, for messages.
        n, seed: how many, and from what they are drawn when ``classes`` is None.
        classes: one class for all, or one per sample, by name or number.

    Raises:
        ValueError: a class that the model does not have, or another number of them.
    """
    count = config.model.num_classes
    if not config.model.class_conditional or count is None:
        if classes is not None:
            raise ValueError(
                f"class {classes!r} was asked for, and {where} was trained without classes "
                "(model.class_conditional=false)"
            )
        return None
    if classes is None:
        drawn = [int(stream(seed, "class", index=k).integers(count)) for k in range(n)]
        return torch.tensor(drawn)
    if isinstance(classes, int | str):
        classes = [classes] * n
    if len(classes) != n:
        raise ValueError(f"{len(classes)} classes were given for {n} samples")
    return torch.tensor([class_number(config, where, name) for name in classes])


def class_number(config: Config, where: str, name: int | str) -> int:
    """Return the number of a class; ValueError when there is none of that name or number."""
    names, count = config.class_names, config.model.num_classes
    assert count is not None
    if isinstance(name, str) and name in names:
        return names.index(name)
    try:
        number = int(name)
    except ValueError:
        number = -1
    if not 0 <= number < count:
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise ValueError(
            f"class {name!r} is not one of the {count} classes of {where}"
            + (f": {shown}" if names else f": use 0 to {count - 1}")
        )
    return number

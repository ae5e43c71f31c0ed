"""Training that starts from the weights of another run, whose classes may be others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders import task_of
from iddpm.config import Config, ResolvedConfig
from iddpm.config.model import FACTS
from iddpm.runs.layout import read_run_config, read_run_weights
from iddpm.training.checkpoints.state import load_weights

AUGMENT = "augment_emb."
LABELS = "label_emb.weight"
SHOWN = 5
"""Names that a line lists."""


@dataclass(frozen=True)
class Start:
    """The run whose weights training starts from.

    Attributes:
        directory: its directory.
        classes: of its classes, by name or number, those that become the classes of the new data,
            in the order of these; by default those of the same names, else the first.
        partial: let what does not fit start at random, instead of refusing it.
        fresh: beginnings of the names of tensors that the run may lack: they stay as built.
    """

    directory: Path
    classes: tuple[str, ...] = ()
    partial: bool = False
    fresh: tuple[str, ...] = ()


def as_start(init_from: Path | str | Start | None) -> Start | None:
    """Return what a caller gave as a :class:`Start`."""
    if init_from is None or isinstance(init_from, Start):
        return init_from
    return Start(Path(init_from))


def settings_of_start(start: Start | None, base: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of the network to start from, for what the user leaves open.

    Those of its data, and of a network of the user's own, are left out.
    """
    values: dict[str, Any] = dict(base or {})
    if start is None:
        return values
    config = read_run_config(start.directory)
    if config.model.network is not None or not task_of(config).draws:
        return values
    dumped = config.model_dump(mode="json")
    model = {k: v for k, v in dumped["model"].items() if k not in FACTS}
    if config.model.class_conditional:
        model["class_conditional"] = True
    diffusion = {k: v for k, v in dumped["diffusion"].items() if k != "residual_scale"}
    if task_of(config).takes_low_res and not diffusion["residual"]:
        diffusion["residual"] = False  # None of earlier versions, whose networks draw the data
    else:
        del diffusion["residual"]  # as the new task has it
    for name, section in (("model", model), ("diffusion", diffusion)):
        values[name] = {**section, **values.get(name, {})}
    return values


def as_new(config: Config) -> Config:
    """Return the settings of an imported run for a new run on other data."""
    if config.imported_from is None:
        return config
    model = config.model.model_copy(update={"num_classes": None})
    return config.model_copy(
        update={"imported_from": None, "form": None, "class_names": (), "model": model}
    )


def start_weights(network: nn.Module, config: Config, start: Start) -> list[str]:
    """Give a new network the weights of a run, and return in lines what became of its classes.

    Args:
        network: the new one, filled in place.
        config: its resolved settings.
        start: where the weights come from.

    Raises:
        FileNotFoundError: no such run, or nothing trained in it.
        ValueError: weights of another network, or classes that it does not have.
    """
    before = read_run_config(start.directory)
    found, source = read_run_weights(start.directory, before)
    weights, own = dict(found), network.state_dict()
    said: list[str] = []
    names = [name for name in _of_classes(before, weights) if name in own]
    kept = _rows(start, before, config) if names else None
    if kept is not None:
        weights |= {name: weights[name][kept] for name in names}
        said.append(_described(kept, before, config))
    elif start.classes:
        raise ValueError(
            f"{start.directory} has no classes to initialize {', '.join(start.classes)} from: "
            "leave --init-classes out"
        )
    for beginning in start.fresh:  # also within a wrapper, whose network is ``network``
        inside = (beginning, f"network.{beginning}")
        weights |= {k: v for k, v in own.items() if k not in weights and k.startswith(inside)}
    # Without an augmentation its embedding is zero, and a new one starts at zero.
    weights = {k: v for k, v in weights.items() if k in own or AUGMENT not in k}
    weights |= {k: v for k, v in own.items() if k not in weights and AUGMENT in k}
    if start.partial:
        missing = [k for k, v in own.items() if k not in weights or weights[k].shape != v.shape]
        unused = [k for k in weights if k not in own]
        weights = {k: own[k] if k in missing else weights[k] for k in own}
        if missing:
            said.append(f"start      at random: {_listed(missing)}")
        if unused:
            said.append(f"start      unused weights of {start.directory}: {_listed(unused)}")
    with torch.no_grad():
        load_weights(network, weights, source)
    return said


def _of_classes(config: ResolvedConfig, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors with a row for each class."""
    if not task_of(config).draws:
        last = [name for name in weights if name.startswith("out.")][-2:]
        return [name for name in last if len(weights[name]) == len(config.class_names)]
    return [LABELS] if LABELS in weights else []


def _rows(start: Start, before: Config, config: Config) -> list[int] | None:
    """Return the old class of each new one; None where they do not correspond."""
    old, new = before.class_names, config.class_names
    if start.classes:
        rows = [_row(name, old, start.directory) for name in start.classes]
        if len(rows) != len(new):
            raise ValueError(
                f"--init-classes names {len(rows)} classes, and the data has {len(new)}: "
                f"{', '.join(new)[:200]}"
            )
        return rows
    if set(new) <= set(old):
        return [old.index(name) for name in new]
    if len(new) <= len(old):
        return list(range(len(new)))
    if start.partial:
        return None
    raise ValueError(
        f"the data has {len(new)} classes, and {start.directory} {len(old)}: --init-partial "
        "initializes the class embedding at random"
    )


def _row(name: str, old: Sequence[str], directory: Path) -> int:
    if name in old:
        return old.index(name)
    if name.isdecimal() and int(name) < len(old):
        return int(name)
    raise ValueError(
        f"{directory} has no class {name[:100]!r}: name one of its {len(old)} classes, or a number "
        f"below {len(old)}"
    )


def _described(rows: Sequence[int], before: Config, config: Config) -> str:
    """Say which class starts as which."""
    pairs = [
        f"{name} as {before.class_names[row]}"
        for name, row in zip(config.class_names, rows, strict=True)
    ]
    rest = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return (
        f"start      {len(rows)} of {len(before.class_names)} classes: "
        f"{', '.join(pairs[:SHOWN])}{rest}"
    )


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"

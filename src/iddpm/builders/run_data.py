"""The data of a run: its split, batches on the device, and their conditioning."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.builders import (
    attach_conditions,
    attach_paired_data,
    build_augmentations,
    check_flip,
    open_data,
    resolve,
    task_of,
    values_of,
)
from iddpm.builders.few_steps import training_guidance
from iddpm.builders.group_columns import grouping_column
from iddpm.config import Config, ResolvedConfig
from iddpm.data.batches import Batch, Batches
from iddpm.data.conditioned_augmentation import augmented, draw
from iddpm.data.identical import identical_items, in_words, joined
from iddpm.data.levels import round_to_levels
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.sources.source import Source
from iddpm.data.split import groups_of, held_out_mask
from iddpm.data.values import natural_values, warn_of_range
from iddpm.networks import NO_CLASS
from iddpm.networks.trunk import check_circular
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.runtime.seeds import stream

CHECKED_ITEMS = 64
"""Items whose used part of the range is checked before training."""


class Split(NamedTuple):
    """Data, and the int64 indices of its training items and of its held-out items."""

    source: Source
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def open_split(config: Config, memory: Any = None) -> Split:
    """Open the data of some settings and split it as training does."""
    return open_conditioned(config, memory)[1]


def open_to_train(config: Config, memory: Any = None) -> tuple[ResolvedConfig, Split]:
    """Open data and return the settings with all derived values filled in."""
    conditioning, split = open_conditioned(config, memory)
    resolved = resolve(conditioning, split.source, len(split.train))
    if config.form is None:  # a new run; a resumed one stays unchanged
        check_flip(resolved)
    elif resolved.bits != config.bits:
        raise ValueError(
            f"{split.source.name} is read as {_depth(resolved.bits)}, and the run was trained "
            f"on {_depth(config.bits)}: the data has changed, or is NIfTI whose slope and "
            "intercept an earlier version ignored; start a new run"
        )
    return resolved, split


def open_conditioned(config: Config, memory: Any = None) -> tuple[Config, Split]:
    """Open data with its conditioning; also return the settings with the conditions filled in."""
    source = open_data(config, memory)
    if config.imported_from is not None:
        number_classes(config, source)
    if config.form is None and config.data.range is None:
        _look_at_range(source)
    mask = held_out_mask(source, config.data.held_out, _groups(config, source))
    split = Split(source, np.flatnonzero(~mask), np.flatnonzero(mask))
    attach_paired_data(config, source)
    return attach_conditions(config, source, split.train), split


def _groups(config: Config, source: Source) -> list[str]:
    """Return the group of each item; a run keeps the rule of its split."""
    rule, count = config.data.group, len(source)
    column = grouping_column(config, source)
    if column is not None:
        groups = column
    elif rule is not None:
        groups = groups_of(rule, source)
    else:
        groups = [source.group(index) for index in range(count)]
    kept = config.data.identical or ("together" if config.form is None else "apart")
    if kept == "apart":
        return groups
    identical = identical_items(source) or []
    if config.form is None and identical:
        warnings.warn(
            f"{in_words(source, identical)}: identical items are kept on one side of the split, "
            "and each copy is trained on",
            stacklevel=3,
        )
    return joined(groups, identical)


def _look_at_range(source: Source) -> None:
    """Warn of integers that use little of their depth; floats are checked when opened."""
    values = source.form.values or natural_values(source.bits)
    if source.bits is None or not values.natural or not len(source):
        return
    lowest, highest = np.inf, -np.inf
    for index in np.unique(np.linspace(0, len(source) - 1, CHECKED_ITEMS).astype(int)).tolist():
        item = source.read(index)
        lowest, highest = min(lowest, float(item.min())), max(highest, float(item.max()))
    warn_of_range(source.name, values, lowest, highest)


def shuffled(items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return items in a fixed order that mixes their classes."""
    return items[stream(0, "order of what is shown").permutation(len(items))]


def open_other(
    config: ResolvedConfig,
    path: Any,
    conditions: str | Sequence[str] | None = None,
    given: Path | str | None = None,
) -> Source:
    """Open other data as resolved settings read their own.

    Args:
        config: the settings.
        path: the data, or an object in memory.
        conditions: the conditions of its items, as in data.conditions; None for none.
        given: its paired data; None for none.

    Raises:
        ValueError: its items have another shape or depth than the training data, or conditions or
            paired data that do not fit it.
    """
    model = config.model
    memory = path if is_in_memory(path) else None
    data = config.data.model_copy(update={"path": None if memory is not None else str(path)})
    source = open_data(config.model_copy(update={"data": data}), memory)
    if source.shape != model.shape or source.bits != config.bits:
        raise ValueError(
            f"{source.name} has items of shape {source.shape} in {_depth(source.bits)}, and the "
            f"model was trained on {model.shape} in {_depth(config.bits)}"
        )
    stored, known = source.form.values or natural_values(source.bits), values_of(config)
    if (stored.low, stored.high) != (known.low, known.high):
        raise ValueError(
            f"{source.name} holds {stored}, and the training data {known.low:.6g} to "
            f"{known.high:.6g}: convert it to that range"
        )
    number_classes(config, source)
    if conditions is not None:
        data = data.model_copy(update={"conditions": conditions})
        attach_conditions(config.model_copy(update={"data": data}), source, np.arange(0))
    if given is not None:
        data = data.model_copy(update={"given": str(given)})
        attach_paired_data(config.model_copy(update={"data": data}), source)
        if source.given is not None and source.given.shape[0] != model.given_channels:
            raise ValueError(
                f"{source.given.name} has {source.given.shape[0]} channels, and the model "
                f"takes paired data with {model.given_channels}"
            )
    return source


def number_classes(config: Config, source: Source) -> None:
    """Map the classes of other data to the class numbers of a model.

    Data may have only some of the model's classes; data with other classes is left unchanged.
    """
    known = {name: number for number, name in enumerate(config.class_names)}
    names = source.class_names
    if not config.uses_labels or source.labels is None or not known.keys() >= set(names):
        return
    numbers = np.array([known[name] for name in names] + [NO_CLASS])  # -1 is the last
    source.labels = numbers[source.labels]
    source.class_names = config.class_names


def _depth(bits: int | None) -> str:
    return "floats" if bits is None else f"{bits} bits"


def training_batches(
    config: ResolvedConfig,
    source: Source,
    items: NDArray[np.int64],
    start_step: int,
    device: torch.device,
    ranks: Ranks = ALONE,
    *,
    endless: bool = False,
) -> Batches:
    """Return this rank's rows of the batches from ``start_step`` to the last step, or endless."""
    batch_size = config.training.batch_size
    return Batches(
        source,
        items=items,
        batch_size=batch_size,
        seed=config.training.seed,
        start_step=start_step,
        stop_step=None if endless else max(config.training.steps, start_step),
        workers=config.data.workers,
        worker_timeout=config.data.worker_timeout,
        augmentations=build_augmentations(config),
        rows=ranks.share(batch_size),
        pin_memory=device.type == "cuda",
    )


def items_of(batches: Batches, step: int, rows: Sequence[int]) -> list[tuple[int, str]]:
    """Return the indices and keys of the items in some rows of a step's batch."""
    items = batches.items_at(step)[list(rows)].tolist()
    return [(item, batches.source.key(item)) for item in items]


def on_device(
    batches: Iterable[Batch],
    config: ResolvedConfig,
    device: torch.device,
    *,
    learning: bool = False,
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Yield data in [-1, 1], or its residual, on the device, and its conditioning.

    The conditioning of a residual contains ``interpolated``. Random values are a function of the
    item and, when ``learning``, of the step.
    """
    task = task_of(config)
    for batch in batches:
        moved, items = batch.to(device), batch.items.tolist()
        conditioning: dict[str, Any] = {}
        if learning and config.data.augment and config.distillation is None:
            moved, conditioning["augment"] = with_augmentation(moved, config)
        if config.uses_labels:
            conditioning["y"] = moved.y
        if config.model.conditions:
            conditioning["conditions"] = moved.conditions
        if config.model.given_channels:
            conditioning["given"] = moved.given
        conditioning |= task.inputs(moved.x, items, batch.step if learning else None)
        if learning and config.distillation is not None:
            seed = config.training.seed
            guidance = training_guidance(config.distillation, seed, items, batch.step)
            if guidance is not None:
                conditioning["guidance"] = guidance.to(device)
        residual = task.residual(conditioning, moved.x.shape[2:])
        if residual is None:
            yield moved.x, conditioning
        else:
            yield residual.encode(moved.x), {**conditioning, "interpolated": residual.interpolated}


def with_augmentation(batch: Batch, config: ResolvedConfig) -> tuple[Batch, Tensor]:
    """Return a batch in [-1, 1] augmented, its paired data alike, and its vectors [N, P].

    The vectors are a function of the step and the item. Data with levels is rounded to them.
    """
    model, seed = config.model, config.training.seed
    drawn = [
        draw(stream(seed, "shown", step=batch.step, index=item), config.data.augment, model.size)
        for item in batch.items.tolist()
    ]
    vectors = torch.from_numpy(np.stack(drawn))
    wraps = check_circular(model.circular, len(model.size))
    changed = vectors.any(dim=1).to(batch.x.device).reshape(-1, *[1] * (batch.x.dim() - 1))
    x = augmented(batch.x, vectors, wraps)
    x = torch.where(changed, round_to_levels(x, config.bits), x)
    given = None if batch.given is None else augmented(batch.given, vectors, wraps)
    return replace(batch, x=x, given=given), vectors.to(batch.x.device)


def without_some_labels(
    batches: Iterable[Batch], config: ResolvedConfig, ranks: Ranks = ALONE
) -> Iterator[Batch]:
    """Hide labels at random, as a function of the step.

    A share of the items loses all labels, for guidance. With several labels, each condition is also
    hidden on its own for the same share, so that any of them can be left out when sampling.
    ``batches`` hold this rank's rows; the random numbers are drawn for all rows on every rank.
    """
    share = config.training.label_dropout if config.model.conditioned else 0.0
    seed = config.training.seed
    for batch in batches:
        conditioning = batch.conditions if config.model.conditions else None
        y = batch.y if config.model.class_conditional else None
        if share > 0 and (y is not None or conditioning is not None):
            count = len(batch.x) * ranks.count
            rows = ranks.share(count)
            drawn = stream(seed, "label", step=batch.step).random(count)
            hidden = torch.from_numpy(drawn < share)[rows]
            if y is not None:
                batch = replace(batch, y=y.masked_fill(hidden, NO_CLASS))
            if conditioning is not None:
                conditioning = conditioning.masked_fill(hidden[:, None], math.nan)
                if conditioning.shape[1] + (y is not None) > 1:
                    drawn = stream(seed, "condition", step=batch.step).random(
                        (count, conditioning.shape[1])
                    )
                    conditioning = conditioning.masked_fill(
                        torch.from_numpy(drawn < share)[rows], math.nan
                    )
                batch = replace(batch, conditions=conditioning)
        yield batch

"""Conditions: read from the data, recorded in the settings, attached to the source."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.config import ConditionConfig, Config
from iddpm.data.conditioning.conditions import (
    Columns,
    Condition,
    as_number,
    encode,
    is_unknown,
    read_columns,
)
from iddpm.data.sources.label_tables import class_table
from iddpm.data.sources.source import Source

FEW_ITEMS = 20
"""Number of items up to which each may have its own word."""


def conditions_of(config: Config) -> tuple[Condition, ...]:
    """Return the conditions of resolved settings, in the order of the network."""
    return tuple(
        Condition(name, c.names, *(c.range or (-1.0, 1.0)), c.period)
        for name, c in (config.model.conditions or {}).items()
    )


def check_class_left_open(config: Config, where: Path) -> None:
    """Raise ValueError for a model that was trained with a class for every item."""
    if config.model.class_conditional and not config.training.label_dropout:
        raise ValueError(
            f"{where} was trained with training.label_dropout=0 and needs a class for every sample"
        )


def attach_conditions(config: Config, source: Source, train: NDArray[np.int64]) -> Config:
    """Read the conditions of a source's items, and return the settings with their kinds and ranges.

    Afterwards ``source.conditions`` holds the network's input. Settings of a run stay unchanged:
    ranges are those of its training items.

    Args:
        config: settings, resolved or not.
        source: the data.
        train: the training items, whose ranges become [-1, 1].

    Raises:
        FileNotFoundError, ValueError: a table or a column that does not work.
    """
    where, wanted = config.data.conditions, config.model.conditions
    if source.columns is not None:
        if where is not None:
            raise ValueError("the items contain their conditions: leave data.conditions out")
        missing = [name for name in wanted or () if name not in source.columns]
        if missing:
            raise ValueError(f"the items have no condition {missing[0]}")
    elif where is None:
        if wanted:
            raise ValueError(
                "model.conditions needs data.conditions: the path of a table, or members of an "
                "array file"
            )
        return config
    names = None if wanted is None else list(wanted)
    if source.columns is not None:
        columns = {name: source.columns[name] for name in names or source.columns}
    else:
        assert where is not None
        columns = read_columns(where, names, Path(config.data.path or ".").expanduser(), source)
        if names is None and len(columns) > 1:  # the column of the groups is not a condition
            columns.pop(config.data.group or "", None)
    stated = wanted or {name: ConditionConfig() for name in columns}
    found = {
        name: condition if condition.resolved else _found(name, condition, columns, train)
        for name, condition in stated.items()
    }
    model = config.model.model_copy(update={"conditions": found})
    config = config.model_copy(update={"model": model})
    title = where if isinstance(where, str) else source.name
    source.conditions = encode(conditions_of(config), columns, source, title)
    return config


def _found(
    name: str, stated: ConditionConfig, columns: Columns, train: NDArray[np.int64]
) -> ConditionConfig:
    """Return the condition with its kind, and its range or names, filled in."""
    cells = [cell for cell in columns[name] if not is_unknown(cell)]
    if not cells:
        raise ValueError(
            f"{name} is unknown for every item: {_instead(name, columns, 'leave it out')}"
        )
    distinct = sorted(set(cells))
    words = [cell for cell in distinct if as_number(cell) is None]
    kind = stated.kind or ("number" if stated.period or len(words) < len(distinct) else "class")
    if kind == "class":
        if stated.kind is None and len(cells) > FEW_ITEMS and 2 * len(distinct) > len(cells):
            raise ValueError(
                f"{name} holds {len(distinct)} different words for {len(cells)} items, too "
                f"many categories to learn: {_instead(name, columns, 'leave it out')}"
            )
        return ConditionConfig(kind="class", names=class_table(cells)[1])
    if words:
        raise ValueError(
            f"{name} holds numbers and also {words[0]!r}: leave cells of unknown values empty, "
            f"or read the column as words with -s model.conditions.{name}.kind=class"
        )
    if stated.period is not None or stated.range is not None:
        return stated.model_copy(update={"kind": "number"})
    chosen = {columns[name][index] for index in train.tolist()}
    values = [float(cell) for cell in chosen if not is_unknown(cell)]
    if not values or min(values) == max(values):
        held = f"only the number {values[0]:g}" if values else "nothing"
        raise ValueError(
            f"{name} holds {held} for all training items, so there is nothing to learn: "
            f"{_instead(name, columns, 'leave it out')}"
        )
    return ConditionConfig(kind="number", range=(min(values), max(values)))


def _instead(name: str, columns: Columns, otherwise: str) -> str:
    """Return how to use only the other columns."""
    others: Sequence[str] = [other for other in columns if other != name]
    if not others:
        return otherwise
    listed = ", ".join(f"{other}: {{}}" for other in others)
    return f"name the columns to use, such as -s 'model.conditions={{{listed}}}'"

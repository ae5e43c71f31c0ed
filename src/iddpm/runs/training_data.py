"""The training data of a run, opened again: its files, or the same object in memory."""

from pathlib import Path
from typing import Any

from iddpm.builders.run_data import Split, open_split
from iddpm.config import Config
from iddpm.data.fingerprint import differences, fingerprint, read_fingerprint
from iddpm.data.sources.source import InMemory


def known_memory(directory: Path) -> InMemory | None:
    """Return the record of training data in memory; None for files."""
    facts = (read_fingerprint(directory) or {}).get("memory")
    return None if facts is None else InMemory(**facts)


def expect_memory(directory: Path, config: Config, memory: Any) -> None:
    """Raise ValueError unless the run was trained on data in memory."""
    if needs_data(config):
        return
    known = known_memory(directory)
    if known is not None and memory is None:
        raise ValueError(
            f"{directory} was trained on the {known}, which a run does not keep: pass it again, "
            "as iddpm.train(data, resume=True, out=...) or iddpm.load(directory, data=...)"
        )
    if known is None and memory is not None:
        raise ValueError(f"{directory} was trained on {config.data.path}: leave data out")


def _check_kind(directory: Path, config: Config, split: Split) -> None:
    """Raise ValueError for data of another shape than that of imported weights."""
    wanted = (config.model.channels, *(config.model.size or ()))
    if split.source.shape != wanted or split.source.bits != config.bits:
        raise ValueError(
            f"{split.source.name} has items of shape {split.source.shape} in "
            f"{split.source.bits} bits, and {directory} was imported for {wanted} in "
            f"{config.bits} bits"
        )


def needs_data(config: Config) -> bool:
    """Return whether a run was imported and has not been trained since."""
    return config.imported_from is not None and config.data.path is None


def open_training_data(directory: Path, config: Config, memory: Any = None) -> Split:
    """Open the training data of a run; an object in memory is compared with its record.

    Raises:
        ValueError: it is missing, or is other data.
    """
    expect_memory(directory, config, memory)
    if needs_data(config) and memory is None:
        raise ValueError(
            f"{directory} was imported and has no training data: name data of the same kind "
            f"after {directory}, or continue training it with iddpm train DATA --resume --out "
            f"{directory}"
        )
    split = open_split(config, memory)
    if config.imported_from is not None:
        _check_kind(directory, config, split)
    elif memory is not None:
        changed = differences(read_fingerprint(directory) or {}, fingerprint(split.source))
        if changed:
            raise ValueError(
                f"{split.source.name} is not the data that {directory} was trained on "
                f"({changed}): pass that data to iddpm.load(directory, data=...), and compare "
                "with other data afterwards"
            )
    return split

"""Real and generated data, opened so that they can be compared item by item."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from iddpm.builders import open_data
from iddpm.config import read_config
from iddpm.config.run_config import CONFIG, WEIGHTS
from iddpm.data.conditioning.paired import Paired
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.sources.source import Source
from iddpm.data.values import Values, natural_values
from iddpm.evaluation.precision_recall import FEWEST_ITEMS

REPORT = "evaluation"
"""The default folder of a report, beside what was generated."""
REAL, GENERATED = "real", "generated"
_READING = (
    "image_size", "channels", "labels", "column", "layout", "window", "stride", "sample_rate",
    "range", "corrupt", "max_pixels", "cache",
)  # fmt: skip
"""Settings of data that say how it is read, and not how it is trained on."""
_COLORS = {1, 3, 4}
"""Channels of gray, RGB and RGBA pictures, which can be converted."""


class Sides(NamedTuple):
    """What is compared.

    Attributes:
        real: real data.
        generated: other data of the same shape.
        truth: the real item that each generated item belongs to; None where they are no pairs.
    """

    real: Source
    generated: Source
    truth: Source | None


def open_sides(real: Any, generated: Any, settings: Sequence[str], paired: bool) -> Sides:
    """Open real and generated data.

    Args:
        real: a path, a name or an object in memory.
        generated: another.
        settings: such as ``"data.image_size=64"`` for both, ``"real.labels=none"`` for one.
        paired: whether items of one name or number belong together.

    Raises:
        FileNotFoundError, ValueError: nothing there, too few items, or data that cannot be
            compared.
    """
    _refuse_nested(real, generated)
    first = _open(REAL, real, settings)
    try:
        second = _open(GENERATED, generated, settings, None if _natural(first) else _values(first))
    except ValueError:
        if _natural(first):
            raise
        second = _open(GENERATED, generated, settings)  # to say what differs
    _check_shapes(first, second)
    _check_values(first, second, settings)
    return Sides(first, second, Paired(first, second) if paired else None)


def name_of(data: Any, source: Source) -> str:
    """Return how a report names data: its path, or what it was in memory."""
    return source.name if is_in_memory(data) else str(data)


def report_directory(out: Path | None, real: Any, generated: Any) -> Path:
    """Return where the report goes, by default the folder ``evaluation`` beside the generated data.

    Raises:
        NotADirectoryError: it is a file.
        ValueError: it lies within the data, or would take the place of a run's own report.
    """
    if out is None:
        parent = Path(".") if is_in_memory(generated) else Path(generated).expanduser().parent
        if not is_in_memory(generated) and Path(generated).name in ("", ".."):
            parent = Path(generated).resolve().parent
        out = parent / REPORT
        if _is_run(parent):
            raise ValueError(
                f"{out} is for the evaluation of the run {parent} itself: name another directory "
                "for this report with --out"
            )
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: name a directory for the report with --out")
    for data in (real, generated):
        folder = None if is_in_memory(data) else Path(data).expanduser()
        if folder is not None and folder.is_dir() and _lies_in(out, folder):
            raise ValueError(
                f"{out} lies in {folder}, whose files are read as data: name another directory "
                "with --out"
            )
    return out


def _open(side: str, data: Any, settings: Sequence[str], known: Values | None = None) -> Source:
    """Open one side; ``known`` is how the numbers of the other are stored, where that is known."""
    path = None if is_in_memory(data) else os.fspath(data)
    if path is not None and _is_run(Path(path).expanduser()):
        raise ValueError(_run_given(side, path))
    own = _settings_of(side, settings)
    config = read_config(None, own if path is None else [*own, f"data.path={path}"])
    if known is not None and config.data.range is None:
        read = config.data.model_copy(update={"range": (known.low, known.high)})
        config = config.model_copy(update={"data": read})
    source = open_data(config, None if path is not None else data)
    if len(source) < FEWEST_ITEMS:
        raise ValueError(
            f"the {side} data {source.name} has {len(source)} items, and the measures need at "
            f"least {FEWEST_ITEMS}"
        )
    return source


def _settings_of(side: str, settings: Sequence[str]) -> list[str]:
    """Return the settings of one side, its own after those of both."""
    found: dict[str, list[str]] = {"data": [], REAL: [], GENERATED: []}
    for setting in settings:
        section, _, rest = setting.strip().partition(".")
        name = rest.partition("=")[0].strip()
        if section not in found or name not in _READING:
            raise ValueError(
                f"{setting!r} does not apply here: give data.NAME=value for both, or "
                f"{REAL}.NAME=value or {GENERATED}.NAME=value for one, with a NAME of "
                f"{', '.join(_READING)}"
            )
        found[section].append(f"data.{rest}")
    return [*found["data"], *found[side]]


def _run_given(side: str, path: str) -> str:
    if side == REAL:
        return f"{path} is a run directory, not data: give the data that it was trained on"
    return (
        f"{path} is a run directory, not data: evaluate the run itself with iddpm evaluate "
        f"{path}, or give a folder of its samples, such as {Path(path) / 'samples' / 'seed_0'}"
    )


def _is_run(path: Path) -> bool:
    return (path / CONFIG).is_file() and any(
        (path / name).exists() for name in (WEIGHTS, "checkpoints")
    )


def _refuse_nested(real: Any, generated: Any) -> None:
    """Refuse folders of which one lies in the other, whose items would count as both."""
    if is_in_memory(real) or is_in_memory(generated):
        return
    paths = Path(real).expanduser(), Path(generated).expanduser()
    for inner, outer in (paths, paths[::-1]):
        same = inner.resolve() == outer.resolve()
        if outer.is_dir() and inner.exists() and not same and _lies_in(inner, outer):
            raise ValueError(
                f"{inner} lies in {outer}, so that its items would count as real and as "
                "generated: keep them in separate folders"
            )


def _lies_in(path: Path, folder: Path) -> bool:
    return path.expanduser().resolve().is_relative_to(folder.resolve())


def _check_shapes(real: Source, generated: Source) -> None:
    if real.shape == generated.shape:
        return
    ways = []
    if (
        len(real.shape) == len(generated.shape) == 3
        and {real.shape[0], generated.shape[0]} <= _COLORS
    ):
        if real.shape[1:] != generated.shape[1:]:
            height, width = generated.shape[1:]
            size = f"{height}" if height == width else f"[{height},{width}]"
            ways.append(f"-s data.image_size={size}")
        if real.shape[0] != generated.shape[0]:
            ways.append("-s data.channels=3")
    advice = f"read both alike with {' '.join(ways)}" if ways else "convert one of them"
    raise ValueError(
        f"the real data {real.name} has items of shape {real.shape} and the generated data "
        f"{generated.name} of {generated.shape}: {advice}"
    )


def _check_values(first: Source, second: Source, settings: Sequence[str]) -> None:
    """Refuse numbers whose ranges are known by different means: -1 and 1 would not be the same."""
    real, generated = _values(first), _values(second)
    stated = any(setting.strip().partition(".")[2].startswith("range") for setting in settings)
    same = (real.low, real.high) == (generated.low, generated.high)
    if stated or same or (_natural(first) and _natural(second)):
        return
    raise ValueError(
        f"the real data holds {real}, and the generated data {generated}: state the numbers that "
        f"become -1 and 1 with -s {REAL}.range=[low,high] and -s {GENERATED}.range=[low,high]"
    )


def _natural(source: Source) -> bool:
    """Say whether the format tells which numbers are -1 and 1; of sounds it is the full scale."""
    return _values(source).natural or source.form.kind == "signal"


def _values(source: Source) -> Values:
    return source.form.values or natural_values(source.bits)

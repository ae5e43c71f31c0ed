"""Paired data: a conditioning image, signal or volume for each item."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from iddpm.builders.data_facts import open_path
from iddpm.config import Config, ResolvedConfig
from iddpm.data.conditioning.paired import Paired
from iddpm.data.item import read_item
from iddpm.data.levels import to_model_range
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.source import Source


def open_given(config: Config, path: str) -> Source:
    """Open paired data as the settings read the data.

    Raises:
        FileNotFoundError, ValueError: nothing there, or data that cannot be used.
    """
    own = {"channels": None, "labels": "none", "column": None, "corrupt": "error"}
    data = config.data.model_copy(
        update={**own, "range": config.data.given_range, "conditions": None}
    )
    return open_path(data, path)


def attach_paired_data(config: Config, source: Source) -> None:
    """Set ``source.given`` to the paired data of the settings, if any.

    Raises:
        FileNotFoundError, ValueError: it is not there, or does not fit the items.
    """
    if source.given is not None:
        if config.data.given is not None:
            raise ValueError("the items contain their paired data: leave data.given out")
        return
    if config.data.given is None:
        if config.model.given_channels:
            raise ValueError("model.given_channels needs data.given: the path of the paired data")
        return
    source.given = Paired(open_given(config, config.data.given), source)


def read_given(
    config: ResolvedConfig, path: Path | str, size: Sequence[int] | None = None
) -> Tensor:
    """Read paired data to draw samples for: a picture, or any kind that data.given can be.

    Its spatial size is that of the training by default. With another ``size`` nothing is cropped or
    resized: the data must have it.

    Returns:
        [M, C, *spatial] in [-1, 1].

    Raises:
        FileNotFoundError, ValueError: nothing there, or items of another shape than the paired
            data of the model.
    """
    model = config.model
    if not model.given_channels:
        raise ValueError(
            f"{path} was given to a model without paired data (data.given was not set in training)"
        )
    resizes = config.data.image_size is not None and size is None
    size = tuple(size or model.size)
    wanted = (model.given_channels, *size)
    if not resizes:
        config = config.model_copy(
            update={"data": config.data.model_copy(update={"image_size": None})}
        )
    file = Path(path).expanduser()
    if file.is_file() and file.suffix.lower() in SUFFIXES and config.data.layout != "frames":
        if config.data.given_range is not None:
            raise ValueError(
                f"{path} is a picture, and the model takes paired data with numbers from "
                f"{config.data.given_range}: give a folder of pictures"
            )
        item = read_item(file, wanted, None)
        if not resizes and item.picture_size != size:
            raise ValueError(
                f"{path} is a picture of {_by(item.picture_size or ())}, and the model takes "
                f"paired data of {_by(size)}: crop or resize it first, or draw samples of its size "
                f"in tiles with --size {'x'.join(map(str, item.picture_size or ()))}"
            )
        return item.x[None]
    source = open_given(config, str(path))
    if source.shape != wanted:
        raise ValueError(
            f"{source.name} has items of shape {source.shape}, and the model takes "
            f"paired data of shape {wanted}: --size draws samples of another size in tiles"
        )
    items = source.read_many(range(len(source)))
    return to_model_range(torch.from_numpy(items), source.bits)


def check_given(config: Config, where: Path, given: Tensor | None, size: Sequence[int]) -> None:
    """Raise ValueError unless this paired data fits a model and samples of this size."""
    channels = config.model.given_channels
    if given is None and channels is None:
        return
    if given is None or channels is None or tuple(given.shape[1:]) != (channels, *size):
        wants = f"items of shape {(channels, *size)} in [-1, 1]" if channels else "none"
        has = "none" if given is None else f"items of shape {tuple(given.shape[1:])}"
        raise ValueError(f"{where} needs paired data (given): {wants}, and got {has}")


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))

"""The data sets of the bench: how each is prepared, judged and measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.recipes.rows import HERE, merge
from benchmarks.runs import emoji, signals, volumes
from benchmarks.runs.common import DATA
from iddpm.runtime.atomic_files import write_text

BASES = HERE / "bases"


@dataclass(frozen=True)
class DataSet:
    """One of them.

    Attributes:
        name: on the command line and in records.
        prepare: writes the data and returns its path, or the name of an embedded set.
        judge: settings of the judge, nested; with ``task: classification`` it is a classifier.
        judge_steps: of the judge's training.
        judge_batch: of an encoder's.
        samples: that are drawn to be measured.
        evaluations: of the network for each.
        bound_items: held-out items whose bound is measured, at most.
        bound_looks: network evaluations for each of them.
    """

    name: str
    prepare: Callable[[], Path | str]
    judge: Mapping[str, Any]
    judge_steps: int
    judge_batch: int = 128
    samples: int = 1000
    evaluations: int = 20
    bound_items: int = 500
    bound_looks: int = 16

    def location(self) -> Path | str:
        """Return the path or name of the data, which is prepared the first time."""
        stamp = DATA / f"{self.name}.prepared"
        if stamp.is_file() and Path(stamp.read_text(encoding="utf-8")).exists():
            return Path(stamp.read_text(encoding="utf-8"))
        where = self.prepare()
        if isinstance(where, Path):  # written last: a folder of pictures may be half full
            write_text(stamp, str(where))
        return where

    @property
    def classifies(self) -> bool:
        """Whether its judge is a classifier."""
        return self.judge.get("task") == "classification"

    def base(self, folder: Path = BASES) -> dict[str, Any]:
        """Return the settings of its base, nested."""
        return merge(_read(folder / "common.yaml"), _read(folder / f"{self.name}.yaml"))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _encoder(channels: int, mult: list[int], **others: Any) -> dict[str, Any]:
    """Return the network of a self-supervised encoder: 64 features, the mean over positions."""
    model = {"model_channels": channels, "channel_mult": mult, "attention_downsampling": []}
    return {"model": {**model, "num_res_blocks": 1, "dropout": 0.0, **others}}


def _classifier(mult: list[int], *, crop: bool) -> dict[str, Any]:
    """Return the network of a classifier, also shown random crops or not."""
    model = {"model_channels": 16, "channel_mult": mult, "attention_downsampling": []}
    return {
        "task": "classification",
        "data": {"random_crop": crop},
        "model": {**model, "num_res_blocks": 1, "dropout": 0.1},
    }


@cache
def data_sets() -> dict[str, DataSet]:
    """Return the data sets by name."""
    emojis = _encoder(16, [1, 2, 4], group_channels=4)
    crops = _encoder(4, [1, 4, 8, 16], group_channels=4, stride=[2, 2, 2])
    found = (
        DataSet("digits", lambda: "mnist5k", _classifier([1, 2, 4], crop=True), 8000),
        DataSet("emoji", partial(emoji.prepare, "RGB"), emojis, 6000, bound_looks=32),
        DataSet("emoji_rgba", partial(emoji.prepare, "RGBA"), emojis, 6000, bound_looks=32),
        DataSet("signals", signals.prepare, _classifier([1, 2, 2, 4], crop=False), 6000),
        DataSet(
            "mri", volumes.prepare, crops, 1000, 64, samples=200, bound_items=50, bound_looks=8
        ),
    )
    return {one.name: one for one in found}

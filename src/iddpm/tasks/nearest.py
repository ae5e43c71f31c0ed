"""The training items that are nearest to one sample: was it learned by heart?"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import form_of
from iddpm.config import ResolvedConfig
from iddpm.data.levels import to_model_range
from iddpm.data.writers.image_files import save_grid
from iddpm.evaluation.nearest_items import Limits
from iddpm.runs.run import Run
from iddpm.runs.step_tables import spread
from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE
from iddpm.tasks.drawn_items import open_drawn, read_file
from iddpm.tasks.real_statistics import nearest_items, read_items

HELD_OUT = 1000
"""Held-out items that the sample is judged by, evenly spread."""
VERDICTS = {
    "copy": "a copy: nearer to one training item than 95 % of the held-out items are to theirs, "
    "and by as rare a margin than to the next",
    "typical": "near to several training items, as what is typical is: no copy",
    "new": "no nearer to the training items than held-out items are: no copy",
    "unknown": "too few items are held out to judge by",
}


class Neighbor(NamedTuple):
    """A training item.

    Attributes:
        item: its position in the data.
        key: its name there.
        distance: root mean squared difference of the values, which span -1 to 1.
    """

    item: int
    key: str
    distance: float


@dataclass(frozen=True)
class NearestFound:
    """What was found.

    Attributes:
        sample: the file.
        number: of the sample in it; None for a file of one.
        neighbors: the nearest training items, the nearest first.
        ratio: the first distance over the second.
        limits: what one in twenty held-out items falls below; None for too few of these.
        verdict: one of :data:`VERDICTS`.
    """

    sample: str
    number: int | None
    neighbors: tuple[Neighbor, ...]
    ratio: float
    limits: Limits | None
    verdict: str

    def __str__(self) -> str:
        """Return it as lines."""
        rows = [f"{each.distance:9.4f}  {each.key}" for each in self.neighbors]
        limits = self.limits
        by = [] if limits is None else [f"held-out items: {limits.distance:.4f} of one in twenty"]
        return "\n".join([" distance  training item", *rows, *by, VERDICTS[self.verdict]])


def nearest(
    run: Run,
    sample: Path | str,
    *,
    number: int | None = None,
    n: int = 5,
    out: Path | None = None,
    console: Console | None = None,
) -> NearestFound:
    """Find the training items nearest to a sample, and judge by held-out items if it is a copy.

    The check is that of ``iddpm evaluate``, of one sample.

    Args:
        run: the model.
        sample: a file of one sample, or samples: a folder of ``iddpm sample``, ``samples.npz`` or
            ``samples.csv``.
        number: of the sample in these, from 0.
        n: how many training items.
        out: the directory of ``nearest.png`` (the sample, then the items) and ``nearest.json``,
            ``RUN/nearest`` by default.
        console: for progress.

    Raises:
        ValueError, FileNotFoundError: something that does not fit, or a run without its data.
    """
    if n < 1:
        raise ValueError(f"n={n} training items were requested: use 1 or more")
    console = console or open_console()
    x = _read(run.config, Path(sample), number)
    if tuple(x.shape) != run.shape:
        raise ValueError(f"{sample} has shape {tuple(x.shape)}, and the training items {run.shape}")
    source, train, held_out = run.open_split()
    others = read_items(source, spread(held_out, HELD_OUT))
    near = max(2, min(n, len(train)))
    found, beside = nearest_items([x[None], others], source, train, console, ALONE, near)
    items = train[found.items[0, :n].numpy()]
    limits = Limits.of(beside)
    verdict = "unknown"
    if limits is not None:
        copies, close = bool(limits.copies(found)[0]), bool(limits.near(found)[0])
        verdict = "copy" if copies else "typical" if close else "new"
    neighbors = tuple(
        Neighbor(int(item), source.key(int(item)), float(distance))
        for item, distance in zip(items, found.distances[0], strict=False)
    )
    report = NearestFound(str(sample), number, neighbors, float(found.ratio[0]), limits, verdict)
    directory = out or run.directory / "nearest"
    row = torch.cat([x[None], read_items(source, np.asarray(items))])
    film = form_of(run.config).kind == "clip"
    facts = asdict(report) | {
        "neighbors": [each._asdict() for each in neighbors],
        "limits": None if limits is None else limits._asdict(),
    }
    console.print(str(report), markup=False)
    for path in (
        save_grid(row, directory / "nearest.png", columns=len(row), film=film),
        write_json(directory / "nearest.json", facts),
    ):
        console.print(f"wrote {path}", markup=False)
    return report


def _read(config: ResolvedConfig, path: Path, number: int | None) -> Tensor:
    """Return the sample, [C, *spatial] in [-1, 1]."""
    if number is None:
        return read_file(config, path).x
    source = open_drawn(config, path)
    if not 0 <= number < len(source):
        raise ValueError(f"sample {number} was requested, and {path} has {len(source)}, from 0 on")
    return to_model_range(source.read(number), source.bits)

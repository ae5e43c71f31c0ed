"""Making a user's files finer: pictures, arrays, sounds, series and volumes of any size."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import Tiling, build_tiling, check_upscaling, form_of, scale_of
from iddpm.data.conditioning.requested import Asked
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.networks.layers import resize_linear
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_atomically, write_json
from iddpm.runtime.console import open_console, progress_bar
from iddpm.sampling import NO_CLASS, OVERLAP
from iddpm.training.checkpoints.weights import hash_weights

COMPARISON = "comparison.png"
MANIFEST = "upscale.json"
"""How the files beside it were made: what goes on after an interruption checks it."""
SHOWN = 8
"""Items in the comparison."""
LARGEST = 256
"""Positions along an axis that it shows of each, about the middle."""


@dataclass(frozen=True)
class _Group:
    """Files of one size that are drawn together, by the names of the finer ones."""

    files: dict[str, LowRes]
    tiling: Tiling

    @property
    def count(self) -> int:
        """Number of items."""
        return sum(file.count for file in self.files.values())

    def read(self) -> Tensor:
        """Return all items."""
        return torch.cat([file.read(0, file.count) for file in self.files.values()])

    def check(self, x: Tensor) -> None:
        """Refuse what is not finite."""
        if not x.isfinite().all():
            raise ValueError(
                f"what was drawn for {next(iter(self.files))} holds NaN or infinity and was not "
                "written: try another checkpoint"
            )

    def write(self, x: Tensor, directory: Path, there: set[str]) -> Iterator[tuple[Path, bool]]:
        """Write the finer files that are not there yet, and say so."""
        parts = x.split([file.count for file in self.files.values()])
        for (name, file), part in zip(self.files.items(), parts, strict=True):
            path = directory / name
            if name not in there:
                write_atomically(path, partial(file.write, part))
            yield path, name not in there


def upscale(
    run: Run,
    files: Iterable[Path | str],
    *,
    seed: int = 0,
    class_name: str | int | None = None,
    conditions: Asked | None = None,
    overlap: float = OVERLAP,
    out: Path | None = None,
    console: Console | None = None,
    **settings: Any,
) -> list[Path]:
    """Make files finer and write them as files of the same kind; return and print the paths.

    All files are looked at before the first is drawn, and none is overwritten. Where the same call
    was interrupted it goes on: ``upscale.json`` says how the files there were made, what is missing
    is drawn as it would have been, and what is there stays. Items that have labels are drawn with
    them by a model that knows classes.

    Args:
        run: a model of super-resolution.
        files: files, and folders whose files keep their places below them.
        seed: item k, counted over all files, depends on the seed and k alone.
        class_name: the class of all, also instead of their labels; by default their labels, and
            none where they have none.
        conditions: what the items have, as for :meth:`~iddpm.runs.run.Run.sample`.
        overlap: share of a tile that neighbours share, at the least.
        out: the directory, ``RUN/upscaled`` by default.
        console: where progress is shown.
        settings: of sampling, as for :meth:`~iddpm.runs.run.Run.upscale`.

    Returns:
        The finer files, and ``comparison.png``: of the first of one size the low resolution, its
        linear interpolation and the result.

    Raises:
        ValueError, FileNotFoundError: a file or setting that does not fit the model.
        FileExistsError: a file that would be overwritten.
    """
    console = console or open_console()
    check_upscaling(run.config, run.directory, True)
    directory = out or run.directory / "upscaled"
    scale = scale_of(run.config)
    target = Target(run.shape[0], scale, form_of(run.config), run.config.data.labels)
    opened = open_low_res(files, target)
    y = _labels(run, opened, class_name)
    if y is None and class_name is None and run.classes is not None:
        check_upscaling(run.config, run.directory, False)
        if settings.get("guidance") not in (None, 1) and not conditions:
            raise ValueError(
                f"guidance={settings['guidance']:g} exaggerates a class, and there is none: give "
                "--class, or leave --guidance out"
            )
        settings["guidance"] = settings.get("guidance") or 1.0  # none to exaggerate
    walk = run.walk(**settings)
    facts = _facts(
        run,
        opened,
        str(walk),
        walk.sampling.model_dump(mode="json"),
        {
            "seed": seed,
            "class": None if class_name is None else str(class_name),
            "conditions": {k: str(v) for k, v in (conditions or {}).items()},
            "overlap": overlap,
        },
    )
    there = _already_there(directory, opened, facts)
    at_once = walk.sampling.batch_size
    groups = list(_groups(run, opened, overlap, at_once))
    items = sum(group.count for group in groups)
    told = {"conditions": run.ask(items, conditions)} if run.conditions or conditions else {}
    if y is not None:
        told["y"] = y
    if len(there) == len(opened) and (directory / COMPARISON).exists():
        console.print(f"all {len(there)} are in {directory} already", markup=False)
        return [directory / name for name in [*opened, COMPARISON]]
    compared = (directory / COMPARISON).exists()
    tiles = sum(group.count * group.tiling.count for group in groups)
    whole = f"{items} item{'' if items == 1 else 's'}"
    parts = f" in {tiles} tiles" if tiles > items else ""
    console.print(f"{whole}{parts}, each {walk}", markup=False)
    written: list[Path] = []
    shown: list[tuple[Tensor, Tensor]] = []
    with progress_bar(console, "upscaling") as progress:
        total = sum(group.tiling.batches(group.count, at_once) for group in groups)
        task = progress.add_task("", total=total * walk.sampling.steps)
        start = 0
        for group in groups:
            known = there.issuperset(group.files)
            if known and (compared or len(shown) >= SHOWN):
                written += [directory / name for name in group.files]
                start += group.count
                progress.advance(
                    task, group.tiling.batches(group.count, at_once) * walk.sampling.steps
                )
                continue
            low_res = group.read()
            x = run.upscale(
                low_res,
                seed=seed,
                classes=class_name,
                given={name: value[start : start + group.count] for name, value in told.items()},
                overlap=overlap,
                start=start,
                on_batch=lambda: progress.advance(task),
                **settings,
            )
            start += group.count
            group.check(x)
            write_json(directory / MANIFEST, facts)
            for path, new in group.write(x, directory, there):
                if new:
                    console.print(f"wrote {path}", markup=False)
                written.append(path)
            middles = zip(*_middle(low_res, x, scale), strict=True)
            shown += [pair for pair in middles if pair[0].shape == (shown or [pair])[0][0].shape]
            del shown[SHOWN:]
    if compared:
        return [*written, directory / COMPARISON]
    low_res, x = (torch.stack(part) for part in zip(*shown, strict=True))
    linear = resize_linear(low_res, x.shape[2:])
    written.append(save_side_by_side(directory / COMPARISON, low_res, linear, x))
    console.print(f"wrote {written[-1]}", markup=False)
    return written


def _labels(run: Run, opened: Mapping[str, LowRes], class_name: str | int | None) -> Tensor | None:
    """Return the classes of all items by their labels; None where there are none or one is given.

    A class that is given instead becomes the label of the files that have labels.
    """
    if run.classes is None:
        return None
    if class_name is not None:
        for file in opened.values():
            file.drawn_as = run.classes.number(class_name)
            file.drawn_name = run.classes.name(file.drawn_as)
        return None
    if all(file.classes is None for file in opened.values()):
        return None
    y = []
    for file in opened.values():
        names = file.classes or [NO_CLASS] * file.count
        y += [NO_CLASS if name == NO_CLASS else run.classes.number(name) for name in names]
    if NO_CLASS in y:
        check_upscaling(run.config, run.directory, False)
    return torch.tensor(y)


def _facts(
    run: Run,
    opened: Mapping[str, LowRes],
    walk: str,
    sampling: dict[str, Any],
    call: dict[str, Any],
) -> dict[str, Any]:
    """Return all that the finer files depend on."""
    network = run.denoiser.network
    assert isinstance(network, torch.nn.Module)
    files = {}
    for name, file in opened.items():
        with file.path.open("rb") as content:
            files[name] = hashlib.file_digest(content, "sha256").hexdigest()
    weights = hash_weights(network.state_dict())
    return {"weights": weights, "walk": walk, "sampling": sampling, **call, "files": files}


def _already_there(
    directory: Path, opened: Mapping[str, LowRes], facts: dict[str, Any]
) -> set[str]:
    """Return the names of the files that an interrupted call of the same left.

    Raises:
        ValueError: a file that would get a name of ours.
        FileExistsError: files that were there before, or were made in another way.
    """
    for name in (COMPARISON, MANIFEST):
        if name in opened:
            raise ValueError(f"a file cannot become {name}, which is about all: rename it")
    there = {name for name in opened if (directory / name).exists()}
    try:
        same = json.loads((directory / MANIFEST).read_text(encoding="utf-8")) == facts
    except (OSError, ValueError):
        same = False
    if there and not same:
        raise FileExistsError(
            f"{directory / min(there)} is there already and would be overwritten: remove it, or "
            "give another --out; only the same command with the same files goes on where it was"
        )
    if not same:
        (directory / COMPARISON).unlink(missing_ok=True)
    return there


def _groups(
    run: Run, opened: Mapping[str, LowRes], overlap: float, at_once: int
) -> Iterator[_Group]:
    """Yield files in their order, together those that follow one another and fit a batch."""
    group: _Group | None = None
    for name, file in opened.items():
        if group is not None:
            other = next(iter(group.files.values()))
            fits = (group.count + file.count) * group.tiling.count <= at_once
            if file.shape == other.shape and fits:
                group.files[name] = file
                continue
            yield group
        group = _Group({name: file}, build_tiling(run.config, file.shape[1:], overlap))
    if group is not None:
        yield group


def _middle(low_res: Tensor, x: Tensor, scale: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the first few items about their middle, as much as a picture shows."""
    low_res, x = low_res[:SHOWN], x[:SHOWN]
    for axis, factor in enumerate(scale, start=2):
        n = min(low_res.shape[axis], max(1, LARGEST // factor))
        first = (low_res.shape[axis] - n) // 2
        low_res = low_res.narrow(axis, first, n)
        x = x.narrow(axis, first * factor, n * factor)
    return low_res, x

"""How long do we take to the quality that another program reached on the same machine?

    python -m benchmarks.time_to_quality MARKS.json
    python -m benchmarks.time_to_quality MARKS.json --data emoji --recipe edm --max-minutes 5 15

MARKS.json holds what the other program had after some minutes of training, measured as here::

    {"features": "runs/demo/classifier",
     "marks": [{"minutes": 10, "bits_per_dim": 2.9, "frechet": 59.0}]}

``features`` is what ``iddpm evaluate --features`` takes: the directory of a classifier of ours or
of an encoder of ``python -m benchmarks.recipes judges``, a ``.safetensors`` or ``.onnx`` file, or
pca; paths start where the command is given. The Frechet distance is that of 1,000 samples of 50
DDIM steps to the training items; the features of a network of ours are whitened by those of the
training items. Bits per dimension are the variational bound of held-out items. One of the two
numbers may be left out of a mark.

Each training is planned for its minutes and begins anew; its checkpoints are measured afterwards,
so that measuring takes none of its time. A mark is reached by the first checkpoint that is as good.
Interrupted, the same command goes on.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common import processor
from benchmarks.recipes.budget import minutes_until, train_for
from benchmarks.recipes.data_sets import data_sets
from benchmarks.recipes.rows import BASE, read_row
from benchmarks.runs.common import FAST, table
from iddpm.builders.run_data import open_split
from iddpm.config import read_config
from iddpm.config.choices import SAMPLERS
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.tasks.evaluate import evaluate
from iddpm.tasks.extractors import PCA, Compared, open_extractor
from iddpm.tasks.likelihood import likelihood
from iddpm.training.checkpoints.checkpoint_files import list_checkpoints, step_of
from iddpm.training.precision import choose_device

NUMBERS = ("bits_per_dim", "frechet")
KEYS = {"minutes", *NUMBERS}


@dataclass(frozen=True)
class Mark:
    """What the other program had after some minutes."""

    minutes: float
    bits_per_dim: float | None = None
    frechet: float | None = None


@dataclass(frozen=True)
class How:
    """How quality is measured.

    Attributes:
        features: of the Frechet distance.
        samples, sampler, steps: that are drawn, and how.
        items, looks: held-out items whose bound is measured, and network evaluations for each.
    """

    features: str
    samples: int = 1000
    sampler: str = "ddim"
    steps: int = 50
    items: int = 500
    looks: int = 16


@dataclass(frozen=True)
class Quality:
    """What a checkpoint has after some minutes of training."""

    minutes: float
    bits_per_dim: float
    frechet: float
    frechet_error: float


def read_marks(path: Path) -> tuple[str, list[Mark]]:
    """Return the features and the marks of a file.

    Raises:
        ValueError, FileNotFoundError: one sentence says what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != {"features", "marks"}:
        raise ValueError(f'{path} must hold {{"features": path, "marks": [...]}} and nothing else')
    features, marks = content["features"], content["marks"]
    if not isinstance(features, str) or not (features == PCA or Path(features).exists()):
        raise ValueError(
            f"{path} has features {features!r}, which does not exist: give what iddpm evaluate "
            "--features takes, such as the directory of a classifier"
        )
    if not isinstance(marks, list) or not marks:
        raise ValueError(f"{path} has no marks: give a list of minutes, bits_per_dim and frechet")
    return features, [_mark(mark, f"mark {k} of {path}") for k, mark in enumerate(marks, 1)]


def _mark(mark: Any, where: str) -> Mark:
    if not isinstance(mark, dict) or "minutes" not in mark or not set(mark) <= KEYS:
        raise ValueError(f"{where} must hold minutes, bits_per_dim and frechet and nothing else")
    given = {name: value for name, value in mark.items() if value is not None}
    for name, value in given.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value):
            raise ValueError(f"{where} has {name} {value!r}: give a number")
    if not given.get("minutes", 0) > 0:
        raise ValueError(f"{where} has minutes {mark['minutes']!r}: give a number above 0")
    if not set(given) & set(NUMBERS):
        raise ValueError(f"{where} has neither bits_per_dim nor frechet")
    return Mark(**given)


def measured(run: Path, how: How, marks: Sequence[Mark]) -> list[Quality]:
    """Measure the checkpoints of a run, the oldest first, until all marks are reached."""
    found: list[Quality] = []
    log = Run(run).log
    for checkpoint in list_checkpoints(run):
        step = step_of(checkpoint)
        found.append(_quality(run, step, minutes_until(log, step), how))
        quality = found[-1]
        print(
            f"after {quality.minutes:.2f} minutes, step {step}: {quality.bits_per_dim:.3f} "
            f"bits/dim, Frechet {quality.frechet:.3g} +- {quality.frechet_error:.1g}",
            flush=True,
        )
        if all(None not in reached(mark, found).values() for mark in marks):
            break
    return found


def _quality(directory: Path, step: int, minutes: float, how: How) -> Quality:
    """Measure a checkpoint, or return what was measured before."""
    path = directory / "quality" / f"{step:08d}.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["how"] == asdict(how):
            return Quality(**known["quality"])
    run, quiet = Run(directory, checkpoint=step), Console(quiet=True)
    bound = likelihood(
        run, max_items=how.items, samples_per_item=how.looks, precision="auto", console=quiet
    )
    sampling = {**FAST, "sampler": how.sampler, "steps": how.steps}
    judged = evaluate(
        run,
        features=how.features,
        n=how.samples,
        sampling=sampling,
        out=path.with_suffix(""),
        console=quiet,
    )
    frechet = judged.samples.frechet
    quality = Quality(minutes, bound.total.mean, frechet.value, frechet.error)
    write_json(path, {"how": asdict(how), "quality": asdict(quality)})
    return quality


def reached(mark: Mark, found: Sequence[Quality]) -> dict[str, float | None]:
    """Return the minutes after which each number of a mark is reached; None for not reached."""
    wanted = {name: getattr(mark, name) for name in NUMBERS if getattr(mark, name) is not None}
    return {
        name: min((q.minutes for q in found if getattr(q, name) <= value), default=None)
        for name, value in wanted.items()
    }


def comparison(marks: Sequence[Mark], found: Sequence[Quality]) -> str:
    """Return a table of the marks and the minutes that we take to each."""
    rows = [["they have after", "bits/dim", "we after", "Frechet", "we after", "both, we after"]]
    for mark in marks:
        ours = reached(mark, found)
        both = None if None in ours.values() else max(value or 0 for value in ours.values())
        cells = [f"{mark.minutes:g} minutes"]
        for name in NUMBERS:
            theirs = getattr(mark, name)
            cells += ["", ""] if theirs is None else [f"{theirs:g}", _minutes(ours[name])]
        rows.append([*cells, _minutes(both)])
    return table(rows)


def _minutes(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.2f} minutes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and print; return 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        features, marks = read_marks(options.marks)
        names = ("samples", "sampler", "steps", "items", "looks")
        how = How(features, **{name: getattr(options, name) for name in names})
        text = _compare(options, marks, how)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{text}wrote {write_text(options.out / 'time_to_quality.md', text)}")
    return 0


def _compare(options: argparse.Namespace, marks: Sequence[Mark], how: How) -> str:
    """Train and measure, and return the report."""
    data, base = _recipe(options.data, options.recipe)
    _check(data, base, options, how)
    found: list[Quality] = []
    keep = (f"training.save_minutes={options.every:g}", "training.keep_checkpoints=100000")
    trained = json.dumps([str(data), base, keep, options.settings], sort_keys=True)
    digest = hashlib.sha256(trained.encode()).hexdigest()[:8]
    for minutes in options.max_minutes:
        out = options.out / f"{Path(options.data).stem}_{options.recipe}_{digest}_{minutes:g}m"
        train_for(minutes, data, out, (*keep, *options.settings), base)
        found += measured(out, how, marks)
    best = min(found, key=lambda quality: quality.frechet)
    planned = ", ".join(f"{minutes:g}" for minutes in options.max_minutes)
    return (
        f"Data {options.data}, recipe {options.recipe}, trainings of {planned} minutes; "
        f"{processor()}.\nBits/dim: bound of at most {how.items} held-out items, {how.looks} "
        f"evaluations for each. Frechet: {how.samples} samples of {how.steps} {how.sampler} steps, "
        f"features {how.features}; our best {best.frechet:.3g} +- {best.frechet_error:.1g} after "
        f"{best.minutes:.2f} minutes.\n\n{comparison(marks, found)}"
    )


def _recipe(data: str, recipe: str) -> tuple[Path | str, dict[str, Any]]:
    """Return where the data is, and the settings of a recipe of the bench for it.

    Raises:
        ValueError: a recipe for data that the bench has no base for.
    """
    known = data_sets().get(data)
    if known is not None:
        return known.location(), read_row(recipe).merged(known.base(), data)
    if recipe != BASE:
        raise ValueError(
            f"--recipe {recipe} is for the data sets of the bench ({', '.join(data_sets())}), and "
            f"--data is {data}: give settings by -s"
        )
    return data, {}


def _check(data: Path | str, base: dict[str, Any], options: argparse.Namespace, how: How) -> None:
    """Refuse what cannot be measured before anything is trained."""
    for name in ("samples", "steps", "items", "looks"):
        if getattr(how, name) < 1:
            raise ValueError(f"--{name} {getattr(how, name)} must be 1 or more")
    if how.samples < 2:
        raise ValueError("--samples 1 has no Frechet distance: use 2 or more, such as 1000")
    if how.sampler not in SAMPLERS:
        raise ValueError(f"--sampler {how.sampler} does not exist: use {', '.join(SAMPLERS)}")
    for minutes in (*options.max_minutes, options.every):
        if not 0 < minutes < 1e6:
            raise ValueError(f"{minutes:g} minutes must be above 0")
    config = read_config(None, [*options.settings, f"data.path={data}"], base)
    split = open_split(config)
    compared = Compared(str(data), split.source, split.train, choose_device("auto"))
    open_extractor(how.features, None, compared)
    if not len(split.held_out):
        raise ValueError(f"{data} has no held-out items to measure bits/dim of (data.held_out)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.time_to_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("marks", type=Path, metavar="MARKS.json")
    parser.add_argument("--data", default="digits", help="a data set of the bench, or any data")
    parser.add_argument("--recipe", default=BASE, help="a row of the bench, or several joined by +")
    parser.add_argument("-s", "--settings", action="append", default=[], help="another setting")
    parser.add_argument(
        "--max-minutes", nargs="+", type=float, default=[15.0], help="of each training"
    )
    parser.add_argument("--every", type=float, default=0.5, help="minutes between checkpoints")
    how = How("")
    parser.add_argument("--samples", type=int, default=how.samples)
    parser.add_argument("--sampler", default=how.sampler)
    parser.add_argument("--steps", type=int, default=how.steps, help="network evaluations")
    parser.add_argument("--items", type=int, default=how.items, help="held-out, for bits/dim")
    parser.add_argument("--looks", type=int, default=how.looks, help="evaluations for each")
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_quality"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

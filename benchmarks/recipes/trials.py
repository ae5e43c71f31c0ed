"""One trial: a row trained on a data set for some minutes with a seed, measured and recorded."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipes.budget import minutes_until, train_for
from benchmarks.recipes.data_sets import DataSet
from benchmarks.recipes.judges import FOLDER, Judge, open_judge
from benchmarks.recipes.measuring import measure_run
from benchmarks.recipes.rows import HERE, Row
from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.errors import NotSaved
from iddpm.runtime.processor import processor_name

RESUMABLE = ("training.save_minutes=5", "training.keep_checkpoints=1")


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        records: a file for each trial, in git, which the table is made of.
        runs: the run directories, outside of git.
        judges: the judges, outside of git.
    """

    records: Path = HERE / "records"
    runs: Path = Path("runs/recipes")
    judges: Path = FOLDER


@dataclass(frozen=True, eq=False)
class Trial:
    """What is trained.

    Attributes:
        row: its settings.
        data: the data set.
        minutes: of training, by the clock.
        seed: of the weights, the batches, the samples and the bound.
        settings: more assignments, such as of tests.
    """

    row: Row
    data: DataSet
    minutes: float
    seed: int
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Name it in a line."""
        return f"{self.row.name} on {self.data.name}, {self.minutes:g} minutes, seed {self.seed}"

    @property
    def digest(self) -> str:
        """What identifies its settings."""
        digest = self.row.digest(self.data.base(), self.data.name)
        if not self.settings:
            return digest
        return hashlib.sha256("\n".join([digest, *self.settings]).encode()).hexdigest()[:8]

    def record(self, places: Places) -> Path:
        """Return the path of its record."""
        folder = places.records / f"{self.minutes:g}m" / self.data.name
        return folder / f"{self.row.name}.seed{self.seed}.json"

    def run(self, places: Places) -> Path:
        """Return its run directory: other settings have another one."""
        folder = places.runs / f"{self.minutes:g}m" / self.data.name
        return folder / f"{self.row.name}-{self.digest}-seed{self.seed}"


def perform(trial: Trial, places: Places) -> dict[str, Any]:
    """Train and measure what has no record yet, and return the record.

    An interrupted training goes on. A row that cannot be trained or measured gets a record that
    says why; delete that file to try again.
    """
    path, judge = trial.record(places), open_judge(trial.data, places.judges)
    judged = places.records / "judges" / f"{trial.data.name}.json"
    if not judged.is_file() or read_record(judged) != judge.facts:
        write_json(judged, judge.facts)
    known = read_record(path) if path.is_file() else {}
    if known.get("digest") == trial.digest and known.get("judge") == judge.facts["hash"]:
        print(f"{trial}: done before")
        return known
    print(f"{trial}: training in {torch.get_num_threads()} threads")
    record = _identity(trial, judge)
    try:
        record |= _train(trial, trial.run(places))
        lengths = trial.row.ema_lengths
        record["measures"] = measure_run(trial.run(places), trial.data, judge, trial.seed, lengths)
    except (OSError, NotSaved):  # the machine's fault, not the row's
        raise
    except Exception as error:  # whatever a new setting breaks, the next row is tried
        said = " ".join(str(error).split())[:400]
        record["failed"] = f"{type(error).__name__}: {said}"
        print(f"{trial}: {record['failed']}")
    write_json(path, record)
    return record


def read_record(path: Path) -> dict[str, Any]:
    """Read a record."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _identity(trial: Trial, judge: Judge) -> dict[str, Any]:
    """Return what a record says of how it was made."""
    row, data = trial.row, trial.data
    return {
        "row": row.name,
        "tries": row.tries,
        "published": row.published,
        "data": data.name,
        "minutes": trial.minutes,
        "seed": trial.seed,
        "digest": trial.digest,
        "settings": row.merged(data.base(), data.name),
        "more_settings": list(trial.settings),
        "judge": judge.facts["hash"],
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "torch": torch.__version__,
        "when": round(time.time()),
    }


def _train(trial: Trial, out: Path) -> dict[str, Any]:
    """Train to the end of the time, or go on; return what was trained."""
    run = train_for(
        trial.minutes,
        trial.data.location(),
        out,
        (*RESUMABLE, f"training.seed={trial.seed}", *trial.settings),
        trial.row.merged(trial.data.base(), trial.data.name),
    )
    step = run.log[-1]["step"]
    return {
        "steps": step,
        "trained_minutes": round(minutes_until(run.log, step), 3),
        "parameters": sum(p.numel() for p in run.denoiser.network.parameters()),
        "batch_size": run.config.training.batch_size,
        "precision": run.config.training.precision,
    }

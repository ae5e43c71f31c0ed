"""Distill a run and compare one, two and four evaluations with those of its teacher.

python benchmarks/distillation.py runs/demo --out runs/demo_few

Prints a table: the Frechet distance to the training items with its standard error, precision,
recall and coverage, and the time per sample; then the cost of the training as a share of the
teacher's. All rows start from the same noise. ``same_seeds.png`` shows the same samples row by
row. Samples are kept, and a run that exists is resumed, so the command can be interrupted and
repeated. On another run than the digits': ``--samples 1000 --features pca``, or a classifier.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import iddpm
from iddpm.evaluation.distances import FrechetStats, frechet_estimate
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.precision_recall import manifold
from iddpm.evaluation.whitening import Whitening
from iddpm.runs.run import Run
from iddpm.runs.step_tables import spread
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.real_statistics import read_items

NEIGHBORS_OF = 2000
"""Items, at most, that precision, recall and coverage compare in pairs."""
SHOWN = 12
PART = 500


def rows_of(teacher: Run, student: Run, ancestral: int) -> dict[str, tuple[Run, dict[str, Any]]]:
    """Return what is compared, by name: a run and its settings of sampling."""
    known: dict[str, tuple[Run, dict[str, Any]]] = {
        f"teacher, ddpm {ancestral}": (teacher, {"sampler": "ddpm", "steps": ancestral})
    }
    known |= {f"teacher, {n}": (teacher, {"steps": n}) for n in (50, 10, 4, 2, 1)}
    made = student.config.distillation
    assert made is not None
    return known | {f"distilled, {n}": (student, {"steps": n}) for n in made.steps}


def draw(run: Run, settings: dict[str, Any], count: int, kept: Path) -> tuple[Tensor, float]:
    """Return samples in [-1, 1] and the seconds of each; parts that exist are read."""
    kept.mkdir(parents=True, exist_ok=True)
    parts: list[Tensor] = []
    seconds: list[float] = []
    plan = run.plan(**settings, precision="auto", batch_size=100)
    for start in range(0, count, PART):
        path = kept / f"{start:06d}.npz"
        size = min(PART, count - start)
        if not path.is_file():
            began = time.monotonic()
            batches = run.sample_batches(size, plan, start=start)
            x = torch.cat([batch.x for batch in batches]).clamp(-1, 1)
            np.savez(path, x=x.numpy(), seconds=(time.monotonic() - began) / size)
        with np.load(path) as file:
            parts.append(torch.from_numpy(file["x"])[:size])
            seconds.append(float(file["seconds"]))
    return torch.cat(parts), sum(seconds) / len(seconds)


class Ruler:
    """Measures of samples against real items, under the features of an extractor."""

    def __init__(self, extractor: Extractor, real: Tensor) -> None:
        self.extractor = extractor
        features = extractor.of(real.split(PART))
        stats = FrechetStats.from_features(self._directions(features))
        self.whitening = Whitening.of(stats) if extractor.whiten else None
        self.reference = stats if self.whitening is None else self.whitening.stats(stats)
        self.near = self._scaled(features)[:NEIGHBORS_OF]

    def _directions(self, features: Tensor) -> Tensor:
        return features[:, : features.shape[1] - self.extractor.beside]

    def _scaled(self, features: Tensor) -> Tensor:
        found = self._directions(features)
        return found.double() if self.whitening is None else self.whitening(found)

    def row(self, x: Tensor) -> str:
        """Return the cells of a table for samples."""
        features = self._scaled(self.extractor.of(x.split(PART)))
        distance = frechet_estimate(features, self.reference)
        near = manifold(features[:NEIGHBORS_OF], self.near)
        shares = (near.precision, near.recall, near.coverage)
        cells = [f"{distance.value:.2f} ± {distance.error:.2f}"]
        return " | ".join([*cells, *(f"{float(getattr(v, 'value', v)):.3f}" for v in shares)])


def seconds_of(run: Run) -> float:
    """Return how long the sessions of a training took together."""
    total = last = 0.0
    for record in run.log:
        now = record.get("seconds", last)
        total += now - last if now >= last else now
        last = now
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Distill unless that is done, draw what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--ancestral", type=int, default=1000, help="steps of ddpm")
    parser.add_argument("--features", help="pca, or a classifier [default: as iddpm distill]")
    parser.add_argument("-s", dest="settings", action="append", default=[])
    asked = parser.parse_args(arguments)
    began = (asked.out / "config.yaml").is_file()
    if not (asked.out / "model.safetensors").is_file():
        iddpm.distill(
            asked.teacher,
            out=asked.out,
            features=asked.features,
            settings=asked.settings,
            resume=began,
        )
    teacher, student = iddpm.load(asked.teacher), iddpm.load(asked.out, checkpoint="best")
    made = student.config.distillation
    assert made is not None
    source, train, _ = student.open_split()
    compared = Compared(source.name, source, train, student.device)
    extractor, _ = open_extractor(asked.features or made.features, None, compared)
    ruler = Ruler(extractor, read_items(source, spread(train, 50_000)))
    shown: list[Tensor] = []
    print(f"{extractor.distance_name}, {asked.samples} samples each\n")
    print("| evaluations | Frechet distance | precision | recall | coverage | ms per sample |")
    print("|---|---|---|---|---|---|")
    for name, (run, settings) in rows_of(teacher, student, asked.ancestral).items():
        kept = asked.out / "compared" / name.replace(", ", "_").replace(" ", "_")
        x, seconds = draw(run, settings, asked.samples, kept)
        shown.append(x[:SHOWN])
        print(f"| {name} | {ruler.row(x)} | {1000 * seconds:.1f} |", flush=True)
    cost = seconds_of(student) / max(seconds_of(teacher), 1e-9)
    print(f"\ntraining took {seconds_of(student):.0f} s, {cost:.0%} of the teacher's")
    if len(student.shape) == 3:
        path = iddpm.save_grid(torch.cat(shown), asked.out / "same_seeds.png", columns=SHOWN)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()

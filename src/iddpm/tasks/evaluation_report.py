"""What was measured of samples, and the report of it with its pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import Split
from iddpm.data.sources.source import Source
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.data.writers.image_files import save_grid
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.measures import (
    Accuracy,
    Measures,
    class_accuracy,
    measure,
    warn_of_few_neighbors,
    warn_of_small_numbers,
)
from iddpm.evaluation.nearest_items import Memorization, Nearest, memorization
from iddpm.evaluation.reference import PAIRS, Reference
from iddpm.evaluation.report import markdown
from iddpm.runs.classifier import Classifier
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.tasks.fidelity_ways import Ways
from iddpm.tasks.paired_fidelity import compare_pairs
from iddpm.tasks.pairs import Pairs
from iddpm.tasks.real_statistics import read_items
from iddpm.tasks.samples import Samples

SHOWN = 36
"""Samples in the picture."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured; ``report`` is what ``report.json`` holds."""

    samples: Measures
    held_out: Measures | None
    as_many: Measures | None
    """As many samples as held-out items: a distance of fewer items is larger."""
    memorisation: Memorization | None
    accuracy: Accuracy | None
    nearest: Nearest
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class MeasuredFeatures:
    """Features of everything that is compared with the real data.

    Attributes:
        samples: [N, d].
        held_out: of the held-out items; None where those are too few.
        interpolated: of super-resolution, by the name of the other way to make data finer.
        logits: the classifier's, of the samples; None without a classifier that knows the classes.
    """

    samples: Tensor
    held_out: Tensor | None
    interpolated: dict[str, Tensor]
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class MeasuredSamples:
    """Everything that a report is made of."""

    run: Run
    split: Split
    pairs: Pairs | None
    drawn: Samples
    extractor: Extractor
    classifier: Classifier | None
    reference: Reference
    features: MeasuredFeatures
    ways: Ways | None
    """What makes the low resolutions of ``pairs`` finer."""
    nearest: tuple[Nearest, Nearest]
    """Of the samples and of the held-out items."""
    paired: tuple[Pairs, Tensor] | None = None
    """Held-out items with their paired data, and what was drawn from it."""

    @cached_property
    def of_samples(self) -> Measures:
        """Measures of the samples."""
        return self.measure(self.features.samples)

    def measure(self, features: Tensor) -> Measures:
        """Compare features with the reference, over as many pairs for all."""
        pairs = min(len(self.drawn.x), PAIRS)
        extractor = self.extractor
        return measure(
            features, self.reference, pairs, whiten=extractor.whiten, beside=extractor.beside
        )


def write_report(
    measured: MeasuredSamples, upscaled: dict[str, Any] | None, directory: Path, console: Console
) -> Evaluation:
    """Measure everything and write the report and its pictures."""
    found = measured.features
    of_samples = measured.of_samples
    mark, as_many = None, None
    if found.held_out is not None:
        mark = measured.measure(found.held_out)
        if len(found.samples) > len(found.held_out):
            as_many = measured.measure(found.samples[: len(found.held_out)])
    copied = memorization(*measured.nearest)
    accuracy = accuracy_of(found.logits, measured.drawn.y, measured.classifier)
    report = {
        "run": str(measured.run.directory),
        "frechet_name": measured.extractor.distance_name,
        "kernel_name": measured.extractor.kernel_name,
        "features": feature_facts(measured.extractor, found.samples.shape[1]),
        "reference": measured.reference.facts | {"count": measured.reference.stats.count},
        "drawn": measured.drawn.facts,
        "samples": of_samples.as_dict(),
        "held_out": None if mark is None else mark.as_dict(),
        "as_many_samples": None if as_many is None else as_many.as_dict(),
        "super_resolution": upscaled,
        "paired": None if measured.paired is None else compare_pairs(*measured.paired),
        "memorisation": None if copied is None else vars(copied),
        "accuracy": None if accuracy is None else accuracy.as_dict(),
        "warnings": _warnings(measured, mark, copied),
    }
    _write(measured, report, directory, console)
    return Evaluation(of_samples, mark, as_many, copied, accuracy, measured.nearest[0], report)


def accuracy_of(
    logits: Tensor | None, y: Tensor | None, classifier: Classifier | None
) -> Accuracy | None:
    """Return how often a classifier predicts the class of a sample; None where it cannot say."""
    if logits is None or y is None or classifier is None:
        return None
    labeled = y >= 0
    if not bool(labeled.any()):
        return None
    return class_accuracy(logits[labeled], y[labeled], classifier.class_names)


def feature_facts(extractor: Extractor, size: int) -> dict[str, Any]:
    """Return what identifies features of ``size`` numbers."""
    return {
        "name": extractor.name,
        "hash": extractor.hash,
        "size": size - extractor.beside,
        "beside": extractor.beside,
        "resize": extractor.resize,
        "whitened": extractor.whiten,
    }


def _warnings(
    measured: MeasuredSamples, mark: Measures | None, copied: Memorization | None
) -> list[str]:
    """Return what has to be known beside the numbers."""
    extractor, classifier, drawn = measured.extractor, measured.classifier, measured.drawn
    shape, held_out = tuple(measured.features.samples.shape), len(measured.split.held_out)
    warnings = warn_of_features(extractor, shape, measured.reference, drawn.x[0].numel())
    if classifier is not None and drawn.y is None:
        warnings.append("the samples have no classes, so their accuracy is not measured")
    elif classifier is not None and classifier.class_names != measured.run.config.class_names:
        warnings.append("the classifier has other classes, so accuracy is not measured")
    if mark is None:
        warnings.append(f"{held_out} held-out items are too few for a reliable comparison")
    if extractor.hash == drawn.facts.get("guides", {}).get("classifier_hash"):
        warnings.append(
            "the classifier that guided the samples also evaluates them, which is "
            "biased in their favor"
        )
    if copied is None:
        warnings.append(f"{held_out} held-out items are too few to detect memorization")
    return warnings


def warn_of_features(
    extractor: Extractor, shape: tuple[int, ...], reference: Reference, values: int
) -> list[str]:
    """Return warnings about features [N, d] of items with so many values each."""
    count, size = shape[0], shape[1] - extractor.beside
    warnings = warn_of_small_numbers(count, size)
    if extractor.fitted and not extractor.beside and size < values:
        warnings.append(
            f"the PCA was fitted to few items for {size} components, and no measure with it "
            "sees the residual outside them, such as noise"
        )
    return warnings + warn_of_few_neighbors(count, min(reference.stats.count, count, PAIRS))


def _write(
    measured: MeasuredSamples, report: dict[str, Any], directory: Path, console: Console
) -> None:
    """Write the report and pictures of the samples that are nearest to training items."""
    drawn, split, pairs = measured.drawn.x, measured.split, measured.pairs
    if pairs is not None and measured.ways is not None:
        shown = (pairs.low_res, measured.ways.x["bicubic"], drawn, pairs.truth(SHOWN))
        film = split.source.form.kind == "clip"
        path = directory / "finer.png"
        save_side_by_side(path, *(x[:SHOWN] for x in shown), film=film)
        console.print(f"wrote {path}", markup=False)
    picture = nearest_picture(drawn, measured.nearest[0], split.source, split.train)
    write_pages(report, picture, directory, console)


def write_pages(report: dict[str, Any], picture: Tensor, directory: Path, console: Console) -> None:
    """Write a report for programs and for people, and its picture."""
    for path in (
        write_json(directory / "report.json", report),
        write_text(directory / "report.md", markdown(report)),
        save_grid(picture, directory / "neighbours.png", columns=12),
    ):
        console.print(f"wrote {path}", markup=False)


def nearest_picture(
    x: Tensor, nearest: Nearest, source: Source, items: NDArray[np.int64]
) -> Tensor:
    """Return samples beside the nearest of some items, the most suspicious first."""
    order = nearest.ratio.argsort()[:SHOWN]
    found = items[nearest.item[order].numpy()]
    return torch.stack([x[order], read_items(source, found)], dim=1).flatten(0, 1)

"""How near generated data comes to real data; both are read as data, and no run is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.data.levels import round_to_levels, to_model_range
from iddpm.data.sources.source import Source
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.measures import measure
from iddpm.evaluation.nearest_items import Nearest
from iddpm.evaluation.reference import PAIRS, Reference
from iddpm.runs.classifier import Classifier
from iddpm.runs.step_tables import spread
from iddpm.runtime.console import progress_bar
from iddpm.runtime.processes import Ranks
from iddpm.tasks.evaluation_report import (
    SHOWN,
    Evaluation,
    accuracy_of,
    feature_facts,
    nearest_picture,
    warn_of_features,
    write_pages,
)
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.fidelity_ways import SAMPLES
from iddpm.tasks.generated_sides import Sides, name_of, open_sides, report_directory
from iddpm.tasks.paired_fidelity import compare_with_truth
from iddpm.tasks.real_statistics import (
    BATCH,
    REFERENCE_ITEMS,
    RealData,
    nearest_items,
    numbered_batches,
    read_items,
    statistics_of,
)
from iddpm.training.precision import choose_device

SEARCHED_VALUES = 2**27
"""Numbers of generated items whose nearest real items are looked for: half a GiB."""
IDENTICAL = 1e-3
"""Root mean squared difference below which two items count as the same; a level of 8 bits has 8e-3,
and float32 finds up to 5e-4 between equal items."""


@dataclass(frozen=True)
class ComparisonOptions:
    """How data is read and which features it is compared by.

    Attributes:
        features: as for :func:`iddpm.evaluate`.
        weights: the file that ``inception`` needs.
        settings: of reading, as for :func:`~iddpm.tasks.generated_sides.open_sides`.
        paired: whether items of one name or number belong together.
        device: where networks compute.
    """

    features: str = "pca"
    weights: Path | None = None
    settings: tuple[str, ...] = ()
    paired: bool = False
    device: str = "auto"


class _Found(NamedTuple):
    """What was computed of the generated data: features [N, d], and a classifier's logits."""

    features: Tensor
    logits: Tensor | None


class _Search(NamedTuple):
    """Generated items [n, C, *spatial] and the nearest of the real ones."""

    x: Tensor
    nearest: Nearest


@dataclass(frozen=True, eq=False)
class _Judged:
    """Everything that a report is made of."""

    names: tuple[str, str]
    sides: Sides
    items: NDArray[np.int64]
    extractor: Extractor
    classifier: Classifier | None
    reference: Reference
    found: _Found
    search: _Search


def evaluate_data(
    real: Any,
    generated: Any,
    options: ComparisonOptions,
    out: Path | None,
    console: Console,
    ranks: Ranks,
) -> Evaluation:
    """Compare generated data with real data and write a report.

    Generated items are rounded to the levels of the real data, as they would be stored.

    Args:
        real: data as for training: a path, a name, or an object in memory.
        generated: other data of the same shape.
        options: how both are read and compared.
        out: where to write; None for the folder ``evaluation`` beside the generated data.
        console: where progress is shown.
        ranks: who shares the work.

    Raises:
        ValueError, FileNotFoundError: something given does not work; nothing has been written.
    """
    with ranks.together():
        directory = report_directory(out, real, generated)
        sides = open_sides(real, generated, options.settings, options.paired)
        device = choose_device(options.device)
    names = (name_of(real, sides.real), name_of(generated, sides.generated))
    items = spread(np.arange(len(sides.real)), REFERENCE_ITEMS)
    compared = Compared(names[0], sides.real, items, device)
    extractor, classifier = open_extractor(options.features, options.weights, compared, ranks)
    judge = RealData(sides.real, items, sides.real.bits)
    reference = statistics_of(judge, extractor, None, console, ranks)
    found = _compute(sides, extractor, _known(classifier, sides.generated), console, ranks)
    search = _search(sides, items, console, ranks)
    judged = _Judged(names, sides, items, extractor, classifier, reference, found, search)
    return ranks.by_first(lambda: _report(judged, directory, console))


def _compute(
    sides: Sides,
    extractor: Extractor,
    classifier: Classifier | None,
    console: Console,
    ranks: Ranks,
) -> _Found:
    """Return what is computed of all generated items."""
    source = sides.generated
    with progress_bar(console, "measuring generated data") as progress:
        count = -(-len(source) // BATCH)
        task = progress.add_task("generated", total=-(-count // ranks.count))

        def parts() -> Iterator[_Found]:
            for _, batch in numbered_batches(source, np.arange(len(source)), ranks.turns):
                progress.advance(task)
                x = round_to_levels(batch, sides.real.bits)
                yield _Found(extractor(x), None if classifier is None else classifier.logits(x))

        found = list(ranks.in_rounds(parts(), count))
    logits = [part.logits for part in found if part.logits is not None]
    features = torch.cat([part.features for part in found])
    return _Found(features, torch.cat(logits) if logits else None)


def _known(classifier: Classifier | None, source: Source) -> Classifier | None:
    """Return the classifier where it knows the classes of labeled data."""
    if classifier is None or source.labels is None:
        return None
    return classifier if set(source.class_names) <= set(classifier.class_names) else None


def _search(sides: Sides, items: NDArray[np.int64], console: Console, ranks: Ranks) -> _Search:
    """Look for the real items that are nearest to generated ones, or to some of very many."""
    source = sides.generated
    most = max(SEARCHED_VALUES // int(np.prod(source.shape)), SHOWN)
    with ranks.together():
        some = read_items(source, spread(np.arange(len(source)), most))
    x = round_to_levels(some, sides.real.bits)
    return _Search(x, nearest_items([x], sides.real, items, console, ranks)[0])


def _report(judged: _Judged, directory: Path, console: Console) -> Evaluation:
    """Measure everything and write the report."""
    sides, extractor, found = judged.sides, judged.extractor, judged.found
    pairs = min(len(found.features), PAIRS)
    measures = measure(
        found.features, judged.reference, pairs, whiten=extractor.whiten, beside=extractor.beside
    )
    accuracy = accuracy_of(found.logits, _labels(judged), judged.classifier)
    nearest = judged.search.nearest
    same = int((nearest.distance < IDENTICAL).sum())
    report = {
        "run": None,
        "real": judged.names[0],
        "generated": judged.names[1],
        "frechet_name": extractor.distance_name,
        "kernel_name": extractor.kernel_name,
        "features": feature_facts(extractor, found.features.shape[1]),
        "reference": judged.reference.facts | {"count": judged.reference.stats.count},
        "drawn": {"file": judged.names[1], "rounded_to_bits": sides.real.bits},
        "samples": measures.as_dict(),
        "held_out": None,
        "as_many_samples": None,
        "super_resolution": None,
        "paired": None if sides.truth is None else compare_with_truth(_pairs(sides)),
        "memorisation": None,
        "identical": {"searched": len(nearest.distance), "found": same},
        "accuracy": None if accuracy is None else accuracy.as_dict(),
        "warnings": _warnings(judged, same),
    }
    picture = nearest_picture(judged.search.x, nearest, sides.real, judged.items)
    write_pages(report, picture, directory, console)
    return Evaluation(measures, None, None, None, accuracy, nearest, report)


def _pairs(sides: Sides) -> dict[str, Iterator[tuple[Tensor, Tensor]]]:
    """Return batches of generated items with the real items that they belong to."""
    truth, source = sides.truth, sides.generated
    assert truth is not None

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(source), BATCH):
            items = np.arange(start, min(start + BATCH, len(source)))
            x = to_model_range(source.read_many(items), source.bits)
            real = to_model_range(truth.read_many(items), truth.bits)
            yield round_to_levels(x, truth.bits), real

    return {SAMPLES: batches()}


def _labels(judged: _Judged) -> Tensor | None:
    """Return the classes of generated items by the classifier's numbers, -1 for none."""
    source, classifier = judged.sides.generated, judged.classifier
    if judged.found.logits is None or classifier is None or source.labels is None:
        return None
    numbers = [classifier.class_names.index(name) for name in source.class_names]
    return torch.from_numpy(np.array([*numbers, -1])[source.labels])  # -1 is the last


def _warnings(judged: _Judged, same: int) -> list[str]:
    """Return what has to be known beside the numbers."""
    sides, classifier = judged.sides, judged.classifier
    shape = tuple(judged.found.features.shape)
    values = int(np.prod(sides.real.shape))
    warnings = warn_of_features(judged.extractor, shape, judged.reference, values)
    if sides.generated.bits != sides.real.bits:
        depths = [
            "floats" if source.bits is None else f"{source.bits} bits"
            for source in (sides.generated, sides.real)
        ]
        rounded = "" if sides.real.bits is None else ", to which it is rounded"
        warnings.append(f"the generated data has {depths[0]} and the real {depths[1]}{rounded}")
    if same:
        looked = len(judged.search.nearest.distance)
        warnings.append(f"{same} of {looked} generated items are identical to a real item")
    if classifier is not None and sides.generated.labels is None:
        warnings.append("the generated items have no classes, so their accuracy is not measured")
    elif classifier is not None and judged.found.logits is None:
        warnings.append("the classifier has other classes, so accuracy is not measured")
    return warnings

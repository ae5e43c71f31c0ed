"""How good the samples of a run are: drawn, compared with real data, and written down."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import Split, open_other
from iddpm.config import Config
from iddpm.data.batches import held_out_batches
from iddpm.data.sources.source import Source
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.data.writers.image_files import save_grid
from iddpm.evaluation.features import PCA_ITEMS, Extractor, onnx_file, pixel_pca
from iddpm.evaluation.measures import (
    FEW_NEIGHBOURS,
    Accuracy,
    Measures,
    class_accuracy,
    measure,
    warn_of_few_neighbours,
    warn_of_small_numbers,
)
from iddpm.evaluation.neighbours import Memorisation, Nearest, memorisation, search
from iddpm.evaluation.precision_recall import FEWEST_ITEMS
from iddpm.evaluation.reference import PAIRS, Reference, load_reference
from iddpm.evaluation.report import markdown
from iddpm.runs.classifier import Classifier, load_classifier
from iddpm.runs.run import Run
from iddpm.runs.step_tables import spread
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.errors import warned
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.pairs import compare, held_out_pairs, interpolated
from iddpm.tasks.samples import draw_samples, read_samples

BATCH = 256
REFERENCE_ITEMS = 50_000
"""Real items that statistics are made of, evenly spread; as many as is usual."""
SHOWN = 36
"""Samples in the picture."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured; ``report`` is what ``report.json`` holds."""

    samples: Measures
    held_out: Measures | None
    as_many: Measures | None
    """As many samples as held-out items: a distance of fewer items is larger."""
    memorisation: Memorisation | None
    accuracy: Accuracy | None
    nearest: Nearest
    report: dict[str, Any]


def evaluate(
    run: Run,
    data: Any = None,
    *,
    n: int = 5000,
    features: str = "pca",
    seed: int = 0,
    classes: int | str | None = None,
    sampling: Mapping[str, Any] | None = None,
    samples: Path | None = None,
    reference: Path | None = None,
    out: Path | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Compare samples of a run with real data and write a report.

    A run of super-resolution draws a sample for each held-out item, which is compared with the
    truth beside linear and bicubic interpolation of the same low resolution.

    Args:
        run: the model.
        data: real data to compare with, read as the run's own; by default what it was trained on.
        n: how many samples to draw; of super-resolution at most the held-out items.
        features: ``"pca"``, the directory of a classifier, or an ``.onnx`` file.
        seed: of the samples.
        classes: one class for all; by default drawn as often as the training data has them.
        sampling: how to draw them, as for :meth:`Run.plan`.
        samples: a .npz file of samples to measure instead, as ``iddpm sample --npz`` writes it.
        reference: statistics that another evaluation left, to compare with instead.
        out: where to write, ``RUN/evaluation`` by default.
        console: where progress is shown.
        ranks: who shares drawing, features and the search for neighbours; all return the same.

    Raises:
        ValueError, FileNotFoundError: something given does not work; nothing has been written.
    """
    console = console or open_console(ranks.first)
    with ranks.together():
        if run.trained_on(data) is not run:
            run, data = run.trained_on(data), None
        split = run.open_split()
        if n < FEWEST_ITEMS and samples is None:
            raise ValueError(
                f"cannot evaluate {n} samples (-n {n}): the measures need {FEWEST_ITEMS} or more, "
                f"and {FEW_NEIGHBOURS} or more to mean something"
            )
        if not len(split.train):
            raise ValueError(f"{split.source.name} has no training items to compare with")
        pairs = None
        if run.config.task == "super_resolution":
            if samples is not None:
                raise ValueError(
                    f"{run.directory} draws a sample for each held-out item, and of those in "
                    f"{samples} it is not known which they belong to: leave samples out"
                )
            if len(split.held_out) < FEWEST_ITEMS:
                raise ValueError(
                    f"{split.source.name} has {len(split.held_out)} held-out items, and the "
                    f"measures need {FEWEST_ITEMS} or more: hold out more (data.held_out)"
                )
            pairs = held_out_pairs(run, min(n, len(split.held_out)), split)
    extractor, classifier = open_extractor(features, run, split, ranks)
    with ranks.together():
        other = None if data is None else open_other(run.config, data)
        source = split.source if other is None else other
        items = split.train if other is None else np.arange(len(other))
        items = spread(items, REFERENCE_ITEMS)
        if reference is None and len(items) < FEWEST_ITEMS:
            raise ValueError(
                f"{source.name} has {len(items)} items to compare with, and the measures need "
                f"{FEWEST_ITEMS} or more"
            )
        if reference is not None:  # looked at before anything takes long
            load_reference(reference, _facts(extractor, run.config, source, items), data=False)
    if samples is not None:
        drawn = ranks.by_first(lambda: read_samples(samples, run.config))
        if len(drawn.x) < FEWEST_ITEMS:
            raise ValueError(
                f"{samples} holds {len(drawn.x)} samples, and the measures need {FEWEST_ITEMS} or "
                "more"
            )
    else:
        count = n if pairs is None else len(pairs.items)
        drawn = draw_samples(
            run, count, sampling or {}, split, seed, classes, console, ranks, pairs
        )

    against = _reference(extractor, run, source, items, reference, console, ranks)
    found = _by_parts(extractor, drawn.x, ranks)
    with ranks.together():
        held_out = _read(split.source, split.held_out)
    marked, logits = None, None
    if len(held_out) > max(found.shape[1], FEWEST_ITEMS - 1):
        marked = _by_parts(extractor, held_out, ranks)
    rivals = {} if pairs is None else interpolated(run.config, pairs.low_res)
    of_rivals = {name: _by_parts(extractor, x, ranks) for name, x in rivals.items()}
    known = classifier is not None and classifier.class_names == run.config.class_names
    if classifier is not None and known and drawn.y is not None:
        logits = _by_parts(classifier.logits, drawn.x, ranks)
    with progress_bar(console, "looking for neighbours") as progress:
        count = -(-len(split.train) // BATCH)
        task = progress.add_task("neighbours", total=-(-count // ranks.count))

        def training() -> Iterator[tuple[int, Tensor]]:
            for number, batch in _numbered(split.source, split.train, ranks.turns):
                progress.advance(task)
                yield number * BATCH, batch

        nearest, nearest_held_out = search([drawn.x, held_out], training(), ranks)

    def judged() -> Evaluation:
        compared = min(len(drawn.x), PAIRS)
        size = found.shape[1] - extractor.beside
        how: dict[str, Any] = {"whiten": extractor.whiten, "beside": extractor.beside}
        warnings = warn_of_small_numbers(len(found), size)
        if features == "pca" and not extractor.beside and size < drawn.x[0].numel():
            warnings.append(
                f"the PCA was fitted to few items for {size} directions, and nothing measured with "
                "it sees what lies outside of them, such as noise"
            )
        warnings += warn_of_few_neighbours(len(found), min(against.stats.count, compared))
        accuracy = None
        if classifier is not None and drawn.y is None:
            warnings.append("the samples carry no classes, so their accuracy is not measured")
        elif classifier is not None and not known:
            warnings.append("the classifier has other classes, so accuracy is not measured")
        elif classifier is not None and drawn.y is not None and logits is not None:
            labeled = drawn.y >= 0
            if bool(labeled.any()):
                of_labeled = drawn.y[labeled]
                accuracy = class_accuracy(logits[labeled], of_labeled, classifier.class_names)
        measured = measure(found, against, compared, **how)
        mark, as_many = None, None
        if marked is not None:
            mark = measure(marked, against, compared, **how)
            if len(found) > len(marked):
                fewer = found[: len(marked)]
                as_many = measure(fewer, against, compared, **how)
        finer = None
        if pairs is not None:
            ways = {"samples": (drawn.x, measured)} | {
                name: (x, measure(of_rivals[name], against, compared, **how))
                for name, x in rivals.items()
            }
            finer = compare(run.config, pairs, ways)
        copied = memorisation(nearest, nearest_held_out)
        if mark is None:
            warnings.append(f"{len(held_out)} held-out items are too few to serve as a mark")
        if extractor.hash == drawn.facts.get("guides", {}).get("classifier_hash"):
            warnings.append(
                "the classifier that guided the samples also judges them, which flatters"
            )
        if copied is None:
            warnings.append(f"{len(held_out)} held-out items are too few to judge memorisation by")
        report = {
            "run": str(run.directory),
            "frechet_name": extractor.distance_name,
            "features": {
                "name": extractor.name,
                "hash": extractor.hash,
                "size": size,
                "beside": extractor.beside,
                "resize": extractor.resize,
                "whitened": extractor.whiten,
            },
            "reference": against.facts | {"count": against.stats.count},
            "drawn": drawn.facts,
            "samples": measured.as_dict(),
            "held_out": None if mark is None else mark.as_dict(),
            "as_many_samples": None if as_many is None else as_many.as_dict(),
            "super_resolution": finer,
            "memorisation": None if copied is None else vars(copied),
            "accuracy": None
            if accuracy is None
            else {"overall": accuracy.overall._asdict(), "per_class": accuracy.per_class},
            "warnings": warnings,
        }
        directory = out or run.directory / "evaluation"
        picture = _pairs_picture(drawn.x, nearest, split)
        if pairs is not None:
            shown = (pairs.low_res, rivals["bicubic"], drawn.x, pairs.truth(SHOWN))
            film = split.source.form.kind == "clip"
            path = directory / "finer.png"
            save_side_by_side(path, *(x[:SHOWN] for x in shown), film=film)
            console.print(f"wrote {path}", markup=False)
        for path in (
            write_json(directory / "report.json", report),
            write_text(directory / "report.md", markdown(report)),
            save_grid(picture, directory / "neighbours.png", columns=12),
        ):
            console.print(f"wrote {path}", markup=False)
        return Evaluation(measured, mark, as_many, copied, accuracy, nearest, report)

    return ranks.by_first(judged)


def open_extractor(
    name: str, run: Run, split: Split, ranks: Ranks = ALONE
) -> tuple[Extractor, Classifier | None]:
    """Return the features of that name, and the classifier where they are one's.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: it is there and does not serve, or is for items of another shape.
    """
    if name == "pca":  # fitted once, since the directions' last bits depend on the machine
        items = spread(split.train, PCA_ITEMS)
        return ranks.by_first(lambda: pixel_pca(_read(split.source, items))), None
    with ranks.together():
        return _open_network(Path(name), run)


def _open_network(path: Path, run: Run) -> tuple[Extractor, Classifier | None]:
    if path.is_dir():
        classifier = load_classifier(path, str(run.device))
        if classifier.shape != run.shape:
            raise ValueError(
                f"the classifier in {path} takes items of shape {classifier.shape}, and "
                f"{run.directory} draws {run.shape}"
            )
        judge = Extractor("classifier", classifier.hash, classifier.features, whiten=True)
        return judge, classifier
    if path.is_file() and path.suffix != ".onnx":
        raise ValueError(
            f"{path} is not an .onnx file: TorchScript and pickles are programs and are not read; "
            "convert them once by torch.onnx.export"
        )
    if path.suffix != ".onnx":
        raise FileNotFoundError(
            f"there are no features {path}: give pca, the directory of a classifier, or an "
            ".onnx file"
        )
    extractor = onnx_file(path)
    extractor(torch.zeros(2, *run.shape))  # another size is refused before anything is drawn
    return extractor, None


def _reference(
    extractor: Extractor,
    run: Run,
    source: Source,
    items: NDArray[np.int64],
    given: Path | None,
    console: Console,
    ranks: Ranks,
) -> Reference:
    """Return the statistics of real items: those given, those in the cache, or new ones."""
    slug = "".join(c if c.isalnum() else "_" for c in extractor.name.lower())
    path = run.directory / "cache" / f"reference_{slug}.safetensors"
    with ranks.together():
        facts = _facts(extractor, run.config, source, items)

    def kept() -> Reference | None:
        if given is not None:
            return load_reference(given, facts, data=False)
        try:
            return load_reference(path, facts)
        except FileNotFoundError:
            return None
        except ValueError as error:
            console.print(f"{error}: measuring the real data anew", markup=False)
            return None

    known = ranks.by_first(kept)
    if known is not None:
        return known
    with progress_bar(console, "measuring real data") as progress:
        count = -(-len(items) // BATCH)
        task = progress.add_task("reference", total=-(-count // ranks.count))

        def features() -> Iterator[Tensor]:
            for _, batch in _numbered(source, items, ranks.turns):
                progress.advance(task)
                yield extractor(batch)

        parts = list(ranks.in_rounds(features(), count))
    made = Reference.of(torch.cat(parts), facts)

    def keep() -> None:
        with warned("the statistics of the real data are not kept"):
            console.print(f"wrote {made.save(path)}", markup=False)

    ranks.by_first(keep)
    return made


def _facts(
    extractor: Extractor, config: Config, source: Source, items: NDArray[np.int64]
) -> dict[str, Any]:
    """Return what defines reference statistics."""
    some = source.read_many(spread(items, 64))
    chosen = hashlib.sha256(items.astype("<i8").tobytes() + some.tobytes())
    return {
        "features": extractor.name,
        "extractor": extractor.hash,
        "resize": extractor.resize,
        "rounded_to_bits": config.bits,
        "data": source.name,
        "items": len(items),
        "split": chosen.hexdigest(),
    }


def _numbered(
    source: Source, items: NDArray[np.int64], turns: slice = slice(None)
) -> Iterator[tuple[int, Tensor]]:
    """Yield batches with their numbers, those that ``turns`` picks."""
    for batch in held_out_batches(source, items, batch_size=BATCH, turns=turns):
        yield batch.step, batch.to("cpu").x


def _read(source: Source, items: NDArray[np.int64]) -> Tensor:
    if not len(items):
        return torch.zeros(0, *source.shape)
    return torch.cat([batch for _, batch in _numbered(source, items)])


def _by_parts(function: Callable[[Tensor], Tensor], x: Tensor, ranks: Ranks) -> Tensor:
    """Return the function of items [N, ...] that all ranks have, each computing its share."""
    parts = x.split(BATCH)
    shared = ranks.in_rounds((function(part) for part in parts[ranks.turns]), len(parts))
    return torch.cat(list(shared))


def _pairs_picture(x: Tensor, nearest: Nearest, split: Split) -> Tensor:
    """Return samples beside their nearest training items, the most suspicious first."""
    order = nearest.ratio.argsort()[:SHOWN]
    items = split.train[nearest.item[order].numpy()]
    return torch.stack([x[order], _read(split.source, items)], dim=1).flatten(0, 1)

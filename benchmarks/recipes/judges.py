"""The judges: for each data set a network, trained once, whose features samples are compared by."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.recipes.corruptions import ratios, retrieval, rises
from benchmarks.recipes.data_sets import DataSet
from benchmarks.recipes.encoder import mirrored_axis, train_encoder, view
from benchmarks.recipes.rows import merge
from benchmarks.runs.common import trained
from iddpm.builders.run_data import Split, open_split
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.measures import measure
from iddpm.evaluation.nearest_items import Nearest
from iddpm.evaluation.reference import Reference, load_reference
from iddpm.runs.classifier import SETTINGS, Classifier, held_out_accuracy, load_classifier
from iddpm.runs.step_tables import spread
from iddpm.runtime.atomic_files import write_atomically, write_json
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE
from iddpm.tasks.real_statistics import by_parts, nearest_items, numbered_batches, read_items

FOLDER = Path("runs/recipes/judges")
REFERENCE_ITEMS = 5000
"""Training items that samples are compared with, evenly spread: crops of a volume overlap."""
FACTS, STATISTICS, NEAREST = "judge.json", "reference.safetensors", "nearest.safetensors"


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge with what is known of the real data.

    Attributes:
        directory: a classifier's run directory, as ``iddpm evaluate --features`` takes it.
        extractor: its features, compared in units of their spread over the training data.
        reference: of training items.
        nearest: the training items nearest to each held-out item.
        facts: what it is and how good, as in ``judge.json``.
    """

    directory: Path
    extractor: Extractor
    reference: Reference
    nearest: Nearest
    facts: dict[str, Any]


def open_judge(data: DataSet, folder: Path = FOLDER) -> Judge:
    """Open the judge of a data set, which is trained and tested the first time."""
    settings = merge({"data": data.base()["data"]}, data.judge)
    content = json.dumps([settings, data.judge_steps, data.judge_batch], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    directory = folder / f"{data.name}-{digest}"
    if not (directory / FACTS).is_file():
        print(f"training the judge of {data.name} into {directory}")
        facts = _train(data, settings, directory)
        write_json(directory / FACTS, facts | _test(directory, facts))
    facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    extractor = _extractor(load_classifier(directory))
    reference = load_reference(directory / STATISTICS, _identity(extractor))
    return Judge(directory, extractor, reference, Nearest(**load_file(directory / NEAREST)), facts)


def _train(data: DataSet, settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Train a classifier or an encoder; return what it was trained with."""
    kind = "classifier" if data.classifies else "encoder"
    facts = {"data": data.name, "kind": kind, "threads": torch.get_num_threads()}
    if not data.classifies:
        return facts | train_encoder(
            data.location(), settings, data.judge_steps, data.judge_batch, directory
        )
    started = time.monotonic()
    length = {"training": {"steps": data.judge_steps}}
    run = trained(data.location(), directory, None, base=merge(merge(SETTINGS, settings), length))
    minutes = round((time.monotonic() - started) / 60, 3)
    return facts | {"steps": run.config.training.steps, "minutes": minutes}


def _test(directory: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Measure the real data and how good the judge is; write what measuring samples needs."""
    classifier = load_classifier(directory)
    extractor, split = _extractor(classifier), open_split(classifier.config)
    chosen = spread(split.train, REFERENCE_ITEMS)
    real = torch.cat([extractor(x) for _, x in numbered_batches(split.source, chosen)])
    reference = Reference.of(real, _identity(extractor))
    reference.save(directory / STATISTICS)
    held_out = read_items(split.source, split.held_out)
    (nearest,) = nearest_items([held_out], split.source, split.train, open_console(), ALONE)
    tensors = {"distances": nearest.distances, "items": nearest.items}
    write_atomically(directory / NEAREST, lambda to: save_file(tensors, to))

    def features(x: Tensor) -> Tensor:
        return by_parts(extractor, x, ALONE)

    found = ratios(features, held_out, reference)
    pairs = min(len(held_out), len(chosen))
    tested = {
        "hash": extractor.hash,
        "held_out_items": len(held_out),
        "held_out": measure(features(held_out), reference, pairs, whiten=True).as_dict(),
        "corruptions": found,
        "rises": rises(found),
    }
    return tested | _skill(classifier, facts["kind"], features, held_out, split)


def _skill(
    classifier: Classifier, kind: str, features: Any, held_out: Tensor, split: Split
) -> dict[str, Any]:
    """Return the accuracy on held-out items, of classes or of finding an item by a view of it."""
    if kind == "classifier":
        chance = 1 / len(classifier.class_names)
        return {"accuracy": held_out_accuracy(classifier)[0], "chance": chance}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        seen = view(held_out, mirrored_axis(classifier.config))
    return {"retrieval": retrieval(features, held_out, seen), "chance": 1 / len(held_out)}


def _extractor(classifier: Classifier) -> Extractor:
    return Extractor("classifier", classifier.hash, classifier.features, whiten=True)


def _identity(extractor: Extractor) -> dict[str, Any]:
    return {"features": extractor.name, "extractor": extractor.hash, "resize": extractor.resize}


def describe(facts: dict[str, Any]) -> str:
    """Return what a judge is and how good, in a line."""
    skill = (
        f"{100 * facts['accuracy']:.1f} % of the held-out items right"
        if "accuracy" in facts
        else f"finds {100 * facts['retrieval']:.1f} % of the held-out items by a view of each"
    )
    moved = "; ".join(
        f"{name} {', '.join(f'{value:.2f}' for value in row)}"
        for name, row in facts["corruptions"].items()
    )
    rising = "rises with each" if facts["rises"] else "does not rise with each"
    return (
        f"{facts['kind']}, {facts['steps']:,} steps in {facts['minutes']:.1f} minutes of "
        f"{facts['threads']} thread{'s' * (facts['threads'] > 1)}, {skill} "
        f"(chance {100 * facts['chance']:.1f} %); distance of damaged held-out items over that of "
        f"{facts['held_out_items']} held-out items: {moved} ({rising})"
    )

"""How good the samples of a run are: drawn, compared with real data, and written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import Split, open_other
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.measures import FEW_NEIGHBORS
from iddpm.evaluation.precision_recall import FEWEST_ITEMS
from iddpm.evaluation.reference import load_reference
from iddpm.runs.classifier import Classifier
from iddpm.runs.run import Run
from iddpm.runs.step_tables import spread
from iddpm.runs.upscaled import check_average
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.evaluation_report import (
    Evaluation,
    MeasuredFeatures,
    MeasuredSamples,
    write_report,
)
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.fidelity_ways import SAMPLES, Ways, compare, draw_ways
from iddpm.tasks.generated_data import ComparisonOptions, evaluate_data
from iddpm.tasks.pairs import Pairs, held_out_pairs
from iddpm.tasks.real_statistics import (
    REFERENCE_ITEMS,
    RealData,
    by_parts,
    nearest_items,
    read_items,
    statistics_of,
)
from iddpm.tasks.samples import Samples, draw_samples, read_samples

DEFAULT_COUNT = 5000
"""Samples that are drawn."""
AVERAGE = 2
"""Samples of each low resolution: the fewest that have a spread."""


def evaluate(
    run: Any,
    data: Any = None,
    *,
    n: int | None = None,
    features: str | Path = "pca",
    weights: Path | str | None = None,
    seed: int = 0,
    classes: int | str | None = None,
    average: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    samples: Path | None = None,
    reference: Path | None = None,
    settings: Sequence[str] = (),
    paired: bool = False,
    device: str = "auto",
    out: Path | str | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Compare samples of a run with real data, ``evaluate(run)``, and write a report.

    A run of super-resolution draws a sample for each held-out item, which is compared with the
    truth beside linear and bicubic interpolation of the same low-resolution input.

    ``evaluate(real, generated)`` compares generated data with real data instead. Both are read as
    :func:`iddpm.train` reads data, and no run is needed; of the options below ``features``,
    ``weights``, ``settings``, ``paired``, ``device``, ``out``, ``console`` and ``ranks`` apply.

    Args:
        run: the model, or real data.
        data: real data to compare with, read as the run's own; by default what it was trained on.
            After real data: the generated data.
        n: how many samples to draw, by default 5000; of super-resolution at most the held-out
            items.
        features: ``"pca"``, ``"inception"``, the directory of a classifier, or an ``.onnx`` or
            ``.safetensors`` file.
        weights: the file of weights that ``"inception"`` needs.
        seed: of the samples.
        classes: one class for all; by default drawn as often as the training data has them.
        average: of super-resolution, samples of each held-out item, whose mean and spread are
            measured, by default 2; 1 for neither.
        sampling: how to draw them, as for :meth:`Run.plan`.
        samples: a .npz file of samples to measure instead, as ``iddpm sample --npz`` writes it.
        reference: statistics that another evaluation left, to compare with instead.
        settings: how real and generated data are read, such as ``"data.image_size=64"`` for both
            or ``"generated.range=[0,1]"`` for one.
        paired: whether generated items belong to the real items of the same name or number, and
            are compared with them by PSNR and SSIM too.
        device: where features of real and generated data are computed.
        out: where to write, by default ``RUN/evaluation``, or ``evaluation`` beside the generated
            data.
        console: where progress is shown.
        ranks: who shares drawing, features and the search for neighbors; all return the same.

    Raises:
        ValueError, FileNotFoundError: something given does not work; nothing has been written.

    >>> import tempfile
    >>> import numpy as np
    >>> from rich.console import Console
    >>> from iddpm import evaluate
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:  # the same items in another order
    ...     found = evaluate(images, images[::-1], out=folder, console=Console(quiet=True))
    >>> found.samples.count, found.samples.values["precision"], found.samples.values["recall"]
    (40, 1.0, 1.0)
    """
    console = console or open_console(ranks.first)
    out = None if out is None else Path(out)
    asked = _Asked(
        DEFAULT_COUNT if n is None else n,
        str(features),
        None if weights is None else Path(weights),
        seed,
        classes,
        average,
        sampling or {},
        samples,
        reference,
    )
    if isinstance(run, Run):
        if settings or paired or device != "auto":
            raise ValueError(
                f"{run.directory} is a run, which has its own settings, paired data and device: "
                "settings, paired and device are for real and generated data"
            )
        return _evaluate_run(run, data, asked, out, console, ranks)
    if data is None:
        raise ValueError(
            "give evaluate a run opened by iddpm.load, or real data and then generated data"
        )
    for name, value in {**vars(asked), "n": n, "seed": seed or None}.items():
        if value and name not in ("features", "weights"):
            raise ValueError(f"{name}={value} is for runs, and real and generated data were given")
    options = ComparisonOptions(asked.features, asked.weights, tuple(settings), paired, device)
    return evaluate_data(run, data, options, out, console, ranks)


@dataclass(frozen=True, eq=False)
class _Asked:
    """The options of :func:`evaluate` that say what is drawn and how it is measured."""

    n: int
    features: str
    weights: Path | None
    seed: int
    classes: int | str | None
    average: int | None
    sampling: Mapping[str, Any]
    samples: Path | None
    reference: Path | None


def _evaluate_run(
    run: Run, data: Any, asked: _Asked, out: Path | None, console: Console, ranks: Ranks
) -> Evaluation:
    """Compare samples of a run with real data; arguments as for :func:`evaluate`."""
    with ranks.together():
        opened = run.trained_on(data)
        if opened is run and data is not None:
            opened = run.on_data(data)
        if opened is not run:
            run, data = opened, None
        split = run.open_split()
        pairs = _checked(run, split, asked)
    compared = Compared(str(run.directory), split.source, split.train, run.device)
    extractor, classifier = open_extractor(asked.features, asked.weights, compared, ranks)
    with ranks.together():
        real = _real_data(run, split, data, asked.reference)
        if asked.reference is not None:  # looked at before anything takes long
            load_reference(asked.reference, real.facts(extractor), data=False)

    def draw(how: Mapping[str, Any], seed: int, given: Pairs | None = pairs) -> Samples:
        count = asked.n if given is None else len(given.items)
        return draw_samples(run, count, how, split, seed, asked.classes, console, ranks, given)

    how, seed = asked.sampling, asked.seed
    drawn = draw(how, seed) if asked.samples is None else _read_enough(asked.samples, run, ranks)
    statistics = statistics_of(real, extractor, run.directory / "cache", console, ranks)
    with ranks.together():
        held_out = read_items(split.source, split.held_out)
        belonging = None if asked.samples is not None else _paired(run, split, asked)
    paired = None if belonging is None else (belonging, draw(how, seed, belonging).x)
    ways = (
        None if pairs is None else draw_ways(run, pairs, how, seed, asked.average or AVERAGE, draw)
    )
    rivals = {} if ways is None else ways.rivals
    of_all = _features(run, extractor, classifier, drawn, held_out, rivals, ranks)
    found = nearest_items([drawn.x, held_out], split.source, split.train, console, ranks)
    nearest = (found[0], found[1])
    measured = MeasuredSamples(
        run, split, pairs, drawn, extractor, classifier, statistics, of_all, ways, nearest, paired
    )
    finer = None if pairs is None or ways is None else _compared(measured, pairs, ways, ranks)
    return ranks.by_first(
        lambda: write_report(measured, finer, out or run.directory / "evaluation", console)
    )


def _paired(run: Run, split: Split, asked: _Asked) -> Pairs | None:
    """Return held-out items to draw again from their paired data, where a run is told such."""
    told = run.config.model.given_channels and not run.task.takes_low_res
    if not told or asked.classes is not None or not len(split.held_out):
        return None
    return held_out_pairs(run, min(asked.n, len(split.held_out)), split)


def _checked(run: Run, split: Split, asked: _Asked) -> Pairs | None:
    """Refuse what cannot be measured; return what super-resolution draws from."""
    n, average, samples = asked.n, asked.average, asked.samples
    if average is not None and not run.task.takes_low_res:
        raise ValueError(
            f"average={average} is for models of super-resolution, whose samples of one item have "
            f"a mean, and {run.directory} is none: leave it out"
        )
    if average is not None:
        check_average(average)
    if n < FEWEST_ITEMS and samples is None:
        raise ValueError(
            f"cannot evaluate {n} samples (-n {n}): the measures need at least {FEWEST_ITEMS}, "
            f"and {FEW_NEIGHBORS} to be meaningful"
        )
    if not len(split.train):
        raise ValueError(f"{split.source.name} has no training items to compare with")
    if not run.task.takes_low_res:
        return None
    if samples is not None:
        raise ValueError(
            f"{run.directory} draws a sample for each held-out item, and it is unknown which "
            f"items the samples in {samples} belong to: leave samples out"
        )
    if len(split.held_out) < FEWEST_ITEMS:
        raise ValueError(
            f"{split.source.name} has {len(split.held_out)} held-out items, and the measures "
            f"need at least {FEWEST_ITEMS}: hold out more (data.held_out)"
        )
    return held_out_pairs(run, min(n, len(split.held_out)), split)


def _real_data(run: Run, split: Split, data: Any, statistics: Path | None) -> RealData:
    """Return the items to compare with: the training items, or those of other data."""
    other = None if data is None else open_other(run.config, data)
    source = split.source if other is None else other
    items = spread(split.train if other is None else np.arange(len(other)), REFERENCE_ITEMS)
    if statistics is None and len(items) < FEWEST_ITEMS:
        raise ValueError(
            f"{source.name} has {len(items)} items to compare with, and the measures need at "
            f"least {FEWEST_ITEMS}"
        )
    return RealData(source, items, run.config.bits, statistics)


def _read_enough(samples: Path, run: Run, ranks: Ranks) -> Samples:
    """Read samples from a file, which has to hold enough of them."""
    drawn = ranks.by_first(lambda: read_samples(samples, run.config))
    if len(drawn.x) < FEWEST_ITEMS:
        raise ValueError(
            f"{samples} holds {len(drawn.x)} samples, and the measures need at least {FEWEST_ITEMS}"
        )
    return drawn


def _features(
    run: Run,
    extractor: Extractor,
    classifier: Classifier | None,
    drawn: Samples,
    held_out: Tensor,
    rivals: Mapping[str, Tensor],
    ranks: Ranks,
) -> MeasuredFeatures:
    """Compute the features of samples, held-out items and interpolations."""
    found = by_parts(extractor, drawn.x, ranks)
    marked, logits = None, None
    if len(held_out) > max(found.shape[1], FEWEST_ITEMS - 1):
        marked = by_parts(extractor, held_out, ranks)
    of_rivals = {name: by_parts(extractor, x, ranks) for name, x in rivals.items()}
    known = classifier is not None and classifier.class_names == run.config.class_names
    if classifier is not None and known and drawn.y is not None:
        logits = by_parts(classifier.logits, drawn.x, ranks)
    return MeasuredFeatures(found, marked, of_rivals, logits)


def _compared(measured: MeasuredSamples, pairs: Pairs, ways: Ways, ranks: Ranks) -> dict[str, Any]:
    """Return how near each way of making data finer comes to the truth."""
    found = measured.features
    distances = ranks.by_first(
        lambda: (
            {SAMPLES: measured.of_samples}
            | {name: measured.measure(x) for name, x in found.interpolated.items()}
        )
    )
    return compare(measured.run, pairs, ways, distances, ranks)

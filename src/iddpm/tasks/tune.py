"""The sampler and the spacing that are best for a run's own model, measured and kept."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from iddpm.builders.run_data import Split
from iddpm.builders.sampling_plan import Method, choose_method
from iddpm.config import SamplingConfig
from iddpm.config.choices import SAMPLERS
from iddpm.diffusion import Denoiser
from iddpm.evaluation.measures import FEW_NEIGHBORS, measure
from iddpm.evaluation.reference import PAIRS, Reference, evenly
from iddpm.evaluation.tuning import Score, spread_within
from iddpm.evaluation.whitening import Whitening
from iddpm.runs.fitted_steps import fitted_steps
from iddpm.runs.run import Run
from iddpm.runs.step_tables import CACHE, spread, weights_digest
from iddpm.runs.tuned_methods import FORMAT, save_tuned
from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.processes import ALONE
from iddpm.sampling.fitted_spacing import FittedSteps
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.pairs import Pairs, held_out_pairs
from iddpm.tasks.real_statistics import REFERENCE_ITEMS, RealData, by_parts, statistics_of
from iddpm.tasks.samples import draw_samples

EVALUATIONS = (5, 10, 20)
COUNT = 1000
"""Samples of each method."""
GRID = (
    Method("dpmpp_2m_sde", "karras"),
    Method("er_sde", "karras"),
    Method("er_sde", "log_snr"),
    Method("er_sde", "fitted"),
    Method("ipndm", "karras"),
    Method("ipndm", "fitted"),
    Method("unipc_2", "karras"),
    Method("unipc_2", "log_snr"),
    Method("unipc_2", "fitted"),
)


@dataclass(frozen=True)
class TuneRequest:
    """What is measured.

    Attributes:
        n: samples of each method.
        evaluations: numbers of network evaluations.
        features: what data is compared by, as for :func:`iddpm.evaluate`.
        weights: the file of weights that ``inception`` needs.
        seed: of the samples, the same for all.

    >>> from iddpm import TuneRequest
    >>> request = TuneRequest(n=200, evaluations=(5,))
    >>> request.n, request.features
    (200, 'pca')
    """

    n: int = COUNT
    evaluations: Sequence[int] = EVALUATIONS
    features: str = "pca"
    weights: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """What was measured.

    Attributes:
        scores: by evaluations and method.
        won: the best method by evaluations.
        path: the file that ``--sampler auto`` reads.
    """

    scores: dict[int, dict[Method, Score]]
    won: dict[int, Method]
    path: Path


def tune(run: Run, request: TuneRequest | None = None, *, console: Console | None = None) -> Tuned:
    """Measure a grid of samplers and spacings on a run and keep the best for ``--sampler auto``.

    Methods are compared by :class:`~iddpm.evaluation.tuning.Score`. One replaces the automatic
    choice for its number of evaluations only if it is better by more than the standard error of
    the difference. What was measured is kept in the run's cache: an interrupted call continues.

    Args:
        run: the model.
        request: what is measured.
        console: for progress.

    Raises:
        ValueError: a distilled model, evaluations that do not exist, or too few samples or items.

    Example::

        run = iddpm.load("runs/digits")
        tuned = iddpm.tune(run, iddpm.TuneRequest(n=500, evaluations=(5, 10)))
        x = run.sample(16, sampler="auto", steps=10)
    """
    request = request or TuneRequest()
    console = console or open_console()
    run.task.check_denoises(run.directory, "choosing a sampler")
    _check(run, request)
    split = run.open_split()
    pairs, n = None, request.n
    if run.task.takes_low_res:
        n = min(n, len(split.held_out))
        pairs = held_out_pairs(run, n, split)
    if min(n, len(split.train)) < FEW_NEIGHBORS:
        raise ValueError(
            f"{run.directory} has {len(split.train)} training items and {n} samples to compare: "
            f"choosing a sampler needs at least {FEW_NEIGHBORS} of both"
        )
    fitted = fitted_steps(run, console)
    offered = {count: grid_at(count, run.denoiser, fitted) for count in request.evaluations}
    scored = _scorer(run, request, split, pairs, console)
    scores: dict[int, dict[Method, Score]] = {}
    with progress_bar(console, "tuning") as progress:
        work = sum(len(methods) * count for count, methods in offered.items())
        task = progress.add_task("evaluations", total=work)
        for count, methods in offered.items():
            scores[count] = {}
            for method in methods:
                scores[count][method] = scored(method, count, n)
                progress.advance(task, count)
    dims = len(run.config.model.size)
    usual = {n: choose_method(SamplingConfig(steps=n), dims) for n in request.evaluations}
    won = {count: best_of(found, usual[count]) for count, found in scores.items()}
    facts = {
        "format": FORMAT,
        "weights": weights_digest(run.denoiser),
        "samples": n,
        "features": request.features,
        "seed": request.seed,
        "won": {str(count): list(method) for count, method in won.items()},
        "scores": {
            str(count): {", ".join(method): score.as_dict() for method, score in found.items()}
            for count, found in scores.items()
        },
    }
    path = save_tuned(run.directory, facts)
    console.print(table_of(scores, won), markup=False)
    console.print(f"wrote {path}: --sampler auto uses it", markup=False)
    return Tuned(scores, won, path)


def grid_at(evaluations: int, denoiser: Denoiser, fitted: FittedSteps) -> list[Method]:
    """Return the methods of the grid that offer a number of evaluations.

    ``fitted`` steps are chosen among some dozens of levels.
    """
    whole = denoiser.diffusion.schedule
    most = {
        method: fitted.most(whole, sigma_max=SAMPLERS[method.sampler].sigma_max) for method in GRID
    }
    return [m for m in GRID if m.spacing != "fitted" or evaluations <= most[m]]


def best_of(scores: dict[Method, Score], usual: Method) -> Method:
    """Return the method with the least score, or the ``usual`` one if none is clearly better."""
    best = min(scores, key=lambda method: scores[method].value.value)
    if usual not in scores:
        return best
    a, b = scores[best].value, scores[usual].value
    return best if b.value - a.value > (a.error**2 + b.error**2) ** 0.5 else usual


def table_of(scores: dict[int, dict[Method, Score]], won: dict[int, Method]) -> str:
    """Return the measured numbers as a Markdown table."""
    lines = [
        "| evaluations | method | distance | recall | coverage | spread | score |  |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count, found in scores.items():
        for method, score in sorted(found.items(), key=lambda item: item[1].value.value):
            value = score.value
            cells = [
                str(count),
                ", ".join(method),
                f"{score.distance:.4g} ± {score.error:.2g}",
                f"{score.recall:.3f}",
                f"{score.coverage:.3f}",
                f"{score.spread:.3f}",
                f"{value.value:.4g} ± {value.error:.2g}",
                "chosen" if method == won[count] else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _check(run: Run, request: TuneRequest) -> None:
    steps = run.config.diffusion.num_steps
    counts = list(request.evaluations)
    if not counts or len(set(counts)) < len(counts) or not all(2 <= c <= steps for c in counts):
        raise ValueError(
            f"evaluations={','.join(map(str, counts)) or 'none'} must be different numbers "
            f"from 2 to {steps}, such as 5,10,20"
        )
    if request.n < FEW_NEIGHBORS:
        raise ValueError(
            f"cannot compare samplers by {request.n} samples (-n {request.n}): use "
            f"{FEW_NEIGHBORS} or more"
        )


def _scorer(
    run: Run, request: TuneRequest, split: Split, pairs: Pairs | None, console: Console
) -> Callable[[Method, int, int], Score]:
    """Return the function that measures a method, or reads what an interrupted call measured."""
    compared = Compared(str(run.directory), split.source, split.train, run.device)
    extractor, _ = open_extractor(request.features, request.weights, compared)
    real = RealData(split.source, spread(split.train, REFERENCE_ITEMS), run.config.bits)
    reference = statistics_of(real, extractor, run.directory / CACHE, console, ALONE)
    quiet = open_console(speaks=False)
    whole = json.dumps(
        [
            FORMAT,
            weights_digest(run.denoiser),
            run.config.sampling.model_dump(mode="json"),
            real.facts(extractor),
            request.seed,
        ],
        sort_keys=True,
    )
    whiten = Whitening.of(reference.stats) if extractor.whiten else None

    def scored(method: Method, evaluations: int, n: int) -> Score:
        key = f"{whole} {method} {evaluations} {n}"
        name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        path = run.directory / CACHE / f"tune_{name}.json"
        known = _known(path)
        if known is not None:
            return known
        how = {"sampler": method.sampler, "spacing": method.spacing, "steps": evaluations}
        kept = _sample_folders(run.directory)
        drawn = draw_samples(run, n, how, split, request.seed, None, quiet, pairs=pairs)
        features = by_parts(extractor, drawn.x, ALONE)
        measures = measure(
            features,
            reference,
            min(n, PAIRS),
            whiten=extractor.whiten,
            beside=extractor.beside,
        )
        score = Score.of(measures, _spread(features, reference, whiten))
        write_json(path, asdict(score))
        for folder in _sample_folders(run.directory) - kept:  # those of all methods would be many
            shutil.rmtree(folder, ignore_errors=True)
        return score

    return scored


def _spread(features: Tensor, reference: Reference, whiten: Whitening | None) -> float:
    real = reference.features[evenly(len(reference.features), len(features))]
    if whiten is not None:
        features, real = whiten(features), whiten(real)
    return spread_within(features, real)


def _known(path: Path) -> Score | None:
    """Return the score in a file; None if there is none that can be read."""
    try:
        return Score(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _sample_folders(directory: Path) -> set[Path]:
    return set((directory / CACHE).glob("samples_*"))

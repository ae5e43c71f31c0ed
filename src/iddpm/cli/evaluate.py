"""``iddpm evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iddpm.cli.option_groups import Opening, Sampling, joined, settings_of
from iddpm.cli.options import Seed
from iddpm.runtime.console import say

if TYPE_CHECKING:
    from iddpm.tasks.evaluation_report import Evaluation


@dataclass(frozen=True)
class Features:
    """What data is compared by."""

    features: Annotated[
        str,
        typer.Option(
            help="Features: pca, inception, the directory of a classifier, or an .onnx or "
            ".safetensors file."
        ),
    ] = "pca"
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of inception: pt_inception-2015-12-05-6726825d.pth."),
    ] = None


@dataclass(frozen=True)
class Generated:
    """Generated data that is compared with real data, without a run."""

    real: Annotated[
        str | None, typer.Option(help="Real data, instead of a run; with --generated.")
    ] = None
    generated: Annotated[
        str | None, typer.Option(help="Generated data, instead of a run; with --real.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--set",
            help="How both are read, such as data.image_size=64; real.NAME or generated.NAME "
            "for one. May be repeated.",
        ),
    ] = None
    paired: Annotated[
        bool,
        typer.Option(
            "--paired", help="Generated items belong to real items of the same name: PSNR, SSIM."
        ),
    ] = False


@dataclass(frozen=True)
class Drawn:
    """What is drawn from a run, and what it is compared with."""

    n: Annotated[
        int | None, typer.Option("-n", max=10**7, help="Number of samples [default: 5000].")
    ] = None
    samples: Annotated[
        Path | None,
        typer.Option(help="A .npz or .npy file of samples to measure instead of sampling."),
    ] = None
    reference: Annotated[
        Path | None, typer.Option(help="Reference statistics from the cache of another run.")
    ] = None
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", help="One class for all samples [default: the frequencies of the data]."
        ),
    ] = None
    average: Annotated[
        int | None,
        typer.Option(help="Of super-resolution: samples of each item, for mean and spread [2]."),
    ] = None
    seed: Seed = 0


def evaluate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]... [DATA]",
            help="Run directories, and real data to compare with [default: the training data].",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output directory [default: RUN/evaluation, or evaluation beside the generated "
            "data]."
        ),
    ] = None,
    *,
    features: Features,
    sides: Generated,
    drawn: Drawn,
    sampling: Sampling,
    opening: Opening,
) -> None:
    """Measure quality and diversity of samples; detect copies.

    Example: iddpm evaluate --real photos/ --generated samples/ -s data.image_size=64
    """
    if sides.real is not None or sides.generated is not None:
        _refuse_options_of_runs(paths, drawn, sampling, opening)
        _evaluate_data(features, sides, opening, out)
        return
    if sides.settings or sides.paired:
        raise ValueError("--set and --paired are for --real and --generated")
    runs, data = _parted(paths or [])
    _evaluate_runs(runs, data, settings_of(features) | settings_of(drawn), sampling, opening, out)


def _evaluate_data(
    features: Features, sides: Generated, opening: Opening, out: Path | None
) -> None:
    from iddpm.evaluation.report import markdown
    from iddpm.tasks.evaluate import evaluate as measure

    if sides.real is None or sides.generated is None:
        missing = "--real" if sides.real is None else "--generated"
        raise ValueError(f"{missing} is missing: real and generated data are compared")
    opening.use_threads(opening.threads)
    with joined() as ranks:
        result = measure(
            sides.real,
            sides.generated,
            settings=sides.settings or (),
            paired=sides.paired,
            device=opening.device,
            out=out,
            ranks=ranks,
            **settings_of(features),
        )
    if ranks.first:
        say(markdown(result.report), end="")


def _evaluate_runs(
    runs: list[Path],
    data: str | None,
    how: dict[str, Any],
    sampling: Sampling,
    opening: Opening,
    out: Path | None,
) -> None:
    from iddpm.evaluation.report import markdown
    from iddpm.tasks.evaluate import evaluate as measure
    from iddpm.tasks.run_comparison import compare_runs

    how["classes"] = how.pop("class_name")
    with joined() as ranks:

        def measured(run: Path, out: Path | None) -> "Evaluation":
            with ranks.together():
                opened = opening.open(run)
            draws = settings_of(sampling)
            return measure(opened, data, out=out, sampling=draws, ranks=ranks, **how)

        if len(runs) == 1:
            text = markdown(measured(runs[0], out).report)
        else:
            text = compare_runs(runs, measured, out, ranks=ranks)
    if ranks.first:
        say(text, end="")


def _parted(paths: list[str]) -> tuple[list[Path], str | None]:
    """Return the runs and the data, which comes last."""
    from iddpm.config.run_config import CONFIG

    if not paths:
        raise ValueError("give a run directory, or real and generated data: --real, --generated")
    runs = [Path(paths[0])]
    for number, path in enumerate(paths[1:], 2):
        if (Path(path) / CONFIG).is_file():
            runs.append(Path(path))
        elif number == len(paths):
            return runs, path
        else:
            raise ValueError(f"{path} is not a run directory: real data comes after all runs")
    return runs, None


def _refuse_options_of_runs(
    paths: list[str] | None, drawn: Drawn, sampling: Sampling, opening: Opening
) -> None:
    """Refuse what says nothing of data that is there already."""
    if paths:
        raise ValueError(
            f"{paths[0]} was given beside --real and --generated: evaluate a run, or data"
        )
    for group in (drawn, sampling, opening):
        usual = settings_of(type(group)())
        for name, value in settings_of(group).items():
            if value != usual[name] and name not in ("device", "threads"):
                option = {"n": "-n", "class_name": "--class"}.get(name, f"--{name}")
                raise ValueError(
                    f"{option.replace('_', '-')} is for runs: leave it out with --real and "
                    "--generated"
                )

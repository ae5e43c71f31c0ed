"""Groups of options: for opening a run, for sampling and for training."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iddpm.cli.options import (
    AcceptData,
    BatchSize,
    Checkpoint,
    ClassName,
    Device,
    Ema,
    EmaLength,
    Guidance,
    GuidanceInterval,
    Network,
    Precision,
    Threads,
)
from iddpm.config.choices import MEASURED_SPACINGS, SAMPLERS, SPACINGS, listed

if TYPE_CHECKING:
    from iddpm.runs.run import Run
    from iddpm.runtime.processes import Ranks


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose groups of options are options of the command line.

    A group is a parameter whose type is a dataclass; each of its fields becomes an option.
    """
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            options += inspect.signature(kind).parameters.values()
        else:
            options.append(parameter)

    def called(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([option.replace(kind=keyword) for option in options])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {option.name: option.annotation for option in options}
    return called


def settings_of(group: Any) -> dict[str, Any]:
    """Return the options of a group by name."""
    return {field.name: getattr(group, field.name) for field in fields(group)}


@dataclass(frozen=True)
class Weights:
    """Which weights of a run are opened."""

    ema: Ema = None
    checkpoint: Checkpoint = None
    ema_length: EmaLength = None
    network: Network = None


@dataclass(frozen=True)
class Opening(Weights):
    """Which weights of a run are opened, and where."""

    device: Device = "auto"
    threads: Threads = None

    def open(self, run: Path) -> "Run":
        """Open a run; errors as for :func:`iddpm.load`."""
        from iddpm.runs.run import load

        options = settings_of(self)
        self.use_threads(options.pop("threads"))
        return load(run, **options)

    @staticmethod
    def use_threads(threads: int | None) -> None:
        """Compute with ``threads`` CPU threads; None leaves the number."""
        import torch

        if threads is not None:
            torch.set_num_threads(threads)

    @contextmanager
    def shared(self, run: Path) -> "Iterator[tuple[Run, Ranks]]":
        """Open a run in all processes that share the work."""
        with joined() as ranks:
            with ranks.together():
                opened = self.open(run)
            yield opened, ranks


@contextmanager
def joined() -> "Iterator[Ranks]":
    """Join the processes that share the work."""
    from iddpm.runtime.processes import DAY, JOINING, joined_ranks

    with joined_ranks("cpu", JOINING) as ranks:
        ranks.limit(DAY)
        yield ranks


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn; None is the value of the run."""

    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per sample [default: the run's, 50].")
    ] = None
    sampler: Annotated[
        str | None, typer.Option(help=f"{listed(SAMPLERS, 'auto')} [default: the run's, auto].")
    ] = None
    spacing: Annotated[
        str | None,
        typer.Option(
            help=f"Of the timesteps: {', '.join(['auto', *SPACINGS, *MEASURED_SPACINGS])}, or "
            "counts for equal sections such as 10,15,20 [default: the run's, auto]."
        ),
    ] = None
    variance: Annotated[
        str | None,
        typer.Option(help="Variance of the steps of ddpm and ddim: trained or analytic."),
    ] = None
    eta: Annotated[
        float | None, typer.Option(help="Fresh noise of ddim: 0 none, 1 as much as ddpm.")
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Scale of classifier-free guidance: 0 ignores class and conditions, 1 is the "
            "model as trained, 2 or 3 exaggerates them."
        ),
    ] = None
    guidance_interval: GuidanceInterval = None
    guidance_rescale: Annotated[
        float | None,
        typer.Option(
            help="Share, 0 to 1, by which guidance is brought back to the spread of the unguided "
            "estimate, such as 0.7 [default: the run's, 0]."
        ),
    ] = None
    classifier: Annotated[
        Path | None,
        typer.Option(help="Directory of a guiding classifier from iddpm train-classifier."),
    ] = None
    classifier_scale: Annotated[float, typer.Option(help="Scale of classifier guidance.")] = 1.0
    classifier_form: Annotated[
        str,
        typer.Option(
            help="score: for every sampler; clip_then_score: the same in the published order, "
            "which clips first; mean: the published form for ddpm."
        ),
    ] = "score"
    autoguidance: Annotated[
        str | None,
        typer.Option(help="Weaker model to guide away from: the step of a checkpoint, or a run."),
    ] = None
    autoguidance_scale: Annotated[
        float, typer.Option(help="Scale of autoguidance; 1 has no effect.")
    ] = 2.0
    levels: Annotated[
        str | None,
        typer.Option(
            help="Last step of models with diffusion.predicts=categorical: the most probable level "
            "(mode), a drawn one (draw) or their mean [default: the run's, mode]."
        ),
    ] = None
    threshold: Annotated[
        float | None, typer.Option(help="Quantile of dynamic thresholding, such as 0.995.")
    ] = None
    low_res_noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of noise that is added to the low-resolution input, up to the "
            "run's degradation.augment."
        ),
    ] = None
    batch_size: BatchSize = None
    precision: Precision = None


@dataclass(frozen=True)
class ItemSampling:
    """How an existing item is resampled."""

    steps: Annotated[
        int | None,
        typer.Option(help="Network evaluations; edit uses a share of them [default: 50]."),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            help="As for iddpm sample [default: the run's; inpaint: ddim with fresh noise]."
        ),
    ] = None
    spacing: Annotated[
        str | None, typer.Option(help="As for iddpm sample [default: the run's; inpaint: even].")
    ] = None
    guidance: Guidance = None


@dataclass(frozen=True)
class Versions:
    """Which versions of an item are drawn, and where they are written."""

    n: Annotated[int, typer.Option("-n", max=10_000, help="Number of versions.")] = 4
    class_name: ClassName = None
    seed: Annotated[
        int, typer.Option(help="Random seed; version k depends only on the seed and k.")
    ] = 0
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: a folder in RUN/samples].")
    ] = None


@dataclass(frozen=True)
class Training:
    """Settings and length of training, and whether to resume a run."""

    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="A YAML file of settings.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--set",
            metavar="KEY=VALUE",
            help="A setting; may be repeated. iddpm info RUN --settings lists those of a run.",
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False
    accept_data: AcceptData = False
    steps: Annotated[
        int | None,
        typer.Option(help="Length of training in steps [default: 20,000; of classifiers 2,000]."),
    ] = None
    max_time: Annotated[
        str | None,
        typer.Option(help="Train for 90s, 30m, 1h30m or 2d: steps are planned from the pace."),
    ] = None
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto [default: auto].")
    ] = None
    threads: Threads = None

    def assignments(self) -> list[str]:
        """Return the settings, those with an option of their own last."""
        own = {name: getattr(self, name) for name in ("steps", "max_time", "device", "threads")}
        given = [f"training.{name}={value}" for name, value in own.items() if value is not None]
        return [*(self.settings or ()), *given]

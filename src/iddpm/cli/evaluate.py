"""``iddpm evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import (
    BatchSize,
    Checkpoint,
    Device,
    Ema,
    EmaLength,
    GuidanceInterval,
    Network,
    Threads,
)
from iddpm.runtime.console import say


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Real data to compare with [default: what the run was trained on]."),
    ] = None,
    n: Annotated[int, typer.Option("-n", max=10**7, help="How many samples.")] = 5000,
    features: Annotated[
        str, typer.Option(help="pca, the directory of a classifier, or an .onnx file.")
    ] = "pca",
    samples: Annotated[
        Path | None, typer.Option(help="A .npz of samples to measure instead of drawing.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Statistics to compare with, from another RUN/cache.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per sample [default: the run's, 50].")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    spacing: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    variance: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    eta: Annotated[float | None, typer.Option(help="As for sample.")] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="One class for all [default: as often as in the data]."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="As for sample.")] = None,
    guidance_interval: GuidanceInterval = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A classifier that guides, as for sample.")
    ] = None,
    classifier_scale: Annotated[float, typer.Option(help="As for sample.")] = 1.0,
    classifier_form: Annotated[str, typer.Option(help="As for sample.")] = "score",
    autoguidance: Annotated[str | None, typer.Option(help="As for sample.")] = None,
    autoguidance_scale: Annotated[float, typer.Option(help="As for sample.")] = 2.0,
    threshold: Annotated[float | None, typer.Option(help="As for sample.")] = None,
    low_res_noise: Annotated[float | None, typer.Option(help="As for sample.")] = None,
    ema: Ema = None,
    checkpoint: Checkpoint = None,
    ema_length: EmaLength = None,
    seed: Annotated[int, typer.Option(help="Sample k depends on the seed and k alone.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/evaluation].")
    ] = None,
    batch_size: BatchSize = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bf16, fp16 or auto [default: the run's, float32].")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Measure quality and diversity of samples, and whether they copy training items.

    Example: iddpm evaluate runs/demo --features runs/demo/classifier -n 2000 --steps 10
    """
    import torch

    from iddpm.evaluation.report import markdown
    from iddpm.runs.run import load
    from iddpm.runtime.processes import DAY, JOINING, joined_ranks
    from iddpm.tasks.evaluate import evaluate as measure

    if threads is not None:
        torch.set_num_threads(threads)
    sampling = {
        "steps": steps,
        "sampler": sampler,
        "variance": variance,
        "eta": eta,
        "spacing": spacing,
        "guidance": guidance,
        "guidance_interval": guidance_interval,
        "classifier": classifier,
        "classifier_scale": classifier_scale,
        "classifier_form": classifier_form,
        "autoguidance": autoguidance,
        "autoguidance_scale": autoguidance_scale,
        "threshold": threshold,
        "low_res_noise": low_res_noise,
        "batch_size": batch_size,
        "precision": precision,
    }
    with joined_ranks("cpu", JOINING) as ranks:
        ranks.limit(DAY)
        with ranks.together():
            opened = load(
                run,
                ema=ema,
                checkpoint=checkpoint,
                ema_length=ema_length,
                device=device,
                network=network,
            )
        result = measure(
            opened,
            data,
            n=n,
            features=features,
            seed=seed,
            classes=class_name,
            sampling=sampling,
            samples=samples,
            reference=reference,
            out=out,
            ranks=ranks,
        )
    if ranks.first:
        say(markdown(result.report), end="")

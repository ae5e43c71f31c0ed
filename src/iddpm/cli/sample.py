"""``iddpm sample``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import (
    BatchSize,
    Checkpoint,
    Condition,
    Device,
    Ema,
    EmaLength,
    GuidanceInterval,
    Network,
    Threads,
)
from iddpm.config.choices import SAMPLERS, SPACINGS, listed


def sample(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    n: Annotated[
        int | None,
        typer.Option(
            "-n", max=10**9, help="How many samples [default: 64, or one for each of --given]."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per sample [default: the run's, 50].")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help=f"{listed(SAMPLERS, 'auto')} [default: the run's, auto]."),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(['auto', *SPACINGS])}, optimal or 10,15,20 "
            "[default: the run's, auto]."
        ),
    ] = None,
    variance: Annotated[
        str | None, typer.Option(help="That of ddpm and ddim: trained or analytic.")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Fresh noise of ddim, 0 to 1.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="A class by name or number.")
    ] = None,
    condition: Condition = None,
    given: Annotated[
        Path | None,
        typer.Option(
            help="What to draw for, for models that are given data: a picture, a folder, an array "
            "[default: what goes with the held-out items]."
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Exaggerate the class: 1 as trained, 2 or 3 clearer, 0 ignores it."),
    ] = None,
    guidance_interval: GuidanceInterval = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A classifier that guides, from iddpm train-classifier.")
    ] = None,
    classifier_scale: Annotated[float, typer.Option(help="How strongly it guides.")] = 1.0,
    classifier_form: Annotated[
        str,
        typer.Option(
            help="score, for every sampler; clip_then_score, in the published order; or mean, "
            "for ddpm, as published."
        ),
    ] = "score",
    autoguidance: Annotated[
        str | None,
        typer.Option(help="A weaker model to go away from: a checkpoint's step, or a run."),
    ] = None,
    autoguidance_scale: Annotated[float, typer.Option(help="How far; 1 is not at all.")] = 2.0,
    levels: Annotated[
        str | None,
        typer.Option(
            help="How models of levels end: mode, draw or mean [default: the run's, mode]."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Dynamic thresholding at this share, such as 0.995.")
    ] = None,
    low_res_noise: Annotated[
        float | None,
        typer.Option(help="Noise added to the low resolution, for runs with degradation.augment."),
    ] = None,
    ema: Ema = None,
    checkpoint: Checkpoint = None,
    ema_length: EmaLength = None,
    seed: Annotated[int, typer.Option(help="Sample k depends on the seed and k alone.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/samples/seed_0].")
    ] = None,
    npz: Annotated[bool, typer.Option("--npz", help="Also write samples.npz.")] = False,
    gif: Annotated[bool, typer.Option("--gif", help="Also write denoising.gif.")] = False,
    batch_size: BatchSize = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bf16, fp16 or auto [default: the run's, float32].")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Draw samples from a run: files like those of the data and a grid, written as they come.

    Example: iddpm sample runs/demo -n 16 --class 7 --steps 50 --seed 1
    """
    import torch

    from iddpm.builders import read_given
    from iddpm.data.conditioning.requested import read_asked
    from iddpm.runs.run import load
    from iddpm.runtime.processes import DAY, JOINING, joined_ranks
    from iddpm.tasks.draw import draw

    if threads is not None:
        torch.set_num_threads(threads)
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
            plan = opened.plan(
                steps=steps,
                sampler=sampler,
                eta=eta,
                spacing=spacing,
                variance=variance,
                guidance=guidance,
                guidance_interval=guidance_interval,
                levels=levels,
                threshold=threshold,
                low_res_noise=low_res_noise,
                classifier=classifier,
                classifier_scale=classifier_scale,
                classifier_form=classifier_form,
                autoguidance=autoguidance,
                autoguidance_scale=autoguidance_scale,
                batch_size=batch_size,
                precision=precision,
            )
            beside = None if given is None else read_given(opened.config, given)
        draw(
            opened,
            n if n is not None else 64 if beside is None else len(beside),
            plan,
            out=out,
            seed=seed,
            classes=class_name,
            conditions=read_asked(condition or ()),
            given=beside,
            npz=npz,
            gif=gif,
            ranks=ranks,
        )

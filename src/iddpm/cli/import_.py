"""``iddpm import``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.runtime.console import say


def import_(
    file: Annotated[
        Path | None,
        typer.Argument(help="A .pt file of weights, or the folder of a diffusers pipeline."),
    ] = None,
    flags: Annotated[
        str, typer.Option(help='Flags of the published script, as "--image_size 64 ...".')
    ] = "",
    family: Annotated[
        str,
        typer.Option(help="Origin: improved (-diffusion), guided (-diffusion) or recode (-idm)."),
    ] = "improved",
    out: Annotated[
        Path | None, typer.Option(help="The run directory [default: runs/NAME].")
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(help="A text file of class names, one per line [default: numbers]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the flags as settings and write nothing.")
    ] = False,
) -> None:
    """Create a run from published weights or from diffusers.

    Example: iddpm import cifar10_uncond_50M_500K.pt --flags "--image_size 32 --num_channels 128
    --num_res_blocks 3 --learn_sigma True --dropout 0.3 --diffusion_steps 4000 --noise_schedule
    cosine" --out runs/cifar10
    """
    from iddpm.tasks.import_run import (
        import_pipeline,
        import_published,
        published_settings,
        settings_text,
        write_imported,
    )
    from iddpm.tasks.resume import refuse_used

    if file is None:
        if not dry_run:
            raise ValueError(
                "no FILE given to import; --dry-run alone prints the settings of flags"
            )
        say(settings_text(*published_settings(flags, family=family)), end="")
        return
    directory = out or Path("runs") / file.stem
    if not dry_run:
        refuse_used(directory, resume=False)
    names = []
    if class_names is not None:
        names = class_names.read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
    if file.is_dir():
        if flags:
            raise ValueError(f"{file} is a folder, which says it all itself: leave --flags out")
        imported = import_pipeline(file)
    else:
        imported = import_published(file, flags, family=family, class_names=names)
    say(settings_text(imported.settings, imported.left), end="")
    if not dry_run:
        write_imported(imported, directory)
        count = sum(value.numel() for value in imported.weights.values())
        say(f"# {count / 1e6:.2f} M parameters, task {imported.config.task}")
        say(f"# wrote {directory}")

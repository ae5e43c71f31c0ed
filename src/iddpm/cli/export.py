"""``iddpm export``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Weights, settings_of
from iddpm.runtime.console import say


def export(
    run: Annotated[Path, typer.Argument(help="A run directory, or a classifier's.")],
    to: Annotated[str, typer.Option(help="Format: diffusers, onnx, torch or safetensors.")],
    out: Annotated[Path, typer.Option(help="The output directory.")],
    license_name: Annotated[
        str, typer.Option("--license", help="License for the model card, such as mit or cc-by-4.0.")
    ] = "unknown",
    *,
    weights: Weights,
) -> None:
    """Export a model for other programs, with a model card.

    Example: iddpm export runs/demo --to onnx --out demo_onnx
    """
    from iddpm.runs.run import Run
    from iddpm.tasks.export import export as write

    opened = Run(run, device="cpu", **settings_of(weights))
    for path in write(opened, to, out, license_name=license_name):
        say(f"wrote {path}")

"""``iddpm demo``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import Device, Threads


def demo(
    out: Annotated[Path, typer.Option(help="The run directory.")] = Path("runs/demo"),
    steps: Annotated[
        int | None, typer.Option(help="Number of training steps instead of the default.")
    ] = None,
    max_time: Annotated[
        str, typer.Option(help="Maximum training time, such as 90s or 5m.")
    ] = "250s",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train on handwritten digits and sample new ones.

    Example: iddpm demo
    """
    from iddpm.tasks.demo import run_demo

    reason = run_demo(out, steps=steps, max_time=max_time, device=device, threads=threads)
    raise typer.Exit(reason.exit_status)

"""``iddpm restore``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from iddpm.cli.option_groups import Opening, settings_of
from iddpm.cli.options import ClassName, Condition, Guidance, read_extent
from iddpm.config.choices import OPERATORS, RESTORATIONS, listed


@dataclass(frozen=True)
class Measured:
    """What has measured the items."""

    operator: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(OPERATORS)}, or a .npy file: a matrix over the flattened item, or "
            "the kernel of a convolution."
        ),
    ]
    width: Annotated[
        float | None, typer.Option(help="Standard deviation of blur, in positions.")
    ] = None
    factor: Annotated[
        Any,
        typer.Option(
            parser=read_extent,
            metavar="N or NxN",
            help="Factor of subsample and downscale, for all axes or for each.",
        ),
    ] = None
    mask: Annotated[
        Path | None,
        typer.Option(help="A picture or .npy array; white or 1 marks what is missing."),
    ] = None


@dataclass(frozen=True)
class Restoring:
    """How items are restored."""

    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the measurement's noise, where the data spans -1 to 1 "
            "[default: that of rounding; 0 for mask, subsample and --simulate]."
        ),
    ] = None
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="FILES are clean, or numbers of held-out items: measure them first and report "
            "the PSNR.",
        ),
    ] = False
    method: Annotated[
        str | None,
        typer.Option(help=f"{listed(RESTORATIONS)} [default: {next(iter(RESTORATIONS))}]."),
    ] = None
    n: Annotated[
        int,
        typer.Option(
            "-n", max=10_000, help="Samples of each; of several also their mean and spread."
        ),
    ] = 1
    class_name: ClassName = None
    seed: Annotated[
        int, typer.Option(help="Random seed; sample j of item k depends on SEED + j and k.")
    ] = 0
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per sample [default: the run's, 50].")
    ] = None
    sampler: Annotated[
        str | None, typer.Option(help="As for iddpm sample [default: ddim with fresh noise].")
    ] = None
    spacing: Annotated[str | None, typer.Option(help="As for iddpm sample [default: even].")] = None
    guidance: Guidance = None
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighboring tiles, as a share of a tile.")
    ] = 0.25
    batch_size: Annotated[
        int | None, typer.Option(help="Items or tiles per batch; fewer need less memory.")
    ] = None


def restore(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    files: Annotated[list[str], typer.Argument(help="Measured files, or folders of them.")],
    *,
    measured: Measured,
    restoring: Restoring,
    condition: Condition = None,
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/restored].")
    ] = None,
    opening: Opening,
) -> None:
    """Restore what is blurred, incomplete or coarse, by a known linear operator.

    Example: iddpm restore runs/demo blurred.png --operator blur --width 1.5 -n 4
    """
    from iddpm.builders.linear_operator import OperatorRequest
    from iddpm.data.conditioning.requested import read_requested
    from iddpm.tasks.restore import restore as go

    operator = settings_of(measured)
    request = OperatorRequest(operator.pop("operator"), **operator)
    conditions = read_requested(condition or ())
    go(opening.open(run), files, request, conditions=conditions, out=out, **settings_of(restoring))

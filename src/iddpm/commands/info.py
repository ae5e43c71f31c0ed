"""``iddpm info``."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer


def info(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    settings: Annotated[
        bool, typer.Option("--settings", help="Print all settings as YAML instead.")
    ] = False,
) -> None:
    """Say what a run is and how far it is.

    Example: iddpm info runs/demo
    """
    from iddpm.config import to_yaml
    from iddpm.run import WEIGHTS, read_run_config

    config = read_run_config(run)
    if settings:
        typer.echo(to_yaml(config), nl=False)
        return
    model, diffusion, training = config.model, config.diffusion, config.training
    shape = " x ".join(map(str, (model.channels, *(model.size or ()))))
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    typer.echo(f"run          {run}")
    typer.echo(f"data         {config.data.path}: {shape}{classes}")
    typer.echo(
        f"network      {model.model_channels} channels, multipliers "
        f"{', '.join(f'{m:g}' for m in model.channel_mult or ())}, predicts {diffusion.predicts}"
    )
    typer.echo(
        f"process      {diffusion.num_steps} steps, {diffusion.schedule}, variance "
        f"{diffusion.variance}, loss {diffusion.loss.kind}"
    )
    record = _last_record(run / "log.jsonl")
    if record is None:
        typer.echo(f"training     no step logged yet, of {training.steps}")
    else:
        done = record["step"]
        typer.echo(
            f"training     step {done} of {training.steps} ({100 * done / training.steps:.0f} %), "
            f"{_measured(record)}"
        )
    checkpoints = sorted((run / "checkpoints").glob("step_*"))
    typer.echo(f"checkpoints  {', '.join(p.name for p in checkpoints) or 'none yet'}")
    if (run / "best").is_file():
        name = (run / "best").read_text(encoding="utf-8").strip()
        typer.echo(f"best         {name}, {_held_out(run / 'log.jsonl', name)}")
    snapshots = sorted((run / "averages").glob("step_*.safetensors"))
    if snapshots:
        typer.echo(f"averages     {len(snapshots)} snapshots up to {snapshots[-1].stem}")
    typer.echo(f"weights      {run / WEIGHTS if (run / WEIGHTS).is_file() else 'not yet'}")
    pictures = sorted((run / "samples").rglob("*.png"), key=lambda p: p.stat().st_mtime)
    typer.echo(f"samples      {pictures[-1] if pictures else 'none yet'}")


def _last_record(path: Path) -> dict[str, float] | None:
    return next(_records(path), None)


def _held_out(path: Path, name: str) -> str:
    """Say the held-out loss that was measured at a checkpoint of that name."""
    for record in _records(path):
        if name == f"step_{record['step']:08d}" and "held_out_loss" in record:
            return f"held-out loss {record['held_out_loss']:.4f}"
    return "its held-out loss is no longer in the log"


def _records(path: Path) -> Iterator[dict[str, float]]:
    """Yield the records of a log, newest first, without those cut short by a crash."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in reversed(lines):
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


def _measured(record: dict[str, float]) -> str:
    shown = (
        ("loss", "loss {:.4f}"),
        ("held_out_loss", "held-out loss {:.4f}"),
        ("items_per_second", "{:.0f} items/s"),
        ("skipped", "{:.0f} skipped"),
    )
    return ", ".join(form.format(record[name]) for name, form in shown if name in record)

"""``iddpm info``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iddpm.cli.options import Network
from iddpm.runtime.console import say

if TYPE_CHECKING:
    from iddpm.config import ResolvedConfig

STUCK = 10
"""Multiple of the usual interval after which a missing record is reported."""


def info(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    settings: Annotated[
        bool, typer.Option("--settings", help="Print all settings as YAML instead.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the progress as JSON instead.")
    ] = False,
    network: Network = None,
) -> None:
    """Show the state, progress and results of a run.

    Example: iddpm info runs/demo
    """
    import json

    from iddpm.config import to_yaml
    from iddpm.runs.sealed_settings import read_run_config
    from iddpm.tasks.summary import summarize

    config = read_run_config(run)
    if settings:
        say(to_yaml(config), end="")
        return
    facts = summarize(run)
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    for name, text in (*_progress(facts), *_kept(facts), *_model(config)):
        say(f"{name:<13}{text}")
    if network is not None:
        from iddpm.builders.own_network import expect_own, make_own

        expect_own(config, network, run)
        count = sum(p.numel() for p in make_own(network, config).parameters())
        say(f"{'parameters':<13}{count / 1e6:.2f} M in {network}")


def _model(config: "ResolvedConfig") -> Iterator[tuple[str, str]]:
    from iddpm.config.distillation import scale_text

    model, diffusion = config.model, config.diffusion
    shape = " x ".join(map(str, model.shape))
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    where = "none yet" if config.data.path is None and config.imported_from else config.data.path
    yield "data", f"{where}: {shape}{classes}"
    if model.conditions:
        yield "conditions", ", ".join(model.conditions)
    if model.given_channels:
        yield "given", f"{config.data.given}: {model.given_channels} channels"
    if config.scale is not None:
        yield "task", config.learns
    multipliers = ", ".join(f"{m:g}" for m in model.channel_mult or ())
    built = f"{model.model_channels} channels, multipliers {multipliers}"
    if model.layers != "group_norm":
        built += f", layers {model.layers}"
    yield "network", f"{model.network or built}, predicts {diffusion.predicts}"
    if config.distillation is not None:
        made = config.distillation
        yield "distilled", f"from {made.teacher} by {made.method}, for {made.offered} evaluations"
        if made.guidance != 1:
            yield "guidance", f"{scale_text(made.guidance)}, part of the model"
    yield (
        "process",
        f"{diffusion.num_steps} steps, {diffusion.schedule}, variance {diffusion.variance}, "
        f"loss {getattr(diffusion.loss, 'name', diffusion.loss.kind)}",
    )


def _progress(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from iddpm.training.monitoring.terminal import format_seconds

    yield "run", facts["run"]
    yield "state", _state(facts)
    if "imported_from" in facts:
        yield "origin", f"imported from {facts['imported_from']}"
    if facts["state"] == "imported":
        return
    step, steps = facts["step"], facts["steps"]
    left = f", {format_seconds(facts['seconds_left'])} left" if "seconds_left" in facts else ""
    many = f", on {facts['ranks']} ranks" if "ranks" in facts else ""
    yield "training", f"step {step} of {steps} ({100 * step / steps:.0f} %){left}{many}"
    if "loss" in facts:
        yield "loss", _losses(facts)
    if "previews" in facts:
        yield "copies", _copies(facts["previews"])
    if "items_per_second" in facts:
        yield "speed", _speed(facts)
    if "memory_mb" in facts:
        yield "memory", f"{facts['memory_mb']:.0f} MB at peak"
    if facts.get("skipped"):
        yield "skipped", f"{facts['skipped']} steps were skipped: not finite, or spikes"


def _losses(facts: dict[str, Any]) -> str:
    now, before = facts["loss"], facts.get("loss_before")
    text = f"{now['mean']:.4f} (steps {now['from']} to {now['to']})"
    if before is not None:
        text += f", before that {before['mean']:.4f} (from {before['from']} on)"
    if "held_out_loss" in facts:
        measure = facts["held_out_measure"].removesuffix(" loss")
        text += f"; {measure} {facts['held_out_loss']:.4f}"
    return text


def _copies(previews: dict[str, Any]) -> str:
    share, limit = previews["near_copies"], previews.get("near_copies_limit", 1.0)
    text = f"{share:.0%} of the previews at step {previews['step']} are near copies"
    if "near_copies_held_out" in previews:
        text += f", and {previews['near_copies_held_out']:.0%} of the held-out items"
    return text + (": MEMORIZED, more than chance explains" if share > limit else "")


def _state(facts: dict[str, Any]) -> str:
    from iddpm.training.monitoring.terminal import format_seconds

    state = facts["state"]
    age = facts.get("record_age")
    if state == "running":
        text = f"running: {facts['held_by']}"
        if age is not None:
            text += f", last log record {format_seconds(age)} ago"
        usual = facts.get("seconds_between_records")
        if usual is not None and age is not None and age > max(60.0, STUCK * usual):
            text += f"; records usually come every {format_seconds(usual)}, so it may be stuck"
        return text
    if state == "ended" and "exit" in facts:
        said = facts["exit"]
        return f"{said['reason']} (exit status {said['status']}): {said['message']}"
    if state == "ended":
        return "finished"
    if state in ("not started", "imported"):
        return str(state)
    return (
        "not running, without a record of how it ended (killed, or its machine stopped): "
        f"continue with iddpm train --resume --out {facts['run']}"
    )


def _speed(facts: dict[str, Any]) -> str:
    text = f"{facts['items_per_second']:.0f} items/s"
    if "compute_share" in facts:
        text += f", {facts['compute_share']:.1%} of the device's peak arithmetic rate"
    if "data_wait_share" in facts:
        text += f", {facts['data_wait_share']:.1%} of the time waiting for data"
    waits = facts.get("by_rank", {}).get("data_wait_share")
    if waits:
        text += f" on rank {waits.index(max(waits))}"
    return text


def _kept(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from iddpm.training.monitoring.terminal import format_seconds

    damaged = facts.get("damaged", {})
    text = ", ".join(
        f"{name} (damaged: {damaged[name]})" if name in damaged else name
        for name in facts["checkpoints"]
    )
    text = text or "none yet"
    if "checkpoint_age" in facts:
        text += f", the last {format_seconds(facts['checkpoint_age'])} ago"
    yield "checkpoints", text
    if "best" in facts:
        best = facts["best"]
        loss, measure = best.get("held_out_loss"), best.get("held_out_measure", "held-out loss")
        known = "is no longer in the log" if loss is None else f"{loss:.4f}"
        yield "best", f"{best['checkpoint']}, {measure} {known}"
    if "snapshots" in facts:
        snapshots = facts["snapshots"]
        yield "averages", f"{snapshots['count']} snapshots up to {snapshots['last']}"
    if "missing_snapshots" in facts:
        yield "missing", f"averages of {', '.join(facts['missing_snapshots'])}"
    yield "weights", facts.get("weights", "not yet")
    yield "samples", facts.get("picture", "none yet")

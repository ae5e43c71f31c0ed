"""Training, from settings to a finished run."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from iddpm.builders import build_loop_settings, conditions_of, count_flops, task_of, values_of
from iddpm.builders.own_network import Network
from iddpm.builders.run_data import items_of, on_device, training_batches, without_some_labels
from iddpm.config.run_config import written_settings
from iddpm.data.fingerprint import DATA, fingerprint
from iddpm.data.gray_in_color import gray_note
from iddpm.runs.layout import CONFIG, WEIGHTS
from iddpm.runs.run import Run
from iddpm.runs.sealed_settings import changed_settings, seal, trained_with
from iddpm.runtime.atomic_files import write_atomically, write_json, write_text
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.runtime.errors import NotSaved, warned
from iddpm.runtime.kept_directory import kept_directory
from iddpm.runtime.processes import JOINING, Ranks, joined_ranks
from iddpm.tasks.resume import check_data
from iddpm.tasks.start import Start
from iddpm.tasks.training_setup import (
    Opened,
    TrainRequest,
    build_training,
    choose,
    first_weights,
    open_training,
    plan_length,
    restore,
)
from iddpm.tasks.watch import build_preview, build_validation, costs_in_steps
from iddpm.training.checkpoints.state import TrainState
from iddpm.training.checkpoints.weights import write_sealed
from iddpm.training.loop import train_loop
from iddpm.training.loop_settings import Reporter
from iddpm.training.monitoring.log_files import Tracker
from iddpm.training.monitoring.terminal import (
    SilentReporter,
    TerminalReporter,
    format_seconds,
)
from iddpm.training.monitoring.trackers import open_trackers
from iddpm.training.parallel import whole_weights
from iddpm.training.step import Loss, TrainStep
from iddpm.training.stop import Stop, failures_noted


def train(
    data: Any = None,
    *,
    network: Network | None = None,
    loss: Loss | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    init_from: Path | str | Start | None = None,
    accept_data: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Train a model and return its run.

    Args:
        data: a folder of images, a .npy or .npz file, .tar shards, a table, or an embedded set such
            as ``mnist5k``; see docs/data.md. Or an array, a tensor or a map-style dataset in
            memory; see docs/own_code.md.
        network: an own network, called as ``network(x, timesteps, **conditioning)``; copied. Or
            ``"package.module:factory"``. See docs/own_code.md.
        loss: an own loss, called as ``loss(denoiser, x0, t, noise, **conditioning)``.
        config: a YAML file of settings.
        settings: assignments such as ``"training.steps=1000"``; they override the file.
        out: the run directory, ``runs/NAME`` by default.
        resume: continue the run in ``out``.
        init_from: a run whose weights to start from, whose network is built unless settings say
            otherwise; as a :class:`~iddpm.tasks.start.Start`, also which of its classes.
        accept_data: resume even if the data has changed.
        reporter: receives the progress; the terminal by default.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: an argument does not work; nothing has been
            written.
        RunFailed: it cannot continue, such as if the loss stays not finite.
        KeyboardInterrupt, SystemExit: on SIGINT, or on SIGTERM or SIGUSR1, after saving the run.

    >>> import tempfile
    >>> import numpy as np
    >>> from iddpm import train
    >>> from iddpm.training.monitoring.terminal import SilentReporter
    >>> images = np.random.default_rng(0).integers(0, 256, (8, 8, 8), np.uint8)
    >>> tiny = ["model.model_channels=8", "model.channel_mult=[1]", "model.num_res_blocks=1"]
    >>> tiny += ["training.steps=2", "training.preview_every=0"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(images, settings=tiny, out=f"{folder}/run", reporter=SilentReporter())
    ...     print(run.sample(2, steps=2).shape)
    torch.Size([2, 1, 8, 8])
    """
    run, reason = train_until_stop(
        TrainRequest(
            data,
            network=network,
            loss=loss,
            config=config,
            settings=settings,
            out=out,
            resume=resume,
            init_from=init_from,
            accept_data=accept_data,
            reporter=reporter,
        )
    )
    return unless_stopped(run, reason)


def unless_stopped(run: Run, reason: Stop) -> Run:
    """Return the run, or raise KeyboardInterrupt or SystemExit if a signal stopped it."""
    if reason is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if reason.exit_status:
        raise SystemExit(reason.exit_status)
    return run


def train_until_stop(request: TrainRequest) -> tuple[Run, Stop]:
    """Train as :func:`train` does and also return why it stopped."""
    with joined_ranks("cuda" if torch.cuda.is_available() else "cpu", JOINING) as ranks:
        # Everything is opened, built and checked before the first byte is written.
        opened, chosen = choose(open_training(request, ranks), ranks)
        reporter = request.reporter or TerminalReporter(limit=opened.config.training.max_time)
        if not ranks.first:
            reporter = SilentReporter()
        directory, device = opened.directory, opened.device
        network, started = first_weights(opened, request.init_from, ranks)
        facts = ranks.by_first(lambda: fingerprint(opened.split.source))
        with ranks.together():
            if opened.before is not None:
                check_data(directory, facts, opened.split.source, request.accept_data, reporter)
        ranks.limit(opened.config.training.timeout)
        state, step = build_training(opened, network, request.loss, ranks)
        if opened.before is not None:
            restore(state, directory, ranks)
        opened = plan_length(opened, state)
        steps = opened.config.training.steps
        state.sealed = {"settings": seal(opened.lasting(steps)), "data": facts}
        reason = _session(opened, state, step, [*started, *chosen], reporter, ranks)
        own, memory = opened.own, request.memory
        ended = f"{reason.value} at step {state.step}"
        resumed = ""
        steps = state.length(steps)
        if reason is not Stop.FINISHED and state.step < steps:
            ended += f" of {steps}"
            if own is None and memory is None:
                resumed = f": iddpm train --resume --out {quote(str(directory))} continues it"
        reporter.say(f"{ended}; the run is in {directory}{resumed}")
        return Run(directory, network=own, data=memory, device=str(device)), reason


def _session(
    opened: Opened,
    state: TrainState,
    step: TrainStep,
    notes: Sequence[str],
    reporter: Reporter,
    ranks: Ranks,
) -> Stop:
    """Write the settings, train from the current state, and write the weights."""
    config, directory, split = opened.config, opened.directory, opened.split
    with ExitStack() as held:
        with ranks.together():
            plan = state.plan
            limited = config.training.max_time is not None
            limited = limited and plan is not None and state.step < plan.last
            batches = training_batches(
                config,
                split.source,
                split.train,
                state.step,
                opened.device,
                ranks,
                endless=limited,
            )
            if limited or state.step < config.training.steps:
                batches[state.step]  # data that cannot be decoded is refused now
            if ranks.first:
                directory.mkdir(parents=True, exist_ok=True)
                held.enter_context(DirectoryLock(directory))
        held.enter_context(kept_directory(directory))
        held.enter_context(failures_noted(directory, ranks, lambda: state.step))
        held.enter_context(ranks.talking())
        with ranks.together():
            trackers = _begin(opened, state) if ranks.first else ()
        goes_on = opened.before is not None
        trained = ranks.by_first(lambda: trained_with(directory)) if goes_on else None
        if trained is not None and (changes := changed_settings(config, trained)):
            reporter.say(f"changed    {changes}")
        reporter.say(_introduction(opened, state, ranks))
        for line in notes:
            reporter.say(line)
        fed = without_some_labels(batches, config, ranks)
        reason = train_loop(
            directory,
            state,
            step,
            on_device(fed, config, opened.device, learning=True),
            build_loop_settings(config),
            ranks=ranks,
            reporter=reporter,
            preview=build_preview(config, directory, step.precision, split, ranks),
            validate=build_validation(config, split, step, opened.device, ranks),
            trackers=trackers,
            flops=partial(count_flops, config, opened.own),
            name_items=partial(items_of, batches),
            shares=costs_in_steps(config, split, ranks),
            planned=partial(_note_length, opened, state, ranks),
        )
        _release(state, directory / WEIGHTS, ranks)
    return reason


def _begin(opened: Opened, state: TrainState) -> Sequence[Tracker]:
    """Write down what is trained, and open the other places of the log."""
    config, directory = opened.config, opened.directory
    write_text(directory / CONFIG, written_settings(opened.lasting(config.training.steps)))
    write_json(directory / DATA, (state.sealed or {})["data"])
    return open_trackers(
        directory,
        state.step,
        tensorboard=config.training.tensorboard,
        wandb=config.training.wandb,
        settings=config.model_dump(mode="json"),
    )


def _note_length(opened: Opened, state: TrainState, ranks: Ranks, steps: int) -> None:
    """Write down the number of steps that was planned for a time limit."""
    if state.sealed is not None:
        state.sealed["settings"]["training.steps"] = steps
    if ranks.first:
        with warned(f"{CONFIG} does not have the number of steps, {steps}"):
            write_text(opened.directory / CONFIG, written_settings(opened.lasting(steps)))


def _release(state: TrainState, path: Path, ranks: Ranks) -> None:
    """Write the weights alone, for those who only sample."""
    weights = whole_weights(state.emas[0].network, ranks)
    facts = dict(state.sealed or {})
    with ranks.together():
        try:
            if ranks.first:
                write_atomically(path, lambda temporary: write_sealed(temporary, weights, facts))
        except OSError as error:
            raise NotSaved(
                f"the weights could not be written ({error}); the checkpoint is complete: free "
                "space, and --resume writes them"
            ) from None


def _introduction(opened: Opened, state: TrainState, ranks: Ranks) -> str:
    """Return the lines that describe the run before training."""
    config, source = opened.config, opened.split.source
    train_items = len(opened.split.train)
    parameters = sum(p.numel() for p in state.network.parameters())
    training = config.training
    length = f"to {training.steps}"
    if state.plan is not None and state.plan.end is None:
        length = f"on, for {format_seconds(state.plan.budget)}"
    shape = " x ".join(map(str, source.shape))
    classes = f", {len(source.class_names)} classes" if source.class_names else ""
    if source.unlabeled:
        classes += f", {source.unlabeled} items without a class (-1)"
    if source.class_names and not config.uses_labels:
        classes += " (not used: model.class_conditional=false)"
    task = task_of(config)
    upscaling = [f"task       {config.learns}"] if task.takes_low_res else []
    processes = f" in {ranks.count} processes ({training.parallel})" if ranks.count > 1 else ""
    conditions = ", ".join(map(str, conditions_of(config)))
    given = []
    if source.given is not None:
        shape_given = " x ".join(map(str, source.given.shape))
        given = [f"paired     {source.given.name} with each item, {shape_given}"]
    gray = gray_note(source) if config.data.channels is None and not state.step else ""
    own = "" if config.model.network is None else f"{config.model.network}, "
    lines = [
        (
            f"data       {source.name}: {train_items} training items, {len(source) - train_items} "
            f"held out, each {shape}{classes}"
        ),
        f"values     {values_of(config)}",
        *([gray] if gray else []),
        *upscaling,
        *([f"conditions {conditions}"] if conditions else []),
        *given,
        f"network    {own}{parameters / 1e6:.2f} M parameters, {task.objective}",
        f"training   step {state.step} {length}, batch {training.batch_size}, "
        f"{state.precision.name} on {state.precision.device}{processes}",
        f"directory  {opened.directory}",
    ]
    return "\n".join(lines)

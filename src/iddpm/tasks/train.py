"""Training from settings to a finished run, to be read from top to bottom."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iddpm.builders import (
    build_averages,
    build_loop_settings,
    build_optimizer,
    check_sharing,
    conditions_of,
    count_flops,
    open_data,
    place,
    propose,
    task_of,
    values_of,
)
from iddpm.builders.level_counts import start_levels
from iddpm.builders.measured_precision import choose_precision
from iddpm.builders.own_network import Network, adopt, claim, expect_loss, expect_own, make_own
from iddpm.builders.residual_spread import with_residual_scale
from iddpm.builders.run_data import (
    items_of,
    on_device,
    open_to_train,
    training_batches,
    without_some_labels,
)
from iddpm.config import Config, ResolvedConfig, read_config
from iddpm.config.run_config import written_settings
from iddpm.data.fingerprint import DATA, fingerprint
from iddpm.data.gray_in_color import gray_note
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.sources.source import Source
from iddpm.runs.layout import CONFIG, WEIGHTS, read_run_config
from iddpm.runs.run import Run
from iddpm.runs.sealed_settings import changed_settings, seal, trained_with
from iddpm.runs.training_data import expect_memory
from iddpm.runtime.atomic_files import write_atomically, write_json, write_text
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.runtime.errors import NotSaved, TrainingDiverged
from iddpm.runtime.kept_directory import kept_directory
from iddpm.runtime.processes import JOINING, Ranks, joined_ranks
from iddpm.tasks.resume import check_data, refuse_used, run_directory, settings_to_resume
from iddpm.tasks.start import Start, as_new, as_start, settings_of_start, start_weights
from iddpm.tasks.watch import build_preview, build_validation
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.checkpoints.state import TrainState
from iddpm.training.checkpoints.weights import hash_weights, write_sealed
from iddpm.training.loop import train_loop
from iddpm.training.loop_settings import Reporter
from iddpm.training.monitoring.log_files import Tracker
from iddpm.training.monitoring.terminal import SilentReporter, TerminalReporter
from iddpm.training.monitoring.trackers import check_trackers, open_trackers
from iddpm.training.parallel import Sharing, alone, replicate, shard, whole_weights
from iddpm.training.precision import Precision, choose_device
from iddpm.training.spikes import SpikeGuard
from iddpm.training.step import Loss, TrainStep
from iddpm.training.stop import Stop, failures_noted, read_exit


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
        resume: go on with the run in ``out``.
        init_from: a run whose weights to start from, whose network is built unless settings say
            otherwise; as a :class:`~iddpm.tasks.start.Start`, also which of its classes.
        accept_data: resume also when the data has changed since.
        reporter: where progress is told; the terminal by default.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: something given does not work; nothing has
            been written.
        RunFailed: it cannot go on, such as when the loss stays not finite.
        KeyboardInterrupt, SystemExit: SIGINT, or SIGTERM or SIGUSR1, came; the run was
            saved first.
    """
    run, reason = train_until_stop(
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
    if reason is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if reason.exit_status:
        raise SystemExit(reason.exit_status)
    return run


def train_until_stop(
    data: Any = None,
    *,
    network: Network | None = None,
    loss: Loss | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    base: dict[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    init_from: Path | str | Start | None = None,
    accept_data: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Run, Stop]:
    """Train as :func:`train` does and also return why it stopped.

    ``base`` holds settings that the file and the assignments override.
    """
    with joined_ranks("cuda" if torch.cuda.is_available() else "cpu", JOINING) as ranks:
        if not ranks.first:
            reporter = SilentReporter()
        reporter = reporter or TerminalReporter()
        # Everything is opened, built and checked before the first byte is written.
        with ranks.together():
            assignments, start = list(settings), as_start(init_from)
            memory = data if is_in_memory(data) else None
            if data is not None and memory is None:
                assignments.append(f"data.path={data}")
            directory = run_directory(out, data, config, assignments, base)
            going_on = resume and (directory / CONFIG).is_file()
            if going_on:
                wanted = settings_to_resume(directory, config, assignments)
                expect_memory(directory, wanted, memory)
                expect_own(wanted, network, directory)
                expect_loss(wanted, loss, directory)
                if memory is None and wanted.data.cache != "none":
                    _check_before_caching(directory, wanted, accept_data)
            else:
                refuse_used(directory, resume)
                if network is None:
                    base = settings_of_start(start, base)
                wanted = as_new(read_config(config, assignments, base))
                wanted = claim(wanted, network, loss)
            device = _prepare(wanted)
            resolved, split = open_to_train(wanted, memory)
            source, train_items, held_out = split
            own = None if network is None else make_own(network, resolved)
            if own is not None:
                resolved = adopt(wanted, resolved, own, device)
        if own is not None:
            same = len(set(ranks.gathered(hash_weights(own.state_dict())))) == 1
            with ranks.together():
                _refuse_other_weights(same)
        if not going_on:  # what goes on stays what it is
            resolved = ranks.by_first(
                lambda: with_residual_scale(wanted, resolved, source, train_items)
            )
        kept = going_on and read_run_config(directory).training.precision == "auto"
        precision = ranks.by_first(lambda: choose_precision(resolved, device, as_before=kept))
        training = resolved.training.model_copy(update={"precision": precision.name})
        resolved = resolved.model_copy(update={"training": training})  # a resume keeps it
        proposal = None
        if not going_on:  # what goes on stays what it is
            proposal = ranks.by_first(
                lambda: propose(wanted, resolved, device, processes=ranks.count, own=own)
            )
        if proposal is not None:
            resolved = proposal.config
        with ranks.together():
            check_sharing(resolved, ranks)
            built = _network(resolved, own)
            start_levels(built, source, train_items)
            started = [] if start is None or going_on else start_weights(built, resolved, start)
            if going_on and resolved.imported_from and not list_checkpoints(directory):
                start_weights(built, resolved, Start(directory))
        facts = ranks.by_first(lambda: fingerprint(source))
        with ranks.together():
            if going_on:
                check_data(directory, facts, source, accept_data, reporter)
        ranks.limit(resolved.training.timeout)
        state, step = _build(resolved, built, loss, device, ranks)
        state.sealed = {"settings": seal(_lasting(resolved)), "data": facts}
        if going_on and ranks.by_first(lambda: bool(list_checkpoints(directory))):
            checkpoint = load_checkpoint(directory, ranks=ranks)
            with ranks.together():
                state.restore(checkpoint)
            if (
                ranks.by_first(lambda: read_exit(directory).get("reason"))
                == TrainingDiverged.reason
            ):
                state.bad_in_a_row = 0  # who goes on even so shall have as many steps as before

        with ExitStack() as held:
            trackers: Sequence[Tracker] = ()
            with ranks.together():
                batches = training_batches(resolved, source, train_items, state.step, device, ranks)
                if state.step < resolved.training.steps:
                    batches[state.step]  # data that cannot be decoded is refused now
                if ranks.first:
                    directory.mkdir(parents=True, exist_ok=True)
                    held.enter_context(DirectoryLock(directory))
            held.enter_context(kept_directory(directory))
            held.enter_context(failures_noted(directory, ranks, lambda: state.step))
            held.enter_context(ranks.talking())
            with ranks.together():
                if ranks.first:
                    write_text(directory / CONFIG, written_settings(_lasting(resolved)))
                    write_json(directory / DATA, facts)
                    trackers = open_trackers(
                        directory,
                        state.step,
                        tensorboard=resolved.training.tensorboard,
                        wandb=resolved.training.wandb,
                        settings=resolved.model_dump(mode="json"),
                    )
            trained = ranks.by_first(lambda: trained_with(directory)) if going_on else None
            if trained is not None and (changes := changed_settings(resolved, trained)):
                reporter.say(f"changed    {changes}")
            reporter.say(_introduction(resolved, state, source, len(train_items), directory, ranks))
            for line in started:
                reporter.say(line)
            if precision.why:
                reporter.say(f"precision  {precision.why}")
            if proposal is not None:
                reporter.say(f"proposed   {proposal}")
            reason = train_loop(
                directory,
                state,
                step,
                on_device(
                    without_some_labels(batches, resolved, ranks), resolved, device, learning=True
                ),
                build_loop_settings(resolved),
                reporter=reporter,
                ranks=ranks,
                preview=build_preview(resolved, directory, step.precision, split, ranks),
                validate=build_validation(resolved, source, held_out, step, device, ranks),
                trackers=trackers,
                flops=partial(count_flops, resolved, own),
                name_items=partial(items_of, batches),
            )
            _release(state, directory / WEIGHTS, ranks)
        reporter.say(f"{reason.value} at step {state.step}; everything is in {directory}")
        return Run(directory, network=own, data=memory, device=str(device)), reason


def _prepare(wanted: Config) -> torch.device:
    """Refuse what cannot be trained, and return the device of this process."""
    check_trackers(tensorboard=wanted.training.tensorboard, wandb=wanted.training.wandb)
    if wanted.training.threads is not None:
        torch.set_num_threads(wanted.training.threads)
    return choose_device(wanted.training.device)


def _check_before_caching(directory: Path, wanted: Config, accept_data: bool) -> None:
    """Refuse changed data before all of it is decoded once more into a cache."""
    data = wanted.data.model_copy(update={"cache": "none"})
    source = open_data(wanted.model_copy(update={"data": data}))
    check_data(directory, fingerprint(source), source, accept_data, SilentReporter())


def _lasting(config: ResolvedConfig) -> ResolvedConfig:
    """Return the settings without the time limit, which is for one session."""
    training = config.training.model_copy(update={"max_time": None})
    return config.model_copy(update={"training": training})


def _refuse_other_weights(same: bool) -> None:
    if not same:
        raise ValueError(
            "the own network has other weights in each process: call torch.manual_seed before it "
            "is built, or pass 'package.module:factory'"
        )


def _network(config: ResolvedConfig, own: nn.Module | None) -> nn.Module:
    """Build the network on the CPU, with the same first weights in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return task_of(config).network(own)


def _build(
    config: ResolvedConfig,
    network: nn.Module,
    loss: Loss | None,
    device: torch.device,
    ranks: Ranks,
) -> tuple[TrainState, TrainStep]:
    """Build what learns; ranks talk meanwhile."""
    training = config.training
    sharded = ranks.count > 1 and training.parallel == "fsdp"
    sharing: Sharing = alone
    if not sharded:
        place(network, device)
    emas = build_averages(config, network)
    if sharded:
        sharing = shard(network, ranks, device)
        for ema in emas:
            shard(ema.network, ranks, device)
    optimizer = build_optimizer(config, network)
    task = task_of(config)
    timesteps = task.timesteps()
    precision = Precision(training.precision, device)
    guard = SpikeGuard(training.spike_guard) if training.spike_guard else None
    state = TrainState(network, optimizer, emas, timesteps, precision, guard)
    called: Any = torch.compile(network) if training.compile else network
    replicated = ranks.count > 1 and not sharded
    if replicated:
        called, sharing = replicate(called, device)
    step = TrainStep(
        task.learner(called),
        network,
        task.loss(loss),
        timesteps,
        optimizer,
        emas,
        precision,
        seed=training.seed,
        gradient_clip=training.gradient_clip,
        microbatch=training.microbatch,
        ranks=ranks,
        sharing=sharing,
        rehearse=replicated,
        halve=training.on_out_of_memory == "halve",
        guard=guard,
    )
    return state, step


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
                f"the weights alone could not be written ({error}); the checkpoint is whole: make "
                "room, and --resume writes them"
            ) from None


def _introduction(
    config: ResolvedConfig,
    state: TrainState,
    source: Source,
    train_items: int,
    directory: Path,
    ranks: Ranks,
) -> str:
    """Return the lines that say what is about to happen."""
    parameters = sum(p.numel() for p in state.network.parameters())
    training = config.training
    shape = " x ".join(map(str, source.shape))
    classes = f", {len(source.class_names)} classes" if source.class_names else ""
    if source.unlabeled:
        classes += f", {source.unlabeled} items without one (-1)"
    if source.class_names and not config.uses_labels:
        classes += " (not used: model.class_conditional=false)"
    task = task_of(config)
    finer = [f"task       {config.learns}"] if task.takes_low_res else []
    processes = f" in {ranks.count} processes ({training.parallel})" if ranks.count > 1 else ""
    told = ", ".join(map(str, conditions_of(config)))
    given = []
    if source.given is not None:
        shape_given = " x ".join(map(str, source.given.shape))
        given = [f"given      {source.given.name} with each item, {shape_given}"]
    gray = gray_note(source) if config.data.channels is None and not state.step else ""
    own = "" if config.model.network is None else f"{config.model.network}, "
    lines = [
        f"data       {source.name}: {train_items} items to train on, {len(source) - train_items} "
        f"held out, each {shape}{classes}",
        f"values     {values_of(config)}",
        *([gray] if gray else []),
        *finer,
        *([f"conditions {told}"] if told else []),
        *given,
        f"network    {own}{parameters / 1e6:.2f} M parameters, {task.objective}",
        f"training   step {state.step} to {training.steps}, batch {training.batch_size}, "
        f"{state.precision.name} on {state.precision.device}{processes}",
        f"directory  {directory}",
    ]
    return "\n".join(lines)

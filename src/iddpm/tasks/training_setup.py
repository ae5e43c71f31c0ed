"""The parts of training, built from a request; nothing is written yet."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iddpm.builders import (
    build_assignment,
    build_averages,
    build_optimizer,
    check_sharing,
    open_data,
    place,
    propose,
    task_of,
)
from iddpm.builders.decided import STEPS, explain
from iddpm.builders.few_steps import build_distillation_loss
from iddpm.builders.level_counts import start_levels
from iddpm.builders.measured_precision import choose_precision
from iddpm.builders.own_network import Network, adopt, claim, expect_loss, expect_own, make_own
from iddpm.builders.residual_spread import with_residual_scale
from iddpm.builders.run_data import Split, open_to_train
from iddpm.config import Config, ResolvedConfig, read_config
from iddpm.config.settings import read_stated, states
from iddpm.data.fingerprint import fingerprint
from iddpm.data.sources.memory import is_in_memory
from iddpm.runs.layout import CONFIG, read_run_config
from iddpm.runs.training_data import expect_memory
from iddpm.runtime.errors import TrainingDiverged
from iddpm.runtime.processes import Ranks
from iddpm.tasks.resume import check_data, refuse_used, run_directory, settings_to_resume
from iddpm.tasks.start import Start, as_new, as_start, settings_of_start, start_weights
from iddpm.tasks.teacher import open_teacher, start_of_distillation
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.checkpoints.state import TrainState
from iddpm.training.checkpoints.weights import hash_weights
from iddpm.training.loop_settings import Reporter
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.monitoring.trackers import check_trackers
from iddpm.training.parallel import Sharing, alone, replicate, shard
from iddpm.training.precision import Precision, choose_device
from iddpm.training.spikes import SpikeGuard
from iddpm.training.step import Loss, TrainStep
from iddpm.training.stop import read_exit
from iddpm.training.time_plan import plan_session


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """The arguments of :func:`~iddpm.tasks.train.train`.

    ``base`` holds settings that the file and the assignments override.
    """

    data: Any = None
    _: KW_ONLY
    network: Network | None = None
    loss: Loss | None = None
    config: Path | str | None = None
    settings: Sequence[str] = ()
    base: dict[str, Any] | None = None
    out: Path | str | None = None
    resume: bool = False
    init_from: Path | str | Start | None = None
    accept_data: bool = False
    reporter: Reporter | None = None

    @property
    def memory(self) -> Any:
        """The data, if it was passed as an object."""
        return self.data if is_in_memory(self.data) else None

    @property
    def assignments(self) -> list[str]:
        """The settings, with the path of the data among them."""
        if self.data is None or self.memory is not None:
            return list(self.settings)
        return [*self.settings, f"data.path={self.data}"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A run whose data is open.

    Attributes:
        directory: its directory, which may not exist yet.
        before: the settings of a resumed run, as they are there; None for a new one.
        wanted: the user's settings.
        config: the same with what follows from the data.
        split: the data.
        own: an own network.
        device: the device of this process.
        most: the number of steps if the user stated it for this session.
    """

    directory: Path
    before: Config | None
    wanted: Config
    config: ResolvedConfig
    split: Split
    own: nn.Module | None
    device: torch.device
    most: int | None = None

    def lasting(self, steps: int) -> ResolvedConfig:
        """Return the settings to write down: of all sessions, with a number of steps."""
        update = {"max_time": None, "steps": steps}
        training = self.config.training.model_copy(update=update)
        return self.config.model_copy(update={"training": training})


def open_training(request: TrainRequest, ranks: Ranks) -> Opened:
    """Check the settings and open the data.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: something in the request does not work.
    """
    with ranks.together():
        directory = run_directory(
            request.out, request.data, request.config, request.assignments, request.base
        )
        before = None
        if request.resume and (directory / CONFIG).is_file():
            before = read_run_config(directory)
            wanted = _settings_to_go_on(request, directory, before)
        else:
            refuse_used(directory, request.resume)
            wanted = _settings_of_new(request)
        device = _prepare(wanted)
        resolved, split = open_to_train(wanted, request.memory)
        own = None if request.network is None else make_own(request.network, resolved)
        if own is not None:
            resolved = adopt(wanted, resolved, own, device)
    if own is not None:
        same = len(set(ranks.gathered(hash_weights(own.state_dict())))) == 1
        with ranks.together():
            _refuse_other_weights(same)
    stated = read_stated(request.config, request.assignments)
    most = resolved.training.steps if states(stated, "steps", "epochs") else None
    return Opened(directory, before, wanted, resolved, split, own, device, most)


def _settings_to_go_on(request: TrainRequest, directory: Path, before: Config) -> Config:
    """Return the settings of a resumed run."""
    wanted = settings_to_resume(directory, before, request.config, request.assignments)
    expect_memory(directory, wanted, request.memory)
    expect_own(wanted, request.network, directory)
    expect_loss(wanted, request.loss, directory)
    if request.memory is None and wanted.data.cache != "none":
        _check_before_caching(directory, wanted, request.accept_data)
    return wanted


def _settings_of_new(request: TrainRequest) -> Config:
    """Return the settings of a new run, from those of the run that it starts from, if any."""
    base = request.base
    if request.network is None:
        base = settings_of_start(as_start(request.init_from), base)
    if base and states(read_stated(request.config, request.assignments), "max_time"):
        training = {k: v for k, v in base.get("training", {}).items() if k != "steps"}
        base = {**base, "training": training}  # the time is what was asked for
    wanted = as_new(read_config(request.config, request.assignments, base))
    return claim(wanted, request.network, request.loss)


def choose(opened: Opened, ranks: Ranks) -> tuple[Opened, list[str]]:
    """Return settings with measurements of data and machine, and lines that explain them.

    Raises:
        ValueError: nothing fits into the memory.
    """
    before, device, (source, train, _) = opened.before, opened.device, opened.split
    resolved = opened.config
    if before is None:  # a resumed run stays unchanged
        resolved = ranks.by_first(
            lambda: with_residual_scale(opened.wanted, opened.config, source, train)
        )
    kept = before is not None and before.training.precision == "auto"
    precision = ranks.by_first(lambda: choose_precision(resolved, device, as_before=kept))
    kernels = resolved.training.kernels
    if before is None and kernels is None:  # a run without a record keeps PyTorch's
        sharded = ranks.count > 1 and resolved.training.parallel == "fsdp"  # not placed, so plain
        kernels = "fast" if device.type == "cpu" and not sharded else "plain"
    measured = {"precision": precision.name, "kernels": kernels}
    training = resolved.training.model_copy(update=measured)
    chosen = resolved.model_copy(update={"training": training})  # a resume keeps it
    notes = [f"precision  {precision.why}"] if precision.why else []
    if before is None:
        notes = [*explain(opened.wanted, chosen, len(train)), *notes]
        proposal = ranks.by_first(
            lambda: propose(opened.wanted, chosen, device, processes=ranks.count, own=opened.own)
        )
        if proposal is not None:
            chosen = proposal.config
            notes.append(f"proposed   {proposal}")
    return replace(opened, config=chosen), notes


def first_weights(
    opened: Opened, init_from: Path | str | Start | None, ranks: Ranks
) -> tuple[nn.Module, list[str]]:
    """Build the network on the CPU, the same in every process, and describe its weights."""
    config, directory = opened.config, opened.directory
    with ranks.together():
        start = as_start(init_from)
        if opened.before is not None:
            # A training that was killed before its first checkpoint begins again.
            begins = not list_checkpoints(directory)
            start = (start_of_distillation(config) or start) if begins else None
        check_sharing(config, ranks, opened.own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            network = task_of(config).network(opened.own)
        start_levels(network, opened.split.source, opened.split.train)
        notes = [] if start is None else start_weights(network, config, start)
        if opened.before is not None and config.imported_from and not list_checkpoints(directory):
            start_weights(network, config, Start(directory))
    return network, notes


def _prepare(wanted: Config) -> torch.device:
    """Raise ValueError for what cannot be trained, and return the device of this process."""
    check_trackers(tensorboard=wanted.training.tensorboard, wandb=wanted.training.wandb)
    if wanted.training.threads is not None:
        torch.set_num_threads(wanted.training.threads)
    return choose_device(wanted.training.device)


def _check_before_caching(directory: Path, wanted: Config, accept_data: bool) -> None:
    """Raise ValueError for changed data before all of it is decoded into a cache."""
    data = wanted.data.model_copy(update={"cache": "none"})
    source = open_data(wanted.model_copy(update={"data": data}))
    check_data(directory, fingerprint(source), source, accept_data, SilentReporter())


def _refuse_other_weights(same: bool) -> None:
    if not same:
        raise ValueError(
            "your network has other weights in each process: call torch.manual_seed before you "
            "build it, or pass 'package.module:factory'"
        )


def build_training(
    opened: Opened, network: nn.Module, loss: Loss | None, ranks: Ranks
) -> tuple[TrainState, TrainStep]:
    """Build the state and the step of training; ranks communicate meanwhile."""
    config, device = opened.config, opened.device
    training, own = config.training, config.model.network is not None
    sharded = ranks.count > 1 and training.parallel == "fsdp"
    sharing: Sharing = alone
    made = config.distillation
    with ranks.together():
        teacher = open_teacher(config, opened.own, device)
    if not sharded:
        place(network, device, training.kernels)
    emas = build_averages(config, network)
    if sharded:
        sharing = shard(network, ranks, device, own=own)
        for ema in emas:
            shard(ema.network, ranks, device, own=own)
    optimizer = build_optimizer(config, network)
    task = task_of(config)
    timesteps = task.timesteps()
    precision = Precision(training.precision, device)
    guard = SpikeGuard(training.spike_guard) if training.spike_guard else None
    state = TrainState(network, optimizer, emas, timesteps, precision, guard)

    length = partial(state.length, training.steps)
    called: Any = torch.compile(network) if training.compile else network
    replicated = ranks.count > 1 and not sharded
    if replicated:
        called, sharing = replicate(called, device, own=own)
    step = TrainStep(
        task.learner(called),
        network,
        task.loss(loss) if made is None else build_distillation_loss(made, teacher, length),
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
        assignment=build_assignment(config),
    )
    return state, step


def plan_length(opened: Opened, state: TrainState) -> Opened:
    """Set the plan of a session with a time limit; return settings with the steps it leaves."""
    training = opened.config.training
    budget = training.max_time if training.anneal == "linear" else None
    again = budget is not None and state.plan is not None and state.plan.most == opened.most
    if opened.before is not None and opened.most is not None and not again:
        state.plan = None  # another length was asked for
    most = opened.most
    if opened.before is not None and not state.step:  # killed before its first checkpoint
        most = training.steps if training.steps != STEPS else None
    state.plan = plan_session(state.plan, state.step, budget, most)
    if state.plan is None or state.plan.end is None:
        return opened
    planned = training.model_copy(update={"steps": state.plan.end})
    return replace(opened, config=opened.config.model_copy(update={"training": planned}))


def restore(state: TrainState, directory: Path, ranks: Ranks) -> None:
    """Restore the newest checkpoint of a run, if there is one."""
    if not ranks.by_first(lambda: bool(list_checkpoints(directory))):
        return
    checkpoint = load_checkpoint(directory, ranks=ranks)
    with ranks.together():
        state.restore(checkpoint)
    if ranks.by_first(lambda: read_exit(directory).get("reason")) == TrainingDiverged.reason:
        state.bad_in_a_row = 0  # resuming allows as many bad steps as before

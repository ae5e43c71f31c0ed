"""A run directory opened again: its settings, its model, its data and its records."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from iddpm.builders import Task, build_denoiser, build_network, conditions_of, place, task_of
from iddpm.builders.measured_precision import choose_precision
from iddpm.builders.own_network import Network, expect_own, make_own
from iddpm.builders.run_data import Split
from iddpm.config import ResolvedConfig
from iddpm.data.conditioning.conditions import Condition
from iddpm.data.conditioning.labels import Classes
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.sources.pixel_limit import limit_pixels
from iddpm.diffusion import Denoiser
from iddpm.runs.layout import read_run_config, read_run_weights
from iddpm.runs.training_data import expect_memory, known_memory, open_training_data
from iddpm.training.checkpoints.state import load_weights
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.precision import Precision, PrecisionName, choose_device


class OpenedRun:
    """A trained model and the directory that it lives in.

    Args:
        directory: the run directory.
        ema: rate of the average to use, ``"none"`` for the live weights; None for the first.
        checkpoint: step of the checkpoint, or ``"best"`` for the one with the best held-out loss;
            None for the newest.
        ema_length: instead of both, the length of an average as a share of the training, such as
            0.07, made from the snapshots of a run with ``training.posthoc_ema``.
        device: where to compute.
        data: the array, tensor or dataset in memory that it was trained on, for what needs it.
        network: the own network of a run that was trained with one, which is copied; or
            ``"package.module:factory"``.

    Raises:
        FileNotFoundError: no such directory, checkpoint or average.
        ValueError: the directory is not a run, or its files are damaged.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        ema: float | str | None = None,
        checkpoint: int | str | None = None,
        ema_length: float | None = None,
        device: str = "auto",
        network: Network | None = None,
        data: Any = None,
    ) -> None:
        self.directory = Path(directory)
        self.config: ResolvedConfig = read_run_config(self.directory)
        limit_pixels(self.config.data.max_pixels)
        self.device = choose_device(device)
        self.ema = ema
        self.checkpoint = checkpoint
        self.ema_length = ema_length
        self.network = network
        self.data = data
        if data is not None:
            expect_memory(self.directory, self.config, data)
        expect_own(self.config, network, self.directory)

    @property
    def task(self) -> Task:
        """The task of the run."""
        return task_of(self.config)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The model on its device, in evaluation mode; loaded when first used."""
        self.task.check_draws(self.directory)
        own = None if self.network is None else make_own(self.network, self.config)
        network = build_network(self.config, own)
        weights, source = read_run_weights(
            self.directory,
            self.config,
            ema=self.ema,
            checkpoint=self.checkpoint,
            ema_length=self.ema_length,
        )
        load_weights(network, weights, source)
        kernels = self.config.training.kernels
        place(network.eval().requires_grad_(False), self.device, kernels)
        return build_denoiser(self.config, network)

    def precision(self, name: PrecisionName) -> Precision:
        """Return how its network computes; ``auto`` is what is faster for it, measured once."""
        if name == "auto":
            training = self.config.training.model_copy(update={"precision": "auto"})
            config = self.config.model_copy(update={"training": training})
            name = choose_precision(config, self.device).name
        return Precision(name, self.device)

    def open_split(self) -> Split:
        """Open the training data with its split; ValueError if it is other data."""
        return open_training_data(self.directory, self.config, self.data)

    def trained_on(self, data: Any) -> Self:
        """Return this run with its training data in memory, if it lacks that."""
        if not is_in_memory(data) or self.data is not None or not known_memory(self.directory):
            return self
        run = copy.copy(self)
        run.data = data
        return run

    def on_data(self, data: Any) -> Self:
        """Return an imported run with data instead of its training data; other runs unchanged."""
        if self.config.imported_from is None or self.config.data.path is not None:
            return self
        run = copy.copy(self)
        if is_in_memory(data):
            run.data = data
        elif data is not None:
            known = self.config.data.model_copy(update={"path": str(data)})
            run.config = self.config.model_copy(update={"data": known})
        return run

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the data."""
        return self.config.model.shape

    @property
    def classes(self) -> Classes | None:
        """The classes that the model was trained with, if any."""
        count = self.config.model.num_classes
        if not self.config.model.class_conditional or count is None:
            return None
        return Classes(count, self.config.class_names, str(self.directory))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions other than the class, in the order of the model."""
        return conditions_of(self.config)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The records of ``log.jsonl``."""
        return read_log(self.directory)

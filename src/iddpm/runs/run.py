"""A run directory: its layout, and what can be done with a trained model."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddpm.builders import (
    Guides,
    Walk,
    build_denoiser,
    build_gradient,
    build_network,
    build_tiling,
    build_walk,
    build_weaker,
    check_given,
    check_low_res,
    check_upscaling,
    conditions_of,
    place,
    requested_sampling,
    tell_low_res,
)
from iddpm.builders.own_network import Network, expect_own, make_own
from iddpm.builders.run_data import Split
from iddpm.config import Config
from iddpm.data.conditioning.conditions import Condition
from iddpm.data.conditioning.labels import Classes, Wanted
from iddpm.data.conditioning.requested import Asked, ask
from iddpm.data.sources.memory import is_in_memory
from iddpm.data.writers.image_files import save_grid as save_grid
from iddpm.diffusion import Denoiser
from iddpm.runs.classifier import load_classifier
from iddpm.runs.layout import CONFIG as CONFIG
from iddpm.runs.layout import WEIGHTS as WEIGHTS
from iddpm.runs.layout import read_run_config as read_run_config
from iddpm.runs.layout import read_run_weights
from iddpm.runs.step_tables import find_table
from iddpm.runs.training_data import expect_memory, known_memory, open_training_data
from iddpm.sampling import NO_CLASS, OVERLAP, SampleNoise
from iddpm.training.checkpoints.state import load_weights
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.precision import Precision, choose_device


@dataclass(frozen=True)
class SampleBatch:
    """Some of the samples that were asked for.

    Attributes:
        x: [N, C, *spatial] on the CPU; about [-1, 1].
        y: [N] classes, or None.
        start: number of the first.
    """

    x: Tensor
    y: Tensor | None
    start: int


class Run:
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
        self.config: Config = read_run_config(self.directory)
        self.device = choose_device(device)
        self.ema = ema
        self.checkpoint = checkpoint
        self.ema_length = ema_length
        self.network = network
        self.data = data
        if data is not None:
            expect_memory(self.directory, self.config, data)
        if self.config.task != "classification" or network is not None:
            expect_own(self.config, network, self.directory)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The model on its device, in evaluation mode; loaded when first used."""
        if self.config.task == "classification":
            raise ValueError(
                f"{self.directory} holds a classifier, and a model that draws is wanted here: "
                "give the directory that iddpm train made"
            )
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
        place(network.eval().requires_grad_(False), self.device)
        return build_denoiser(self.config, network)

    def open_split(self) -> Split:
        """Open the data of the training, parted as it was; ValueError where it is other data."""
        return open_training_data(self.directory, self.config, self.data)

    def trained_on(self, data: Any) -> "Run":
        """Return this run with the data in memory that it was trained on, where it lacks that."""
        if not is_in_memory(data) or self.data is not None or not known_memory(self.directory):
            return self
        run = copy.copy(self)
        run.data = data
        return run

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the data."""
        model = self.config.model
        assert model.channels is not None
        assert model.size is not None
        return (model.channels, *model.size)

    @property
    def classes(self) -> Classes | None:
        """The classes that the model was trained with, if any."""
        count = self.config.model.num_classes
        if not self.config.model.class_conditional or count is None:
            return None
        return Classes(count, self.config.class_names, str(self.directory))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions other than the class, in the order in which the model takes them."""
        return conditions_of(self.config)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The records of ``log.jsonl``."""
        return read_log(self.directory)

    def sample(
        self,
        n: int = 16,
        *,
        seed: int = 0,
        classes: Wanted = None,
        conditions: Asked | None = None,
        given: Mapping[str, Tensor] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw ``n`` samples, [n, C, *spatial] on the CPU, about [-1, 1].

        Sample k depends on ``seed`` and k alone: its noise bit for bit, whatever ``n`` and
        ``batch_size`` are.

        Args:
            n: how many.
            seed: any integer.
            classes: one class for all, or one per sample, by name or number; by default drawn
                from the seed. For class-conditional models, and under a classifier.
            conditions: what the samples shall have, such as ``{"age": 63}``, one value for all or
                one for each; what is not named is left open. See :meth:`ask`.
            given: what else the network is told, a tensor [n, ...] for each name, such as
                ``low_res`` of a model of super-resolution.
            settings: of sampling, such as ``steps=10`` or ``sampler="unipc_3"``; see :meth:`walk`.

        Raises:
            ValueError: an unknown class or setting, more steps than the process has, or tensors
                of another number of rows.
        """
        walk = self.walk(**settings)
        if conditions is not None:
            given = {**(given or {}), "conditions": self.ask(n, conditions)}
        batches = self.sample_batches(n, walk, seed=seed, classes=classes, given=given)
        return torch.cat([batch.x for batch in batches])

    def upscale(
        self,
        low_res: Tensor,
        *,
        seed: int = 0,
        classes: Wanted = None,
        given: Mapping[str, Tensor] | None = None,
        overlap: float = OVERLAP,
        start: int = 0,
        on_batch: Callable[[], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Make data finer, [N, C, *spatial] in [-1, 1] of any size, by ``scale`` along each axis.

        What is larger than the data of the training is drawn as overlapping tiles whose estimates
        are averaged at every step (:func:`~iddpm.sampling.tiled`); what is smaller is mirrored at
        its ends. Item k depends on ``seed`` and its number alone.

        Args:
            low_res: low resolutions of one size.
            seed: any integer.
            classes: one class for all, or one per item; by default none.
            given: what else the network is told, as in :meth:`sample`.
            overlap: share of a tile that neighbours share, at the least.
            start: number of the first item.
            on_batch: called after every batch of tiles.
            settings: of sampling; ``batch_size`` is the number of tiles at a time, which bounds the
                memory beside some tensors of the result's size.

        Returns:
            [N, C, *finer] on the CPU, about [-1, 1].

        Raises:
            ValueError: a model of another task, a shape or setting that does not fit it, or no
                class for one that was always told one.
        """
        labeled = classes is not None or "y" in (given or {})
        check_upscaling(self.config, self.directory, labeled)
        tiling = build_tiling(self.config, low_res.shape[2:], overlap)
        told = {**(given or {}), "low_res": tiling.pad(low_res)}
        if self.classes is not None and not labeled:
            told["y"] = torch.full((len(low_res),), NO_CLASS)
            settings["guidance"] = settings.get("guidance") or 1.0  # none to exaggerate
        batches = self.sample_batches(
            len(low_res),
            tiling.around(self.walk(**settings), on_batch),
            seed=seed,
            classes=classes,
            given=told,
            size=tiling.size,
            start=start,
        )
        return torch.cat([tiling.crop(batch.x) for batch in batches])

    def walk(
        self,
        *,
        classifier: Path | str | None = None,
        classifier_scale: float = 1.0,
        classifier_form: str = "score",
        autoguidance: Path | str | int | None = None,
        autoguidance_scale: float = 2.0,
        **settings: Any,
    ) -> Walk:
        """Return how samples are drawn: the run's settings of sampling with some changed.

        Args:
            classifier: directory of a classifier that guides.
            classifier_scale: how strongly; 1 samples p(x) p(y | x), more exaggerates the class.
            classifier_form: ``"score"`` for every sampler, ``"clip_then_score"`` in the published
                order, or ``"mean"`` for ddpm (the published form).
            autoguidance: a weaker model to go away from: an earlier checkpoint's step, or a run.
            autoguidance_scale: how far; 1 is the model alone.
            settings: of :class:`~iddpm.config.SamplingConfig`; None leaves one as it is.

        Raises:
            ValueError: an unknown setting, or a setting or guide that does not fit the model.
            FileNotFoundError: no such classifier, checkpoint or run; no table of steps yet.
        """
        sampling = requested_sampling(
            self.config.sampling, self.config.diffusion.num_steps, settings
        )
        classes, gradient, weaker = self.classes, None, None
        if classifier is not None:
            guide = load_classifier(classifier, str(self.device))
            gradient = build_gradient(
                self.config, self.denoiser, guide.network, guide.config, guide.schedule
            )
            names = guide.class_names
            classes = classes or Classes(len(names), names, str(classifier))
        if autoguidance is not None:
            other = self._weaker(autoguidance)
            weaker = build_weaker(self.config, self.denoiser, other.config, other.denoiser)
        guides = Guides(weaker, autoguidance_scale, gradient, classifier_scale, classifier_form)
        table = find_table(self.directory, self.denoiser) if sampling.needs_table else None
        return build_walk(
            self.config, self.denoiser, sampling, guides=guides, classes=classes, table=table
        )

    def sample_batches(
        self,
        n: int,
        walk: Walk | None = None,
        *,
        seed: int = 0,
        classes: Wanted = None,
        given: Mapping[str, Tensor] | None = None,
        size: Sequence[int] | None = None,
        start: int = 0,
        turns: slice = slice(None),
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Iterator[SampleBatch]:
        """Draw samples and yield each batch as it is finished; arguments as in :meth:`sample`.

        Everything is checked before the first is drawn. ``on_step`` is called after every step
        with the number of steps taken and the state, [N, C, *spatial]; first with 0 and the noise.
        ``start`` is the number of the first sample, for going on where others ended, and ``turns``
        picks among the batches, for sharing them out; row 0 of ``given`` belongs to ``start``.
        ``size`` is the spatial size, that of the data by default.
        """
        if n < 1:
            raise ValueError(f"cannot draw {n} samples: ask for 1 or more")
        told = dict(given or {})
        if self.conditions and "conditions" not in told:
            told["conditions"] = self.ask(n)
        for name, value in told.items():
            if len(value) != n:
                raise ValueError(f"{name} has {len(value)} rows for {n} samples: give one for each")
        shape = self.shape if size is None else (self.shape[0], *size)
        check_given(self.config, self.directory, told.get("given"), shape[1:])
        if self.config.task == "super_resolution":
            check_low_res(self.config, self.directory, told.get("low_res"), shape)
        chosen = walk or self.walk()
        at_once = chosen.sampling.batch_size
        labels = told.get("y")
        if labels is None:
            labels = self._labels(chosen, n, seed, classes, start)
        if labels is not None:
            told["y"] = labels
        self._check_something_to_guide(chosen, told)
        if "conditions" in told:  # float64 for who writes them down
            told["conditions"] = told["conditions"].float()
        context = Precision(chosen.sampling.precision, self.device)

        def batches() -> Iterator[SampleBatch]:
            for first in range(start, start + n, at_once)[turns]:
                count = min(at_once, start + n - first)
                rows = slice(first - start, first - start + count)
                noise = SampleNoise(seed, (count, *shape), first, self.device)
                conditioning = {name: value[rows].to(self.device) for name, value in told.items()}
                if self.config.task == "super_resolution":
                    level, numbers = chosen.sampling.low_res_noise, range(first, first + count)
                    low_res = conditioning["low_res"]
                    conditioning |= tell_low_res(self.config, low_res, level, numbers, seed)
                if on_step is not None:
                    on_step(0, noise.initial())
                with context.autocast():
                    for state in chosen.states(noise, **conditioning):
                        x = state.x
                        if on_step is not None:
                            on_step(state.number, x)
                yield SampleBatch(x.cpu(), None if labels is None else labels[rows], first)

        return batches()

    def ask(self, n: int, conditions: Asked | None = None) -> Tensor:
        """Return the requested conditions of ``n`` samples, float64 [n, K].

        Args:
            n: how many.
            conditions: by name, a value for all, one for each, or text: ``"20..80"`` is spread over
                the samples and ``"20,40"`` takes turns. What is not named, None or an empty text is
                left open.

        Raises:
            ValueError: an unknown condition or class, text where a number belongs, or a condition
                that is left open and never was in training (training.label_dropout=0).
        """
        told = ask(self.conditions, conditions or {}, n, self.directory)
        open_ = np.isnan(told).any(axis=0)
        if open_.any() and not self.config.training.label_dropout:
            name = self.conditions[int(np.argmax(open_))].name
            raise ValueError(
                f"{self.directory} was trained to be told {name} always "
                f"(training.label_dropout=0): ask for it, such as by --condition {name}=..."
            )
        return torch.from_numpy(told)

    def _labels(self, walk: Walk, n: int, seed: int, wanted: Wanted, start: int) -> Tensor | None:
        if walk.classes is not None:
            if wanted is None:  # drawn by number
                return walk.classes.labels(start + n, seed)[start:]
            return walk.classes.labels(n, seed, wanted)
        if wanted is not None:
            raise ValueError(
                f"class {wanted!r} was requested, and {self.directory} was trained without classes "
                "(model.class_conditional=false)"
            )
        return None

    def _check_something_to_guide(self, walk: Walk, told: Mapping[str, Tensor]) -> None:
        """Refuse guidance that was requested for samples without class and conditions.

        The run's own setting is the model as trained there, which is what guidance then gives.
        """
        guidance = walk.sampling.guidance
        if guidance in (1, self.config.sampling.guidance) or not self.config.model.told:
            return
        y, conditions = told.get("y"), told.get("conditions")
        if y is not None and self.config.model.class_conditional and bool((y != NO_CLASS).any()):
            return
        if conditions is not None and not bool(conditions.isnan().all()):
            return
        known = ["a class"] * self.config.model.class_conditional
        known += [f"--condition {condition.name}=..." for condition in self.conditions]
        raise ValueError(
            f"guidance={guidance:g} exaggerates a class or conditions, and there are none: give "
            f"{' or '.join(known)}, or leave --guidance out"
        )

    def _weaker(self, which: Path | str | int) -> "Run":
        """Return an earlier checkpoint of this run, or another run."""
        if str(which).isdecimal() and not Path(str(which)).exists():
            return Run(
                self.directory,
                ema=self.ema,
                checkpoint=int(str(which)),
                device=str(self.device),
                network=self.network,
            )
        same = read_run_config(Path(str(which))).model.network == self.config.model.network
        network = self.network if same else None
        return Run(str(which), device=str(self.device), network=network)


def load(
    run_directory: Path | str,
    *,
    ema: float | str | None = None,
    checkpoint: int | str | None = None,
    ema_length: float | None = None,
    device: str = "auto",
    network: Network | None = None,
    data: Any = None,
) -> Run:
    """Open a run and read its weights; arguments and errors as for :class:`Run`."""
    run = Run(
        run_directory,
        ema=ema,
        checkpoint=checkpoint,
        ema_length=ema_length,
        device=device,
        network=network,
        data=data,
    )
    _ = run.denoiser  # so that damaged weights are refused here
    return run

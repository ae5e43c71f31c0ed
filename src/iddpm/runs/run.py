"""A trained run, which draws samples and upscales data."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iddpm.builders import SamplingPlan, build_sample_tiling
from iddpm.builders.own_network import Network
from iddpm.data.conditioning.labels import Wanted
from iddpm.data.conditioning.requested import RequestedConditions
from iddpm.runs.drawing import (
    Requested,
    SampleBatch,
    draw_batches,
    requested_conditions,
    sized,
)
from iddpm.runs.guided_plan import plan_sampling
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.restored import Restoration, restore
from iddpm.runs.upscaled import UpscaleHooks, upscale, upscale_mean
from iddpm.sampling import OVERLAP
from iddpm.sampling.operators import Operator


class Run(OpenedRun):
    """A trained model and the directory that it lives in.

    The arguments are those of :class:`~iddpm.runs.opened_run.OpenedRun`.

    >>> import tempfile
    >>> import numpy as np
    >>> from iddpm import Run, train
    >>> from iddpm.training.monitoring.terminal import SilentReporter
    >>> images = np.random.default_rng(0).integers(0, 256, (8, 8, 8), np.uint8)
    >>> tiny = ["model.model_channels=8", "model.channel_mult=[1]", "model.num_res_blocks=1"]
    >>> tiny += ["training.steps=2", "training.preview_every=0"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(images, settings=tiny, out=f"{folder}/run", reporter=SilentReporter())
    ...     print(isinstance(run, Run), run.directory.name, run.sample(2, steps=2).shape)
    True run torch.Size([2, 1, 8, 8])
    """

    def sample(
        self,
        n: int = 16,
        *,
        seed: int = 0,
        classes: Wanted = None,
        conditions: RequestedConditions | None = None,
        given: Mapping[str, Tensor] | None = None,
        size: Sequence[int] | None = None,
        overlap: float = OVERLAP,
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
            conditions: requested conditions, such as ``{"age": 63}``, one value for all samples or
                one for each; others vary. See :meth:`ask`.
            given: other conditioning, a tensor [n, ...] for each name, such as
                ``low_res`` of a model of super-resolution.
            size: spatial size, by default that of the training. What is larger is drawn as
                overlapping tiles of that size, as in :meth:`upscale`; what is smaller is the middle
                of a sample of that size.
            overlap: share of a tile that neighbors share, at the least.
            settings: of sampling, such as ``steps=10`` or ``sampler="unipc_3"``; see :meth:`plan`.

        Raises:
            ValueError: an unknown class or setting, more steps than the process has, or tensors
                of another number of rows.
        """
        plan = self.plan(**settings)
        if conditions is not None:
            given = {**(given or {}), "conditions": self.ask(n, conditions)}
        requested = Requested(n, seed, classes, given)
        if size is None:
            return torch.cat([batch.x for batch in draw_batches(self, plan, requested)])
        tiling = build_sample_tiling(self.config, size, overlap)
        batches = draw_batches(self, tiling.around(plan), sized(requested, tiling))
        return torch.cat([tiling.crop(batch.x) for batch in batches])

    def restore(
        self,
        measured: Tensor,
        operator: Operator,
        *,
        method: str | None = None,
        noise: float = 0.0,
        seed: int = 0,
        classes: Wanted = None,
        given: Mapping[str, Tensor] | None = None,
        overlap: float = OVERLAP,
        start: int = 0,
        on_batch: Callable[[], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw items that fit what a known linear operator has measured of them.

        Items of another size than the training's are drawn as in :meth:`sample`. Item k depends on
        ``seed`` and its number alone. Without noise the result has the given measurements: those of
        a mask and of subsampling bit for bit.

        Args:
            measured: [N, *operator.measured_shape], where the data spans -1 to 1.
            operator: of :mod:`iddpm.sampling.operators`, for items of the size that is wanted.
            method: ``"pigdm"`` (the default), ``"mmps"`` or ``"ddnm"``; see
                :mod:`iddpm.sampling.restoration`.
            noise: standard deviation of the measurement's noise.
            seed, classes, given, overlap, start, on_batch, settings: as in :meth:`upscale`; by
                default DDIM with fresh noise (eta 1) at even timesteps.

        Returns:
            [N, C, *spatial] on the CPU, about [-1, 1].

        Raises:
            ValueError: a model of another task, a shape, method or setting that does not fit it.
        """
        return restore(
            self,
            measured,
            operator,
            Requested(len(measured), seed, classes, given, start=start),
            Restoration(method, noise, overlap),
            on_batch=on_batch,
            settings=settings,
        )

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
        on_state: Callable[[Tensor], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Upscale data [N, C, *spatial] in [-1, 1] of any size by ``scale`` along each axis.

        Larger data than in training is drawn as overlapping tiles whose estimates are averaged at
        every step (:func:`~iddpm.sampling.tiled`); smaller data is mirrored at its ends. Item k
        depends only on ``seed`` and its number.

        Args:
            low_res: low resolutions of one size.
            seed: any integer.
            classes: one class for all, or one per item; by default none.
            given: other conditioning, as in :meth:`sample`.
            overlap: share of a tile that neighbors share, at the least.
            start: number of the first item.
            on_batch: called after every batch of tiles.
            on_state: called after every batch of tiles with the newest estimates
                [M, C, *upscaled] of the M items that are drawn together: those of their tiles,
                at first the interpolated ``low_res``. Later calls change the tensor.
            settings: of sampling; ``batch_size`` is the number of tiles per batch, which bounds the
                memory apart from some tensors of the result's size.

        Returns:
            [N, C, *upscaled] on the CPU, about [-1, 1].

        Raises:
            ValueError: a model of another task, a shape or setting that does not fit it, or no
                class for one that was trained with one for every item.
        """
        requested = Requested(len(low_res), seed, classes, given, start=start)
        hooks = UpscaleHooks(on_batch, on_state)
        return upscale(self, low_res, requested, overlap=overlap, hooks=hooks, settings=settings)

    def upscale_mean(
        self,
        low_res: Tensor,
        average: int = 8,
        *,
        seed: int = 0,
        classes: Wanted = None,
        given: Mapping[str, Tensor] | None = None,
        overlap: float = OVERLAP,
        start: int = 0,
        on_batch: Callable[[], None] | None = None,
        on_state: Callable[[Tensor], None] | None = None,
        **settings: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean of ``average`` samples of each item, and their standard deviation.

        The samples are those of :meth:`upscale` with the seeds ``seed``, ``seed + 1``, ..., clamped
        to [-1, 1]; the other arguments and errors are its own. The mean is nearest to the truth in
        mean square and smoother than it. The standard deviation, in units of the data in [-1, 1],
        indicates the distance of the truth from the mean; of one sample it is 0.

        Raises:
            ValueError: as :meth:`upscale`, or fewer than 1 to average.
        """
        return upscale_mean(
            self,
            low_res,
            Requested(len(low_res), seed, classes, given, start=start),
            average,
            overlap=overlap,
            hooks=UpscaleHooks(on_batch, on_state),
            settings=settings,
        )

    def plan(self, **settings: Any) -> SamplingPlan:
        """Return a sampling plan: the run's settings of sampling with some changed.

        Args:
            classifier: directory of a guiding classifier; by default none.
            classifier_scale: its scale; 1 samples p(x) p(y | x), more exaggerates the class.
            classifier_form: ``"score"`` for every sampler, ``"clip_then_score"`` in the published
                order, or ``"mean"`` for ddpm (the published form).
            autoguidance: a weaker model to guide away from: an earlier checkpoint's step, or a run;
                by default none.
            autoguidance_scale: its scale, by default 2; 1 is the model alone.
            settings: of :class:`~iddpm.config.SamplingConfig`; None leaves one unchanged.

        Raises:
            ValueError: an unknown setting, or a setting or guide that does not fit the model.
            FileNotFoundError: no such classifier, checkpoint or run; no table of steps yet.
        """
        return plan_sampling(self, **settings)

    def walk(self, **settings: Any) -> SamplingPlan:
        """Return :meth:`plan`; its name in version 0.1, deprecated."""
        warnings.warn("Run.walk is now called Run.plan", DeprecationWarning, stacklevel=2)
        return self.plan(**settings)

    def sample_batches(
        self,
        n: int,
        plan: SamplingPlan | None = None,
        *,
        seed: int = 0,
        classes: Wanted = None,
        given: Mapping[str, Tensor] | None = None,
        size: Sequence[int] | None = None,
        start: int = 0,
        turns: slice = slice(None),
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Iterator[SampleBatch]:
        """Draw samples and yield each batch when it is finished; arguments as in :meth:`sample`.

        Everything is checked before the first batch. ``on_step`` is called after every step
        with the number of steps taken and the state, [N, C, *spatial]; first with 0 and the noise.
        ``start`` is the number of the first sample, for continuing a set, and ``turns`` selects
        batches, for sharing them among processes; row 0 of ``given`` belongs to ``start``.
        ``size`` is the spatial size, that of the data by default.
        """
        requested = Requested(n, seed, classes, given, size, start)
        return draw_batches(self, plan or self.plan(), requested, turns=turns, on_step=on_step)

    def ask(self, n: int, conditions: RequestedConditions | None = None) -> Tensor:
        """Return the requested conditions of ``n`` samples, float64 [n, K].

        Args:
            n: how many.
            conditions: by name, a value for all, one for each, or text: ``"20..80"`` is spread over
                the samples and ``"20,40"`` alternates. Missing names, None and empty text mean
                unknown.

        Raises:
            ValueError: an unknown condition or class, text where a number belongs, or a condition
                without a value that always had one in training (training.label_dropout=0).
        """
        return requested_conditions(self, n, conditions)


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
    """Open a run and read its weights; arguments and errors as for :class:`Run`.

    >>> import tempfile
    >>> import numpy as np
    >>> from iddpm import load, train
    >>> from iddpm.training.monitoring.terminal import SilentReporter
    >>> images = np.random.default_rng(0).integers(0, 256, (8, 8, 8), np.uint8)
    >>> tiny = ["model.model_channels=8", "model.channel_mult=[1]", "model.num_res_blocks=1"]
    >>> tiny += ["training.steps=2", "training.preview_every=0"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(images, settings=tiny, out=f"{folder}/run", reporter=SilentReporter())
    ...     again = load(f"{folder}/run")
    ...     print(again.config.model.size, again.ema)
    (8, 8) None
    """
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

"""The parts of a training step and its loop."""

import warnings
from functools import partial
from typing import Any

from torch import Tensor, nn

from iddpm.builders.few_steps import build_distillation_timesteps
from iddpm.builders.load_choice import load
from iddpm.builders.network import build_diffusion
from iddpm.config import HybridLoss, OwnLoss, ResolvedConfig, VLBLoss
from iddpm.config.choices import TIMESTEP_SAMPLERS, WeightedChoice
from iddpm.data.augment import Augmentation, Flip, random_crop
from iddpm.data.sources.volumes import left_right_axis
from iddpm.diffusion import Denoiser, losses
from iddpm.diffusion.losses import LossTerms
from iddpm.runtime.processes import Ranks
from iddpm.training.ema import EMA
from iddpm.training.loop_settings import LoopSettings
from iddpm.training.noise_assignment import BOUND_SHARE, NearestNoise, check_solver
from iddpm.training.power import PowerEMA
from iddpm.training.step import Loss
from iddpm.training.timesteps import DecoderTimesteps, PureNoiseTimesteps, TimestepSampler


def build_loss(config: ResolvedConfig, own: Loss | None = None) -> Loss:
    """Return the loss with its options filled in, or an own one with its result checked."""
    loss = config.diffusion.loss
    if isinstance(loss, OwnLoss):
        if own is None:
            raise ValueError(
                f"this run was trained with your own loss, {loss.name}, which a run never "
                "imports: pass it as iddpm.train(..., loss=...)"
            )
        return partial(_checked_loss, own)
    if isinstance(loss, VLBLoss):
        return partial(losses.vlb, bits=config.bits)
    weighting = None
    if loss.weighting.home is not None:
        options = loss.weighting.model_dump(exclude={"kind"})
        options |= {name: getattr(config.diffusion, name) for name in loss.weighting.shared}
        weighting = partial(load(loss.weighting.home), **options)
    if isinstance(loss, HybridLoss):
        return partial(
            losses.hybrid,
            vb_weight=loss.vb_weight,
            space=loss.space,
            weighting=weighting,
            bits=config.bits,
        )
    return partial(losses.simple, space=loss.space, weighting=weighting)


def _checked_loss(
    own: Loss, denoiser: Denoiser, x0: Tensor, t: Tensor, noise: Tensor, **options: Any
) -> LossTerms:
    """Call an own loss; a tensor [N] is a loss without parts."""
    terms: Any = own(denoiser, x0, t, noise, **options)
    if isinstance(terms, Tensor):
        terms = LossTerms(terms, None, None)
    if not isinstance(terms, LossTerms):
        raise ValueError(
            f"the loss returned a {type(terms).__name__}: it must return a tensor with one "
            "value per item, or iddpm.LossTerms"
        )
    for value in terms:
        if value is not None and value.shape != (len(x0),):
            raise ValueError(
                f"the loss returned shape {tuple(value.shape)} for {len(x0)} items: it must "
                f"return one value per item, shape ({len(x0)},), not their mean"
            )
    return terms


def build_timesteps(config: ResolvedConfig) -> TimestepSampler:
    """Build the distribution over timesteps."""
    if config.distillation is not None:
        return build_distillation_timesteps(config, config.distillation)
    num_steps = config.diffusion.num_steps
    row = TIMESTEP_SAMPLERS[config.training.timestep_sampler]
    if isinstance(row, WeightedChoice):
        weighting = getattr(config.diffusion.loss, "weighting", None)
        assert weighting is not None, "the settings see to it"
        options = weighting.model_dump(exclude={"kind"})
        sampler: TimestepSampler = load(row.home)(build_diffusion(config).schedule, **options)
    else:
        sampler = load(row.home)(num_steps)
    if config.diffusion.learns_decoder:
        sampler = DecoderTimesteps(sampler, num_steps)
    share = config.training.pure_noise_share
    return PureNoiseTimesteps(sampler, num_steps, share) if share else sampler


def build_assignment(config: ResolvedConfig) -> NearestNoise | None:
    """Return what exchanges the noise of a batch, or None.

    Raises:
        ValueError: scipy is not installed.
    """
    if config.training.noise_assignment == "none":
        return None
    check_solver()
    return NearestNoise(BOUND_SHARE if config.diffusion.loss.kind == "hybrid" else 0.0)


def check_sharing(config: ResolvedConfig, ranks: Ranks, own: nn.Module | None = None) -> None:
    """Raise ValueError if the ranks cannot train together, with an own network if there is one."""
    training, count = config.training, ranks.count
    size = training.batch_size
    if size % count:
        raise ValueError(
            f"training.batch_size={size} is the batch of all {count} processes together and "
            f"must be divisible by their number: use {max(size // count, 1) * count}, or "
            "another multiple"
        )
    if count > 1 and training.on_out_of_memory == "halve":
        raise ValueError(
            f"training.on_out_of_memory=halve works with one process, and there are {count}: "
            "set a smaller training.microbatch"
        )
    if count > 1 and training.parallel == "fsdp" and training.precision == "fp16":
        raise ValueError(
            "training.parallel=fsdp does not support the loss scaling of "
            "training.precision=fp16: use bf16 or float32, or parallel=ddp"
        )
    if count > 1 and training.parallel == "fsdp" and training.optimizer == "muon":
        raise ValueError(
            "training.optimizer=muon needs whole matrices, and training.parallel=fsdp splits them "
            "by rows: use parallel=ddp, or optimizer=adamw"
        )
    if count > 1 and training.parallel == "fsdp" and own is not None:
        scalars = [name for name, value in own.named_parameters() if value.dim() == 0]
        if scalars:
            raise ValueError(
                "training.parallel=fsdp splits each parameter along its first axis, which "
                f"{scalars[0]} of your network does not have: give it the shape [1], or use "
                "parallel=ddp"
            )


def build_averages(config: ResolvedConfig, network: nn.Module) -> list[EMA]:
    """Return the averages of a network: the released one first."""
    training = config.training
    posthoc = training.posthoc_ema
    return [
        *(EMA(network, rate, warmup=training.ema_warmup) for rate in training.ema_rates),
        *(PowerEMA(network, length) for length in (posthoc.lengths if posthoc else ())),
    ]


def build_loop_settings(config: ResolvedConfig) -> LoopSettings:
    """Return the settings of the loop."""
    training = config.training
    return LoopSettings(
        total_steps=training.steps,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        anneal=training.anneal == "linear",
        inverse_sqrt=training.anneal == "inverse_sqrt",
        log_every=training.log_every,
        save_every=training.save_every,
        save_seconds=None if training.save_minutes is None else 60 * training.save_minutes,
        keep_checkpoints=training.keep_checkpoints,
        snapshot_every=training.posthoc_ema.every or 0 if training.posthoc_ema else 0,
        preview_every=training.preview_every,
        validate_every=training.validate_every,
        max_seconds=training.max_time,
        max_bad_steps=training.max_bad_steps,
    )


def build_augmentations(config: ResolvedConfig) -> list[Augmentation]:
    """Return the augmentations of resolved settings in the order they are applied."""
    chosen: list[Augmentation] = []
    if config.data.random_crop:
        chosen.append(random_crop)
    if config.data.flip:
        affine = config.form.affine if config.form is not None else None
        chosen.append(Flip() if affine is None else Flip(left_right_axis(affine)))
    return chosen


def check_flip(config: ResolvedConfig) -> None:
    """Check what ``data.flip`` of resolved settings would mirror, and return a note about it.

    Raises:
        ValueError: signals, which have no left and right, or an affine that does not tell them.
    """
    if not config.data.flip:
        return
    dims, form = len(config.model.size), config.form
    if dims == 1:
        raise ValueError(
            "data.flip=true mirrors left and right, which signals do not have: set data.flip=false"
        )
    if form is not None and form.affine is not None:
        left_right_axis(form.affine)
    elif dims == 3 and form is not None and form.kind not in ("clip", "raster"):
        warnings.warn(
            f"{config.data.path} has no affine that gives the left-right axis: data.flip "
            "mirrors its last axis; save volumes as NIfTI to mirror another one",
            stacklevel=3,
        )

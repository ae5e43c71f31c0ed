"""Monitoring during training: the held-out loss and a grid of samples."""

from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders import build_denoiser, build_sampling_plan, task_of
from iddpm.builders.run_data import Split, on_device, shuffled
from iddpm.config import ResolvedConfig
from iddpm.data.batches import Batch, held_out_batches
from iddpm.data.writers.comparison import save_side_by_side
from iddpm.data.writers.image_files import save_grid
from iddpm.networks.cast_weights import cast_weights
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.sampling import SampleNoise
from iddpm.tasks.few_step_validation import build_few_step_validation
from iddpm.tasks.preview_copies import PreviewCopies, warning_of
from iddpm.training.loop_settings import Drawn, Preview, Validate, preview_path
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep
from iddpm.training.validation import held_out_loss

HELD_OUT_ITEMS = 1024
"""Number of held-out items for the loss during training; more would cost time."""
PREVIEW_ITEMS = 16


def build_validation(
    config: ResolvedConfig,
    split: Split,
    step: TrainStep,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Validate | None:
    """Return the function that measures the held-out loss, if anything is held out.

    Distilled models are measured by their samples.

    All ranks call it, and share the items.
    """
    made = config.distillation
    if made is not None:
        return build_few_step_validation(config, made, split, step.precision, ranks)
    chosen = split.held_out[:HELD_OUT_ITEMS]
    if not len(chosen):
        return None
    size = config.training.microbatch or config.training.batch_size

    def held_out(start: int, stop: int) -> tuple[Tensor, dict[str, Any]]:
        part = held_out_batches(split.source, chosen[start:stop], batch_size=size)
        return next(on_device(part, config, device))

    def validate(network: nn.Module) -> float:
        return held_out_loss(
            task_of(config).learner(network),
            step.loss_of(0),
            held_out,
            len(chosen),
            step.precision,
            batch_size=size,
            ranks=ranks,
        )

    return validate


def build_preview(
    config: ResolvedConfig,
    directory: Path,
    precision: Precision,
    split: Split,
    ranks: Ranks = ALONE,
) -> Preview | None:
    """Return the function that draws a grid of samples with the averaged weights, if it can.

    If the network is conditioned on more than a class, the conditioning is that of held-out items.
    For super-resolution and paired data, the conditioning, the sample and the true item are shown
    side by side.

    All ranks draw the same samples, which takes no longer: a sharded network needs them all, and
    the others would wait for the first anyway. Only the first writes.
    """
    task = task_of(config)
    if not task.draws:
        return None
    model = config.model
    conditioned = task.takes_low_res or model.conditions or model.given_channels
    shown = _shown(split) if conditioned else None
    count = PREVIEW_ITEMS if shown is None else len(shown.x)
    channels, size = model.channels, model.size
    steps = min(config.sampling.steps, config.diffusion.num_steps)
    sampling = config.sampling.model_copy(update={"steps": steps})
    if sampling.needs_trained:  # nothing is measured while the weights still change
        sampling = sampling.model_copy(update={"spacing": "auto", "variance": "trained"})

    copies = None if task.takes_low_res or model.given_channels else PreviewCopies(split)

    def preview(step: int, network: nn.Module) -> Drawn | None:
        plan = build_sampling_plan(config, build_denoiser(config, network), sampling)
        truth: Tensor | None = None
        conditioning: dict[str, Any] = {}
        if shown is not None:
            truth = shown.to(precision.device).x
            _, conditioning = next(on_device([shown], config, precision.device))
        elif model.num_classes is not None:
            classes = torch.arange(PREVIEW_ITEMS) % model.num_classes
            conditioning["y"] = classes.to(precision.device)
        drawn = []
        for start in range(0, count, sampling.batch_size):
            rows = slice(start, start + sampling.batch_size)
            some = {name: value[rows] for name, value in conditioning.items()}
            shape = (len(range(count)[rows]), channels, *size)
            noise = SampleNoise(0, shape, start, device=precision.device)
            with precision.autocast(), cast_weights(network, precision.dtype):
                last = deque(plan.states(noise, **some), maxlen=1)[0]
            drawn.append(last.x.cpu())
        if not ranks.first:
            return None
        x = torch.cat(drawn)
        path = preview_path(directory, step)
        film = config.form is not None and config.form.kind == "clip"
        before = conditioning.get("low_res", conditioning.get("given"))
        if before is None:
            measured = {} if copies is None else copies.measure(x)
            return Drawn(save_grid(x, path, film=film), measured, warning_of(measured))
        assert truth is not None
        return Drawn(save_side_by_side(path, before.cpu(), x, truth.cpu(), film=film))

    return preview


def costs_in_steps(
    config: ResolvedConfig, split: Split, ranks: Ranks = ALONE
) -> tuple[float, float]:
    """Estimate the time of a validation and of a preview in training steps.

    A step takes a forward and a backward pass, which is twice as long; they take forward passes.
    """
    own = config.training.batch_size / ranks.count
    held_out = min(len(split.held_out), HELD_OUT_ITEMS) / ranks.count
    drawn = PREVIEW_ITEMS * min(config.sampling.steps, config.diffusion.num_steps)
    return held_out / own / 3, drawn / own / 3 if task_of(config).draws else 0.0


def _shown(split: Split) -> Batch:
    """Return the items whose conditioning previews use: held-out items, or else training items."""
    items = split.held_out if len(split.held_out) else split.train
    some = shuffled(items)[:PREVIEW_ITEMS]
    return next(held_out_batches(split.source, some, batch_size=PREVIEW_ITEMS))

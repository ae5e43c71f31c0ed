"""A self-supervised encoder for data without labels: VICReg (Bardes et al. 2022) on views of items.

Two views of an item are a random box of it, enlarged again, mirrored and with another contrast.
Outputs of the two are to agree, to vary over items and not to repeat each other. Half of the views
are noisy or blurred, and the features are to say by how much: otherwise they learn to overlook just
what samples are to be blamed for. The outputs may overlook it: two layers lie between.

The network is an encoder of ours and is written as ``iddpm train-classifier`` writes a classifier,
so that ``iddpm evaluate --features`` takes it; the classes stand for the outputs and mean nothing.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.recipes.corruptions import blurred
from iddpm.builders import build_diffusion, build_encoder
from iddpm.builders.run_data import Split, open_to_train
from iddpm.config import ResolvedConfig, read_config
from iddpm.config.run_config import CONFIG, WEIGHTS, written_settings
from iddpm.data.sources.volumes import left_right_axis
from iddpm.networks import EncoderUNet
from iddpm.runs.sealed_settings import seal
from iddpm.runtime.atomic_files import write_atomically, write_text
from iddpm.tasks.real_statistics import read_items
from iddpm.training.checkpoints.weights import write_sealed
from iddpm.training.ema import EMA

OUTPUTS = 128
"""Numbers that the loss compares: more than there are features, as in the paper."""
RATE, WARMUP = 2e-3, 100
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the three terms (section 4.2)."""
SMALLEST_BOX = 0.6
"""Side of a view's box as a share of the item's."""
CONTRAST = 0.2
"""Half the range of the factor of a view's values."""
NOISE, BLUR = 0.4, 2.0
"""The most damage: noise as a share of the data's spread, and positions."""
DAMAGE = 25.0
"""Weight of the squared error of the damage, each kind in units of the most."""
UNCHANGED = 0.2
"""Share of the views that are the item itself, which is what is measured later."""
ITEMS = 5000
"""Training items that are taken, evenly spread: crops of a volume overlap."""


def train_encoder(
    data: Path | str, settings: Mapping[str, Any], steps: int, batch: int, out: Path
) -> dict[str, Any]:
    """Train an encoder on the training items of data and write it.

    Args:
        data: path or name.
        settings: nested: how data is read, and the network.
        steps: of the optimizer.
        batch: items in each, two views of all of them.
        out: the directory to write.

    Returns:
        What it was trained with, for JSON.
    """
    started = time.monotonic()
    wanted = read_config(None, [f"data.path={data}"], dict(settings))
    resolved, split = open_to_train(wanted)
    config = as_encoder(resolved)
    items = _training_items(split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_encoder(config)
        average = _fit(network, config, items, steps, batch)
    write_text(out / CONFIG, written_settings(config))
    facts = {"settings": seal(config)}
    weights = average.network.state_dict()
    write_atomically(out / WEIGHTS, lambda to: write_sealed(to, weights, facts))
    minutes = (time.monotonic() - started) / 60
    return {"steps": steps, "items": len(items), "minutes": round(minutes, 3)}


def as_encoder(config: ResolvedConfig) -> ResolvedConfig:
    """Return the settings of an encoder of the data of these settings."""
    names = tuple(f"output {k}" for k in range(OUTPUTS))
    model = config.model.model_copy(update={"pool": "adaptive"})
    return config.model_copy(
        update={"task": "classification", "class_names": names, "model": model}
    )


def _training_items(split: Split) -> Tensor:
    some = split.train[torch.linspace(0, len(split.train) - 1, min(ITEMS, len(split.train))).long()]
    return read_items(split.source, some)


def _fit(
    network: EncoderUNet, config: ResolvedConfig, items: Tensor, steps: int, batch: int
) -> EMA:
    """Train and return the average of the weights."""
    shown = build_diffusion(config).schedule.shown[:1].float()
    # Between features and outputs, two layers that are thrown away.
    width = network.widths[-1]
    expander = nn.Sequential(
        nn.Linear(width, OUTPUTS), nn.BatchNorm1d(OUTPUTS), nn.ReLU(), nn.Linear(OUTPUTS, OUTPUTS)
    )
    parameters = [*network.parameters(), *expander.parameters()]
    damage_head = nn.Linear(width, 2)
    parameters += damage_head.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-4, fused=True)
    average = EMA(network, 0.99)
    spread, mirror = float(items.std()), mirrored_axis(config)
    size = min(batch, len(items))
    for step in range(steps):
        rise = min(1.0, (step + 1) / WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        x = items[torch.randint(len(items), (size,))]
        views = [damaged(view(x, mirror), spread) for _ in range(2)]
        both, damage = (torch.cat(part) for part in zip(*views, strict=True))
        features = network.features(both, shown.expand(len(both)))
        loss = vicreg(*expander(features).split(size))
        loss = loss + DAMAGE * F.mse_loss(damage_head(features), damage)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(network)
    return average


def mirrored_axis(config: ResolvedConfig) -> int | None:
    """Return the spatial axis from left to right, from 0 on; None for signals."""
    axes = len(config.model.size)
    affine = None if config.form is None else config.form.affine
    return None if axes == 1 else axes - 1 if affine is None else left_right_axis(affine)


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Return the loss of outputs [N, d] of two views of N items."""
    loss = INVARIANCE * F.mse_loss(a, b)
    for z in (a, b):
        centered = z - z.mean(dim=0)
        deviation = (centered.square().mean(dim=0) + 1e-4).sqrt()
        covariance = centered.T @ centered / (len(z) - 1)
        off_diagonal = covariance - covariance.diag().diag()
        loss = loss + VARIANCE / 2 * F.relu(1 - deviation).mean()
        loss = loss + COVARIANCE / 2 * off_diagonal.square().sum() / z.shape[1]
    return loss


def view(x: Tensor, mirror: int | None) -> Tensor:
    """Return random views of items [N, C, *spatial] in [-1, 1], of the same shape.

    Args:
        x: the items.
        mirror: the spatial axis, from 0 on, along which half of them are mirrored; None for none.
    """
    count, dims = len(x), x.dim() - 2
    flat = x.unsqueeze(2) if dims == 1 else x  # a signal is a picture of one row
    axes = max(dims, 2)
    side = torch.empty(count, 1).uniform_(SMALLEST_BOX, 1)
    shift = torch.empty(count, axes).uniform_(-1, 1) * (1 - side)
    scale = side.repeat(1, axes)
    if mirror is not None:  # the sampling grid counts axes from the last on
        scale[:, dims - 1 - mirror] *= torch.randint(0, 2, (count,)) * 2 - 1
    if dims == 1:
        scale[:, 1], shift[:, 1] = 1, 0
    theta = torch.cat([torch.diag_embed(scale), shift[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    boxes = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).reshape(x.shape)
    ones = [1] * (x.dim() - 1)
    factor = torch.empty(count, *ones).uniform_(1 - CONTRAST, 1 + CONTRAST)
    same = torch.rand(count, *ones) < UNCHANGED
    return torch.where(same, x, boxes * factor)


def damaged(x: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Return items [N, ...] of which a quarter is noisy and a quarter blurred, and by how much.

    The second tensor, [N, 2], is the noise and the blur in units of the most.
    """
    count = len(x)
    kind = torch.randint(0, 4, (count,))
    share = torch.rand(count) * (kind == 0)
    noise = torch.randn_like(x) * (NOISE * spread * share).reshape(-1, *[1] * (x.dim() - 1))
    x = x + noise
    blur, chosen = torch.rand(()), kind == 1
    if bool(chosen.any()):
        x[chosen] = blurred(x[chosen], max(BLUR * float(blur), 0.1))
    return x, torch.stack([share, blur * chosen], dim=1)

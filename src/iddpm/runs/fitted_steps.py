"""Timesteps fitted to a run's own denoiser, kept in its cache."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from iddpm.builders.run_data import on_device
from iddpm.data.batches import held_out_batches
from iddpm.diffusion import Denoise, Level, Prediction
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.step_tables import CACHE, spread, weights_digest
from iddpm.runtime.atomic_files import write_atomically
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.errors import warned
from iddpm.sampling import SampleNoise, clip_x0
from iddpm.sampling.fitted_spacing import FittedSteps, candidate_timesteps, step_errors

FORMAT = 1
TRAJECTORIES = 32
VALUES = 2**20
"""Numbers in the items of all trajectories, at most: fewer trajectories of large items."""


def fitted_steps(run: OpenedRun, console: Console | None = None) -> FittedSteps:
    """Return the steps fitted to a run's model, from its cache unless the weights have changed.

    They are fitted to trajectories of the model without guidance. Its conditioning is that of
    training items, or a class each where the model has classes alone.

    Args:
        run: the model.
        console: for progress.

    Raises:
        ValueError: trajectories that are not finite.
    """
    key = {
        "format": FORMAT,
        "weights": weights_digest(run.denoiser),
        "diffusion": run.config.diffusion.model_dump(mode="json"),
        "clip": run.config.sampling.clip,
    }
    text = json.dumps(key, sort_keys=True)
    name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    path = run.directory / CACHE / f"fitted_{name}.safetensors"
    known = _read(path, key)
    if known is not None:
        return known
    console = console or open_console()
    made = _fit(run, console)
    tensors = {"positions": made.positions, "errors": made.errors.contiguous()}
    facts = {"key": text, "checksum": _checksum(tensors)}
    with warned("the fitted steps are not kept"):
        write_atomically(path, lambda temporary: save_file(tensors, temporary, facts))
        console.print(f"fitted steps to the model's trajectories: wrote {path}", markup=False)
    return made


def _fit(run: OpenedRun, console: Console) -> FittedSteps:
    """Draw trajectories and measure the errors of steps between their levels."""
    schedule = run.denoiser.diffusion.schedule
    positions = candidate_timesteps(schedule)
    numel = int(torch.tensor(run.shape).prod())
    count = max(1, min(TRAJECTORIES, VALUES // numel))
    conditioning = _conditioning(run, count)
    count = min([count, *(len(value) for value in conditioning.values())])
    model = clip_x0(run.denoiser) if run.config.sampling.clip else run.denoiser
    denoise: Denoise = partial(model, **conditioning)
    with progress_bar(console, "fitting steps") as progress:
        task = progress.add_task("levels", total=len(positions))

        def counted(x_t: Tensor, level: Level, /, **more: Any) -> Prediction:
            progress.advance(task)
            return denoise(x_t, level, **more)

        errors = step_errors(
            counted,
            schedule.respace(positions),
            SampleNoise(0, (count, *run.shape), device=run.device).initial(),
            self_condition=run.denoiser.self_condition,
        )
    return FittedSteps(torch.tensor(positions, dtype=torch.float64), errors)


def _conditioning(run: OpenedRun, count: int) -> dict[str, Tensor]:
    """Return what the model is conditioned on in the trajectories, on its device."""
    model = run.config.model
    if not (run.task.takes_low_res or model.conditions or model.given_channels):
        if run.classes is None:
            return {}
        return {"y": (torch.arange(count) % run.classes.count).to(run.device)}
    source, train, _ = run.open_split()
    batch = next(held_out_batches(source, spread(train, count), batch_size=count))
    _, conditioning = next(on_device([batch], run.config, run.device))
    return {name: value for name, value in conditioning.items() if value is not None}


def _read(path: Path, key: Mapping[str, Any]) -> FittedSteps | None:
    """Return steps from a file; None if it is missing, damaged or of another model."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in ("positions", "errors")}
        if json.loads(facts["key"]) != key or facts["checksum"] != _checksum(tensors):
            return None
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        return None
    return FittedSteps(tensors["positions"], tensors["errors"])


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()

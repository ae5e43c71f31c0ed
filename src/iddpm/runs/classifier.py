"""A trained classifier, opened again: for guidance, for features and for accuracy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iddpm.builders import build_diffusion, build_encoder, place, task_of
from iddpm.builders.run_data import on_device, open_split
from iddpm.config import ResolvedConfig
from iddpm.data.batches import held_out_batches
from iddpm.diffusion import NoiseSchedule
from iddpm.networks import EncoderUNet
from iddpm.runs.layout import read_run_config, read_run_weights
from iddpm.runs.sealed_settings import settings_in
from iddpm.runtime.seeds import normal
from iddpm.training.checkpoints.state import load_weights
from iddpm.training.checkpoints.weights import hash_weights, read_released
from iddpm.training.classification import NoisyClassifier
from iddpm.training.precision import choose_device

SETTINGS: dict[str, Any] = {
    "model": {"model_channels": 32, "num_res_blocks": 1, "attention_downsampling": []},
    "training": {
        "steps": 2000,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "warmup_steps": 100,
        "anneal": "linear",
        "ema_rates": [0.99],
        "log_every": 100,
        "validate_every": 500,
    },
}
"""A small network that learns fast; a file and ``-s`` override it."""
NOISE_LEVELS = 4
"""Number of timesteps, evenly spread from the least noisy on, of the accuracy."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier of noisy data.

    Attributes:
        network: frozen, in evaluation mode; called as ``network(x_t, shown)`` with x_t
            [N, C, *spatial] and the time input [N]; returns logits [N, K].
        config: the settings it was trained with.
        schedule: its noise schedule.
        device: its device.
        hash: SHA-256 of the weights, in hexadecimal.
    """

    network: EncoderUNet
    config: ResolvedConfig
    schedule: NoiseSchedule
    device: torch.device
    hash: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the logits."""
        return self.config.class_names

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the data it was trained on."""
        return self.config.model.shape

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the inputs of the last layer for clean data, [N, d] on the CPU.

        Args:
            x: [N, C, *spatial], about [-1, 1].

        Raises:
            ValueError: data of another shape than the classifier's.
        """
        shown = self._clean(x)
        return self.network.features(x.to(self.device), shown).float().cpu()

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of clean data, [N, K] on the CPU; otherwise as :meth:`features`."""
        shown = self._clean(x)
        logits: Tensor = self.network(x.to(self.device), shown)
        return logits.float().cpu()

    def _clean(self, x: Tensor) -> Tensor:
        """Return the time input of clean data after checking its shape."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"the classifier was trained on items of shape {self.shape} and was given "
                f"{tuple(x.shape[1:])}"
            )
        shown = self.schedule.shown[:1].to(device=self.device, dtype=torch.float32)
        return shown.expand(len(x))


def load_classifier(path: Path | str, device: str = "auto") -> Classifier:
    """Open a classifier that ``iddpm train-classifier`` made, or its ``model.safetensors`` alone.

    Raises:
        FileNotFoundError: no such directory or file, or nothing trained in it.
        ValueError: it holds another kind of model, or is damaged.
    """
    path = Path(path)
    config = settings_in(path) if path.is_file() else read_run_config(path)
    task_of(config).check_classifies(path)
    network = build_encoder(config)
    if path.is_file():
        weights, source = read_released(path), path
    else:
        weights, source = read_run_weights(path, config)
    load_weights(network, weights, source)
    where = choose_device(device)
    place(network.eval().requires_grad_(False), where, config.training.kernels)
    schedule = build_diffusion(config).schedule
    return Classifier(network, config, schedule, where, hash_weights(weights))


def held_out_accuracy(classifier: Classifier, batch_size: int = 256) -> dict[int, float]:
    """Return the accuracy on held-out items by timestep: clean and three noisier ones.

    Empty when nothing was held out.
    """
    source, _, items = open_split(classifier.config)
    num_steps = len(classifier.schedule)
    diffusion = build_diffusion(classifier.config)
    model = NoisyClassifier(classifier.network, diffusion)
    right = dict.fromkeys([num_steps * q // NOISE_LEVELS for q in range(NOISE_LEVELS)], 0)
    done = 0
    batches = held_out_batches(source, items, batch_size=batch_size)
    for x, conditioning in on_device(batches, classifier.config, classifier.device):
        noise = torch.from_numpy(normal(0, "accuracy noise", x.shape, start=done)).to(x.device)
        for step in right:
            t = torch.full((len(x),), step)
            with torch.no_grad():
                logits = model(diffusion.q_sample(x, t, noise), t)
            right[step] += int((logits.argmax(dim=1) == conditioning["y"]).sum())
        done += len(x)
    return {step: count / done for step, count in right.items()} if done else {}

"""The classifier whose features the benchmarks on MNIST measure distances with."""

from pathlib import Path

import torch
from mnist import digits
from torch import Tensor

from iddpm.classifier import Classifier
from iddpm.cli import run as command_line

SETTINGS = ["-s", "model.model_channels=16", "-s", "model.channel_mult=[1,2,4]"]
"""64 features."""
BATCH = 500


def ensure_classifier(folder: Path) -> Path:
    """Train it unless it is there, as ``iddpm train-classifier`` does, and return its folder."""
    if not (folder / "model.safetensors").is_file():
        out = ["--steps=1500", "--out", str(folder)]
        status = command_line(["train-classifier", digits(), *SETTINGS, *out])
        if status:
            raise SystemExit(status)
    return folder


def features(judge: Classifier, x: Tensor) -> Tensor:
    """Return the features [N, d] of ``x`` [N, C, H, W] in [-1, 1]."""
    return torch.cat([judge.features(part) for part in x.split(BATCH)])

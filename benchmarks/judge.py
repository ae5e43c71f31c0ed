"""The classifier whose features the benchmarks on MNIST measure distances with."""

from pathlib import Path

import torch
from mnist import digits
from torch import Tensor

from iddpm.builders.run_data import open_split
from iddpm.cli.main import run as command_line
from iddpm.config import Config
from iddpm.data.levels import to_model_range
from iddpm.evaluation.distances import Estimate, FrechetStats, frechet_estimate
from iddpm.evaluation.whitening import Whitening
from iddpm.runs.classifier import load_classifier

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


class Ruler:
    """Frechet distance to real items under the classifier's features, whitened by theirs.

    Args:
        folder: the classifier's.
        real: [N, C, H, W] in [-1, 1].
    """

    def __init__(self, folder: Path, real: Tensor) -> None:
        self.judge = load_classifier(ensure_classifier(folder))
        stats = FrechetStats.from_features(self._features(real))
        self.whitening = Whitening.of(stats)
        self.reference = self.whitening.stats(stats)

    def distance(self, x: Tensor) -> Estimate:
        """Return the distance of ``x`` [N, C, H, W] in [-1, 1] and its standard error."""
        return frechet_estimate(self.whitening(self._features(x)), self.reference)

    def _features(self, x: Tensor) -> Tensor:
        return torch.cat([self.judge.features(part) for part in x.split(BATCH)])


def training_items(config: Config) -> tuple[Tensor, Tensor]:
    """Return the items that a run is trained on and those held out, in [-1, 1]."""
    source, train, held_out = open_split(config)
    return (
        to_model_range(source.read_many(train), source.bits),
        to_model_range(source.read_many(held_out), source.bits),
    )

"""Validation of a distilled model by its samples: its loss is flat and says little."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from iddpm.builders import SamplingPlan, build_denoiser, build_sampling_plan
from iddpm.builders.run_data import Split, on_device, shuffled
from iddpm.config import ResolvedConfig
from iddpm.config.distillation import DistillationConfig
from iddpm.data.batches import held_out_batches
from iddpm.evaluation.distances import FrechetStats, frechet_distance
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.whitening import Whitening
from iddpm.runs.step_tables import spread
from iddpm.runtime.processes import Ranks
from iddpm.sampling import SampleNoise
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.real_statistics import read_items
from iddpm.training.loop_settings import Validate
from iddpm.training.precision import Precision

SAMPLES = 256
"""Samples per measurement, with the conditioning of as many items."""
REAL_ITEMS = 1024
"""Training items that the samples are compared with."""
MEASURED = 2
"""How many of the offered numbers of evaluations are measured: the lowest ones."""


def build_few_step_validation(
    config: ResolvedConfig,
    made: DistillationConfig,
    split: Split,
    precision: Precision,
    ranks: Ranks,
) -> Validate | None:
    """Return the function that measures samples of one and of two evaluations.

    It returns the Frechet distance of each to training items as ``frechet_1`` and ``frechet_2``,
    and their mean as ``held_out_loss``. Noise and conditioning, that of held-out items as far as
    there are enough, are always the same. All ranks call it and draw the same samples, since a
    sharded network needs them all. None if there are fewer than two items.
    """
    items = np.concatenate([shuffled(split.held_out), shuffled(split.train)])[:SAMPLES]
    if min(len(items), len(split.train)) < 2:
        return None
    compared = Compared(split.source.name, split.source, split.train, precision.device)
    extractor, _ = open_extractor(made.features, None, compared, ranks)
    real = _features(extractor, read_items(split.source, spread(split.train, REAL_ITEMS)))
    stats = FrechetStats.from_features(real)
    whitening = Whitening.of(stats) if extractor.whiten else None
    reference = stats if whitening is None else whitening.stats(stats)
    steps = made.steps[:MEASURED]

    def validate(network: nn.Module) -> dict[str, float]:
        denoiser = build_denoiser(config, network)
        found: dict[str, float] = {}
        for count in steps:
            sampling = config.sampling.model_copy(update={"steps": count})
            plan = build_sampling_plan(config, denoiser, sampling)
            features = _features(extractor, _draw(config, plan, split, items, precision))
            if whitening is not None:
                features = whitening(features)
            drawn = FrechetStats.from_features(features)
            found[f"frechet_{count}"] = frechet_distance(drawn, reference)
        mean = sum(found.values()) / len(found)
        # Ranks may differ in last bits and must agree on which checkpoint is the best.
        agreed: dict[str, float] = ranks.gathered({"held_out_loss": mean, **found})[0]
        return agreed

    return validate


def _features(extractor: Extractor, x: torch.Tensor) -> torch.Tensor:
    """Return the features that distances are measured by, [N, d]."""
    features = extractor.of(x.split(SAMPLES))
    return features[:, : features.shape[1] - extractor.beside]


def _draw(
    config: ResolvedConfig,
    plan: SamplingPlan,
    split: Split,
    items: NDArray[np.int64],
    precision: Precision,
) -> torch.Tensor:
    """Return a sample with the conditioning of each item, [N, C, *spatial] in [-1, 1]."""
    drawn: list[torch.Tensor] = []
    start = 0
    batches = held_out_batches(split.source, items, batch_size=plan.sampling.batch_size)
    for real, conditioning in on_device(batches, config, precision.device):
        kept: dict[str, Any] = dict(conditioning)
        noise = SampleNoise(0, tuple(real.shape), start, device=precision.device)
        with precision.autocast():
            *_, last = plan.states(noise, **kept)
        drawn.append(last.x.float().clamp(-1, 1).cpu())
        start += len(real)
    return torch.cat(drawn)

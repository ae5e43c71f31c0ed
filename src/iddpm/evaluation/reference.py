"""What samples are compared with, kept with everything that defines it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from iddpm.evaluation.distances import FrechetStats
from iddpm.runtime.atomic_files import write_atomically

FORMAT = 1
PAIRS = 10_000
"""Features that are kept one by one: measures over pairs of items take these."""
_EXTRACTOR = ("features", "extractor", "resize")


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real data under an extractor.

    Attributes:
        stats: of all its features.
        features: some of them, evenly spread, [M, d] float32.
        facts: what defines the statistics: extractor, its hash, resizing, rounding, data, split,
            count.
    """

    stats: FrechetStats
    features: Tensor
    facts: dict[str, Any]

    @classmethod
    def of(cls, features: Tensor, facts: dict[str, Any]) -> "Reference":
        """Measure features [N, d]."""
        kept = features[evenly(len(features), PAIRS)].float()
        return cls(FrechetStats.from_features(features), kept, facts)

    def save(self, path: Path) -> Path:
        """Write it as safetensors, the facts beside the numbers."""
        tensors = {
            "mean": self.stats.mean,
            "covariance": self.stats.covariance.contiguous(),
            "features": self.features.contiguous(),
        }
        facts = {"format": FORMAT, "count": self.stats.count, **self.facts}
        metadata = {"facts": json.dumps(facts)}
        return write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_reference(path: Path, facts: dict[str, Any], *, data: bool = True) -> Reference:
    """Read statistics that were made as ``facts`` say.

    Args:
        path: the file.
        facts: what they have to be made with.
        data: whether the data has to be the same too; otherwise the extractor alone has to.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or was made with another extractor or of other data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no statistics file {path}")
    try:
        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in ("mean", "covariance", "features")}
        count, version = found.pop("count"), found.pop("format")
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not hold reference statistics ({error})") from None
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, and this version reads {FORMAT}")
    for name in facts if data else _EXTRACTOR:
        if found.get(name) != facts[name]:
            raise ValueError(
                f"{path} was made with another {name}: {_short(found.get(name))} there, "
                f"{_short(facts[name])} here"
            )
    stats = FrechetStats(tensors["mean"], tensors["covariance"], count)
    return Reference(stats, tensors["features"], found)


def evenly(available: int, wanted: int) -> Tensor:
    """Return ``wanted`` of ``available`` positions, evenly spread; all when there are no more."""
    if wanted >= available:
        return torch.arange(available)
    return torch.linspace(0, available - 1, wanted, dtype=torch.float64).round().long()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12] + "..."

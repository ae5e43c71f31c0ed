"""Embeddings of conditions other than the class: numbers, angles and categories."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from iddpm.networks.layers import linear, timestep_embedding, zero_module

ConditionKind = int | Literal["number", "periodic"]
"""A number of classes, a number, or a periodic number such as an angle."""

OCTAVES = 6
"""Frequencies of a number: the longest period is twice its range, the shortest a 16th of it."""
HARMONICS = 6
"""Frequencies of a periodic number: once to six times a turn."""
NUMBER_PERIODS = 100.0
"""A number of :class:`NumberEmbedding` is embedded as the timestep of this multiple of it."""


class ConditionEmbedding(nn.Module):
    """Embed the conditions of an item, as one sum that is added to the timestep's embedding.

    A number goes through Fourier features (Tancik et al. 2020) and a small network, a class
    through a table. An unknown condition adds nothing, as a missing class does; if all are
    unknown, the network is unconditional.

    Args:
        kinds: of the K conditions, in their order.
        width: of the embedding.
    """

    def __init__(self, kinds: Sequence[ConditionKind], width: int) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.terms = nn.ModuleList()
        for kind in self.kinds:
            if isinstance(kind, int):
                self.terms.append(self._table(kind, width))
                continue
            features = 1 + 2 * OCTAVES if kind == "number" else 2 * HARMONICS
            self.terms.append(self._layers(features, width))

    def _table(self, classes: int, width: int) -> nn.Module:
        return nn.Embedding(classes, width)

    def _layers(self, features: int, width: int) -> nn.Module:
        return nn.Sequential(linear(features, width), nn.SiLU(), linear(width, width))

    def forward(self, conditions: Tensor) -> Tensor:
        """Embed conditions [N, K], float32, as [N, width].

        Numbers span about [-1, 1]; periodic ones are in turns, so that 0 and 1 are the same;
        classes are numbered from 0. NaN means unknown.

        Raises:
            ValueError: another number of conditions.
        """
        if conditions.dim() != 2 or conditions.shape[1] != len(self.kinds):
            raise ValueError(
                f"the network takes {len(self.kinds)} conditions of each item, not a "
                f"tensor of shape {list(conditions.shape)}"
            )
        dtype = next(self.parameters()).dtype
        total = torch.zeros((), dtype=dtype, device=conditions.device)
        for kind, term, column in zip(self.kinds, self.terms, conditions.unbind(1), strict=True):
            known = column.isfinite()
            value = torch.where(known, column, 0)
            if isinstance(kind, int):
                embedded = term(value.long())
            else:
                embedded = term(fourier_features(value, kind).to(dtype))
            total = total + embedded * known[:, None]
        return total


class NumberEmbedding(nn.Module):
    """Embed numbers that a network without them lacks, as one sum that starts at zero.

    A network that continues from weights of another therefore computes the same at first.

    Args:
        names: of the numbers.
        features: of the sinusoids of each.
        width: of the embedding.
    """

    def __init__(self, names: Sequence[str], features: int, width: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.features = features
        self.terms = nn.ModuleDict(
            {
                name: nn.Sequential(
                    linear(features, width), nn.SiLU(), zero_module(linear(width, width))
                )
                for name in names
            }
        )

    def forward(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """Embed numbers [N], by their names, as [N, width]."""
        dtype = next(self.parameters()).dtype
        embedded = [
            term(timestep_embedding(NUMBER_PERIODS * numbers[name], self.features).to(dtype))
            for name, term in self.terms.items()
        ]
        total: Tensor = torch.stack(embedded).sum(dim=0)
        return total


class AugmentationEmbedding(nn.Linear):
    """Embed how an item was augmented by a linear map that starts at zero.

    It has no bias: the vector of zeros, which stands for items as they are, changes nothing.

    Args:
        length: P, of the vector.
        width: of the embedding.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__(length, width, bias=False)
        zero_module(self)

    def forward(self, emb: Tensor, vectors: Tensor | None) -> Tensor:  # type: ignore[override]
        """Add vectors [N, P], by default zeros, to an embedding [N, width].

        Raises:
            ValueError: another shape.
        """
        wanted = (len(emb), self.in_features)
        if vectors is None:  # computed all the same: data-parallel training expects a gradient
            vectors = emb.new_zeros(wanted)
        if vectors.shape != wanted:
            raise ValueError(
                f"the network takes augment of shape {list(wanted)}, one vector for each item, "
                f"not {list(vectors.shape)}"
            )
        return emb + super().forward(vectors.to(emb.dtype))


def fourier_features(value: Tensor, kind: Literal["number", "periodic"]) -> Tensor:
    """Return the features [N, F], float32, of numbers [N].

    For u in [-1, 1]: u itself, then cos and sin of 2^k pi u / 2 for k = 0 .. 5. The slowest sine
    increases over the whole range, so no two values have the same features. For turns: cos and sin
    of 2 pi m turns for m = 1 .. 6, which are periodic too.
    """
    value = value.float()[:, None]
    if kind == "number":
        steps = torch.arange(OCTAVES, device=value.device)
        angles = (math.pi / 2) * value * 2**steps
        return torch.cat([value, angles.cos(), angles.sin()], dim=1)
    times = torch.arange(1, HARMONICS + 1, device=value.device)
    angles = (2 * math.pi) * (value.remainder(1) * times).remainder(1)
    return torch.cat([angles.cos(), angles.sin()], dim=1)

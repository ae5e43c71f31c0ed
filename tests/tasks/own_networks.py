"""Own networks for training in several processes: ``--network tests.tasks.own_networks:NAME``."""

import torch
from torch import nn


class Awkward(nn.Module):
    """A network with parts that the built-in one does not have.

    Lists in lists, a sequence that is not called as one, tied, frozen and unused parameters, and a
    buffer.
    """

    def __init__(self, channels, out_channels, size, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList([nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)]) for _ in range(2)
        )
        self.stages[1][1].weight = self.stages[0][1].weight
        self.layers = nn.Sequential(nn.SiLU(), nn.Conv2d(8, 8, 1))
        self.label = nn.Embedding(num_classes + 1, 8)
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.unused = nn.Linear(8, 8)
        self.head = nn.Conv2d(8, out_channels, 3, padding=1)
        self.register_buffer("frequencies", torch.tensor([1.0, 0.1, 0.01, 0.001]))

    def forward(self, x, timesteps, y):
        emb = self.frozen((timesteps[:, None] * self.frequencies).sin()) + self.label(y + 1)
        h = self.stem(x) + emb[:, :, None, None]
        for norm, conv in self.stages:
            h = h + conv(torch.tanh(norm(h)))
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


class Normalized(nn.Module):
    """Batch normalization: buffers that training changes, and that differ by process."""

    def __init__(self, channels, out_channels, size, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, out_channels, 3, padding=1)

    def forward(self, x, timesteps, y):
        return self.head(torch.tanh(self.norm(self.stem(x))))


class Scaled(Normalized):
    """With a parameter that has no axis."""

    def __init__(self, channels, out_channels, size, num_classes):
        super().__init__(channels, out_channels, size, num_classes)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, timesteps, y):
        return self.scale * super().forward(x, timesteps, y)

"""Your own network, a small transformer on patches: python examples/own_network.py OUT STEPS.

Sample its run in this folder with: iddpm sample OUT --network own_network:Transformer
"""

import sys

import torch
from torch import Tensor, nn

import iddpm


class Transformer(nn.Module):
    """Called as net(x, timesteps, y): x [N, C, H, W], timesteps float [N], y [N], -1 for none."""

    def __init__(self, channels, out_channels, size, num_classes=None, patch=2, width=64):
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(width, *(n // patch for n in size)))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding((num_classes or 0) + 1, width)  # row 0 stands for no class
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 3)
        self.out = nn.ConvTranspose2d(width, out_channels, patch, patch)
        self.register_buffer("frequencies", torch.logspace(0, -4, width // 2))

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Return [N, out_channels, H, W]."""
        angles = timesteps[:, None] * self.frequencies
        emb = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        emb = emb if y is None else emb + self.label(y + 1)
        h = self.embed(x) + self.position + emb[:, :, None, None]
        return self.out(self.blocks(h.flatten(2).mT).mT.reshape(h.shape))


if __name__ == "__main__":
    out, steps = sys.argv[1:] or ("runs/own_network", "2000")
    torch.manual_seed(0)
    network = Transformer(channels=1, out_channels=2, size=(28, 28), num_classes=10)
    settings = ["model.class_conditional=true", f"training.steps={steps}", "data.held_out=0.1"]
    run = iddpm.train("mnist5k", network=network, out=out, settings=settings)
    iddpm.save_grid(run.sample(16, steps=10), f"{out}/grid.png")
    same = iddpm.load(out, network=network)  # the run asks for the network again
    print(iddpm.likelihood(same, steps=20, max_items=32))

"""Your own training loop with the library's components: python examples/own_loop.py OUT STEPS."""

import sys

import torch

import iddpm

out, steps = sys.argv[1:] or ("runs/own_loop", "2000")
torch.manual_seed(0)
network = iddpm.UNet(
    dims=1,
    in_channels=1,
    out_channels=2,  # the data's channels, and as many for the variance
    model_channels=16,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_downsampling=(),
    num_heads=2,
)
diffusion = iddpm.GaussianDiffusion(iddpm.cosine(1000), variance="learned_range")
denoiser = iddpm.Denoiser(network, diffusion, predicts="v")
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
average = iddpm.EMA(network, 0.999)


def waves(count: int) -> torch.Tensor:
    """Return sine waves [count, 1, 32] of any phase, in [-1, 1]."""
    phase = 2 * torch.pi * (torch.rand(count, 1, 1) + torch.arange(32) / 16)
    return phase.sin()


for _ in range(int(steps)):
    x0 = waves(64)
    t = torch.randint(len(diffusion.schedule), (len(x0),))
    loss = iddpm.losses.hybrid(denoiser, x0, t, torch.randn_like(x0), bits=None).loss.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average.update(network)
print(f"loss {loss:.4f}")

schedule = diffusion.schedule.respace(iddpm.space_timesteps(1000, 20))
denoise = iddpm.clip_x0(iddpm.Denoiser(average.network, diffusion, predicts="v"))
with torch.no_grad():
    x = iddpm.sample(iddpm.DDIM(), denoise, schedule, torch.randn(8, 1, 32))
iddpm.save_npz(x, f"{out}.npz", bits=None)

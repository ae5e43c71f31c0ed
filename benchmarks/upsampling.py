"""Compare ways to upsample: transposed convolutions against nearest neighbours.

python benchmarks/upsampling.py

Trains the same small network with each kind of upsampling and several seeds, with widths chosen so
that the parameters agree as nearly as they can, and measures held-out bits/dim, the Frechet
distance of samples under a classifier's features, checkerboard energy and the time of a training
step. Interrupted, it goes on where it was. The table stands in ``benchmarks/upsampling.md``.
"""

import argparse
from pathlib import Path

import torch
from common import interleave, ratio
from mnist import digits

from iddpm.build import build_network, place, resolve
from iddpm.config import read_config
from iddpm.recipe import train
from iddpm.run import CONFIG, WEIGHTS, Run, load
from iddpm.training.terminal import TerminalReporter

SETTINGS = [
    "model.model_channels=16",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2,2]",
    "model.attention_downsampling=[4]",
    "model.num_heads=2",
    "diffusion.predicts=v",
    "training.batch_size=64",
    "training.learning_rate=1e-3",
    "training.warmup_steps=100",
    "training.anneal=linear",
    "training.ema_rates=[0.999]",
    "training.log_every=100",
    "training.save_every=500",
    "training.preview_every=0",
    "training.validate_every=1000",
]
KINDS = {
    "transposed, smooth start": ["model.upsample=transpose", "model.smooth_start=true"],
    "transposed, plain start": ["model.upsample=transpose", "model.smooth_start=false"],
    "nearest + convolution": ["model.upsample=nearest_conv"],
    "nearest alone": ["model.upsample=nearest"],
}
STEPS = 800


def equal_width(settings: list[str], parameters: int) -> float:
    """Return the last level's width factor that comes nearest to so many parameters."""

    def distance(factor: float) -> int:
        return abs(count([*settings, f"model.channel_mult=[1,2,{factor}]"]) - parameters)

    return min((2 + sixteenth / 16 for sixteenth in range(0, 16, 2)), key=distance)


def count(settings: list[str]) -> int:
    """Return the number of parameters that settings give."""
    config = resolve(read_config(None, [*settings, "model.channels=1", "model.size=[28,28]"]))
    return sum(p.numel() for p in build_network(config).parameters())


def checkerboard(x: torch.Tensor) -> float:
    """Return the share of spectral energy at the upsamplings' frequencies, 1/2 and 1/4 cycles.

    Of ``x`` [N, C, H, W] about its mean: the energy on the lines of the 2-D spectrum where a
    frequency along one axis is that of a stride of 2, or of 2 twice, over the whole.
    """
    spectrum = torch.fft.fft2(x - x.mean(dim=(2, 3), keepdim=True)).abs().square().mean(dim=(0, 1))
    height, width = spectrum.shape
    lines = torch.zeros_like(spectrum, dtype=torch.bool)
    for part in (2, 4):
        lines[height // part] = lines[-(height // part)] = True
        lines[:, width // part] = lines[:, -(width // part)] = True
    return float(spectrum[lines].sum() / spectrum.sum())


def step_times(settings: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Return the time of a training step of each kind over that of the first, interleaved."""
    x, t = torch.randn(64, 1, 28, 28), torch.full((64,), 500.0)
    cases = {}
    for kind, chosen in settings.items():
        stated = [*chosen, "model.channels=1", "model.size=[28,28]"]
        network = build_network(resolve(read_config(None, stated)))
        place(network, torch.device("cpu"))

        def step(network: torch.nn.Module = network) -> None:
            network.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                y = network(x, t)
            y.float().square().mean().backward()

        cases[kind] = step
    seconds = interleave(cases, rounds)
    first = next(iter(cases))
    return {kind: ratio(seconds, kind, first) for kind in cases}


def trained(kind: str, seed: int, out: Path, steps: int, width: float) -> Run:
    """Return the run of a kind and seed, trained as far as it was not."""
    folder = out / f"{kind.replace(' + ', '_').replace(', ', '_').replace(' ', '_')}_{seed}"
    if not (folder / WEIGHTS).is_file():
        resume = (folder / CONFIG).is_file()
        settings = [
            *SETTINGS,
            *KINDS[kind],
            f"model.channel_mult=[1,2,{width}]",
            f"training.steps={steps}",
            f"training.seed={seed}",
        ]
        print(f"training {folder}", flush=True)
        train(
            None if resume else digits(),
            settings=[] if resume else settings,
            out=folder,
            resume=resume,
            reporter=TerminalReporter(),
        )
    return load(folder)


def main() -> None:
    """Train what is missing, measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/upsampling"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    first = next(iter(KINDS))
    parameters = count([*SETTINGS, *KINDS[first]])
    widths = {kind: equal_width([*SETTINGS, *KINDS[kind]], parameters) for kind in KINDS}
    for seed in range(arguments.seeds):
        for kind in KINDS:
            trained(kind, seed, arguments.out, arguments.steps, widths[kind])


if __name__ == "__main__":
    main()

"""Processor time of a training step with categorical levels, against the same network with v.

python benchmarks/levels.py            # digits of 28 x 28, batch 64; the least of the rounds counts
"""

import argparse
import time

import torch

from iddpm.builders import (
    build_denoiser,
    build_loss,
    build_network,
    build_optimizer,
    build_timesteps,
    place,
    resolve,
)
from iddpm.config import read_config
from iddpm.training.precision import Precision, PrecisionName
from iddpm.training.step import TrainStep

NETWORK = (
    "preset=likelihood",
    "model.channels=1",
    "model.size=[28,28]",
    "model.model_channels=32",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2,2]",
    "model.attention_downsampling=[4]",
    "training.batch_size=64",
)
CPU = torch.device("cpu")


def made(precision: PrecisionName, *settings: str) -> TrainStep:
    """Return the step of a new network with these settings beside the others."""
    config = resolve(read_config(None, [*NETWORK, *settings]))
    network = build_network(config)
    place(network, CPU)
    return TrainStep(
        build_denoiser(config, network),
        network,
        build_loss(config),
        build_timesteps(config),
        build_optimizer(config, network),
        [],
        Precision(precision, CPU),
    )


def main() -> None:
    """Take the steps in turn and print the ratio for each precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x = (torch.rand(64, 1, 28, 28) * 255).round() / 127.5 - 1
    kinds = {
        "v": ("diffusion.predicts=v",),
        "categorical": ("diffusion.neighborhood=0",),
        "categorical, wavelets": ("diffusion.neighborhood=0", "model.wavelets=1"),
        "categorical, neighbors": (),
    }
    precisions: tuple[PrecisionName, ...] = ("bf16", "float32")
    for precision in precisions:
        steps = {name: made(precision, *settings) for name, settings in kinds.items()}
        least = dict.fromkeys(steps, float("inf"))
        for number in range(args.rounds):
            for name, step in steps.items():
                started = time.process_time()
                step(x, number)
                least[name] = min(least[name], time.process_time() - started)
        for name, spent in least.items():
            print(f"{precision}: {name} {spent:.3f} s, {spent / least['v']:.2f} of v", flush=True)


if __name__ == "__main__":
    main()

"""Your own data, a Dataset of labeled signals: python examples/own_data.py OUT STEPS."""

import sys

import torch
from torch.utils.data import Dataset

import iddpm


class Waves(Dataset):
    """Square and sine waves of any phase, float32 [1, 32] in [-1, 1], and their class.

    The same index always gives the same item: a run can then go on exactly where it was.
    """

    classes = ("sine", "square")

    def __len__(self):
        return 500

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        phase = 2 * torch.pi * (torch.rand(1, generator=generator) + torch.arange(32) / 16)
        wave = phase.sin()
        label = index % 2
        return (wave.sign() if label else wave)[None], label


if __name__ == "__main__":
    out, steps = sys.argv[1:] or ("runs/own_data", "2000")
    settings = [
        "model.class_conditional=true",
        "model.model_channels=16",
        f"training.steps={steps}",
    ]
    settings += ["data.layout=NCL"]  # what the axes of [items, 1, 32] mean
    run = iddpm.train(Waves(), out=out, settings=settings)
    iddpm.save_npz(run.sample(8, classes="square", steps=10), f"{out}/square.npz", bits=None)
    print(iddpm.likelihood(run, steps=20))

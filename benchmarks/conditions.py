"""Digits drawn by slant and ink: whether samples have the requested values.

python benchmarks/conditions.py OUT [--steps 1500]

Measures the slant (degrees) and the ink (mean gray, percent) of 1,797 real digits of 8x8, trains a
model conditioned on both, either of them unknown for a fifth of the items, and compares its
samples with the requested values. Needs the files of ``digits``.
"""

import argparse
import io
import time
import warnings
from pathlib import Path

import numpy as np
from rich.console import Console

import iddpm
from iddpm.data.embedded import embedded
from iddpm.tasks.likelihood import likelihood

UNKNOWN = 0.2
COUNT = 64
SETTINGS = (
    "model.model_channels=32",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2]",
    "model.attention_downsampling=[]",
    "diffusion.predicts=v",
    "training.batch_size=32",
    "training.learning_rate=2e-3",
    "training.warmup_steps=50",
    "training.anneal=linear",
    "training.ema_rates=[0.99]",
    "training.threads=1",
    "training.log_every=100",
    "sampling.steps=20",
)


def measured(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slant in degrees and ink in percent of pictures [N, H, W] from 0 to 1."""
    y, x = np.mgrid[: pictures.shape[1], : pictures.shape[2]]
    mass = pictures.sum(axis=(1, 2)) + 1e-9
    cx, cy = ((pictures * a).sum(axis=(1, 2)) / mass for a in (x, y))
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    shear = (pictures * dx * dy).sum(axis=(1, 2)) / (pictures * dy**2).sum(axis=(1, 2))
    return -np.rad2deg(np.arctan(shear)), 100 * pictures.mean(axis=(1, 2))


def report(name: str, requested: np.ndarray, found: np.ndarray) -> None:
    off = np.abs(found - requested)
    error = off.std(ddof=1) / len(off) ** 0.5
    print(
        f"{name:<28} correlation {np.corrcoef(requested, found)[0, 1]:.3f}, "
        f"off by {off.mean():.2f} +- {error:.2f} on average",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    source = embedded("digits")
    slant, ink = measured(source.read_many(range(len(source)))[:, 0] / 255)
    hidden = np.random.default_rng(0).random((2, len(source))) < UNKNOWN
    rows = [
        f"{k},{'' if hidden[0, k] else f'{slant[k]:.2f}'},{'' if hidden[1, k] else f'{ink[k]:.2f}'}"
        for k in range(len(source))
    ]
    table = options.out / "digits.csv"
    table.write_text("\n".join(["row,slant,ink", *rows]) + "\n")
    started = time.monotonic()
    run = iddpm.train(
        "digits",
        settings=[*SETTINGS, f"data.conditions={table}", f"training.steps={options.steps}"],
        out=options.out / "run",
    )
    print(f"trained in {time.monotonic() - started:.0f} s")

    def drawn(**conditions: str) -> tuple[np.ndarray, np.ndarray]:
        x = run.sample(COUNT, conditions=conditions)
        return measured(((x[:, 0].clamp(-1, 1) + 1) / 2).numpy())

    low, high = np.quantile(slant, [0.05, 0.95])
    wanted = np.linspace(low, high, COUNT)
    report("slant, ink left open", wanted, drawn(slant=f"{low}..{high}")[0])
    less, more = np.quantile(ink, [0.05, 0.95])
    report("ink, slant not set", np.linspace(less, more, COUNT), drawn(ink=f"{less}..{more}")[1])
    both = drawn(slant=f"{low}..{high}", ink="30")
    report("slant, with ink 30", wanted, both[0])
    print(f"{'ink 30, over all slants':<28} {both[1].mean():.2f} +- {both[1].std():.2f}")
    free = drawn()
    for name, real, free_ in (("slant", slant, free[0]), ("ink", ink, free[1])):
        print(
            f"{name + ', nothing set':<28} {free_.mean():.2f}, spread {free_.std():.2f}; "
            f"real digits {real.mean():.2f}, spread {real.std():.2f}"
        )
    bits = likelihood(run, samples_per_item=16, max_items=200, console=Console(file=io.StringIO()))
    print(f"held out, with known conditions: {bits}")
    x = run.sample(
        49, conditions={"slant": [float(s) for s in np.tile(np.linspace(low, high, 7), 7)],
                        "ink": [float(i) for i in np.repeat(np.linspace(less, more, 7), 7)]}
    )  # fmt: skip
    print(f"wrote {iddpm.save_grid(x, options.out / 'slant_and_ink.png', columns=7)}")


if __name__ == "__main__":
    main()

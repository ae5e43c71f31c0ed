"""The best likelihood of 15 minutes on 2 cores, by preset=likelihood, beside xz and the samples.

python -m benchmarks.runs.bits digits        # or emoji, emoji-rgba, volumes; then 4 for an hour
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.recipes.budget import minutes_until
from benchmarks.runs import emoji, volumes
from benchmarks.runs.common import FAST, finish, items, packed, prepared, spread, table, trained
from iddpm.tasks.evaluate import evaluate
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.likelihood_report import write_likelihood

PRESET = (
    "preset=likelihood",
    "training.validate_every=200",
    "training.preview_every=0",
)


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes:
        prepare: returns the data.
        example: its settings, but for those of the preset.
        settings: others beside it.
        steps: of a training of about 15 minutes.
        measured: held-out items that are measured at most.
    """

    prepare: Callable[[], Path | str]
    example: str
    steps: int
    settings: tuple[str, ...] = ()
    measured: int | None = None


EMOJI = ("training.batch_size=16", "training.learning_rate=2e-3", "model.dropout=0")
"""More steps in the same time: after 190 seconds the loss was 3.3 instead of 3.8 with batches of
64. The higher rate without dropout was 1.5 times as fast for the first 300 steps."""
CROPS = ("training.batch_size=2", "training.validate_every=1200")
"""Likewise; a look at all held-out crops takes as long as 150 steps."""
DATA = {
    "digits": Data(
        lambda: "mnist5k",
        "examples/digits.yaml",
        1000,
        ("data.held_out=0.2", "model.class_conditional=false"),
    ),
    "emoji": Data(partial(emoji.prepare, "RGB"), "examples/emoji.yaml", 3800, EMOJI),
    "emoji-rgba": Data(partial(emoji.prepare, "RGBA"), "examples/emoji.yaml", 3000, EMOJI),
    "volumes": Data(volumes.prepare, "examples/mri_crops.yaml", 2400, CROPS, measured=100),
}
_OF_PRESET = (
    "diffusion.predicts=categorical",
    "training.learning_rate=1e-3",
    "training.warmup_steps=50",
    "training.anneal=linear",
    "training.ema_rates=[0.99]",
)
"""What the preset sets and an example states otherwise."""


def run(
    data: Path | str,
    out: Path,
    chosen: Data,
    *,
    settings: Sequence[str] = (),
    times: float = 1.0,
    n: int = 500,
    looks: int = 32,
) -> None:
    """Train and measure.

    Args:
        data: what to train on.
        out: the run directory.
        chosen: how.
        settings: beside those of the preset, the example and the data.
        times: how many times as long to train.
        n: samples to measure.
        looks: network evaluations for each item's likelihood.
    """
    started = time.monotonic()
    steps = f"training.steps={round(times * chosen.steps)}"
    stated = [*PRESET, *_OF_PRESET, *chosen.settings, steps, *settings]
    model = trained(data, out, chosen.example, stated)
    found = likelihood(
        model,
        method="continuous",
        samples_per_item=looks,
        max_items=chosen.measured,
        precision="auto",
    )
    write_likelihood(found, out / "likelihood", "report")
    _, held_out = items(model.config)
    measured = held_out if chosen.measured is None else spread(held_out, chosen.measured)
    # Crops overlap, and each is packed alone.
    xz = packed([measured] if chosen.measured is None else measured)
    judged = evaluate(model, features="pca", n=n, sampling={**FAST, "steps": 20}, out=out / "pca")
    frechet, real = judged.samples.frechet, judged.held_out
    rows = [["prior", "steps", "decoder", "bits/dim", "xz", f"Frechet (PCA) of {n}", "held out"]]
    parts = [found.prior, found.steps, found.decoder]
    rows.append(
        [
            *(f"{part.mean:.4f}" for part in parts),
            f"{found.total.mean:.3f} +- {found.total.error:.3f}",
            xz,
            f"{frechet.value:.3g} +- {frechet.error:.1g}",
            "" if real is None else f"{real.frechet.value:.3g}",
        ]
    )
    minutes = minutes_until(model.log, model.log[-1]["step"])
    length = f"{model.config.training.steps} steps, {minutes:.1f} minutes of training"
    trained_for = f"{length}, {found.facts['items']} items measured.\n"
    finish([trained_for, table(rows)], out, started)


if __name__ == "__main__":
    name, times = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    place = Path("runs") / f"{name}_bits{'' if times == 1 else f'_{times:g}'}"
    run(prepared(DATA[name].prepare), place, DATA[name], times=times)

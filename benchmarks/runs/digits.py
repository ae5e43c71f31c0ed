"""Handwritten digits (5,000 of MNIST), class by class, beside a Gaussian of their main directions.

make run-digits
"""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.runs.common import (
    PICTURES,
    bound,
    compare,
    finish,
    items,
    judge,
    packed,
    spread,
    table,
    trained,
)
from benchmarks.runs.gaussian import of_levels
from benchmarks.runs.picture import beside

EXAMPLE = "examples/digits.yaml"
SHORT = (
    "data.held_out=0.2",
    "training.steps=1200",
    "training.learning_rate=1e-3",
    "training.warmup_steps=100",
    "training.anneal=linear",
    "training.ema_rates=[0.99]",
    "training.validate_every=200",
    "training.preview_every=600",
)
"""The example trains for 10,000 steps."""
SHOWN = 6
"""Of each class."""
JUDGE = ("data.held_out=0.2", "training.steps=500")


def classifier_of(out: Path) -> Path:
    """Return where the classifier of a run lies: beside it, since others may come first."""
    return out.with_name(f"{out.name}_classifier")


def run(
    data: Path | str,
    out: Path,
    picture: Path,
    *,
    settings: Sequence[str] = SHORT,
    judge_settings: Sequence[str] = JUDGE,
    n: int = 2000,
    steps: int = 20,
    looks: int = 16,
) -> None:
    """Train, measure and draw.

    Args:
        data: digits with their classes.
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
    other = of_levels(train, held_out, 8, n)
    likelihood = bound(model, samples_per_item=looks)
    classifier = judge(data, classifier_of(out), judge_settings)
    rows = compare(
        model, likelihood, [other], features=classifier, n=n, steps=steps, xz=packed([held_out])
    )
    classes = len(model.config.class_names)
    wanted = [k % classes for k in range(SHOWN * classes)]
    drawn = model.sample(len(wanted), classes=wanted, steps=steps, seed=1)
    mosaics = {
        "held out": spread(held_out, len(wanted)),
        "drawn by the model": drawn,
        other.name: other.samples[: len(wanted)],
    }
    print(f"wrote {beside(mosaics, picture, columns=classes, scale=1)}")
    finish(["Likelihood in bits/dim.\n", table(rows)], out, started)


if __name__ == "__main__":
    run("mnist5k", Path("runs/digits"), PICTURES / "digits.png")

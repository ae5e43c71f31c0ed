"""The demo: training on real digits, sampling and measuring."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from iddpm.runs.classifier import SETTINGS as CLASSIFIER_SETTINGS
from iddpm.runs.classifier import held_out_accuracy, load_classifier
from iddpm.runs.layout import CONFIG
from iddpm.runs.run import Run, load
from iddpm.runtime.console import open_console
from iddpm.tasks.curves import save_curves
from iddpm.tasks.draw import DrawRequest, Written, draw
from iddpm.tasks.evaluate import evaluate
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest
from iddpm.training.monitoring.terminal import TerminalReporter, format_seconds
from iddpm.training.stop import Stop

STEPS = 480
PER_CLASS = 10
CLASSIFIER_STEPS = 300
MEASURED = 1000
"""Samples that are measured: few, for the time it takes."""
EVALUATIONS = 20
"""Network evaluations for each of them."""
LOOKS = 8
"""Timesteps that each held-out item's likelihood is estimated from."""
SETTINGS: dict[str, Any] = {
    "model": {
        "class_conditional": True,
        "model_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": [1, 2, 2],
        "attention_downsampling": [4],
    },
    "diffusion": {"predicts": "v"},
    "sampling": {"guidance": 2.0},
    "training": {
        "steps": STEPS,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
        "anneal": "linear",
        "ema_rates": [0.99],
        "log_every": 20,
        "save_every": 200,
        "save_minutes": 1,
        "preview_every": 200,
        "validate_every": 100,
    },
}


def run_demo(
    out: Path,
    *,
    steps: int | None = None,
    max_time: str = "250s",
    device: str = "auto",
    threads: int | None = None,
) -> Stop:
    """Train on 5,000 handwritten digits, then draw ten of each class and what led to them.

    Interrupted and run again, it goes on where it was. Returns why the training stopped.
    """
    console = open_console()
    started = time.monotonic()
    going_on = (out / CONFIG).is_file()
    settings = [f"training.device={device}", f"training.max_time={max_time}"]
    if steps is not None or not going_on:
        settings.append(f"training.steps={steps or STEPS}")
    settings += [] if threads is None else [f"training.threads={threads}"]
    begun = (
        "Going on with the demo." if going_on else "Training on real handwritten digits (MNIST)."
    )
    console.print(begun, markup=False)
    reason = _train(out, "mnist5k", SETTINGS, settings, console)
    if reason.exit_status:
        return reason
    run = load(out, device=device)
    grid, animation = _draw(run, out / "samples" / "demo", console)
    scale = min(1.0, run.config.training.steps / STEPS)  # a short run is measured shortly
    console.print("Training a classifier to evaluate them...", markup=False)
    judge = out / "classifier"
    length = [f"training.steps={max(1, round(scale * CLASSIFIER_STEPS))}"]
    settings = ["task=classification", f"training.device={device}"]
    settings += [] if (judge / CONFIG).is_file() else length
    reason = _train(judge, run.config.data.path, CLASSIFIER_SETTINGS, settings, console)
    if reason.exit_status:
        return reason
    measured = _measure(run, judge, max(10, round(scale * MEASURED)), console)
    try:
        path = save_curves(out, out / "samples" / "demo" / "curves.png")
        curves = f"{path}  (how the loss fell)"
    except ValueError as error:  # without matplotlib the digits are there all the same
        curves = str(error)
    console.print(
        f"\nDone in {format_seconds(time.monotonic() - started)}. Look at\n"
        f"  {grid}  (row k shows class k)\n"
        f"  {animation}  (noise becoming digits)\n"
        f"  {curves}\n"
        f"{measured}\n{_further(run, judge)}",
        markup=False,
    )
    return reason


def _train(
    out: Path,
    data: str | None,
    base: dict[str, Any],
    settings: Sequence[str],
    console: Console,
) -> Stop:
    """Train what there is nothing of in ``out``, or go on with it."""
    going_on = (out / CONFIG).is_file()
    _, reason = train_until_stop(
        TrainRequest(
            None if going_on else data,
            base=base,
            settings=settings,
            out=out,
            resume=going_on,
            reporter=TerminalReporter(console),
        )
    )
    if reason.exit_status:
        console.print("Stopped; run the demo again to go on.", markup=False)
    return reason


def _draw(run: Run, out: Path, console: Console) -> list[Path]:
    """Draw some of each class; return the paths of the grid and the animation."""
    classes = run.config.model.num_classes or 1
    n = PER_CLASS * classes
    console.print(f"Sampling {PER_CLASS} of each digit...", markup=False)
    return draw(
        run,
        DrawRequest(n, classes=[k // PER_CLASS for k in range(n)]),
        run.plan(batch_size=n, precision="auto"),
        Written(out=out, gif=True, columns=PER_CLASS, files=False),
        console=console,
    )


def _further(run: Run, judge: Path) -> str:
    """Return the lines that say what can be done with the run."""
    out = run.directory
    return (
        "Go on with\n"
        f"  iddpm ui {out.parent}                      a page of curves and samples "
        "(pip install 'iddpm[ui]')\n"
        f"  iddpm sample {out} -n 16 --class 7      more sevens\n"
        f"  iddpm info {out}                        what this run is\n"
        f"  iddpm evaluate {out} --features {judge}   measure it well (some minutes)\n"
        f"  iddpm train --resume --out {out} --steps {2 * run.config.training.steps}   "
        "train it longer\n"
        "  iddpm train YOUR_IMAGES/ -s data.image_size=64   train on your own\n"
        "or from Python\n"
        f'  import iddpm; x = iddpm.load("{out}").sample(16, seed=1); '
        'iddpm.save_grid(x, "grid.png")'
    )


def _measure(run: Run, judge: Path, count: int, console: Console) -> str:
    """Return the lines that say how good the model is."""
    console.print("Measuring...", markup=False)
    accuracy = held_out_accuracy(load_classifier(judge, str(run.device)))
    bound = likelihood(run, samples_per_item=LOOKS, precision="auto", console=console)
    # As trained, without guidance: the distance asks for all that the data has, not the clearest.
    found = evaluate(
        run,
        n=count,
        features=str(judge),
        sampling={"steps": EVALUATIONS, "guidance": 1.0, "precision": "auto", "batch_size": 100},
        console=console,
    )
    frechet, real = found.samples.frechet, found.held_out
    assert found.accuracy is not None
    mark = ""
    if real is not None:  # a distance of fewer items is larger, so like is put beside like
        like = found.as_many or found.samples
        mark = f"; {like.count} of them {like.frechet.value:.2f}, {real.count} real ones "
        mark += f"{real.frechet.value:.2f}"
    right = found.accuracy.overall
    return (
        "How good is it? (docs/evaluation.md)\n"
        f"  held out: {bound}, estimated from {LOOKS} timesteps of each of "
        f"{bound.facts['items']} digits\n"
        f"  {found.report['frechet_name']} of {count} samples, {EVALUATIONS} evaluations each: "
        f"{frechet.value:.2f} +- {frechet.error:.2f}{mark}\n"
        f"  the classifier, {100 * accuracy[0]:.1f} % right on held-out digits, sees the "
        f"requested class in {100 * right.value:.1f} +- {100 * right.error:.1f} % of the samples"
    )

"""The demonstration: real digits in, drawn digits out, and how good they are."""

import time
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

    def say(message: str) -> None:
        console.print(message, markup=False)

    started = time.monotonic()
    resume = (out / CONFIG).is_file()
    settings = [f"training.device={device}", f"training.max_time={max_time}"]
    if steps is not None:
        settings.append(f"training.steps={steps}")
    if threads is not None:
        settings.append(f"training.threads={threads}")
    reporter = TerminalReporter(console)
    say("Going on with the demo." if resume else "Training on real handwritten digits (MNIST).")
    _, reason = train_until_stop(
        TrainRequest(
            None if resume else "mnist5k",
            base=None if resume else SETTINGS,
            settings=settings,
            out=out,
            resume=resume,
            reporter=reporter,
        )
    )
    if reason.exit_status:
        say("Stopped; run the demo again to go on.")
        return reason

    run = load(out, device=device)
    classes = run.config.model.num_classes or 1
    say(f"Drawing {PER_CLASS} of each digit...")
    grid, animation = draw(
        run,
        DrawRequest(
            PER_CLASS * classes, classes=[k // PER_CLASS for k in range(PER_CLASS * classes)]
        ),
        run.plan(batch_size=PER_CLASS * classes, precision="auto"),
        Written(out=out / "samples" / "demo", gif=True, columns=PER_CLASS, files=False),
        console=console,
    )
    scale = min(1.0, run.config.training.steps / STEPS)  # a short run is measured shortly
    say("Training a classifier to judge them by...")
    judge = out / "classifier"
    going_on = (judge / CONFIG).is_file()
    _, reason = train_until_stop(
        TrainRequest(
            None if going_on else run.config.data.path,
            base=CLASSIFIER_SETTINGS,
            settings=[
                "task=classification",
                f"training.device={device}",
                *(
                    []
                    if going_on
                    else [f"training.steps={max(1, round(scale * CLASSIFIER_STEPS))}"]
                ),
            ],
            out=judge,
            resume=going_on,
            reporter=reporter,
        )
    )
    if reason.exit_status:
        say("Stopped; run the demo again to go on.")
        return reason
    measured = _measure(run, judge, max(10, round(scale * MEASURED)), console)
    try:
        path = save_curves(out, out / "samples" / "demo" / "curves.png")
        curves = f"{path}  (how the loss fell)"
    except ValueError as error:  # without matplotlib the digits are there all the same
        curves = str(error)
    say(
        f"\nDone in {format_seconds(time.monotonic() - started)}. Look at\n"
        f"  {grid}  (row k shows class k)\n"
        f"  {animation}  (noise becoming digits)\n"
        f"  {curves}\n"
        f"{measured}\n"
        "Go on with\n"
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
    return reason


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
        f"  the classifier, {100 * accuracy[0]:.1f} % right on held-out digits, sees the class "
        f"asked for in {100 * right.value:.1f} +- {100 * right.error:.1f} % of the samples"
    )

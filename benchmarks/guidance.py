"""Measure guidance and editing on a class-conditional run: accuracy by scale, and round trips.

iddpm demo --out runs/demo
iddpm train-classifier mnist5k --out runs/classifier
python benchmarks/guidance.py runs/demo runs/classifier

Draws the same number of every class from the same noise at every scale and asks the classifier
what it sees. With --guide, another classifier guides the model while that ignores its own classes
(the judge itself would only measure how well it can be fooled). Prints Markdown.
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from iddpm.data.levels import to_stored_range
from iddpm.evaluation.fidelity import psnr_of_all
from iddpm.evaluation.measures import Accuracy, class_accuracy
from iddpm.runs.classifier import Classifier, load_classifier
from iddpm.runs.run import Run, load
from iddpm.sampling import DDIM, NO_CLASS, invert, sample
from iddpm.tasks.edit import inpaint, interpolation_schedule, open_item

QUIET = Console(quiet=True)


def accuracy(run: Run, judge: Classifier, n: int, **settings: Any) -> Accuracy:
    """Return how often the judge sees the requested class."""
    assert run.classes is not None
    y = torch.arange(n) % run.classes.count
    plan = run.plan(precision="auto", **settings)
    batches = run.sample_batches(n, plan, classes=y.tolist())
    logits = torch.cat([judge.logits(batch.x) for batch in batches])
    return class_accuracy(logits, y, judge.class_names)


def table(rows: dict[float, Accuracy], names: tuple[str, ...]) -> list[str]:
    """Return a Markdown table, and whether accuracy ever falls by more than two errors."""
    lines = [
        f"| scale | accuracy | standard error | {' | '.join(names)} |",
        f"|{'---|' * (3 + len(names))}",
    ]
    for scale, found in rows.items():
        shares = " | ".join(f"{found.per_class[name]:.3f}" for name in names)
        overall = found.overall
        lines.append(f"| {scale:g} | {overall.value:.3f} | {overall.error:.3f} | {shares} |")
    ordered = [rows[scale].overall for scale in sorted(rows)]
    falls = [
        (a.value - b.value) / max((a.error**2 + b.error**2) ** 0.5, 1e-12)
        for a, b in pairwise(ordered)
    ]
    worst = max([0.0, *falls])
    verdict = "no fall above two" if worst <= 2 else "**a fall above two**"
    return [*lines, "", f"Largest fall: {worst:.1f} standard errors ({verdict})."]


def round_trips(run: Run, count: int) -> Tensor:
    """Return the PSNR in dB of held-out items that were inverted and decoded."""
    x = torch.stack([open_item(run, number).x for number in range(count)]).to(run.device)
    labels = {} if run.classes is None else {"y": torch.full((count,), NO_CLASS).to(run.device)}
    schedule = interpolation_schedule(run)
    noise = invert(run.denoiser, schedule, x, **labels)
    back = sample(DDIM(), run.denoiser, schedule, noise, **labels)
    return torch.tensor([psnr_of_all(a.cpu(), b.cpu()) for a, b in zip(back, x, strict=True)])


def changed_pixels(run: Run, count: int, steps: int | None) -> tuple[int, int]:
    """Return how many known pixels inpainting changed in the files, and how many there were."""
    mask = np.zeros(run.shape[1:], np.uint8)
    mask[..., mask.shape[-1] // 2 :] = 255
    known = np.broadcast_to(mask == 0, run.shape)
    changed = total = 0
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "mask.npy", mask)
        for number in range(count):
            _, *files = inpaint(
                run,
                number,
                Path(folder) / "mask.npy",
                n=2,
                steps=steps,
                resample=2,
                jump=5,
                out=Path(folder) / str(number),
                console=QUIET,
            )
            before = to_stored_range(open_item(run, number).x, run.config.bits or 8)
            for file in files:
                after = open_item(run, file).x
                difference = to_stored_range(after, run.config.bits or 8) != before
                changed += int((difference.numpy() & known).sum())
                total += int(known.sum())
    return changed, total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a class-conditional run")
    parser.add_argument("judge", type=Path, help="a classifier of the same data")
    parser.add_argument("--guide", type=Path, help="another classifier, to guide with")
    parser.add_argument("--n", type=int, default=1000, help="samples per scale")
    parser.add_argument("--scales", type=float, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--steps", type=int, help="network evaluations per sample")
    parser.add_argument("--items", type=int, default=16, help="to interpolate and inpaint")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    run, judge = load(arguments.run), load_classifier(arguments.judge)
    n, steps = arguments.n, arguments.steps

    print(f"{n} samples a scale, each {run.plan(steps=steps)}, judged by {judge.hash[:12]}\n")
    print("Classifier-free guidance\n")
    free = {s: accuracy(run, judge, n, steps=steps, guidance=s) for s in arguments.scales}
    print("\n".join(table(free, judge.class_names)), flush=True)
    if arguments.guide:
        print("\nClassifier guidance of the model without its classes\n")
        guided = {
            s: accuracy(
                run, judge, n, steps=steps, guidance=0.0, classifier=arguments.guide,
                classifier_scale=s,
            )
            for s in arguments.scales
        }  # fmt: skip
        print("\n".join(table(guided, judge.class_names)), flush=True)
    ratios = round_trips(run, arguments.items)
    print(
        f"\nInterpolation's ends, {len(ratios)} held-out items, "
        f"{len(interpolation_schedule(run))} steps each way: PSNR "
        f"{float(ratios.min()):.1f} dB at worst, {float(ratios.median()):.1f} dB median."
    )
    changed, total = changed_pixels(run, min(arguments.items, 4), steps)
    print(f"\nInpainting changed {changed} of {total} known values in the files.")


if __name__ == "__main__":
    main()

"""Does a narrow network lose the level of its data? Normalize it in wider groups, and see.

python -m benchmarks.runs.groups

The normalization has 32 groups, as in the published networks. Where a level is no wider than that
each channel is a group by itself, and its mean, the level of the data among it, is taken away. The
run of signals is trained again with four channels and more in a group.
"""

from pathlib import Path

from benchmarks.runs import signals
from benchmarks.runs.common import FAST, prepared, trained
from iddpm.runs.run import Run
from iddpm.tasks.evaluate import evaluate

LEAST = 4


def main() -> None:
    """Train both and print the loss of the held-out windows and the distance of samples."""
    data = prepared(signals.prepare)
    wider = f"model.group_channels={LEAST}"
    usual = described("32 groups", trained(data, Path("runs/signals"), signals.EXAMPLE))
    fewer = described(wider, trained(data, Path("runs/signals_groups"), signals.EXAMPLE, [wider]))
    print(f"{usual}\n{fewer}")


def described(name: str, run: Run) -> str:
    """Return a line about a run."""
    losses = [record["held_out_loss"] for record in run.log if "held_out_loss" in record]
    sampling = {**FAST, "steps": 20}
    found = evaluate(run, n=2000, sampling=sampling, out=run.directory / "evaluation" / "groups")
    distance = found.samples.frechet
    return (
        f"{name}: held-out loss {losses[-1]:.4f}, {found.report['frechet_name']} "
        f"{distance.value:.3g} +- {distance.error:.1g}"
    )


if __name__ == "__main__":
    main()

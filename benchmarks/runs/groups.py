"""Does a narrow network lose the level of its data? Normalize it in fewer groups, and see.

python -m benchmarks.runs.groups

The normalization has 32 groups, as in the published networks. Where a level is no wider than that
each channel is a group by itself, and its mean, the level of the data among it, is taken away. The
run of signals is trained again with at most 8 groups.
"""

from pathlib import Path

from benchmarks.runs import signals
from benchmarks.runs.common import FAST, prepared, trained
from iddpm.networks import layers
from iddpm.run import Run
from iddpm.tasks.evaluate import evaluate

MOST = 8


def main() -> None:
    """Train both and print the loss of the held-out windows and the distance of samples."""
    data = prepared(signals.prepare)
    usual = told("32 groups", trained(data, Path("runs/signals"), signals.EXAMPLE))
    layers.num_groups = lambda channels: max(n for n in range(1, MOST + 1) if channels % n == 0)
    fewer = told(f"{MOST} groups", trained(data, Path("runs/signals_groups"), signals.EXAMPLE))
    print(f"{usual}\n{fewer}")


def told(name: str, run: Run) -> str:
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

"""Compare the memory that training takes with what was counted before it began.

python benchmarks/memory.py

Every case trains two steps in a process of its own; measured is its peak (ru_maxrss) less what
the process had when training began. The settings that are not named are those that would be
proposed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CASES: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...] = (
    ((1, 4096), ("training.batch_size=8",)),
    ((1, 4096), ("training.batch_size=8", "training.precision=float32")),
    ((1, 4096), ("training.batch_size=8", "model.use_checkpoint=true")),
    ((1, 20000), ("training.batch_size=4", "model.model_channels=32")),
    ((1, 28, 28), ("training.batch_size=64",)),
    ((3, 64, 64), ("training.batch_size=8",)),
    ((3, 64, 64), ("training.batch_size=8", "training.precision=float32")),
    ((3, 64, 64), ("training.batch_size=8", "model.use_checkpoint=true")),
    ((1, 32, 32, 32), ("training.batch_size=4",)),
    ((1, 32, 32, 32), ("training.batch_size=4", "training.precision=float32")),
    ((1, 32, 32, 32), ("training.batch_size=4", "model.use_checkpoint=true")),
    ((3, 8, 64, 64), ("training.batch_size=2",)),
)


def measure(shape: tuple[int, ...], settings: tuple[str, ...]) -> None:
    """Train two steps and print the counted and the measured bytes."""
    import torch

    from iddpm import train
    from iddpm.builders import footprint
    from iddpm.training.precision import Precision

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.npy")
        items = np.random.default_rng(0).standard_normal((80, *shape), np.float32)
        np.save(data, items)
        del items
        layout = {2: "NCL", 3: "NCHW", 4: "NCDHW"}[len(shape)]
        every = [
            f"data.layout={layout}",
            "training.steps=2",
            "training.preview_every=0",
            "training.validate_every=0",
            "training.save_minutes=null",
            *settings,
        ]
        torch.ones(8, 8) @ torch.ones(8, 8)
        before = _resident()
        run = train(data, settings=every, out=Path(folder, "run"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        training = run.config.training
        number = Precision(training.precision, torch.device("cpu")).dtype.itemsize
        assert training.batch_size is not None
        counted = footprint(run.config, number).training(training.microbatch or training.batch_size)
    print(json.dumps([counted, peak - before]))


def _resident() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell the memory of a process")


def main() -> None:
    """Print a row per case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--case", type=int, help="measure this one here")
    case = parser.parse_args().case
    if case is not None:
        measure(*CASES[case])
        return
    print("| item | settings | estimated, GB | measured, GB | estimated / measured |")
    print("|---|---|---|---|---|")
    for number, (shape, settings) in enumerate(CASES):
        command = [sys.executable, __file__, "--case", str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counted, measured = json.loads(done.stdout.splitlines()[-1])
        named = ", ".join(s.partition(".")[2] for s in settings)
        print(
            f"| {' x '.join(map(str, shape))} | {named} | {counted / 1e9:.2f} | "
            f"{measured / 1e9:.2f} | {counted / measured:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Train the demo's network to predict eps, x0 and v, and compare what they draw.

python benchmarks/predictions.py --out runs/predictions

Each is trained for the same number of steps from the same seed; the samples start from the same
noise. Two figures need no trained judge:

- background: mean distance from black, in [0, 2], of the outermost pixels, which are black in
  every real digit: a tint shows here.
- class: share of samples whose nearest real digit (by pixels) has the requested class;
  real digits held out reach the value printed in the last line.

A run that exists is not trained again, so the command can be interrupted and repeated.
"""

import argparse
from pathlib import Path

import torch

from iddpm.config import read_config
from iddpm.data.embedded import embedded
from iddpm.data.levels import to_model_range
from iddpm.data.split import held_out_mask
from iddpm.data.writers.image_files import save_grid
from iddpm.runs.layout import CONFIG
from iddpm.tasks.demo import SETTINGS
from iddpm.tasks.train import train
from iddpm.training.monitoring.terminal import TerminalReporter

KINDS = {
    "eps hybrid": ["diffusion.predicts=eps"],
    "x0 hybrid": ["diffusion.predicts=x0"],
    "v hybrid": ["diffusion.predicts=v"],
    "x0 simple": [
        "diffusion.predicts=x0",
        "diffusion.loss=simple",
        "diffusion.variance=fixed_small",
    ],
}
PER_CLASS = 20


def nearest_class(x: torch.Tensor, real: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the class [N] of the real item nearest to each of ``x``."""
    return labels[torch.cdist(x.flatten(1), real.flatten(1)).argmin(dim=1)]


def background(x: torch.Tensor) -> float:
    """Return the mean distance of the outermost pixels from black."""
    edge = torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], dim=-1)
    return float((edge + 1).abs().mean())


def main() -> None:
    """Train what is missing, sample and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/predictions"))
    parser.add_argument("--steps", type=int, default=SETTINGS["training"]["steps"])
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()

    source = embedded("mnist5k")
    assert source.labels is not None
    digits = to_model_range(source.read_many(range(len(source))), source.bits)
    labels = torch.from_numpy(source.labels)
    held_out = torch.from_numpy(held_out_mask(source, read_config().data.held_out))
    real, real_labels = digits[~held_out], labels[~held_out]

    wanted = torch.arange(10).repeat_interleave(PER_CLASS)
    rows = []
    for kind in arguments.only:
        out = arguments.out / kind.replace(" ", "_")
        base_settings = [
            *(f"{s}.{k}={v}" for s, values in SETTINGS.items() for k, v in values.items()),
            "training.preview_every=0",
        ]
        run = train(
            None if (out / CONFIG).is_file() else "mnist5k",
            settings=[]
            if (out / CONFIG).is_file()
            else [*base_settings, *KINDS[kind], f"training.steps={arguments.steps}"],
            out=out,
            resume=(out / CONFIG).is_file(),
            reporter=TerminalReporter(),
        )
        x = run.sample(len(wanted), classes=wanted.tolist(), precision="auto")
        path = save_grid(x, out / "grid.png", columns=PER_CLASS)
        share = (nearest_class(x, real, real_labels) == wanted).double().mean()
        rows.append((kind, background(x), float(share), run.log[-1].get("held_out_loss"), path))

    print(f"\n{'predicts, loss':<14} {'background':>10} {'class':>6}  picture")
    for kind, tint, share, _, path in rows:
        print(f"{kind:<14} {tint:>10.4f} {share:>6.3f}  {path}")
    share = nearest_class(digits[held_out], real, real_labels) == labels[held_out]
    tint = background(digits[held_out])
    print(f"{'real digits':<14} {tint:>10.4f} {float(share.double().mean()):>6.3f}")


if __name__ == "__main__":
    main()

"""Compare ways to upsample: transposed convolutions against nearest neighbors.

python benchmarks/upsampling.py

Trains the same small network with each kind of upsampling and several seeds, with widths chosen so
that the parameters agree as nearly as they can, and measures held-out bits/dim, the Frechet
distance of samples under a classifier's features, checkerboard energy and the time of a training
step. Interrupted, it goes on where it was. The table stands in ``benchmarks/upsampling.md``.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from common import interleave, processor, ratio
from judge import Ruler, training_items
from mnist import digits

from iddpm.builders import build_network, place, resolve
from iddpm.config import read_config
from iddpm.data.levels import to_model_range, to_stored_range
from iddpm.runs.layout import CONFIG, WEIGHTS
from iddpm.runs.run import Run, load
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.train import train

SETTINGS = [
    "model.model_channels=16",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2,2]",
    "model.attention_downsampling=[4]",
    "model.num_heads=2",
    "diffusion.predicts=v",
    "training.batch_size=64",
    "training.learning_rate=1e-3",
    "training.warmup_steps=100",
    "training.anneal=linear",
    "training.ema_rates=[0.999]",
    "training.log_every=100",
    "training.save_every=500",
    "training.preview_every=0",
    "training.validate_every=1000",
]
KINDS = {
    "transposed, smooth start": ["model.upsample=transpose", "model.smooth_start=true"],
    "transposed, plain start": ["model.upsample=transpose", "model.smooth_start=false"],
    "nearest + convolution": ["model.upsample=nearest_conv"],
    "nearest alone": ["model.upsample=nearest"],
}
STEPS = 200
LOOKS = 6
"""Network evaluations per held-out item in the estimate of bits/dim."""
DRAWN = 1000


def equal_width(settings: list[str], parameters: int) -> float:
    """Return the last level's width factor nearest to a number of parameters."""

    def distance(factor: float) -> int:
        return abs(count([*settings, f"model.channel_mult=[1,2,{factor}]"]) - parameters)

    return min((2 + sixteenth / 16 for sixteenth in range(0, 16, 2)), key=distance)


def count(settings: list[str]) -> int:
    """Return the number of parameters that settings give."""
    config = resolve(read_config(None, [*settings, "model.channels=1", "model.size=[28,28]"]))
    return sum(p.numel() for p in build_network(config).parameters())


def checkerboard(x: torch.Tensor) -> float:
    """Return the share of spectral energy at the upsamplings' frequencies, 1/2 and 1/4 cycles.

    Of ``x`` [N, C, H, W] about its mean: the energy on the lines of the 2-D spectrum where a
    frequency along one axis is that of a stride of 2, or of 2 twice, over the whole.
    """
    spectrum = torch.fft.fft2(x - x.mean(dim=(2, 3), keepdim=True)).abs().square().mean(dim=(0, 1))
    height, width = spectrum.shape
    lines = torch.zeros_like(spectrum, dtype=torch.bool)
    for part in (2, 4):
        lines[height // part] = lines[-(height // part)] = True
        lines[:, width // part] = lines[:, -(width // part)] = True
    return float(spectrum[lines].sum() / spectrum.sum())


def step_times(settings: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Return the time of a training step of each kind over that of the first, interleaved."""
    x, t = torch.randn(64, 1, 28, 28), torch.full((64,), 500.0)
    cases = {}
    for kind, chosen in settings.items():
        stated = [*chosen, "model.channels=1", "model.size=[28,28]"]
        network = build_network(resolve(read_config(None, stated)))
        place(network, torch.device("cpu"))

        def step(network: torch.nn.Module = network) -> None:
            network.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                y = network(x, t)
            y.float().square().mean().backward()

        cases[kind] = step
    seconds = interleave(cases, rounds)
    first = next(iter(cases))
    return {kind: ratio(seconds, kind, first) for kind in cases}


def trained(kind: str, seed: int, out: Path, settings: list[str], steps: int) -> Run:
    """Return the run of a kind and seed, trained as far as it was not."""
    folder = out / f"{kind.replace(' + ', '_').replace(', ', '_').replace(' ', '_')}_{seed}"
    if not (folder / WEIGHTS).is_file():
        resume = (folder / CONFIG).is_file()
        chosen = [*settings, f"training.steps={steps}", f"training.seed={seed}"]
        print(f"training {folder}", flush=True)
        train(
            None if resume else digits(),
            settings=[] if resume else chosen,
            out=folder,
            resume=resume,
        )
    return load(folder)


class Figures(NamedTuple):
    """What one run came to."""

    bits_per_dim: float
    frechet: float
    checkerboard: float


def measure(run: Run, ruler: Ruler) -> Figures:
    """Measure a run; what was measured before is read from its directory."""
    path = run.directory / "figures.json"
    if not path.is_file():
        print(f"measuring {run.directory}", flush=True)
        bound = likelihood(run, samples_per_item=LOOKS, precision="bf16")
        x = run.sample(DRAWN, sampler="dpmpp_2m_sde", steps=10, precision="bf16", batch_size=125)
        x = to_model_range(to_stored_range(x, 8), 8)
        figures = Figures(bound.total.mean, ruler.distance(x).value, checkerboard(x))
        write_json(path, figures._asdict())
    return Figures(**json.loads(path.read_text(encoding="utf-8")))


def table(
    figures: dict[str, list[Figures]],
    real: float,
    parameters: dict[str, int],
    times: dict[str, float],
) -> str:
    """Return the Markdown table: means over seeds and their standard errors.

    The checkerboard's energy is given as a multiple of the ``real`` data's.
    """
    lines = [
        "| upsampling | parameters | bits/dim | Frechet distance | checkerboard | step time |",
        "|---|---|---|---|---|---|",
    ]
    for kind, rows in figures.items():
        columns = [
            _spread([row.bits_per_dim for row in rows]),
            _spread([row.frechet for row in rows]),
            _spread([row.checkerboard / real for row in rows]),
        ]
        lines.append(
            f"| {kind} | {parameters[kind]:,} | {' | '.join(columns)} | x{times[kind]:.2f} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values) / len(values) ** 0.5:.3f}"


def main() -> None:
    """Train what is missing, measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/upsampling"))
    parser.add_argument("--classifier", type=Path, default=Path("runs/mnist_classifier"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {kind: [*SETTINGS, *chosen] for kind, chosen in KINDS.items()}
    wanted = count(settings[next(iter(KINDS))])
    for chosen in settings.values():
        chosen.append(f"model.channel_mult=[1,2,{equal_width(chosen, wanted)}]")
    runs = {
        (kind, seed): trained(kind, seed, arguments.out, chosen, arguments.steps)
        for seed in range(arguments.seeds)
        for kind, chosen in settings.items()
    }
    if arguments.train_only:
        return
    real, _ = training_items(next(iter(runs.values())).config)
    ruler = Ruler(arguments.classifier, real)
    figures = {
        kind: [measure(runs[kind, seed], ruler) for seed in range(arguments.seeds)]
        for kind in KINDS
    }
    parameters = {kind: count(chosen) for kind, chosen in settings.items()}
    text = table(figures, checkerboard(real), parameters, step_times(settings, rounds=15)) + "\n"
    print(f"{processor()}\n\n{text}")
    print(f"wrote {write_text(arguments.out / 'upsampling.md', text)}")


if __name__ == "__main__":
    main()

"""The card of an exported model: its data, settings and measured numbers, and how to open it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iddpm.config import ResolvedConfig

OPENED = {
    "diffusers": """\
```python
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained(".")
images = pipeline(batch_size=4, num_inference_steps={steps}{clipped}).images
```
""",
    "diffusers_labels": """\
No pipeline of diffusers draws by class, so the network and the scheduler are opened by themselves:

```python
import torch
from diffusers import UNet2DModel, {scheduler}

unet = UNet2DModel.from_pretrained(".", subfolder="unet")
scheduler = {scheduler}.from_pretrained(".", subfolder="scheduler")
scheduler.set_timesteps({steps})
x, labels = torch.randn(4, {shape}), torch.arange(4) % {classes}
for t in scheduler.timesteps:
    with torch.no_grad():
        x = scheduler.step(unet(x, t, class_labels=labels).sample, t, x).prev_sample
```
""",
    "onnx": """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("network.onnx")
(output,) = session.run(None, {{{inputs}}})
```

`network.json` holds the noise schedule and what the output means. Sizes: {sizes}.
""",
    "torch": """\
`python sample.py` draws by DDIM with PyTorch alone, where it is there. The program is opened by
`torch.export.load("network.pt2").module()` and called with {inputs}.
`network.json` holds the noise schedule and what the output means. Sizes: {sizes}.
""",
    "safetensors": """\
```python
import iddpm

run = iddpm.load(".")
```
""",
}
"""How each kind of export is opened."""


def model_card(
    run: Path, config: ResolvedConfig, to: str, facts: Mapping[str, Any], license_name: str
) -> str:
    """Return the card, Markdown with the front matter that the Hugging Face hub reads.

    Args:
        run: the run directory, whose measurements it repeats.
        config: its settings.
        to: the kind of export, a key of :data:`OPENED`.
        facts: what that text names.
        license_name: for the field of that name.
    """
    library = {"diffusers": "diffusers", "onnx": "onnx"}.get(to.partition("_")[0], "pytorch")
    front = [
        f"license: {license_name}",
        f"library_name: {library}",
        "tags:",
        "- diffusion",
        "- ddpm",
    ]
    lines = ["---", *front, "---", "", f"# {run.resolve().name}", "", OPENED[to].format(**facts)]
    lines += ["## Data", "", *_data(config), "", "## Settings", "", *_settings(config), ""]
    measured = list(_measured(run))
    lines += ["## Measured", "", *(measured or ["No measurements exist for this run."]), ""]
    return "\n".join(lines)


def _data(config: ResolvedConfig) -> Iterator[str]:
    model = config.model
    shape = " x ".join(map(str, (model.channels, *(model.size or ()))))
    name = Path(config.data.path).name if config.data.path else "not named"
    yield (
        f"- {name}: items of {shape}, "
        + (f"{config.bits} bits" if config.bits else "floats")
        + "; -1 to 1 for the network"
    )
    if config.class_names:
        shown = ", ".join(config.class_names[:20])
        more = f" and {len(config.class_names) - 20} more" if len(config.class_names) > 20 else ""
        yield f"- classes, in the order of their numbers: {shown}{more}"
    if config.imported_from:
        yield f"- imported from {config.imported_from}"


def _settings(config: ResolvedConfig) -> Iterator[str]:
    model, diffusion, training = config.model, config.diffusion, config.training
    yield "| setting | value |"
    yield "|---|---|"
    rows = {
        "task": config.task,
        "model.model_channels": model.model_channels,
        "model.channel_mult": ", ".join(f"{m:g}" for m in model.channel_mult or ()),
        "model.num_res_blocks": model.num_res_blocks,
        "model.attention_downsampling": ", ".join(map(str, model.attention_downsampling or ())),
        "diffusion.schedule": diffusion.schedule,
        "diffusion.num_steps": diffusion.num_steps,
        "diffusion.predicts": diffusion.predicts,
        "diffusion.variance": diffusion.variance,
        "diffusion.loss": getattr(diffusion.loss, "name", diffusion.loss.kind),
    }
    trained = {
        "training.steps": training.steps,
        "training.batch_size": training.batch_size,
        "training.learning_rate": training.learning_rate,
        "training.ema_rates": ", ".join(map(str, training.ema_rates)),
    }
    if config.imported_from is None or config.data.path is not None:
        rows |= trained
    for name, value in rows.items():
        yield f"| `{name}` | {value} |"


def _measured(run: Path) -> Iterator[str]:
    """Yield a line for each number that commands wrote into the run."""
    report = _read(run / "evaluation" / "report.json")
    samples = report.get("samples") or {}
    if samples:
        distance = samples.get("frechet_distance") or {}
        drawn = (report.get("drawn") or {}).get("walk", "samples of a file")
        yield (
            f"- {report.get('frechet_name')}: {distance.get('value', 0):.4g} +- "
            f"{distance.get('error', 0):.2g} over {samples.get('count')} samples, each {drawn}"
        )
        for name in ("precision", "recall", "density", "coverage"):
            if isinstance(samples.get(name), float):
                yield f"- {name}: {samples[name]:.4f}"
    for path in sorted((run / "likelihood").glob("*.json")):
        bound = _read(path)
        total, about = bound.get("total") or {}, bound.get("facts") or {}
        if total:
            yield (
                f"- likelihood: {total.get('mean', 0):.4f} +- {total.get('error', 0):.4f} "
                f"{bound.get('unit')} over {about.get('items')} items of {about.get('data')}, "
                f"{about.get('steps')} of {about.get('trained_steps')} steps"
            )
    shares = (_read(run / "accuracy.json")).get("held_out") or {}
    for step, share in shares.items():
        yield f"- accuracy on held-out items at t={step}: {100 * share:.2f} %"


def _read(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run holds; nothing where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

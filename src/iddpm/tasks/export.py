"""A trained model as files that other programs open."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders import build_diffusion, task_of
from iddpm.builders.meta_network import example_inputs
from iddpm.config import ResolvedConfig
from iddpm.config.run_config import CONFIG, WEIGHTS, written_settings
from iddpm.diffusion import GaussianDiffusion
from iddpm.interop.diffusers_export import VERSION, layout_of, scheduler_config, unet_config
from iddpm.interop.diffusers_names import to_diffusers
from iddpm.interop.program import SAMPLE_SCRIPT, Program, expect_onnx, export_program, write_onnx
from iddpm.runs.classifier import load_classifier
from iddpm.runs.run import Run
from iddpm.runs.sealed_settings import seal
from iddpm.runtime.atomic_files import make_public
from iddpm.tasks.model_card import model_card
from iddpm.training.checkpoints.weights import write_sealed, write_weights

KINDS = ("diffusers", "onnx", "torch", "safetensors")
ITEMS = 4
"""Items that the script beside an exported program draws."""


@dataclass(frozen=True, eq=False)
class _Model:
    """What is exported: a network in evaluation mode on the CPU, and what it means."""

    directory: Path
    config: ResolvedConfig
    network: nn.Module
    diffusion: GaussianDiffusion


def export(run: Run, to: str, out: Path, *, license_name: str = "unknown") -> list[Path]:
    """Write a trained model as files for other programs, and a card that describes it.

    Args:
        run: the model; also a classifier's directory opened as a run.
        to: ``diffusers`` (a pipeline folder), ``onnx``, ``torch`` (a torch.export program) or
            ``safetensors`` (weights and settings, which :func:`iddpm.load` opens).
        out: the directory to make.
        license_name: for the card, as the Hugging Face hub writes it, such as ``mit``.

    Returns:
        The files that were written.

    Raises:
        ValueError: an unknown kind, or a setting that the other program has no counterpart of.
        FileExistsError: something is in ``out`` already.
    """
    if to not in KINDS:
        raise ValueError(f"--to {to} is unknown: use {', '.join(KINDS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not empty: name another directory with --out")
    if to == "onnx":
        expect_onnx()
    if to == "diffusers":  # whose schedulers take the model for a denoiser
        run.task.check_denoises(run.directory, "a pipeline of diffusers")
    model = _open(run)
    write = {
        "diffusers": _to_diffusers,
        "onnx": _to_onnx,
        "torch": _to_torch,
        "safetensors": _to_safetensors,
    }[to]
    with _directory(out) as folder:
        kind, facts = write(model, folder)
        card = model_card(model.directory, model.config, kind, facts, license_name)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return sorted(path for path in out.rglob("*") if path.is_file())


def _open(run: Run) -> _Model:
    diffusion = build_diffusion(run.config)
    network: Any
    if task_of(run.config).draws:
        network = run.denoiser.network
    else:
        network = load_classifier(run.directory, "cpu").network
    network = network.cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    return _Model(run.directory, run.config, network, diffusion)


@contextmanager
def _directory(out: Path) -> Iterator[Path]:
    """Fill a directory beside ``out`` and give it that name when all is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp_", dir=out.parent))
    try:
        yield folder
        make_public(folder, 0o777)
        if out.is_dir():
            out.rmdir()
        folder.replace(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _weights(model: _Model) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in model.network.state_dict().items()}


def _to_safetensors(model: _Model, folder: Path) -> tuple[str, dict[str, Any]]:
    data = model.config.data
    if data.path is not None:  # where the data lay is nobody else's business
        data = data.model_copy(update={"path": Path(data.path).name})
    made = model.config.distillation
    if made is not None:
        names = {"teacher": Path(made.teacher).name, "features": Path(made.features).name}
        made = made.model_copy(update=names)
    config = model.config.model_copy(update={"data": data, "distillation": made})
    write_sealed(folder / WEIGHTS, _weights(model), {"settings": seal(config)})
    (folder / CONFIG).write_text(written_settings(config), encoding="utf-8")
    return "safetensors", {}


def _to_diffusers(model: _Model, folder: Path) -> tuple[str, dict[str, Any]]:
    config, settings = model.config, model.config.model_dump(mode="json")
    groups = {m.num_groups for m in model.network.modules() if isinstance(m, nn.GroupNorm)}
    unet = unet_config(settings, groups)
    sampling = config.sampling
    scheduler = scheduler_config(
        model.diffusion,
        config.diffusion.predicts,
        clip=sampling.clip,
        ddim=sampling.sampler == "ddim",
    )
    weights = to_diffusers(_weights(model), layout_of(settings["model"]))
    (folder / "unet").mkdir()
    (folder / "scheduler").mkdir()
    _json(folder / "unet" / "config.json", unet)
    _json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_weights(
        folder / "unet" / "diffusion_pytorch_model.safetensors", weights, {"format": "pt"}
    )
    steps = min(config.sampling.steps, len(model.diffusion.schedule))
    name = scheduler["_class_name"]
    if config.model.class_conditional:
        shape = ", ".join(map(str, (config.model.channels, *(config.model.size or ()))))
        facts = {"scheduler": name, "steps": steps, "shape": shape}
        return "diffusers_labels", {**facts, "classes": config.model.num_classes}
    pipeline = name.replace("Scheduler", "Pipeline")
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", name]}
    _json(
        folder / "model_index.json",
        {"_class_name": pipeline, "_diffusers_version": VERSION, **parts},
    )
    # Without it diffusers steps along the noise of the estimate before it was clipped.
    clipped = ", use_clipped_model_output=True" if name.startswith("DDIM") else ""
    return "diffusers", {"pipeline": pipeline, "steps": steps, "clipped": clipped}


def _to_torch(model: _Model, folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, factors = _inputs(model)
    program = export_program(model.network, inputs, factors)
    torch.export.save(program.exported, folder / "network.pt2")
    _json(folder / "network.json", _facts(model, program))
    if set(inputs) <= {"x", "timesteps", "y"} and model.config.diffusion.predicts in (
        "eps",
        "x0",
        "v",
    ):
        (folder / "sample.py").write_text(SAMPLE_SCRIPT, encoding="utf-8")
    return "torch", {"inputs": ", ".join(inputs), "sizes": program.sizes}


def _to_onnx(model: _Model, folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, factors = _inputs(model)
    program = export_program(model.network, inputs, factors)
    facts = _facts(model, program)
    write_onnx(program, model.network, inputs, folder / "network.onnx", json.dumps(facts))
    _json(folder / "network.json", facts)
    if not task_of(model.config).draws:
        shown = model.diffusion.schedule.shown[:1].float()
        features = _CleanFeatures(model.network, shown).eval()
        images = {"x": inputs["x"]}
        extracted = export_program(features, images, factors)
        write_onnx(extracted, features, images, folder / "features.onnx", json.dumps(facts))
        _json(folder / "features.json", {"name": model.directory.resolve().name})
    shapes = {
        name: " x ".join(map(str, value.shape[1:])) or "number" for name, value in inputs.items()
    }
    called = ", ".join(f'"{name}": {name}' for name in shapes)
    return "onnx", {"inputs": called, "sizes": program.sizes}


class _CleanFeatures(nn.Module):
    """The features of clean data, as ``iddpm evaluate --features FILE.onnx`` takes them."""

    def __init__(self, network: nn.Module, shown: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shown", shown)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to [N, d]."""
        assert isinstance(self.shown, Tensor)
        network: Any = self.network
        features: Tensor = network.features(x, self.shown.expand(x.shape[0]))
        return features


def _inputs(model: _Model) -> tuple[dict[str, Tensor], list[int] | None]:
    """Return an example for each argument, and what sizes must be a multiple of; None for one."""
    config, network = model.config, model.network
    inputs = example_inputs(config, 2)
    stride, levels = getattr(network, "stride", None), len(config.model.channel_mult or ())
    size = config.model.size or ()
    if stride is None or getattr(network, "pool", None) == "attention":
        return inputs, None
    factors = [s ** (levels - 1) for s in stride]
    divided = all(n % f == 0 and n > f for n, f in zip(size, factors, strict=True))
    return inputs, factors if divided and not any(getattr(network, "circular", ())) else None


def _facts(model: _Model, program: Program) -> dict[str, Any]:
    """Return what somebody needs to sample with the network, as JSON holds it."""
    config, schedule = model.config, model.diffusion.schedule
    return {
        "task": config.task,
        "shape": [config.model.channels, *(config.model.size or ())],
        "items": ITEMS,
        "sizes": program.sizes,
        "classes": config.model.num_classes,
        "class_names": list(config.class_names),
        "predicts": config.diffusion.predicts,
        "variance": config.diffusion.variance,
        # Where it is set, x is what the data differs by from its bicubic low resolution, in units
        # of these numbers.
        "residual_scale": config.diffusion.residual_scale,
        "alpha_bar": schedule.alpha_bar.tolist(),
        "shown": schedule.shown.tolist(),
    }


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

"""The pages of the Python interface: which names and modules stand where.

Names that ``iddpm`` itself offers come first on each page, as ``iddpm.NAME``; the other public
names of the modules below follow under their modules.
"""

import ast
import importlib
import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from pydantic import BaseModel

import iddpm


class Page(NamedTuple):
    """A page: its title, what it says first, and the modules whose names it shows."""

    title: str
    text: str
    modules: tuple[str, ...]


PAGES = {
    "tasks": Page(
        "Train, open, measure",
        "What the commands do, as functions, and the run that they work on.",
        ("runs.run", "tasks.train", "tasks.distill", "tasks.evaluate", "tasks.likelihood",
         "tasks.tune", "tasks.draw", "runs.classifier", "runs.opened_run", "runs.drawing",
         "tasks.training_setup", "tasks.start", "tasks.likelihood_report",
         "tasks.evaluation_report"),
    ),
    "diffusion": Page(
        "Diffusion",
        "Schedules, the forward process, predictions, losses and the variational bound. Data is in "
        "[-1, 1]; bounds are in bits or nats as each function says.",
        ("diffusion.schedule", "diffusion.time_input", "diffusion.gaussian",
         "diffusion.prediction", "diffusion.denoiser",
         "diffusion.losses", "diffusion.weighting", "diffusion.variational_bound",
         "diffusion.analytic", "diffusion.residual", "diffusion.fourier",
         "diffusion.level_distribution"),
    ),
    "sampling": Page(
        "Sampling",
        "Samplers, spacings of timesteps, guidance, editing, restoration and tiles.",
        ("sampling.sampler_loop", "sampling.ddpm", "sampling.ddim", "sampling.heun",
         "sampling.ipndm", "sampling.dpm_solver", "sampling.unipc", "sampling.er_sde",
         "sampling.multistep_consistency", "sampling.mean_velocity", "sampling.spacing",
         "sampling.guidance", "sampling.bounds", "sampling.hidden_conditioning",
         "sampling.editing", "sampling.operators",
         "sampling.spectral_operators", "sampling.restoration", "sampling.tiles",
         "sampling.fitted_spacing", "sampling.noise"),
    ),
    "networks": Page(
        "Networks",
        "The U-Nets and their blocks.",
        ("networks.unet", "networks.super_resolution", "networks.encoder", "networks.level_head",
         "networks.magnitude_unet", "networks.magnitude_blocks", "networks.magnitude_layers",
         "networks.wavelets", "networks.blocks", "networks.attention", "networks.layers",
         "networks.convolution", "networks.checkpointing", "networks.condition_embedding",
         "networks.around", "networks.trunk"),
    ),
    "training": Page(
        "Training",
        "The training step and its parts, for a loop of one's own.",
        ("training.step", "training.loop", "training.loop_settings", "training.timesteps",
         "training.ema", "training.power", "training.precision", "training.spikes",
         "training.stop", "training.classification", "training.checkpoints.state",
         "training.checkpoints.checkpoint", "training.monitoring.log_files"),
    ),
    "measuring": Page(
        "Measuring",
        "Features, distances between sets of items, and what compares pairs of items.",
        ("evaluation.features", "evaluation.feature_sets", "evaluation.measures",
         "evaluation.distances", "evaluation.precision_recall", "evaluation.fidelity",
         "evaluation.similarity", "evaluation.whitening", "evaluation.nearest_items",
         "evaluation.reference", "evaluation.metrics", "evaluation.bound_terms",
         "evaluation.sampled_bound", "evaluation.step_costs", "evaluation.stride",
         "evaluation.tuning"),
    ),
    "data": Page(
        "Data",
        "Sources of data, and how samples are written.",
        ("data.writers.image_files", "data.sources.open", "data.sources.source", "data.values",
         "data.batches", "data.split", "data.item", "data.file_format",
         "data.conditioning.labels"),
    ),
    "interop": Page(
        "Other programs",
        "Checkpoints, flags and formats of other implementations.",
        ("interop.openai", "interop.published_flags", "interop.published_weights",
         "interop.diffusers_import", "interop.diffusers_export", "interop.diffusers_names",
         "interop.program"),
    ),
    "building": Page(
        "From settings to objects",
        "Settings as values, and the objects that a run builds from them.",
        ("config.settings", "config.resolved", "config.data", "config.degradation",
         "config.model", "config.condition_config", "config.diffusion", "config.training",
         "config.sampling", "config.distillation", "config.form", "config.choices",
         "builders.data_facts", "builders.network", "builders.training_parts",
         "builders.sampling_plan", "builders.guides", "runtime.processes", "runtime.seeds",
         "runtime.errors"),
    ),
}  # fmt: skip


def interface_pages() -> dict[str, str]:
    """Return all pages as reStructuredText, by name, and the list of the public names."""
    offered = {name: getattr(iddpm, name) for name in iddpm.__all__}
    pages = {name: _page(page, offered) for name, page in PAGES.items()}
    shown = "\n".join(pages.values())
    lost = [
        name
        for name in offered
        if f":: iddpm.{name}\n" not in shown and not inspect.ismodule(offered[name])
    ]
    if lost:
        raise SystemExit(f"no page of docs/_site/interface.py shows {', '.join(lost)}")
    pages["python"] = _list(offered)
    return pages


def _list(offered: Iterable[str]) -> str:
    rows = [f"   * - {_role(name)}\n     - {_first_line(name)}" for name in offered]
    table = ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows)
    text = "Everything here is imported from ``iddpm`` itself: ``from iddpm import UNet, sample``."
    return f"Python interface\n================\n\n{text}\n\n{table}\n"


def _role(name: str) -> str:
    value = getattr(iddpm, name)
    if inspect.ismodule(value):
        return f":py:mod:`iddpm.{name} <{value.__name__}>`"
    return f":py:obj:`iddpm.{name}`"


def _first_line(name: str) -> str:
    return (inspect.getdoc(getattr(iddpm, name)) or "").partition("\n")[0].replace("*", "\\*")


def _page(page: Page, offered: dict[str, object]) -> str:
    parts = [f"{page.title}\n{'=' * len(page.title)}\n\n{page.text}\n"]
    for place in page.modules:
        module = importlib.import_module(f"iddpm.{place}")
        title = f"``{module.__name__}``"
        parts.append(f"{title}\n{'-' * len(title)}\n\n.. automodule:: {module.__name__}\n")
        first = [name for name, value in offered.items() if _home(value, name) == module.__name__]
        parts += [_entry("iddpm", name, offered[name]) for name in first]
        others = [name for name in _public(module) if name not in first]
        parts += [_entry(module.__name__, name, getattr(module, name)) for name in others]
    return "\n".join(parts)


def _home(value: object, name: str) -> str:
    """Return the module in which a public name is written."""
    return value.__name__ if inspect.ismodule(value) else str(getattr(value, "__module__", ""))


def _public(module: ModuleType) -> list[str]:
    """Return what a module defines for others, in its order; data only if it is described."""
    found = []
    body = ast.parse(inspect.getsource(module)).body
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            found.append(statement.name)
        elif isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found.append(statement.targets[0].id)
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found.append(statement.target.id)
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def _entry(place: str, name: str, value: object) -> str:
    if inspect.ismodule(value):
        return ""  # its page shows what it holds
    if inspect.isclass(value):
        fields = issubclass(value, BaseModel)  # the reference of the settings has them
        return f".. autoclass:: {place}.{name}\n" + ("" if fields else "   :members:\n")
    kind = "autofunction" if inspect.isfunction(value) else "autodata"
    return f".. {kind}:: {place}.{name}\n"

"""A run made of a file that another program saved."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from iddpm.builders import build_diffusion, resolve, task_of
from iddpm.builders.meta_network import on_meta_device
from iddpm.builders.sampling_plan import build_sampling_schedule, choose_method
from iddpm.config import ResolvedConfig, read_config
from iddpm.config.run_config import CONFIG, WEIGHTS, written_settings
from iddpm.interop.diffusers_export import layout_of
from iddpm.interop.diffusers_import import pipeline_settings
from iddpm.interop.diffusers_names import check_weights, from_diffusers
from iddpm.interop.openai import build_published, constructor_from_flags
from iddpm.interop.published_flags import family_of, read_flags, split_flags
from iddpm.interop.published_settings import (
    facts_as_settings,
    settings_from_flags,
    without_counterpart,
)
from iddpm.interop.published_weights import Facts, check_fit, facts_of, read_published
from iddpm.runs.sealed_settings import seal
from iddpm.runtime.atomic_files import write_atomically, write_text
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.tasks.resume import refuse_used
from iddpm.training.checkpoints.checkpoint_files import file_sha256
from iddpm.training.checkpoints.weights import write_sealed

SEALED = ("task", "scale", "bits", "degradation", "model", "diffusion", "sampling")
"""Sections that describe imported weights; those of data and training are the user's to choose."""


@dataclass(frozen=True, eq=False)
class Imported:
    """What a file of another program holds, as ours.

    Attributes:
        config: the resolved settings of the run.
        weights: by parameter name, float32.
        settings: those that the flags stand for, for training a network like it.
        left: flags that are no setting, and what there is instead.
    """

    config: ResolvedConfig
    weights: Mapping[str, torch.Tensor]
    settings: dict[str, Any]
    left: dict[str, str]


def import_published(
    file: Path | str,
    flags: str | Mapping[str, Any],
    *,
    family: str = "improved",
    class_names: Sequence[str] = (),
) -> Imported:
    """Read a checkpoint of improved-diffusion, guided-diffusion or Recode-IDM.

    The weights determine whether it is a network, an upsampler or a classifier.

    Args:
        file: the ``.pt`` file of the weights, averages included.
        flags: as on the command line of that family, or names and values.
        family: ``improved``, ``guided`` or ``recode``.
        class_names: of the classes, in the order of their numbers; numbers by default.

    Raises:
        FileNotFoundError, ValueError: there is no such file, it holds something else than the
            weights that the flags describe, or flags that the family does not have.
    """
    read = read_flags(split_flags(flags, family) if isinstance(flags, str) else flags, family)
    weights = read_published(file)
    facts = facts_of(weights, read)
    with torch.device("meta"):
        published = build_published(*constructor_from_flags(family, read, facts))
    check_fit(file, weights, published.state_dict(), read)
    settings = settings_from_flags(family, read, facts)
    known = facts_as_settings(family, read, facts)
    if class_names:
        if len(class_names) != len(known["class_names"]):
            raise ValueError(
                f"{len(class_names)} class names were given, and {file} has "
                f"{len(known['class_names'])} classes"
            )
        known["class_names"] = list(class_names)
    line = " ".join(f"--{name} {_text(value)}" for name, value in read.items())
    origin = f"{Path(file).name} (sha256 {file_sha256(Path(file))[:16]}) of {family_of(family)}"
    config = _config(settings, known, f"{origin}: {line}" if line else origin)
    built, _ = on_meta_device(config)
    check_fit(file, weights, built.state_dict(), read)  # our settings build the same network
    return Imported(config, weights, settings, without_counterpart(read, facts.kind))


def import_pipeline(folder: Path | str) -> Imported:
    """Read a pipeline folder of diffusers: a UNet2DModel with a DDPM or DDIM scheduler.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or names a setting that our
            network or process has no counterpart of.
    """
    where = Path(folder)
    unet, weights_file = _read_json(where / "unet" / "config.json"), where / "unet"
    scheduler = _read_json(where / "scheduler" / "scheduler_config.json")
    for described, known in (
        (unet, ("UNet2DModel",)),
        (scheduler, ("DDPMScheduler", "DDIMScheduler")),
    ):
        if described.get("_class_name") not in known:
            raise ValueError(
                f"{where} holds a {described.get('_class_name')}, and only "
                f"{' or '.join(known)} can be imported"
            )
    found = [weights_file / f"diffusion_pytorch_model{kind}" for kind in (".safetensors", ".bin")]
    weights = read_published(next((path for path in found if path.is_file()), found[0]))
    settings, known_facts = pipeline_settings(unet, scheduler)
    config = _config(settings, known_facts, f"{where.resolve().name} of diffusers")
    built, _ = on_meta_device(config)
    groups = {m.num_groups for m in built.modules() if isinstance(m, torch.nn.GroupNorm)}
    if groups != {unet.get("norm_num_groups", 32)}:
        raise ValueError(
            f"{where} has norm_num_groups={unet.get('norm_num_groups', 32)}, and our "
            f"normalizations of these widths have {' and '.join(map(str, sorted(groups)))} "
            "groups"
        )
    named = from_diffusers(weights, layout_of(config.model.model_dump(mode="json")))
    check_weights(where, named, weights, built.state_dict())
    return Imported(config, named, settings, {})


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder of a diffusers pipeline")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no settings")
    return value


def published_settings(
    flags: str | Mapping[str, Any], *, family: str = "improved"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings that published flags stand for without any file, and the flags left.

    Without a file the flags say what they are for: a classifier where they give one of its sizes
    and none of a network, an upsampler where they give ``large_size``.
    """
    read = read_flags(split_flags(flags, family) if isinstance(flags, str) else flags, family)
    facts = Facts("network")
    if any(name.startswith("classifier_") for name in read) and "num_channels" not in read:
        facts = Facts("classifier")
    elif "large_size" in read:
        facts = Facts("upsampler")
    return settings_from_flags(family, read, facts), without_counterpart(read, facts.kind)


def settings_text(settings: Mapping[str, Any], left: Mapping[str, str]) -> str:
    """Return settings as YAML, with a comment for each flag that is none."""
    notes = [f"# --{name} is not a setting: {instead}\n" for name, instead in left.items()]
    return "".join(notes) + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def write_imported(imported: Imported, out: Path) -> None:
    """Make a run directory of what was imported; FileExistsError where there is something."""
    refuse_used(out, resume=False)
    settings = seal(imported.config)
    facts = {"settings": {k: v for k, v in settings.items() if k.partition(".")[0] in SEALED}}
    out.mkdir(parents=True, exist_ok=True)
    with DirectoryLock(out):
        write_atomically(
            out / WEIGHTS, lambda temporary: write_sealed(temporary, imported.weights, facts)
        )
        write_text(out / CONFIG, written_settings(imported.config))  # makes it a run


def _config(settings: Mapping[str, Any], known: Mapping[str, Any], origin: str) -> ResolvedConfig:
    """Return the resolved settings of a run; ValueError where they do not go together."""
    values = {**settings, "imported_from": origin, "class_names": known["class_names"]}
    values["model"] = {**settings["model"], **known["model"]}
    values["data"] = {**settings["data"], "identical": "together"}
    values["form"] = {"kind": "picture"}
    config = resolve(read_config(base=values))
    if task_of(config).draws:
        schedule = build_diffusion(config).schedule
        build_sampling_schedule(
            schedule, choose_method(config.sampling, len(config.model.size)), config.sampling.steps
        )
    return config


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

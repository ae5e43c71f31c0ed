"""Files of weights that the published scripts saved: read without running them, and understood."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

Kind = Literal["network", "upsampler", "classifier"]
PUBLISHED_CLASSES = 1000
"""Classes of every published conditional network and classifier."""
_WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "ema_model", "network")
"""Entries of a dictionary that some training programs put the weights into."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before every name."""
_STEM = "input_blocks.0.0.weight"
_RECODE_UPSAMPLING = re.compile(r"(output_blocks\.\d+\.\d+\.)op\.(weight|bias)")


class Facts(NamedTuple):
    """What a published network was made for, where the flags alone do not say it.

    Attributes:
        kind: ``network``, ``upsampler`` or ``classifier``; None leaves it to the flags.
        channels: of the data; 3 as published.
        classes: of a conditional network or a classifier.
    """

    kind: Kind | None = None
    channels: int = 3
    classes: int = PUBLISHED_CLASSES


UNSTATED = Facts()


def read_published(path: Path | str) -> dict[str, Tensor]:
    """Read the weights in a ``.pt`` or ``.safetensors`` file, float32, by our names.

    A wrapper around them (``state_dict``), a prefix of all names (``module.``) and half precision
    are taken; Recode-IDM's names of the upsampling become ours. Nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something else than weights, or weights that are not finite.
    """
    file = Path(path)
    weights = read_tensors(file)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    read: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not value.is_floating_point():
            raise ValueError(f"{file} holds {name} of type {value.dtype}, where weights are floats")
        if not bool(value.isfinite().all()):
            raise ValueError(f"{file} is unusable: {name} holds values that are not finite")
        read[_RECODE_UPSAMPLING.sub(r"\1conv.\2", name)] = value.float()
    return read


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the named tensors of a ``.pt`` or ``.safetensors`` file, without a wrapper around them.

    Nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something else than tensors, such as a TorchScript program.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {file}")
    return _unwrapped(file, _load(file))


def _load(file: Path) -> Any:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            program = any("/code/" in name for name in archive.namelist())
        if program:
            raise ValueError(
                f"{file} is a TorchScript program, and opening one runs its code: only weights "
                "are read; save model.state_dict() of it with torch.save"
            )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL (\S+)", str(error))
        held = f"the object {what[1]}" if what else "Python objects or no pickle at all"
        raise ValueError(
            f"{file} is not a checkpoint of only weights: it holds {held}, and only tensors "
            "are ever loaded; save model.state_dict() with torch.save"
        ) from None
    except (RuntimeError, EOFError, SafetensorError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"{file} is not a checkpoint of only weights: {reason}") from None


def _unwrapped(file: Path, found: Any) -> dict[str, Tensor]:
    """Return the dictionary of tensors in what was loaded."""
    if isinstance(found, dict) and {"state", "param_groups"} <= found.keys():
        raise ValueError(
            f"{file} is an optimizer's file (opt*.pt) and does not hold weights: give the "
            "model*.pt or ema*.pt beside it"
        )
    if isinstance(found, dict):
        for name in _WRAPPERS:
            if isinstance(found.get(name), dict):
                found = found[name]
                break
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{file} does not hold the weights of a network: it holds no dictionary")
    strange = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(
            f"{file} does not hold only the weights of a network: {strange[0][:100]!r} in it "
            "is not a tensor"
        )
    return {str(name): value for name, value in found.items()}


def facts_of(weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> Facts:
    """Return what weights were made for, as far as their names and shapes tell it.

    Channels and classes other than the published 3 and 1,000 are those of code that was changed.
    """
    stem = weights.get(_STEM)
    if stem is None or stem.dim() < 3:
        return UNSTATED
    channels = stem.shape[1]
    if not any(name.startswith("output_blocks.") for name in weights):
        last = [value for name, value in weights.items() if name.startswith("out.")][-1:]
        return Facts("classifier", channels, len(last[0]) if last else PUBLISHED_CLASSES)
    head = weights.get("out.2.weight")
    predicted = 3 if head is None else len(head)
    if flags.get("learn_sigma", False) and predicted % 2 == 0:
        predicted //= 2
    upsampler = channels == 6 or (channels not in (1, 3) and channels == 2 * predicted)
    label = weights.get("label_emb.weight")
    return Facts(
        "upsampler" if upsampler else "network",
        channels // 2 if upsampler else channels,
        PUBLISHED_CLASSES if label is None else len(label),
    )


def check_fit(
    path: Path | str,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    flags: Mapping[str, Any],
) -> None:
    """Raise ValueError where weights are not those of the network that flags describe.

    The message names the first tensor that does not fit and the flag that decides it.
    """
    for name, value in own.items():
        there = weights.get(name)
        if there is not None and there.shape == value.shape:
            continue
        found = "is not there" if there is None else f"has shape {list(there.shape)} there"
        raise ValueError(
            f"{path} belongs to other flags: {name} {found} and {list(value.shape)} by the flags: "
            f"{_decides(name, weights, own, flags)}"
        )
    more = [name for name in weights if name not in own]
    if more:
        raise ValueError(
            f"{path} belongs to other flags: it holds {more[0]}, which a network of these flags "
            f"lacks: {_decides(more[0], weights, own, flags)}"
        )


def _decides(
    name: str,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    flags: Mapping[str, Any],
) -> str:
    """Return which flag decides the shape of a tensor and, where they tell, what the weights say.

    What differs between the whole networks is looked at from the most telling on.
    """
    classifier = not any(key.startswith("output_blocks.") for key in weights)
    said = _Reading(weights), _Reading(own)
    names = {flag: flag for flag in _TELLING}
    names["widths"] = "large_size" if "large_size" in flags else "image_size"
    if classifier:
        names |= _CLASSIFIER_NAMES
    for flag in _TELLING:
        there, here = (getattr(reading, flag) for reading in said)
        if there != here and there is not None:
            what = "levels of the widths " if flag == "widths" else ""
            return f"--{names[flag]} decides it, and the file was made with {what}{there}"
    if "label_emb" in name:
        return "--class_cond decides it"
    if classifier and name.startswith("out."):
        return "--classifier_pool decides it, or --image_size"
    if re.match(r"(input|output)_blocks\.\d+\.1\.(norm|qkv|proj_out)", name):
        return f"--{names['attention_resolutions']} decides it"
    if re.match(r"output_blocks\.\d+\.\d+\.conv", name):
        return "--family decides it (upsampling of Recode-IDM is a transposed convolution)"
    return f"--{names['widths']} decides it, or --{names['num_res_blocks']}"


_TELLING = (
    "num_channels",
    "class_cond",
    "use_scale_shift_norm",
    "widths",
    "resblock_updown",
    "num_res_blocks",
    "learn_sigma",
    "attention_resolutions",
)
_CLASSIFIER_NAMES = {
    "num_channels": "classifier_width",
    "use_scale_shift_norm": "classifier_use_scale_shift_norm",
    "resblock_updown": "classifier_resblock_updown",
    "num_res_blocks": "classifier_depth",
    "attention_resolutions": "classifier_attention_resolutions",
}


class _Reading:
    """What the names and shapes of a network's weights say of its flags; None where nothing."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.encoder = not any(name.startswith("output_blocks.") for name in weights)

    @property
    def num_channels(self) -> int | None:
        first = self.weights.get("time_embed.0.weight")
        return None if first is None else first.shape[1]

    @property
    def class_cond(self) -> bool:
        return "label_emb.weight" in self.weights

    @property
    def use_scale_shift_norm(self) -> bool | None:
        emb = self.weights.get("middle_block.0.emb_layers.1.weight")
        norm = self.weights.get("middle_block.0.out_layers.0.weight")
        return None if emb is None or norm is None else len(emb) == 2 * len(norm)

    @property
    def widths(self) -> list[int]:
        """Channels from level to level, where they change; the image size decides them."""
        found: list[int] = []
        for index in range(len(self.weights)):
            norm = self.weights.get(f"input_blocks.{index}.0.out_layers.0.weight")
            if norm is not None and (not found or found[-1] != len(norm)):
                found.append(len(norm))
        return found

    @property
    def resblock_updown(self) -> bool:
        """Whether no level is left by a convolution."""
        return not any(re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", n) for n in self.weights)

    @property
    def num_res_blocks(self) -> int | None:
        """Blocks per level: as many blocks go up as down, one more than these in each level."""
        patterns = [r"input_blocks\.\d+\.0\.op\.weight"]
        if self.resblock_updown:
            patterns = [r"output_blocks\.\d+\.[12]\.in_layers\.2\.weight"]
            if self.encoder:
                return None
        resized = sum(re.fullmatch(patterns[0], name) is not None for name in self.weights)
        places = [re.match(r"input_blocks\.(\d+)\.", name) for name in self.weights]
        count = 1 + max((int(place[1]) for place in places if place), default=0)
        return count // (resized + 1) - 1

    @property
    def learn_sigma(self) -> bool | None:
        """Whether as many variances as means come out; None for a classifier."""
        stem, head = self.weights.get(_STEM), self.weights.get("out.2.weight")
        if self.encoder or stem is None or head is None or stem.dim() < 2:
            return None
        return len(head) in (2, 6) or len(head) == 2 * stem.shape[1]

    @property
    def attention_resolutions(self) -> str | None:
        """The blocks with attention, which the flag's sizes place."""
        found = {
            int(place[1])
            for name in self.weights
            if (place := re.match(r"input_blocks\.(\d+)\.1\.qkv\.weight", name))
        }
        return f"attention in the blocks {sorted(found)} of the way down" if found else "none"

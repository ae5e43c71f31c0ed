"""The user's own network: how it is found, its requirements, and the settings that follow."""

import copy
import importlib
import os
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders.meta_network import example_inputs
from iddpm.builders.network import count_outputs
from iddpm.builders.task import TASKS
from iddpm.config import Config, OwnLoss, ResolvedConfig, SimpleLoss, settle, validate
from iddpm.config.model import FACTS
from iddpm.config.presets import PRESETS

Network = nn.Module | str
"""A module, or ``package.module:factory`` that makes one."""


def name_of(thing: Any) -> str:
    """Return the name of a class or function, or of the class of an object, for people."""
    thing = getattr(thing, "func", thing)  # of functools.partial
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def make_own(network: object, config: ResolvedConfig) -> nn.Module:
    """Return a copy of a module, or the module of a factory for resolved settings.

    A factory is called as ``factory(channels=, out_channels=, size=, num_classes=)``; its weights
    depend on ``training.seed`` alone.

    Raises:
        ValueError: no module, no such factory, or one that does not make a module.
    """
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    if not isinstance(network, str):
        given = f"the class {network.__name__}" if isinstance(network, type) else repr(network)
        raise ValueError(
            f"network is {given[:80]}: pass a torch.nn.Module, or 'package.module:factory'"
        )
    factory, model = _find(network), config.model
    channels = model.channels
    learned = config.diffusion.variance.startswith("learned")
    arguments = {
        "channels": channels,
        "out_channels": count_outputs(config) + channels * learned,
        "size": model.size,
        "num_classes": model.num_classes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        try:
            made = factory(**arguments)
        except Exception as error:
            shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
            raise ValueError(f"{network}({shown}) failed: {_said(error)}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{network} returned a {type(made).__name__}, not a torch.nn.Module")
    return made


def _find(text: str) -> Any:
    """Import ``package.module:factory``, searched from the current directory first."""
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"network {text!r} is invalid: write package.module:factory")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise ValueError(f"network {text}: {module} failed to import: {_said(error)}") from error
    if not callable(getattr(found, name, None)):
        raise ValueError(f"network {text}: {module} has no function or class {name}")
    return getattr(found, name)


def expect_own(config: Config, network: object, where: object) -> None:
    """Raise ValueError unless an own network was passed exactly if the settings have one."""
    name = config.model.network
    if name is not None and network is None:
        raise ValueError(
            f"{where} has your own network, {name}, which a run never imports: pass it as "
            "network=... or --network package.module:factory"
        )
    if name is None and network is not None:
        raise ValueError(f"{where} was trained with the built-in network: leave network out")


def claim(wanted: Config, network: object, loss: object) -> Config:
    """Return the settings of a new run with the names of an own network and an own loss.

    With an own loss the built-in network has a fixed variance unless the settings state another,
    since the loss may not train it.

    Raises:
        ValueError: a task or settings that do not fit them.
    """
    model, diffusion = wanted.model, wanted.diffusion
    if not TASKS[wanted.task].takes_own_code and (network is not None or loss is not None):
        raise ValueError(f"task={wanted.task} uses its own network and loss: leave yours out")
    if loss is not None:
        if not callable(loss):
            raise ValueError(f"loss is {loss!r:.80}: pass a function, see docs/own_code.md")
        if "loss" in diffusion.model_fields_set:
            raise ValueError("a loss was passed and diffusion.loss is set too: use one of them")
        update: dict[str, Any] = {"loss": OwnLoss(name=name_of(loss))}
        if network is None and "variance" not in diffusion.model_fields_set:
            update["variance"] = "fixed_small"
        wanted = wanted.model_copy(update={"diffusion": diffusion.model_copy(update=update)})
    if network is None:
        expect_own(wanted, network, "model.network")
        return wanted
    defaults = type(model)()
    stated = sorted(model.model_fields_set - FACTS)
    preset = PRESETS.get(wanted.preset or "", {}).get("model", {})
    unused = [
        n
        for n in stated
        if getattr(model, n) not in (getattr(defaults, n), preset.get(n, getattr(defaults, n)))
    ]
    if unused:
        warnings.warn(
            f"{', '.join(f'model.{name}' for name in unused)} "
            f"{('are' if len(unused) > 1 else 'is')} for the built-in network, without "
            "effect on your own",
            stacklevel=2,
        )
    named = model.model_copy(update={"network": "own"})
    return wanted.model_copy(update={"model": named})


def expect_loss(config: Config, loss: object, where: object) -> None:
    """Raise ValueError unless a resumed run gets the loss that it was trained with."""
    kept = config.diffusion.loss
    if loss is None:  # building an own one without it raises
        return
    if not isinstance(kept, OwnLoss):
        raise ValueError(f"{where} was trained with diffusion.loss={kept.kind}: leave loss out")
    if kept.name.rpartition(".")[2] != name_of(loss).rpartition(".")[2]:
        raise ValueError(
            f"{where} was trained with the loss {kept.name} and cannot be resumed with "
            f"{name_of(loss)}"
        )


def adopt(
    wanted: Config, resolved: ResolvedConfig, network: nn.Module, device: torch.device
) -> ResolvedConfig:
    """Return resolved settings with the variance and the loss that an own network allows.

    Args:
        wanted: the user's settings; stated ones stay.
        resolved: the same with what follows from the data.
        network: called once.
        device: the network is moved there for the call.

    Raises:
        ValueError: it cannot be called, or returns something else than C or 2 C channels.
    """
    learns = returns_variance(resolved, network, device)
    model = resolved.model.model_copy(update={"network": name_of(network)})
    resolved = resolved.model_copy(update={"model": model})
    diffusion = resolved.diffusion
    if learns == diffusion.variance.startswith("learned"):
        return resolved
    channels, outputs = resolved.model.channels, count_outputs(resolved)
    stated = [n for n in ("variance", "loss") if n in wanted.diffusion.model_fields_set]
    stated = [n for n in stated if n == "variance" or diffusion.loss.kind != "own"]
    if stated:
        what = ", ".join(f"diffusion.{n}={_kind(getattr(diffusion, n))}" for n in stated)
        needs, has = outputs, outputs + channels
        if not learns:
            needs, has = has, needs
        raise ValueError(
            f"{what} needs a network that returns {needs} channels, and {name_of(network)} returns "
            f"{has}: leave it out, or return {needs}"
        )
    values = resolved.model_dump()
    values["diffusion"]["variance"] = "learned_range" if learns else "fixed_small"
    if diffusion.loss.kind == "hybrid":
        values["diffusion"]["loss"] = SimpleLoss().model_dump()
    return settle(validate(values))


def _kind(value: Any) -> str:
    return str(getattr(value, "kind", value))


def returns_variance(config: ResolvedConfig, network: nn.Module, device: torch.device) -> bool:
    """Call an own network once and return whether it has channels of the variance.

    Its other channels are those of the data, or the features of its levels.

    Raises:
        ValueError: it cannot be called, or returns anything else.
    """
    name, model = name_of(network), config.model
    inputs = {key: value.to(device) for key, value in example_inputs(config, 2).items()}
    hides = model.conditioned and config.training.label_dropout > 0
    if hides and "y" in inputs:
        inputs["y"][1] = -1
    if hides and "conditions" in inputs:
        inputs["conditions"][1] = torch.nan
    call = ", ".join(f"{key}=" for key in list(inputs)[2:])
    shown = f"{name}(x, timesteps{', ' + call if call else ''})"
    x = inputs.pop("x")
    training = network.training
    network.to(device).eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            output = network(x, inputs.pop("timesteps"), **inputs)
    except Exception as error:
        hint = ""
        if hides:
            hint = (
                "; y is -1 and conditions are NaN where they are hidden "
                f"(training.label_dropout={config.training.label_dropout:g}), which a network "
                "must accept"
            )
        raise ValueError(
            f"{shown} failed with x {tuple(x.shape)} and float32 timesteps (2,): "
            f"{_said(error)}{hint}"
        ) from error
    finally:
        network.train(training)
    plain, size = count_outputs(config), model.size
    both = plain + model.channels
    if not isinstance(output, Tensor):
        raise ValueError(f"{shown} returned a {type(output).__name__}: it must return a tensor")
    if tuple(output.shape) not in ((2, plain, *size), (2, both, *size)):
        raise ValueError(
            f"{shown} returned {tuple(output.shape)} for x {tuple(x.shape)}: it must return "
            f"{(2, plain, *size)}, or {(2, both, *size)} to learn the variance too"
        )
    if not bool(output.isfinite().all()):
        hidden = " (conditions are NaN where they are hidden)" if "conditions" in inputs else ""
        raise ValueError(f"{shown} returned numbers that are not finite{hidden}")
    return output.shape[1] == both


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

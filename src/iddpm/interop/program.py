"""A network as a program that runs without this package: torch.export and ONNX."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

TOLERANCE = 1e-4
"""Largest error of a written ONNX graph, as a share of its largest output."""
SAMPLE_SCRIPT = """\
import json, sys, torch
facts = json.load(open("network.json"))
network = torch.export.load("network.pt2").module()
alpha_bar, shown = (torch.tensor(facts[name]) for name in ("alpha_bar", "shown"))
steps = int(sys.argv[1]) if len(sys.argv) > 1 else min(50, len(shown))
kept = torch.linspace(len(shown) - 1, 0, steps, dtype=torch.float64).round().long()
levels = torch.cat([alpha_bar[kept], torch.ones(1)])
x = torch.randn(facts["items"], *facts["shape"], generator=torch.Generator().manual_seed(0))
labels = {"y": torch.arange(len(x)) % facts["classes"]} if facts["classes"] else {}
for k, t in enumerate(kept):
    a, s = levels[k].sqrt(), (1 - levels[k]).sqrt()
    with torch.no_grad():
        out = network(x=x, timesteps=shown[t].expand(len(x)), **labels)[:, : x.shape[1]]
    x0 = {"eps": (x - s * out) / a, "x0": out, "v": a * x - s * out}[facts["predicts"]]
    x0 = x0.clamp(-1, 1)
    x = levels[k + 1].sqrt() * x0 + (1 - levels[k + 1]).sqrt() * (x - a * x0) / s
torch.save(x, "samples.pt")
"""
"""Written beside an exported program of an unconditional or class-conditional network."""


class Program(NamedTuple):
    """An exported network.

    Attributes:
        exported: what torch.export made.
        sizes: what sizes it takes, for people.
    """

    exported: ExportedProgram
    sizes: str


def export_program(
    network: nn.Module, inputs: Mapping[str, Tensor], factors: Sequence[int] | None
) -> Program:
    """Export a network with any number of items and, where it can, any size.

    Args:
        network: in evaluation mode on the CPU.
        inputs: an example of two or more items for each of its arguments by name.
        factors: of which the spatial size must be a multiple, per axis; None for one size.

    Raises:
        ValueError: torch.export cannot follow the network.
    """
    x = next(iter(inputs.values()))
    size = " x ".join(map(str, x.shape[2:]))
    tries: list[tuple[Sequence[int] | None, str]] = [(None, f"{size} alone")]
    if factors is not None:
        multiples = " x ".join(map(str, factors))
        any_size = "any" if set(factors) == {1} else f"any multiple of {multiples}"
        tries.insert(0, (factors, any_size))
    reason = ""
    for wanted, sizes in tries:
        shapes = {name: _dynamic(name, value, wanted) for name, value in inputs.items()}
        try:
            with _quiet(), torch.no_grad():
                exported = torch.export.export(network, (), dict(inputs), dynamic_shapes=shapes)
            return Program(exported, sizes)
        except Exception as error:  # torch.export raises many kinds
            reason = " ".join(str(error).split())[:200]
    raise ValueError(f"torch.export cannot follow this network: {reason}")


def _dynamic(name: str, value: Tensor, factors: Sequence[int] | None) -> dict[int, Any]:
    """Return which axes of an input may have other sizes."""
    axes: dict[int, Any] = {0: Dim("items", min=1)}
    if factors is not None and value.dim() > 2:
        for axis, factor in enumerate(factors, start=2):
            if name == "low_res":
                axes[axis] = Dim(f"low_{axis}", min=2)
            else:
                axes[axis] = (
                    factor * Dim(f"units_{axis}", min=1)
                    if factor > 1
                    else Dim(f"size_{axis}", min=2)
                )
    return axes


def write_onnx(
    program: Program, network: nn.Module, inputs: Mapping[str, Tensor], path: Path, facts: str
) -> float:
    """Write a program as an ONNX graph and return its largest error in ONNX Runtime, relative.

    Args:
        program: of the network.
        network: itself, to compare with.
        inputs: an example for each of its arguments by name.
        path: the file.
        facts: what the graph's metadata says under ``iddpm``.

    Raises:
        ValueError: onnx, onnxscript or onnxruntime is missing, or the graph differs.
    """
    expect_onnx()
    import onnxruntime

    with _quiet():
        graph = torch.onnx.export(
            program.exported, dynamo=True, verbose=False, output_names=["output"]
        )
        assert graph is not None
        graph.model.metadata_props["iddpm"] = facts
        graph.save(str(path))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
    given = {name: value.numpy() for name, value in inputs.items()}
    (found,) = session.run(None, given)
    with torch.no_grad():
        wanted = network(**inputs)
    error = float((torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max().clamp(1e-6))
    if not error <= TOLERANCE:
        raise ValueError(
            f"the ONNX graph differs from the network by {error:.1e} of its largest output in "
            "ONNX Runtime: it was not written"
        )
    return error


def expect_onnx() -> None:
    """Raise ValueError where a library that ONNX takes is not installed."""
    import importlib.util

    missing = [
        n for n in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None
    ]
    if missing:
        raise ValueError(f"ONNX needs {' and '.join(missing)}: pip install 'iddpm[onnx]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter tells of itself away from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

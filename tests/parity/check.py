"""Compare this library with the numbers of the published implementations.

    python tests/parity/check.py DIRECTORY

reads network.json, network.safetensors, process.json, process.safetensors, respacing.json and,
where it is there, published.json from DIRECTORY, prints a line per case and quantity with its
relative error, and ends with the worst. The exit status is 1 when an error is above 2e-5 or
anything is missing.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    NoiseSchedule,
    bits_per_dim,
    cosine,
    linear,
    losses,
)
from iddpm.diffusion.losses import LossTerms
from iddpm.interop.openai import build_published, constructor_from_flags
from iddpm.sampling import DDIM, DDPM, clip_x0, sample, space_timesteps

TOLERANCE = 2e-5
FILES = (
    "network.json",
    "network.safetensors",
    "process.json",
    "process.safetensors",
    "respacing.json",
)
LONGEST_LOOP = 100
PREDICTS: dict[str, Literal["eps", "x0", "previous"]] = {
    "eps": "eps",
    "x0": "x0",
    "prev": "previous",
}
Sampler = DDPM | DDIM


class Line(NamedTuple):
    """One comparison."""

    case: str
    quantity: str
    error: float
    note: str = ""


def relative_error(ours: Tensor, given: Tensor) -> float:
    """Return max|ours - given| / max(max|given|, 1e-3); infinite for another shape or NaN."""
    if ours.shape != given.shape:
        return float("inf")
    if given.numel() == 0:
        return 0.0
    ours, given = ours.double(), given.double()
    error = float((ours - given).abs().max() / given.abs().max().clamp(min=1e-3))
    return error if error == error else float("inf")


def compare(case: str, quantity: str, ours: Any, given: Any) -> Line:
    """Compare two plain values that must be equal."""
    same = ours == given
    return Line(case, quantity, 0.0 if same else float("inf"), "" if same else f"{ours} != {given}")


def names_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the sorted names and shapes."""
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_state(case: str, state: Mapping[str, Tensor], entry: Mapping[str, Any]) -> Iterator[Line]:
    """Compare parameter count, number of tensors and hash of names."""
    count = sum(value.numel() for value in state.values())
    yield compare(case, "parameters", count, entry["parameters"])
    yield compare(case, "tensors", len(state), entry["tensors"])
    yield compare(case, "names_sha256", names_hash(state), entry["names_sha256"])


def check_network(entry: Mapping[str, Any], given: Mapping[str, Tensor]) -> Iterator[Line]:
    """Build a network from published arguments, fill it by the rule and compare its output."""
    case = f"network/{entry['case']} {entry['source']}"
    network = build_published(entry["source"], entry["kwargs"]).eval()
    shapes = network.state_dict()
    yield from check_state(case, shapes, entry)
    generator = torch.Generator().manual_seed(entry["weights_seed"])
    weights = {}
    for name in sorted(shapes):
        value = 0.08 * torch.randn(shapes[name].shape, generator=generator)
        if value.dim() == 1 and name.endswith("weight"):
            value += 1
        weights[name] = value
    network.load_state_dict(weights)
    prefix = f"{entry['case']}/"
    optional = {k: given[prefix + k] for k in ("y", "low_res") if prefix + k in given}
    expected = {"out": given[prefix + "out"]}
    for dtype in (torch.float32, torch.float64):
        network.to(dtype)
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in optional.items()}
        with torch.no_grad():
            out = network(given[prefix + "x"].to(dtype), given[prefix + "t"], **inputs)
        name = f"out {str(dtype).removeprefix('torch.')}"
        yield Line(case, name, relative_error(out, expected["out"]))


def fixed_network(learned: bool) -> Any:
    """Return the fixed function that stands in for a network."""

    def network(x: Tensor, shown: Tensor) -> Tensor:
        s = shown.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
        mean = 0.5 * x + 0.3 * torch.sin(2 * x + s / 100)
        return torch.cat([mean, torch.cos(x + s / 50)], dim=1) if learned else mean

    return network


def schedule_of(entry: Mapping[str, Any]) -> NoiseSchedule:
    """Return the respaced schedule of a case."""
    make = linear if entry["schedule"] == "linear" else cosine
    whole = make(entry["steps"], rescale_timesteps=entry["rescale_timesteps"])
    return whole.respace(space_timesteps(entry["steps"], entry["respacing"]))


def loss_of(
    name: str, denoiser: Denoiser, x0: Tensor, t: Tensor, noise: Tensor
) -> tuple[LossTerms, float]:
    """Return our loss for a published name, and what to multiply our bound's term by.

    ``kl`` is one term of the bound where ``rescaled_kl`` and our ``vlb`` are N of them.
    """
    steps = len(denoiser.diffusion.schedule)
    if name in ("kl", "rescaled_kl"):
        terms = losses.vlb(denoiser, x0, t, noise)
        return terms, 1 / steps if name == "kl" else 1.0
    if not denoiser.diffusion.learns_variance:
        return losses.simple(denoiser, x0, t, noise), 1.0
    weight = 1 / 1000 if name == "rescaled_mse" else 1 / steps
    return losses.hybrid(denoiser, x0, t, noise, vb_weight=weight), 1.0


def process_quantities(
    entry: Mapping[str, Any], case: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Compute everything that a process case gives, as (name, ours)."""
    schedule = schedule_of(entry)
    diffusion = GaussianDiffusion(schedule, entry["variance"])
    denoiser = Denoiser(
        fixed_network(diffusion.learns_variance), diffusion, PREDICTS[entry["predicts"]]
    )
    clipped = clip_x0(denoiser)
    yield "betas", schedule.betas
    yield "alphas_cumprod", schedule.alpha_bar
    yield "posterior_variance", schedule.posterior_variance
    yield "timestep_map", schedule.index

    x0, noise, t = case["x0"].double(), case["noise"].double(), case["t"]
    x_t = diffusion.q_sample(x0, t, noise)
    yield "x_t", x_t
    terms, scale = loss_of(entry["loss"], denoiser, x0, t, noise)
    yield "loss/loss", terms.loss * scale
    if terms.mse is not None:
        yield "loss/mse", terms.mse
    if terms.vb is not None and terms.mse is not None:  # alone it is the loss itself
        yield "loss/vb", terms.vb
    yield "q_posterior/mean", diffusion.q_posterior(x0, x_t, t).mean

    level = schedule.at(t)
    for name, denoise in (("raw", denoiser), ("clip", clipped)):
        prediction = denoise(x_t, level)
        p = diffusion.p_posterior(prediction, x_t, t)
        yield f"p/{name}/mean", p.mean
        yield f"p/{name}/log_variance", p.log_variance.expand_as(x_t)
        yield f"p/{name}/pred_xstart", prediction.x0

    def one_step(sampler: Sampler) -> Tensor:
        steps = []
        for k, i in enumerate(t.tolist()):
            draw = case["step_noise"][k : k + 1].double
            steps.append(sampler.step(clipped, x_t[k : k + 1], i, schedule, draw, None).x)
        return torch.cat(steps)

    yield "ddpm_step", one_step(DDPM())
    yield "ddim_step_eta0", one_step(DDIM())
    yield "ddim_step_eta0.7", one_step(DDIM(eta=0.7))
    inverted = [
        DDIM().invert_step(clipped, x_t[k : k + 1], i, schedule).x for k, i in enumerate(t.tolist())
    ]
    yield "ddim_reverse_step", torch.cat(inverted)

    if "x_T" in case or len(schedule) <= LONGEST_LOOP:
        x_T = case["x_T"].double()

        def loop_noise(number: int) -> Tensor:
            return case["loop_noise"][number].double()

        yield "ddim_loop_eta0", sample(DDIM(), clipped, schedule, x_T)
        yield "ddpm_loop", sample(DDPM(), clipped, schedule, x_T, noise=loop_noise)
        bpd = bits_per_dim(diffusion, denoiser, x0, noise=loop_noise)
        yield "bpd/total_bpd", bpd.total
        yield "bpd/prior_bpd", bpd.prior
        yield "bpd/vb", bpd.vb
        yield "bpd/xstart_mse", bpd.x0_mse
        yield "bpd/mse", bpd.eps_mse


INPUTS = {"x0", "t", "noise", "step_noise", "x_T", "loop_noise"}


def check_process(entry: Mapping[str, Any], given: Mapping[str, Tensor]) -> Iterator[Line]:
    """Compare every quantity of a process case; one that we do not compute counts as missing."""
    prefix = f"{entry['case']}/"
    name = f"process/{entry['case']}"
    case = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
    left = set(case) - INPUTS
    for quantity, ours in process_quantities(entry, case):
        if quantity not in case:
            yield Line(name, quantity, float("inf"), "not in the given data")
            continue
        left.discard(quantity)
        yield Line(name, quantity, relative_error(ours, case[quantity]))
    yield compare(name, "sampling_steps", len(schedule_of(entry)), entry["sampling_steps"])
    for quantity in sorted(left):
        yield Line(name, quantity, float("inf"), "not computed here")


def check_respacing(number: int, entry: Mapping[str, Any]) -> Line:
    """Compare the kept timesteps, or that the request is refused."""
    try:
        kept: list[int] | None = space_timesteps(entry["steps"], entry["respacing"])
    except ValueError:
        kept = None
    name = f"{entry['steps']} steps by {entry['respacing']!r}"
    return compare(f"respacing/{number}", name, kept, entry["kept"])


def check_published(number: int, entry: Mapping[str, Any]) -> Iterator[Line]:
    """Build a published network without memory and compare its parameters' names and shapes."""
    case = f"published/{number} {entry['family']} {entry['model']}"
    with torch.device("meta"):
        network = build_published(*constructor_from_flags(entry["family"], entry["flags"]))
    yield from check_state(case, network.state_dict(), entry)


def all_checks(directory: Path) -> Iterator[Iterator[Line]]:
    """Yield the checks of every case in the directory."""
    network = load_file(directory / "network.safetensors")
    process = load_file(directory / "process.safetensors")
    for entry in read(directory / "network.json"):
        yield guard(f"network/{entry['case']}", check_network(entry, network))
    for entry in read(directory / "process.json"):
        yield guard(f"process/{entry['case']}", check_process(entry, process))
    for number, entry in enumerate(read(directory / "respacing.json")):
        yield guard(f"respacing/{number}", iter([check_respacing(number, entry)]))
    published = directory / "published.json"
    for number, entry in enumerate(read(published) if published.is_file() else []):
        yield guard(f"published/{number}", check_published(number, entry))


def guard(case: str, lines: Iterator[Line]) -> Iterator[Line]:
    """Turn an exception within a case into a failed line, so that the others are still checked."""
    try:
        yield from lines
    except Exception as error:
        message = str(error).replace("\n", " ")[:200]
        yield Line(case, "stopped", float("inf"), f"{type(error).__name__}: {message}")


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSON list."""
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def main() -> int:
    """Run all checks and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("directory", type=Path, help="the directory with the parity data")
    directory: Path = parser.parse_args().directory
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        print(f"missing in {directory}: {', '.join(missing)}")
        print("0 cases, 0 quantities, worst relative error inf")
        return 1
    cases = quantities = 0
    worst = 0.0
    try:
        for check in all_checks(directory):
            cases += 1
            for line in check:
                quantities += 1
                worst = max(worst, line.error)
                mark = "" if line.error <= TOLERANCE else "  FAILED"
                note = f"  {line.note}" if line.note else ""
                print(f"{line.case:<44} {line.quantity:<24} {line.error:.2e}{mark}{note}")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        print(f"cannot read {directory}: {type(error).__name__}: {error}")
        worst = float("inf")
    print(f"{cases} cases, {quantities} quantities, worst relative error {worst:.2e}")
    return int(not (worst <= TOLERANCE and cases > 0))


if __name__ == "__main__":
    sys.exit(main())

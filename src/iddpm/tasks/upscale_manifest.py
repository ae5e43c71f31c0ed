"""What the upscaled files of a directory depend on, to resume after an interruption."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from iddpm.builders import SamplingPlan
from iddpm.data.upscaling.low_res import LowRes
from iddpm.runs.run import Run
from iddpm.runtime.made_files import UPSCALED, MadeFiles, read_made
from iddpm.tasks.upscale_groups import names_of
from iddpm.training.checkpoints.weights import hash_weights

COMPARISON = "comparison.png"


def manifest_of(
    run: Run,
    opened: Mapping[str, LowRes],
    plan: SamplingPlan,
    call: dict[str, Any],
    average: int = 1,
) -> MadeFiles:
    """Return the manifest of the files to make: all that they depend on.

    Args:
        run: the model.
        opened: the low resolutions, by the names of the upscaled files.
        plan: the sampling plan.
        call: the other options.
        average: samples of each, whose mean is written and whose spread beside it.
    """
    network = run.denoiser.network
    assert isinstance(network, torch.nn.Module)
    sources = {}
    for name, file in opened.items():
        with file.path.open("rb") as content:
            sources[name] = hashlib.file_digest(content, "sha256").hexdigest()
    facts = {
        "weights": hash_weights(network.state_dict()),
        "walk": str(plan),
        "sampling": plan.sampling.model_dump(mode="json"),
        **call,
        **({"average": average} if average > 1 else {}),  # as earlier versions wrote one sample
        "sources": sources,
    }
    return MadeFiles(facts, (*names_of(opened, average > 1), COMPARISON), complete=False)


def already_there(directory: Path, wanted: MadeFiles) -> set[str]:
    """Return the names of the files that an interrupted call of the same left.

    Raises:
        ValueError: a file that would get a name of ours.
        FileExistsError: files that were there before, or were made in another way.
    """
    names = [name for name in wanted.files if name != COMPARISON]
    for name in (COMPARISON, UPSCALED):
        if name in wanted.facts["sources"]:
            raise ValueError(
                f"a file cannot become {name}, which is written for the whole set: rename it"
            )
    there = {name for name in names if (directory / name).exists()}
    try:
        found = read_made(directory / UPSCALED)
    except ValueError:
        found = None
    same = found is not None and (found.facts, found.files) == (wanted.facts, wanted.files)
    if there and not same:
        raise FileExistsError(
            f"{directory / min(there)} exists and would be overwritten: remove it, or give "
            "another --out; only the same command with the same files continues an earlier one"
        )
    if same and (directory / COMPARISON).exists():
        there.add(COMPARISON)
    return there

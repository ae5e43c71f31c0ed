"""The samplers and spacings that ``iddpm tune`` measured to be best for a run's own model."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iddpm.builders.sampling_plan import Method
from iddpm.config import SamplingConfig
from iddpm.config.choices import MEASURED_SPACINGS, SAMPLERS, SPACINGS
from iddpm.diffusion import Denoiser
from iddpm.runs.step_tables import weights_digest
from iddpm.runtime.atomic_files import write_json

FORMAT = 1
TUNED = "tuned.json"
NEAR = 1.5
"""A measured number of evaluations serves others up to so many times more or fewer."""


def save_tuned(directory: Path, facts: Mapping[str, Any]) -> Path:
    """Write what was measured, with the methods that won, and a checksum."""
    return write_json(directory / TUNED, {**facts, "checksum": _checksum(facts)})


def tuned_method(directory: Path, denoiser: Denoiser, sampling: SamplingConfig) -> Method | None:
    """Return the method that won for these weights and about as many evaluations, if any.

    Settings that choose a sampler or a spacing by themselves are left alone.

    Raises:
        ValueError: the file is damaged, or holds a sampler that this version does not know.
    """
    fixed = sampling.sampler != "auto" or sampling.spacing != "auto"
    if fixed or sampling.eta > 0 or sampling.variance == "analytic":
        return None
    path = directory / TUNED
    if not path.is_file():
        return None
    facts = _read(path)
    if facts["weights"] != weights_digest(denoiser):
        return None
    won = {int(count): Method(*method) for count, method in facts["won"].items()}
    apart = {count: max(count, sampling.steps) / min(count, sampling.steps) for count in won}
    nearest = min(apart, key=lambda count: apart[count], default=None)
    if nearest is None or apart[nearest] > NEAR:
        return None
    return won[nearest]


def _read(path: Path) -> dict[str, Any]:
    """Return the contents of the file without the checksum."""
    again = "make it again with iddpm tune, or delete it"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksum = facts.pop("checksum")
        methods = [tuple(method) for method in facts["won"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: {again}") from None
    if checksum != _checksum(facts):
        raise ValueError(f"{path} is damaged, its checksum does not match: {again}")
    if facts["format"] != FORMAT:
        raise ValueError(f"{path} has format {facts['format']}, and this version reads {FORMAT}")
    for sampler, spacing in methods:
        if sampler not in SAMPLERS or spacing not in (*SPACINGS, *MEASURED_SPACINGS):
            raise ValueError(f"{path} names {sampler}, {spacing}, which is unknown: {again}")
    return facts


def _checksum(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

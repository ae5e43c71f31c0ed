"""Names and checksums of the files of a checkpoint and of sealed weights, read without torch."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

STATE = "state.json"
CHECKSUMS = "checksums.json"
SETTINGS = "settings.json"
"""What a checkpoint was trained with: settings, and the fingerprint of the data."""
SNAPSHOTS = "averages"
"""Which of them names the snapshots of averages that a run had written until then."""
FACTS, FACTS_SHA256, TENSORS_SHA256 = "iddpm", "facts_sha256", "tensors_sha256"
"""Metadata of a sealed safetensors file: facts as JSON, their checksum, that of the tensors."""
_NAME = re.compile(r"step_(\d{8,})")


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint."""
    return f"step_{step:08d}"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's name says; ValueError when it is no such name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not the name of a checkpoint")
    return int(match[1])


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a run directory, oldest first."""
    root = directory / "checkpoints"
    found = [p for p in root.iterdir() if _NAME.fullmatch(p.name)] if root.is_dir() else []
    return sorted(found, key=step_of)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_file(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint; ValueError with one sentence when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise ValueError(f"checkpoint {path.parent} is damaged: {path.name}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"checkpoint {path.parent} is damaged: {path.name} is of another kind")
    return value


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint was trained with; None for one that does not say (version 0.1.0).

    Raises:
        ValueError, OSError: the file is damaged.
    """
    checksums = read_json_file(path / CHECKSUMS)
    if SETTINGS not in checksums and not (path / SETTINGS).exists():
        return None
    if file_sha256(path / SETTINGS) != checksums.get(SETTINGS):
        raise ValueError(f"checkpoint {path} is damaged: {SETTINGS} has changed since")
    return read_json_file(path / SETTINGS)


def damage_of(path: Path) -> str:
    """Return what is wrong with a checkpoint as far as it shows without reading weights, or ''."""
    try:
        if not (path / CHECKSUMS).is_file():
            return f"{CHECKSUMS} is missing"
        checksums = read_json_file(path / CHECKSUMS)
        for name, sha256 in checksums.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if name.endswith(".json") and file_sha256(path / name) != sha256:
                return f"{name} has changed since"
        if STATE not in checksums:
            return f"{CHECKSUMS} does not name {STATE}"
        read_sealed(path)
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"checkpoint {path} is damaged: ")
    return ""


def newest_sealed(directory: Path) -> dict[str, Any] | None:
    """Return what the newest checkpoint that can say so was trained with; None for none."""
    for path in reversed(list_checkpoints(directory)):
        try:
            sealed = read_sealed(path)
        except (ValueError, OSError):  # whoever reads the checkpoint itself says so
            continue
        if sealed is not None:
            return sealed
    return None


def snapshot_names(directory: Path) -> list[str]:
    """Return the names of the snapshots of averages in a run directory, oldest first."""
    return sorted(path.stem for path in (directory / "averages").glob("step_*.safetensors"))


def missing_snapshots(directory: Path) -> list[str]:
    """Return the names of the snapshots of averages that the newest checkpoint knows and that are
    gone.
    """
    known = (newest_sealed(directory) or {}).get(SNAPSHOTS)
    if not isinstance(known, list):
        return []
    there = snapshot_names(directory)
    return [name for name in known if name not in there]


def seal_metadata(facts: dict[str, Any], tensors_sha256: str) -> dict[str, str]:
    """Return the metadata of a safetensors file that lets its reader notice any change."""
    text = json.dumps(facts)
    return {FACTS: text, FACTS_SHA256: _sha256(text), TENSORS_SHA256: tensors_sha256}


def read_facts(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return the facts that a safetensors file holds, and the SHA-256 of its tensors.

    Files of version 0.1.0 have no checksums (None), and those of weights no facts.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, str] = file.metadata() or {}
        text = metadata.get(FACTS, "{}")
        facts = json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}): damaged, truncated, or of "
            "another kind"
        ) from None
    if set(metadata) <= {FACTS} and set(facts) <= {"updates", "lengths"}:
        return facts, None
    if metadata.get(FACTS_SHA256) != _sha256(text) or TENSORS_SHA256 not in metadata:
        raise ValueError(f"{path} is damaged: its header has changed since it was written")
    return facts, metadata[TENSORS_SHA256]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

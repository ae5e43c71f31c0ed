"""What takes long to make and is made once: built by one process while others wait, then shared."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iddpm.runtime.atomic_files import fsync_directory, make_public, write_json
from iddpm.runtime.directory_lock import waiting_lock

FACTS = "facts.json"


def user_cache() -> Path:
    """Return the folder for what can be made again: ``$IDDPM_CACHE``, or in the user's cache."""
    if "IDDPM_CACHE" in os.environ:
        return Path(os.environ["IDDPM_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iddpm"


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the texts of ``parts``."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def built_once(
    directory: Path,
    facts: dict[str, Any],
    build: Callable[[Path], None],
    say: Callable[[str], None],
) -> Path:
    """Return ``directory``, filled by ``build`` unless it holds what was made from the same facts.

    Of several processes that ask at the same time (ranks, or runs on the same data) one builds
    and the others wait, by a lock that the system lets go of when its holder dies. A directory
    appears whole or not at all, and who has mapped an older one keeps it.

    Args:
        directory: its parents are made.
        facts: of JSON; what the result is a function of.
        build: fills an empty temporary directory beside ``directory``.
        say: receives the reason why something is built.

    Raises:
        OSError: it cannot be written.
    """
    facts = json.loads(json.dumps(facts))  # tuples become the lists that a file gives back
    if _facts_in(directory) == facts:
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with waiting_lock(directory.with_name(f".{directory.name}.lock")):
        found = _facts_in(directory)
        if found == facts:  # another process was faster
            return directory
        if found is not None:
            changed = ", ".join(key for key in facts if found.get(key) != facts[key])
            say(
                f"{directory} was made from other data "
                f"({changed or 'of another version'}); making it again"
            )
        for left in directory.parent.glob(f".{directory.name}.*/"):  # by a builder that was killed
            shutil.rmtree(left)
        temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
        try:
            build(temporary)
            write_json(temporary / FACTS, facts)
            make_public(temporary, 0o777)  # mkdtemp makes it private
            fsync_directory(temporary)
            if directory.exists():
                shutil.rmtree(directory)
            temporary.rename(directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_directory(directory.parent)
    return directory


def _facts_in(directory: Path) -> Any:
    try:
        return json.loads((directory / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

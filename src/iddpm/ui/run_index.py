"""All runs below a directory, and what is known of each without reading anything twice."""

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from iddpm.config import ResolvedConfig
from iddpm.config.run_config import CONFIG
from iddpm.runs.sealed_settings import read_run_config
from iddpm.runtime.directory_lock import holder
from iddpm.runtime.errors import in_words
from iddpm.tasks.summary import describe_files, describe_progress
from iddpm.training.monitoring.log_files import LOG
from iddpm.training.stop import EXIT
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.log_columns import LogColumns

DEEPEST = 3
"""Folders between the directory and a run."""
MOST_RUNS = 2_000
INNER = {
    "averages", "cache", "checkpoints", "compared", "evaluation", "likelihood", "nearest",
    "restored", "samples", "tensorboard", "upscaled",
}  # fmt: skip
"""Folders of a run directory that hold no other run."""
READ = (CONFIG, LOG, EXIT, "checkpoints", "samples", "averages", "evaluation", "compared")
"""What is read of a run, and may not be a link to elsewhere."""
SCAN_AGE = 2.0
"""Seconds for which a list of runs is good."""
ITSELF = "."
"""The name of a run that is the directory itself."""

Signature = tuple[Any, ...]


class RunSignature(NamedTuple):
    """What changes whenever a page about a run would.

    Attributes:
        files: stamps of its log, its end and its settings.
        training: whether a process trains it.
        content: of its checkpoints and pictures.
    """

    files: Signature = ()
    training: bool = False
    content: Signature = ()


@dataclass
class Known:
    """What is kept of one run between requests."""

    log: LogColumns
    lock: Lock = field(default_factory=Lock)
    settings: Signature = ()
    config: ResolvedConfig | None = None
    problem: str = ""
    content: Signature = ()
    files: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """A run as pages show it.

    Attributes:
        name: a posix path relative to the directory of runs.
        path: where it lies.
        state: ``training``, ``finished``, ``stopped``, ``failed``, ``new``, ``imported`` or
            ``damaged``.
        why: why it failed or stopped, in a sentence.
        config: its settings; None where they cannot be read.
        facts: as :func:`iddpm.tasks.summary.summarize` returns them.
        previews: pictures of samples that training made, by step, rising.
        picture: the newest picture of several samples.
    """

    name: str
    path: Path
    state: str
    why: str
    config: ResolvedConfig | None
    facts: dict[str, Any]
    previews: dict[int, Path]
    picture: Path | None

    @property
    def step(self) -> int:
        """Steps that are logged."""
        return int(self.facts.get("step", 0))

    @property
    def offered(self) -> tuple[int, ...]:
        """Numbers of network evaluations that a distilled run was made for; empty for others."""
        made = None if self.config is None else self.config.distillation
        return () if made is None else made.steps

    @property
    def unedited(self) -> str:
        """Why the run edits no items: ``task``, ``paired`` or ``distilled``; nothing if it does."""
        if self.config is None or self.config.task != "generation":
            return "task"
        if self.config.model.given_channels:
            return "paired"
        return "distilled" if self.offered else ""

    @property
    def measure(self) -> str:
        """What training measures on held-out data: ``loss``, or ``frechet`` of distilled runs."""
        return "frechet" if self.offered else "loss"

    @property
    def steps(self) -> int:
        """Steps of the whole training; 0 where that is not known."""
        return int(self.facts.get("steps", 0))


class RunIndex:
    """The runs below a directory.

    Args:
        root: the directory, which may be a run itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[str, Known] = {}
        self._lock = Lock()
        self._names: list[str] = []
        self._scanned = -SCAN_AGE

    def names(self) -> list[str]:
        """Return the names of all runs, in their order."""
        with self._lock:
            if time.monotonic() - self._scanned >= SCAN_AGE:
                found = sorted(self._find(self.root, DEEPEST + 1), key=str.casefold)
                self._names, self._scanned = found[:MOST_RUNS], time.monotonic()
            return self._names

    def _find(self, directory: Path, depth: int) -> Iterator[str]:
        try:
            entries = list(os.scandir(directory))
        except OSError:
            return
        is_run = any(entry.name == CONFIG for entry in entries)
        if is_run:
            yield directory.relative_to(self.root).as_posix()
        for entry in entries:
            skipped = entry.name.startswith(".") or (is_run and entry.name in INNER)
            if depth and not skipped and entry.is_dir(follow_symlinks=False):
                yield from self._find(Path(entry.path), depth - 1)

    def path(self, name: str) -> Path:
        """Return the directory of a run.

        Raises:
            UnknownNameError: there is no such run below the directory.
        """
        path = self.root if name == ITSELF else confined(self.root, name)
        if not (path / CONFIG).is_file():
            raise UnknownNameError("there is no such run here")
        for inner in READ:
            if (path / inner).is_symlink():
                confined(self.root, (path / inner).relative_to(self.root).as_posix())
        return path

    def log(self, name: str) -> LogColumns:
        """Return the log of a run, read to its end."""
        known = self._of(name, self.path(name))
        known.log.update()
        return known.log

    def _of(self, name: str, path: Path) -> Known:
        with self._lock:
            return self._known.setdefault(name, Known(LogColumns(path)))

    def facts(self, name: str) -> RunFacts:
        """Return what is known of a run now.

        Raises:
            UnknownNameError: there is no such run.
        """
        path = self.path(name)
        known = self._of(name, path)
        with known.lock:
            known.log.update()
            self._read_settings(known, path)
            previews, picture = find_pictures(path)
            if known.config is None:
                return RunFacts(name, path, "damaged", known.problem, None, {}, previews, picture)
            now, records = time.time(), known.log.records()
            facts = describe_progress(path, known.config, records, now)
            content = content_signature(path)
            if content != known.content:
                known.files, known.content = describe_files(path, records, now), content
        facts |= known.files
        return RunFacts(name, path, *state_of(facts), known.config, facts, previews, picture)

    def _read_settings(self, known: Known, path: Path) -> None:
        """Read the settings, where they or the newest checkpoint have changed."""
        signature = (stamp(path / CONFIG), stamp(path / "checkpoints"))
        if signature == known.settings:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                known.config, known.problem = read_run_config(path), ""
        except (ValueError, OSError) as error:
            known.config, known.problem = None, in_words(error)
        known.settings = signature

    def signature(self, name: str) -> RunSignature:
        """Return the signature of a run; cheap, for asking often."""
        try:
            path = self.path(name)
        except UnknownNameError:
            return RunSignature()
        stamps = tuple(stamp(path / file) for file in (LOG, EXIT, CONFIG))
        return RunSignature(stamps, holder(path) is not None, content_signature(path))


def state_of(facts: dict[str, Any]) -> tuple[str, str]:
    """Return the state of a run in a word, and why it ended."""
    state = facts["state"]
    if state == "running":
        return "training", ""
    if state == "ended":
        said = facts.get("exit", {"status": 0, "reason": "finished", "message": ""})
        if said["reason"] == "finished":
            return "finished", ""
        reason, message = str(said["reason"]), str(said["message"])
        stopped = said["status"] == 0 or reason.startswith("stopped by")
        why = message if message.startswith(reason) else f"{reason}: {message}"
        return ("stopped" if stopped else "failed"), why
    if state == "gone":
        return "failed", "it ended without a record: killed, or its machine stopped"
    return ("imported" if state == "imported" else "new"), ""


def find_pictures(run: Path) -> tuple[dict[int, Path], Path | None]:
    """Return the previews of a run by step, and the newest picture of several samples."""
    previews: dict[int, Path] = {}
    newest: tuple[int, Path | None] = (0, None)
    for entry in entries_of(run / "samples"):
        path = Path(entry.path)
        if entry.is_dir():
            path = next(
                (path / n for n in ("grid.png", "before_after.png") if (path / n).is_file()), path
            )
        stem = path.stem.removeprefix("step_")
        if path.suffix != ".png":
            continue
        if stem != path.stem and stem.isdecimal():
            previews[int(stem)] = path
        newest = max(newest, (stamp(path)[0], path), key=lambda pair: pair[0])
    return dict(sorted(previews.items())), newest[1]


def content_signature(path: Path) -> Signature:
    """Return what changes when checkpoints, samples or measurements come or go."""
    inner = tuple((e.name, stamp(Path(e.path))) for e in entries_of(path / "samples"))
    folders = ("checkpoints", "averages", "evaluation", "compared", "upscaled", ".")
    return (inner, *(stamp(path / name) for name in folders))


def entries_of(directory: Path) -> list[os.DirEntry[str]]:
    """Return the visible files and folders of a directory that are no links; none if absent."""
    try:
        with os.scandir(directory) as entries:
            visible = [e for e in entries if not (e.name.startswith(".") or e.is_symlink())]
    except OSError:
        return []
    return sorted(visible, key=lambda entry: entry.name)


def stamp(path: Path) -> tuple[int, int]:
    """Return when a file was changed last, and its size; zeros where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)

"""Save checkpoints in the background."""

import json
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from iddpm.runtime.atomic_files import clear_temporaries, fsync_file
from iddpm.runtime.errors import NotSaved, warned
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.checkpoints.best import NOTHING, POINTER, Best, point_to_best
from iddpm.training.checkpoints.checkpoint import FORMAT, checkpoint_name
from iddpm.training.checkpoints.checkpoint_files import (
    SETTINGS,
    SNAPSHOTS,
    STATE,
    snapshot_names,
)
from iddpm.training.checkpoints.commit import (
    LATEST,
    Files,
    clear_unfinished,
    collect,
    commit,
    hand_in,
    point_to_latest,
    replaced_by,
    rotate,
    write_part,
)
from iddpm.training.checkpoints.disk_errors import in_words
from iddpm.training.monitoring.log_files import LOG

T = TypeVar("T")
PAUSES = (1.0, 4.0, 15.0)
"""Seconds before each further try after an error of the disk."""
PATIENCE = 300.0
"""Seconds that the first process waits for the parts of the others."""
GRACE = 5.0
"""Seconds for a save in flight when the run ends by an error."""


class _Save(NamedTuple):
    """The content of a checkpoint, independent of the training that continues."""

    step: int
    files: dict[str, dict[str, Tensor]]
    texts: dict[str, str]
    temporary: Path
    last: bool


class _Abandoned(Exception):  # noqa: N818 - it says what happened
    """The process leaves at once and abandons the save in progress."""


class Saver:
    """Write checkpoints in the background, one at a time, each completely or not at all.

    ``save`` copies the state and returns; a thread writes it, commits it, points ``latest`` at it
    and removes old ones. After an error of the disk it tries again a few times, then warns:
    training continues, and committed checkpoints stay. The thread does not communicate with other
    processes: each writes its own part, and the first waits for their files.

    As a context manager it waits for the save in progress, unless the process leaves on a signal.

    Args:
        directory: the run directory, whose lock this process or the first rank holds.
        keep: number of checkpoints that stay.
        step: of the checkpoint that the run continues from; 0 for none.
        best: one more that stays.
        ranks: the processes that save together; all call the same methods in the same order.
        sealed: what the run is trained with, for JSON; part of every checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int,
        step: int = 0,
        best: Best = NOTHING,
        ranks: Ranks = ALONE,
        sealed: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.sealed = sealed
        self.keep = keep
        self.ranks = ranks
        if ranks.first:
            clear_unfinished(directory)
            clear_temporaries(directory)
        # The temporary directories of this session have the same names on all ranks.
        self._token: str = ranks.gathered(secrets.token_hex(4))[0]
        self._count = 0
        self._best = best
        self._candidate = best
        self._committed = step
        self._given_up: list[Path] = []
        self._problem: str | None = None
        self._bug: BaseException | None = None
        self._settling = threading.Lock()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the save in progress, or abandon it if the process leaves on a signal."""
        leaves = kind is not None and not issubclass(kind, Exception)
        if self._thread is not None and (leaves or (kind and self.ranks.count > 1)):
            # If another rank is lost, its part is there already or will never be.
            self._thread.join(0 if leaves else GRACE)
            self._leaving.set()
            self._thread.join(GRACE)  # it stops at its next chunk, unless the disk hangs
        else:
            self.wait()

    def save(
        self,
        step: int,
        tensors: Files,
        numbers: Mapping[str, Any],
        *,
        last: bool = False,
    ) -> None:
        """Copy the state of a step and write it in the background.

        Waits for the save before.

        Args:
            step: number of steps taken.
            tensors: groups of named tensors; each becomes a file, or one for each rank where
                they are sharded (DTensor).
            numbers: the rest, as JSON.
            last: whether the run ends with it: :meth:`finish` then raises errors.
        """
        self.wait()
        self._count += 1
        name = f".{checkpoint_name(step)}.{self._token}.{self._count}"
        texts = {}
        if self.ranks.first:
            texts[STATE] = json.dumps({"format": FORMAT, "step": step, **numbers}, indent=2) + "\n"
            if self.sealed:
                sealed = {**self.sealed, SNAPSHOTS: snapshot_names(self.directory)}
                texts[SETTINGS] = json.dumps(sealed, indent=2) + "\n"
        work = _Save(
            step, self._snapshot(tensors), texts, self.directory / "checkpoints" / name, last
        )
        self._problem = None
        self._thread = threading.Thread(
            target=self._run, args=(work,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save in progress, if there is one."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._bug is not None:
            raise self._bug

    def finish(self) -> None:
        """Wait for the last save.

        Raises:
            NotSaved: on every rank, if it could not be written.
        """
        self.wait()
        for problem in self.ranks.gathered(self._problem):
            if problem is not None:
                raise NotSaved(problem)

    def prefer(self, best: Best) -> None:
        """Point to a step's checkpoint as the best, and keep it, as soon as it is committed."""
        if not self.ranks.first:
            return
        with self._settling:
            self._candidate = best
            if self._committed == best.step:
                self._settle()

    def settle(self) -> None:
        """Do what a kill may have prevented after the commit of the checkpoint to continue from."""
        if not self.ranks.first or not self._committed:
            return
        final = self.directory / "checkpoints" / checkpoint_name(self._committed)
        if final.is_dir():
            with warned(f"{LATEST} does not name the checkpoint that training resumes from"):
                point_to_latest(final)
            with self._settling:
                self._settle()

    def best(self) -> Best:
        """Return the best committed checkpoint, the same on every rank."""
        self.wait()
        best: Best = self.ranks.gathered(self._best)[0]
        return best

    def _snapshot(self, tensors: Files) -> dict[str, dict[str, Tensor]]:
        """Copy this process's part to the CPU, into the memory of the last copy."""
        files: dict[str, dict[str, Tensor]] = {}
        before, self._buffers = self._buffers, {}
        on_gpu = False
        for group, named in tensors.items():
            for name, value in named.items():
                local, sharded = value.detach(), False
                if self.ranks.count > 1:
                    local, sharded = _local(local)
                if not sharded and not self.ranks.first:
                    continue
                copy = before.get((group, name))
                if copy is None or copy.shape != local.shape or copy.dtype != local.dtype:
                    copy = torch.empty(local.shape, dtype=local.dtype, pin_memory=local.is_cuda)
                copy.copy_(local, non_blocking=local.is_cuda)
                self._buffers[group, name] = copy
                on_gpu |= local.is_cuda
                part = f".{self.ranks.rank + 1}-of-{self.ranks.count}" if sharded else ""
                files.setdefault(group + part, {})[name] = copy
        if on_gpu:
            torch.cuda.current_stream().synchronize()
        return files

    def _run(self, work: _Save) -> None:
        """Write and commit; the thread's body."""
        try:
            if self.ranks.first:
                self._commit(work)
            else:
                self._hand_in(work)
        except _Abandoned:
            pass
        except OSError as error:
            self._problem = in_words(error, work.step, work.temporary.parent, self.directory)
            if not work.last:
                warnings.warn(
                    f"{self._problem}; training continues, and the next save tries again",
                    stacklevel=1,
                )
        except BaseException as error:  # a bug, for the main thread to raise
            self._bug = error
        if work.step != self._committed:
            self._discard(work)
            self._given_up.append(work.temporary)
        if self.ranks.first:
            # A slow rank may still write to an abandoned one, so each is removed again.
            for path in [*self._given_up, replaced_by(work.temporary)]:
                shutil.rmtree(path, ignore_errors=True)

    def _commit(self, work: _Save) -> None:
        checksums = self._write(work)
        checksums |= collect(work.temporary, self.ranks, PATIENCE, self._check)
        with suppress(OSError):  # the records until this step, whose losses determine the best
            fsync_file(self.directory / LOG)
        final = self._insist(lambda: commit(work.temporary, work.step, checksums))
        with self._settling:
            self._committed = work.step
            with warned(f"{final} is written, but {LATEST} does not name it"):
                self._insist(lambda: point_to_latest(final))
            self._settle()

    def _hand_in(self, work: _Save) -> None:
        try:
            part = self._write(work)
            self._insist(lambda: hand_in(work.temporary, self.ranks, part))
            self._committed = work.step  # as far as this rank knows
        except OSError as error:
            with suppress(OSError):
                hand_in(work.temporary, self.ranks, {"error": str(error)})
            raise

    def _settle(self) -> None:
        """Point to the best if it is committed, then remove other old checkpoints."""
        if self._candidate.step == self._committed:
            with warned(f"{POINTER} does not name step {self._committed}, which is the best"):
                point_to_best(self.directory, self._candidate)
                self._best = self._candidate
        with warned("an old checkpoint could not be removed"):
            rotate(self.directory, self._committed, keep=self.keep, spare=self._best.step)

    def _write(self, work: _Save) -> dict[str, str]:
        """Write this process's files; remove them again if that fails."""

        def attempt() -> dict[str, str]:
            try:
                return write_part(work.temporary, work.files, work.texts, self._check)
            except OSError:
                self._discard(work)
                raise

        return self._insist(attempt)

    def _insist(self, action: Callable[[], T]) -> T:
        """Try again after an error of the disk, as often as there are pauses."""
        for pause in PAUSES:
            try:
                return action()
            except OSError:
                if self._leaving.wait(pause):
                    raise _Abandoned from None
        return action()

    def _check(self) -> None:
        if self._leaving.is_set():
            raise _Abandoned

    def _discard(self, work: _Save) -> None:
        """Remove what this process has written, to make room."""
        for name in work.files:
            with suppress(OSError):
                (work.temporary / f"{name}.safetensors").unlink()


def _local(value: Tensor) -> tuple[Tensor, bool]:
    """Return this process's part of a tensor, and whether the tensor is sharded."""
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor):
        return value, False
    (placement,) = value.placements
    assert placement.is_replicate() or placement.is_shard(0), "parts are joined along axis 0"
    return value.to_local(), placement.is_shard()

"""A run that is killed again and again ends with the same bits as one that never was.

``make kill-test`` kills 54 times and prints what it counted; the short form runs with the other
tests. The moments are drawn from a seed and defined by what the run has done: steps in its log, and
inside a save the calls of fsync, at one of which it is held and then killed.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from iddpm.training.checkpoints.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    step_of,
)
from iddpm.training.checkpoints.ema_snapshots import list_snapshots
from iddpm.training.checkpoints.weights import read_weights
from iddpm.training.monitoring.log_files import read_log
from tests.conftest import TINY, images

pytestmark = pytest.mark.system

CHILD = Path(__file__).with_name("child.py")
SETTINGS = (
    *TINY,
    "model.dropout=0.2",
    "data.flip=true",
    "data.workers=1",
    "data.held_out=0.2",
    "training.timestep_sampler=loss_second_moment",
    "training.ema_rates=[0.9,0.99]",
    "training.posthoc_ema.every=15",
    "training.log_every=1",
    "training.save_every=10",
    "training.validate_every=20",
    "training.keep_checkpoints=2",
)
LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]
STEPS_PER_KILL = 40
LONGEST_WAIT = 28
"""Steps that a life is left, at most; fewer than it has, so that kills come before the end."""
EARLY_SHARE = 0.2
"""Share of the kills outside a save that come while a life still begins."""
START_SECONDS = 4.0
"""A life that comes further before is killed then; nothing that is counted depends on it."""
FSYNCS = 12
"""Kills inside a save come before one of this many calls; a save has about as many."""


@dataclass
class Counts:
    """What a killed run went through."""

    kills: int = 0
    inside_a_save: int = 0
    losses: int = 0
    """Restarts that did not go on from the newest checkpoint there was, or found one damaged."""
    differences: int = 0
    """Tensors, numbers, log records, snapshots and pointers unlike those of the whole run."""


class Life:
    """The processes of one start of ``iddpm train``, known by a mark in their environment."""

    def __init__(self, out: Path, steps: int, ranks: int, facts: dict, data: Path) -> None:
        self.out = out
        self.mark = f"IDDPM_KILL_TEST={os.getpid()}.{random.getrandbits(64):x}"
        arguments = ["train", "--out", str(out), "--steps", str(steps)]
        if (out / "config.yaml").is_file():
            arguments.append("--resume")
        else:
            arguments += [str(data), *(word for s in SETTINGS for word in ("-s", s))]
        program = [str(CHILD), json.dumps(facts), *arguments]
        if ranks > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
            program = [*launcher, *program]
        self.said = out.with_name(f"{out.name}.said")
        name, value = self.mark.split("=")
        with open(self.said, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, name: value},
            )  # fmt: skip

    def wait_for(self, happened) -> None:
        """Wait until something has happened; fail with what the process said if it ends before."""
        while not happened():
            assert self.process.poll() is None, f"it ended:\n{self.said.read_text()}"
            time.sleep(0.003)

    def kill(self) -> None:
        """Kill every process of it outright, the launcher's and the data workers too."""
        while found := [pid for pid in _processes() if self.mark in _environment(pid)]:
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.poll()
        self.process.wait()

    def finish(self) -> None:
        """Let it come to its end."""
        try:
            assert self.process.wait() == 0, self.said.read_text()
        finally:
            self.kill()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def last_step(out: Path) -> int:
    """Return the last step in the log, by its end alone."""
    text = (out / "log.jsonl").read_text()[-2000:] if (out / "log.jsonl").is_file() else ""
    steps = re.findall(r'"step": (\d+)', text)
    return int(steps[-1]) if steps else 0


def inode(path: Path) -> int:
    return path.stat().st_ino if path.is_file() else 0


def newest(out: Path) -> int:
    return max(map(step_of, list_checkpoints(out)), default=0)


def saving(out: Path) -> bool:
    """Say whether a save has begun and not ended, by what lies on the disk."""
    begun = any((out / "checkpoints").glob(".step_*"))
    pointed = (out / "latest").read_text().strip() if (out / "latest").is_file() else None
    return begun or (newest(out) > 0 and pointed != checkpoint_name(newest(out)))


def killed_run(out: Path, steps: int, ranks: int, kills: int, data: Path, seed: int) -> Counts:
    """Train to the end through a number of kills, every other one of them during a save."""
    counts, draw = Counts(), random.Random(seed)
    while counts.kills < kills:
        during_save = counts.kills % 2 == 0
        before, start = inode(out / "log.jsonl"), newest(out)
        hold, held = (out.with_name(name) for name in ("hold", "held"))
        life = Life(out, steps, ranks, {"hold": str(out.parent)}, data)
        try:
            if not during_save and draw.random() < EARLY_SHARE:
                end, last = time.monotonic() + draw.uniform(0, START_SECONDS), start + LONGEST_WAIT
                life.wait_for(lambda e=end, n=last: time.monotonic() > e or last_step(out) >= n)
            else:
                life.wait_for(lambda before=before: inode(out / "log.jsonl") != before)
                wanted = start + draw.randint(0, LONGEST_WAIT)
                life.wait_for(lambda wanted=wanted: last_step(out) >= wanted)
                if during_save:
                    hold.with_name("count").write_text(str(draw.randrange(FSYNCS)))
                    hold.with_name("count").rename(hold)  # never seen empty
                    life.wait_for(held.exists)
        finally:
            life.kill()
        counts.kills += 1
        counts.inside_a_save += held.exists() or saving(out)
        for name in (hold, held):
            name.unlink(missing_ok=True)
        counts.losses += _lost(life.said.read_text(), start)
    start = newest(out)
    life = Life(out, steps, ranks, {}, data)
    life.finish()
    counts.losses += _lost(life.said.read_text(), start)
    return counts


def _lost(said: str, start: int) -> bool:
    begun = re.search(r"^training   step (\d+) to", said, re.M)
    return (begun is not None and int(begun[1]) != start) or "damaged" in said


def differences(out: Path, whole: Path, steps: int) -> list[str]:
    """Name everything in which two finished runs differ."""
    found = []

    def compare(name: str, a: object, b: object) -> None:
        if not (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b):
            found.append(name)

    one, other = (load_checkpoint(run, steps) for run in (out, whole))
    compare("state.json", one.state, other.state)
    compare("files", one.tensors.keys(), other.tensors.keys())
    pairs = [(name, one.tensors[name], other.tensors[name]) for name in one.tensors]
    released = [read_weights(run / "model.safetensors") for run in (out, whole)]
    pairs.append(("model", *released))
    snapshots = [{p.name: p for p in list_snapshots(run)} for run in (out, whole)]
    compare("snapshots", snapshots[0].keys(), snapshots[1].keys())
    pairs += [(n, *(read_weights(s[n]) for s in snapshots)) for n in snapshots[0]]
    for group, a, b in pairs:
        compare(f"names of {group}", a.keys(), b.keys())
        for name in a:
            compare(f"{group}/{name}", a[name], b[name])
    for name in ("latest", "best", "config.yaml"):
        compare(name, *((run / name).read_text() for run in (out, whole)))
    compare("kept", *([p.name for p in list_checkpoints(run)] for run in (out, whole)))
    logs = [read_log(run) for run in (out, whole)]
    compare("steps of the log", [r["step"] for r in logs[0]], list(range(1, steps + 1)))
    for a, b in zip(*logs, strict=True):
        for name in ("step", "loss", "held_out_loss", "gradient_norm", "skipped"):
            compare(f"{name} of step {b['step']} in the log", a.get(name), b.get(name))
    return found


@pytest.mark.parametrize(
    ("ranks", "kills"),
    [
        pytest.param(1, 2, id="short"),
        pytest.param(1, 30, id="1-process", marks=LONG),
        pytest.param(2, 24, id="2-ranks", marks=LONG),
    ],
)
def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(tmp_path, capsys, ranks, kills):
    data = tmp_path / "pictures.npz"
    np.savez(data, arr_0=images())
    steps = STEPS_PER_KILL * kills
    Life(tmp_path / "whole", steps, ranks, {}, data).finish()
    counts = killed_run(tmp_path / "killed", steps, ranks, kills, data, seed=ranks)
    found = differences(tmp_path / "killed", tmp_path / "whole", steps)
    counts.differences = len(found)
    with capsys.disabled():
        print(
            f"\n{ranks} process(es), {steps} steps: {counts.kills} kills, {counts.inside_a_save} "
            f"inside a save, {counts.losses} losses, {counts.differences} differences"
        )
    assert not found, found
    assert counts.losses == 0
    assert counts.kills == kills
    assert counts.inside_a_save >= kills / 2

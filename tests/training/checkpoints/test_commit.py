"""A checkpoint is on the disk before it gets its name, and has its name before it is pointed to."""

import os
from pathlib import Path

import pytest
import torch

from iddpm.training.checkpoints.saver import Saver


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of descriptors need /proc")
def test_everything_is_durable_before_the_rename_and_the_rename_before_latest(
    tmp_path, monkeypatch
):
    calls = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor):
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")), None))
        fsync(descriptor)

    def moved(call):
        def move(source, target, **options):
            calls.append(("rename", Path(source), Path(target)))
            call(source, target, **options)

        return move

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", moved(rename))
    monkeypatch.setattr(os, "replace", moved(replace))
    with Saver(tmp_path, keep=3) as saver:
        saver.save(5, {"network": {"w": torch.ones(3)}, "ema_0.9": {"w": torch.ones(3)}}, {})
        saver.finish()

    final = tmp_path / "checkpoints/step_00000005"
    commit = next(k for k, (_, _, target) in enumerate(calls) if target == final)
    temporary = calls[commit][1]
    came_as = {target.name: source for kind, source, target in calls[:commit] if kind == "rename"}
    before = {path: k for k, (kind, path, _) in enumerate(calls[:commit]) if kind == "fsync"}
    files = list(final.iterdir())
    assert len(files) == 4  # two of weights, the state and the checksums
    for file in files:
        assert came_as.get(file.name, temporary / file.name) in before, file.name
    last = max(k for k, (kind, _, _) in enumerate(calls[:commit]) if kind == "rename")
    assert before[temporary] > last  # the names in the directory too

    latest = next(k for k, (_, _, t) in enumerate(calls) if t == tmp_path / "latest")
    after = [path for kind, path, _ in calls[commit:latest] if kind == "fsync"]
    assert final.parent in after
    assert any(path.name.startswith(".latest") for path in after)
    assert ("fsync", tmp_path, None) in calls[latest:]

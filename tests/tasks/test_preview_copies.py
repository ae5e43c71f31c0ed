"""Near copies among previews, while a model trains."""

import numpy as np
import pytest
import torch

import iddpm
import iddpm.tasks.watch as watch
from iddpm.builders.run_data import Split
from iddpm.cli.main import run as command
from iddpm.data.sources.memory import open_memory
from iddpm.tasks import preview_copies
from iddpm.tasks.preview_copies import PreviewCopies, warning_of
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter


def split_of(shape, count=200, held_out=60):
    data = np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)
    layout = {2: "NCL", 3: "NCHW", 4: "NCDHW"}[len(shape)]
    source = open_memory(data, layout=layout)
    items = np.arange(count)
    return data, Split(source, items[:-held_out], items[-held_out:])


@pytest.mark.parametrize("shape", [(2, 20), (3, 6, 6), (1, 4, 4, 4)])
def test_copies_are_counted_and_new_samples_are_not(shape):
    data, split = split_of(shape)
    noise = np.random.default_rng(1)
    new = noise.uniform(-1, 1, (16, *shape)).astype(np.float32)
    copies = data[:16] + noise.normal(0, 0.01, (16, *shape)).astype(np.float32)
    mixed = np.concatenate([copies[:8], new[:8]])
    shares = {}
    for name, x in (("new", new), ("copies", copies), ("mixed", mixed)):
        measured = PreviewCopies(split).measure(torch.from_numpy(x))
        shares[name] = measured["near_copies"]
        assert measured["near_copies_held_out"] <= 0.05
        assert (warning_of(measured) is None) == (name == "new")
    assert shares["copies"] == 1
    assert 0.5 <= shares["mixed"] <= 0.75
    assert shares["new"] <= 0.25
    assert warning_of(measured).startswith("warning: 50% of the previews are near copies")


def test_held_out_items_are_no_copies():
    data, split = split_of((1, 30), count=400, held_out=200)
    measured = PreviewCopies(split).measure(torch.from_numpy(data[-64:]))
    assert measured["near_copies"] < measured["near_copies_limit"]


def test_the_cost_is_bounded(monkeypatch):
    data, split = split_of((1, 30), count=400, held_out=60)
    counted = []
    read = split.source.read_many

    def count(items):
        counted.extend(items)
        return read(items)

    monkeypatch.setattr(split.source, "read_many", count)
    monkeypatch.setattr(preview_copies, "VALUES", 30 * 100)
    copies = PreviewCopies(split)
    for _ in range(3):
        copies.measure(torch.from_numpy(data[:16]))
    assert len(counted) == 100 + 60, "once, and no more numbers than are kept"
    counted.clear()
    monkeypatch.setattr(preview_copies, "VALUES", 30 * 55)
    PreviewCopies(split).measure(torch.from_numpy(data[:16]))
    assert len(counted) == 55 + 55, "held-out items are bounded too"
    counted.clear()
    monkeypatch.setattr(preview_copies, "VALUES", 30 * 49)
    assert PreviewCopies(split).measure(torch.from_numpy(data[:16])) == {}
    assert not counted, "items so large that too few fit are not read"
    monkeypatch.setattr(preview_copies, "VALUES", 30 * 100)
    monkeypatch.setattr(preview_copies, "SECONDS", -1.0)
    PreviewCopies(split).measure(torch.from_numpy(data[:16]))
    assert len(counted) == 64 + 60, "one chunk when the time is up"


def test_too_few_held_out_items_say_nothing():
    data, split = split_of((1, 30), count=100, held_out=40)
    assert PreviewCopies(split).measure(torch.from_numpy(data[:16])) == {}
    assert warning_of({}) is None


def test_a_run_that_draws_its_training_items_is_warned_of(tmp_path, tiny, monkeypatch, capsys):
    data = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", data)
    settings = [*tiny, "training.steps=2", "training.preview_every=2", "data.held_out=0.25"]

    class Copying(watch.PreviewCopies):
        def measure(self, previews):
            self._items()
            return super().measure(self._training[: len(previews)])

    lines = SilentReporter()
    lines.said = []
    lines.say = lines.said.append
    monkeypatch.setattr(watch, "PreviewCopies", Copying)
    iddpm.train(tmp_path / "x.npy", out=tmp_path / "run", settings=settings, reporter=lines)
    assert any(line.startswith("warning: 100% of the previews") for line in lines.said)
    last = read_log(tmp_path / "run")[-1]
    assert (last["step"], last["near_copies"]) == (2, 1.0)
    capsys.readouterr()
    assert command(["info", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "100% of the previews at step 2 are near copies" in said
    assert "items/s" in said, "what other records have is still there"

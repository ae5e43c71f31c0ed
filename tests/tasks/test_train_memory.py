"""What training makes of little memory, and what a run keeps of that."""

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.builders import footprint, open_data, proposal, resolve
from iddpm.config import read_config
from iddpm.tasks import inspect as inspecting
from iddpm.training.monitoring.terminal import SilentReporter


class Listener(SilentReporter):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def for_items(path, settings, items):
    """Return the memory in which training has room for so many items at a time, and no more."""
    config = read_config(None, [*settings, f"data.path={path}"])
    takes = footprint(resolve(config, open_data(config), 50))
    return takes.training(items + 0.5) / 0.65


def test_a_run_keeps_what_was_proposed_whatever_the_memory_it_goes_on_with(
    tmp_path, array_file, tiny, monkeypatch
):
    settings = [*tiny, "training.precision=float32", "training.steps=2"]
    short = for_items(array_file, settings, 2)
    monkeypatch.setattr(proposal, "free_memory", lambda device: short)
    heard = Listener()
    run = iddpm.train(array_file, out=tmp_path / "run", settings=settings, reporter=heard)
    assert run.config.training.microbatch == 2
    assert run.config.training.batch_size == 8  # what a step learns from is the same
    line = heard.said[1]
    assert line.startswith("proposed   model_channels 8, batch 8 (microbatch 2): about ")
    assert "to save memory training.microbatch=2" in line

    monkeypatch.setattr(proposal, "free_memory", lambda device: 1e12)
    heard = Listener()
    more = ["training.steps=3"]
    run = iddpm.train(out=tmp_path / "run", settings=more, resume=True, reporter=heard)
    assert run.config.training.microbatch == 2
    assert not any(line.startswith("proposed") for line in heard.said)

    monkeypatch.setattr(proposal, "free_memory", lambda device: 1e6)
    with pytest.raises(ValueError, match=r"data\.image_size=4"):
        iddpm.train(array_file, out=tmp_path / "none", settings=settings, reporter=heard)
    assert not (tmp_path / "none").exists()


def test_previews_drawn_in_batches_are_those_drawn_at_once(tmp_path, array_file, tiny):
    seen = [*tiny, "training.steps=1", "training.preview_every=1", "training.precision=float32"]
    pictures = []
    for items in (64, 5):
        out = tmp_path / str(items)
        iddpm.train(
            array_file,
            out=out,
            settings=[*seen, f"sampling.batch_size={items}"],
            reporter=SilentReporter(),
        )
        pictures.append(np.asarray(Image.open(out / "samples" / "step_00000001.png"), float))
    assert pictures[0].std() > 1
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # of 255


def test_inspect_tells_what_training_will_take(tmp_path, array_file, tiny, monkeypatch):
    lines = list(inspecting.inspect(str(array_file), tiny, tmp_path / "look.png"))
    found = [line for line in lines if line.startswith("training   ")]
    assert len(found) == 1
    assert "model_channels 8, batch 8: about" in found[0]
    monkeypatch.setattr(proposal, "free_memory", lambda device: 1e6)
    lines = list(inspecting.inspect(str(array_file), tiny, tmp_path / "look.png"))
    assert any("not possible with" in line and "image_size" in line for line in lines)

"""A run directory that is renamed or removed while training: nothing is made under its old name."""

import json
import re
import shutil

import pytest

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.runtime.errors import DirectoryMoved
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import assert_same_state
from tests.faults.kill_points import contents

SETTINGS = (
    "training.steps=9", "training.save_every=3", "training.log_every=1", "training.preview_every=3",
    "training.posthoc_ema.every=2",
)  # fmt: skip


class Happening(SilentReporter):
    """Does something once a step has been taken."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def advance(self, step):
        if step == self.step:
            self.action()


def everything(folder):
    return contents(folder, lambda name: False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("end", ["renamed", "renamed and made anew", "removed"])
@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_directory_that_moves(tmp_path, array_file, tiny, end, step):
    out, moved = tmp_path / "run", tmp_path / "moved"
    before = {}

    def move():
        out.rename(moved)
        if end == "removed":
            shutil.rmtree(moved)
        if end == "renamed and made anew":  # with the same names in it as a run has
            (out / "checkpoints").mkdir(parents=True)
            for name in ("lock", "latest", "config.yaml"):
                (out / name).write_text("of another run")
            before.update(everything(out))

    settings = [*tiny, *SETTINGS]
    where = f"was renamed to {moved} during training" if end != "removed" else "or removed during"
    reporter = Happening(step, move)
    with pytest.raises(DirectoryMoved, match=re.escape(where)) as caught:
        iddpm.train(array_file, out=out, settings=settings, reporter=reporter)
    assert len(str(caught.value)) < 400 + 2 * len(str(tmp_path))
    if end == "renamed and made anew":
        assert everything(out) == before
    else:
        assert not out.exists()
    if end != "removed" and step >= 5:
        assert step_of(list_checkpoints(moved)[-1]) <= step
        assert not json.loads((moved / "log.jsonl").read_text().splitlines()[-1])["step"] > 9
        assert command_line(["train", "--resume", "--out", str(moved)]) == 0
        iddpm.train(array_file, out=tmp_path / "w", settings=settings, reporter=SilentReporter())
        assert_same_state(moved, tmp_path / "w", 9)
        assert load_checkpoint(moved).step == 9


def test_the_command_ends_with_a_sentence(tmp_path, array_file, tiny, monkeypatch, capsys):
    out, moved = tmp_path / "run", tmp_path / "moved"
    monkeypatch.setattr(
        "iddpm.tasks.train.TerminalReporter", lambda limit: Happening(2, lambda: out.rename(moved))
    )
    options = [word for setting in (*tiny, *SETTINGS) for word in ("-s", setting)]
    assert command_line(["train", str(array_file), *options, "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out} was renamed to {moved} during training")
    assert line.endswith(f"iddpm train --resume --out {moved}")
    assert not out.exists()


def test_a_link_to_the_directory_may_be_moved_with_it(tmp_path, array_file, tiny):
    """What is at the old name is the same directory: nothing has happened."""
    out = tmp_path / "run"

    def move():
        out.rename(tmp_path / "moved")
        out.symlink_to(tmp_path / "moved")

    settings = [*tiny, *SETTINGS]
    iddpm.train(array_file, out=out, settings=settings, reporter=Happening(4, move))
    assert load_checkpoint(tmp_path / "moved").step == 9

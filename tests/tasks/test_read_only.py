"""Commands on a run that nobody may write to, with results elsewhere."""

import json
import shutil

import pytest

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.training.monitoring.terminal import SilentReporter
from tests.faults.kill_points import contents


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    import numpy as np

    from tests.conftest import TINY, images

    folder = tmp_path_factory.mktemp("read_only")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    settings = [*TINY, "training.steps=2", "data.held_out=0.3"]
    iddpm.train(folder / "x.npz", out=folder / "run", settings=settings, reporter=SilentReporter())
    return folder / "run"


@pytest.mark.parametrize("command", [
    ["evaluate", "RUN", "-n", "8", "--steps", "2", "--out", "OUT"],
    ["likelihood", "RUN", "--steps", "3", "--stride", "optimal", "--max-items", "2",
     "--out", "OUT"],
])  # fmt: skip
def test_results_go_elsewhere(trained, command, tmp_path, capsys):
    """A file where the cache would be stops writing there, also for who may write everywhere."""
    run, out = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(trained, run)
    (run / "cache").write_text("nothing can be made in here")
    names = {"RUN": str(run), "OUT": str(out)}
    before = contents(run, lambda name: False)
    assert command_line([names.get(word, word) for word in command]) == 0
    said = capsys.readouterr().err
    assert "are not stored" in said or "is not kept" in said
    assert contents(run, lambda name: False) == before

    writable = tmp_path / "writable"
    shutil.copytree(trained, writable)
    names = {"RUN": str(writable), "OUT": str(tmp_path / "other")}
    assert command_line([names.get(word, word) for word in command]) == 0
    reports = [json.loads(next(p.glob("*.json")).read_text()) for p in (out, tmp_path / "other")]
    if command[0] == "evaluate":
        assert reports[0]["samples"] == reports[1]["samples"]
    else:
        assert reports[0]["total"] == reports[1]["total"]

"""The samples in a directory are those of one call, and a part of them is marked."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import iddpm
from iddpm.cli.main import run as command
from iddpm.data.sources.open import open_source
from iddpm.tasks import draw as drawing
from iddpm.tasks.draw import DrawRequest, Written, draw
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images

QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    np.savez(folder / "x.npz", images=images(), labels=np.arange(60) % 3)
    return iddpm.train(
        folder / "x.npz", out=folder / "run", reporter=SilentReporter(),
        settings=[*TINY, "model.class_conditional=true", "training.steps=1", "sampling.steps=1"],
    )  # fmt: skip


def files_of(directory):
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


def test_a_later_call_leaves_its_own_files_alone(run, tmp_path, capsys):
    out = tmp_path / "out"
    first = ["sample", str(run.directory), "-n", "4", "--class", "0", "--npz", "--out", str(out)]
    assert command(first) == 0
    (out / "notes.txt").write_text("mine")
    assert command([*first[:2], "-n", "2", "--class", "1", "--seed", "3", *first[-2:]]) == 0
    assert "note: removed the 7 files of earlier samples" in capsys.readouterr().out
    expected = ["000000.png", "000001.png", "grid.png", "labels.csv", "notes.txt", "samples.json"]
    assert files_of(out) == expected
    draw(
        run,
        DrawRequest(2, seed=3, classes="1"),
        written=Written(out=tmp_path / "fresh"),
        console=QUIET,
    )
    for name in expected:
        if name != "notes.txt":
            assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    manifest = json.loads((out / "samples.json").read_text())
    assert manifest["complete"] is True
    assert manifest["files"] == expected[:4]


def test_the_same_call_again_is_the_same(run, tmp_path):
    for _ in range(2):
        draw(run, DrawRequest(3), written=Written(out=tmp_path), console=QUIET)
        assert files_of(tmp_path)[:3] == ["000000.png", "000001.png", "000002.png"]


def test_samples_without_a_manifest_are_refused_and_stay(run, tmp_path, capsys):
    out = tmp_path / "out"
    draw(run, DrawRequest(2), written=Written(out=out), console=QUIET)
    (out / "samples.json").unlink()
    before = files_of(out)
    assert command(["sample", str(run.directory), "-n", "1", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "holds 000000.png, which samples.json does not list" in error
    assert files_of(out) == before
    draw(run, DrawRequest(2), written=Written(out=tmp_path / "more"), console=QUIET)
    Image.new("L", (8, 8)).save(tmp_path / "more/000007.png")
    with pytest.raises(FileExistsError, match=r"000007\.png"):
        draw(run, DrawRequest(2), written=Written(out=tmp_path / "more"), console=QUIET)


def test_an_incomplete_set_is_marked_and_reported(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    draw(run, DrawRequest(5), written=Written(out=out, npz=True), console=QUIET)
    save, calls = drawing.save_images, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return save(*args, **options)

    monkeypatch.setattr(drawing, "save_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw(
            run,
            DrawRequest(5),
            run.plan(batch_size=2),
            Written(out=out, npz=True),
            console=QUIET,
        )
    monkeypatch.undo()
    assert files_of(out) == ["000000.png", "000001.png", "samples.json"]
    with pytest.warns(UserWarning, match=r"is incomplete: .*samples\.json"):
        open_source(out)
    for samples in (out, out / "samples.npz"):
        status = command(["evaluate", str(run.directory), "--samples", str(samples)])
        assert status == 2
        assert "is incomplete" in capsys.readouterr().err
    draw(run, DrawRequest(3), written=Written(out=out, npz=True), console=QUIET)
    assert json.loads((out / "samples.json").read_text())["complete"] is True
    assert command(["evaluate", str(run.directory), "--samples", str(out)]) == 2
    assert "samples.npz, which iddpm sample --npz writes" in capsys.readouterr().err


def test_a_manifest_removes_nothing_but_samples(run, tmp_path):
    out, other = tmp_path / "out", tmp_path / "keep.txt"
    other.write_text("mine")
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    listed = {"complete": True, "made": {}, "files": ["thesis.txt"]}
    (out / "samples.json").write_text(json.dumps(listed))
    draw(run, DrawRequest(1), written=Written(out=out), console=QUIET)
    assert (out / "thesis.txt").read_text() == "mine"
    for damaged in ("{", "[]", '{"complete": true, "made": {}, "files": ["../keep.txt"]}', "null"):
        (out / "samples.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"samples\.json is damaged: remove it"):
            draw(run, DrawRequest(1), written=Written(out=out), console=QUIET)
    assert other.read_text() == "mine"


def test_frames_of_clips_are_removed_with_their_folders(tmp_path):
    from iddpm.runtime.made_files import MadeFiles

    for name in ("000000/0000.png", "000000/0001.png", "000001/0000.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    made = MadeFiles({}, ("000000/0000.png", "000000/0001.png"), complete=True)
    assert made.remove(tmp_path) == 2
    assert files_of(tmp_path) == ["000001/0000.png"]
    assert not (tmp_path / "000000").exists()

import hashlib
import json

import pytest
import torch

from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, read_checkpoint
from iddpm.training.checkpoints.saver import Saver


def save(directory, step, value=1.0):
    tensors = {"network": {"w": torch.full((2, 3), value)}, "optimizer": {"step/w": torch.ones(())}}
    saver = Saver(directory, keep=3)
    saver.save(step, tensors, {"skipped": 4})
    saver.finish()
    return list_checkpoints(directory)[-1]


def test_round_trip(tmp_path):
    path = save(tmp_path, 1000, value=2.5)
    assert path == tmp_path / "checkpoints" / "step_00001000"
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 1000
    assert loaded.state["skipped"] == 4
    assert torch.equal(loaded.tensors["network"]["w"], torch.full((2, 3), 2.5))
    assert set(loaded.tensors) == {"network", "optimizer"}
    assert {p.name for p in path.iterdir()} == {
        "network.safetensors", "optimizer.safetensors", "state.json", "checksums.json",
    }  # fmt: skip


def test_only_the_requested_group_is_read(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints/step_00000001/optimizer.safetensors").write_bytes(b"broken")
    assert set(load_checkpoint(tmp_path, group="network").tensors) == {"network"}


def damages(content):
    """Yield every way that a file of a checkpoint may be damaged in these tests, by name."""
    yield "emptied", b""
    yield "cut in the middle", content[: len(content) // 2]
    yield "cut by a byte", content[:-1]
    yield "longer", content + b"\0"
    for bit in range(0, 8 * len(content), max(8 * len(content) // 40, 1)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)


@pytest.mark.parametrize(
    "name", ["network.safetensors", "optimizer.safetensors", "state.json", "checksums.json"]
)
def test_damage_is_found_and_the_one_before_is_used(tmp_path, name):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    content = path.read_bytes()
    said = r"step_00000002 is damaged.*using step_00000001 instead"
    for how, damaged in damages(content):
        path.write_bytes(damaged)
        if name == "checksums.json" and json.loads(content) == _json(damaged):
            continue  # a byte of white space: nothing is lost
        with pytest.warns(UserWarning, match=said):
            assert load_checkpoint(tmp_path).step == 1, how
    path.unlink()
    with pytest.warns(UserWarning, match=said):
        assert load_checkpoint(tmp_path).step == 1
    with pytest.raises(ValueError, match="step_00000002 is damaged"):
        load_checkpoint(tmp_path, 2)
    path.write_bytes(content)
    assert load_checkpoint(tmp_path).step == 2


def _json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        load_checkpoint(tmp_path)
    save(tmp_path, 7)
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 8; it has 7"):
        load_checkpoint(tmp_path, 8)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    path = save(tmp_path, 1)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"format": 99}))
    checksums = json.loads((path / "checksums.json").read_text())
    checksums["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "checksums.json").write_text(json.dumps(checksums))
    with pytest.raises(ValueError, match="format 99"):
        read_checkpoint(path)

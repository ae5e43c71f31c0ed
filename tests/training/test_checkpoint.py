import json

import pytest
import torch

from iddpm.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    read_checkpoint,
    read_weights,
    save_checkpoint,
)


def save(directory, step, keep=3, value=1.0):
    tensors = {"network": {"w": torch.full((2, 3), value)}, "optimizer": {"step/w": torch.ones(())}}
    return save_checkpoint(directory, step, tensors, {"skipped": 4}, keep=keep)


def test_round_trip(tmp_path):
    path = save(tmp_path, 1000, value=2.5)
    assert path == tmp_path / "checkpoints" / "step_00001000"
    assert (tmp_path / "latest").read_text() == "step_00001000\n"
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 1000
    assert loaded.state["skipped"] == 4
    assert torch.equal(loaded.tensors["network"]["w"], torch.full((2, 3), 2.5))
    assert set(loaded.tensors) == {"network", "optimizer"}


def test_only_what_was_asked_for_is_read(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints/step_00000001/optimizer.safetensors").write_bytes(b"broken")
    assert set(load_checkpoint(tmp_path, prefix="network").tensors) == {"network"}


def test_channels_last_weights_are_saved(tmp_path):
    w = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, 1, {"network": {"w": w}}, {}, keep=1)
    assert torch.equal(load_checkpoint(tmp_path).tensors["network"]["w"], w)


def test_rotation_keeps_the_newest(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step_00000003", "step_00000004"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    save(tmp_path, 5, value=1.0)
    save(tmp_path, 5, value=2.0)
    assert float(load_checkpoint(tmp_path).tensors["network"]["w"][0, 0]) == 2.0
    assert len(list_checkpoints(tmp_path)) == 1


def test_nothing_is_left_of_a_save_that_fails(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iddpm.training.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert load_checkpoint(tmp_path).step == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "checksums"])
def test_damage_is_found_and_the_one_before_is_used(tmp_path, damage):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    weights = newest / "network.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "truncate":
        weights.write_bytes(content[:-3])
    elif damage == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "remove":
        weights.unlink()
    else:
        (newest / "checksums.json").write_text("{")
    with pytest.warns(UserWarning, match=r"step_00000002 is damaged.*using step_00000001"):
        assert load_checkpoint(tmp_path).step == 1
    with pytest.raises(ValueError, match="step_00000002 is damaged"):
        load_checkpoint(tmp_path, 2)


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
    import hashlib

    checksums["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "checksums.json").write_text(json.dumps(checksums))
    with pytest.raises(ValueError, match="format 99"):
        read_checkpoint(path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"w": torch.ones(2)}, path)  # a pickle under a borrowed name is not opened
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_weights(path)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_weights(tmp_path / "nothing.safetensors")

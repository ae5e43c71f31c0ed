import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from iddpm.training.checkpoints.weights import Weights, hash_weights, read_weights, write_weights

TENSORS = {
    "w": torch.randn(3, 4),
    "scalar": torch.tensor(5),
    "empty": torch.zeros(0, 3),
    "flags": torch.ones(5, dtype=torch.bool),
    "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "half": torch.randn(3).bfloat16(),
    "wert_ü": torch.arange(3, dtype=torch.int8),
}


def test_the_library_reads_what_is_written(tmp_path):
    digest = write_weights(tmp_path / "x.safetensors", TENSORS, {"key": "value"})
    assert digest == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value), name
    plain = {name: value.contiguous() for name, value in TENSORS.items()}
    save_file(plain, tmp_path / "y.safetensors", {"key": "value"})
    assert hash_weights(read_weights(tmp_path / "y.safetensors")) == hash_weights(read)


def test_a_file_larger_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("iddpm.training.checkpoints.weights.CHUNK", 10)
    calls = []
    write_weights(tmp_path / "x.safetensors", TENSORS, between=lambda: calls.append(1))
    assert len(calls) > 10
    assert torch.equal(read_weights(tmp_path / "x.safetensors")["w"], TENSORS["w"])


def test_parts_are_joined_along_their_rows(tmp_path):
    whole = torch.randn(5, 2)
    paths = []
    for k, rows in enumerate([slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 5)]):
        paths.append(tmp_path / f"{k}.safetensors")
        write_weights(paths[-1], {"w": whole[rows]})
    write_weights(tmp_path / "more.safetensors", {"scalar": torch.ones(())})
    weights = Weights([tmp_path / "more.safetensors", *paths])
    assert dict(weights).keys() == {"scalar", "w"}
    assert torch.equal(weights["w"], whole)
    assert weights.shape("w") == (5, 2)
    assert weights.shape("scalar") == ()
    for start in range(6):
        for stop in range(start, 7):
            assert torch.equal(weights.rows("w", start, stop), whole[start:stop])


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"w": torch.ones(2)}, path)  # a pickle under a borrowed name is not opened
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_weights(path)
    write_weights(path, TENSORS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_weights(path)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_weights(tmp_path / "nothing.safetensors")

"""Extractors: raw-pixel PCA and network files."""

import hashlib
import json
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from iddpm.evaluation.features import onnx_file, pixel_pca
from iddpm.evaluation.measures import measure
from iddpm.evaluation.reference import Reference


def save_graph(path, shape, output="mean", kind=TensorProto.FLOAT, batch="N"):
    """Write a network that averages over the last axis (or squares), as an ONNX file."""
    graph_input = helper.make_tensor_value_info("x", kind, [batch, *shape])
    result = helper.make_tensor_value_info("y", kind, None)
    if output == "mean":
        axes = list(range(2, len(shape) + 1))
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=1)
    else:
        node = helper.make_node("Mul", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "g", [graph_input], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("shape", [(2, 30), (1, 6, 5), (1, 4, 3, 3)])
def test_pca_keeps_the_largest_variances(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, *shape, generator=generator) * torch.linspace(0.1, 1, shape[-1])
    extractor = pixel_pca(x, components=7)
    found = extractor(x).double()
    assert found.shape == (60, 8)
    found, outside = found[:, :7], found[:, 7]
    assert extractor.beside == 1
    covariance = torch.cov(x.flatten(1).T.double())
    torch.testing.assert_close(
        found.var(dim=0), torch.linalg.eigvalsh(covariance).flip(0)[:7], rtol=1e-5, atol=0
    )
    assert float(found.mean(dim=0).abs().max()) < 1e-5
    # Pythagoras: what is not along the directions lies outside of them.
    whole = (x - x.mean(dim=0)).flatten(1).double().square().sum(dim=1)
    torch.testing.assert_close(found.square().sum(dim=1) + outside**2, whole, rtol=1e-5, atol=1e-5)
    assert pixel_pca(x, components=7).hash == extractor.hash
    assert pixel_pca(x, components=6).hash != extractor.hash
    assert pixel_pca(x + 0.01, components=7).hash != extractor.hash
    with pytest.raises(ValueError, match="was fitted to items of shape"):
        extractor(torch.zeros(2, *shape, 1))


def test_a_pca_has_no_more_directions_than_the_data():
    assert pixel_pca(torch.randn(200, 1, 4))(torch.randn(3, 1, 4)).shape == (3, 4)
    assert pixel_pca(torch.randn(5, 1, 40))(torch.randn(3, 1, 40)).shape == (3, 4)


def test_what_lies_outside_is_left_out_where_it_means_nothing():
    assert pixel_pca(torch.randn(200, 1, 4)).beside == 0  # nothing lies outside
    assert pixel_pca(torch.randn(255, 1, 100)).beside == 0  # few items for 64 directions
    assert pixel_pca(torch.randn(256, 1, 100)).beside == 1


def test_noise_lies_outside_of_smooth_data():
    generator = torch.Generator().manual_seed(0)

    def smooth(count):
        coarse = torch.randn(count, 1, 6, 6, generator=generator)
        return torch.nn.functional.interpolate(coarse, (24, 24), mode="bicubic").clamp(-1, 1)

    train, held_out = smooth(1000), smooth(300)
    extractor = pixel_pca(train)
    reference = Reference.of(extractor(train), {})
    noise = extractor(torch.rand(300, 1, 24, 24, generator=generator) * 2 - 1)
    of_noise, of_data = (
        measure(x, reference, 1000, beside=extractor.beside) for x in (noise, extractor(held_out))
    )
    assert of_noise.values["precision"] == 0
    assert of_noise.values["density"] == 0
    assert of_data.values["precision"] > 0.6
    blind = measure(noise[:, :-1], Reference.of(extractor(train)[:, :-1], {}), 1000)
    assert blind.values["precision"] > 0.4
    assert blind.frechet == pytest.approx(of_noise.frechet)  # the distances stay as they were
    assert blind.kernel == pytest.approx(of_noise.kernel)


@pytest.mark.parametrize("shape", [(3, 16), (3, 8, 7), (2, 4, 5, 6)])
def test_a_network_file_is_run_and_hashed(tmp_path, shape):
    path = save_graph(tmp_path / "net.onnx", shape)
    extractor = onnx_file(path)
    x = torch.rand(5, *shape) * 2 - 1
    torch.testing.assert_close(extractor(x), x.flatten(2).mean(dim=2))
    assert extractor.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert extractor.distance_name == "Frechet distance (net features)"
    assert not extractor.is_inception


def test_what_is_said_beside_the_file(tmp_path):
    path = save_graph(tmp_path / "net.onnx", (3, 8, 8))
    plain = onnx_file(path)
    path.with_suffix(".json").write_text(
        json.dumps(
            {"range": [0, 255], "resize": "bilinear", "name": "inception",
             "standard_inception": True}
        )
    )  # fmt: skip
    extractor = onnx_file(path)
    assert extractor.distance_name == "FID"
    assert extractor.resize == "bilinear"
    assert extractor.hash != plain.hash
    white = extractor(torch.ones(2, 1, 20, 13))  # one channel becomes three, any size 8 x 8
    torch.testing.assert_close(white, torch.full((2, 3), 255.0))
    torch.testing.assert_close(extractor(torch.zeros(2, 3, 8, 8)), torch.full((2, 3), 127.5))


def test_another_input_size_is_refused(tmp_path):
    extractor = onnx_file(save_graph(tmp_path / "net.onnx", (3, 8, 8)))
    with pytest.raises(ValueError, match=r"takes items 3 x 8 x 8 and was given 3 x 9 x 8.*resize"):
        extractor(torch.zeros(2, 3, 9, 8))
    with pytest.raises(ValueError, match="takes items 3 x 8 x 8 and was given 2 x 8 x 8"):
        extractor(torch.zeros(2, 2, 8, 8))
    with pytest.raises(ValueError, match="takes items 3 x 8 x 8 and was given 3 x 8"):
        extractor(torch.zeros(2, 3, 8))
    open_size = onnx_file(save_graph(tmp_path / "any.onnx", (3, "H", "W")))
    assert open_size(torch.zeros(2, 3, 9, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"rnage": [0, 1]}', "has rnage, and may have name, range"),
        ('{"range": [0]}', r"range=\[0\]: give two numbers"),
        ('{"resize": "cubic"}', "use none or bilinear"),
        ("[]", "no mapping"),
        ("{", "is not JSON"),
    ],
)
def test_what_is_said_beside_the_file_is_checked(tmp_path, said, message):
    path = save_graph(tmp_path / "net.onnx", (3, 8))
    path.with_suffix(".json").write_text(said)
    with pytest.raises(ValueError, match=message):
        onnx_file(path)


def test_files_that_are_not_extractors(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no features file"):
        onnx_file(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="cannot be read as an ONNX network"):
        onnx_file(tmp_path / "broken.onnx")
    square = onnx_file(save_graph(tmp_path / "square.onnx", (3, 8), output="square"))
    with pytest.raises(ValueError, match=r"gives \[4, 3, 8\] for 4 items"):
        square(torch.zeros(4, 3, 8))
    doubles = save_graph(tmp_path / "double.onnx", (3, 8), kind=TensorProto.DOUBLE)
    with pytest.raises(ValueError, match="must take one float input"):
        onnx_file(doubles)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'iddpm\[onnx\]'"):
        onnx_file(doubles)


def test_features_that_are_not_finite_are_refused(tmp_path):
    extractor = onnx_file(save_graph(tmp_path / "net.onnx", (1, 8)))
    with pytest.raises(ValueError, match="not finite"):
        extractor(torch.full((2, 1, 8), np.nan))


@pytest.mark.parametrize(("batch", "count"), [(4, 10), (4, 3), (1, 3), (5, 5)])
def test_a_graph_of_a_fixed_batch_takes_any_number_of_items(tmp_path, batch, count):
    extractor = onnx_file(save_graph(tmp_path / "net.onnx", (3, 8), batch=batch))
    x = torch.rand(count, 3, 8) * 2 - 1
    torch.testing.assert_close(extractor(x), x.mean(dim=2))

"""Inception v3 of FID against torch-fidelity's, which ``make setup`` installs apart."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from iddpm.data.levels import to_model_range
from iddpm.networks.inception import InceptionV3, resize_without_shift
from iddpm.tasks.inception_features import inception_features, read_inception

APART = Path(sys.prefix) / "apart"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fidelity():
    """The other library's modules by name, imported behind a stub of torchvision.

    Its features and its resizing use nothing of torchvision; its data sets, which are imported too,
    are classes there.
    """
    if not (APART / "torch_fidelity").is_dir():
        pytest.skip(f"torch-fidelity is not in {APART}: make setup installs it there")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        stubs = ["torchvision"] + [
            f"torchvision.{name}" for name in ("datasets", "transforms", "transforms.functional")
        ]
        for name in stubs:
            module = ModuleType(name)
            patch.setitem(sys.modules, name, module)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
        for name in ("CIFAR10", "CIFAR100", "STL10"):
            setattr(sys.modules["torchvision.datasets"], name, type(name, (), {}))
        patch.syspath_prepend(str(APART))
        from torch_fidelity import feature_extractor_inceptionv3, interpolate_compat_tensorflow

        yield feature_extractor_inceptionv3, interpolate_compat_tensorflow
        for name in set(sys.modules) - before:
            if name.startswith("torch_fidelity"):
                del sys.modules[name]


def uint8(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights whose batch normalization fits what the layers give, in the usual format."""
    torch.manual_seed(0)
    network = InceptionV3().train()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # statistics of all that is seen: otherwise values vanish on the way
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
    with torch.no_grad():
        network(uint8(2, 3, 40, 40, seed=1).float())
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05-random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(31, 47), (299, 299), (400, 333), (1, 2)])
def test_pictures_are_resized_as_torch_fidelity_resizes_them(fidelity, size):
    x = uint8(2, 3, *size).float()
    _, resizing = fidelity
    theirs = resizing.interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False)
    # Some roundings of numbers up to 255, where half a pixel would be tens.
    torch.testing.assert_close(resize_without_shift(x, 299), theirs, atol=1e-3, rtol=0)


def test_features_are_those_of_torch_fidelity(fidelity, file):
    extractor, _ = fidelity
    theirs = extractor.FeatureExtractorInceptionV3("x", ["2048"], str(file))
    gray = uint8(1, 1, 28, 20)
    with torch.no_grad():
        wanted = theirs(gray.expand(-1, 3, -1, -1))[0]
    features = inception_features(file, (1, 28, 20), CPU)
    found = features(to_model_range(gray, 8))
    assert wanted.shape == (1, 2048)
    assert float(wanted.std()) > 0.1 * float(wanted.mean())  # no two features alike
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
    assert (features.distance_name, features.kernel_name) == ("FID", "KID")


def test_a_file_without_counters_or_within_a_dictionary_is_the_same(file, tmp_path):
    weights = torch.load(file, weights_only=True)
    lean = {n: v for n, v in weights.items() if not n.endswith("num_batches_tracked")}
    torch.save({"state_dict": lean}, tmp_path / "lean.pth")
    read, same = read_inception(tmp_path / "lean.pth"), read_inception(file)
    assert all(torch.equal(v, read.state_dict()[n]) for n, v in same.state_dict().items())
    assert not read.training


def test_other_weights_are_refused(file, tmp_path):
    whole = torch.load(file, weights_only=True)
    weights = {n: v.new_zeros(()).expand(v.shape) for n, v in whole.items()}  # small files
    path = tmp_path / "other.pth"

    def refused(changed, match):
        torch.save(changed, path)
        with pytest.raises(ValueError, match=match):
            read_inception(path)

    refused(weights | {"fc.weight": torch.zeros(1000, 2048)}, r"fc.weight has the shape \(1000")
    refused({n: v for n, v in weights.items() if n != "fc.bias"}, "fc.bias is missing")
    refused(weights | {"AuxLogits.fc.bias": torch.zeros(3)}, "holds AuxLogits.fc.bias, which")
    refused(weights | {"fc.bias": torch.full((1008,), torch.nan)}, "not finite")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ValueError, match=r"TorchScript program, and opening one runs its code"):
        read_inception(path)
    with pytest.raises(FileNotFoundError):
        read_inception(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"1 or 3 channels.*data.channels=3"):
        inception_features(file, (4, 8, 8), CPU)
    with pytest.raises(ValueError, match="takes pictures"):
        inception_features(file, (1, 16), CPU)

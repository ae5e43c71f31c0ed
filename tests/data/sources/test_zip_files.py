"""Pictures in a .zip and labels in a dataset.json, as StyleGAN's tools write them."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
NAMES = [f"{k // 3:05}/img{k:08}.png" for k in range(6)]
CLASSES = [3, 0, 3, 10, 0, 3]


def png(k):
    file = io.BytesIO()
    Image.fromarray(PICTURES[k]).save(file, "PNG")
    return file.getvalue()


def pack(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def listed(labels):
    return json.dumps({"labels": labels}).encode()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_layout_of_stylegan(tmp_path, method):
    labels = [[name, label] for name, label in zip(NAMES, CLASSES, strict=True)]
    members = {name: png(k) for k, name in enumerate(NAMES)}
    pack(tmp_path / "a.zip", {**members, "dataset.json": listed(labels)}, method)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "folder")
    for path in (tmp_path / "a.zip", tmp_path / "folder"):
        source = open_source(path)
        assert source.class_names == ("0", "3", "10")
        assert [int(source.class_names[k]) for k in source.labels] == CLASSES
        assert np.array_equal(source.read_many(range(6)), PICTURES.transpose(0, 3, 1, 2))
        assert [source.key(k) for k in range(6)] == NAMES
        assert open_source(path, labels="none").labels is None
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.zip")))
    assert np.array_equal(source.read(3), PICTURES[3].transpose(2, 0, 1))
    pack(tmp_path / "a.zip", {**members, "dataset.json": listed(None)})
    assert open_source(tmp_path / "a.zip").labels is None


def test_folders_of_classes_and_what_archivers_leave(tmp_path):
    members = {f"{'cat' if k % 2 else 'dog'}/{k}.png": png(k) for k in range(6)}
    members |= {"__MACOSX/cat/._1.png": b"x", "readme.txt": b"x", "cat/": b""}
    for top in ("", "animals/"):
        pack(tmp_path / "a.zip", {f"{top}{name}": text for name, text in members.items()})
        source = open_source(tmp_path / "a.zip")
        assert (len(source), source.class_names) == (6, ("cat", "dog"))
    assert np.array_equal(source.read(0), PICTURES[1].transpose(2, 0, 1))


def test_a_dataset_json_of_another_kind_says_nothing(tmp_path):
    """That of nnU-Net names classes of voxels."""
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert open_source(tmp_path).labels is None
    (tmp_path / "dataset.json").write_bytes(listed([["0.png", 1]]))
    with pytest.raises(ValueError, match=r"dataset\.json gives 1\.png no label"):
        open_source(tmp_path)
    (tmp_path / "dataset.json").write_bytes(listed([["0.png", [0.5, 1]], ["1.png", [1, 2]]]))
    with pytest.raises(ValueError, match=r"0\.png the label \[0\.5, 1\]; labels are whole"):
        open_source(tmp_path)
    (tmp_path / "dataset.json").write_bytes(b"{")
    with pytest.raises(ValueError, match=r"dataset\.json is not JSON"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.png", r"holds \.\./a\.png, a path that leads out"),
        ("/tmp/a.png", "leads out"),
        ("x/..\\..\\a.png", "leads out"),
        ("C:/a.png", "leads out"),
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, name, message):
    pack(tmp_path / "a.zip", {"ok.png": png(0), name: png(1)})
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / "a.zip")


def test_bombs_and_encrypted_archives_are_refused(tmp_path):
    pack(tmp_path / "a.zip", {"a.bmp": bytes(70 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="above 64 MiB, compressed bytes may unpack to at most"):
        open_source(tmp_path / "a.zip")
    pack(tmp_path / "a.zip", {"a.png": png(0)})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[6] |= 1  # general purpose flags, of the member and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is encrypted: unpack it"):
        open_source(tmp_path / "a.zip")
    for text in (b"", b"PK", bytes(content[:-30])):
        (tmp_path / "a.zip").write_bytes(text)
        with pytest.raises(ValueError, match=r"a\.zip is not a complete \.zip file"):
            open_source(tmp_path / "a.zip")
    pack(tmp_path / "a.zip", {"x.npy": b"x"})
    with pytest.raises(ValueError, match=r"has no picture: it holds 1 \.npy"):
        open_source(tmp_path / "a.zip")


def test_a_damaged_member_is_left_out(tmp_path):
    pack(tmp_path / "a.zip", {f"{k}.png": png(k) for k in range(3)})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    at = content.index(b"1.png") + 40
    content[at : at + 20] = bytes(20)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip: 1\.png is damaged \(Bad CRC-32"):
        open_source(tmp_path / "a.zip").read_many(range(3))
    with pytest.warns(UserWarning, match=r"skipped 1 damaged pictures of .*1\.png"):
        assert len(open_source(tmp_path / "a.zip", corrupt="skip")) == 2

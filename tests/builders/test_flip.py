"""What data.flip mirrors, by the kind of the data."""

import nibabel
import numpy as np
import pytest
import tifffile
import torch

from iddpm.builders.run_data import open_to_train, training_batches
from iddpm.config import read_config
from tests.conftest import TINY

SETTINGS = [*TINY, "training.batch_size=6", "data.flip=true", "data.held_out=0"]


def batch_of(path, *settings):
    config = read_config(None, [*SETTINGS, f"data.path={path}", *settings])
    resolved, split = open_to_train(config)
    batch = training_batches(resolved, split.source, split.train, 0, torch.device("cpu"))[1]
    stored = split.source.read_many(batch.items.tolist())
    given = split.source.given
    beside = None if given is None else given.read_many(batch.items.tolist())
    return batch, stored, beside


def mirrored_along(batch, stored):
    """The axes, of [C, *spatial], along which each item lies mirrored, None where it does not."""
    found = []
    for x, item in zip(batch.x.numpy(), stored, strict=True):
        axes = [a for a in range(item.ndim) if np.array_equal(x, np.flip(item, a))]
        found.append(None if np.array_equal(x, item) else axes)
    return found


def volumes(folder, affine, seed=0):
    folder.mkdir()
    stored = np.random.default_rng(seed).integers(0, 256, (8, 8, 8, 8), np.uint8)
    for number, voxels in enumerate(stored):
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{number}.nii.gz")
    return folder


AFFINES = {
    1: np.diag([2.0, 2, 2, 1]),  # RAS
    2: np.array([[0, 2.0, 0, 9], [2, 0, 0, 1], [0, 0, 2, 0], [0, 0, 0, 1]]),  # ARS
    3: np.array([[0.4, 0, -2, 9], [2, 0, 0.3, 1], [0, 2, 0, 0], [0, 0, 0, 1]]),  # ASL, oblique
}


@pytest.mark.parametrize("axis", AFFINES)
def test_volumes_are_mirrored_from_left_to_right(tmp_path, axis):
    found = mirrored_along(*batch_of(volumes(tmp_path / "a", AFFINES[axis]))[:2])
    assert {tuple(axes or ()) for axes in found} == {(), (axis,)}


def test_patches_and_what_is_given_are_mirrored_alike(tmp_path):
    given = volumes(tmp_path / "given", AFFINES[2], seed=1)
    batch, stored, beside = batch_of(volumes(tmp_path / "a", AFFINES[2]), f"data.given={given}")
    found = mirrored_along(batch, stored)
    assert {tuple(axes or ()) for axes in found} == {(), (2,)}
    assert found == mirrored_along(type("", (), {"x": batch.given}), beside)


def test_what_is_given_in_another_orientation_is_refused(tmp_path):
    given = volumes(tmp_path / "given", AFFINES[1])
    with pytest.raises(ValueError, match="given is stored in the orientation RAS and a in ARS"):
        batch_of(volumes(tmp_path / "a", AFFINES[2]), f"data.given={given}")


@pytest.mark.parametrize("channels", [1, 2])
def test_signals_have_no_left_and_right(tmp_path, channels):
    np.save(tmp_path / "a.npy", np.zeros((12, channels, 16), np.float32))
    with pytest.raises(ValueError, match="which signals do not have"):
        batch_of(tmp_path / "a.npy", "data.layout=NCL")


def test_volumes_without_an_affine_are_mirrored_along_the_last_axis_and_that_is_said(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8, 8), np.uint8)
    np.save(tmp_path / "a.npy", stored)
    with pytest.warns(UserWarning, match="no affine that gives the left-right axis"):
        batch, stored, _ = batch_of(tmp_path / "a.npy", "data.layout=NCDHW")
    assert {tuple(axes or ()) for axes in mirrored_along(batch, stored)} == {(), (3,)}


def test_stacks_of_numbers_have_a_width_and_no_warning(tmp_path, recwarn):
    for k in range(8):
        x = np.random.default_rng(k).integers(-900, 900, (4, 8, 6)).astype(np.int16)
        tifffile.imwrite(tmp_path / f"{k}.tif", x, photometric="minisblack", metadata=None)
    open_to_train(read_config(None, [f"data.path={tmp_path}", "data.flip=true"]))
    assert not [w for w in recwarn.list if "affine" in str(w.message)]

"""Files upscaled as the mean of several samples, with a map of their spread beside each."""

import json

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.tasks.upscale import upscale
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images

SETTINGS = (*TINY, "training.steps=2", "task=super_resolution", "scale=2", "diffusion.predicts=v")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    np.save(folder / "x.npy", images())
    return iddpm.train(
        folder / "x.npy", out=folder / "run", settings=SETTINGS, reporter=SilentReporter()
    )


def test_it_is_the_mean_and_the_deviation_of_samples_of_one_seed_after_another(run):
    low_res = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    samples = [run.upscale(low_res, seed=seed, steps=3).clamp(-1, 1) for seed in (4, 5, 6)]
    mean, spread = run.upscale_mean(low_res, 3, seed=4, steps=3)
    assert torch.allclose(mean, torch.stack(samples).mean(dim=0), atol=1e-6)
    assert torch.allclose(spread, torch.stack(samples).std(dim=0), atol=1e-6)
    assert float(spread.max()) > 0.01
    alone, none = run.upscale_mean(low_res, 1, seed=4, steps=3)
    assert torch.allclose(alone, samples[0])
    assert not none.any()


def test_files_have_maps_beside_them_in_their_own_units(run, tmp_path, capsys):
    picture = images(1, size=8)[0, ..., 0][:4, :6]
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.stack([picture] * 2))
    files = [str(tmp_path / name) for name in ("a.png", "b.npy")]
    words = ["upscale", str(run.directory), *files, "--steps", "2", "--out", str(tmp_path / "out")]
    assert command([*words, "--average", "3"]) == 0
    assert "the mean of 3 samples of 2 evaluations" in capsys.readouterr().out
    made = json.loads((tmp_path / "out/upscale.json").read_text())
    assert made["files"] == ["a.png", "b.npy", "a.std.npy", "b.std.npy", "comparison.png"]
    assert made["made"]["average"] == 3
    low_res = torch.from_numpy(picture / np.float32(127.5) - 1).float()[None, None]
    mean, spread = run.upscale_mean(low_res.expand(2, -1, -1, -1), 3, start=1, steps=2)
    found = np.load(tmp_path / "out/b.npy").astype(int)
    assert np.abs(found - (mean[:, 0].numpy() + 1) * 127.5).max() < 0.51 + 1e-3
    maps = np.load(tmp_path / "out/b.std.npy")
    assert maps.dtype == np.float32
    assert np.allclose(maps, spread[:, 0] * 127.5, atol=1e-2)
    assert np.load(tmp_path / "out/a.std.npy").shape == (8, 12)
    # What is missing is drawn as it would have been, and another number of samples is other files.
    (tmp_path / "out/b.std.npy").unlink()
    assert command([*words, "--average", "3"]) == 0
    assert np.array_equal(np.load(tmp_path / "out/b.std.npy"), maps)
    capsys.readouterr()
    assert command([*words, "--average", "2"]) == 2
    assert "exists and would be overwritten" in capsys.readouterr().err
    assert command([*words, "--average", "0"]) == 2
    assert "average=0 samples have no mean: use 1 or more" in capsys.readouterr().err


def test_a_file_that_would_be_called_as_a_map_is_refused(run, tmp_path):
    for name in ("a.npy", "a.std.npy"):
        np.save(tmp_path / name, images(1, size=4)[..., 0])
    with pytest.raises(ValueError, match=r"cannot become a\.std\.npy, the map of the spread"):
        upscale(run, [tmp_path], average=2, steps=1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_map_of_a_volume_is_a_volume_in_the_same_space(tmp_path):
    volumes = np.stack([images(60, 8)[k : k + 4, ..., 0] for k in range(0, 40, 2)])
    np.save(tmp_path / "x.npy", volumes)
    run = iddpm.train(
        tmp_path / "x.npy", out=tmp_path / "run", reporter=SilentReporter(),
        settings=[*SETTINGS, "scale=[1,2,2]", "data.layout=NDHW"],
    )  # fmt: skip
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volumes[0, :, :4, :4], affine), tmp_path / "a.nii.gz")
    upscale(run, [tmp_path / "a.nii.gz"], average=2, steps=1, out=tmp_path / "out")
    mean, spread = (nibabel.load(tmp_path / f"out/a{end}.nii.gz") for end in ("", ".std"))
    assert mean.shape == spread.shape == (4, 8, 8)
    assert np.array_equal(mean.affine, spread.affine)
    assert spread.get_data_dtype() == np.float32
    assert np.asarray(spread.dataobj).max() > 0

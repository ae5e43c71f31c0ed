"""The real runs in small: their data, the models they compare with, and each from end to end."""

import dataclasses
import math
import re

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import MultivariateNormal

from benchmarks.runs import bits, digits, emoji, photos, signals, super_resolution, volumes
from benchmarks.runs.common import installed, judge, packed
from benchmarks.runs.gaussian import Directions, dequantized, draw, nats, of_levels, stationary
from iddpm.data.levels import to_model_range
from tests.conftest import TINY, images

SHORT = [
    *TINY,
    "diffusion.predicts=v",
    "training.steps=2",
    "training.precision=float32",
    "training.warmup_steps=0",
]
JUDGE = [
    *SHORT,
    "model.attention_downsampling=[]",
    "training.learning_rate=1e-3",
]


def gaussian_items(count, covariance):
    """Draw items [N, 1, L] of a covariance about 0.3."""
    root = torch.linalg.cholesky(covariance)
    noise = torch.randn(count, len(root), generator=torch.Generator().manual_seed(0)).double()
    return (0.3 + noise @ root.T)[:, None]


def test_the_stationary_process_has_the_spectrum():
    lags = 0.8 ** torch.arange(12.0, dtype=torch.float64)
    covariance = lags[(torch.arange(12)[:, None] - torch.arange(12)).abs()]
    x = gaussian_items(40_000, covariance)
    found = stationary(x)
    # The periodogram's covariance at lag k is the true one times 1 - k / L.
    taper = 1 - (torch.arange(12)[:, None] - torch.arange(12)).abs() / 12
    assert torch.allclose(found.covariance_matrix, covariance * taper, atol=0.02)
    assert torch.allclose(found.mean, torch.tensor(0.3, dtype=torch.float64), atol=0.02)
    assert torch.linalg.eigvalsh(found.covariance_matrix).min() > 0


@pytest.mark.parametrize("count", [50, 4000])  # fewer and more than there are values
def test_directions_give_the_full_gaussian_and_those_of_low_rank(count):
    factor = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.linspace(0.05, 0.2, 60, dtype=torch.float64)
    covariance = factor @ factor.T + noise.diag()
    x = gaussian_items(count, covariance)
    fit = Directions(x, 1e-6)
    rows = x.flatten(1)
    # A rank that leaves nothing is the Gaussian of the sample covariance.
    full = fit.gaussian(60).covariance_matrix
    sample = torch.cov(rows.T, correction=0)
    assert torch.allclose(full - full.diag().diag(), sample - sample.diag().diag(), atol=1e-6)
    # One of any rank is measured as the same Gaussian written out.
    low = fit.gaussian(3)
    written = MultivariateNormal(low.mean, covariance_matrix=low.covariance_matrix)
    assert torch.allclose(nats(low, x), -written.log_prob(rows) / 60)
    if count > 60:  # the truth is nearly as probable
        truth = MultivariateNormal(torch.full((60,), 0.3).double(), covariance)
        other = gaussian_items(500, covariance)
        assert float(nats(low, other).mean() - nats(truth, other).mean()) < 0.02
        drawn = draw(low, 20_000, (1, 60)).flatten(1)
        scale = torch.outer(low.variance, low.variance).sqrt()
        assert ((torch.cov(drawn.T) - low.covariance_matrix) / scale).abs().max() < 0.05


def test_levels_are_measured_in_bits():
    """Uniform levels cost their bits, whatever the noise that makes them continuous."""
    levels = np.random.default_rng(0).integers(0, 16, (3000, 1, 8)).astype(np.uint8)
    x = to_model_range(levels, 4)
    continuous = dequantized(x, 4)
    assert torch.equal(continuous.floor().byte(), torch.from_numpy(levels))
    other = of_levels(x, x, 4, 10)
    # A Gaussian of the variance of 16 uniform levels wastes log2(2 pi e / 12) / 2 bits.
    bits = float(other.likelihood.split()[0])
    assert bits == pytest.approx(4 + math.log2(2 * math.pi * math.e / 12) / 2, abs=0.02)
    assert other.samples.shape == (10, 1, 8)
    assert torch.allclose(to_model_range(dequantized(other.samples, 4).floor(), 4), other.samples)


def test_signals(tmp_path):
    table = tmp_path / "series.csv"
    random = np.random.default_rng(0)
    series = np.cumsum(random.normal(size=(20, 600)), axis=1) / 30
    rows = np.column_stack([np.arange(20) % 2 + 1, series])
    np.savetxt(table, rows, delimiter=",", fmt=["%d", *["%.5f"] * 600])
    cut = ["data.stride=16", "data.held_out=0.3"]
    signals.run(
        table, tmp_path / "run", tmp_path / "signals.png",
        settings=[*SHORT, *cut], judge_settings=[*JUDGE, *cut], n=20, steps=2, looks=4,
    )  # fmt: skip
    report = (tmp_path / "run" / "report.md").read_text()
    assert report.count("| the model |") == report.count("| Gaussian process |") == 2
    assert "held-out items" in report
    assert Image.open(tmp_path / "signals.png").width > 600


def test_power_is_found_at_its_frequency():
    waves = torch.sin(2 * math.pi * 5 * torch.arange(64) / 64)[None, None] + 3
    assert int(signals.spectrum(waves).argmax()) == 4  # the first is one cycle


def test_digits(tmp_path):
    data = tmp_path / "digits.npz"
    np.savez(data, arr_0=images(400), arr_1=np.arange(400) % 3)
    judges = [*JUDGE, "data.held_out=0.2"]
    judge(data, digits.classifier_of(tmp_path / "run"), judges)  # as super-resolution does first
    digits.run(
        data, tmp_path / "run", tmp_path / "digits.png",
        settings=[*SHORT, "data.held_out=0.2"], judge_settings=judges,
        n=20, steps=2, looks=4,
    )  # fmt: skip
    assert "| Gaussian of rank " in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "digits.png").is_file()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_emoji(tmp_path, mode):
    for number, picture in enumerate(images(150, channels=len(mode))):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(picture, mode).save(tmp_path / "data" / f"{number}.png")
    emoji.run(
        tmp_path / "data", tmp_path / "run", tmp_path / "emoji.png",
        settings=[*SHORT, "data.held_out=0.55"], n=20, steps=2, looks=4,
    )  # fmt: skip
    assert "| the model |" in (tmp_path / "run" / "report.md").read_text()


def test_bits(tmp_path):
    arrays = {"arr_0": images(), "arr_1": np.arange(60) % 3}
    np.savez(tmp_path / "digits.npz", **arrays)
    chosen = dataclasses.replace(bits.DATA["digits"], steps=2)
    short = [setting for setting in SHORT if not setting.startswith("training.steps=")]
    bits.run(
        tmp_path / "digits.npz", tmp_path / "run", chosen, settings=short, times=2, n=8, looks=2
    )
    report = (tmp_path / "run/report.md").read_text()
    assert re.search(r"^4 steps, \d+\.\d minutes of training, \d+ items measured", report)
    assert "| prior | steps | decoder | bits/dim | xz | Frechet (PCA) of 8 |" in report
    assert "preset: likelihood" in (tmp_path / "run/config.yaml").read_text()


def test_pictures_that_are_nearly_others_are_left_out():
    pictures = [np.full((32, 32, 4), level, np.uint8) for level in (10, 14, 200)]
    for picture in pictures:
        picture[..., 3] = 255
    numbered = dict(enumerate(pictures))
    assert emoji.distinct(numbered) == [0, 2]
    assert emoji.distinct(numbered, alike=0.001) == [0, 1, 2]


def test_volumes(tmp_path):
    y = np.mgrid[:44, :16, :16].sum(axis=0)
    data = tmp_path / "scan.nii"
    nib.Nifti1Image((y * 3 % 200).astype(np.uint8), np.eye(4)).to_filename(data)
    volumes.run(
        data, tmp_path / "run", tmp_path / "volumes.png",
        settings=[*SHORT, "data.window=[8,8,8]", "data.stride=1"],
        n=20, steps=2, looks=4, measured=8,
    )  # fmt: skip
    assert "| the model |" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("dims", "example"), [(2, super_resolution.DIGITS), (3, super_resolution.VOLUMES)]
)
def test_super_resolution(tmp_path, dims, example):
    random = np.random.default_rng(0)
    windows = [] if dims == 2 else ["data.window=[8,8,8]", "data.stride=8"]
    array = random.integers(0, 256, (100, *[8] * dims), dtype=np.uint8)
    np.save(tmp_path / "data.npy", array)
    super_resolution.run(
        tmp_path / "data.npy", tmp_path / "run", tmp_path / "super_resolution.png",
        example=example, features=("pca",), n=12, steps=2, looks=4, measured=8, shown=2, average=2,
        settings=[*SHORT, *windows, f"data.layout={'NHW' if dims == 2 else 'NDHW'}"],
    )  # fmt: skip
    report = (tmp_path / "run" / "report.md").read_text()
    ways = ("the model", "mean of 2", "one evaluation", "linear", "bicubic")
    assert all(f"| {way} |" in report for way in ways)
    assert report.count(" dB |") == 2 * len(ways)
    assert "times MMSE (1 + 1/2)" in report


def test_patches_of_a_photograph_are_in_a_folder_of_its_own(tmp_path, monkeypatch):
    picture = images(1)[0, ..., 0].repeat(12, 0).repeat(17, 1)  # 96 x 136
    Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr(photos, "installed", lambda package, path, command: tmp_path / "a.png")
    monkeypatch.setattr(photos, "PHOTOGRAPHS", {"cat": ("a", "a.png"), "cup": ("a", "a.png")})
    folder = photos.prepare(tmp_path / "photos")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len(found) == 2 * 2 * 3
    assert found[0] == "cat/cat_000_000.png"
    assert found[-1] == "cup/cup_032_064.png"
    last = np.asarray(Image.open(folder / found[-1]))
    assert np.array_equal(last[..., 0], picture[32:96, 64:128])


def test_low_resolutions_are_repeated():
    low_res = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert super_resolution.repeated(low_res, (1, 4, 4))[0, 0].tolist() == [
        [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]
    ]  # fmt: skip


def test_xz_is_measured_in_bits_per_dimension():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (400, 1, 500)))
    x = to_model_range(noise.numpy().astype(np.uint8), 8)
    assert float(packed([x])) == pytest.approx(8, abs=0.01)
    assert float(packed([torch.cat([x, x])])) == pytest.approx(4, abs=0.02)
    assert float(packed([x, x])) == pytest.approx(8, abs=0.01)  # apart


def test_a_missing_carrier_is_named():
    with pytest.raises(FileNotFoundError, match="run: pip install --no-deps nowhere"):
        installed("nowhere", "data.csv", "pip install --no-deps nowhere")

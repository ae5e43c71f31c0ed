"""The spread of the residual: measured, stored, and kept by runs that go on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders import build_denoiser, build_sampling_plan, build_tiling, held_out_low_res
from iddpm.builders.low_resolution import interpolate
from iddpm.builders.residual_spread import LEAST_SHARE
from iddpm.config import read_config
from iddpm.data.levels import to_model_range
from iddpm.runs.layout import read_run_config
from iddpm.sampling import SampleNoise
from iddpm.tasks.start import Start, settings_of_start
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.timesteps import LowDiscrepancyTimesteps, PureNoiseTimesteps
from tests.conftest import TINY, images

OLD = Path("tests/runs/version_0_1/upscaler")
SETTINGS = (*TINY, "task=super_resolution", "scale=2", "diffusion.predicts=v", "training.steps=2")


def train(data, out, *settings, **options):
    options = {"settings": settings, "reporter": SilentReporter(), **options}
    return iddpm.train(data, out=out, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residual")
    np.save(folder / "x.npy", images(channels=2))
    return train(folder / "x.npy", folder / "run", *SETTINGS, "data.layout=NHWC")


def test_the_spread_is_that_of_the_training_items_and_is_kept(run):
    split = run.open_split()
    x = to_model_range(split.source.read_many(split.train), 8)
    low_res = held_out_low_res(run.config, x, split.train.tolist())
    apart = (x - interpolate(run.config, low_res, x.shape[2:])).double()
    wanted = apart.square().mean(dim=(0, 2, 3)).sqrt().tolist()
    assert read_run_config(run.directory).diffusion.residual_scale == pytest.approx(wanted)
    assert run.config.diffusion.residual is True
    assert run.config.training.pure_noise_share == 0.125
    with pytest.raises(ValueError, match=r"another diffusion\.residual and cannot continue"):
        train(None, run.directory, "diffusion.residual=false", "training.steps=4", resume=True)
    changed = run.directory.parent / "changed"
    shutil.copytree(run.directory, changed)
    path = changed / "config.yaml"
    path.write_text(path.read_text().replace("residual: true", "residual: false"))
    with pytest.raises(ValueError, match="residual"):
        iddpm.load(changed)


def test_a_channel_that_hardly_varies_keeps_a_share_of_the_largest_spread(tmp_path):
    x = images(channels=2)
    x[..., 1] = 200
    np.save(tmp_path / "x.npy", x)
    config = train(tmp_path / "x.npy", tmp_path / "run", *SETTINGS, "data.layout=NHWC").config
    first, second = config.diffusion.residual_scale
    assert second == pytest.approx(LEAST_SHARE * first)
    np.save(tmp_path / "flat.npy", np.full_like(x, 7))
    config = train(tmp_path / "flat.npy", tmp_path / "flat", *SETTINGS, "data.layout=NHWC").config
    assert config.diffusion.residual_scale == (1.0, 1.0)


def test_runs_of_earlier_versions_keep_their_form(tmp_path):
    config = read_run_config(OLD)
    assert config.diffusion.residual is None
    assert iddpm.load(OLD).denoiser.residual_scale is None
    base = settings_of_start(Start(OLD), None)
    assert base["diffusion"]["residual"] is False
    low_res = torch.zeros(1, *[config.model.channels], *[n // 2 for n in config.model.size])
    assert iddpm.load(OLD).upscale(low_res, steps=2).isfinite().all()


def test_another_run_starts_from_weights_with_a_spread_of_its_own(run, tmp_path):
    np.save(tmp_path / "x.npy", images(channels=2) // 2)
    other = train(
        tmp_path / "x.npy", tmp_path / "run", "data.layout=NHWC", "training.steps=1",
        "task=super_resolution", "scale=2", "training.batch_size=4", init_from=run.directory,
    )  # fmt: skip
    first, second = (r.config.diffusion.residual_scale for r in (run, other))
    assert second == pytest.approx([value / 2 for value in first], rel=0.05)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["diffusion.residual=true"], "which task=generation does not have"),
        (["task=super_resolution", "scale=2", "diffusion.residual=true",
          "diffusion.predicts=categorical"], "need data with levels, and a residual has none"),
        (["diffusion.residual_scale=[1]"], "residual_scale needs task=super_resolution"),
        (["training.pure_noise_share=0.1", "diffusion.predicts=eps"],
         "predicts=eps does not depend on the data there"),
        (["training.pure_noise_share=1", "diffusion.predicts=v"], "pure_noise_share=1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        read_config(None, more)


def test_tiles_of_a_model_that_sees_points_are_the_whole(run):
    """Of one place alone it says the same in every tile."""

    def network(x, shown, low_res):
        return torch.tanh(x).repeat(1, 2, 1, 1)

    denoiser = build_denoiser(run.config, network)
    plan = build_sampling_plan(run.config, denoiser, run.config.sampling)
    low_res = torch.rand(1, 2, 9, 7, generator=torch.Generator().manual_seed(0)) - 0.5
    noise = SampleNoise(0, (1, 2, 18, 14))
    tiling = build_tiling(run.config, (9, 7), 0.25)
    *_, whole = plan.states(noise, low_res=low_res)
    *_, tiled = tiling.around(plan).states(noise, low_res=low_res)
    assert tiling.count > 1
    assert torch.allclose(whole.x, tiled.x, atol=1e-5)
    assert float((whole.x - interpolate(run.config, low_res, (18, 14))).abs().max()) > 1e-2


def test_pure_noise_has_its_share_and_the_rest_is_spread_as_before():
    count = 400
    uniform = np.random.default_rng(0).random(count)
    drawn = PureNoiseTimesteps(LowDiscrepancyTimesteps(50), 50, 0.125).sample(uniform)
    noisy = torch.from_numpy(uniform < 0.125)
    assert bool((drawn.t[noisy] == 49).all())
    rest = drawn.t[~noisy]
    counts = torch.bincount(rest, minlength=50)
    assert int(counts.max() - counts.min()) <= 1
    assert drawn.weights.tolist() == [1] * count

import pytest
import torch

from iddpm.interop.openai import build_published, constructor_from_flags, load_published
from iddpm.sampling import DDIM, sample

FLAGS = {
    "image_size": 32,
    "num_channels": 32,
    "num_res_blocks": 1,
    "learn_sigma": True,
    "diffusion_steps": 100,
    "noise_schedule": "cosine",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = build_published(*constructor_from_flags("improved-diffusion", FLAGS))
    path = tmp_path_factory.mktemp("published") / "ema_0.9999_000100.pt"
    torch.save(network.state_dict(), path)
    return path


def test_opens_ready_to_sample(checkpoint):
    denoiser = load_published(checkpoint, "improved-diffusion", FLAGS)
    schedule = denoiser.diffusion.schedule
    assert len(schedule) == 100
    assert float(schedule.shown[1]) == 10.0  # improved-diffusion rescales to 1,000 by default
    assert denoiser.diffusion.variance == "learned_range"
    x = sample(DDIM(), denoiser, schedule.respace([0, 99]), torch.randn(1, 3, 32, 32))
    assert x.shape == (1, 3, 32, 32)


def test_flags_decide_the_process(checkpoint):
    flags = FLAGS | {"rescale_timesteps": False, "predict_xstart": True}
    denoiser = load_published(checkpoint, "improved-diffusion", flags)
    assert float(denoiser.diffusion.schedule.shown[1]) == 1.0
    assert denoiser.predicts == "x0"


def test_what_is_not_this_model_is_named(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="belongs to other flags"):
        load_published(checkpoint, "improved-diffusion", FLAGS | {"num_channels": 64})
    optimizer = tmp_path / "opt000100.pt"
    torch.save({"state": {}, "param_groups": []}, optimizer)
    with pytest.raises(ValueError, match=r"optimizer's file \(opt\*\.pt\)"):
        load_published(optimizer, "improved-diffusion", FLAGS)
    truncated = tmp_path / "model.pt"
    truncated.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a checkpoint of weights alone"):
        load_published(truncated, "improved-diffusion", FLAGS)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_published(tmp_path / "none.pt", "improved-diffusion", FLAGS)


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_not_executed(tmp_path, capsys):
    path = tmp_path / "model.pt"
    torch.save({"w": Bomb()}, path)
    with pytest.raises(ValueError, match="not a checkpoint of weights alone"):
        load_published(path, "improved-diffusion", FLAGS)
    assert "executed" not in capsys.readouterr().out

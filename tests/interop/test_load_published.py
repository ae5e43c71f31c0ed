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


def test_flags_may_be_those_of_a_command_line(checkpoint):
    line = " ".join(f"--{name} {value}" for name, value in FLAGS.items())
    x = torch.randn(1, 3, 32, 32)
    answers = []
    for flags in (FLAGS, line):
        denoiser = load_published(checkpoint, "improved-diffusion", flags)
        level = denoiser.diffusion.schedule.at(torch.tensor([50]))
        answers.append(denoiser(x, level))
    assert torch.equal(answers[0].eps, answers[1].eps)
    with pytest.raises(ValueError, match="noise_shedule is not a published flag"):
        load_published(checkpoint, "improved-diffusion", line + " --noise_shedule cosine")


def test_what_is_not_this_model_is_named(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="belongs to other flags"):
        load_published(checkpoint, "improved-diffusion", FLAGS | {"num_channels": 64})
    optimizer = tmp_path / "opt000100.pt"
    torch.save({"state": {}, "param_groups": []}, optimizer)
    with pytest.raises(ValueError, match=r"optimizer's file \(opt\*\.pt\)"):
        load_published(optimizer, "improved-diffusion", FLAGS)
    truncated = tmp_path / "model.pt"
    truncated.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a checkpoint of only weights"):
        load_published(truncated, "improved-diffusion", FLAGS)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_published(tmp_path / "none.pt", "improved-diffusion", FLAGS)


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_not_executed(tmp_path, capsys):
    path = tmp_path / "model.pt"
    torch.save({"w": Bomb()}, path)
    with pytest.raises(ValueError, match="not a checkpoint of only weights"):
        load_published(path, "improved-diffusion", FLAGS)
    assert "executed" not in capsys.readouterr().out


def test_flags_are_read_as_the_published_scripts_read_them():
    texts = {"image_size": "32", "num_channels": "32", "learn_sigma": "False", "class_cond": "no"}
    numbers = {"image_size": 32, "num_channels": 32, "learn_sigma": False, "class_cond": False}
    assert constructor_from_flags("improved-diffusion", texts) == constructor_from_flags(
        "improved-diffusion", numbers
    )
    for word, value in {"True": 6, "yes": 6, "1": 6, "t": 6, "no": 3, "0": 3, "F": 3}.items():
        _, arguments = constructor_from_flags("guided-diffusion", {**texts, "learn_sigma": word})
        assert arguments["out_channels"] == value, word
    free = {"lr": "1e-4", "batch_size": 128, "timestep_respacing": "250", "use_ddim": "True"}
    constructor_from_flags("improved-diffusion", {**texts, **free})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"noise_shedule": "cosine"}, "noise_shedule is not a published flag.*noise_schedule"),
        ({"num_chanels": 32}, "did you mean num_channels"),
        ({"noise_schedule": "squared"}, "'squared' is unknown: use linear or cosine"),
        ({"learn_sigma": "perhaps"}, "learn_sigma='perhaps' is neither true nor false"),
        ({"learn_sigma": 2}, "learn_sigma='2' is neither true nor false"),
        ({"num_channels": "many"}, "num_channels='many' is no whole number"),
        ({"num_channels": 3.5}, "num_channels='3.5' is no whole number"),
        ({"dropout": "x"}, "dropout='x' is no number"),
        ({"attention_resolutions": "a,b"}, "is no list such as 1,2,3"),
        ({"attention_resolutions": "0"}, "is not above 0"),
    ],
)
def test_wrong_flags_are_refused(flags, message, tmp_path):
    whole = {"image_size": 32, "num_channels": 32, "num_res_blocks": 1}
    with pytest.raises(ValueError, match=message):
        constructor_from_flags("improved-diffusion", {**whole, **flags})
    path = tmp_path / "model.pt"
    network = build_published(*constructor_from_flags("improved-diffusion", whole))
    torch.save(network.state_dict(), path)
    with pytest.raises(ValueError, match=message):
        load_published(path, "improved-diffusion", {**whole, **flags})

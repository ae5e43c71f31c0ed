import json
import re

import pytest
import torch
import yaml

from iddpm import load
from iddpm.cli.main import run as command
from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear
from iddpm.interop.openai import build_published, constructor_from_flags
from iddpm.interop.published_flags import read_flags, split_flags
from iddpm.interop.published_settings import settings_from_flags
from iddpm.interop.published_weights import Facts
from iddpm.runs.classifier import load_classifier
from iddpm.sampling import DDIM, clip_x0, sample, space_timesteps
from tests.interop.published_lines import CLASSIFIERS, LINES

SMALL = "--image_size 32 --num_channels 32 --num_res_blocks 1 --attention_resolutions 8"


POOLED = list(zip(CLASSIFIERS, ("attention", "adaptive", "spatial", "spatial_v2"), strict=True))


def save(path, family, flags, facts=None, half=False, wrap=lambda state: state):
    """Save a published-like checkpoint, every layer filled; return the published network."""
    read = read_flags(split_flags(flags, family), family)
    facts = facts or Facts("upsampler" if "large_size" in read else "network")
    torch.manual_seed(0)
    network = build_published(*constructor_from_flags(family, read, facts)).eval()
    for parameter in network.parameters():
        if not parameter.any():  # zeroed layers would hide what comes before them
            torch.nn.init.normal_(parameter, std=0.02)
    state = network.state_dict()
    if half:
        state = {name: value.half() for name, value in state.items()}
        network.load_state_dict(state)
    torch.save(wrap(state), path)
    return network


def imported(tmp_path, flags, family="improved", **options):
    network = save(tmp_path / "model.pt", family, flags, **options)
    out = tmp_path / "run"
    arguments = ["import", str(tmp_path / "model.pt"), "--flags", flags, "--family", family]
    assert command([*arguments, "--out", str(out)]) == 0
    return network, out


def narrow(line):
    """Return the flags of a published line with the channels that a test can afford."""
    return f"{line} --num_channels 32 --num_res_blocks 1 --num_heads 4"


def x_t(channels, size, seed=1):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_the_estimate_is_that_of_the_published_network(tmp_path, number):
    family, line = LINES[number]
    flags = f"{narrow(line)} --image_size 64"
    network, out = imported(tmp_path, flags, family)
    read = read_flags(split_flags(flags, family))
    make = {"linear": linear, "cosine": cosine}[read["noise_schedule"]]
    schedule = make(read["diffusion_steps"], rescale_timesteps=read.get("rescale_timesteps", True))
    # In float64: the noisiest steps multiply rounding by hundreds.
    direct = Denoiser(network, GaussianDiffusion(schedule, "learned_range")).double()
    ours = load(out, device="cpu").denoiser.double()
    x, t = x_t(3, 64).double(), torch.tensor([7, len(schedule) - 200])
    conditioning = {"y": torch.tensor([3, 999])} if read.get("class_cond") else {}
    with torch.no_grad():
        wanted = direct(x, schedule.at(t), **conditioning)
        given = ours(x, ours.diffusion.schedule.at(t), **conditioning)
    torch.testing.assert_close(given.x0, wanted.x0, atol=1e-9, rtol=1e-9)
    assert given.variance_kind == "learned_range"


@pytest.mark.parametrize(("family", "line"), LINES)
def test_every_published_line_is_read(family, line):
    facts = Facts("upsampler") if "large_size" in line or "image_size" not in line else Facts()
    settings = settings_from_flags(family, split_flags(line, family), facts)
    words = line.split()
    flag = {name: words[-words[::-1].index(name)] for name in words if name.startswith("--")}
    model = settings["model"]
    assert model["model_channels"] == int(flag["--num_channels"])
    assert model["num_res_blocks"] == int(flag["--num_res_blocks"])
    assert model.get("class_conditional", False) == (flag.get("--class_cond") == "True")
    assert model["use_scale_shift_norm"] == (flag.get("--use_scale_shift_norm", "True") == "True")
    assert settings["diffusion"]["num_steps"] == int(flag.get("--diffusion_steps", 1000))
    assert settings["diffusion"]["schedule"] == flag.get("--noise_schedule", "linear")
    learned = flag.get("--learn_sigma") == "True"
    assert settings["diffusion"]["variance"] == ("learned_range" if learned else "fixed_large")
    steps = flag.get("--timestep_respacing", str(settings["diffusion"]["num_steps"]))
    assert settings["sampling"]["steps"] == int(steps.removeprefix("ddim"))
    assert settings["sampling"]["sampler"] == ("ddim" if "--use_ddim" in flag else "ddpm")


def test_five_steps_are_the_published_ones(tmp_path):
    flags = f"{SMALL} --learn_sigma True --use_ddim True --timestep_respacing ddim5"
    network, out = imported(tmp_path, flags)
    run = load(out, device="cpu")
    diffusion = GaussianDiffusion(linear(1000), "learned_range")
    schedule = diffusion.schedule.respace(space_timesteps(1000, "ddim5"))
    states = []
    batches = run.sample_batches(
        2, run.plan(), on_step=lambda number, x: states.append(x) if number == 0 else None
    )
    given = next(batches).x
    wanted = sample(DDIM(), clip_x0(Denoiser(network, diffusion)), schedule, states[0])
    torch.testing.assert_close(given, wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("size", "pool"), POOLED)
def test_classifiers_of_every_size_and_pool(tmp_path, size, pool):
    flags = f"--image_size {size} {CLASSIFIERS[size]} --classifier_width 32 --classifier_depth 1"
    flags += f" --classifier_pool {pool} --classifier_attention_resolutions 8"
    facts = Facts("classifier", 3, 10)
    network, out = imported(tmp_path, flags, "guided", facts=facts)
    classifier = load_classifier(out, "cpu")
    assert classifier.class_names == tuple(map(str, range(10)))
    x = x_t(3, size)[:1]
    with torch.no_grad():
        wanted = network(x, torch.zeros(1))
    torch.testing.assert_close(classifier.logits(x), wanted, atol=1e-5, rtol=1e-5)


def test_an_upsampler_refines(tmp_path):
    flags = f"{SMALL} --large_size 64 --small_size 16 --learn_sigma True"
    network, out = imported(tmp_path, flags.replace("--image_size 32 ", ""))
    run = load(out, device="cpu")
    assert run.config.scale == 4
    x, low, level = (
        x_t(3, 64),
        x_t(3, 16),
        run.denoiser.diffusion.schedule.at(torch.tensor([5, 900])),
    )
    assert run.upscale(low[:1], steps=2, spacing="even").shape == (1, 3, 64, 64)
    ours, wanted = run.denoiser.double(), Denoiser(network, run.denoiser.diffusion).double()
    with torch.no_grad():
        pairs = [d(x.double(), level, low_res=low.double()).x0 for d in (ours, wanted)]
    torch.testing.assert_close(*pairs, atol=1e-9, rtol=1e-9)


def test_recode_upsampling_takes_our_name(tmp_path):
    def theirs(state):
        return {
            name.replace(".conv.", ".op.") if name.startswith("output_blocks") else name: value
            for name, value in state.items()
        }

    flags = f"{SMALL} --learn_sigma True --steps 50"
    network, out = imported(tmp_path, flags, "recode", wrap=theirs)
    run = load(out, device="cpu")
    assert len(run.denoiser.diffusion.schedule) == 50
    assert run.config.model.upsample == "transpose"
    with torch.no_grad():
        x, t = x_t(3, 32), torch.tensor([3.0, 40.0])
        torch.testing.assert_close(run.denoiser.network(x, t), network(x, t))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": v for name, v in state.items()}},
    ],
)
def test_wrapped_and_half_precision_weights(tmp_path, wrap):
    network, out = imported(tmp_path, SMALL, half=True, wrap=wrap)
    given = load(out, device="cpu").denoiser.network.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(given[name], value), name


def test_channels_and_classes_of_changed_code_are_taken_from_the_weights(tmp_path):
    flags = f"{SMALL} --class_cond True --learn_sigma True"
    _, out = imported(tmp_path, flags, facts=Facts("network", 1, 7))
    model = load(out).config.model
    assert (model.channels, model.num_classes) == (1, 7)


def test_info_names_the_origin(tmp_path, capsys):
    imported(tmp_path, SMALL)
    assert command(["info", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "imported from model.pt (sha256 " in said
    assert "--num_channels 32" in said
    assert command(["info", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "imported"


def test_a_dry_run_prints_settings_that_training_takes(tmp_path, capsys):
    flags = f"{SMALL} --class_cond True --learn_sigma True --lr 3e-4 --use_fp16 True"
    assert command(["import", "--dry-run", "--flags", flags]) == 0
    text = capsys.readouterr().out
    settings = yaml.safe_load(text)
    assert settings["training"]["learning_rate"] == 3e-4
    assert "# --use_fp16 is not a setting: training.precision" in text
    assert settings["model"]["class_conditional"] is True
    assert "num_classes" not in settings["model"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--num_channels 64", r"time_embed.0.weight .* --num_channels decides it.* with 32"),
        ("--learn_sigma True", r"out.2.weight has shape .* --learn_sigma decides it"),
        ("--class_cond True", r"label_emb.weight is not there .* --class_cond decides it"),
        ("--use_scale_shift_norm False", r"emb_layers.1.weight .* --use_scale_shift_norm decides"),
        ("--num_res_blocks 2", r"--num_res_blocks decides it, and .* with 1"),
        ("--attention_resolutions 16", r"--attention_resolutions decides it"),
        ("--image_size 64", r"--image_size decides it"),
        ("--family guided --resblock_updown True", r"--resblock_updown decides it"),
    ],
)
def test_the_flag_that_does_not_fit_is_named(tmp_path, capsys, wrong, message):
    save(tmp_path / "model.pt", "improved", SMALL)
    arguments = ["import", str(tmp_path / "model.pt"), "--out", str(tmp_path / "run")]
    if "--family" in wrong:
        arguments, wrong = [*arguments, "--family", "guided"], wrong.replace("--family guided", "")
    assert command([*arguments, "--flags", f"{SMALL} {wrong}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def bad_files():
    state = {"w": torch.zeros(2)}
    return {
        "code": ({"w": Bomb()}, "only tensors are ever loaded"),
        "optimizer": ({"state": {}, "param_groups": []}, "is an optimizer's file"),
        "infinite": ({"out.0.weight": torch.tensor([1.0, torch.inf])}, "not finite"),
        "other": ({"epoch": 3, **state}, "'epoch' in it is not a tensor"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_other_files_are_refused(tmp_path, capsys, name):
    held, message = bad_files()[name]
    torch.save(held, tmp_path / "model.pt")
    out = tmp_path / "run"
    assert command(["import", str(tmp_path / "model.pt"), "--flags", SMALL, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "executed" not in captured.out
    assert not out.exists()


def test_flags_of_another_network_are_reported(tmp_path, capsys):
    both = f"{SMALL} --classifier_depth 4 --large_size 256 --timestep_respacing 250"
    assert command(["import", "--family", "guided", "--dry-run", "--flags", both]) == 0
    said = capsys.readouterr().out  # with large_size it is an upsampler
    assert "# --classifier_depth is not a setting: it describes another network" in said
    assert "# --image_size is not a setting: it describes another network" in said
    judge = "--image_size 64 --classifier_depth 4 --learn_sigma True --timestep_respacing 250"
    assert command(["import", "--family", "guided", "--dry-run", "--flags", judge]) == 0
    said = capsys.readouterr().out
    assert "task: classification" in said
    assert "# --learn_sigma is not a setting: it describes another network" in said
    assert command(["import", "--dry-run", "--flags", "--num_head_channels 64"]) == 2
    assert "is a flag of guided-diffusion and not of improved-diffusion: give --family guided" in (
        capsys.readouterr().err
    )

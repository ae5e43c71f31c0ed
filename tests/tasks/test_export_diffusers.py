"""Pipeline folders of diffusers, written and read; diffusers itself runs in one other process."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from iddpm import load
from iddpm.cli.main import run as command
from iddpm.diffusion import GaussianDiffusion, cosine, zero_terminal_snr
from iddpm.interop.diffusers_export import scheduler_config
from iddpm.interop.diffusers_import import diffusion_settings
from iddpm.interop.diffusers_names import Layout, from_diffusers, to_diffusers
from iddpm.networks import UNet
from iddpm.sampling import DDIM, DDPM, clip_x0
from tests.tasks.test_import_run import save

SMALL = "--num_channels 32 --num_res_blocks 1 --num_heads 1 --attention_resolutions 16"
RUNS = {
    "films": ("improved", f"{SMALL} --image_size 32"),
    "resized": (
        "guided",
        f"{SMALL} --image_size 32 --num_heads 4 --num_head_channels 16 --learn_sigma True "
        "--resblock_updown True --use_new_attention_order True --noise_schedule cosine",
    ),
    "classes": (
        "improved",
        f"{SMALL} --image_size 32 --class_cond True --use_scale_shift_norm False --sigma_small 1",
    ),
}
TIMES = (0, 3, 600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Exports of runs, what diffusers made of them, and pipelines that it wrote."""
    folder = tmp_path_factory.mktemp("diffusers")
    inputs = {}
    for name, (family, flags) in RUNS.items():
        save(folder / f"{name}.pt", family, flags)
        out = folder / name
        arguments = [str(folder / f"{name}.pt"), "--family", family, "--flags", flags]
        assert command(["import", *arguments, "--out", str(out)]) == 0
        exported = ["--to", "diffusers", "--out", str(folder / f"exported_{name}")]
        assert command(["export", str(out), *exported, "--license", "mit"]) == 0
        size = load(out).config.model.size
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        inputs[name] = {"x": x, "t": torch.tensor(TIMES)}
        if name == "classes":
            inputs[name]["y"] = torch.tensor([7, 999])
    torch.save(inputs, folder / "inputs.pt")
    script = Path(__file__).with_name("diffusers_side.py")
    subprocess.run([sys.executable, script, folder], check=True, env={"OMP_NUM_THREADS": "1"})
    return folder


def ours(run, given):
    """Return the network's output and one step from each time, as diffusers_side.py has them."""
    denoiser, steps = run.denoiser.double(), []
    sampler = DDIM() if run.config.sampling.sampler == "ddim" else DDPM()
    clipped = clip_x0(partial(denoiser, **({"y": given["y"]} if "y" in given else {})))
    labels = {"y": given["y"]} if "y" in given else {}
    x, schedule = given["x"].double(), denoiser.diffusion.schedule

    def draw():
        generator = torch.Generator().manual_seed(5)
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    for t in given["t"].tolist():
        times = torch.full((len(x),), t)
        with torch.no_grad():
            out = denoiser.network(x, schedule.at(times).shown.float(), **labels)
            steps.append((out, sampler.step(clipped, x, t, schedule, draw, None).x))
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_step_of_diffusers_is_ours(folder, name):
    given = torch.load(folder / "inputs.pt", weights_only=True)[name]
    found = torch.load(folder / "outputs.pt", weights_only=True)[name]
    for (out, step), (their_out, their_step) in zip(
        ours(load(folder / name, device="cpu"), given), found, strict=True
    ):
        torch.testing.assert_close(their_out, out, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(their_step, step, atol=1e-8, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "resized", "ddim"])
def test_their_pipelines_come_and_go_bit_for_bit(folder, tmp_path, name):
    theirs, out = folder / f"theirs_{name}", tmp_path / "run"
    assert command(["import", str(theirs), "--out", str(out)]) == 0
    run = load(out, device="cpu")
    given = torch.load(folder / "theirs.pt", weights_only=True)[name]
    for (mine, step), (their, their_step) in zip(ours(run, given), given["steps"], strict=True):
        torch.testing.assert_close(mine, their, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(step, their_step, atol=1e-8, rtol=1e-8)
    assert command(["export", str(out), "--to", "diffusers", "--out", str(tmp_path / "back")]) == 0
    file = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(theirs / file), load_file(tmp_path / "back" / file)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    known = json.loads((theirs / "unet" / "config.json").read_text())
    again = json.loads((tmp_path / "back" / "unet" / "config.json").read_text())
    again = {key: value for key, value in again.items() if key in known and key[0] != "_"}
    assert {key: known[key] for key in again} == again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("freq_shift", 1, "freq_shift=1"),
        ("norm_num_groups", 8, "norm_num_groups=8.* have 32 groups"),
        ("down_block_types", ["DownBlock2D", "KDownBlock2D"], "KDownBlock2D"),
        ("up_block_types", ["UpBlock2D", "UpBlock2D"], r"attention at the levels \[1\] down"),
        ("add_attention", False, "add_attention=False"),
        ("layers_per_block", 2, "does not hold the weights that its config.json describes"),
        ("_class_name", "UNet2DConditionModel", "holds a UNet2DConditionModel"),
    ],
)
def test_what_has_no_counterpart_is_named(folder, tmp_path, capsys, setting, value, message):
    shutil.copytree(folder / "theirs_plain", tmp_path / "theirs")
    path = tmp_path / "theirs" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    assert command(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_heads 4 --attention_resolutions 32,16", "model.num_heads=4 at 32 and 64 channels"),
        (
            "--diffusion_steps 4000",
            "rescale_timesteps=true with diffusion.num_steps=4000",
        ),
        ("--family recode", "model.upsample=transpose"),
        ("--large_size 64 --small_size 32", "task=super_resolution"),
    ],
)
def test_a_setting_that_diffusers_lacks_is_named(tmp_path, capsys, flags, message):
    flags, _, family = flags.partition("--family ")
    whole = f"{SMALL} --image_size 32 {flags}"
    save(tmp_path / "model.pt", family or "improved", whole)
    arguments = [str(tmp_path / "model.pt"), "--family", family or "improved", "--flags", whole]
    assert command(["import", *arguments, "--out", str(tmp_path / "run")]) == 0
    exported = ["--to", "diffusers", "--out", str(tmp_path / "exported")]
    assert command(["export", str(tmp_path / "run"), *exported]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()].count("exported") == 0
    assert not list(tmp_path.glob(".exported*"))


@pytest.mark.slow
def test_the_card_says_what_it_is(folder):
    card = (folder / "exported_films" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: diffusers\n")
    assert 'DDPMPipeline.from_pretrained(".")' in card
    assert "imported from films.pt" in card
    labeled = (folder / "exported_classes" / "README.md").read_text()
    assert "class_labels=labels" in labeled
    assert not (folder / "exported_classes" / "model_index.json").exists()


@pytest.mark.parametrize(("heads", "first"), [(1, False), (4, False), (4, True)])
@pytest.mark.parametrize("updown", [False, True])
def test_names_go_and_come(heads, first, updown):
    options = {"num_heads": heads, "qkv_order": "qkv_first" if first else "heads_first"}
    network = UNet(
        in_channels=3, out_channels=3, model_channels=32, num_res_blocks=2, channel_mult=(1, 2, 2),
        attention_downsampling=(2,), upsample="nearest_conv", resblock_updown=updown, **options,
    )  # fmt: skip
    weights = network.state_dict()
    width = {32: heads, 64: heads}
    layout = Layout(3, 2, frozenset({1}), updown, [32, 64, 64], width, first)
    there = to_diffusers(weights, layout)
    assert sum(map(torch.numel, there.values())) == sum(map(torch.numel, weights.values()))
    back = from_diffusers(there, layout)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], value) for name, value in weights.items())
    q = there["mid_block.attentions.0.to_q.weight"]
    qkv = weights["middle_block.1.qkv.weight"][..., 0]
    rows = qkv[:64] if first else qkv.reshape(heads, 3, 64 // heads, 64)[:, 0].flatten(0, 1)
    assert torch.equal(q, rows)


@pytest.mark.parametrize("name", RUNS)
def test_configurations_go_and_come(tmp_path, name):
    family, flags = RUNS[name]
    save(tmp_path / "model.pt", family, flags)
    model = [str(tmp_path / "model.pt"), "--family", family, "--flags", flags]
    assert command(["import", *model, "--out", str(tmp_path / "run")]) == 0
    run, out = load(tmp_path / "run"), tmp_path / "exported"
    assert command(["export", str(run.directory), "--to", "diffusers", "--out", str(out)]) == 0
    assert command(["import", str(out), "--out", str(tmp_path / "again")]) == 0
    again = load(tmp_path / "again")
    for key, value in run.denoiser.network.state_dict().items():
        if ".qkv." not in key:  # the order of its rows is a matter of model.qkv_order
            assert torch.equal(again.denoiser.network.state_dict()[key], value), key
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([7.0])
    labels = {"y": torch.tensor([3])} if name == "classes" else {}
    with torch.no_grad():
        mine, theirs = (r.denoiser.network.double()(x.double(), t, **labels) for r in (run, again))
    torch.testing.assert_close(theirs, mine, atol=1e-9, rtol=1e-9)
    a, b = run.denoiser.diffusion, again.denoiser.diffusion
    assert torch.equal(a.schedule.betas, b.schedule.betas)
    assert torch.equal(a.schedule.shown, b.schedule.shown)
    assert (a.variance, run.denoiser.predicts) == (b.variance, again.denoiser.predicts)


def test_every_beta_that_has_no_name_is_written():
    schedule = zero_terminal_snr(cosine(50, rescale_timesteps=False))
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    config = scheduler_config(diffusion, "v", clip=False, ddim=True)
    assert config["_class_name"] == "DDIMScheduler"
    assert config["trained_betas"] == schedule.betas.tolist()
    known = diffusion_settings(config, learned=False)
    assert (known["schedule"], known["zero_terminal_snr"], known["predicts"]) == (
        "cosine",
        True,
        "v",
    )
    scaled = {"beta_schedule": "scaled_linear", "_class_name": "DDPMScheduler"}
    with pytest.raises(ValueError, match=r"beta_schedule=scaled_linear from .* has no counterpart"):
        diffusion_settings(scaled, learned=False)
    with pytest.raises(ValueError, match="thresholding=True has no counterpart"):
        diffusion_settings({"thresholding": True}, learned=False)

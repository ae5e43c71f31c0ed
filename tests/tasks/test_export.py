"""Exports opened by what they are for, in a process where iddpm cannot be imported."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run as command
from iddpm.evaluation.features import onnx_file
from iddpm.interop.program import export_program
from iddpm.interop.published_weights import Facts
from iddpm.networks import UNet
from iddpm.runs.classifier import load_classifier
from iddpm.sampling import DDIM, clip_x0, sample
from tests.tasks.test_import_run import save

SMALL = "--image_size 32 --num_channels 32 --num_res_blocks 1 --attention_resolutions 16"
ALONE = "import sys; sys.modules['iddpm'] = None\n"


def exported(tmp_path, to, flags, family="improved", facts=None):
    save(tmp_path / "model.pt", family, flags, facts=facts)
    run, out = str(tmp_path / "run"), tmp_path / "out"
    arguments = [str(tmp_path / "model.pt"), "--family", family, "--flags", flags, "--out", run]
    assert command(["import", *arguments]) == 0
    assert command(["export", run, "--to", to, "--out", str(out), "--license", "mit"]) == 0
    assert (out / "README.md").read_text().startswith("---\nlicense: mit\n")
    classifier = facts is not None and facts.kind == "classifier"
    return None if classifier else iddpm.load(run, device="cpu"), out


def alone(script, folder, *arguments):
    """Run Python in a folder, without this package."""
    program = [sys.executable, "-c", ALONE + script, *arguments]
    subprocess.run(program, cwd=folder, check=True, env={"OMP_NUM_THREADS": "1"})


def test_safetensors_open_as_a_run(tmp_path):
    run, out = exported(tmp_path, "safetensors", SMALL)
    again = iddpm.load(out, device="cpu")
    assert again.config == run.config
    mine, theirs = (r.denoiser.network.state_dict() for r in (run, again))
    assert all(torch.equal(theirs[name], value) for name, value in mine.items())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_program_draws_by_its_script_what_the_run_draws(tmp_path):
    flags = f"{SMALL} --class_cond True --learn_sigma True"
    run, out = exported(tmp_path, "torch", flags, facts=Facts("network", 3, 3))
    script = (out / "sample.py").read_text()
    assert script.count("\n") <= 20
    alone(script, out, "4")
    found = torch.load(out / "samples.pt", weights_only=True)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    schedule = run.denoiser.diffusion.schedule.respace([0, 333, 666, 999])
    labels = {"y": torch.arange(4) % 3}
    wanted = sample(DDIM(), clip_x0(run.denoiser), schedule, x, **labels)
    # From the noisiest step, float32 rounding of the network comes 160 times as large.
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    larger = torch.export.load(out / "network.pt2").module()
    x = torch.randn(1, 3, 48, 40)
    inputs = {"timesteps": torch.tensor([5.0]), "y": torch.tensor([2])}
    with torch.no_grad():
        torch.testing.assert_close(larger(x=x, **inputs), run.denoiser.network(x, **inputs))


def test_a_small_program_is_the_network(tmp_path):
    torch.manual_seed(0)
    network = UNet(
        dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
        channel_mult=(1,), num_classes=2,
    ).eval()  # fmt: skip
    torch.nn.init.normal_(network.out[2].weight)
    y, t = torch.tensor([0, 1]), torch.tensor([3.0, 900.0])
    inputs = {"x": torch.randn(2, 1, 8), "timesteps": t, "y": y}
    program = export_program(network, inputs, [1])
    assert program.sizes == "any"
    torch.export.save(program.exported, tmp_path / "network.pt2")
    again = torch.export.load(tmp_path / "network.pt2").module()
    other = {"x": torch.randn(3, 1, 14), "timesteps": torch.ones(3), "y": torch.tensor([0, 1, -1])}
    with torch.no_grad():
        torch.testing.assert_close(again(**other), network(**other))


IN_ONNX = """
import json, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("network.onnx")
given = dict(np.load("given.npz"))
(output,) = session.run(None, given)
np.save("output.npy", output)
"""


@pytest.mark.slow
def test_onnx_runs_any_number_and_size(tmp_path):
    flags = f"{SMALL} --class_cond True --learn_sigma True"
    run, out = exported(tmp_path, "onnx", flags, facts=Facts("network", 3, 3))
    x = np.random.default_rng(0).normal(size=(3, 3, 48, 40)).astype(np.float32)
    t, y = np.array([1, 500, 999], np.float32), np.array([0, 2, -1])
    np.savez(out / "given.npz", x=x, timesteps=t, y=y)
    alone(IN_ONNX, out)
    with torch.no_grad():
        wanted = run.denoiser.network(*map(torch.from_numpy, (x, t, y)))
    torch.testing.assert_close(
        torch.from_numpy(np.load(out / "output.npy")), wanted, atol=1e-5, rtol=1e-4
    )
    facts = json.loads((out / "network.json").read_text())
    assert facts["sizes"] == "any multiple of 8 x 8"
    np.testing.assert_array_equal(facts["alpha_bar"], run.denoiser.diffusion.schedule.alpha_bar)


@pytest.mark.slow
def test_a_classifier_becomes_a_graph_and_an_extractor(tmp_path):
    flags = "--image_size 64 --classifier_width 32 --classifier_depth 1 "
    flags += "--classifier_attention_resolutions 8"
    _, out = exported(tmp_path, "onnx", flags, "guided", Facts("classifier", 3, 5))
    classifier = load_classifier(tmp_path / "run", "cpu")
    x = torch.randn(3, 3, 64, 64)
    np.savez(out / "given.npz", x=x.numpy(), timesteps=np.array([0, 500, 999], np.float32))
    alone(IN_ONNX, out)
    with torch.no_grad():
        wanted = classifier.network(x, torch.tensor([0.0, 500.0, 999.0]))
    found = torch.from_numpy(np.load(out / "output.npy"))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    features = onnx_file(out / "features.onnx")
    assert features.name == "run"
    torch.testing.assert_close(features(x), classifier.features(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("to", "message"),
    [("onx", "--to onx is unknown: use diffusers, onnx, torch, safetensors"), ("torch", "exists")],
)
def test_what_cannot_be_written_is_refused(tmp_path, capsys, to, message):
    run, out = exported(tmp_path, "safetensors", SMALL)
    assert command(["export", str(run.directory), "--to", to, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_failed_to_export_leaves_nothing(tmp_path, monkeypatch, capsys):
    run, _ = exported(tmp_path, "safetensors", SMALL)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iddpm.tasks.export.write_sealed", full)
    arguments = [str(run.directory), "--to", "safetensors", "--out", str(tmp_path / "new")]
    assert command(["export", *arguments]) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "run", "out"}

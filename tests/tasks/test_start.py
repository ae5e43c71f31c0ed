import shutil

import numpy as np
import pytest
import torch

from iddpm.builders.run_data import open_other
from iddpm.cli.main import run as command
from iddpm.interop.openai import build_published, constructor_from_flags
from iddpm.runs.layout import WEIGHTS, read_run_config
from iddpm.training.checkpoints.weights import read_released

FLAGS = "--image_size 32 --num_channels 32 --num_res_blocks 1 --class_cond True --learn_sigma True"
FAST = ["--steps", "1", "-s", "training.batch_size=2", "-s", "training.learning_rate=1e-12",
        "-s", "training.preview_every=0", "-s", "training.validate_every=0"]  # fmt: skip
LABELS = "label_emb.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "numbers.npz", arr_0=x, arr_1=np.arange(40) % 2)
    np.savez(folder / "names.npz", arr_0=x, labels=np.array(["cat", "dog"])[np.arange(40) % 2])
    flags = dict(word.split() for word in FLAGS.split("--")[1:])
    torch.manual_seed(0)
    network = build_published(*constructor_from_flags("improved", flags))
    torch.save(network.state_dict(), folder / "model.pt")
    arguments = [str(folder / "model.pt"), "--flags", f"{FLAGS} --timestep_respacing 5"]
    assert command(["import", *arguments, "--out", str(folder / "run")]) == 0
    return folder


def started(folder, tmp_path, data, *options):
    out = tmp_path / "new"
    arguments = ["--init-from", str(folder / "run"), "--out", str(out), *FAST, *options]
    assert command(["train", str(folder / data), *arguments]) == 0
    return read_released(out / WEIGHTS)


@pytest.mark.parametrize(
    ("data", "options", "rows", "said"),
    [
        ("names.npz", (), [0, 1], "2 of 1000 classes: cat as 0, dog as 1"),
        ("numbers.npz", (), [0, 1], "0 as 0, 1 as 1"),
        ("names.npz", ("--init-classes", "281,207"), [281, 207], "cat as 281, dog as 207"),
    ],
)
def test_classes_start_as_rows_of_the_embedding(
    folder, tmp_path, capsys, data, options, rows, said
):
    given = started(folder, tmp_path, data, *options)
    known = read_released(folder / "run" / WEIGHTS)
    torch.testing.assert_close(given[LABELS], known[LABELS][rows], atol=1e-7, rtol=0)
    for name in known.keys() - {LABELS}:
        torch.testing.assert_close(given[name], known[name], atol=1e-7, rtol=0)
    assert said in capsys.readouterr().out


def test_a_training_without_a_checkpoint_begins_again_where_it_was_to_begin(folder, tmp_path):
    first = started(folder, tmp_path, "numbers.npz")
    out = tmp_path / "new"
    shutil.rmtree(out / "checkpoints")
    for name in ("latest", WEIGHTS):
        (out / name).unlink()
    again = ["--resume", "--init-from", str(folder / "run"), "--out", str(out)]
    assert command(["train", *again]) == 0
    for name, value in read_released(out / WEIGHTS).items():
        assert torch.equal(value, first[name]), name


def test_what_does_not_fit_is_random_on_request_alone(folder, tmp_path, capsys):
    other = ("-s", "diffusion.variance=fixed_small", "-s", "diffusion.loss=simple")
    arguments = ["train", str(folder / "names.npz"), "--init-from", str(folder / "run"), *FAST]
    assert command([*arguments, *other, "--out", str(tmp_path / "new")]) == 2
    assert "another size: out.2.weight" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    started(folder, tmp_path, "names.npz", *other, "--init-partial")
    assert "at random: out.2.weight, out.2.bias" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "message"),
    [("3", "names 1 classes, and the data has 2"), ("3,1000", "no class '1000'")],
)
def test_wrong_classes_are_refused(folder, tmp_path, capsys, classes, message):
    arguments = ["--init-from", str(folder / "run"), "--out", str(tmp_path / "new"), *FAST]
    options = ["--init-classes", classes]
    assert command(["train", str(folder / "names.npz"), *arguments, *options]) == 2
    assert message in capsys.readouterr().err


def test_data_may_have_some_of_the_classes(folder, tmp_path):
    x, names = np.zeros((4, 32, 32, 3), np.uint8), np.array(["7", "281", "281", "7"])
    np.savez(tmp_path / "some.npz", arr_0=x, labels=names)
    config = read_run_config(folder / "run")
    source = open_other(config, tmp_path / "some.npz")
    assert source.labels.tolist() == [7, 281, 281, 7]
    assert source.class_names == config.class_names


def test_an_imported_run_is_measured_and_trained_further(folder, tmp_path, capsys):
    run = str(folder / "run")
    data = str(folder / "numbers.npz")
    assert command(["likelihood", run, data, "--steps", "3", "--max-items", "2"]) == 0
    assert "bits/dim" in capsys.readouterr().out
    assert command(["likelihood", run]) == 2
    assert "was imported and has no training data" in capsys.readouterr().err
    assert command(["likelihood", run, str(folder / "names.npz")]) == 2
    assert "cat, dog" in capsys.readouterr().err
    assert command(["train", data, "--resume", "--out", run, *FAST]) == 0
    said = capsys.readouterr().out
    assert "changed" not in said.replace("unchanged", "")
    assert "1000 classes" in said
    assert command(["info", run]) == 0
    assert "imported from model.pt" in capsys.readouterr().out

"""Several runs beside each other, and a classifier's file as features."""

import csv
import json
import shutil

import numpy as np
import pytest

from iddpm.cli.main import run as command
from tests.conftest import TINY
from tests.tasks.test_evaluate import failing, squares

OPTIONS = [item for setting in TINY for item in ("-s", setting)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs on the same data, and one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("x", 0), ("y", 1)):
        np.savez(folder / f"{name}.npz", arr_0=squares(80, seed)[0])
    for name, data, steps in (("one", "x", "1"), ("two", "x", "3"), ("other", "y", "1")):
        train = ["train", str(folder / f"{data}.npz"), "--out", str(folder / name)]
        assert command([*train, "--steps", steps, *OPTIONS]) == 0
    return folder


DRAW = ["-n", "8", "--steps", "1"]


def test_runs_stand_beside_each_other(folder, capsys):
    runs = [str(folder / name) for name in ("one", "two")]
    assert command(["evaluate", *runs, *DRAW]) == 0
    text = capsys.readouterr().out
    assert f"| measure | {runs[0]} | {runs[1]} | better |" in text
    assert "not comparable" not in text
    assert (folder / "evaluation/comparison.md").read_text() in text
    records = json.loads((folder / "evaluation/comparison.json").read_text())
    with open(folder / "evaluation/comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for run, record, row in zip(runs, records, rows, strict=True):
        alone = json.loads((folder / run / "evaluation/report.json").read_text())
        frechet = alone["samples"]["frechet_distance"]
        assert (record["run"], record["samples"]) == (run, 8)
        assert record["frechet_distance"] == frechet["value"]
        assert record["frechet_distance_error"] == frechet["error"]
        assert float(row["precision"]) == alone["samples"]["precision"]
    assert records[0]["frechet_distance"] != records[1]["frechet_distance"]


def test_other_data_is_warned_of_and_out_holds_all(folder, tmp_path, capsys):
    runs = [str(folder / name) for name in ("one", "other")]
    assert command(["evaluate", *runs, *DRAW, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "different features, so their numbers are not comparable" in text
    assert "different real data, so" in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"one", "other", "comparison.json", "comparison.csv", "comparison.md"}
    assert command(["evaluate", *runs, str(folder / "y.npz"), *DRAW]) == 0
    text = capsys.readouterr().out
    assert "different features" in text  # each PCA is fitted to a run's own data
    assert "different real data" not in text


def test_what_is_no_run_is_refused_before_any_is_measured(folder, tmp_path, capsys):
    capsys.readouterr()
    one, data = str(folder / "one"), str(folder / "x.npz")
    line = failing(capsys, ["evaluate", one, data, one])
    assert f"{data} is not a run directory: real data comes after all runs" in line
    assert "no run directory" in failing(capsys, ["evaluate", str(folder / "none"), one])
    copy = tmp_path / "one"
    shutil.copytree(folder / "one", copy)
    line = failing(capsys, ["evaluate", one, str(copy), *DRAW, "--out", str(tmp_path / "out")])
    assert "several runs are called one" in line
    assert not (tmp_path / "out").exists()


def test_the_file_of_a_classifier_is_its_directory(folder, tmp_path, capsys):
    x, y = squares(120)
    np.savez(tmp_path / "x.npz", arr_0=x, arr_1=y)
    judge, data = tmp_path / "judge", str(tmp_path / "x.npz")
    train = ["train-classifier", data, "--out", str(judge), "--steps", "1", *OPTIONS]
    assert command(train) == 0
    exported = tmp_path / "exported"
    export = ["export", str(judge), "--to", "safetensors", "--out", str(exported)]
    assert command(export) == 0
    shutil.move(exported / "model.safetensors", tmp_path / "alone.safetensors")
    found = []
    for name in ("judge", "alone.safetensors"):
        sides = ["--real", data, "--generated", str(folder / "x.npz"), "--out", str(tmp_path / "o")]
        assert command(["evaluate", *sides, "--features", str(tmp_path / name)]) == 0
        found.append(json.loads((tmp_path / "o/report.json").read_text()))
    assert found[0] == found[1]
    assert found[0]["features"]["whitened"]
    assert any("have no classes" in warning for warning in found[0]["warnings"])
    capsys.readouterr()
    sides = ["--real", data, "--generated", data, "--features"]
    released = str(folder / "one/model.safetensors")
    assert "not a classifier" in failing(capsys, ["evaluate", *sides, released])
    assert command(["evaluate", *sides, str(judge), "--out", str(tmp_path / "o")]) == 0
    report = json.loads((tmp_path / "o/report.json").read_text())
    assert 0 <= report["accuracy"]["overall"]["value"] <= 1

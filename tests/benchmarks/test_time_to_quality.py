"""The time to another program's quality: bad marks, and a training from end to end."""

import json

import numpy as np
import pytest

from benchmarks import time_to_quality
from benchmarks.time_to_quality import Mark, Quality, comparison, main, reached
from tests.conftest import TINY, images

GOOD = {"minutes": 10, "bits_per_dim": 3.0, "frechet": 50}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", 'must hold {"features"'),
        ({"marks": [GOOD]}, 'must hold {"features"'),
        ({"features": "nowhere", "marks": [GOOD]}, "features 'nowhere', which does not exist"),
        ({"features": "pca", "marks": []}, "has no marks"),
        ({"features": "pca", "marks": [{"minutes": 1, "fid": 2}]}, "mark 1 of"),
        ({"features": "pca", "marks": [GOOD, {"minutes": 1}]}, "has neither"),
        ({"features": "pca", "marks": [{**GOOD, "frechet": "low"}]}, "frechet 'low'"),
        ({"features": "pca", "marks": [{**GOOD, "frechet": True}]}, "frechet True"),
        ('{"features": "pca", "marks": [{"minutes": 1, "frechet": NaN}]}', "frechet nan"),
        ({"features": "pca", "marks": [{**GOOD, "minutes": 0}]}, "minutes 0"),
        ({"features": "pca", "marks": [{**GOOD, "minutes": None}]}, "minutes None"),
    ],
)
def test_bad_marks_are_refused_in_a_sentence(tmp_path, capsys, content, said):
    path = tmp_path / "marks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_mark_is_reached_by_the_first_checkpoint_that_is_as_good():
    found = [Quality(1.0, 3.0, 60.0, 1.0), Quality(2.0, 2.5, 55.0, 1.0), Quality(3.0, 2.0, 50.0, 1)]
    mark = Mark(10, bits_per_dim=2.5, frechet=50.0)
    assert reached(mark, found) == {"bits_per_dim": 2.0, "frechet": 3.0}
    assert reached(Mark(10, frechet=49.9), found) == {"frechet": None}
    rows = comparison([mark, Mark(20, frechet=49.9)], found).splitlines()[2:]
    assert rows[0].endswith("| 2.5 | 2.00 minutes | 50 | 3.00 minutes | 3.00 minutes |")
    assert rows[1].endswith("|  |  | 49.9 | not reached | not reached |")


def test_from_marks_to_minutes(tmp_path, capsys, monkeypatch):
    data, path = tmp_path / "digits.npy", tmp_path / "marks.json"
    np.save(data, images(60)[..., 0])
    marks = [{"minutes": 1, "frechet": 1e9, "bits_per_dim": 0.01}, {"minutes": 2, "frechet": 1e9}]
    path.write_text(json.dumps({"features": "pca", "marks": marks}))
    short = ["data.layout=NHW", "data.held_out=0.2", *TINY, "training.steps=3"]
    words = [str(path), "--data", str(data), "--out", str(tmp_path / "out"), "--samples=8"]
    words += ["--steps=2", "--items=4", "--looks=2", *(f"-s{setting}" for setting in short)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "step 3: " in said
    assert "| 0.01 | not reached | 1e+09 | 0.0" in said
    assert "8 samples of 2 ddim steps, features pca" in said
    measured = next((tmp_path / "out").glob("*/quality/*.json"))
    before = measured.stat().st_mtime_ns
    assert main(words) == 0  # goes on with what there is
    assert measured.stat().st_mtime_ns == before
    assert main([*words, "--recipe", "eps"]) == 2  # of the bench's data sets alone
    monkeypatch.setattr(time_to_quality, "train_for", None)  # nothing is trained
    for wrong in ("--looks=0", "--samples=1", "--sampler=none"):
        assert main([*words, wrong]) == 2

"""Broken, empty, mixed and misnamed data, and settings that do not fit: one sentence each time."""

import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from safetensors.torch import load_file

from tests.cli.broken import (
    Case,
    cases,
    outcome,
    saved_dataset,
    whole_pictures,
    written,
)
from tests.conftest import TINY

TRAIN = [word for s in (*TINY, "training.steps=1", "training.batch_size=1") for word in ("-s", s)]
MOST_MEMORY = 300 << 10
"""KiB that the peak of the process may rise by for a file of some kilobytes."""
MOST_SECONDS = 20
"""Of the processor, so that other processes of the machine do not count."""


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def looked_at_and_trained_on(case, folder):
    """Both commands end well, or with one sentence and nothing written."""
    data, out = written(case, folder), folder / "out"
    options = [word for setting in case.settings for word in ("-s", setting)]
    for command in (
        ["data", "inspect", data, *options, "--out", out / "picture.png"],
        ["train", data, *TRAIN, *options, "--out", out / "run"],
    ):
        before, start = peak(), time.process_time()
        status, _, complaint = outcome(*command)
        assert peak() - before < MOST_MEMORY
        assert time.process_time() - start < MOST_SECONDS
        assert status in (0, 2), complaint
        errors = [line for line in complaint.splitlines() if line.startswith("error: ")]
        assert len(errors) == (1 if status else 0), complaint
        if status:
            assert complaint.splitlines()[-1] == errors[0], complaint
            assert len(errors[0]) > len("error: ") + 10
            assert not Path(command[-1]).exists()
        elif command[0] == "train":
            weights = load_file(out / "run/model.safetensors")
            assert all(bool(value.isfinite().all()) for value in weights.values())


def cut_short(count=3):
    """Pictures whose headers are fine, and whose pixels are not there."""
    whole = whole_pictures()["b.png"]
    content = whole[: len(whole) * 2 // 3]
    return Case({f"d/{number}.png": content for number in range(count)}, "d", [])


def named_nowhere():
    parts = saved_dataset() | {"state.json": b'{"_data_files": [{"file": "a"}]}'}
    return Case({f"d/{name}": data for name, data in parts.items()}, "d", [])


@given(case=cases())
@example(case=cut_short())
@example(case=named_nowhere())
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_broken_data_gets_one_sentence(case, tmp_path_factory):
    looked_at_and_trained_on(case, tmp_path_factory.mktemp("broken"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(case=cases())
@settings(max_examples=3000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_much_broken_data_gets_one_sentence(case, tmp_path_factory):
    looked_at_and_trained_on(case, tmp_path_factory.mktemp("broken"))

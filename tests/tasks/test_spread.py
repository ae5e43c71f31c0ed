"""Sampling and measuring by two processes: the files and numbers are those of one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iddpm
from iddpm.cli.main import run
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, free_port, images

pytestmark = pytest.mark.system

TOGETHER = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from iddpm.runtime import processes
from iddpm.cli.main import run

joined = processes.joined_ranks
with joined("cpu", 86400) as us:
    processes.joined_ranks = lambda *_: nullcontext(us)  # one start of two processes serves all
    statuses = [run(arguments) for arguments in json.loads(Path(sys.argv[1]).read_text())]
Path(f"{sys.argv[1]}.{us.rank}").write_text(json.dumps(statuses))
"""
RUN, JUDGE, DATA = "RUN", "JUDGE", "DATA"
"""Stand for the run directory, of which each side has a copy with its caches, a classifier
and data."""
FEW_STEPS = ["--samples-per-item", "5", "--batch-size", "50"]
BEST = ["--stride", "optimal", "--steps", "7", "--variance", "analytic", "--batch-size", "40"]
COMMANDS = {
    # 4 batches, the last of them smaller; 5 by two ranks, so that one has nothing to do at last.
    "pictures": ["sample", RUN, "-n", "11", "--batch-size", "3", "--npz", "--gif"],
    "uneven": ["sample", RUN, "-n", "10", "--batch-size", "2", "--seed", "1", "--class", "dog"],
    "fewer_batches_than_ranks": ["sample", RUN, "-n", "2", "--sampler", "ddpm", "--npz"],
    "whole_bound": ["likelihood", RUN, "--batch-size", "60", "--max-items", "170"],
    "few_steps": ["likelihood", RUN, *FEW_STEPS],
    "best_steps": ["likelihood", RUN, *BEST],
    "against_pixels": ["evaluate", RUN, "-n", "300", "--steps", "2", "--batch-size", "64"],
    "going_on": ["evaluate", RUN, "-n", "310", "--steps", "2", "--features", JUDGE],
    "of_data": ["evaluate", "--real", DATA, "--generated", DATA, "--features", JUDGE],
}
"""By the name of the directory that each writes to."""
REFUSED = {
    "not one of the 3 classes": ["sample", RUN, "--class", "lion"],
    "there is no run directory": ["sample", "nowhere"],
    "cannot draw 0 samples": ["sample", RUN, "-n", "0"],
    "stride 'odd' is unknown": ["likelihood", RUN, "--stride", "odd"],
    "there are no features nothing": ["evaluate", RUN, "--features", "nothing"],
    "cannot evaluate 3 samples": ["evaluate", RUN, "-n", "3", "--steps", "1"],
    "iddpm info runs in one process": ["info", RUN],
}


def arguments(command, folder, out=None):
    places = {RUN: str(folder / "run"), JUDGE: str(folder / "judge")}
    places[DATA] = str(folder / "x.npz")
    given = [places.get(argument, argument) for argument in command]
    return [*given, "--out", str(folder / out)] if out else given


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    classes = np.array(["cat", "dog", "owl"])
    np.savez(folder / "x.npz", arr_0=images(900), arr_1=np.arange(900) % 3, class_names=classes)
    for name, kind in (("run", "model.class_conditional=true"), ("judge", "task=classification")):
        iddpm.train(
            folder / "x.npz",
            out=folder / name,
            settings=[*TINY, "training.steps=4", "data.held_out=0.3", kind],
            reporter=SilentReporter(),
        )
    return folder


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory):
    """The folders that one process and two processes wrote, and what the two printed."""
    folders = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        for directory in ("run", "judge"):
            shutil.copytree(trained / directory, folder / directory)
        shutil.copy(trained / "x.npz", folder)
        folders.append(folder)
    one, two = folders
    for out, command in COMMANDS.items():
        assert run(arguments(command, one, out)) == 0
    for command in REFUSED.values():
        run(arguments(command, one))  # what is drawn before an error is met is kept
    todo = [arguments(command, two, out) for out, command in COMMANDS.items()]
    todo += [arguments(command, two) for command in REFUSED.values()]
    (two / "todo").write_text(json.dumps(todo))
    (two / "together.py").write_text(TOGETHER)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(two / "together.py"), str(two / "todo")],
        capture_output=True,
        text=True,
        check=False,
    )
    for rank in range(2):  # the files tell more than the launcher's status
        path = two / f"todo.{rank}"
        assert path.is_file(), done.stderr
        assert json.loads(path.read_text()) == [0] * len(COMMANDS) + [2] * len(REFUSED), done.stderr
    return one, two, done


def files(folder, home):
    """What is in a folder, without what belongs to one side alone: its place and its time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes().replace(str(home).encode(), b"")
            found[str(path.relative_to(folder))] = re.sub(rb'"seconds": [0-9.]+', b"", content)
    return found


@pytest.mark.parametrize("out", COMMANDS)
def test_what_is_written_is_that_of_one_process(both, out):
    one, two, _ = both
    alone, shared = files(one / out, one), files(two / out, two)
    assert list(shared) == list(alone)
    assert shared == alone
    kinds = {"sample": "grid.png", "likelihood": ".json", "evaluate": "report.json"}
    command = COMMANDS[out]
    assert any(name.endswith(kinds[command[0]]) for name in alone)
    if command[0] == "sample":
        assert len([name for name in alone if name[0].isdigit()]) == int(command[3])


def test_the_caches_are_those_of_one_process(both):
    """Samples by parts, the table of steps and the reference statistics, each written once."""
    one, two, _ = both
    alone, shared = (files(folder / "run" / "cache", folder) for folder in (one, two))
    assert list(shared) == list(alone)
    assert shared == alone
    parts = {int(Path(name).stem) for name in alone if name.endswith(".npz")}
    assert parts == {0, 64, 128, 192, 256, 300}
    assert len([name for name in alone if name.startswith("steps_")]) == 1
    assert {"reference_pixel_pca.safetensors", "reference_classifier.safetensors"} <= set(alone)


def test_the_first_alone_speaks(both):
    _, two, done = both
    lines = [line for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert len(lines) == len(set(lines)), done.stdout
    for out in COMMANDS:
        assert any(str(two / out) in line for line in lines), done.stdout
    for sentence in REFUSED:
        lines = [line for line in done.stderr.splitlines() if sentence in line]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")


def test_an_error_ends_every_process_with_status_2(trained):
    """Started without torchrun, whose own status would hide theirs."""
    port = str(free_port())
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    damaged = trained / "damaged"
    shutil.copytree(trained / "run", damaged)
    processes = []
    for rank in range(2):
        # The second is given another run, whose weights are damaged: it alone meets an error.
        where = [trained / "run", damaged][rank]
        if rank:
            for path in damaged.rglob("*.safetensors"):
                path.write_bytes(b"short")
        command = ["sample", str(where), "-n", "4", "--batch-size", "1"]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "iddpm", *command, "--out", str(trained / "damaged_out")],
                env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2], said
    errors = "".join(err for _, err in said).strip().splitlines()
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert str(Path("damaged")) in errors[0]
    assert not (trained / "damaged_out").exists()

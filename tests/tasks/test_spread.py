"""Sampling and measuring by two processes: the files and numbers are those of one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iddpm
from iddpm.cli import run
from iddpm.training.terminal import SilentReporter
from tests.conftest import TINY, images

TOGETHER = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from iddpm import ranks
from iddpm.cli import run

joined = ranks.joined_ranks
with joined("cpu", 60) as us:
    ranks.joined_ranks = lambda *_: nullcontext(us)  # one start of two processes serves all
    statuses = [run(arguments) for arguments in json.loads(Path(sys.argv[1]).read_text())]
Path(f"{sys.argv[1]}.{us.rank}").write_text(json.dumps(statuses))
"""
RUN = "RUN"
"""Stands for the run directory: each side works on a copy, since caches belong to it."""
COMMANDS = {
    # 4 batches, the last of them smaller; 5 by two ranks, so that one has nothing to do at last.
    "pictures": ["sample", RUN, "-n", "11", "--batch-size", "3", "--npz", "--gif"],
    "uneven": ["sample", RUN, "-n", "10", "--batch-size", "2", "--seed", "1", "--class", "dog"],
    "fewer_batches_than_ranks": ["sample", RUN, "-n", "2", "--sampler", "ddpm", "--npz"],
}
"""By the name of the directory that each writes to."""
REFUSED = {
    "not one of the 3 classes": ["sample", RUN, "--class", "lion"],
    "there is no run directory": ["sample", "nowhere"],
    "cannot draw 0 samples": ["sample", RUN, "-n", "0"],
    "iddpm info runs in one process": ["info", RUN],
}


def arguments(command, folder, out=None):
    given = [str(folder / "run") if argument == RUN else argument for argument in command]
    return [*given, "--out", str(folder / out)] if out else given


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    classes = np.array(["cat", "dog", "owl"])
    np.savez(folder / "x.npz", arr_0=images(300), arr_1=np.arange(300) % 3, class_names=classes)
    iddpm.train(
        folder / "x.npz",
        out=folder / "run",
        settings=[*TINY, "training.steps=4", "data.held_out=0.3", "model.class_conditional=true"],
        reporter=SilentReporter(),
    )
    return folder


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory):
    """The folders that one process and two processes wrote, and what the two printed."""
    folders = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(trained / "run", folder / "run")
        folders.append(folder)
    one, two = folders
    for out, command in COMMANDS.items():
        assert run(arguments(command, one, out)) == 0
    todo = [arguments(command, two, out) for out, command in COMMANDS.items()]
    todo += [arguments(command, two) for command in REFUSED.values()]
    (two / "todo").write_text(json.dumps(todo))
    (two / "together.py").write_text(TOGETHER)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, str(two / "together.py"), str(two / "todo")],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    for rank in range(2):  # the files tell more than the launcher's status
        path = two / f"todo.{rank}"
        assert path.is_file(), done.stderr
        assert json.loads(path.read_text()) == [0] * len(COMMANDS) + [2] * len(REFUSED), done.stderr
    return one, two, done


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("out", ["pictures", "uneven", "fewer_batches_than_ranks"])
def test_samples_are_those_of_one_process(both, out):
    one, two, _ = both
    alone, shared = files(one / out), files(two / out)
    assert "grid.png" in alone
    assert len([name for name in alone if name[0].isdigit()]) == int(COMMANDS[out][3])
    assert shared == alone


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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
        said = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2], said
    errors = "".join(err for _, err in said).strip().splitlines()
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    assert str(Path("damaged")) in errors[0]
    assert not (trained / "damaged_out").exists()

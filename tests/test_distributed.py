"""The commands in docs/distributed.md parse, and the tests that it names exist."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from torch.distributed.run import get_args_parser

from iddpm.cli.main import app
from iddpm.cli.main import run as iddpm
from iddpm.config import read_config
from iddpm.runtime.errors import RunFailed
from iddpm.training.stop import Stop
from tests.conftest import TINY, free_port, images, wait_until

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "examples" / "slurm.sh"
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
]
LAUNCH = re.sub(r"\\\n", " ", SCRIPT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", [line for line in LINES if "torchrun" in line])
def test_commands_parse(line):
    """By torchrun's own parser, by that of the command line, and by that of the settings."""
    words = shlex.split(line)
    given = get_args_parser().parse_args(words[words.index("torchrun") + 1 :])
    assert given.module
    assert given.training_script == "iddpm"
    name, *arguments = given.training_script_args
    command = typer.main.get_command(app).commands[name]
    context = command.make_context(name, list(arguments))  # refuses unknown options
    read_config(None, context.params.get("settings") or [])


def test_the_launch_in_the_slurm_script_parses():
    start, end = LAUNCH.index("srun torchrun") + len("srun torchrun"), LAUNCH.index('train "${st')
    words = shlex.split(LAUNCH[start:end])
    given = get_args_parser().parse_args([*words, "train"])
    assert given.module
    assert given.training_script == "iddpm"
    assert "SIGUSR1" in given.signals_to_handle.split(",")
    notice = re.search(r"--signal=USR1@(\d+)", LAUNCH)
    assert given.shutdown_timeout < int(notice[1])


def test_scripts_are_bash():
    subprocess.run(["bash", "-n"], input="\n".join(LINES), text=True, check=True)
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    named = re.findall(r"examples/[\w.]+", GUIDE)
    assert all((ROOT / path).is_file() for path in named)


def test_every_test_and_setting_that_is_named_exists():
    named = set(re.findall(r"(?:tests|benchmarks)/[\w/]+\.py", GUIDE))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []
    training = read_config(None, []).training.model_dump()
    settings = re.findall(r"`training\.(\w+)", GUIDE)
    assert settings
    assert [key for key in settings if key not in training] == []
    targets = re.findall(r"`make ([\w-]+)`", GUIDE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_way_to_end_is_documented_with_its_status():
    rows = [line for line in GUIDE.splitlines() if line.startswith("|")]
    for stop in Stop:
        reason = stop.value.split()[-1] if stop.exit_status else stop.value
        assert any(str(stop.exit_status) in row and reason in row for row in rows), stop
    for kind in RunFailed.__subclasses__():
        assert any(row.startswith("| 1 |") and f"`{kind.reason}`" in row for row in rows), kind


@pytest.fixture
def cluster(tmp_path):
    """Stand-ins for Slurm: one node; ``srun`` runs the command, ``scontrol`` notes a requeue."""
    place = tmp_path / "bin"
    place.mkdir()
    commands = {
        "srun": f'echo $$ > "{tmp_path}/pid"\nexec "$@"',
        "scontrol": f'case $1 in show) echo localhost ;; *) echo "$@" >> "{tmp_path}/said" ;; esac',
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
        "python": f'exec "{sys.executable}" "$@"',
    }
    for name, text in commands.items():
        (place / name).write_text(f"#!/bin/sh\n{text}\n")
        (place / name).chmod(0o755)
    np.savez(tmp_path / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    return tmp_path


def submit(folder, *settings, interrupt=False):
    """Run the script as Slurm would; send SIGUSR1 to its step when training has begun."""
    run = folder / "run"
    given = [word for setting in (*TINY, *settings) for word in ("-s", setting)]
    process = subprocess.Popen(
        ["bash", str(SCRIPT), str(folder / "x.npz"), str(run), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "node",
            "SLURM_NNODES": "1",
            "SLURM_GPUS_ON_NODE": "2",
            "MASTER_PORT": str(free_port()),
        },
    )
    try:
        if interrupt:
            log = run / "log.jsonl"
            wait_until(lambda: log.is_file() and log.read_bytes(), process)
            os.kill(int((folder / "pid").read_text()), signal.SIGUSR1)
        said, _ = process.communicate()
    finally:
        if process.poll() is None:
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
            process.kill()
    return process.returncode, said


@pytest.mark.slow
def test_the_slurm_script_queues_itself_until_the_run_is_finished(cluster):
    settings = ("training.steps=300", "training.log_every=1")
    status, said = submit(cluster, *settings, interrupt=True)
    assert status == 0, said
    assert json.loads((cluster / "run/exit.json").read_text())["reason"] == "stopped by SIGUSR1"
    assert (cluster / "said").read_text() == "requeue 7\n"
    status, said = submit(cluster, *settings)
    assert status == 0, said
    ended = json.loads((cluster / "run/exit.json").read_text())
    assert (ended["reason"], ended["step"]) == ("finished", 300)
    assert (cluster / "said").read_text() == "requeue 7\n"
    # What a person has to look at, and what never begins, is left alone.
    status, said = submit(cluster, "data.flip=true")
    assert status == 1, said
    assert "cannot go on with data.flip" in said
    assert (cluster / "said").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_torchrun_starts_a_run_again_when_a_process_is_killed(cluster):
    """Once is enough: the second start does not look for the processes of the first."""
    run = cluster / "run"
    settings = [word for setting in TINY for word in ("-s", setting)]
    log = run / "log.jsonl"
    iddpm(["train", str(cluster / "x.npz"), "--out", str(run), "--steps", "1", *settings])
    before = log.read_bytes()
    launch = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "iddpm"]
    go_on = ["train", "--resume", "--out", str(run), "--steps", "300", "-s", "training.log_every=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *launch, *go_on],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: log.read_bytes() != before, process)
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        said, _ = process.communicate()
    finally:
        process.terminate()
    assert process.returncode == 0, said
    assert "exitcode: -9" in said
    assert "Traceback" not in said
    assert json.loads((run / "exit.json").read_text())["step"] == 300


def children(pid):
    """The processes that one has started, in the order of their numbers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return sorted(found)

"""``iddpm train`` in two processes: what it writes and refuses, and when one of them is lost."""

import json
import signal
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run
from iddpm.runs.layout import WEIGHTS
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.checkpoints.ema_snapshots import list_snapshots
from iddpm.training.checkpoints.weights import read_weights
from iddpm.training.monitoring.log_files import read_log
from tests.conftest import TINY, assert_same_state, final_tensors, free_port, images, wait_until
from tests.runtime.test_processes import world
from tests.tasks.test_spread import TOGETHER

pytestmark = pytest.mark.system

OPTIONS = (
    *TINY,
    "training.precision=float32",
    "training.steps=6",
    "training.log_every=1",
    "training.validate_every=3",
    "training.preview_every=3",
    "training.posthoc_ema.every=3",
    "training.timestep_sampler=loss_second_moment",
    "training.label_dropout=0.5",
    "training.microbatch=2",
    "model.class_conditional=true",
    "diffusion.self_condition=true",
    "data.held_out=0.2",
    "data.flip=true",
    "data.workers=1",
)
KINDS = ("ddp", "fsdp")
OWN = ["--network", "tests.tasks.own_networks:Awkward"]
NORMALIZED = ["--network", "tests.tasks.own_networks:Normalized"]
OF_OWN = (
    *(option for option in TINY if not option.startswith("model.")),
    "model.class_conditional=true",
    "training.steps=6",
    "training.log_every=1",
    "training.validate_every=3",
    "training.microbatch=2",
    "data.held_out=0.2",
)
REFUSED = {
    "training.batch_size=7 is the batch of all 2 processes together": ["training.batch_size=7"],
    "use bf16 or float32, or parallel=ddp": ["training.parallel=fsdp", "training.precision=fp16"],
    "set a smaller training.microbatch": ["training.on_out_of_memory=halve"],
}
SCALAR = "which scale of your network does not have: give it the shape [1]"


def words(settings):
    return [word for setting in settings for word in ("-s", setting)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of the runs of one process and of two, and what the two printed."""
    folder = tmp_path_factory.mktemp("together")
    data = folder / "x.npz"
    ages, sides = np.where(np.arange(60) % 5, np.arange(60), np.nan), np.array(["l", "r"] * 30)
    np.savez(data, arr_0=images(), arr_1=np.arange(60) % 3, age=ages, side=sides)
    np.save(folder / "beside.npy", 255 - images())
    conditioning = ["data.conditions=[age, side]", f"data.given={folder / 'beside.npy'}"]

    def command(out, *settings):
        chosen = words([*OPTIONS, *conditioning, *settings])
        return ["train", str(data), *chosen, "--out", str(folder / out)]

    def own(network, out, *settings):
        chosen = words([*OF_OWN, *settings])
        return ["train", str(data), *chosen, "--out", str(folder / out), *network]

    def resume(out, *settings, network=()):
        to = ["--out", str(folder / out), "--steps", "8", *network]
        return ["train", "--resume", *to, *words(settings)]

    todo = [command("refused", *settings) for settings in REFUSED.values()]
    todo.append(
        own(["--network", "tests.tasks.own_networks:Scaled"], "refused", "training.parallel=fsdp")
    )
    todo += [command(kind, f"training.parallel={kind}") for kind in KINDS]
    todo.append(resume("ddp", "training.parallel=fsdp"))
    for kind in KINDS:
        setting = f"training.parallel={kind}"
        todo.append(own(OWN, f"own_{kind}", setting))
        todo.append(own(NORMALIZED, f"normalized_{kind}", setting))
        todo.append(resume(f"normalized_{kind}", network=NORMALIZED))
        todo.append(own(NORMALIZED, f"whole_{kind}", setting, "training.steps=8"))
    (folder / "todo").write_text(json.dumps(todo))
    (folder / "together.py").write_text(TOGETHER)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", *launch, str(folder / "together.py"), str(folder / "todo")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run(command("one")) == 0
        assert run(own(OWN, "own_one")) == 0
        out, err = process.communicate()
    finally:
        process.kill()
    for rank in range(2):
        path = folder / f"todo.{rank}"
        assert path.is_file(), err
        refused = len(REFUSED) + 1
        assert json.loads(path.read_text()) == [2] * refused + [0] * (len(todo) - refused), err
    assert run(resume("fsdp")) == 0
    assert run(resume("one")) == 0
    for name in ("own_one", *(f"own_{kind}" for kind in KINDS)):
        assert run(resume(name, network=OWN)) == 0
    return folder, out, err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", ["", "own_"])
def test_the_log_is_that_of_one_process(both, kind, own):
    folder, _, _ = both
    one, two = read_log(folder / f"{own}one"), read_log(folder / f"{own}{kind}")
    assert [record["step"] for record in two] == list(range(1, 9))
    for name in ("loss", "gradient_norm", "held_out_loss"):
        pairs = [(a[name], b[name]) for a, b in zip(one, two, strict=True) if name in a]
        assert len(pairs) == (3 if name == "held_out_loss" else 8)
        expected, found = zip(*pairs, strict=True)
        assert found == pytest.approx(expected, rel=1e-3), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_directory_is_that_of_one_process(both, kind):
    folder, _, _ = both
    one, two = ({p.name for p in (folder / name).iterdir()} for name in ("one", kind))
    assert two == one
    assert len(list_snapshots(folder / kind)) == len(list_snapshots(folder / "one"))
    names = [sorted(p.name for p in (folder / n / "samples").iterdir()) for n in ("one", kind)]
    assert names[0] == names[1]
    released, average = (
        read_weights(folder / kind / WEIGHTS),
        read_weights(folder / "one" / WEIGHTS),
    )
    assert {k: v.shape for k, v in released.items()} == {k: v.shape for k, v in average.items()}
    kept = load_checkpoint(folder / kind).tensors["ema_0.9999"]
    assert all(torch.equal(value, kept[name]) for name, value in released.items())
    given = {"given": torch.zeros(1, 1, 8, 8)}
    run = iddpm.load(folder / kind)
    assert run.sample(1, classes=[1], conditions={"age": 30}, given=given).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_own_network_learns_what_it_learns_in_one_process(both, kind):
    folder, _, _ = both
    one, two = final_tensors(folder / "own_one"), final_tensors(folder / f"own_{kind}")
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert torch.equal(two["network/stages.0.1.weight"], two["network/stages.1.1.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_own_network_whose_buffers_change_is_resumed_bit_for_bit(both, kind):
    folder, _, _ = both
    assert final_tensors(folder / f"whole_{kind}")["network/norm.running_var"].std() > 0
    assert_same_state(folder / f"whole_{kind}", folder / f"normalized_{kind}")
    logs = [read_log(folder / f"{name}_{kind}") for name in ("whole", "normalized")]
    names = ("step", "loss", "held_out_loss")
    first, second = ([{n: r.get(n) for n in names} for r in log] for log in logs)
    assert first == second


def test_the_first_alone_speaks_and_refuses(both):
    folder, out, err = both
    assert not (folder / "refused").exists()
    for sentence in (*REFUSED, SCALAR):
        assert len([line for line in err.splitlines() if sentence in line]) == 1, err
    ended = [line for line in out.splitlines() if line.startswith("finished at step 6")]
    assert len(ended) == 2 * len(KINDS) + 2
    assert "in 2 processes (fsdp)" in out


LIMITS = {signal.SIGKILL: 86400, signal.SIGSTOP: 15}
"""Settings of training.timeout: a rank that has ended is noticed long before."""


@pytest.fixture(scope="module")
def survivors(tmp_path_factory):
    """The folder of runs of which rank 1 was sent a signal, and what rank 0 came to; all at once.

    Without torchrun, which would end the other itself: SIGSTOP stands for whatever hangs.
    """
    folder, outcomes = tmp_path_factory.mktemp("lost"), {}
    np.savez(folder / "x.npz", arr_0=images())
    settings = [*TINY, "training.steps=100000", "training.save_every=5"]
    started = {}
    for number, limit in LIMITS.items():
        port = free_port()
        chosen = [*words([*settings, f"training.timeout={limit}"]), "--out", folder / number.name]
        command = [sys.executable, "-m", "iddpm", "train", folder / "x.npz", *chosen]
        started[number] = [
            subprocess.Popen(
                command,
                env=world(rank, 2, port),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
    try:
        for number, pair in started.items():
            wait_until(lambda out=folder / number.name: len(list_checkpoints(out)) >= 2, *pair)
            pair[1].send_signal(number)
        for number, pair in started.items():
            _, said = pair[0].communicate()
            outcomes[number] = pair[0].returncode, said
    finally:
        for process in chain(*started.values()):
            process.kill()
            process.wait()
    return folder, outcomes


@pytest.mark.parametrize("number", LIMITS)
def test_a_lost_rank_ends_the_other_and_one_process_goes_on(survivors, number):
    folder, outcomes = survivors
    out = folder / number.name
    status, said = outcomes[number]
    assert status == 1, said
    assert said.splitlines()[-1] == "error: rank 1 of 2 has ended or does not answer", said
    noted = json.loads((out / "exit.json").read_text())
    assert (noted["status"], noted["reason"]) == (1, "rank lost")
    newest = load_checkpoint(out).step
    arguments = ["train", "--resume", "--out", str(out), "--steps", str(newest + 2)]
    assert run(arguments) == 0
    assert load_checkpoint(out).step == newest + 2

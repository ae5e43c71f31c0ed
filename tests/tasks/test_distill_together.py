"""``iddpm distill`` in two processes: what it learns is what one process learns, for all data."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, assert_same_state, final_tensors, images
from tests.tasks.test_distill import waves
from tests.tasks.test_spread import TOGETHER

pytestmark = pytest.mark.system

QUIET = SilentReporter()
TEACHER = (
    *TINY,
    "model.channel_mult=[1]",
    "model.attention_downsampling=[]",
    "training.steps=1",
    "diffusion.predicts=v",
    "training.ema_rates=[0.9]",
)
FEW = (
    "training.steps=4",
    "training.validate_every=2",
    "training.log_every=1",
    "training.precision=float32",  # the measured choice may differ from process to process
    "training.anneal=none",  # so that a shorter training is the beginning of a longer one
)
RANGE = ("--guidance", "1:4")
KINDS = {
    "signals": (waves(40, 16, 1), ["data.layout=NLC"], []),
    "classes": ("x.npz", ["model.class_conditional=true"], RANGE),
    "volumes": (waves(40, 4, 8, 8, 1), ["data.layout=NDHWC"], []),
    "paired": ("x.npz", ["data.given=beside.npy", "data.conditions=[age]"], RANGE),
    "low resolution": ("x.npz", ["task=super_resolution", "scale=2"], []),
}


def words(kind, out, *settings):
    _, _, guidance = KINDS[kind]
    chosen = [w for s in (*FEW, *settings) for w in ("-s", s)]
    return ["distill", f"t {kind}", "--out", f"{out} {kind}", *guidance, *chosen]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Teachers, what one process and what two make of them, and the latter interrupted."""
    folder = tmp_path_factory.mktemp("distill_together")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ages = np.where(np.arange(60) % 5, np.arange(60), np.nan)
        np.savez("x.npz", arr_0=images(), arr_1=np.arange(60) % 3, age=ages)
        np.save("beside.npy", 255 - images())
        for kind, (data, settings, _) in KINDS.items():
            if not isinstance(data, str):
                np.save(f"{kind}.npy", data)
                data = f"{kind}.npy"
            iddpm.train(data, out=f"t {kind}", settings=[*TEACHER, *settings], reporter=QUIET)
        todo = [words(kind, "two") for kind in KINDS]
        todo.append(words("classes", "again", "training.steps=2"))
        todo.append(["distill", "t classes", "--out", "again classes", "--resume", "--steps", "4"])
        (folder / "todo").write_text(json.dumps(todo))
        (folder / "together.py").write_text(TOGETHER)
        launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(
            [sys.executable, "-m", *launch, "together.py", "todo"],
            capture_output=True,
            text=True,
            check=False,
        )
        for rank in range(2):
            path = folder / f"todo.{rank}"
            assert path.is_file(), done.stderr
            assert json.loads(path.read_text()) == [0] * len(todo), done.stderr
        for kind in KINDS:
            assert run(words(kind, "one")) == 0
        yield folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_learns(folder, kind):
    logs = [read_log(folder / f"{name} {kind}") for name in ("one", "two")]
    for name in ("loss", "gradient_norm", "frechet_1", "held_out_loss"):
        one, two = ([record[name] for record in log if name in record] for log in logs)
        assert two == pytest.approx(one, rel=1e-3), name
        assert two
    one, two = (final_tensors(folder / f"{name} {kind}") for name in ("one", "two"))
    assert two.keys() == one.keys()
    largest: dict[str, float] = {}  # of weights, of averages of gradients and of their squares
    for name, value in one.items():
        kind = name.partition(".")[0].rpartition("/")[0]
        largest[kind] = max(largest.get(kind, 0.0), float(value.abs().max()))
    for name, value in one.items():
        # Sums of many terms that nearly cancel are rounded as the terms are, not as the sum is.
        rounding = 1e-4 * largest[name.partition(".")[0].rpartition("/")[0]]
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=rounding, msg=name)


def test_a_resumed_training_of_two_is_the_same_bit_for_bit(folder):
    assert_same_state(folder / "two classes", folder / "again classes")

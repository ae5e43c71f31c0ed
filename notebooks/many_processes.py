# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Many processes, and machines that are taken away
#
# Long trainings run on several GPUs, and on machines that are taken away: a time limit, a spot machine, a failure. `iddpm` promises two things.
#
# 1. **The number of processes is not part of the experiment.** One process or eight see the same items, noise and timesteps.
# 2. **An interruption is not part of it either.** However a run ends, the next start continues from the last checkpoint, and the result is that of a run without
#    the interruption, to the last bit.
#
# This page tests both. It stops a run by a signal, kills one of two processes without any warning, and damages a checkpoint. Then it
# compares the weights. The runs are 30 steps of a tiny network on the 8 x 8 digits of scikit-learn.

# %%
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from safetensors.torch import load_file

import iddpm

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 72, "font.size": 10, "image.cmap": "gray"})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

started_in = Path.cwd()
workspace = tempfile.TemporaryDirectory()
os.chdir(workspace.name)

# %% [markdown]
# ## 1. Write the training as a script
#
# The script below trains, or continues if there is a run already. That line is all that a restart needs. In a terminal the
# same is `iddpm train digits ... --out RUN` and `iddpm train --resume --out RUN`.
#
# `Taken` is our saboteur: a reporter receives the progress, and this one ends its own process at a given step.

# %%
SCRIPT = '''
import os
import signal
from pathlib import Path

import torch._dynamo  # every optimizer imports it: once here, before the processes are forked
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import iddpm

SETTINGS = [
    "training.steps=30",
    "training.save_every=10",
    "training.batch_size=16",
    "training.learning_rate=2e-3",
    "training.anneal=none",  # by default it falls until the last step, which is changed below
    "training.ema_rates=[0.9]",
    "training.precision=float32",
    "training.log_every=2",
    "training.preview_every=0",
    "training.validate_every=0",
    "model.model_channels=16",
    "model.num_res_blocks=1",
    "model.channel_mult=[1, 2]",
    "model.attention_downsampling=[]",
    "model.group_channels=4",
    "diffusion.predicts=v",
]


class Taken:
    """Report nothing, and send this process a signal at a step."""

    def __init__(self, step=None, signal=signal.SIGKILL):
        self.step, self.signal = step, signal

    def start(self, step, total):
        pass

    def advance(self, step):
        if step == self.step:
            os.kill(os.getpid(), self.signal)

    def record(self, record):
        pass

    def say(self, message):
        pass

    def close(self):
        pass


def train(out, reporter):
    if Path(out, "config.yaml").is_file():
        return iddpm.train(resume=True, out=out, reporter=reporter)
    return iddpm.train("digits", out=out, settings=SETTINGS, reporter=reporter)


def worker(out, killed_at):
    first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    train(out, Taken(killed_at if first_time else None))


if __name__ == "__main__":
    iddpm.train  # import all of it before the processes are forked
    for out, killed_at in (("runs/two", None), ("runs/killed", 17)):
        config = LaunchConfig(
            1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=out.replace("/", "_"),
            max_restarts=1, monitor_interval=0.1, start_method="fork",
        )
        elastic_launch(config, worker)(out, killed_at)
'''
Path("training.py").write_text(SCRIPT)
sys.path.insert(0, workspace.name)
from training import Taken, train

# The part with two processes, for section 3: it runs beside the next cells.
together = subprocess.Popen(
    [sys.executable, "training.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)

# %% [markdown]
# ## 2. Stopped by a signal
#
# Batch systems and spot machines send SIGTERM before they take a machine. Training then finishes its step, saves and exits with status 143.
# `exit.json` says so. Here the signal arrives at step 14, and the second call continues.

# %%
whole = train("runs/whole", Taken())  # for comparison: never interrupted

try:
    train("runs/stopped", Taken(14, signal.SIGTERM))
except SystemExit as leaving:
    print("exit status", leaving.code)
said = json.loads(Path("runs/stopped/exit.json").read_text())
print(f"exit.json: {said['reason']} at step {said['step']}")
assert said["step"] == 14

train("runs/stopped", Taken())


def same_bits(one, other):
    """Say whether the last checkpoints of two runs hold the same bits: weights, optimizer, averages."""
    equal, compared = True, 0
    for file in sorted(Path(one, "checkpoints", "step_00000030").glob("*.safetensors")):
        a, b = load_file(file), load_file(Path(other, "checkpoints", "step_00000030", file.name))
        assert a.keys() == b.keys()
        equal &= all(torch.equal(a[name], b[name]) for name in a)
        compared += sum(value.numel() for value in a.values())
    return equal, compared


equal, compared = same_bits("runs/whole", "runs/stopped")
print(f"{compared:,} numbers of the last checkpoint are the same, bit for bit: {equal}")
assert equal
assert compared > 100_000

# %% [markdown]
# ## 3. Two processes, and one is killed
#
# On a machine with two GPUs, or two cores, the command is
#
# ```
# torchrun --standalone --nproc-per-node 2 --max-restarts 1 training.py
# ```
#
# Here the script calls torchrun's own launcher from Python and forks the processes, because importing PyTorch in each of six processes would take longer than the
# training. It trains twice with two processes: `runs/two` without interruption, and `runs/killed`, where the first process, which also writes the
# files, ends itself with SIGKILL at step 17. Nothing can be saved then. The launcher notices, ends the other process and starts both again. They
# continue from the checkpoint of step 10.

# %%
printed, _ = together.communicate()
assert together.returncode == 0, printed[-3000:]
print(
    next(
        line.partition("] ")[2] for line in printed.splitlines() if "terminated with signal" in line
    )
)
resumed = iddpm.load("runs/killed")
print("the run is finished at step", resumed.log[-1]["step"])

equal, compared = same_bits("runs/two", "runs/killed")
print(
    f"two processes, with and without the kill: {compared:,} numbers the same, bit for bit: {equal}"
)
assert equal

# %% [markdown]
# And one process against two? The items, the noise and the timesteps are the same bit for bit. Only the gradients are added up in another
# order, which changes their last bits; AdamW makes a little more of that.

# %%
start = load_file("runs/whole/checkpoints/step_00000010/network.safetensors")
one, two = (load_file(f"runs/{name}/model.safetensors") for name in ("whole", "two"))


def distance(a, b):
    return sum((a[name] - b[name]).double().square().sum() for name in a).sqrt().item()


between, moved = distance(one, two), distance(one, start)
print(f"weights moved by {moved:.2f} since step 10; one and two processes differ by {between:.1e}")
assert between < 0.02 * moved
losses = {
    name: [r["loss"] for r in iddpm.load(f"runs/{name}").log] for name in ("whole", "two", "killed")
}
worst = max(abs(a - b) for a, b in zip(losses["whole"], losses["two"], strict=True))
print(f"the losses in their logs differ by at most {worst:.1e}")
assert losses["two"] == losses["killed"]

# %% [markdown]
# The log of the killed run looks as if nothing had happened: its records after step 10 were written again. The clock tells. In the second picture each
# record stands at its time: the gap is the kill, the wait for the lost process, and the new start.

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
for name, style in (("whole", "o-"), ("two", "x--"), ("killed", "+:")):
    log = iddpm.load(f"runs/{name}").log
    axes[0].plot([r["step"] for r in log], [r["loss"] for r in log], style, label=f"runs/{name}")
axes[0].set(xlabel="step", title="loss: three runs, one curve")
axes[0].legend()
for name, style in (("two", "x--"), ("killed", "+:")):
    log = iddpm.load(f"runs/{name}").log
    axes[1].plot(
        [r["time"] - log[0]["time"] for r in log],
        [r["step"] for r in log],
        style,
        label=f"runs/{name}",
    )
axes[1].set(
    xlabel="seconds since the first record", ylabel="step", title="the same steps on the clock"
)
axes[1].legend()
plt.show()

# %% [markdown]
# ## 4. A damaged checkpoint
#
# Disks fail too. Every checkpoint has checksums. We flip one bit in the newest one of `runs/stopped`, and ask for 5 more steps: the damage is found, the
# checkpoint before is used, and a warning names both. The steps in between are done again, so the end is the same as that of a run that was
# never damaged.

# %%
with Path("runs/stopped/checkpoints/step_00000030/network.safetensors").open("r+b") as file:
    file.seek(-100, os.SEEK_END)
    byte = file.read(1)[0]
    file.seek(-100, os.SEEK_END)
    file.write(bytes([byte ^ 1]))

ends = {}
for name in ("whole", "stopped"):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run = iddpm.train(
            resume=True, out=f"runs/{name}", settings=["training.steps=35"], reporter=Taken()
        )
    for warning in found:
        if "checkpoint" in str(warning.message):
            print(f"{name}: {warning.message}")
    ends[name] = load_file(f"runs/{name}/model.safetensors")
assert all(torch.equal(ends["whole"][name], ends["stopped"][name]) for name in ends["whole"])
print("both end with the same bits")

# %% [markdown]
# ## 5. Sampling does not depend on it either
#
# Sample $k$ depends on the seed and on $k$ alone: not on how many are drawn, nor on the batch size, nor on the number of processes. So
# `torchrun ... -m iddpm sample` draws the samples that one process would. Here: eight samples in batches of 8 and of 2, and the samples of the two runs above.

# %%
eight = run.sample(8, steps=5, batch_size=8)
in_pairs = run.sample(8, steps=5, batch_size=2)
print(f"batches of 8 and of 2: largest difference {(eight - in_pairs).abs().max():.1e}")
assert (eight - in_pairs).abs().max() < 1e-4
of_two = iddpm.load("runs/two").sample(8, steps=5, batch_size=8)
of_killed = iddpm.load("runs/killed").sample(8, steps=5, batch_size=8)
assert torch.equal(of_two, of_killed)

figure, axes = plt.subplots(2, 1, figsize=(8, 2.6), layout="constrained")
for axis, (name, samples) in zip(
    axes, {"runs/two": of_two, "runs/killed": of_killed}.items(), strict=True
):
    axis.imshow(samples.clamp(-1, 1).squeeze(1).transpose(0, 1).flatten(1), vmin=-1, vmax=1)
    axis.set(
        xticks=[],
        yticks=[],
        title=f"{name}: the same samples (30 steps of training: hardly digits yet)",
    )
plt.show()

os.chdir(started_in)
sys.path.remove(workspace.name)
workspace.cleanup()

# %% [markdown]
# ## Where to go next
#
# - [docs/distributed.md](../docs/distributed.md): several machines, FSDP, Slurm ([examples/slurm.sh](../examples/slurm.sh) requeues itself until the run is finished), spot machines, exit statuses, and the test
#   behind each guarantee. `make kill-test` kills training at each change of its files.
# - [docs/run_directory.md](../docs/run_directory.md): what a run and a checkpoint consist of.
# - [docs/observation.md](../docs/observation.md): the log, and what `iddpm info RUN` says about a run that was killed.

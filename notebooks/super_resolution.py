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
# # Super-resolution
#
# At the end of this page you have
#
# - a model that doubles the resolution of a photograph, trained on high resolution alone,
# - a file of another size than in training, upscaled: one sample, a mean of several, and a map of how uncertain each place is,
# - a table that compares it with linear and bicubic interpolation.
#
# The photograph is real; scikit-learn contains it. Sounds, scans and arrays work in the same way. The training takes seconds. After it the
# errors are about those of bicubic interpolation; the last section has the command for real use.
#
# You need `pip install 'iddpm[plots]'` and `pip install --no-deps scikit-learn`.

# %%
import importlib.util
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import iddpm
from iddpm.cli.main import run as command_line

start, folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(folder.name)  # everything below is written there


def terminal(line):
    """Run a command of the terminal here, because starting Python and PyTorch again takes seconds."""
    assert command_line(shlex.split(line)[1:]) == 0, line


# %% [markdown]
# ## Data of high resolution
#
# Only the high resolution is needed. `iddpm` computes the low-resolution input itself, by default as the mean of each block of 2 x 2 pixels.
# The photograph is cut into tiles of 16 x 16. A region of 48 x 96 is kept for the test; no tile of it is used for training.

# %%
photographs = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/images"
photograph = Image.open(photographs / "china.jpg").convert("L").reduce(2)
photograph.info.pop("icc_profile")  # of the colors, which are gone
region = photograph.crop((112, 32, 208, 80))
truth = np.asarray(region).astype(float)
os.mkdir("tiles")
for top in range(0, 208, 16):
    for left in range(0, 320, 16):
        if not (112 <= left < 208 and 32 <= top < 80):
            photograph.crop((left, top, left + 16, top + 16)).save(f"tiles/{top:03}_{left:03}.png")
print(len(os.listdir("tiles")), "tiles")

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
axis.imshow(photograph, cmap="gray")
axis.add_patch(plt.Rectangle((112, 32), 96, 48, fill=False, ec="red"))
axis.axis("off")
plt.show()

# %% [markdown]
# ## Train
#
# `task=super_resolution` and `scale=2` are all that is needed; the other settings keep the network small and the training short.
#
# The model does not draw pixels. It draws the *residual*: what the bicubic interpolation of the low resolution misses, in units of its
# spread. The interpolation is added afterwards. So the network needs to learn only what is hard.

# %%
run = iddpm.train(
    "tiles",
    settings=[
        "task=super_resolution",
        "scale=2",
        "data.held_out=0.2",
        "data.flip=true",
        "model.model_channels=16",
        "model.num_res_blocks=1",
        "model.channel_mult=[1,2]",
        "model.attention_downsampling=[]",
        "diffusion.predicts=v",
        "training.precision=float32",
        "training.batch_size=16",
        "training.learning_rate=4e-3",
        "training.anneal=linear",
        "training.ema_rates=[0.9]",
        "training.steps=80",
        "training.log_every=40",
        "training.validate_every=40",
        "training.preview_every=0",
    ],
    out="runs/photo",
)
print(f"spread of the residual: {127.5 * run.config.diffusion.residual_scale[0]:.1f} of 255 levels")

# %% [markdown]
# ## Upscale a file
#
# The low resolution of the test region is a PNG file of 48 x 24 pixels; in training a tile had 8 x 8. `iddpm upscale` processes files of any
# size as overlapping tiles and writes the same kind of file. There are three ways:

# %%
region.reduce(2).save("region.png")  # the mean of each block of 2 x 2
terminal("iddpm upscale runs/photo region.png --steps 8 --out sample")
terminal("iddpm upscale runs/photo region.png --steps 8 --average 6 --out mean")
terminal("iddpm upscale runs/photo region.png --steps 1 --out estimate")
results = {
    name: np.asarray(Image.open(f"{name}/region.png")).astype(float)
    for name in ("sample", "mean", "estimate")
}
spread = np.load("mean/region.std.npy").squeeze()
results["bicubic"] = np.asarray(
    Image.open("region.png").resize((96, 48), Image.Resampling.BICUBIC)
).astype(float)

# %% [markdown]
# - `sample`: one sample is one possible high resolution.
# - `mean`: `--average 6` draws six samples, and writes their mean and, beside it, their standard deviation in levels (`region.std.npy`).
# - `estimate`: a single evaluation of the network, which estimates the mean of all possible samples.

# %%
error = np.abs(results["mean"] - truth)
pictures = {"low resolution": Image.open("region.png"), **results, "truth": truth}
figure, axes = plt.subplots(2, 4, figsize=(11, 3.4), layout="constrained")
for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axis.set_title(name, fontsize=10)
for axis, name, picture in (
    (axes[1, 2], "spread of 6", spread),
    (axes[1, 3], "error of the mean", error),
):
    shown = axis.imshow(picture, vmin=0, vmax=40, cmap="magma")
    axis.set_title(name, fontsize=10)
figure.colorbar(shown, ax=axes[1, 3], label="levels")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## How good is it?
#
# Root mean squared errors on the test region, in levels of 255:

# %%
errors = {name: np.sqrt(((result - truth) ** 2).mean()) for name, result in results.items()}
for name, value in errors.items():
    print(f"{name:9} {value:5.2f}")
largest = spread > np.quantile(spread, 0.75)
print(
    f"error of the mean where the spread is largest {error[largest].mean():.1f}, elsewhere {error[~largest].mean():.1f}"
)
assert errors["mean"] < errors["sample"]
assert error[largest].mean() > error[~largest].mean()

# %% [markdown]
# - After seconds of training the mean and the estimate are about as good as bicubic interpolation, not better. After 250 steps with larger patches
#   of a brain scan they are better by 3 dB: [measured here](../docs/super_resolution.md).
# - The mean of several samples has a smaller error than one sample. It is also smoother than the truth. Choose it to measure something, and one
#   sample where the texture matters.
# - The spread tells where to trust the result: it is small in the sky and large at the edges of the roof, and so is the error.
#
# `iddpm evaluate` compares the same for held-out tiles. Its table has more measures, because no single one is enough: the squared error
# (PSNR) favors blur, while the Frechet distance compares the texture of the whole set.

# %%
terminal("iddpm evaluate runs/photo -n 40 --average 2 --steps 8")

# %% [markdown]
# - `PSNR`: higher is better. It is in decibels; 3 dB more is half the squared error.
# - `PSNR after downsampling again`: whether a result still agrees with its low resolution.
# - The line on the spread compares the error with the spread of the samples. At 1 the model knows how uncertain it is. Above 1 it is too sure.

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Train on larger tiles and for thousands of steps. Choose `degradation` so that the computed low resolution is like yours: the model trusts its
# input, and takes other blur or noise for detail.
#
# ```
# iddpm train photos/ -s task=super_resolution -s scale=2 -s data.image_size=64 -s diffusion.predicts=v --out runs/photos_sr
# iddpm train scans/ -s task=super_resolution -s scale=[4,1,1] -s data.window=[32,32,32] --out runs/slices_sr    # thick slices
# iddpm upscale runs/photos_sr my_pictures/ --average 8
# ```
#
# Where to go next:
#
# - [Super-resolution](../docs/super_resolution.md): degradations, tiles, all files that can be upscaled
# - [The runs on digits and on a brain scan](../docs/runs.md), with measurements
# - [Restoration](../docs/restoration.md): what a known blur, mask or coarse sensor has measured, with a model that was not trained for it

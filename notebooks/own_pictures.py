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
# # Your own pictures
#
# At the end of this page you have
#
# - a folder of PNG and JPEG files of different sizes, as yours may be, and a list of what `iddpm` reads of it,
# - a model that was trained on it, with the folders as classes,
# - new pictures as PNG files.
#
# The pictures are real: pieces of two photographs that scikit-learn contains. The training takes seconds, so the model learns the
# colors and the coarse layout, not the details. The last section has the command for real use.
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


def terminal(line, status=0):
    """Run a command of the terminal here, because starting Python and PyTorch again takes seconds."""
    assert command_line(shlex.split(line)[1:]) == status, line


# %% [markdown]
# ## A folder of pictures
#
# Each photograph is divided into six strips, and pieces of different sizes are cut out of each strip. Half of them become JPEG files, half
# PNG files. The folders `china` and `flower` are the classes.

# %%
photographs = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/images"
random = np.random.default_rng(0)
for name in ("china", "flower"):
    os.makedirs(f"photos/{name}")
    photograph = Image.open(photographs / f"{name}.jpg")
    for k in range(90):
        width, height = random.integers(50, 106, 2)
        strip = k % 6
        left = 106 * strip + random.integers(0, 107 - width)
        top = random.integers(0, photograph.height - height)
        piece = photograph.crop((left, top, left + width, top + height))
        piece.save(f"photos/{name}/{'abcdef'[strip]}_{k:02}.{'png' if k % 4 < 2 else 'jpg'}")

files = sorted(Path("photos").rglob("*.*"))
print(len(files), "files, such as", *files[:3])
figure, axes = plt.subplots(2, 7, figsize=(9, 3), layout="constrained")
for axis, path in zip(
    axes.T.flat, (files[i] for i in np.linspace(0, 179, 14).astype(int)), strict=True
):
    picture = Image.open(path)
    axis.imshow(picture)
    axis.set_title(f"{picture.width} x {picture.height} {path.suffix[1:]}", fontsize=8)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## What is read
#
# `iddpm data inspect` opens data as training does. Pictures of different sizes need `data.image_size`. Without it the command prints one
# sentence and ends with status 2, as all commands do when something does not fit:

# %%
terminal("iddpm data inspect photos", status=2)

# %% [markdown]
# With `data.image_size=16` the center of each picture is cropped to a square and resized to 16 x 16.
#
# **Related pictures.** A share of the pictures is held out (`data.held_out`): training never uses them, and they measure how good the
# model is. Pieces of one strip overlap. If some of them were in training and others held out, the held-out loss would be too good,
# because it would reward memorizing. The same is true of several pictures of one patient or one scene. `data.group` keeps them on one
# side. It takes a pattern for the start of the file names; here it is the letter of the strip.

# %%
reading = ["data.image_size=16", "data.group=[a-f]_", "data.held_out=0.1"]
options = " ".join(f"-s {setting}" for setting in reading)
terminal(f"iddpm data inspect photos {options} --out inspect.png")
Image.open("inspect.png")

# %% [markdown]
# - `labels`: every picture lies in a folder, so the folders are classes. `-s data.labels=none` ignores them; a CSV table or the start of
#   file names can be the classes instead.
# - `split`: the pieces of one strip of each photograph, 30 of 180, are held out.
# - The picture shows some items as the network sees them, and a histogram of their values.
#
# **Damaged files** stop a command, which names the file. `data.corrupt=skip` leaves them out and prints them. Files that are not pictures are
# ignored.

# %%
Path("photos/notes.txt").write_text("taken in May")
Path("photos/china/a_broken.jpg").write_bytes(files[0].read_bytes()[:200])
terminal(f"iddpm data inspect photos {options}", status=2)
reading.append("data.corrupt=skip")  # the training below skips it

# %% [markdown]
# Gray pictures among color ones, transparency, 16 bits, palettes, rotation in the EXIF data and color profiles are read or refused, never
# guessed: [the table of formats](../docs/formats.md) lists each case.
#
# ## Train, with flips
#
# `data.flip=true` mirrors items at random, which doubles the data. Use it where a mirrored picture could be a real one: for
# landscapes and flowers, but not for text or digits. Held-out items are never mirrored. `data.random_crop=true` also trains on
# random crops of at least 0.8 of each side.

# %%
run = iddpm.train(
    "photos",
    settings=[
        *reading,
        "data.flip=true",
        "model.class_conditional=true",
        "model.model_channels=16",
        "model.num_res_blocks=1",
        "model.channel_mult=[1,2]",
        "model.attention_downsampling=[]",
        "diffusion.predicts=v",
        "training.precision=float32",
        "training.batch_size=16",
        "training.learning_rate=5e-3",
        "training.ema_rates=[0.9]",
        "training.steps=90",
        "training.log_every=30",
        "training.validate_every=30",
        "training.preview_every=0",
    ],
    out="runs/photos",
)

# %% [markdown]
# ## Draw new pictures
#
# `iddpm sample` writes a PNG file for each sample and `grid.png`. `--class` takes the name of a folder, and `--guidance 2` exaggerates
# what is typical of the class.

# %%
for name in ("china", "flower"):
    terminal(
        f"iddpm sample runs/photos -n 8 --class {name} --guidance 2 --steps 10 --out samples/{name}"
    )
print(sorted(os.listdir("samples/china")))

# %%
figure, axes = plt.subplots(2, 1, figsize=(8, 2.4), layout="constrained")
for axis, name in zip(axes, ("china", "flower"), strict=True):
    drawn = [
        np.asarray(Image.open(path)) for path in sorted(Path(f"samples/{name}").glob("0*.png"))
    ]
    axis.imshow(np.concatenate(drawn, axis=1))
    axis.set_title(name, fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# Do the two classes differ as the data does? Compare the mean color of samples and of pictures:

# %%
for name in ("china", "flower"):
    drawn = run.sample(16, classes=name, guidance=2, steps=10, seed=1)
    real = [
        np.asarray(Image.open(path).resize((16, 16))) for path in files if path.parent.name == name
    ]
    data = 2 * np.stack(real).mean((0, 1, 2)) / 255 - 1
    print(f"{name:7} red, green, blue of the data", *(f"{v:+.2f}" for v in data), end=";  ")
    print("of samples", *(f"{v:+.2f}" for v in drawn.mean((0, 2, 3)).tolist()))

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Keep what describes your data (`data.`) and leave out what makes the network small and the training short:
#
# ```
# iddpm train photos/ -s data.image_size=64 -s data.flip=true -s diffusion.predicts=v --out runs/photos
# iddpm sample runs/photos -n 64 --steps 20
# ```
#
# For large folders, `-s data.cache=auto` decodes and resizes each picture once. With fewer than some thousand pictures watch the held-out
# loss: when it rises, the model memorizes.
#
# Where to go next:
#
# - [Data](../docs/data.md): labels, groups, caches, shards; [formats](../docs/formats.md): each kind of file
# - [Choosing settings](../docs/choosing.md) and [training](../docs/training.md)
# - [The run on emoji](../docs/runs.md): a thousand small color pictures, with measurements

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
# # Volumes and medical scans
#
# At the end of this page you have
#
# - a NIfTI file, cut into patches that overlap,
# - a model of these patches, trained from scratch,
# - new patches as NIfTI files with the voxel size of the scan,
# - and a volume that is larger than a patch.
#
# The scan is a small real one: nibabel contains a T1-weighted head of 33 x 41 x 25 voxels. It is a single, coarse scan, and the training
# takes seconds. The samples show what the model can learn from it in this time: the range of gray values and soft blobs. They are not
# anatomy. The last section has the command for real use.
#
# You need `pip install 'iddpm[plots,nifti]'`.

# %%
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
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
# ## The scan
#
# The size of a voxel and the direction of each axis are in the header of a NIfTI file, as a matrix called affine.

# %%
scan = nibabel.load(Path(nibabel.__file__).parent / "tests/data/anatomical.nii")
voxels = np.asarray(scan.dataobj)
print(
    "values from",
    voxels.min(),
    "to",
    voxels.max(),
    "but 99.9 % are below",
    int(np.quantile(voxels, 0.999)),
)
voxels = voxels.clip(0, 15000).astype(
    np.int16
)  # a few very bright voxels would take half of the range
nibabel.save(nibabel.Nifti1Image(voxels, scan.affine), "head.nii.gz")
print("shape", scan.shape, "spacing in mm", *scan.header.get_zooms())
print(
    "axes point to", *nibabel.aff2axcodes(scan.affine), "- right or left, front or back, up or down"
)

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for axis, number in zip(axes, range(3), strict=True):
    middle = voxels.shape[number] // 2
    axis.imshow(voxels.take(middle, number).T, cmap="gray", origin="lower", vmax=15000)
    axis.set_title(f"across axis {number}, slice {middle}", fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Patches
#
# Volumes are large and few. So the model learns patches: `data.window=[12,12,12]`. They start `data.stride` voxels apart, by default a
# quarter of the window (3). A smaller stride gives more patches, which overlap more.

# %%
reading = ["data.window=[12,12,12]", "data.stride=2"]
options = " ".join(f"-s {setting}" for setting in reading)
terminal(f"iddpm data inspect head.nii.gz {options} --out patches.png")
Image.open("patches.png")

# %% [markdown]
# - `values`: the range that becomes [-1, 1] is measured, and the run stores it. For integers it has a power of two of levels. For CT set
#   it yourself, for example `data.range=[-1024,3071]`.
# - `split`: patches of one file stay together. With a single file, slabs across the first axis are held out that share no voxel with the
#   training patches.
# - `voxels`: the spacing, from the affine.
# - The picture shows the three middle slices of some patches, and a histogram of the range.
#
# With several scans put them into one folder. They need the same orientation and spacing: files with different orientations raise an error.
#
# ## Train
#
# The network is the same as for pictures, with 3-D convolutions. By default it halves only height and width, as for thick slices and
# clips. These voxels are cubes, so `model.stride=[2,2,2]` halves all three.

# %%
run = iddpm.train(
    "head.nii.gz",
    settings=[
        *reading,
        "model.stride=[2,2,2]",
        "model.model_channels=16",
        "model.num_res_blocks=1",
        "model.channel_mult=[1,2]",
        "model.attention_downsampling=[]",
        "diffusion.predicts=v",
        "training.precision=float32",
        "training.batch_size=4",
        "training.learning_rate=6e-3",
        "training.anneal=linear",
        "training.ema_rates=[0.9]",
        "training.steps=70",
        "training.log_every=35",
        "training.validate_every=0",
        "training.preview_every=0",
    ],
    out="runs/head",
)

# %% [markdown]
# ## Samples are NIfTI files

# %%
terminal("iddpm sample runs/head -n 6 --steps 10 --out samples")
print(sorted(os.listdir("samples")))
sample = nibabel.load("samples/000000.nii.gz")
drawn = np.asarray(sample.dataobj)
print("shape", sample.shape, "spacing in mm", *sample.header.get_zooms(), "as", drawn.dtype)
print("values from", drawn.min(), "to", drawn.max())
assert sample.header.get_zooms() == scan.header.get_zooms()
Image.open("samples/grid.png")

# %% [markdown]
# The samples have the spacing, the direction and the number type of the scan. Their position is that of the first file: a patch has no
# place in the head.
#
# ## Are the values right?
#
# Compare the distribution of gray values. This is a weak test. A model can pass it and still draw wrong shapes, but one that fails it is
# not worth a closer look.

# %%
samples = run.sample(12, steps=10, seed=1).numpy()
low, high = float(run.config.data.range[0]), float(run.config.data.range[1])
scaled = 2 * (voxels.astype(float) - low) / (high - low) - 1
bins = np.linspace(-1, 1, 41)
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.hist(scaled.ravel(), bins, density=True, histtype="step", label="scan")
axis.hist(samples.ravel(), bins, density=True, histtype="step", label="samples")
axis.set(xlabel="value in [-1, 1]", ylabel="density")
axis.legend()
plt.show()
print(f"mean: scan {scaled.mean():.2f}, samples {samples.mean():.2f}")

# %% [markdown]
# ## Larger than a patch
#
# `size` draws a volume of another size as overlapping tiles, whose estimates are averaged at every step. Neighboring tiles agree, but the model
# knows nothing beyond a patch: there is no head in the result.

# %%
large = run.sample(1, size=[12, 20, 20], steps=8, seed=0)
print("trained on", run.shape[1:], "drawn", tuple(large.shape[2:]))
iddpm.save_grid(large, "large.png", scale=4)
Image.open("large.png")

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Use many scans, patches of 32 voxels or more, and a GPU or hours of a CPU. `examples/mri_crops.yaml` has the settings of a measured run.
#
# ```
# iddpm train scans/ -c examples/mri_crops.yaml --out runs/volumes
# iddpm sample runs/volumes -n 8 --steps 20
# iddpm train scans/ -s data.window=[32,32,32] -s data.conditions=people.csv --out runs/people    # with age, sex, ...
# ```
#
# DICOM series (`pip install 'iddpm[dicom]'`), NRRD, MetaImage and MINC are read in the same way.
#
# Where to go next:
#
# - [Formats](../docs/formats.md): affines, slopes, windows, DICOM; `data.flip` mirrors along the left-right axis of the patient
# - [The run on crops of a brain](../docs/runs.md), with measurements
# - [Super-resolution](../docs/super_resolution.md) of thick slices; [restoration](../docs/restoration.md) of missing parts

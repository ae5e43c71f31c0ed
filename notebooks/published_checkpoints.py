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
# # From improved-diffusion and guided-diffusion
#
# You have a checkpoint or a training command of improved-diffusion or guided-diffusion. This page
#
# - turns the flags of a training command into settings, and trains with them,
# - turns a checkpoint, `ema_*.pt`, into a run, and checks that it computes the same to the last bit,
# - samples it as the published scripts do, and with fewer evaluations,
# - and shows what happens with wrong flags and with a file that wants to run code.
#
# No published checkpoint is small enough for this page, so we make one: a tiny network with the published names, trained **for seconds** on the
# 8 x 8 digits of scikit-learn. The steps are the same for a file that you downloaded.

# %%
import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.interop.openai import load_published

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 72, "font.size": 10, "image.cmap": "gray"})

started_in = Path.cwd()
workspace = tempfile.TemporaryDirectory()
os.chdir(workspace.name)


def terminal(line, status=0, into=None):
    """Run a command of the terminal here, because starting Python and PyTorch again takes seconds."""
    with contextlib.ExitStack() as held:
        held.enter_context(contextlib.redirect_stderr(sys.stdout))
        if into:
            held.enter_context(contextlib.redirect_stdout(held.enter_context(open(into, "w"))))
        assert command_line(shlex.split(line)[1:]) == status, line


# %% [markdown]
# ## 1. Flags become settings
#
# These are the flags of the ImageNet-64 model in improved-diffusion's README. `--dry-run` prints the settings that they stand for. Three lines deserve a look:
# attention is given by *factors* of downsampling instead of sizes, the upsampling is nearest neighbor and a convolution (ours is a transposed
# convolution by default), and the loss is hybrid, because `learn_sigma` is set.

# %%
IMPROVED = (
    "--image_size 64 --num_channels 128 --num_res_blocks 3 --learn_sigma True "
    "--diffusion_steps 4000 --noise_schedule cosine --lr 1e-4 --batch_size 128"
)
terminal(f'iddpm import --flags "{IMPROVED}" --dry-run')

# %% [markdown]
# Our small model uses the flags of guided-diffusion. It has classes, as the models of guided-diffusion do. It predicts $x_0$
# (`predict_xstart`), because that learns in seconds; the published models predict the noise.
#
# The settings go to a file, and `iddpm train` takes it. Some values are overridden with `-s`: the digits are gray; guided-diffusion's
# loader mirrors pictures, which digits do not survive; and the weight of the bound is smaller, because the early bound of a network that predicts $x_0$
# is huge. PyTorch's own kernels let both runs agree to the last bit.

# %%
FLAGS = (
    "--image_size 8 --num_channels 32 --num_res_blocks 1 --channel_mult 1,1 --attention_resolutions 4 "
    "--num_heads 2 --class_cond True --learn_sigma True --predict_xstart True --noise_schedule cosine "
    "--timestep_respacing 50"
)
TRAINING = "--lr 3e-3 --batch_size 24 --ema_rate 0.9"
terminal(
    f'iddpm import --family guided --flags "{FLAGS} {TRAINING}" --dry-run', into="settings.yaml"
)
terminal(
    "iddpm train digits -c settings.yaml --steps 70 -s data.channels=1 -s data.flip=false "
    "-s diffusion.loss.vb_weight=1e-5 -s training.precision=float32 -s training.log_every=35 "
    "-s training.preview_every=0 -s training.validate_every=0 -s training.kernels=plain "
    "--out runs/trained"
)

# %% [markdown]
# ## 2. A published-style checkpoint
#
# Our parameters have the published names, so the weights of this run, saved by PyTorch, are such a checkpoint.

# %%
trained = iddpm.load("runs/trained")
network = trained.denoiser.network
torch.save(network.state_dict(), "ema_0.9999_000070.pt")
weights = network.state_dict()
for name in list(weights)[:4] + list(weights)[-2:]:
    print(f"{name:36} {tuple(weights[name].shape)}")
print(f"{len(weights)} tensors")

# %% [markdown]
# ## 3. Import it
#
# `iddpm import` reads the weights, builds the network that the flags describe, and writes a run. The weights themselves tell the number of
# channels and of classes, so they need no flags.

# %%
terminal(f'iddpm import ema_0.9999_000070.pt --family guided --flags "{FLAGS}" --out runs/imported')

imported = iddpm.load("runs/imported")
x, y = torch.randn(4, 1, 8, 8), torch.tensor([1, 2, 3, 4])
level = imported.denoiser.diffusion.schedule.at(torch.tensor([100, 400, 700, 999]))
with torch.no_grad():
    ours, theirs = imported.denoiser(x, level, y=y), trained.denoiser(x, level, y=y)
assert torch.equal(ours.x0, theirs.x0)
assert torch.equal(ours.variance, theirs.variance)
print("the imported network computes the same, bit for bit")

# In Python, without a run: a denoiser for iddpm.sample
denoiser = load_published("ema_0.9999_000070.pt", "guided-diffusion", FLAGS)
with torch.no_grad():
    x0 = denoiser(x, level, y=y).x0
print(
    f"load_published: largest difference {(x0 - theirs.x0).abs().max():.1e}, from another memory layout"
)
torch.testing.assert_close(x0, theirs.x0, rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## 4. Sample it
#
# By default an imported run samples as the published script would with these flags: ancestral sampling (DDPM) with the steps of
# `timestep_respacing`. Every other sampler works too, without training.

# %%
classes = torch.arange(10).repeat(2).tolist()
drawn = {
    "real digits": None,
    "as published: DDPM, 50 evaluations": imported.sample(20, classes=classes),
    "ours: 10 evaluations": imported.sample(
        20, classes=classes, sampler="auto", spacing="auto", steps=10
    ),
}
plan = imported.plan(sampler="auto", spacing="auto", steps=10)
print(f"chosen for 10 evaluations: {plan.method.sampler}, {plan.method.spacing}")
published = imported.plan()
assert (published.method.sampler, len(published.schedule)) == ("ddpm", 50)

source, items, _ = trained.open_split()
digits = torch.from_numpy(source.read_many(items)).float() / 127.5 - 1
labels = torch.from_numpy(source.labels[items])
drawn["real digits"] = torch.stack([digits[labels == c][k] for k in range(2) for c in range(10)])
for name, samples in drawn.items():
    nearest = labels[
        torch.cdist(samples.flatten(1), digits.flatten(1)).topk(2, largest=False).indices[:, 1]
    ]
    print(
        f"{name:36} second nearest real digit has the class: {(nearest == torch.tensor(classes)).sum()} of 20"
    )

figure, axes = plt.subplots(3, 1, figsize=(7, 5.4), layout="constrained")
for axis, (name, samples) in zip(axes, drawn.items(), strict=True):
    framed = torch.nn.functional.pad(samples.clamp(-1, 1), (0, 1, 0, 1), value=1.0).squeeze(1)
    axis.imshow(
        framed.unflatten(0, (2, 10)).transpose(1, 2).flatten(2).flatten(0, 1), vmin=-1, vmax=1
    )
    axis.set(xticks=[], yticks=[], title=name)
plt.show()

# %% [markdown]
# ## 5. What goes wrong, and what cannot
#
# **Wrong flags** that change a shape are found: the message names the tensor and the flag. `num_heads` and the flags of the process change no shape.
# With a wrong one the network loads and computes something else, so copy those with care.

# %%
wrong = FLAGS.replace("--num_channels 32", "--num_channels 64")
terminal(
    f'iddpm import ema_0.9999_000070.pt --family guided --flags "{wrong}" --out runs/wrong',
    status=2,
)
assert not Path("runs/wrong").exists()

silent = load_published(
    "ema_0.9999_000070.pt", "guided-diffusion", FLAGS.replace("--num_heads 2", "--num_heads 4")
)
with torch.no_grad():
    other = silent(x, level, y=y).x0
print(
    f"num_heads 4 instead of 2: no error, and x0 differs by up to {(other - theirs.x0).abs().max():.3f}"
)
assert (other - theirs.x0).abs().max() > 1e-4

# %% [markdown]
# **A file that wants to run code** does not get to. A `.pt` file is a pickle, and a pickle can call any function. `iddpm` accepts tensors only.


# %%
class Trap:
    def __reduce__(self):
        return Path.touch, (Path("trapped"),)  # what loading would do


torch.save({"time_embed.0.weight": Trap()}, "model.pt")
try:
    load_published("model.pt", "guided-diffusion", FLAGS)
except ValueError as error:
    print(error)
assert not Path("trapped").exists()

# %% [markdown]
# ## 6. What differs
#
# The second picture shows the published network beside our default one: the number of weights by part, for the flags above. Ours upsamples
# with a transposed convolution (16 numbers per pair of channels instead of 9). Everything else has the same form and the same names.

# %%
default = iddpm.UNet(
    in_channels=1,
    out_channels=2,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 1),
    attention_downsampling=(2,),
    num_heads=2,
    num_classes=10,
)
theirs_by_name = {name: tuple(value.shape) for name, value in weights.items()}
ours_by_name = {name: tuple(value.shape) for name, value in default.state_dict().items()}
assert theirs_by_name.keys() == ours_by_name.keys()
different = [name for name in ours_by_name if ours_by_name[name] != theirs_by_name[name]]
for name in different:
    print(f"{name}: published {theirs_by_name[name]}, ours {ours_by_name[name]}")
assert all(".conv." in name for name in different)

parts = ("time_embed", "label_emb", "input_blocks", "middle_block", "output_blocks", "out")
sizes = {
    label: [
        sum(value.numel() for name, value in state.items() if name.split(".")[0] == part)
        for part in parts
    ]
    for label, state in (("published", weights), ("our default", default.state_dict()))
}
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
for number, (label, counts) in enumerate(sizes.items()):
    axis.barh([i + 0.4 * number for i in range(len(parts))], counts, height=0.38, label=label)
axis.set(yticks=[i + 0.2 for i in range(len(parts))], yticklabels=parts, xlabel="weights")
axis.invert_yaxis()
axis.legend()
plt.show()

os.chdir(started_in)
workspace.cleanup()

# %% [markdown]
# ## Where to go next
#
# - [docs/migrating.md](../docs/migrating.md): every flag of improved-diffusion, guided-diffusion and Recode-IDM beside our setting; the same for the training script of
#   diffusers and for denoising-diffusion-pytorch; how to reproduce published samples, with classifier guidance.
# - `iddpm import FOLDER` takes a pipeline folder of diffusers, and `iddpm export RUN --to diffusers` writes one ([docs/exporting.md](../docs/exporting.md)).
# - Fine-tune an imported model on your own data: `iddpm train DATA --init-from runs/imported`.
# - [The method, line by line](method.py): what the published method is, equation by equation. [Few steps](few_steps.py): fewer evaluations.

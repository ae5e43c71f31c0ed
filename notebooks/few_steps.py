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
# # Few steps: samplers, timesteps, tuning and distillation
#
# A sample costs as many passes of the network as the sampler has *evaluations*. Training uses 1,000 steps; nobody wants to wait for
# 1,000 evaluations. This page goes down from there:
#
# - good **samplers** need 10 to 20 evaluations, and no training;
# - **timesteps fitted** to a model help at 5;
# - **tuning** measures which sampler is best for your model;
# - **distillation** trains the model once more, for 1, 2 or 4 evaluations.
#
# The data are points in the plane: eight small clouds on a ring. There the truth is known, so every distance below is a fact and not an
# opinion. The networks are perceptrons trained for seconds. What is best for them need not be best for yours; the commands are the same.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import iddpm

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

ANGLES = torch.arange(8, dtype=torch.float64) * torch.pi / 4
CENTERS = 0.7 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
SPREAD = 0.07


def ring(count, seed):
    """Return points [count, 2, 1], as many from each cloud: signals of two channels and length 1."""
    noise = torch.randn(
        count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (CENTERS[torch.arange(count) % 8] + SPREAD * noise)[..., None]


def distance(x, y):
    """Return 1000 times the sliced Wasserstein distance of two sets of points of one size."""
    axes = torch.stack(
        [(torch.arange(32) * torch.pi / 32).cos(), (torch.arange(32) * torch.pi / 32).sin()]
    )
    a, b = ((each[..., 0].double() @ axes.double()).sort(dim=0).values for each in (x, y))
    return 1000 * (a - b).square().mean().sqrt().item()


def quality(x):
    """Return the spread of the points around their nearest center, and the share of stray points."""
    apart = torch.cdist(x[..., 0].double(), CENTERS).min(dim=1).values
    spread = (apart.square().mean() / 2).sqrt().item()
    return spread, (apart > 0.25).double().mean().item()


COUNT = 1000
real = ring(COUNT, 1)
floor = distance(ring(COUNT, 2), real)
print(f"two sets of real points have the distance {floor:.1f}")
print(
    "spread {:.3f}, share of points further than 0.25 from a center {:.1%}".format(*quality(real))
)

# %% [markdown]
# ## 1. Samplers on a perfect model
#
# For this data the best possible estimate of $x_0$ has a closed form. Any function of this form can be sampled: it takes $x_t$ and the
# noise level and returns a `Prediction`. So all errors below come from the sampler alone.
#
# One trick: the ring stays the same when it is turned by 45 degrees. We draw noise for an eighth of the points and turn it. Then every cloud
# gets equally many points, and chance in their number does not hide the error of the sampler.


# %%
def perfect(x_t, level, **_):
    a = level.alpha_bar.view(-1, 1)
    total = a * SPREAD**2 + 1 - a  # variance of x_t within a cloud
    x = x_t[..., 0]
    share = (-(torch.cdist(x, a[0].sqrt() * CENTERS) ** 2) / (2 * total)).softmax(dim=1)
    near = share @ CENTERS
    x0 = near + a.sqrt() * SPREAD**2 / total * (x - a.sqrt() * near)
    eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return iddpm.Prediction(x0=x0[..., None], eps=eps[..., None])


def turned_noise(seed):
    """Return standard normal noise [COUNT, 2, 1] that is the same after a turn by 45 degrees."""
    some = torch.randn(
        COUNT // 8, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    turns = torch.stack([ANGLES.cos(), -ANGLES.sin(), ANGLES.sin(), ANGLES.cos()], 1).view(8, 2, 2)
    return torch.einsum("kij,nj->nki", turns, some).reshape(COUNT, 2, 1)


class Counted:
    """A model that counts its evaluations."""

    def __init__(self, denoise):
        self.denoise, self.evaluations = denoise, 0

    def __call__(self, x_t, level, /, **conditioning):
        self.evaluations += 1
        return self.denoise(x_t, level, **conditioning)


schedule = iddpm.cosine(1000)


def even(count):
    return iddpm.even_timesteps(1000, count)


def karras(count):
    return iddpm.karras_timesteps(schedule, count)


def log_snr(count):
    return iddpm.log_snr_timesteps(schedule, count)


SAMPLERS = {
    "DDPM (ancestral), even": (iddpm.DDPM(), even, 1),
    "DDIM, even": (iddpm.DDIM(), even, 1),
    "Heun, karras": (iddpm.Heun(), karras, 2),
    "iPNDM, karras": (iddpm.IPNDM(), karras, 1),
    "DPM-Solver++ 2M, log-SNR": (iddpm.DPMSolverPP(2), log_snr, 1),
    "UniPC 2, log-SNR": (iddpm.UniPC(2), log_snr, 1),
}
EVALUATIONS = (4, 6, 10, 20)
drawn, error = {}, {}
for name, (sampler, spacing, per_step) in SAMPLERS.items():
    for evaluations in EVALUATIONS:
        model = Counted(perfect)
        steps = schedule.respace(spacing(evaluations // per_step))
        drawn[name, evaluations] = iddpm.sample(
            sampler, model, steps, turned_noise(3), noise=lambda number: turned_noise(100 + number)
        )
        error[name, evaluations] = distance(drawn[name, evaluations], real)
        assert model.evaluations <= evaluations
print(f"{'distance to real points':26}" + "".join(f"{n:>8}" for n in EVALUATIONS) + "  evaluations")
for name in SAMPLERS:
    print(f"{name:26}" + "".join(f"{error[name, n]:8.1f}" for n in EVALUATIONS))

# %% [markdown]
# Read it by column. With 20 evaluations the multistep solvers (iPNDM, DPM-Solver++, UniPC) have arrived at the floor. With 10 they are nearer
# than DDIM and ancestral sampling: they remember the estimates of the steps before, which costs nothing. Heun needs two evaluations per
# step; with so few steps it is erratic.

# %%
MULTISTEP = ("iPNDM, karras", "DPM-Solver++ 2M, log-SNR", "UniPC 2, log-SNR")
for name in MULTISTEP:
    assert error[name, 20] < 1.5 * floor
    assert error[name, 10] < 0.7 * min(error["DDIM, even", 10], error["DDPM (ancestral), even", 10])


def scatter(axis, points, title):
    axis.plot(*points[..., 0].T, ".", ms=1.5, alpha=0.5)
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[], title=title)
    axis.set_aspect("equal")


figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
for row, evaluations in zip(axes, (6, 20), strict=True):
    for axis, name in zip(
        row, [n for n in SAMPLERS if "DPM-S" not in n and "Heun" not in n], strict=True
    ):
        scatter(axis, drawn[name, evaluations], f"{name.split(',')[0]}: {evaluations} evaluations")
plt.show()

# %% [markdown]
# ## 2. A trained model
#
# Now a real network. It is an own one, because a U-Net is of no use for points ([your own network and loss](own_network_and_loss.py) explains the call). It
# predicts `v`, which distillation needs later.


# %%
class Perceptron(nn.Module):
    """Three layers that see a point, waves of it, and the time."""

    def __init__(self, width=128):
        super().__init__()
        self.start = nn.Linear(2 + 16 + 16, width)
        self.middle = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.time = nn.ModuleList(nn.Linear(16, width) for _ in range(2))
        self.end = nn.Linear(width, 4)  # two values for the mean, two for the variance
        self.register_buffer("of_time", torch.pi * torch.arange(1, 9) / 1000)
        self.register_buffer("of_point", torch.pi * torch.arange(1, 5) / 1.5)

    def forward(self, x, timesteps):
        angles = timesteps[:, None] * self.of_time
        times = torch.cat([angles.cos(), angles.sin()], dim=1)
        point = x.flatten(1)
        waves = (point[..., None] * self.of_point).flatten(1)
        h = self.start(torch.cat([point, waves.cos(), waves.sin(), times], dim=1))
        for layer, time in zip(self.middle, self.time, strict=True):
            h = h + layer(nn.functional.silu(h + time(times)))
        return self.end(nn.functional.silu(h))[..., None]


started_in = Path.cwd()
workspace = tempfile.TemporaryDirectory()
os.chdir(workspace.name)
data = ring(4000, 5).float()
torch.manual_seed(0)
network = Perceptron()
SETTINGS = [
    "data.layout=NCL",
    "data.range=[-1,1]",
    "training.steps=350",
    "training.batch_size=128",
    "training.learning_rate=5e-3",
    "training.anneal=linear",
    "training.ema_rates=[0.99]",
    "training.precision=float32",
    "training.log_every=175",
    "training.preview_every=0",
    "training.validate_every=0",
    "diffusion.predicts=v",
]
run = iddpm.train(data, network=network, out="runs/ring", settings=SETTINGS)

# %% [markdown]
# `run.sample` takes the number of evaluations, the sampler and the spacing by name. `spacing="fitted"` measures the run's own trajectories once and
# then chooses timesteps for any number of evaluations, so that long steps lie where the trajectories are straight. The result is kept in the run.

# %%
METHODS = (
    ("ddpm", "even"),
    ("ddim", "even"),
    ("ipndm", "karras"),
    ("ipndm", "fitted"),
    ("unipc_2", "log_snr"),
    ("unipc_2", "fitted"),
)
trained = {}
for evaluations in (5, 10, 20):
    for sampler, spacing in METHODS:
        x = run.sample(COUNT, steps=evaluations, sampler=sampler, spacing=spacing, batch_size=COUNT)
        trained[sampler, spacing, evaluations] = quality(x)
print(f"{'spread (strays)':20}" + "".join(f"{n:>16}" for n in (5, 10, 20)) + "  evaluations")
for sampler, spacing in METHODS:
    cells = [trained[sampler, spacing, n] for n in (5, 10, 20)]
    print(f"{sampler + ', ' + spacing:20}" + "".join(f"{s:9.3f} ({p:.1%})" for s, p in cells))
print("{:20}{:9.3f} ({:.1%})".format("real points", *quality(real)))
assert trained["ipndm", "fitted", 5][1] < trained["ipndm", "karras", 5][1]

# %% [markdown]
# With 20 evaluations all solvers of the ODE arrive at the same number, and it is not that of the real points: what remains is the error of this
# hastily trained network, which no sampler removes. With 5 evaluations the samplers differ, and the fitted timesteps help iPNDM.

# %% [markdown]
# ## 3. Tune
#
# No fixed rule is right for every network, because the best sampler depends on the network's own errors. `iddpm.tune` (on the command line `iddpm tune
# RUN`) draws samples with nine pairs of sampler and spacing, scores them by distance and diversity, and keeps the winner in the run. It replaces the
# usual choice only if it is better by more than the standard error. A real run needs 1,000 samples or more; here 300 must do.

# %%
tuned = iddpm.tune(run, iddpm.TuneRequest(n=300, evaluations=(5,)))
plan = run.plan(steps=5)
print(f"5 evaluations now use {plan.method.sampler}, {plan.method.spacing} (tuned: {plan.tuned})")
automatic = quality(run.sample(COUNT, steps=5, batch_size=COUNT))
print("spread {:.3f}, strays {:.1%}".format(*automatic))

# %% [markdown]
# ## 4. Distill
#
# `iddpm.distill` continues the training of a run with another goal: the estimates along a path shall all be its end. The model then maps noise to a sample
# in one evaluation; with 2 or 4 it adds noise again in between and improves. The result is a run of its own.
#
# It learns from the same data, so data in memory and an own network are given again.

# %%
few = iddpm.distill(
    "runs/ring",
    data,
    network=network,
    out="runs/few",
    settings=[
        "training.steps=250",
        "training.learning_rate=2e-3",
        "training.log_every=125",
        "training.validate_every=0",
        "training.preview_every=0",
    ],
)

# %%
student, teacher = {}, {}
for evaluations in (1, 2, 4):
    student[evaluations] = few.sample(COUNT, steps=evaluations, batch_size=COUNT)
for evaluations in (1, 2, 4, 20):
    teacher[evaluations] = run.sample(COUNT, steps=evaluations, batch_size=COUNT)
print(f"{'':14}{'distilled':>18}{'teacher':>18}")
for evaluations in (1, 2, 4, 20):
    cells = [
        "{:.3f} ({:.1%})".format(*quality(drawn[evaluations])) if evaluations in drawn else "-"
        for drawn in (student, teacher)
    ]
    print(f"{evaluations:>2} evaluations" + "".join(f"{cell:>18}" for cell in cells))

figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
for axis, evaluations in zip(axes[0], (1, 2, 4, 20), strict=True):
    scatter(axis, teacher[evaluations], f"teacher: {evaluations} evaluations")
for axis, evaluations in zip(axes[1], (1, 2, 4), strict=False):
    scatter(axis, student[evaluations], f"distilled: {evaluations} evaluations")
scatter(axes[1, 3], real, "real points")
plt.show()

# %% [markdown]
# With 2 evaluations the teacher draws nothing useful, and the distilled model does. With 1 it is nearer than the teacher, but not good yet:
# that takes longer than a few seconds. With 20 evaluations the teacher is still the better model. That is the trade: distill when every
# evaluation counts.
#
# A distilled model is a sampler and no longer a denoiser. It has no likelihood and takes no other sampler, and it says so.

# %%
assert quality(student[1])[0] < quality(teacher[1])[0]
assert quality(student[2])[1] < 0.6 * quality(teacher[2])[1]
for attempt in (lambda: few.sample(4, steps=3), lambda: few.sample(4, steps=2, sampler="ddim")):
    try:
        attempt()
    except ValueError as refusal:
        print(refusal)

os.chdir(started_in)
workspace.cleanup()

# %% [markdown]
# ## Where to go next
#
# - On pictures: `iddpm tune RUN` and `iddpm distill RUN`. [docs/sampling.md](../docs/sampling.md) lists all samplers and spacings, [docs/few_steps.md](../docs/few_steps.md) the method of
#   distillation, its settings, and what it refuses.
# - `--guidance W` of `iddpm distill` makes classifier-free guidance part of the distilled model, at no extra evaluations.
# - [benchmarks/samplers.md](../benchmarks/samplers.md) compares the samplers on MNIST with 5 to 100 evaluations; there the automatic choice from 5 on, `dpmpp_2m_sde`, is the best in every
#   column. [benchmarks/distillation.py](../benchmarks/distillation.py) distills a run and prints the distances at 1, 2 and 4 evaluations beside the teacher's.
# - Fewer steps also for the likelihood: `iddpm likelihood RUN --steps 32 --stride optimal` ([docs/likelihood.md](../docs/likelihood.md)).

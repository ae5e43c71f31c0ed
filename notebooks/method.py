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
# # The method, line by line
#
# `iddpm` implements *Improved Denoising Diffusion Probabilistic Models* (Nichol & Dhariwal 2021, arXiv 2102.09672) with the U-Net that the
# project's own notes describe. This page walks both, equation by equation. Beside each equation stands our code, and below it a number
# that supports or contradicts the claim.
#
# There are three kinds of numbers here:
#
# - **exact**: computed in the cell, in closed form or to the last digit;
# - **small**: measured in the cell on a perceptron that was trained for seconds on 8 x 8 digits. Such a number shows an effect, not its size
#   on large models;
# - **cited**: from a longer run in `benchmarks/`, with the command that prints it again.
#
# The table at the end lists every claim with its verdict.

# %%
import ast
import inspect
import math
import os
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import iddpm
from iddpm.diffusion import prediction, schedule, variational_bound
from iddpm.networks import UNet, blocks, checkpointing, layers

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 72, "font.size": 10})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})


def show(function):
    """Print the code of a function without its docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    body = ast.parse(source).body[0].body
    lines = source.splitlines()
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del lines[body[0].lineno - 1 : body[0].end_lineno]
    print("\n".join(lines))


claims = []  # source, claim, verdict, number

# %% [markdown]
# ## Part 1: the paper
#
# ### Equations 1, 2, 8, 9: adding noise
#
# $$q(x_t | x_{t-1}) = \mathcal{N}(\sqrt{1-\beta_t}\,x_{t-1}, \beta_t I), \qquad
# x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon, \qquad \bar\alpha_t = \prod_{s \le t} (1-\beta_s)$$
#
# The second form jumps to step $t$ at once. Check: apply the first form step by step to the mean and the variance of one value, and compare.

# %%
show(iddpm.GaussianDiffusion.q_sample)

cosine, linear = iddpm.cosine(1000), iddpm.linear(1000)
mean, variance = 1.0, 0.0
for beta in linear.betas.tolist():
    mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
last = linear.alpha_bar[-1].item()
print(f"\nafter 1,000 single steps: mean {mean:.9f}, variance {variance:.9f}")
print(f"in one step:              mean {math.sqrt(last):.9f}, variance {1 - last:.9f}")
assert math.isclose(mean, math.sqrt(last), rel_tol=1e-9)
assert math.isclose(variance, 1 - last, rel_tol=1e-9)

# %% [markdown]
# ### Equations 10 to 12: the posterior
#
# Given $x_0$, the step back is a Gaussian with
#
# $$\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t, \qquad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t} x_0
# + \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t} x_t$$
#
# Check: Bayes' rule on a fine grid, which knows nothing of these formulas.

# %%
show(prediction.posterior_coefficients)

t, x0, x_t = 300, 0.4, -0.7
grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
beta, before = cosine.betas[t], cosine.alpha_bar_prev[t]
log_density = -((x_t - (1 - beta).sqrt() * grid) ** 2) / (2 * beta)  # log q(x_t | x_{t-1})
log_density -= (grid - before.sqrt() * x0) ** 2 / (2 * (1 - before))  # + log q(x_{t-1} | x_0)
weights = log_density.softmax(dim=0)
by_bayes = (weights @ grid).item()
variance_by_bayes = (weights @ (grid - by_bayes) ** 2).item()

of_x0, of_x_t = prediction.posterior_coefficients(cosine.at(torch.tensor([t])))
by_formula = (of_x0 * x0 + of_x_t * x_t).item()
print(f"\nmean:     Bayes on a grid {by_bayes:.10f}, formula {by_formula:.10f}")
print(
    f"variance: Bayes on a grid {variance_by_bayes:.10f}, formula {cosine.posterior_variance[t]:.10f}"
)
assert math.isclose(by_bayes, by_formula, rel_tol=1e-7)
assert math.isclose(variance_by_bayes, cosine.posterior_variance[t].item(), rel_tol=1e-7)

# %% [markdown]
# ### Equations 4 to 7: the bound
#
# $$L_\text{vlb} = L_0 + L_1 + \dots + L_T, \quad L_0 = -\log p_\theta(x_0|x_1), \quad
# L_{t-1} = D_{KL}(q(x_{t-1}|x_t,x_0) \,\|\, p_\theta(x_{t-1}|x_t)), \quad L_T = D_{KL}(q(x_T|x_0) \,\|\, \mathcal{N}(0, I))$$
#
# For pictures $L_0$ is the probability of a *level*: the Gaussian is integrated over the bin of each of the 256 values. Check: these
# 256 probabilities add up to 1, for a narrow Gaussian as well as for a wide one.

# %%
show(variational_bound.vlb_term)

levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
for std in (0.001, 0.1, 1.0):
    decoder = iddpm.Gaussian(
        torch.full((256,), 0.3, dtype=torch.float64), torch.tensor(2 * math.log(std))
    )
    total = variational_bound.discretized_gaussian_log_likelihood(levels, decoder).exp().sum()
    print(f"std {std}: the probabilities of all levels add up to {total:.12f}")
    assert abs(total - 1) < 1e-9

# %% [markdown]
# ### Section 3.1: which variance? $\beta$ and $\tilde\beta$ as bounds
#
# Ho et al. fixed the variance of the reverse step to $\beta_t$ or to $\tilde\beta_t$. The paper calls them the upper and the lower bound, and
# observes that they are nearly equal except close to $t = 0$. It interpolates between their logarithms (equation 15):
#
# $$\Sigma_\theta = \exp(v \log \beta_t + (1-v) \log \tilde\beta_t)$$
#
# Check, in closed form: let the data be Gaussian with standard deviation $s$ in every dimension. Then the best variance is
# $\tilde\beta_t + c_t^2 V_t$, where $c_t$ is the coefficient of $x_0$ above and $V_t$ the variance of $x_0$ given $x_t$.
# It follows which $v$ the network has to find.

# %%
show(iddpm.GaussianDiffusion.log_variance)


def best_variance(steps, s):
    """Return the best variance of each reverse step for Gaussian data of standard deviation s."""
    a = steps.alpha_bar
    of_x0, _ = prediction.posterior_coefficients(steps.at(torch.arange(len(steps))))
    return steps.posterior_variance + of_x0**2 * s**2 * (1 - a) / (a * s**2 + 1 - a)


inside = slice(1, None)  # without step 0, where the lower bound is 0
low, high = cosine.posterior_variance[inside], cosine.betas[inside]
assert torch.allclose(best_variance(cosine, 0.0)[inside], low)  # a single point: the lower bound
assert torch.allclose(best_variance(cosine, 1.0)[inside], high)  # unit variance: the upper bound
spreads = (0.01, 0.1, 0.5, 0.9)
wanted_v = {s: (best_variance(cosine, s)[inside] / low).log() / (high / low).log() for s in spreads}
assert all(((v > 0) & (v < 1)).all() for v in wanted_v.values())
close = (low / high > 0.95).double().mean().item()
print(f"\nstep 1: lower / upper bound = {low[0] / high[0]:.3f}")
print(f"they differ by less than 5 % at {close:.1%} of the steps")
claims.append(
    ("paper 3.1", "beta and beta-tilde are bounds", "holds (exact)", "s = 1 and s = 0 reach them")
)
claims.append(
    (
        "paper 3.1",
        "they are nearly equal",
        "holds (exact)",
        f"within 5 % at {close:.0%} of the steps",
    )
)

figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
for steps in (100, 1000, 4000):
    made = iddpm.cosine(steps)
    share = torch.arange(1, steps) / steps
    axes[0].plot(share, made.posterior_variance[1:] / made.betas[1:], label=f"T = {steps}")
axes[0].set(xlabel="t / T", xscale="log", title="lower bound / upper bound (cosine)")
axes[0].legend()
for s, v in wanted_v.items():
    axes[1].plot(torch.arange(1, 1000), v, label=f"data of std {s}")
axes[1].set(xlabel="t", xscale="log", title="the v that is best for Gaussian data")
axes[1].legend()
plt.show()

# %% [markdown]
# ### What the right variance is worth, and section 4: fewer steps
#
# If both bounds are nearly equal, why learn anything between them? The paper's answer: samples do not change much, but the *likelihood* does,
# and with fewer steps the bounds move apart. Sampling on a subset $S$ of the steps needs no new training (equation 19):
#
# $$\beta_{S_t} = 1 - \frac{\bar\alpha_{S_t}}{\bar\alpha_{S_{t-1}}}, \qquad
# \tilde\beta_{S_t} = \frac{1-\bar\alpha_{S_{t-1}}}{1-\bar\alpha_{S_t}}\beta_{S_t}$$
#
# Our schedule is a value, and `respace` returns another one. For Gaussian data ($s = 0.5$) and a perfect mean, the excess of the bound over the
# true entropy and the standard deviation of the samples have closed forms. We compute both, and compare one column with the
# code that measures and samples real models.


# %%
show(iddpm.NoiseSchedule.betas.func)
show(iddpm.NoiseSchedule.posterior_variance.func)

S = 0.5


def exact_denoiser(kind):
    """Return the perfect model of the Gaussian data, with the best variance for kind="learned"."""

    def denoise(x_t, level, **_):
        shape = (-1, *[1] * (x_t.dim() - 1))
        a, before = level.alpha_bar.view(shape), level.alpha_bar_prev.view(shape)
        unknown = S**2 * (1 - a) / (a * S**2 + 1 - a)  # variance of x0 given x_t
        x0 = a.sqrt() * S**2 / (a * S**2 + 1 - a) * x_t
        eps = (x_t - a.sqrt() * x0) / (1 - a).sqrt()
        beta = 1 - a / before
        best = beta * (1 - before) / (1 - a) + before * (beta / (1 - a)) ** 2 * unknown
        return iddpm.Prediction(x0=x0, eps=eps, variance=best.log(), variance_kind=kind)

    return denoise


def log_variances(steps, kind):
    if kind == "learned":
        return best_variance(steps, S).log()
    return steps.posterior_log_variance if kind == "fixed_small" else steps.large_log_variance


def excess_of_bound(steps, kind):
    """Return the bound minus the entropy of the data, in bits per dimension."""
    a, chosen = steps.alpha_bar, log_variances(steps, kind).exp()
    best, true = best_variance(steps, S), steps.posterior_variance
    kl = 0.5 * ((chosen[1:] / true[1:]).log() + best[1:] / chosen[1:] - 1)
    decoder = 0.5 * ((2 * math.pi * chosen[0]).log() + best[0] / chosen[0])
    prior = 0.5 * (a[-1] * (S**2 - 1) - (1 - a[-1]).log())
    entropy = 0.5 * math.log(2 * math.pi * math.e * S**2)
    return (kl.sum() + decoder + prior - entropy).item() / math.log(2)


def std_of_samples(steps, kind):
    """Return the standard deviation of ancestral samples."""
    a, chosen = steps.alpha_bar, log_variances(steps, kind).exp()
    of_x0, of_x_t = prediction.posterior_coefficients(steps.at(torch.arange(len(steps))))
    gain = of_x0 * a.sqrt() * S**2 / (a * S**2 + 1 - a) + of_x_t
    variance = 1.0
    for i in reversed(range(len(steps))):
        variance = gain[i] ** 2 * variance + (chosen[i] if i else 0)  # the last step adds no noise
    return variance.sqrt().item()


KINDS = {"fixed_small": "lower bound", "fixed_large": "upper bound", "learned": "best, learned"}
COUNTS = (5, 10, 25, 50, 100, 250, 1000)
spaced = {n: cosine.respace(iddpm.even_timesteps(1000, n)) for n in COUNTS}
for steps in spaced.values():
    assert torch.equal(steps.alpha_bar, cosine.alpha_bar[steps.index])  # the levels stay the same
excess = {kind: [excess_of_bound(spaced[n], kind) for n in COUNTS] for kind in KINDS}
stds = {kind: [std_of_samples(spaced[n], kind) for n in COUNTS] for kind in KINDS}
print(f"\n{'excess of the bound, bits/dim':32}" + "".join(f"{n:>9}" for n in COUNTS) + "  steps")
for kind, name in KINDS.items():
    print(f"{name:32}" + "".join(f"{v:9.4f}" for v in excess[kind]))
print(f"{'std of samples (data: 0.5)':32}")
for kind, name in KINDS.items():
    print(f"{name:32}" + "".join(f"{v:9.4f}" for v in stds[kind]))

# The same by the library's own code, with 25 steps and 20,000 values of Gaussian data
torch.manual_seed(0)
data = S * torch.randn(200, 1, 100, dtype=torch.float64)
entropy_bits = 0.5 * math.log2(2 * math.pi * math.e * S**2)
for kind in KINDS:
    diffusion, denoise = iddpm.GaussianDiffusion(spaced[25], variance=kind), exact_denoiser(kind)
    measured = iddpm.bits_per_dim(diffusion, denoise, data, clip=False, bits=None).total
    drawn = iddpm.sample(iddpm.DDPM(), denoise, spaced[25], torch.randn_like(data))
    here, error = measured.mean().item() - entropy_bits, measured.std().item() / 200**0.5
    print(
        f"{kind}: iddpm.bits_per_dim {here:.3f} +- {error:.3f}, std of iddpm.sample {drawn.std():.3f}"
    )
    assert abs(here - excess[kind][2]) < 5 * error
    assert abs(drawn.std().item() - stds[kind][2]) < 5 * S / (2 * 20_000) ** 0.5

small_25, large_25 = excess["fixed_small"][2], excess["fixed_large"][2]
assert abs(excess["learned"][2]) < 1e-9
claims.append(
    (
        "paper 3.1",
        "the variance decides the bound",
        "holds (exact)",
        f"25 steps: {small_25:.0f} and {large_25:.3f} bits/dim too many, best 0",
    )
)
claims.append(
    (
        "paper 4",
        "with few steps fixed variances draw wrong samples",
        "holds (exact)",
        f"std {stds['fixed_small'][1]:.3f}, {stds['fixed_large'][1]:.3f}, learned {stds['learned'][1]:.3f} at 10",
    )
)
figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
for kind, name in KINDS.items():
    axes[0].plot(COUNTS, excess[kind], "o-", label=name)
    axes[1].plot(COUNTS, stds[kind], "o-", label=name)
axes[0].set(xscale="log", xlabel="steps", title="excess of the bound, bits/dim (0 is best)")
axes[0].set_yscale("symlog", linthresh=0.01)
axes[1].axhline(S, color="0.7")
axes[1].set(xscale="log", xlabel="steps", title="standard deviation of samples (data: 0.5)")
axes[0].legend()
plt.show()

# %% [markdown]
# For Gaussian data the reverse step is a Gaussian too, so the best variance loses nothing at any number of steps. The lower bound is
# catastrophic with few steps, and its samples have too little spread. The upper bound errs on the other side.
#
# **Real digits, cited.** `python benchmarks/likelihood.py` on networks of 0.31 million parameters after 1,200 steps
# ([benchmarks/likelihood.md](../benchmarks/likelihood.md), bits/dim of held-out MNIST digits at even steps):
#
# | variance | 25 steps | 100 steps | 1000 steps |
# |---|---|---|---|
# | lower bound (`fixed_small`), loss `simple` | 16.28 | 3.95 | 2.17 |
# | upper bound (`fixed_large`), loss `simple` | 4.97 | 3.61 | 2.35 |
# | learned, loss `hybrid` | 3.88 | 2.35 | 2.05 |
#
# The order is that of the exact example. The paper also says that DDIM draws better pictures than ancestral sampling with fewer than 50
# steps. **Ours contradict that in part**: on a small network of MNIST ([benchmarks/samplers.md](../benchmarks/samplers.md), `python benchmarks/samplers_on_digits.py`, Frechet distance
# of classifier features, three seeds) DDIM is ahead with 5 evaluations, 10.04 against 10.32, and behind from 8 on: 6.58 against 6.35, and 3.77
# against 2.60 with 100.

# %%
claims.append(
    (
        "paper 4",
        "DDIM is better below 50 steps",
        "contradicted (cited)",
        "only at 5: benchmarks/samplers.md",
    )
)

# %% [markdown]
# ### Section 3.2, equation 17: the cosine schedule
#
# $$\bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\left(\frac{t/T+s}{1+s}\cdot\frac{\pi}{2}\right), \quad s = 0.008,
# \quad \beta_t \le 0.999$$
#
# The claims: the linear schedule destroys information too early, so that its last steps do little; $s$ is chosen so that
# $\sqrt{\beta_0}$ is slightly smaller than the bin of a pixel, 1 / 127.5; and the cap concerns only the end.
#
# How much does $x_t$ still tell about $x_0$? For Gaussian data the mutual information is $\frac12\log_2(1 + s^2\,\text{SNR}_t)$ bits per value.

# %%
show(schedule.cosine)


def information(steps):
    return 0.5 * torch.log2(1 + S**2 * steps.alpha_bar / (1 - steps.alpha_bar))


idle = {}
for name, steps in (("linear", linear), ("cosine", cosine)):
    idle[name] = (information(steps) < 0.01).double().mean().item()
    print(f"{name}: {idle[name]:.1%} of the steps know less than 0.01 bits about the data")
root = cosine.betas[0].sqrt().item()
capped = {n: int((iddpm.cosine(n).betas > 0.9985).sum()) for n in (100, 1000, 4000)}
print(f"sqrt(beta_0) = {root:.5f}, a bin is {1 / 127.5:.5f}")
print(f"capped betas by T: {capped}")
assert 0.5 < root * 127.5 < 1
assert set(capped.values()) == {1}
assert idle["linear"] > 2 * idle["cosine"]
claims.append(
    (
        "paper 3.2",
        "linear wastes its last steps",
        "holds (exact)",
        f"{idle['linear']:.0%} idle steps, cosine {idle['cosine']:.0%}",
    )
)
claims.append(
    (
        "paper 3.2",
        "sqrt(beta_0) is just below a bin",
        "holds (exact)",
        f"{root * 127.5:.2f} bins at T = 1000",
    )
)

figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
for name, steps in (("linear", linear), ("cosine", cosine)):
    axes[0].plot(steps.alpha_bar, label=name)
    axes[1].plot(information(steps), label=name)
axes[0].set(title="remaining share of the signal's variance", xlabel="t")
axes[1].axhline(0.01, color="0.7")
axes[1].set(
    title="information about the data, bits per value", xlabel="t", yscale="log", ylim=(1e-5, 10)
)
axes[0].legend()
plt.show()

# %% [markdown]
# ### Equations 14 and 16: the simple and the hybrid loss
#
# $$L_\text{simple} = E\,\|\epsilon - \epsilon_\theta(x_t, t)\|^2, \qquad
# L_\text{hybrid} = L_\text{simple} + \lambda L_\text{vlb}, \qquad \lambda = 0.001$$
#
# In $L_\text{vlb}$ of the hybrid loss, the gradient to the mean is stopped: the bound only trains the variance. Our term of the bound is for one
# random $t$, so it is multiplied by $T$ to estimate the sum.
#
# Check, to the last bit: the gradient of the channels of the mean is that of `simple`; the gradient of the channels of the
# variance is $\lambda$ times that of `vlb`.

# %%
show(iddpm.hybrid)


class TwoHeads(nn.Module):
    """One weight for the mean, one for the variance."""

    def __init__(self):
        super().__init__()
        self.mean, self.variance = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, timesteps):
        return torch.cat([self.mean(x), self.variance(x)], dim=1)


torch.manual_seed(0)
heads = TwoHeads()
denoiser = iddpm.Denoiser(heads, iddpm.GaussianDiffusion(cosine, "learned_range"), predicts="eps")
batch, noise = torch.rand(8, 1, 8, 8) * 2 - 1, torch.randn(8, 1, 8, 8)
steps = torch.randint(1000, (8,))
gradients = {}
for loss in (iddpm.simple, iddpm.vlb, iddpm.hybrid):
    heads.zero_grad()
    loss(denoiser, batch, steps, noise).loss.mean().backward()
    gradients[loss.__name__] = [
        None if head.weight.grad is None else head.weight.grad.clone()
        for head in (heads.mean, heads.variance)
    ]
same_mean = torch.equal(gradients["hybrid"][0], gradients["simple"][0])
ratio = (gradients["hybrid"][1] / gradients["vlb"][1]).flatten()
print(f"\ngradient of the mean as in simple, bit for bit: {same_mean}")
print(f"gradient of the variance: {ratio.min():.6f} to {ratio.max():.6f} of that of vlb")
assert same_mean
assert torch.allclose(ratio, torch.full_like(ratio, 0.001), rtol=1e-4)
assert not torch.equal(gradients["vlb"][0], gradients["simple"][0])
claims.append(
    (
        "paper 3.1",
        "in hybrid the bound trains the variance alone",
        "holds (exact)",
        "gradients are bit-equal",
    )
)

# %% [markdown]
# **What the losses give, cited.** The same network with each loss ([benchmarks/likelihood.md](../benchmarks/likelihood.md), "By loss", with the command; 1,000 steps, held-out
# digits): `simple` 2.170, `hybrid` 2.048, `vlb` 1.599 bits/dim. The order is the paper's.
#
# The paper also finds pictures of `hybrid` about as good as those of `simple`. **With a network that predicts $x_0$ this is not so** after a
# short training ([docs/choosing.md](../docs/choosing.md), `python benchmarks/predictions.py --steps 300`): the background of digits is off by 0.219 with `hybrid` and by 0.023
# with `simple`; with `v` and `hybrid` it is 0.027.

# %%
claims.append(
    (
        "paper 3.1",
        "likelihood: vlb, then hybrid, then simple",
        "holds (cited)",
        "1.60, 2.05, 2.17 bits/dim",
    )
)
claims.append(
    (
        "paper 3.1",
        "hybrid draws as well as simple",
        "contradicted for x0 (cited)",
        "background off by 0.219, simple 0.023",
    )
)

# %% [markdown]
# ### Section 3.3, equation 18: importance sampling of timesteps
#
# $$L_\text{vlb} = E_{t \sim p_t}\left[\frac{L_t}{p_t}\right], \qquad p_t \propto \sqrt{E[L_t^2]}$$
#
# The bound is hard to train because its terms differ by orders of magnitude, so its gradient is noisy. Drawing $t$ in proportion to the
# size of its term, and dividing by the probability, leaves the mean and lowers the noise. For the hybrid loss the paper found no benefit.
#
# We train a perceptron on real digits for seconds, then measure its gradient over many batches with both ways of drawing $t$. *Noise* is the total
# variance of a batch's gradient.

# %%
show(iddpm.LossSecondMomentTimesteps.probabilities)


class Perceptron(nn.Module):
    def __init__(self, width=192):
        super().__init__()
        self.pixels, self.time = nn.Linear(64, width), nn.Linear(32, width)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 128)
        self.register_buffer("frequencies", torch.logspace(0, -4, 16))

    def forward(self, x, timesteps):
        angles = timesteps[:, None] * self.frequencies
        h = F.silu(
            self.pixels(x.flatten(1)) + self.time(torch.cat([angles.cos(), angles.sin()], 1))
        )
        return self.out(h + F.silu(self.hidden(h))).unflatten(1, (2, 8, 8))


started_in = Path.cwd()
workspace = tempfile.TemporaryDirectory()
os.chdir(workspace.name)
torch.manual_seed(0)
run = iddpm.train(
    "digits",
    network=Perceptron(),
    out="runs/digits",
    settings=[
        "training.steps=200",
        "training.batch_size=64",
        "training.learning_rate=3e-3",
        "training.ema_rates=[0.99]",
        "training.precision=float32",
        "training.log_every=100",
        "training.preview_every=0",
        "training.validate_every=0",
        "diffusion.predicts=v",
    ],
)
source, kept, _ = run.open_split()
digits = torch.from_numpy(source.read_many(kept)).float() / 127.5 - 1
denoiser = run.denoiser.requires_grad_(True)
os.chdir(started_in)
workspace.cleanup()

# %%
generator = torch.Generator().manual_seed(1)


def batch_for(t):
    picked = torch.randint(len(digits), (len(t),), generator=generator)
    return digits[picked], t, torch.randn(len(t), 1, 8, 8, generator=generator)


LOSSES = {"vlb": iddpm.vlb, "hybrid": iddpm.hybrid}
HISTORY, BATCHES = 10, 48
noise_of, probability = {}, {}
for name, loss in LOSSES.items():
    sampler = iddpm.LossSecondMomentTimesteps(1000, history=HISTORY)
    with torch.no_grad():
        every = torch.arange(1000).repeat(HISTORY)
        sampler.update(every, loss(denoiser, *batch_for(every)).loss)
    probability[name] = sampler.probabilities()
    random = np.random.default_rng(0)
    for way, chosen in (("uniform", iddpm.UniformTimesteps(1000)), ("importance", sampler)):
        found = []
        for _ in range(BATCHES):
            t, weights = chosen.sample(random.random(64))
            value = (loss(denoiser, *batch_for(t)).loss * weights).mean()
            pieces = torch.autograd.grad(value, list(denoiser.parameters()))
            found.append(torch.cat([piece.flatten() for piece in pieces]))
        stacked = torch.stack(found)
        noise_of[name, way] = stacked.var(dim=0).sum().item()
    with torch.no_grad():
        terms = loss(denoiser, *batch_for(every)).loss.reshape(HISTORY, 1000).mean(0)
    if name == "vlb":
        first = (terms[:10].sum() / terms.sum()).item()
gain = {name: noise_of[name, "uniform"] / noise_of[name, "importance"] for name in LOSSES}
print(f"the first 1 % of the steps has {first:.0%} of the bound")
for name in LOSSES:
    print(
        f"{name}: uniform t gives {gain[name]:.1f} times the gradient noise of importance sampling"
    )
assert gain["vlb"] > 2
assert gain["vlb"] > 2 * gain["hybrid"]
claims.append(
    (
        "paper 3.3",
        "importance sampling lowers the noise of vlb",
        "holds (small)",
        f"{gain['vlb']:.0f} times less",
    )
)
claims.append(
    (
        "paper 3.3",
        "it does not help hybrid",
        "holds (small)",
        f"noise changes {1 / gain['hybrid']:.2f} times",
    )
)

figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
with torch.no_grad():
    terms = iddpm.vlb(denoiser, *batch_for(every)).loss.reshape(HISTORY, 1000).mean(0) / 1000
axes[0].plot(np.arange(1, 1001), terms)
axes[0].set(xscale="log", yscale="log", xlabel="t", title="terms of the bound, bits/dim")
for name, p in probability.items():
    axes[1].plot(np.arange(1, 1001), p, label=name)
axes[1].axhline(1e-3, color="0.7", label="uniform")
axes[1].set(xscale="log", yscale="log", xlabel="t", title="probability of t by importance")
axes[1].legend()
plt.show()

# %% [markdown]
# ## Part 2: the notes on the network
#
# The notes explain the U-Net of the published code and where the project departs from it. [Inside the network](network.py) looks at the
# same blocks in depth; here each claim is only put to the test.
#
# ### Notes 1: transposed convolution instead of nearest neighbor and convolution
#
# The notes prefer the transposed convolution for three reasons: it can express more, it loses less information, and the code is simpler.
#
# Nearest neighbor and a 3 x 3 convolution *is* a transposed convolution with a 4 x 4 kernel, whose 16 numbers are sums of the 9. So the first reason
# holds exactly. The second does not: nearest neighbor repeats values, and every second pixel of the result is the input.

# %%
show(blocks.Upsample.forward)

torch.manual_seed(0)
small = torch.randn(2, 3, 6, 6, dtype=torch.float64)
weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
by_nearest = F.conv2d(F.interpolate(small, scale_factor=2), weight, padding=1)
# Each weight, flipped, meets the 2 x 2 copies of an input: a full correlation with ones of 2 x 2
four = F.conv2d(weight.flip(2, 3), torch.ones(3, 1, 2, 2, dtype=torch.float64), padding=1, groups=3)
by_transposed = F.conv_transpose2d(small, four.transpose(0, 1), stride=2, padding=1)
worst = (by_nearest - by_transposed).abs().max().item()
rank = torch.linalg.matrix_rank(torch.stack([
    F.conv2d(one.view(1, 1, 3, 3), torch.ones(1, 1, 2, 2), padding=1).flatten() for one in torch.eye(9)
])).item()  # fmt: skip
print(f"\nthe same transposed convolution: largest difference {worst:.1e}")
print(f"free numbers per pair of channels: nearest + convolution {rank}, transposed 16")
print(f"products per output pixel: nearest + convolution 9, transposed {16 // 4}")
assert worst < 1e-12
assert torch.equal(F.interpolate(small, scale_factor=2)[..., ::2, ::2], small)  # nothing is lost
claims.append(
    (
        "notes 1",
        "transposed convolution expresses more",
        "holds (exact)",
        "16 free numbers, nearest + conv 9",
    )
)
claims.append(
    (
        "notes 1",
        "nearest neighbor loses information",
        "contradicted (exact)",
        "every second pixel is the input",
    )
)

# %% [markdown]
# Does it draw better pictures? **Cited**: `python benchmarks/upsampling.py` ([benchmarks/upsampling.md](../benchmarks/upsampling.md)) trains the same network with each kind
# for 200 steps on MNIST, with three seeds. The picture shows its means and standard errors. Nearest + convolution is ahead in bits/dim, by two standard errors; the
# distances agree. Longer trainings were not measured. The transposed convolution stays our default because it is the design of the project.

# %%
measured = {  # bits/dim, Frechet distance: mean and standard error, benchmarks/upsampling.md
    "transposed,\nsmooth start": (2.888, 0.025, 28.730, 1.000),
    "transposed,\nplain start": (2.920, 0.022, 29.279, 0.747),
    "nearest +\nconvolution": (2.811, 0.028, 28.799, 0.635),
    "nearest\nalone": (2.883, 0.055, 29.452, 0.509),
}
figure, axes = plt.subplots(1, 2, figsize=(12, 3), layout="constrained")
for axis, column, title in ((axes[0], 0, "held-out bits/dim"), (axes[1], 2, "Frechet distance")):
    values = [row[column] for row in measured.values()]
    errors = [row[column + 1] for row in measured.values()]
    axis.errorbar(list(measured), values, errors, fmt="o", capsize=4)
    axis.set(title=title + " (200 steps, lower is better)", xlim=(-0.5, 3.5))
plt.show()
apart = (2.888 - 2.811) / math.hypot(0.025, 0.028)
print(f"nearest + convolution is ahead by {apart:.1f} standard errors")
claims.append(
    (
        "notes 1",
        "transposed convolution is better for generation",
        "not seen (cited)",
        "2.89 against 2.81 bits/dim",
    )
)

# %% [markdown]
# ### Notes 2: downsampling, the stride of a volume, and the channels of the variance
#
# The kernel is 3, or an average is taken. A volume `[N, C, D, H, W]` has the stride (1, 2, 2): the depth stays. With a learned variance the output
# has twice the channels: 6 for RGB, 3 for the mean and 3 for the variance.

# %%
show(blocks.default_stride)
volume = torch.randn(1, 4, 5, 16, 12)
for kind in ("conv", "avg_pool"):
    halved = blocks.Downsample(4, dims=3, kind=kind)(volume)
    print(f"{kind}: {tuple(volume.shape)} -> {tuple(halved.shape)}")
    assert halved.shape == (1, 4, 5, 8, 6)

tiny = UNet(
    in_channels=3,
    out_channels=6,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_downsampling=(),
)
rgb = iddpm.Denoiser(tiny, iddpm.GaussianDiffusion(cosine, "learned_range"), predicts="eps")
with torch.no_grad():
    answer = rgb(torch.randn(1, 3, 8, 8), cosine.at(torch.tensor([500])))
print(
    f"estimate of the noise {tuple(answer.eps.shape)}, variance channels {tuple(answer.variance.shape)}"
)
assert answer.eps.shape == answer.variance.shape == (1, 3, 8, 8)
claims.append(
    ("notes 2", "6 output channels for RGB, depth stays", "holds (exact)", "shapes above")
)

# %% [markdown]
# ### Notes 3.1: FiLM, scale and shift
#
# `h = out_norm(h) * (1 + scale) + shift` instead of `h = h + emb`. Two claims: the 1 keeps the features alive at the start; and scale and shift
# control more than an addition does.
#
# The second has a sharp case. An added value is one constant per channel, *before* the normalization. Where each group of the
# normalization has one channel (widths up to 32), the normalization subtracts that constant again: the block cannot see the time at all.
# (`model.group_channels=4` avoids groups of one channel.)

# %%
show(blocks.ResBlock._forward)

torch.manual_seed(0)
h, first_time, second_time = torch.randn(4, 32, 8, 8), torch.randn(4, 128), torch.randn(4, 128)
moved = {}
for film in (False, True):
    for width in (32, 128):
        block = blocks.ResBlock(32, 128, out_channels=width, use_scale_shift_norm=film)
        block.out_layers[
            3
        ].reset_parameters()  # PyTorch's start instead of zeros, to see a difference
        with torch.no_grad():
            a, b = block(h, first_time), block(h, second_time)
        moved[film, width] = ((a - b).std() / a.std()).item()
        name = "FiLM" if film else "addition"
        print(
            f"{name}, {width} channels: another time changes the output by {moved[film, width]:.1e} of its size"
        )
assert moved[False, 32] < 1e-5
assert min(moved[True, 32], moved[True, 128], moved[False, 128]) > 1e-2

block = blocks.ResBlock(32, 128, use_scale_shift_norm=True)
with torch.no_grad():
    scale, _ = block.emb_layers(first_time).chunk(2, dim=1)
print(
    f"at the start, |scale| is {scale.abs().mean():.2f} on average: without the 1, features would shrink to that"
)
assert scale.abs().mean() < 0.5
claims.append(
    (
        "notes 3.1",
        "FiLM controls more than addition",
        "holds (exact)",
        "at 32 channels an added time has no effect",
    )
)
claims.append(
    (
        "notes 3.1",
        "1 + scale keeps features at the start",
        "holds (exact)",
        f"|scale| is {scale.abs().mean():.2f}",
    )
)

# %% [markdown]
# ### Notes 3.2: a zeroed layer is zeroed once
#
# `zero_module` runs in the constructor. A block is then the identity, and its last convolution learns from the first step on, because the gradient of
# a weight is its input times the gradient above it, and the weight itself is not in that product.

# %%
show(layers.zero_module)

block = blocks.ResBlock(32, 128, use_scale_shift_norm=True)
assert torch.equal(block(h, first_time), h)  # the identity, bit for bit
optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
for number in range(2):
    optimizer.zero_grad()
    F.mse_loss(block(h, first_time), h.roll(1, dims=-1)).backward()
    zeroed, before_it = (block.out_layers[3].weight.grad, block.in_layers[2].weight.grad)
    print(
        f"pass {number}: gradient of the zeroed layer {zeroed.norm():.1e}, of a layer before it {before_it.norm():.1e}"
    )
    assert zeroed.norm() > 0
    assert (before_it.norm() > 0) == (number > 0)
    optimizer.step()
claims.append(
    (
        "notes 3.2",
        "a zeroed layer learns",
        "holds (exact)",
        "from pass 0; layers before it from pass 1",
    )
)

# %% [markdown]
# ### Notes 3.3: gradient checkpointing takes the parameters
#
# The notes replace the wrapper by a plain condition and `CheckpointFunction.apply(...)`, and pass `self.parameters()` too, so that autograd does not lose
# them. Check: the same function with and without the parameters.
#
# The notes also say that `parameters()` returns those that need a gradient. In fact it returns all; frozen ones are only skipped later.

# %%
show(blocks.ResBlock.forward)

block = blocks.ResBlock(32, 128, dropout=0.2, use_scale_shift_norm=True)
block.out_layers[3].reset_parameters()
x = h.clone().requires_grad_()
outcomes = {}
for way in ("plain", "with parameters", "without"):
    block.zero_grad()
    torch.manual_seed(3)  # the same dropout
    if way == "plain":
        out = block(x, first_time)
    else:
        passed = list(block.parameters()) if way == "with parameters" else []
        out = checkpointing.CheckpointFunction.apply(
            block._forward, 2, x.view_as(x), first_time, *passed
        )
    out.square().mean().backward()
    outcomes[way] = [p.grad for p in block.parameters()]
kept = {way: sum(g is not None for g in found) for way, found in outcomes.items()}
print(f"\nparameters with a gradient: {kept}")
assert kept["without"] == 0
assert all(map(torch.equal, outcomes["plain"], outcomes["with parameters"]))
block.in_layers[2].weight.requires_grad_(False)
assert any(not p.requires_grad for p in block.parameters())
claims.append(
    (
        "notes 3.3",
        "parameters must be passed to checkpointing",
        "holds (exact)",
        "without them no weight has a gradient",
    )
)
claims.append(
    (
        "notes 3.3",
        "parameters() returns those with gradients",
        "contradicted (exact)",
        "frozen ones too",
    )
)

# %% [markdown]
# With the parameters the gradients are those of the plain block, bit for bit, dropout included. What it saves, **cited**
# ([benchmarks/network.md](../benchmarks/network.md), `python benchmarks/checkpointing.py --rounds 3 --threads 1 --batch 4`): 64 MB are kept for the backward pass instead of 312, for 1.27
# times the time of a step.
#
# ### Notes 3.4 and 4: TimestepBlock and attention
#
# `TimestepBlock` is abstract, and a sequence hands the embedding only to its kind. The attention block starts as the identity, because its output
# projection is zeroed.

# %%
show(blocks.TimestepEmbedSequential.forward)

try:
    blocks.TimestepBlock()
except TypeError as error:
    print(f"\n{error}")
attention = blocks.AttentionBlock(32, num_heads=4)
sequence = blocks.TimestepEmbedSequential(blocks.ResBlock(32, 128), nn.SiLU(), attention)
with torch.no_grad():
    assert torch.equal(
        sequence(h, first_time), F.silu(h)
    )  # both blocks are the identity at the start
claims.append(("notes 3.4, 4", "blocks start as the identity", "holds (exact)", "bit for bit"))

# %% [markdown]
# ## All claims

# %%
width = max(len(claim) for _, claim, _, _ in claims)
for where, claim, verdict, number in claims:
    print(f"{where:13} {claim:{width}}  {verdict:31} {number}")
assert sum("contradicted" in verdict or "not" in verdict for _, _, verdict, _ in claims) == 5

# %% [markdown]
# ## Where to go next
#
# - [Inside the network](network.py): the blocks in depth, with checkerboards, FiLM as a per-noise-level filter, and volumes.
# - [docs/training.md](../docs/training.md): all predictions, losses, weightings and schedules; [docs/likelihood.md](../docs/likelihood.md): how the bound is measured.
# - [docs/choosing.md](../docs/choosing.md): which settings to use, with the measurements.
# - [Few steps](few_steps.py): samplers and distillation, for 1 to 20 evaluations.

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
# # Inside the network · 网络内部
#
# Five questions about the blocks in `iddpm.networks`, each answered by running the code. Wherever a sentence claims
# a fact, the cell below it asserts it, so this notebook stops if it ever becomes untrue.
# `notebooks/network.py` is the source; after a change, regenerate `network.ipynb` with
#
# 关于 `iddpm.networks` 各模块的五个问题，全部靠运行代码来回答。凡是正文里下的结论，紧跟着的代码都会用断言验证；
# 哪天结论不成立了，笔记就跑不下去。源文件是 `notebooks/network.py`，改动之后用下面的命令重新生成 `network.ipynb`：
#
# ```
# OMP_NUM_THREADS=1 .venv/bin/python notebooks/regenerate.py network
# ```

# %%
import statistics
import time
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from iddpm.networks import UNet, blocks
from iddpm.networks.blocks import AttentionBlock, Downsample, ResBlock, Upsample
from iddpm.networks.checkpointing import CheckpointFunction
from iddpm.networks.layers import num_groups, timestep_embedding, zero_module

torch.set_num_threads(1)
plt.rcParams.update(
    {
        "figure.dpi": 72,
        "font.size": 10,
        "axes.spines.top": False,
        "image.interpolation": "nearest",
        "axes.spines.right": False,
    }
)

# %% [markdown]
# ## 1. A zeroed layer still learns · 清零的层为什么还能学
#
# `zero_module` is an ordinary function. It runs once, while the block is being built; what stays in the block is an
# ordinary convolution whose numbers happen to be zero. `forward` never calls it again.
#
# `zero_module` 只是一个普通函数：构造模块时执行一次就结束了，留在模块里的是一个普通的卷积层，
# 只不过参数的初值恰好都是零。之后的 `forward` 再也不会碰它。

# %%
torch.manual_seed(0)
with mock.patch.object(blocks, "zero_module", wraps=zero_module) as counted:
    block = ResBlock(32, 64, use_scale_shift_norm=True)
    calls_to_build = counted.call_count
    for _ in range(100):
        block(torch.randn(1, 32, 8, 8), torch.randn(1, 64))
    calls_after_100_forwards = counted.call_count

print(
    f"zero_module: {calls_to_build} call to build, {calls_after_100_forwards} after 100 forward passes"
)
print(block.out_layers)
assert calls_to_build == calls_after_100_forwards == 1
assert isinstance(block.out_layers[3], nn.Conv2d)
assert not block.out_layers[3].weight.any()

# %% [markdown]
# The first backward pass. Let the zeroed convolution be $y = W * a$ with $W = 0$, and let $g$ be the gradient that
# arrives at $y$.
#
# - Its **weight** gets $a$ correlated with $g$: *input × upstream gradient*. $W$ does not occur in it, and neither
#   $a$ nor $g$ is zero, so the weight moves.
# - Its **input** gets $W^\top g$, which is exactly zero. So everything before it gets nothing, this one time.
#
# 第一次反向传播。设被清零的卷积为 $y = W * a$，其中 $W = 0$，从后面传到 $y$ 的梯度是 $g$。
#
# - **权重**的梯度是 $a$ 与 $g$ 的相关，也就是“输入 × 上游梯度”。式子里没有 $W$，而 $a$ 和 $g$ 都不为零，所以权重会动。
# - **输入**的梯度是 $W^\top g$，严格等于零。因此在它之前的所有层，这一次什么也收不到，但也只有这一次。

# %%
x, emb = torch.randn(8, 32, 12, 12), torch.randn(8, 64)
target = F.avg_pool2d(x, 3, stride=1, padding=1)  # something to learn: blur the input
zeroed = block.out_layers[3]
seen = {}


def watch(module, inputs, output):
    """Keep the zeroed convolution's input and output, and their gradients."""
    seen["a"], seen["y"] = inputs[0], output
    if inputs[0].requires_grad:
        inputs[0].retain_grad()
        output.retain_grad()


hook = zeroed.register_forward_hook(watch)
F.mse_loss(block(x, emb), target).backward()
a, g = seen["a"].detach(), seen["y"].grad

input_times_upstream = torch.nn.grad.conv2d_weight(a, zeroed.weight.shape, g, padding=1)
torch.testing.assert_close(zeroed.weight.grad, input_times_upstream)
assert zeroed.weight.grad.norm() > 0
assert not seen["a"].grad.any()
for name, parameter in block.named_parameters():
    assert bool(parameter.grad.any()) == name.startswith("out_layers.3."), name
print(
    f"gradient of the zeroed weight: {zeroed.weight.grad.norm():.2e}; of its input: {seen['a'].grad.norm():.0f}"
)

# %% [markdown]
# One optimizer step makes $W \neq 0$, so from the second pass on the gradient goes through to the layers before it.
# The same happens in a whole U-Net, whose very last convolution is zeroed too: first only this one learns,
# then whatever reaches it without crossing another zeroed layer (skip connections, resizing convolutions, and the zeroed
# convolutions of the blocks themselves), then the inside of those blocks.
#
# 优化器走一步之后 $W \neq 0$，从第二次反向传播开始，梯度就能穿过它到达前面的层。
# 整个 U-Net 里也是同样的一道“波”：最末端的卷积同样被清零，所以先是只有它自己在学；接着是不经过别的清零层就能到达它的那些层
# （跳连、上下采样的卷积，以及各个块里被清零的卷积自己）；再下一步才轮到这些块的内部。

# %%
watched = {
    "zeroed convolution (out_layers.3)": zeroed.weight,
    "norm before it (out_layers.0)": block.out_layers[0].weight,
    "first convolution (in_layers.2)": block.in_layers[2].weight,
    "embedding (emb_layers.1)": block.emb_layers[1].weight,
}
norms = {name: [] for name in ["input of the zeroed convolution", *watched]}
optimizer = torch.optim.Adam(block.parameters(), lr=2e-3)
losses = []
for _ in range(40):
    optimizer.zero_grad()
    loss = F.mse_loss(block(x, emb), target)
    loss.backward()
    losses.append(loss.item())
    norms["input of the zeroed convolution"].append(seen["a"].grad.norm().item())
    for name, parameter in watched.items():
        norms[name].append(parameter.grad.norm().item())
    optimizer.step()
hook.remove()

for name, values in norms.items():
    first = "zeroed convolution (out_layers.3)"
    assert (values[0] > 0) == (name == first), name
    assert min(values[1:]) > 0, name
assert losses[-1] < 0.6 * losses[0]

torch.manual_seed(0)
unet = UNet(
    in_channels=1,
    out_channels=1,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_downsampling=(2,),
)
images, times = torch.randn(4, 1, 8, 8), torch.tensor([1, 20, 300, 900])
optimizer = torch.optim.Adam(unet.parameters(), lr=1e-3)
woken = {}  # parameter -> the pass in which its gradient was first not zero
for step in range(4):
    optimizer.zero_grad()
    F.mse_loss(unet(images, times), torch.randn(4, 1, 8, 8)).backward()
    for name, parameter in unet.named_parameters():
        if parameter.grad.any():
            woken.setdefault(name, step)
    optimizer.step()

assert {name for name, step in woken.items() if step == 0} == {"out.2.weight", "out.2.bias"}
zeroed_inside = [n for n in woken if n.endswith(("out_layers.3.weight", "proj_out.weight"))]
assert {woken[name] for name in zeroed_inside} == {1}
assert {woken[name] for name in woken if "in_layers" in name or "qkv.weight" in name} == {2}
assert woken.keys() == dict(unet.named_parameters()).keys()
waves = [sum(step == s for step in woken.values()) for s in range(4)]
print(
    f"U-Net: {waves[0]} tensors learn from pass 0, {waves[1]} more from pass 1, {waves[2]} more from pass 2"
)
print(f"residual block: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")

FLOOR = 1e-7  # where zero is drawn, on a logarithmic axis
figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for name, values in norms.items():
    axes[0].plot([max(v, FLOOR) for v in values[:12]], "o-", ms=4, label=name)
axes[0].axhline(FLOOR, color="0.7", lw=0.8)
axes[0].text(11, FLOOR * 1.3, "exactly 0", ha="right", color="0.4")
axes[0].set(
    yscale="log", xlabel="backward pass", ylabel="norm of the gradient", title="One residual block"
)
axes[0].legend(fontsize=8, loc="center right", bbox_to_anchor=(1, 0.35))
order = [name for name, _ in unet.named_parameters()]
kinds = {"zeroed convolutions": [], "everything else": []}
for i, name in enumerate(order):
    is_zeroed = name.startswith("out.2.") or "out_layers.3." in name or "proj_out" in name
    kinds["zeroed convolutions" if is_zeroed else "everything else"].append((i, woken[name]))
for (label, points), style in zip(kinds.items(), ("rs", "b."), strict=True):
    axes[1].plot(*zip(*points, strict=True), style, ms=5, label=label)
axes[1].set(
    yticks=range(3), xlabel="parameter tensor, input side to output side",
    ylabel="first pass with a gradient", title="A whole U-Net",
)  # fmt: skip
axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(0, 0.25))
plt.show()

# %% [markdown]
# The benefit: with the last convolution at zero, $x + h(x) = x$. A stack of fresh residual blocks is the
# **identity**, bit for bit and however deep, and hands its gradient back unchanged. With PyTorch's usual random
# start the signal grows with depth instead.
#
# One thing does not work: **two zeroed layers in a row**. The second one's input is zero and the first one's upstream
# gradient is zero, so both products vanish forever.
#
# 这样做的好处：最后一个卷积为零时，$x + h(x) = x$。不管叠多少层，刚建好的残差块合起来就是**恒等映射**，
# 逐比特相等，梯度也原样传回。换成 PyTorch 默认的随机初始化，信号就会随深度一路变大。
#
# 有一种情况确实学不了：**两个清零的层直接相连**。后一层的输入是零，前一层的上游梯度是零，两个乘积都为零，永远动不了。

# %%
torch.manual_seed(0)
DEPTH = 48
zeroed_stack = [ResBlock(32, 64, dropout=0.3, use_scale_shift_norm=True) for _ in range(DEPTH)]
usual_stack = [ResBlock(32, 64, dropout=0.3, use_scale_shift_norm=True) for _ in range(DEPTH)]
for usual in usual_stack:
    usual.out_layers[3].reset_parameters()  # PyTorch's own random start

start = torch.randn(4, 32, 8, 8, requires_grad=True)
embedding = torch.randn(4, 64)


def pass_through(stack):
    """Return the last output and the standard deviation after every block."""
    h, spread = start, [start.std().item()]
    for layer in stack:
        h = layer(h, embedding)
        spread.append(h.std().item())
    return h, spread


last, spread_zeroed = pass_through(zeroed_stack)
upstream = torch.randn_like(last)
(back,) = torch.autograd.grad(last, start, upstream)
assert torch.equal(last, start)
assert torch.equal(back, upstream)
with torch.no_grad():
    _, spread_usual = pass_through(usual_stack)
assert spread_usual[-1] > 2 * spread_zeroed[-1]

pair = nn.Sequential(
    zero_module(nn.Conv2d(4, 4, 3, padding=1)), zero_module(nn.Conv2d(4, 4, 3, padding=1))
)
optimizer = torch.optim.Adam(pair.parameters(), lr=1e-2)
data, wanted = torch.randn(8, 4, 8, 8), torch.randn(8, 4, 8, 8)
for _ in range(50):
    optimizer.zero_grad()
    F.mse_loss(pair(data), wanted).backward()
    optimizer.step()
assert not pair[0].weight.any()
assert not pair[1].weight.any()
assert pair[1].bias.any()  # the last bias alone has a gradient, and learns the mean
print(
    f"after {DEPTH} blocks: std {spread_zeroed[-1]:.3f} zeroed (equal to the input), {spread_usual[-1]:.3f} usual"
)

figure, axis = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
axis.plot(spread_usual, label="usual random start")
axis.plot(spread_zeroed, label="last convolution zeroed: identity")
axis.set(
    xlabel="residual blocks passed",
    ylabel="standard deviation",
    title="The signal in an untrained stack",
    ylim=0,
)
axis.legend()
plt.show()

# %% [markdown]
# ## 2. What FiLM does · FiLM 做了什么
#
# The embedding of the timestep enters a residual block in one of two ways (`use_scale_shift_norm`):
#
# | | what the activation receives |
# |---|---|
# | FiLM | `out_norm(h) * (1 + scale) + shift` |
# | additive | `out_norm(h + emb)` |
#
# Below, one block of each kind processes one picture while the timestep runs from 0 to 100 (of 1000); we look at three channels
# of what reaches the activation. FiLM moves the contrast (standard deviation) and the brightness (mean) of every
# channel independently. The additive embedding comes *before* the norm, and the norm brings each group of channels
# back to mean 0 and mean square 1 for every $t$. So a channel can only get brighter relative to the others of its group,
# and its contrast cannot be set: it is what the brightness leaves.
#
# 时间步嵌入进入残差块有两种方式（由 `use_scale_shift_norm` 选择），见上表：第一行是 FiLM，第二行是加法偏置，
# 右列是激活函数实际收到的量。
#
# 下面两种残差块看同一张图，时间步从 0 走到 100（总共 1000 步），我们观察送进激活函数的三个通道。FiLM 让每个通道的对比度（标准差）
# 和亮度（均值）各自独立地随 $t$ 变化。而加法偏置加在归一化**之前**，无论 $t$ 是多少，归一化都会把每一组通道拉回均值 0、均方 1。
# 于是一个通道变亮，同组的其他通道就得变暗；它的对比度也没法直接设定，亮度占去之后剩多少就是多少。

# %%
torch.manual_seed(1)
CHANNELS, TIMES = 64, torch.linspace(0, 100, 201)
assert num_groups(CHANNELS) == 32  # so a group holds two channels

yy, xx = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
picture = torch.stack(
    [
        torch.sin(3 * np.pi * (xx + yy * k / CHANNELS)) * torch.exp(-2 * yy**2)
        for k in range(CHANNELS)
    ]
)
mlp = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128))  # as the U-Net embeds time
emb_of_t = mlp(timestep_embedding(TIMES, 64)).detach()


def activation_input(res_block, h, e):
    """Return what the SiLU of ``out_layers`` receives, [N, C, H, W]."""
    kept = []
    handle = res_block.out_layers[1].register_forward_hook(
        lambda module, inputs, output: kept.append(inputs[0])
    )
    with torch.no_grad():
        res_block(h, e)
    handle.remove()
    return kept[0]


film = ResBlock(CHANNELS, 128, use_scale_shift_norm=True)
additive = ResBlock(CHANNELS, 128, use_scale_shift_norm=False)
for res_block in (film, additive):  # as if training had given the embedding a stronger voice
    with torch.no_grad():
        res_block.emb_layers[1].weight.mul_(8)
batch = picture.expand(len(TIMES), -1, -1, -1)
received = {
    "FiLM": activation_input(film, batch, emb_of_t),
    "additive": activation_input(additive, batch, emb_of_t),
}

with torch.no_grad():  # the formula, written out
    h = film.in_layers(batch)
    scale, shift = film.emb_layers(emb_of_t)[:, :, None, None].chunk(2, dim=1)
    torch.testing.assert_close(received["FiLM"], film.out_layers[0](h) * (1 + scale) + shift)


per_group = {name: values.reshape(len(TIMES), 32, -1) for name, values in received.items()}
means = {name: values.mean(2) for name, values in per_group.items()}
squares = {name: values.square().mean(2) for name, values in per_group.items()}
assert means["additive"].abs().max() < 1e-5
torch.testing.assert_close(
    squares["additive"], torch.ones(len(TIMES), 32), atol=2e-3, rtol=0
)  # the norm's epsilon
for name in received:
    m, s = means[name], squares[name]
    print(
        f"{name:9} a group's mean: {m.min():6.2f} to {m.max():5.2f}, mean square: {s.min():5.2f} to {s.max():5.2f}"
    )
assert means["FiLM"].abs().max() > 0.3
assert squares["FiLM"].max() > 1.5

contrast = received["FiLM"].std((2, 3))
channel = int((contrast.amax(0) - contrast.amin(0)).argmax())
shown_times = [0, 50, 100, 150, 200]
figure = plt.figure(figsize=(12, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
grid = left.subplots(2, 5)
for row, (name, values) in zip(grid, received.items(), strict=True):
    for axis, i in zip(row, shown_times, strict=True):
        axis.imshow(values[i, channel], cmap="gray", vmin=-2.5, vmax=2.5)
        axis.set(xticks=[], yticks=[], title=f"t = {TIMES[i]:.0f}")
    row[0].set_ylabel(name, fontsize=12)
left.suptitle(f"One feature map (channel {channel}) on one gray scale")
axes = right.subplots(2, 2, sharex=True, sharey="row")
for column, (name, values) in zip(axes.T, received.items(), strict=True):
    for c in (channel, 20, 41):
        column[0].plot(TIMES, values[:, c].std((1, 2)), label=f"channel {c}")
        column[1].plot(TIMES, values[:, c].mean((1, 2)))
    column[0].set_title(name)
    column[1].set_xlabel("t")
axes[0, 0].set_ylabel("contrast (std)")
axes[1, 0].set_ylabel("brightness (mean)")
axes[0, 1].legend(fontsize=8)
plt.show()

# %% [markdown]
# A trap worth knowing. When a group holds a **single channel** (32 channels or fewer here, since there are up to 32
# groups), the norm removes the added constant *entirely*: the additive block does not see the timestep at all. FiLM,
# applied after the norm, always gets through.
#
# 一个值得记住的坑：如果每组**只有一个通道**（这里最多 32 组，所以通道数不超过 32 时就是如此），
# 归一化会把加上去的常数**全部**减掉，加法偏置的残差块完全看不到时间步。FiLM 作用在归一化之后，不受影响。

# %%
effect, some_times = {}, emb_of_t[::5]
for width in (16, 32, 64, 128, 256):
    for name, use_film in (("FiLM", True), ("additive", False)):
        torch.manual_seed(2)
        res_block = ResBlock(width, 128, use_scale_shift_norm=use_film)
        values = activation_input(
            res_block, torch.randn(1, width, 16, 16).expand(len(some_times), -1, -1, -1), some_times
        )
        effect[name, width] = (values - values[:1]).square().mean().sqrt().item()
print("how far the activation's input moves with t (root mean square)")
print(f"{'channels':>10}{'per group':>11}{'FiLM':>11}{'additive':>11}")
for width in (16, 32, 64, 128, 256):
    film_effect, additive_effect = effect["FiLM", width], effect["additive", width]
    print(f"{width:10}{width // num_groups(width):11}{film_effect:11.1e}{additive_effect:11.1e}")
assert max(effect["additive", 16], effect["additive", 32]) < 1e-5  # rounding only
assert min(effect["additive", 64], *(effect["FiLM", w] for w in (16, 32, 64))) > 1e-3

# %% [markdown]
# **Why `1 + scale`?** A fresh linear layer gives a `scale` near 0. The factor `1 + scale` is then near 1: every channel
# passes, modulated a little. The factor `scale` would shrink every channel to almost nothing, flip the sign of half of
# them, and multiply the gradients of the layers before it by the same small numbers. With `1 + scale`, "no change" is
# also where weight decay pulls.
#
# **为什么是 `1 + scale`？** 刚初始化的线性层给出的 `scale` 接近 0，所以 `1 + scale` 接近 1，每个通道基本原样通过，
# 只是略有调整。如果直接乘 `scale`，所有通道都会被压到几乎为零，一半还会变号，前面各层的梯度也要乘上同样小的数。
# 用 `1 + scale` 时，权重衰减的方向也正好是“不做改变”，而不是“把特征抹掉”。

# %%
torch.manual_seed(3)
fresh = ResBlock(CHANNELS, 128, use_scale_shift_norm=True)
fresh.out_layers[3].reset_parameters()  # as after some steps, so that gradients pass
x = torch.randn(len(TIMES), CHANNELS, 12, 12)
kept_signal, gradient = {}, {}
for name, offset in (("1 + scale", 1.0), ("scale", 0.0)):
    fresh.zero_grad()
    h = fresh.out_layers[0](fresh.in_layers(x))
    scale, shift = fresh.emb_layers(emb_of_t)[:, :, None, None].chunk(2, dim=1)
    modulated = h * (offset + scale)
    fresh.out_layers[1:](modulated + shift).square().mean().backward()
    kept_signal[name] = (modulated.std() / h.std()).item()
    gradient[name] = fresh.in_layers[2].weight.grad.norm().item()
    print(
        f"{name:10} signal kept {kept_signal[name]:.3f}, gradient of the first convolution {gradient[name]:.1e}"
    )
assert 0.9 < kept_signal["1 + scale"] < 1.1
assert kept_signal["scale"] < 0.2
assert gradient["scale"] < 0.3 * gradient["1 + scale"]

figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
factors = scale.detach().flatten().numpy()
axis.hist(factors, bins=np.linspace(-0.3, 1.3, 161), alpha=0.7, label="scale: erases, flips signs")
axis.hist(1 + factors, bins=np.linspace(-0.3, 1.3, 161), alpha=0.7, label="1 + scale: passes")
axis.axvline(0, color="0.3", lw=0.8)
axis.set(xlabel="factor of a channel in a fresh block", yticks=[])
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 3. Gradient checkpointing · 梯度检查点
#
# Ordinarily every layer keeps what its backward pass will need. With checkpointing a block keeps only its inputs and
# computes the rest again when the gradient arrives: less memory for a second forward pass. We compare three settings of
# one U-Net: off, our `CheckpointFunction`, and PyTorch's own engine. *Kept* is the sum over unique
# storages that autograd saves in the forward pass, without parameters. The backward pass refills one block at a
# time; the largest one is listed too, since it adds to the peak.
#
# 通常每一层都要保存反向传播所需的中间结果。用了检查点之后，一个块只保存它的输入，等梯度传到时再把其余的重算一遍：
# 代价是多做一次前向，换来的是更小的内存。这里用同一个 U-Net 比较三种设置：关闭、我们的 `CheckpointFunction`、
# PyTorch 自带的引擎。“kept” 指前向过程中 autograd 保存的、互不重复的存储总量，不含参数。
# 反向传播时每次会重新填满一个块，最大的那个块也单独列出，因为它会叠加到峰值上。

# %%
ENGINES = {
    "off": {"use_checkpoint": False},
    "CheckpointFunction": {"use_checkpoint": True, "checkpoint_engine": "function"},
    "torch engine": {"use_checkpoint": True, "checkpoint_engine": "torch"},
}


def checkpointed_unet(**engine):
    """Return the U-Net of this section, its zeroed layers made random so that every gradient is tested."""
    torch.manual_seed(0)
    network = UNet(
        in_channels=3, out_channels=6, model_channels=32, num_res_blocks=2, channel_mult=(1, 2),
        attention_downsampling=(2,), num_heads=2, dropout=0.3, **engine,
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and not module.weight.any():
            module.reset_parameters()
    return network


class Kept:
    """Count the bytes of unique storages that autograd saves, parameters excluded."""

    def __init__(self, network):
        self.parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
        self.storages, self.bytes = {}, 0

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters and storage.data_ptr() not in self.storages:
            self.storages[storage.data_ptr()] = storage  # held, so that no address is used twice
            self.bytes += storage.nbytes()
        return tensor

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)


torch.manual_seed(7)
images, times = torch.randn(8, 3, 24, 24), torch.randint(0, 1000, (8,))
noise = torch.randn(8, 6, 24, 24)
networks = {name: checkpointed_unet(**engine) for name, engine in ENGINES.items()}


def training_pass(network):
    """Forward and backward with one fixed seed for dropout; return the loss."""
    network.zero_grad(set_to_none=True)
    torch.manual_seed(1234)
    loss = F.mse_loss(network(images, times), noise)
    loss.backward()
    return loss


gradients, kept_bytes, seconds = {}, {}, {name: [] for name in ENGINES}
for name, network in networks.items():
    training_pass(network)
    gradients[name] = {key: p.grad.clone() for key, p in network.named_parameters()}
    count = Kept(network)
    with count.hooks():
        loss = F.mse_loss(network(images, times), noise)
    kept_bytes[name] = count.bytes
    del loss, count

# Bytes that each block keeps without checkpointing, hence also while it is being recomputed.
plain_count = Kept(networks["off"])
block_bytes, handles = {}, []


def on_entry(module, inputs):
    block_bytes[module] = -plain_count.bytes


def on_exit(module, inputs, output):
    block_bytes[module] += plain_count.bytes


for module in networks["off"].modules():
    if isinstance(module, ResBlock | AttentionBlock):
        handles += [
            module.register_forward_pre_hook(on_entry),
            module.register_forward_hook(on_exit),
        ]
with plain_count.hooks():
    networks["off"](images, times)
for handle in handles:
    handle.remove()
largest = max(block_bytes.values())

for _ in range(7):  # interleaved, so that a busy machine slows all of them
    for name, network in networks.items():
        began = time.perf_counter()
        training_pass(network)
        seconds[name].append(time.perf_counter() - began)
fastest = {name: min(values) for name, values in seconds.items()}  # the least disturbed

for name in ENGINES:
    for key, reference in gradients["off"].items():
        assert torch.equal(gradients[name][key], reference), (name, key)  # bit for bit
    print(
        f"{name:20} kept {kept_bytes[name] / 2**20:6.1f} MiB   step {fastest[name] * 1e3:5.0f} ms"
        f"   ({fastest[name] / fastest['off']:.2f} x)"
    )
print(f"largest single block: {largest / 2**20:.1f} MiB")
print(f"all {len(gradients['off'])} gradients are bit-equal, with dropout 0.3")
assert max(kept_bytes["CheckpointFunction"], kept_bytes["torch engine"]) < 0.4 * kept_bytes["off"]

figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained")
names = list(ENGINES)
axes[0].barh(names, [kept_bytes[n] / 2**20 for n in names], color="tab:blue")
extra = [0 if n == "off" else largest / 2**20 for n in names]
axes[0].barh(
    names,
    extra,
    left=[kept_bytes[n] / 2**20 for n in names],
    color="tab:orange",
    label="largest block, recomputed",
)
axes[0].set(title="Kept for backward", xlabel="MiB")
axes[0].legend(fontsize=8, loc="lower right")
axes[1].barh(names, [fastest[n] * 1e3 for n in names], color="tab:green")
axes[1].set(title="Forward + backward", xlabel="milliseconds, fastest of 7", yticks=[])
for axis in axes:
    axis.invert_yaxis()
plt.show()

# %% [markdown]
# Bit-equal gradients need the **same dropout** the second time. Our function saves the random state and replays it;
# a plain version that does not, drops other units and computes a gradient of a different function. The published code
# did that.
#
# 要让梯度逐比特相等，重算时必须丢弃**同样的神经元**。我们的函数会保存随机状态并在重算时恢复；
# 如果不这么做，第二次丢弃的是另一批神经元，求出来的其实是另一个函数的梯度。公开发布的那份代码就有这个问题。


# %%
class Forgetful(torch.autograd.Function):
    """Checkpointing that forgets the random state, for comparison."""

    @staticmethod
    def forward(ctx, run, length, *args):
        ctx.run, ctx.length = run, length
        ctx.save_for_backward(*args)
        with torch.no_grad():
            return run(*args[:length])

    @staticmethod
    def backward(ctx, *upstream):
        args = ctx.saved_tensors
        with torch.enable_grad():
            inputs = [t.detach().requires_grad_(t.requires_grad) for t in args[: ctx.length]]
            output = ctx.run(*inputs)
        return None, None, *torch.autograd.grad(output, (*inputs, *args[ctx.length :]), upstream)


torch.manual_seed(0)
block = ResBlock(32, 64, dropout=0.3, use_scale_shift_norm=True)
block.out_layers[3].reset_parameters()
x = torch.randn(4, 32, 12, 12, requires_grad=True)
emb = torch.randn(4, 64, requires_grad=True)


def gradient_with(function):
    """Return all gradients of the block run through a checkpointing function (None: plainly)."""
    torch.manual_seed(99)
    inputs = (x, emb, *block.parameters())
    output = block(x, emb) if function is None else function.apply(block, 2, *inputs)
    return torch.cat([t.flatten() for t in torch.autograd.grad(output.square().sum(), inputs)])


plain = gradient_with(None)
assert torch.equal(gradient_with(CheckpointFunction), plain)
forgetful_error = ((gradient_with(Forgetful) - plain).norm() / plain.norm()).item()
print(f"relative error of the gradient without replay: {forgetful_error:.0%}")
assert forgetful_error > 0.1

# %% [markdown]
# **Why are the parameters passed to `.apply`?** Autograd connects a custom Function to its *arguments*, and only to
# those. Weights that the block merely uses inside are invisible to it, since the forward pass ran without recording.
# Leave them out and the inputs still get the right gradient, but every weight gets `None`. Worse, if the inputs need no gradient
# either (the first layer of a network), the output is cut off from the graph altogether. PyTorch's own engine
# (`use_reentrant=False`) runs the block with recording on and hooks the saved tensors instead, so it needs no such list.
#
# **为什么要把参数传给 `.apply`？** 对自定义的 Function，autograd 只认它的**实参**。块内部用到的权重它看不见，
# 因为前向是在不记录计算图的状态下跑的。不传的话，输入的梯度仍然正确，所有权重的梯度却是 `None`；
# 更糟的是，如果输入也不需要梯度（比如网络的第一层），输出会彻底脱离计算图。
# PyTorch 自带的引擎（`use_reentrant=False`）是照常记录、再用钩子接管要保存的张量，所以不需要这个列表。

# %%
block.zero_grad(set_to_none=True)
torch.manual_seed(99)
output = CheckpointFunction.apply(block, 2, x, emb)  # the parameters left out
output.square().sum().backward()
assert all(parameter.grad is None for parameter in block.parameters())
assert torch.equal(x.grad.flatten(), plain[: x.numel()])

cut = CheckpointFunction.apply(block, 2, x.detach(), emb.detach())
assert not cut.requires_grad
whole = CheckpointFunction.apply(block, 2, x.detach(), emb.detach(), *block.parameters())
assert whole.requires_grad
print(
    "parameters left out: gradients of the weights are None; with inputs that need none, no graph at all"
)

# %% [markdown]
# ## 4. Transposed convolution or nearest + convolution? · 转置卷积，还是最近邻 + 卷积？
#
# The notes that this project implements prefer the transposed convolution, for three reasons: it expresses more, it loses
# less information, it is simpler. First, what can be shown exactly:
#
# - **More expressive: true.** Nearest + 3×3 convolution *is* a 4×4 transposed convolution of stride 2 whose kernel is the
#   3×3 one spread by a 2×2 box: 9 free numbers instead of 16. What is given up can be named. An output pixel has one
#   of four positions (phases) within its input pixel, each with its own four taps; in the smaller family the taps of every
#   phase have the same sum. So it cannot answer a constant input with a pattern: it *cannot* draw a checkerboard there.
# - **Loses less information: not seen.** Nearest neighbors lose nothing; every second pixel gives the input back.
# - **"Nearest + convolution is cheap": not in arithmetic.** Per output pixel it multiplies 9 taps, the transposed one 4.
#
# 本项目所依据的笔记更看好转置卷积，理由有三：表达能力更强、信息损失更少、结构更简洁。先看可以精确验证的部分：
#
# - **表达能力更强：成立。** 最近邻 + 3×3 卷积本身**就是**一个步长为 2 的 4×4 转置卷积，卷积核等于 3×3 核与 2×2 全一核的卷积，
#   自由度是 9 而不是 16。少掉的是什么也说得清：每个输出像素在它对应的输入像素里有四种位置（相位），每种相位各用四个权重；
#   在较小的这一族里，各相位的权重之和必须相等。所以输入为常数时，它**不可能**画出棋盘格。
# - **信息损失更少：没有看到。** 最近邻插值不丢任何信息，隔一个取一个就能还原输入。
# - **“最近邻 + 卷积计算开销小”：从乘法次数看并非如此。** 每个输出像素它要乘 9 个权重，转置卷积只要 4 个。

# %%
torch.manual_seed(0)
conv = nn.Conv2d(3, 5, 3, padding=1)
same = nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)
with torch.no_grad():
    # A convolution correlates and a transposed one does not, so the 3x3 kernel is turned round first.
    turned = conv.weight.flip(2, 3).transpose(0, 1).reshape(-1, 1, 3, 3)
    same.weight.copy_(F.conv2d(turned, torch.ones(1, 1, 2, 2), padding=1).reshape(3, 5, 4, 4))
    same.bias.copy_(conv.bias)
    x = torch.randn(2, 3, 11, 8)
    nearest = F.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(same(x), conv(nearest))
    assert torch.equal(nearest[:, :, ::2, ::2], x)
    phase_sums = same.weight.reshape(3, 5, 2, 2, 2, 2).sum((2, 4))  # [in, out, phase y, phase x]
    torch.testing.assert_close(phase_sums, phase_sums[:, :, :1, :1].expand_as(phase_sums))

basis = F.conv2d(torch.eye(9).reshape(9, 1, 3, 3), torch.ones(1, 1, 2, 2), padding=1).reshape(9, 16)
assert torch.linalg.matrix_rank(basis) == 9
wide = torch.randn(8, 64, 16, 16)
ups = {kind: Upsample(64, kind=kind) for kind in ("transpose", "nearest_conv")}
cost = {kind: [] for kind in ups}
with torch.no_grad():
    for _ in range(9):
        for kind, up in ups.items():
            began = time.perf_counter()
            up(wide)
            cost[kind].append(time.perf_counter() - began)
for kind, up in ups.items():
    print(
        f"{kind:13} {up.conv.weight.numel():6} weights, {4 if kind == 'transpose' else 9} taps per output pixel, "
        f"forward {statistics.median(cost[kind]) * 1e3:.1f} ms"
    )

# %% [markdown]
# Now untrained, on a smooth picture. Inserting zeros between pixels copies the picture's spectrum to the stride's frequency
# (half a cycle per pixel: the edges of the spectra below); the kernel should remove the copies. A random
# transposed kernel does not, and the copies are the checkerboard. The *smooth start* of `Upsample`, taps (1, 3, 3, 1)/4 per
# axis, has a triple zero there and removes them almost wholly. Nearest neighbors have a single zero: nothing is left of flat
# areas, steps are left on slopes, and a random 3×3 convolution after them may make the steps stronger, as it does here.
#
# 先看未训练时放大一张光滑图片的样子。在像素之间插零，会把图片的频谱复制到步长对应的频率处（每像素半个周期，也就是下面频谱图的边缘），
# 卷积核的任务就是去掉这些副本。随机的转置卷积核去不掉，副本就表现为棋盘格。`Upsample` 的 *smooth start*
# 每个轴用 (1, 3, 3, 1)/4，在该频率处是三重零点，几乎能完全去掉。最近邻只有一重零点：平坦处不留痕迹，斜坡上还有台阶；
# 后面再接一个随机的 3×3 卷积，还可能把台阶放大，这里就是如此。

# %%
KINDS = {
    "transposed, random start": {"kind": "transpose", "smooth_start": False},
    "transposed, smooth start": {"kind": "transpose", "smooth_start": True},
    "nearest + convolution": {"kind": "nearest_conv"},
    "nearest": {"kind": "nearest"},
}


def spectrum(y):
    """Return the windowed power spectrum of [..., H, W] without its mean, frequency 0 in the middle."""
    window = torch.hann_window(y.shape[-1], periodic=False)
    y = (y - y.mean((-1, -2), keepdim=True)) * window[:, None] * window
    return torch.fft.fftshift(torch.fft.fft2(y), dim=(-1, -2)).abs().square()


def at_stride(power):
    """Return the share of the power near the stride's frequency: above 3/8 cycle per pixel on an axis."""
    f = torch.fft.fftshift(torch.fft.fftfreq(power.shape[-1])).abs()
    near = torch.maximum(f[:, None], f[None]) >= 3 / 8
    return power[..., near].sum(-1) / power.sum((-1, -2))


yy, xx = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
smooth = (torch.exp(-3 * (xx**2 + yy**2)) + 0.3 * torch.sin(4 * xx + 2 * yy))[None, None]

figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
for column, (name, options) in zip(axes.T, KINDS.items(), strict=True):
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            y = Upsample(1, **options)(smooth)[0, 0, 4:-4, 4:-4]  # the border sees padding
        shares.append(at_stride(spectrum(y)).item())
        if seed == 0:
            column[0].imshow(y, cmap="gray")
            column[1].imshow(
                spectrum(y).add(1e-6).log10(), vmin=-5, vmax=4, extent=(-0.5, 0.5, -0.5, 0.5)
            )
    KINDS[name]["untrained"] = statistics.median(shares)
    column[0].set_title(name, fontsize=10)
    column[1].set_xlabel(f"at the stride's frequency: {statistics.median(shares):.1e}", fontsize=9)
    for axis in column:
        axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("picture")
axes[1, 0].set_ylabel("log power")
plt.show()

untrained = {name: options.pop("untrained") for name, options in KINDS.items()}
for name, share in untrained.items():
    print(f"{name:26} median share of 20 starts {share:.1e}")
assert untrained["transposed, random start"] > 20 * untrained["nearest + convolution"]
assert untrained["transposed, smooth start"] < untrained["nearest"]

# %% [markdown]
# And trained, briefly: a small network enlarges synthetic shapes from 16×16 to 32×32. Only a 1×1 convolution comes after
# the `Upsample`, so nothing can mend its pattern. Three numbers for each kind, on pictures it has not seen: the error; the share
# of the output's power at the stride's frequency (the true pictures have some too: sharp edges); and, on *flat* inputs, how far
# the four phases differ, in gray levels of 255.
#
# 再看短暂训练之后：一个小网络把合成图形从 16×16 放大到 32×32。`Upsample` 之后只有一个 1×1 卷积，它留下的图案没有别的层能修补。
# 在没见过的图片上，每种方式量三个数：误差；输出在步长频率附近的能量占比（真实图片本身也有一些，来自锐利的边缘）；
# 以及输入为**纯色**时四个相位相差多少（以 255 级灰度计）。

# %%
SIZE, STEPS, SEEDS = 32, 250, 3


def shapes(count, generator):
    """Return soft-edged discs, boxes and bars, [count, 1, SIZE, SIZE] in [-2, 2]."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    canvas = torch.full((count, SIZE, SIZE), 0.5)
    for shape in range(4):
        u = torch.rand(count, 6, 1, 1, generator=generator)
        angle = u[:, 0] * np.pi
        dx, dy = x - u[:, 1] * SIZE, y - u[:, 2] * SIZE
        across, along = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
        if shape % 2:
            distance = torch.hypot(dx, dy) - (2 + 5 * u[:, 3])
        else:
            distance = torch.maximum(
                across.abs() - (1 + 5 * u[:, 3]), along.abs() - (2 + 8 * u[:, 4])
            )
        inside = torch.sigmoid(-3 * distance)
        canvas = canvas * (1 - inside) + u[:, 5] * inside
    return (4 * canvas - 2)[:, None]


def enlarger(options):
    """Return a small network around one Upsample; nothing after it could mend a pattern."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(),
        Upsample(16, **options), nn.Conv2d(16, 1, 1),
    )  # fmt: skip


generator = torch.Generator().manual_seed(0)
train, test = shapes(512, generator), shapes(128, generator)
test_small = F.avg_pool2d(test, 2)
flat = torch.linspace(-2, 2, 9).reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16)
curves, results, drawn = {}, {}, {}
for name, options in KINDS.items():
    rows = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        network = enlarger(options)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        draw = torch.Generator().manual_seed(seed)
        curve = []
        for _ in range(STEPS):
            picked = train[torch.randint(0, len(train), (16,), generator=draw)]
            optimizer.zero_grad()
            loss = F.mse_loss(network(F.avg_pool2d(picked, 2)), picked)
            loss.backward()
            optimizer.step()
            scheduler.step()
            curve.append(loss.item())
        with torch.no_grad():
            out, on_flat = network(test_small), network(flat)[:, 0, 8:-8, 8:-8]
        phases = torch.stack([on_flat[:, i::2, j::2].mean((1, 2)) for i in (0, 1) for j in (0, 1)])
        rows.append(
            (
                F.mse_loss(out, test).item(),
                at_stride(spectrum(out[:, 0]).mean(0)).item(),
                phases.std(0).mean().item() * 255 / 4,  # the pictures span [-2, 2]
            )
        )
        if seed == 0:
            curves[name], drawn[name] = curve, out
    results[name] = np.array(rows)

true_share = at_stride(spectrum(test[:, 0]).mean(0)).item()
print(f"{'':26}{'mean squared error, 3 seeds':>30}{'power at stride':>18}{'levels on flat':>18}")
for name, rows in results.items():
    errors = " ".join(f"{v:.2e}" for v in rows[:, 0])
    print(f"{name:26}{errors:>30}{rows[:, 1].mean():18.1e}{rows[:, 2].mean():18.3f}")
print(f"{'the true pictures':26}{'':30}{true_share:18.1e}{0:18.3f}")

error = {name: rows[:, 0].mean() for name, rows in results.items()}
pattern = {name: rows[:, 2] for name, rows in results.items()}
learned = [error[name] for name in KINDS if name != "nearest"]
assert max(learned) < 1.6 * min(learned)  # the three learned ones are alike
assert np.ptp(learned) < 2 * max(np.ptp(rows[:, 0]) for rows in results.values())
assert error["nearest"] > 2 * max(learned)
share = {name: rows[:, 1].mean() for name, rows in results.items()}
assert share["nearest"] > true_share > max(share[name] for name in KINDS if name != "nearest")
assert max(pattern["nearest + convolution"].max(), pattern["nearest"].max()) < 1e-4  # rounding only
transposed = [v for name, v in pattern.items() if name.startswith("transposed")]
assert np.min(transposed) > 1e-2
assert np.max(transposed) < 3  # gray levels: there, but hard to see

example, shades = 3, {"cmap": "gray", "vmin": -2, "vmax": 2}
figure, axes = plt.subplots(2, 6, figsize=(13, 4.8), layout="constrained")
columns = {"input": test_small, **drawn, "truth": test}
for column, (name, pictures) in zip(axes.T, columns.items(), strict=True):
    column[0].imshow(pictures[example, 0], **shades)
    column[0].set_title(name, fontsize=9)
    if name in drawn:
        column[1].imshow(pictures[example, 0] - test[example, 0], cmap="RdBu", vmin=-0.5, vmax=0.5)
    else:
        column[1].set_visible(False)
    for axis in column:
        axis.set(xticks=[], yticks=[])
axes[1, 1].set_ylabel("error, from -0.5 to 0.5")
plt.show()

figure, axes = plt.subplots(1, 2, figsize=(12, 3.4), layout="constrained")
for name in KINDS:
    smoothed = np.convolve(curves[name], np.ones(15) / 15, mode="valid")
    axes[0].plot(smoothed, label=name)
    row_power = spectrum(drawn[name][:, 0] - test[:, 0]).mean((0, 1))[SIZE // 2 :]
    axes[1].plot(np.arange(SIZE // 2) / SIZE, row_power, label=name)
axes[0].set(yscale="log", title="Training error", xlabel="step (running mean of 15)")
axes[1].set(
    yscale="log",
    title="Power of the error",
    xlabel="horizontal frequency, cycles per pixel (stride: 1/2)",
)
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# What is seen, and it is not quite what the notes say:
#
# - The three learned kinds end **alike**; their differences are of the size of those between seeds. That the transposed
#   convolution can express more did not show as a smaller error here. Its solid advantage is fewer multiplications.
# - Nearest alone, with no weights at full resolution, is about three times worse and has far too much power at the stride.
# - The start decides the *untrained* picture, not the trained one: the random start has learned its checkerboard away.
#   Not wholly, though: on flat inputs both transposed kinds keep a faint pattern, of less than three gray levels, whereas
#   nearest + convolution has none, and cannot have any.
# - The trained outputs have *less* power at the stride than the true pictures: a squared error blurs edges.
#
# This is one small task, not a diffusion model. `iddpm` keeps the notes' choice as its default, adds the smooth start, and
# leaves `upsample="nearest_conv"`, which the published networks use, one setting away.
#
# 看到的结果，和笔记的说法不完全一致：
#
# - 三种带权重的方式最后**不相上下**，彼此的差别和换个随机种子的差别在同一量级。转置卷积表达能力更强，但在这里没有换来更小的误差；
#   它实实在在的优势是乘法次数更少。
# - 只用最近邻时，高分辨率上没有任何权重，误差大约是前者的三倍，步长频率处的能量也明显偏高。
# - 初始化决定的是**未训练时**的画面，而不是训练后的结果：随机初始化的棋盘格会在训练中被学掉。但没有完全消失：
#   输入为纯色时，两种转置卷积都还留有很淡的图案，不到三级灰度；最近邻 + 卷积则完全没有，也不可能有。
# - 训练后的输出在步长频率处的能量比真实图片**更少**，因为平方误差会把边缘抹软。
#
# 这只是一个很小的任务，并不是扩散模型。`iddpm` 默认仍采用笔记的选择，并加上 smooth start；想用公开发布的网络所采用的
# 最近邻 + 卷积，只需设置 `upsample="nearest_conv"`。

# %% [markdown]
# ## 5. Kernel 3 or 4, and the stride of a volume · 卷积核取 3 还是 4，以及三维的步长
#
# Downsampling uses kernel 3, upsampling by a transposed convolution kernel 4. With padding 1 and stride 2 the sizes are
#
# | | down, kernel 3 | down, kernel 4 | up, kernel 3 | up, kernel 4 |
# |---|---|---|---|---|
# | $n$ becomes | $\lceil n/2 \rceil$ | $\lfloor n/2 \rfloor$ | $2n - 1$ | $2n$ |
#
# Going down, 3 rounds odd sizes up and so never loses the last row; the decoder crops its doubled size to the skip's. Its
# outputs are centered on pixels, and it costs 9 products where 4 costs 16. Going up, 4 gives exactly $2n$, and, being a multiple of the
# stride, touches every output equally often. Kernel 3 does not (the third picture), which is a checkerboard by
# construction. To be fair: the *backward* pass of a kernel-3 downsampling is such a transposed convolution, so its input gets
# gradient from 1, 2 or 4 outputs, unevenly (the first picture); kernel 4 or average pooling would be even.
#
# 下采样用 3 的卷积核，转置卷积上采样用 4。填充为 1、步长为 2 时，尺寸变化见上表（各列依次为：下采样核 3、下采样核 4、上采样核 3、上采样核 4）。
#
# 下采样时，核 3 对奇数尺寸向上取整，不会丢掉最后一行，解码器再把翻倍后的尺寸裁到和跳连一致；它的输出以像素为中心，
# 每个输出只需 9 次乘法，核 4 要 16 次。上采样时，核 4 正好得到 $2n$，而且 4 是步长的整数倍，每个输出被覆盖的次数相同；
# 核 3 做不到（第三幅图），结构上就带着棋盘格。也要说句公道话：核 3 下采样的**反向传播**恰恰就是这样一个转置卷积，
# 输入像素分别从 1、2 或 4 个输出收到梯度，并不均匀（第一幅图）；换成核 4 或平均池化就是均匀的。

# %%
print(
    f"{'n':>4}{'conv 3':>9}{'avg_pool':>10}{'conv 4':>9}{'up 4':>7}{'up 3':>7}{'lost by conv 4':>17}"
)
for n in (7, 28, 32, 37):
    row = torch.zeros(1, 4, n)
    conv3 = Downsample(4, dims=1)(row).shape[-1]
    pooled = Downsample(4, dims=1, kind="avg_pool")(row).shape[-1]
    conv4 = nn.Conv1d(4, 4, 4, stride=2, padding=1)(row).shape[-1]
    up4 = Upsample(4, dims=1)(row).shape[-1]
    up3 = nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1)(row).shape[-1]
    assert (conv3, pooled, conv4, up4, up3) == (-(-n // 2), -(-n // 2), n // 2, 2 * n, 2 * n - 1)
    print(f"{n:4}{conv3:9}{pooled:10}{conv4:9}{up4:7}{up3:7}{n - 2 * conv4:17}")


def coverage(kernel, down):
    """Return, per pixel of the larger side, how many pixels of the smaller side it is joined to."""
    ones = torch.ones(1, 1, kernel, kernel)
    large = torch.zeros(1, 1, 16, 16, requires_grad=True)
    if not down:
        return F.conv_transpose2d(torch.ones(1, 1, 8, 8), ones, stride=2, padding=1)[0, 0]
    F.conv2d(large, ones, stride=2, padding=1).sum().backward()
    return large.grad[0, 0]


maps = {
    "gradient of down, kernel 3": coverage(3, down=True),
    "gradient of down, kernel 4": coverage(4, down=True),
    "up, kernel 3": coverage(3, down=False),
    "up, kernel 4": coverage(4, down=False),
}
counts = {name: sorted({int(v) for v in c[2:-2, 2:-2].unique()}) for name, c in maps.items()}
assert counts["gradient of down, kernel 3"] == counts["up, kernel 3"] == [1, 2, 4]
assert counts["gradient of down, kernel 4"] == counts["up, kernel 4"] == [4]
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
for axis, (name, values) in zip(axes, maps.items(), strict=True):
    shown = axis.imshow(values, vmin=0, vmax=4)
    axis.set(xticks=[], yticks=[], title=name)
figure.colorbar(shown, ax=axes, label="connections", ticks=range(5))
plt.show()

# %% [markdown]
# A volume or clip is `[N, C, D, H, W]`. Its stride is (1, 2, 2): height and width are resized, the depth $D$ (slices,
# frames) is left alone, on the way down *and* on the way up. If only one of the two kept it, decoder and skip would no longer fit.
#
# 体数据或视频的形状是 `[N, C, D, H, W]`，步长取 (1, 2, 2)：只缩放高和宽，深度 $D$（切片或帧）不动，下采样和上采样**都**如此。
# 只要有一边动了 $D$，解码器就和跳连对不上了。

# %%
clip = torch.randn(2, 4, 5, 16, 12)
print(f"{'input':36} {tuple(clip.shape)}")
for down_kind in ("conv", "avg_pool"):
    small = Downsample(4, dims=3, kind=down_kind)(clip)
    assert small.shape == (2, 4, 5, 8, 6)
    print(f"{'down, ' + down_kind:36} {tuple(small.shape)}")
for up_kind in ("transpose", "nearest_conv", "nearest"):
    large = Upsample(4, dims=3, kind=up_kind)(small)
    assert large.shape == clip.shape
    print(f"{'  and up, ' + up_kind:36} {tuple(large.shape)}")
kernel = Upsample(4, dims=3).conv.kernel_size
assert kernel == (3, 4, 4)
wrong = nn.ConvTranspose3d(4, 4, 4, stride=2, padding=1)(small)
assert wrong.shape[2] == 2 * clip.shape[2]
print(
    f"{'  and up, stride 2 on every axis':36} {tuple(wrong.shape)}   <- depth doubled: does not fit the skip"
)
print(f"kernel of the transposed convolution per axis: {kernel}")

import pytest
import torch
from torch import nn

from iddpm.networks import UNet
from iddpm.networks.blocks import AttentionBlock, ResBlock
from iddpm.networks.checkpointing import CheckpointFunction

SIZES = {1: (12,), 2: (6, 7), 3: (3, 6, 5)}
ENGINES = ["function", "torch"]


def unet(dims):
    return UNet(
        dims=dims,
        in_channels=3,
        out_channels=6,
        model_channels=12,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
        num_heads=2,
        dropout=0.3,
        num_classes=4,
    )


def build(kind, dims):
    """Return a module with random parameters and its inputs (x, then what else it takes)."""
    torch.manual_seed(1)
    size = SIZES[dims]
    if kind == "res":
        module = ResBlock(12, 8, 0.3, dims=dims, out_channels=20, use_scale_shift_norm=True)
        inputs = (torch.randn(2, 12, *size), torch.randn(2, 8))
    elif kind == "attention":
        module, inputs = AttentionBlock(12, num_heads=2), (torch.randn(2, 12, *size),)
    else:
        module = unet(dims)
        inputs = (torch.randn(2, 3, *size), torch.tensor([3, 700]), torch.tensor([1, -1]))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
    return module.train(), inputs


def switch(module, on, engine="function"):
    for child in module.modules():
        if hasattr(child, "use_checkpoint"):
            child.use_checkpoint = on
            child.checkpoint_engine = engine


def run(module, inputs, *, bf16=False, backward_inside=False, input_gradient=True):
    """Return the output, every gradient, and a number drawn afterwards."""
    torch.manual_seed(2)
    module.zero_grad()
    x = inputs[0].clone().requires_grad_(input_gradient)
    rest = [t.clone().requires_grad_(t.is_floating_point()) for t in inputs[1:]]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = module(x, *rest)
        loss = y.float().square().sum()
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    leaves = [x, *rest, *module.parameters()]
    return [y.detach(), *[leaf.grad for leaf in leaves], torch.rand(3)]


def same(a, b):
    if a is None or b is None:
        return a is b
    return torch.equal(a, b)


@pytest.mark.parametrize("backward_inside", [False, True])
@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["res", "attention", "unet"])
def test_gradients_are_equal_to_the_last_bit(kind, dims, bf16, input_gradient, backward_inside):
    module, inputs = build(kind, dims)
    how = {"bf16": bf16, "backward_inside": backward_inside, "input_gradient": input_gradient}
    switch(module, on=False)
    plain = run(module, inputs, **how)
    switch(module, on=True)
    recomputed = run(module, inputs, **how)
    assert all(map(same, plain, recomputed))  # the last is the random state left behind
    assert sum(g is not None and bool(g.any()) for g in plain[1:-1]) >= len(
        list(module.parameters())
    )


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["res", "attention", "unet"])
def test_the_other_engine_agrees(kind, dims, bf16):
    module, inputs = build(kind, dims)
    switch(module, on=False)
    plain = run(module, inputs, bf16=bf16)
    switch(module, on=True, engine="torch")
    for a, b in zip(plain, run(module, inputs, bf16=bf16), strict=True):
        if a is not None:
            assert (a - b).abs().max() <= 1e-6 * a.abs().max()


class Spy(nn.Module):
    """An activation that counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.sin(x)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_block_is_computed_again_and_stores_nothing_but_its_inputs(engine):
    stored = {}
    for on in (False, True):
        module, (x, emb) = build("res", 2)
        module.in_layers[1] = spy = Spy()
        switch(module, on, engine)
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = module(x.requires_grad_(), emb)
        assert spy.calls == 1
        stored[on] = sum(sizes)
        y.sum().backward()
        assert spy.calls == (2 if on else 1)
    assert stored[True] < stored[False]


@pytest.mark.parametrize("engine", ENGINES)
def test_without_gradients_nothing_is_recomputed(engine):
    module, inputs = build("res", 2)
    switch(module, on=True, engine=engine)
    with torch.no_grad():
        assert not module(*inputs).requires_grad
    module.requires_grad_(False)
    assert not module(*inputs).requires_grad  # gradients on, and nobody wants one


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_parameters_are_let_through(engine):
    module, inputs = build("res", 2)
    module.in_layers.requires_grad_(False)
    switch(module, on=False)
    plain = run(module, inputs)
    switch(module, on=True, engine=engine)
    recomputed = run(module, inputs)
    assert all(map(same, plain, recomputed))
    assert module.in_layers[2].weight.grad is None
    assert module.out_layers[3].weight.grad is not None


@pytest.mark.parametrize("kind", ["res", "attention"])
def test_an_input_with_other_uses_gets_its_gradient_in_the_same_order(kind):
    gradients = []
    for on in (False, True):
        module, (x, *rest) = build(kind, 2)
        switch(module, on)
        torch.manual_seed(3)
        x.requires_grad_()
        h = x.sin()  # as in a decoder: the block takes it, and so does a later one
        (module(h, *rest).square().sum() + h.exp().sum()).backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_accumulation_over_two_batches_is_equal():
    totals = []
    for on in (False, True):
        module, (x, emb) = build("res", 2)
        switch(module, on)
        torch.manual_seed(3)
        for scale in (1.0, 2.0):
            module(scale * x, emb).square().sum().backward()
        totals.append([p.grad.clone() for p in module.parameters()])
    assert all(map(torch.equal, *totals))


def test_dropout_drops_the_same_units_when_recomputed():
    weight = torch.ones(1000, requires_grad=True)
    x = torch.ones(1000)
    y = CheckpointFunction.apply(lambda x: nn.functional.dropout(x * weight, 0.3), 1, x, weight)
    y.sum().backward()
    assert torch.equal(weight.grad, y.detach())
    assert 500 < (y > 0).sum() < 900


def test_a_second_derivative_is_refused_not_silently_zero():
    module, (x, emb) = build("res", 2)
    switch(module, on=True)
    x.requires_grad_()
    y = module(x, emb).sum()
    with pytest.raises(RuntimeError, match="checkpoint_engine='torch'"):
        torch.autograd.grad(y, x, create_graph=True)


@pytest.mark.parametrize("use_checkpoint", [False, True])
@pytest.mark.parametrize("kind", ["res", "attention"])
def test_gradcheck_in_float64(kind, use_checkpoint):
    torch.manual_seed(0)
    x, emb = torch.randn(1, 4, 3, 2), torch.randn(1, 3)
    if kind == "res":
        module = ResBlock(4, 3, out_channels=2, use_scale_shift_norm=True)
        inputs = (x, emb)
    else:
        module, inputs = AttentionBlock(4, num_heads=2), (x,)
    module = module.double()
    switch(module, use_checkpoint)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    inputs = [t.double().requires_grad_() for t in inputs]

    def call(*tensors):  # gradcheck moves the parameters in place, so the module sees them move
        return module(*tensors[: len(inputs)])

    assert torch.autograd.gradcheck(call, [*inputs, *module.parameters()])

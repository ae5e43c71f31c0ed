import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from iddpm.networks.blocks import default_stride
from iddpm.networks.convolution import conv_nd, conv_transpose_nd, wrap

# --- periodic axes --------------------------------------------------------------------------------


def thrice(x):
    """Repeat every spatial axis three times: the middle third of a result then has no border."""
    return x.repeat(1, 1, *[3] * (x.dim() - 2))


def middle(y):
    for axis in range(2, y.dim()):
        y = y.narrow(axis, y.shape[axis] // 3, y.shape[axis] // 3)
    return y


@pytest.mark.parametrize("kind", ["conv", "down", "transpose"])
@pytest.mark.parametrize("size", [(6,), (2,), (4, 6), (3, 2), (3, 4, 2), (1, 2, 4)])
def test_a_periodic_convolution_is_the_plain_one_of_endless_copies(kind, size):
    if kind == "down" and len(size) == 2:
        size = (size[0] + size[0] % 2, size[1])  # stride 2 divides a ring, or there is none
    plain, ring = (build(kind, len(size), 4, c) for c in ((), [True] * len(size)))
    ring.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, *size)
    expected = middle(plain(thrice(x)))
    torch.testing.assert_close(ring(x), expected)
    assert (plain(x) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["conv", "down", "transpose"])
def test_each_axis_is_periodic_or_not_on_its_own(kind):
    layer = build(kind, 2, 4, (False, True))
    bare = build(kind, 2, 4)
    bare.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 4, 6)
    wide = bare(x.repeat(1, 1, 1, 3))
    torch.testing.assert_close(layer(x), wide.narrow(3, wide.shape[3] // 3, wide.shape[3] // 3))


def test_wrapping_is_that_of_pytorch_and_keeps_the_layout():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = wrap(x, (1, 2))
    assert torch.equal(found, F.pad(x, (2, 2, 1, 1), mode="circular"))
    assert found.is_contiguous(memory_format=torch.channels_last)


# --- tiny bfloat16 convolutions on CPUs -----------------------------------------------------------
# Many of these sizes give wrong numbers, or crash, in PyTorch's kernels when the guard is away.
# Which ones differs between processors: with AMX those of a last axis that a stride leaves at 1.


def build(kind, dims, channels, circular=()):
    stride = default_stride(dims)
    if kind == "transpose":
        kernel = tuple(4 if s == 2 else 3 for s in stride)
        return conv_transpose_nd(
            dims, channels, channels, kernel, stride=stride, padding=1, circular=circular
        )
    stride = stride if kind == "down" else 1
    return conv_nd(dims, channels, channels, 3, stride=stride, padding=1, circular=circular)


def results(layer, x, autocast, dtype=torch.float32):
    layer = layer.to(dtype)
    layer.zero_grad()
    x = x.to(dtype).detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x)
    weight = 1 + 0.5 * torch.sin(torch.arange(y.numel())).reshape(y.shape)  # no sum cancels
    (y.float() * weight).sum().backward()
    grads = [layer.weight.grad, layer.bias.grad]
    found = [t.detach().float().clone() for t in (y, x.grad, *grads)]
    return y.dtype, found


SMALL = [(1,), (2,), (3,), (1, 1), (2, 1), (1, 8), (2, 2), (3, 3)]
SMALL += [(9, 2), (8, 9, 2), (4, 8, 1)]
SMALL += [(1, 1, 1), (4, 1, 8), (2, 9, 2), (2, 8, 8), (1, 8, 8), (8, 2, 2), (3, 3, 3), (3, 4, 5)]


@pytest.mark.parametrize("kind", ["conv", "down", "transpose"])
@pytest.mark.parametrize("weights", ["float32 under autocast", "bfloat16"])
@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("circular", [False, True])
def test_small_bfloat16_inputs_are_within_two_percent_of_float32(kind, weights, size, circular):
    layer = build(kind, len(size), 32, [circular] * len(size))
    x = torch.randn(2, 32, *size)
    _, exact = results(layer, x, autocast=False)
    if weights == "bfloat16":
        dtype, found = results(layer, x, autocast=False, dtype=torch.bfloat16)
    else:
        dtype, found = results(layer, x, autocast=True)
    assert dtype == torch.bfloat16  # the guard gives back what the kernel would have given
    for name, a, b in zip(("output", "dx", "dw", "db"), found, exact, strict=True):
        assert (a - b).norm() <= 0.02 * b.norm(), name


@given(
    kind=st.sampled_from(["conv", "down", "transpose"]),
    size=st.integers(1, 3).flatmap(lambda dims: st.tuples(*[st.integers(1, 5)] * dims)),
    channels=st.sampled_from([16, 20, 48]),
    batch=st.integers(1, 3),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_bfloat16_inputs_of_any_small_size(kind, size, channels, batch):
    torch.manual_seed(0)
    layer = build(kind, len(size), channels)
    x = torch.randn(batch, channels, *size)
    _, exact = results(layer, x, autocast=False)
    _, found = results(layer, x, autocast=True)
    for a, b in zip(found, exact, strict=True):
        assert (a - b).norm() <= 0.02 * b.norm()


@pytest.mark.parametrize("size", [(9, 4), (8, 9, 4)])
def test_a_stride_that_leaves_one_position_without_padding(size):
    layer = conv_nd(len(size), 32, 32, 3, stride=2)
    for _ in range(5):  # the wrong numbers are memory that was never written, which may be zero
        x = torch.randn(2, 32, *size)
        _, exact = results(layer, x, autocast=False)
        _, found = results(layer, x, autocast=True)
        assert (found[0] - exact[0]).norm() <= 0.02 * exact[0].norm()

"""Weights that are cast once give what autocast gives, bit for bit."""

import pytest
import torch

from iddpm.networks import MagnitudeUNet, UNet
from iddpm.networks.cast_weights import cast_weights

HALF = torch.bfloat16


@pytest.mark.parametrize("kind", [UNet, MagnitudeUNet])
@pytest.mark.parametrize("shape", [(8,), (4, 12), (2, 4, 6)])  # 2 positions left in some axes
def test_results_are_those_of_autocast(kind, shape):
    torch.manual_seed(0)
    network = kind(
        dims=len(shape), in_channels=2, out_channels=2, model_channels=8, num_res_blocks=1,
        channel_mult=(1, 2, 2), attention_downsampling=(2,), num_heads=2, num_classes=3,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, t, y = torch.randn(2, 2, *shape), torch.tensor([3.0, 700.0]), torch.tensor([0, 2])
    with torch.autocast("cpu", HALF):
        expected = network(x, t, y=y)
        with cast_weights(network, HALF):
            found = network(x, t, y=y)
            kinds = {p.dtype for p in network.parameters()}
        after = network(x, t, y=y)
    assert torch.equal(found, expected)
    assert torch.equal(after, expected)
    assert (HALF in kinds) == (kind is UNet)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with cast_weights(network, torch.float32):
        assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_an_error_leaves_the_weights_as_they_were():
    network = UNet(
        dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
        channel_mult=(1,),
    )  # fmt: skip
    parameters = list(network.parameters())

    def fail():
        assert network.input_blocks[0][0].cast[0].dtype == HALF
        raise KeyError

    with pytest.raises(KeyError), cast_weights(network, HALF):
        fail()
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert network.input_blocks[0][0].cast is None

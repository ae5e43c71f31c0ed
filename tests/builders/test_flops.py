import pytest
import torch

from iddpm.builders import build_network, count_flops
from iddpm.config import read_config, settle
from iddpm.networks.layers import TokenLinear

SETTINGS = (
    "training.batch_size=1",
    "model.channels=3",
    "model.size=[8,8]",
    "model.model_channels=8",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2]",
    "model.attention_downsampling=[2]",
)


def config(*settings):
    return settle(read_config(None, [*SETTINGS, *settings]))


def by_hand(network, x):
    """Count products by the shapes that every layer sees."""
    total = 0

    def seen(module, inputs, output):
        nonlocal total
        weight = module.weight.numel()
        if isinstance(module, torch.nn.Linear | TokenLinear):
            total += 2 * weight * output[..., 0].numel()
        elif isinstance(module, torch.nn.ConvTranspose2d):
            total += 2 * weight * inputs[0][:, 0].numel()
        else:
            total += 2 * weight * output[:, 0].numel()

    kinds = (torch.nn.Linear, TokenLinear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(seen)
    with torch.no_grad():
        network(x, torch.zeros(1))
    return total


def test_the_count_is_that_of_every_layer():
    resolved = config("model.attention_downsampling=[]")
    network = build_network(resolved)
    attention = 2 * 2 * 16 * 16 * 16  # in the middle: 4 x 4 positions, 16 channels, two products
    assert count_flops(resolved) == 3 * (by_hand(network, torch.zeros(1, 3, 8, 8)) + attention)


def test_what_adds_to_it_and_what_does_not():
    base = count_flops(config())
    assert base > count_flops(config("model.attention_downsampling=[]"))
    assert count_flops(config("model.use_checkpoint=true")) == base
    assert count_flops(config("model.size=[16,16]", "model.attention_downsampling=[]")) > 3 * base
    again = count_flops(config("diffusion.self_condition=true"))
    assert 3.5 / 3 < again / base < 1.3
    classes = config("model.class_conditional=true", "model.num_classes=5")
    assert count_flops(classes) == pytest.approx(base, rel=0.01)


def test_a_classifier_takes_less():
    judge = config("task=classification", "class_names=[a,b]")
    assert 0 < count_flops(judge) < count_flops(config())


def test_it_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    count_flops(config("model.dropout=0.5"))
    assert torch.equal(torch.get_rng_state(), before)

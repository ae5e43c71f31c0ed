"""What is counted without numbers, against what autograd keeps when there are some."""

import pytest
import torch

from iddpm.builders import build_network, footprint, place, resolve
from iddpm.config import read_config
from iddpm.networks.blocks import AttentionBlock, ResBlock

SIZES = {1: "[256]", 2: "[16,20]", 3: "[8,12,8]"}


def settings(dims, *more):
    facts = (f"model.size={SIZES[dims]}", "model.channels=2", "model.model_channels=16")
    return resolve(read_config(None, [*facts, *more]))


def kept(config, items, autocast=False):
    """Return the bytes that autograd keeps of a call, without the weights."""
    network = build_network(config)
    place(network, torch.device("cpu"))
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    found = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage
        return x

    x = torch.randn(items, 2, *config.model.size)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        y = network(x, torch.zeros(items))
    assert y.requires_grad
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("number", [4, 2])
def test_an_item_takes_what_autograd_keeps_of_it_and_something_to_work_with(dims, number):
    config = settings(dims)
    two, one = (kept(config, items, autocast=number == 2) for items in (2, 1))
    assert 0.95 < footprint(config, number).item / (two - one) < 1.5


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_checkpointing_keeps_the_inputs_of_blocks_and_one_block(dims):
    config = settings(dims, "model.use_checkpoint=true")
    two, one = (kept(config, items) for items in (2, 1))
    plain = footprint(settings(dims)).item
    counted = footprint(config).item
    assert two - one < counted < two - one + 0.5 * plain
    assert counted < 0.6 * plain


def test_weights_moments_and_averages_are_counted_once_each():
    one, three = (
        footprint(settings(2, f"training.ema_rates={rates}"))
        for rates in ("[0.9]", "[0.9,0.99,0.999]")
    )
    weights = sum(p.numel() for p in build_network(settings(2)).parameters())
    assert three.fixed - one.fixed == 2 * 4 * weights
    assert one.item == three.item
    assert one.training(3) == one.fixed + 3 * one.item


def test_sampling_takes_less_than_training_and_nothing_is_left_on_the_network():
    config = settings(2)
    assert 0 < footprint(config).sample < 0.6 * footprint(config).item
    assert footprint(config) == footprint(config)
    blocks = [
        m for m in build_network(config).modules() if isinstance(m, ResBlock | AttentionBlock)
    ]
    assert not any(block._forward_hooks for block in blocks)


@pytest.mark.parametrize(
    "more",
    [
        ("task=classification",),
        ("task=super_resolution", "scale=2"),
        ("diffusion.self_condition=true",),
        ("model.class_conditional=true", "model.num_classes=3"),
    ],
)
def test_every_kind_of_network_is_counted(more):
    config = settings(2, *more)
    if config.task == "classification":
        config = config.model_copy(update={"class_names": ("a", "b")})
    assert footprint(config).item > 0

import pytest
from torch import nn

from iddpm.builders import check_sharing, resolve
from iddpm.builders.optimizer import hidden_matrices
from iddpm.config import read_config
from iddpm.networks import EncoderUNet, LevelHead, SuperResUNet, UNet
from iddpm.runtime.processes import Ranks
from tests.builders.settings.effect import BASE


def small(network=UNet, **options):
    options = {"out_channels": 2, "model_channels": 8, "num_res_blocks": 1, **options}
    return network(in_channels=1, channel_mult=(1, 2), attention_downsampling=(2,), **options)


def names(network):
    chosen = dict(hidden_matrices(network))
    return {name: chosen[p] for name, p in network.named_parameters() if p in chosen}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_muon_trains_what_lies_between_the_edges(dims):
    network = small(dims=dims, num_classes=3, conditions=["number"])
    found = names(network)
    blocks = ("input_blocks.", "middle_block.", "output_blocks.")
    expected = {
        name
        for name, p in network.named_parameters()
        if p.dim() > 1 and name.startswith(blocks) and not name.startswith("input_blocks.0.")
    }
    assert found.keys() == expected
    assert "middle_block.1.qkv.weight" in found
    assert [name for name, transposed in found.items() if transposed] == [
        "output_blocks.1.2.conv.weight"
    ]


def test_networks_around_a_network_have_its_edges():
    inner = names(small(out_channels=26))
    head = LevelHead(small(out_channels=26), 1, 4)
    assert names(head).keys() == {f"network.{name}" for name in inner}
    upscaler = names(small(SuperResUNet, noise_levels=True))
    assert not any(name.startswith(("noise_embed", "time_embed", "out.")) for name in upscaler)
    classifier = names(small(EncoderUNet, pool="spatial_v2", image_size=8))
    assert not any(name.startswith("out.") for name in classifier)


def test_an_own_network_has_its_first_and_last_layer_as_edges():
    tied = nn.Linear(4, 4)
    network = nn.Sequential(nn.Linear(2, 4), tied, nn.Embedding(3, 4), tied, nn.Linear(4, 1))
    assert names(network) == {"1.weight": False}


def test_sharded_matrices_are_refused_in_one_sentence():
    settings = [*BASE, "training.optimizer=muon"]
    check_sharing(resolve(read_config(None, settings)), Ranks(0, 2))
    sharded = resolve(read_config(None, [*settings, "training.parallel=fsdp"]))
    with pytest.raises(ValueError, match=r"muon needs whole matrices.*optimizer=adamw"):
        check_sharing(sharded, Ranks(0, 2))
    check_sharing(sharded, Ranks(0, 1))

"""The example settings build the published networks, parameter for parameter."""

import hashlib
from pathlib import Path

import pytest
import torch

from iddpm.builders import build_denoiser, build_loss, build_network, resolve
from iddpm.config import read_config

EXAMPLES = Path(__file__).parent.parent / "examples"
IMAGENET64 = (121063942, "5a42ef114f79713ac11f4cdd30357dbad2b40cdf6711502cf715cecee4a91fe5")
CIFAR10 = (52546438, "001b621871f3fa9dac5ac1be2f81be607e30a5a105d2319630cad7d16a217a44")
PUBLISHED = {
    "imagenet64_hybrid": IMAGENET64,
    "imagenet64_vlb": IMAGENET64,
    "cifar10_hybrid": CIFAR10,
    "cifar10_vlb": CIFAR10,
    "imagenet64_classes": (
        273049350,
        "59179ffdc09597c8c801df24c45440bf3f18409f245471cc30ebb4d41f6db7c4",
    ),
    "lsun_bedroom": (
        113676678,
        "0313288a27e5d1d53722a3cd4b2647f5c58bfac2b74d87e8dc3a5e42c5535bc0",
    ),
    "upsampler_64_256": (
        279792390,
        "dcd196aa34ef2321cc23eea83eaa50838534337fde1bbebb6d6ca64fbf3411fa",
    ),
    "guided_imagenet64": (
        295904454,
        "b879ba9ed4fe94bbbb68b19b35ce81e8ea8694b084808f990ed631bd3e81c4c3",
    ),
    "guided_imagenet128": (
        421529606,
        "d91b9be2449a697e9481ca12c382ad73a2c75ec38bca4bd0372c008664f93ef7",
    ),
    "guided_imagenet256": (
        553838086,
        "408c4d65687d2b6deffccf12030a9ff45c6b6eb5350f4a5067b95ddb800002bb",
    ),
}
FOUND = "{kind: number, range: [0, 1]}"
OWN = {
    "conditions": (
        [
            "model.channels=1",
            "model.size=[8,8]",
            f"model.conditions.slant={FOUND}",
            f"model.conditions.ink={FOUND}",
        ],
        1,
    ),
    "digits_super_resolution": (["model.channels=1", "model.size=[28,28]"], 1),
    "emoji": (["model.channels=4", "model.size=[32,32]"], 4),
    "mri_crops": (["model.channels=1", "model.size=[32,32,32]"], 1),
    "mri_super_resolution": (["model.channels=1", "model.size=[32,32,32]"], 1),
    "photo_super_resolution": (["model.channels=3", "model.size=[64,64]"], 3),
    "signals_pigcvp": (["model.channels=1", "model.size=[256]", "model.num_classes=52"], 1),
}
"""Facts that the data would state, and its channels."""


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {*PUBLISHED, "digits", *OWN}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network(name):
    config = resolve(read_config(EXAMPLES / f"{name}.yaml"))
    with torch.device("meta"):
        network = build_network(config)
    state = network.state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    found = (
        sum(value.numel() for value in state.values()),
        hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    )
    assert found == PUBLISHED[name]
    assert len(build_denoiser(config, network).diffusion.schedule) == config.diffusion.num_steps
    assert callable(build_loss(config))


def test_digits_example_builds():
    config = read_config(EXAMPLES / "digits.yaml", ["model.channels=1", "model.size=[28, 28]"])
    config = resolve(
        config.model_copy(update={"model": config.model.model_copy(update={"num_classes": 10})})
    )
    assert build_network(config).num_classes == 10


@pytest.mark.parametrize("name", OWN)
def test_example_for_own_data_runs_on_such_data(name):
    facts, channels = OWN[name]
    config = resolve(read_config(EXAMPLES / f"{name}.yaml", facts))
    x = torch.zeros(1, channels, *config.model.size)
    conditioning = (
        {"y": torch.zeros(1, dtype=torch.int64)} if config.model.class_conditional else {}
    )
    if config.model.conditions:
        conditioning["conditions"] = torch.zeros(1, len(config.model.conditions))
    if config.task == "super_resolution":
        conditioning["low_res"] = torch.zeros(
            1, channels, *(size // 2 for size in config.model.size)
        )
    with torch.no_grad():
        out = build_network(config)(x, torch.zeros(1), **conditioning)
    assert out.shape == (1, 2 * channels, *x.shape[2:])

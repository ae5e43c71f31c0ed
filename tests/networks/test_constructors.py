"""The networks' constructors show every keyword, to people and to type checkers."""

import inspect
import pydoc
from typing import get_type_hints

import pytest

import iddpm
from iddpm.networks.trunk import Trunk, TrunkOptions
from iddpm.networks.unet import UNetOptions

NETWORKS = [iddpm.UNet, iddpm.SuperResUNet, iddpm.EncoderUNet]


@pytest.mark.parametrize("network", NETWORKS)
def test_signature_and_help_show_every_keyword(network):
    shown = inspect.signature(network).parameters
    assert {p.kind for p in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
    for name, parameter in inspect.signature(Trunk).parameters.items():
        assert shown[name].default == parameter.default, name
    text = pydoc.plain(pydoc.render_doc(network))
    assert "channel_mult: collections.abc.Sequence[float] = (1, 2, 4, 8)" in text
    documented = inspect.getdoc(network).partition("Args:")[2]
    undocumented = [name for name in shown if f"{name}:" not in documented.replace(",", ":")]
    assert undocumented == []


def test_super_resolution_has_the_keywords_of_the_unet_and_one_more():
    unet, upscaler = (inspect.signature(n).parameters for n in NETWORKS[:2])
    assert {*upscaler} - {*unet} == {"noise_levels"}
    assert {*unet} <= {*upscaler}


@pytest.mark.parametrize(("options", "network"), [(TrunkOptions, Trunk), (UNetOptions, iddpm.UNet)])
def test_type_checkers_read_the_same_keywords(options, network):
    hints = get_type_hints(options)
    shown = dict(inspect.signature(network).parameters)
    shown.pop("in_channels")
    assert hints == {name: parameter.annotation for name, parameter in shown.items()}
    required = {name for name, p in shown.items() if p.default is p.empty}
    assert options.__required_keys__ == required


def test_a_subclass_shows_its_own_signature():
    class Small(iddpm.UNet):
        def __init__(self, width: int) -> None:
            super().__init__(in_channels=1, out_channels=1, model_channels=width, num_res_blocks=1)

    assert list(inspect.signature(Small).parameters) == ["width"]

"""Training with magnitude-preserving layers: settings, exact resuming, memory, files for others."""

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders import build_network, count_flops, footprint, resolve
from iddpm.config import read_config
from iddpm.networks import MagnitudeUNet
from iddpm.networks.magnitude_layers import MagnitudeConv
from iddpm.tasks.export import export
from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY

LAYERS = "model.layers=magnitude_preserving"


@pytest.fixture
def signals(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 16, 1)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", arr_0=x)
    return tmp_path / "x.npz"


def train(data, out, steps, *more, **options):
    settings = [*TINY, LAYERS, f"training.steps={steps}", "data.layout=NLC", "data.held_out=0.2",
                "diffusion.self_condition=true", *more]  # fmt: skip
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


def test_a_resumed_run_is_that_which_went_on_and_all_weights_have_magnitude_one(signals, tmp_path):
    whole = train(signals, tmp_path / "whole", 4)
    train(signals, tmp_path / "parts", 2)
    iddpm.train(out=tmp_path / "parts", resume=True, settings=["training.steps=4"],
                reporter=SilentReporter())  # fmt: skip
    one, other = (load_checkpoint(tmp_path / d, 4).tensors["network"] for d in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    stored = [value for name, value in one.items() if name.endswith("weight")]
    for value in stored:
        size = value.flatten(1).square().mean(1).sqrt()
        assert torch.allclose(size, torch.ones_like(size), atol=2e-6)
    assert whole.sample(2, steps=2).shape == (2, 1, 16)
    with pytest.raises(ValueError, match=r"no counterpart of model\.layers=magnitude_preserving"):
        export(iddpm.load(tmp_path / "whole"), "diffusers", tmp_path / "pipeline")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("model.upsample=nearest", "without upsample=nearest: leave it out"),
        ("model.group_channels=4", "without group_channels=4"),
        ("task=classification", "use model.layers=group_norm"),
    ],
)
def test_settings_of_other_blocks_are_refused(more, said):
    with pytest.raises(ValueError, match=said):
        read_config(None, [LAYERS, more])


@pytest.mark.slow
def test_an_exported_program_computes_the_same(signals, tmp_path):
    run = train(signals, tmp_path / "run", 1)
    export(run, "torch", tmp_path / "program")
    program = torch.export.load(tmp_path / "program" / "network.pt2").module()
    x, t = torch.randn(3, 2, 24), torch.tensor([0.0, 400.0, 999.0])
    assert torch.allclose(program(x=x, timesteps=t), run.denoiser.network(x, t), atol=1e-5)


def resolved(*more, size="[16,16]"):
    return resolve(read_config(None, [f"model.size={size}", "model.channels=3", LAYERS, *more]))


def test_memory_and_operations_are_those_of_the_network():
    """Normalized copies of weights are kept once, and the rest for each item."""
    config = resolved("model.model_channels=16", "training.ema_rates=[0.9]")
    network = build_network(config)
    assert isinstance(network, MagnitudeUNet)
    weights = {p.untyped_storage()._cdata for p in network.parameters()}

    def kept(items):
        found = {}

        def pack(x):
            if x.untyped_storage()._cdata not in weights:
                found[x.untyped_storage()._cdata] = x.untyped_storage()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            network(torch.randn(items, 3, 16, 16), torch.zeros(items))
        return sum(storage.nbytes() for storage in found.values())

    one, two = kept(1), kept(2)
    counted = footprint(config)
    assert 0.95 < counted.item / (two - one) < 1.5
    convolved = sum(
        m.conv.weight.numel() for m in network.modules() if isinstance(m, MagnitudeConv)
    )
    plain = footprint(resolved("model.model_channels=16", "training.ema_rates=[0.9,0.99]"))
    assert plain.fixed - counted.fixed == 4 * sum(p.numel() for p in network.parameters())
    assert counted.fixed - 2e8 > 4 * (5 * sum(p.numel() for p in network.parameters()) + convolved)
    assert count_flops(config) > 3 * 2 * 16 * 16 * 9 * 4 * 16

"""The U-Net of magnitude-preserving layers: its contract, and magnitudes before and after steps."""

import copy
import math

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses
from iddpm.networks import NO_CLASS, MagnitudeSuperResUNet, MagnitudeUNet
from iddpm.networks.magnitude_blocks import MagnitudeBlock
from iddpm.networks.magnitude_layers import MagnitudeConv, MagnitudeEmbedding, MagnitudeLinear
from iddpm.training.ema import EMA
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep
from iddpm.training.timesteps import UniformTimesteps

CPU = torch.device("cpu")
SIZES = {1: (13,), 2: (6, 5), 3: (3, 4, 5)}
LAYERS = (MagnitudeConv, MagnitudeLinear, MagnitudeEmbedding)


def make(dims=2, kind=MagnitudeUNet, **options):
    torch.manual_seed(0)
    return kind(
        dims=dims, in_channels=1, out_channels=2, num_res_blocks=1, channel_mult=(1, 2),
        attention_downsampling=(2,), num_heads=2, **{"model_channels": 8, **options},
    )  # fmt: skip


def awake(network):
    """Open all gains, which would hide what is behind them."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(0.7)
    return network


def trained(dims, steps=100):
    network = make(dims)
    step = TrainStep(
        Denoiser(network, GaussianDiffusion(cosine(20)), "v"),
        network,
        losses.hybrid,
        UniformTimesteps(20),
        torch.optim.AdamW(network.parameters(), lr=0.02),
        [EMA(network, 0.9)],
        Precision("float32", CPU),
    )
    x0 = torch.rand(2, 1, *SIZES[dims]) * 2 - 1
    for number in range(steps):
        assert not step(x0, number).skipped
    return network


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("steps", [0, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_every_layer_preserves_magnitudes_at_the_start_and_after_steps(dims, steps):
    """A sum of uncorrelated inputs has the norm of its weights as magnitude: 1 for each output."""
    network, start = trained(dims, steps), make(dims)
    seen = 0
    for (name, layer), before in zip(network.named_modules(), start.modules(), strict=True):
        if not isinstance(layer, LAYERS):
            continue
        seen += 1
        weight = layer.conv.weight if isinstance(layer, MagnitudeConv) else layer.weight
        stored = weight.detach().double().flatten(1).square().mean(1).sqrt()
        assert torch.allclose(stored, torch.ones_like(stored), atol=2e-6), name
        if isinstance(layer, MagnitudeConv):
            ring = copy.deepcopy(layer)
            ring.conv.circular = (True,) * dims  # zeros outside would count as inputs
            kernel = (3,) * dims
            basis = torch.eye(weight.shape[1] * 3**dims).reshape(-1, weight.shape[1], *kernel)
            outputs = super(type(ring), ring).forward if type(ring) is not MagnitudeConv else ring
            energy = outputs(basis).double().square().sum(0)
            assert torch.allclose(energy, torch.ones_like(energy), atol=1e-5), name
        if steps:
            old = before.conv.weight if isinstance(layer, MagnitudeConv) else before.weight
            assert not torch.equal(weight, old), name
    assert seen > 20
    gains = [float(p.detach()) for name, p in network.named_parameters() if name.endswith("gain")]
    assert all(gains) == bool(steps)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_blocks_of_the_downward_path_see_magnitude_one_whatever_the_scale_of_the_data(dims):
    network = make(dims)
    seen = []
    for module in network.input_blocks.modules():
        if isinstance(module, MagnitudeBlock):
            module.conv_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 1, *SIZES[dims])
    with torch.no_grad():
        network(x, torch.zeros(2))
        first, seen[:] = seen[0], []
        network(1e3 * x, torch.zeros(2))
    least = torch.nn.functional.silu(torch.linspace(-2, 0, 10_000)).min()
    for h in (first, seen[0]):  # after SiLU, of eight channels whose squares have the mean 1
        assert h.min() >= least - 1e-6
        assert h.max() < math.sqrt(8)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_takes_any_size_and_all_conditioning_and_starts_at_zero(dims):
    conditions = ["number", "periodic", 4]
    network = make(dims, num_classes=3, conditions=conditions, given_channels=2, dropout=0.2)
    x, t = torch.randn(3, 1, *SIZES[dims]), torch.tensor([0.0, 400.0, 999.0])
    known = {
        "y": torch.tensor([0, 1, 2]),
        "conditions": torch.tensor([[0.3, 0.1, 1.0]]).repeat(3, 1),
        "given": torch.randn(3, 2, *SIZES[dims]),
    }
    assert not network(x, t, **known).any()
    awake(network).eval()
    base = network(x, t, **known)
    assert base.shape == (3, 2, *SIZES[dims])
    for name, other in (
        ("y", torch.full((3,), NO_CLASS)),
        ("conditions", torch.full((3, 3), torch.nan)),
        ("given", 2 * known["given"]),
    ):
        changed = network(x, t, **{**known, name: other})
        assert changed.isfinite().all()
        assert (changed - base).flatten(1).abs().amax(1).min() > 1e-4, name
    with pytest.raises(ValueError, match="3 classes and was called without"):
        network(x, t, **{**known, "y": None})


def test_embeddings_of_what_is_known_have_magnitude_one_in_the_mean():
    network = make(model_channels=64, num_classes=50, conditions=[50])
    y = torch.arange(50)
    kinds = {"all": (y, y), "no class": (torch.full((50,), NO_CLASS), y), "nothing": (None, None)}
    for name, (label, condition) in kinds.items():
        label = torch.full((50,), NO_CLASS) if label is None else label
        given = torch.full((50, 1), torch.nan) if condition is None else condition[:, None].float()
        emb = network.embed(torch.zeros(50, 1, 4, 4), torch.linspace(0, 999, 50), label, given)
        # The vectors are independent, and each has 256 numbers.
        assert float(emb.square().mean()) == pytest.approx(1, abs=0.15), name


def test_circular_axes_wrap():
    network = awake(make(2, circular=(True, False))).eval()
    x = torch.randn(1, 1, 4, 6)
    moved = network(x.roll(2, 2), torch.zeros(1))
    assert torch.allclose(moved, network(x, torch.zeros(1)).roll(2, 2), atol=1e-5)
    with pytest.raises(ValueError, match="periodic axis 0"):
        network(torch.zeros(1, 1, 5, 6), torch.zeros(1))


def test_a_low_resolution_and_its_noise_change_the_output():
    network = awake(make(kind=MagnitudeSuperResUNet, noise_levels=True))
    x, low, t = torch.randn(2, 1, 6, 6), torch.randn(2, 1, 3, 3), torch.zeros(2)
    base = network(x, t, low, low_res_noise=torch.zeros(2))
    assert base.shape == (2, 2, 6, 6)
    assert (network(x, t, 2 * low, low_res_noise=torch.zeros(2)) - base).abs().max() > 1e-4
    assert (network(x, t, low, low_res_noise=torch.ones(2)) - base).abs().max() > 1e-4


@pytest.mark.parametrize("engine", ["function", "torch"])
def test_checkpointing_gives_the_same_gradients(engine):
    plain = awake(make(dropout=0.3))
    saving = awake(make(dropout=0.3, use_checkpoint=True, checkpoint_engine=engine))
    assert len(saving.checkpoint_blocks()) > 5
    x, found = torch.randn(2, 1, 6, 5), []
    for network in (plain, saving):
        torch.manual_seed(1)
        network(x, torch.zeros(2)).square().sum().backward()
        found.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.slow
def test_it_compiles_as_one_graph():
    network = awake(make(num_classes=3, use_checkpoint=True, checkpoint_engine="torch"))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x, t, y = torch.randn(2, 1, 6, 5), torch.tensor([3.0, 700.0]), torch.tensor([NO_CLASS, 2])
    assert torch.allclose(compiled(x, t, y=y), network(x, t, y=y), atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_bfloat16_stays_bfloat16_and_close(dims):
    network = awake(make(dims)).eval()
    x, t = torch.randn(2, 1, *SIZES[dims]), torch.tensor([3.0, 700.0])
    exact = network(x, t)
    kinds = []
    for block in network.skip_stages():
        block.register_forward_hook(lambda _, __, y: kinds.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        cast = network(x, t)
    whole = copy.deepcopy(network).bfloat16()(x.bfloat16(), t)
    assert set(kinds) == {torch.bfloat16}
    for rough in (cast, whole):
        assert rough.dtype == torch.bfloat16
        assert (rough.float() - exact).norm() < 0.1 * exact.norm()

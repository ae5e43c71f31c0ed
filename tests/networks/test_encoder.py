import pytest
import torch

from iddpm.networks import EncoderUNet
from iddpm.networks import encoder as encoder_module
from iddpm.networks.encoder import AttentionPool

POOLS = ["adaptive", "attention", "spatial", "spatial_v2"]
SIZES = {1: (15,), 2: (9, 7), 3: (3, 7, 6)}


@pytest.fixture(autouse=True)
def narrow_hidden_layer(monkeypatch):
    monkeypatch.setattr(encoder_module, "SPATIAL_WIDTH", 16)


def small(**options):
    defaults = {
        "in_channels": 3,
        "out_channels": 5,
        "model_channels": 8,
        "num_res_blocks": 1,
        "channel_mult": (1, 2),
    }
    network = EncoderUNet(**{**defaults, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network


@pytest.mark.parametrize("options", [{}, {"downsample": "avg_pool"}, {"resblock_updown": True}])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("pool", POOLS)
def test_logits_and_gradients(pool, dims, options):
    network = small(
        dims=dims, pool=pool, image_size=SIZES[dims], attention_downsampling=(2,), **options
    )
    x = torch.randn(2, 3, *SIZES[dims], requires_grad=True)
    logits = network(x, torch.tensor([3, 300]))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert x.grad.any()  # classifier guidance needs it


def test_the_untrained_classifier_is_undecided():
    network = EncoderUNet(
        in_channels=3, out_channels=5, model_channels=8, num_res_blocks=1, channel_mult=(1, 2)
    )
    assert not network(torch.randn(2, 3, 8, 8), torch.zeros(2)).any()


def test_the_attention_pool_is_the_formula_written_out():
    pool = AttentionPool((2, 3), 8, 2, 5)
    x = torch.randn(1, 8, 2, 3)
    tokens = x.flatten(2)[0]  # [C, L]
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding
    q, k, v = (pool.qkv_proj.weight[..., 0] @ tokens + pool.qkv_proj.bias[:, None]).chunk(3)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(q[part, 0] @ k[part] / 2, dim=-1)
        heads.append(v[part] @ weights)
    expected = pool.c_proj.weight[..., 0] @ torch.cat(heads) + pool.c_proj.bias
    torch.testing.assert_close(pool(x)[0], expected)


def test_an_image_size_of_one_number_is_every_axis():
    assert small(pool="attention", image_size=8).image_size == (8, 8)
    assert small(pool="attention", image_size=9)(torch.randn(1, 3, 9, 9), torch.zeros(1)).any()


@pytest.mark.parametrize("pool", ["adaptive", "spatial", "spatial_v2"])
def test_other_pools_take_any_size(pool):
    network = small(pool=pool, image_size=8)
    for size in ((8, 8), (15, 10)):
        assert network(torch.randn(2, 3, *size), torch.zeros(2)).shape == (2, 5)


def test_refusals_name_the_numbers():
    with pytest.raises(ValueError, match=r"pool='max'"):
        small(pool="max")
    with pytest.raises(ValueError, match=r"image_size.*2.*None"):
        small(pool="attention")
    with pytest.raises(ValueError, match=r"2.*\(4, 4, 4\)"):
        small(pool="attention", image_size=(4, 4, 4))
    with pytest.raises(ValueError, match=r"\(8, 8\).*\(8, 9\)"):
        small(pool="attention", image_size=8)(torch.randn(1, 3, 8, 9), torch.zeros(1))
    with pytest.raises(ValueError, match=r"num_heads=3.*16"):
        small(pool="attention", image_size=8, num_heads=3)
    with pytest.raises(ValueError, match=r"\[1, 4, 8, 8\]"):
        small()(torch.randn(1, 4, 8, 8), torch.zeros(1))


@pytest.mark.parametrize("engine", ["function", "torch"])
def test_checkpointing_changes_nothing(engine):
    gradients = []
    for on in (False, True):
        torch.manual_seed(0)
        network = small(
            attention_downsampling=(2,), use_checkpoint=on, checkpoint_engine=engine, dropout=0.3
        )
        x = torch.randn(2, 3, 8, 8)
        network(x, torch.tensor([3, 300])).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("pool", POOLS)
def test_features_are_what_the_last_projection_sees(pool):
    network = small(pool=pool, image_size=SIZES[2])
    x, time = torch.randn(2, 3, *SIZES[2]), torch.tensor([3, 300])
    features = network.features(x, time)
    assert features.dim() == 2
    projection = {"adaptive": -2, "attention": -1}.get(pool, -1)
    last = network.out[projection]
    last = last.c_proj if pool == "attention" else last
    expected = features @ last.weight.flatten(1).T + last.bias
    torch.testing.assert_close(network(x, time), expected)

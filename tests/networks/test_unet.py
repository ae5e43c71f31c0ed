import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from iddpm.networks import NO_CLASS, UNet
from iddpm.networks.blocks import ResBlock
from iddpm.networks.unet import join_skip

SIZES = {1: [(7,), (15,), (28,)], 2: [(7, 7), (15, 15), (28, 28), (50, 37)], 3: [(3, 7, 6)]}


def randomise(module):
    """Give every parameter a random value: zeroed layers hide the gradients before them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
    return module


def small(**options):
    defaults = {
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": 8,
        "num_res_blocks": 1,
        "channel_mult": (1, 2),
    }
    return UNet(**{**defaults, **options})


def forward_backward(network, size, *, num_classes=None):
    """Check output shape and that every parameter gets a finite gradient that is not zero."""
    randomise(network)
    x = torch.randn(2, network.in_channels, *size)
    y = None if num_classes is None else torch.tensor([0, num_classes - 1])
    out = network(x, torch.tensor([0.5, 900.0]), y)
    assert out.shape == (2, network.out_channels, *size)
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@given(
    where=st.sampled_from([(d, s) for d, sizes in SIZES.items() for s in sizes]),
    channels=st.sampled_from([1, 3, 4, 13]),
    twice=st.booleans(),
    width=st.sampled_from([8, 20, 37]),
    upsample=st.sampled_from(["transpose", "nearest_conv", "nearest"]),
    downsample=st.sampled_from(["conv", "avg_pool"]),
    film=st.booleans(),
    attention=st.sampled_from([(), (2,), (1, 2)]),
    updown=st.booleans(),
    order=st.sampled_from(["heads_first", "qkv_first"]),
    num_classes=st.sampled_from([None, 2]),
    smooth=st.booleans(),
)
@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_size_any_width_any_options(
    where, channels, twice, width, upsample, downsample, film, attention, updown, order,
    num_classes, smooth,
):  # fmt: skip
    dims, size = where
    if math.prod(size) > 500:
        width, attention = 8, attention[1:]  # seconds, not more cases
    network = small(
        dims=dims,
        in_channels=channels,
        out_channels=channels * (1 + twice),
        model_channels=width,
        attention_downsampling=attention,
        use_scale_shift_norm=film,
        upsample=upsample,
        downsample=downsample,
        resblock_updown=updown,
        qkv_order=order,
        num_classes=num_classes,
        smooth_start=smooth,
    )
    forward_backward(network, size, num_classes=num_classes)


@pytest.mark.parametrize(
    ("dims", "upsample", "downsample", "updown"),
    list(
        itertools.product(
            [1, 2, 3], ["transpose", "nearest_conv", "nearest"], ["conv", "avg_pool"], [False, True]
        )
    ),
)
def test_every_way_to_resize_in_every_dimension(dims, upsample, downsample, updown):
    network = small(
        dims=dims,
        channel_mult=(1, 1, 2),
        upsample=upsample,
        downsample=downsample,
        resblock_updown=updown,
    )
    forward_backward(network, {1: (15,), 2: (7, 10), 3: (3, 7, 6)}[dims])


def test_the_widths_of_the_released_networks_follow_the_multipliers():
    network = small(model_channels=20, channel_mult=(0.5, 1, 1.5))
    assert network.widths == [10, 20, 30]


def test_an_untrained_network_predicts_zero():
    assert not small()(torch.randn(2, 3, 8, 8), torch.zeros(2)).any()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_stride_of_your_own(dims):
    stride = {1: (2,), 2: (1, 2), 3: (2, 2, 2)}[dims]
    forward_backward(small(dims=dims, stride=stride), {1: (9,), 2: (5, 9), 3: (5, 6, 7)}[dims])


# --- what the network is given beside x ----------------------------------------------------------


def test_fractions_of_timesteps_matter_and_integers_equal_floats():
    network = randomise(small())
    x = torch.randn(1, 3, 8, 8)
    whole, part = network(x, torch.tensor([10])), network(x, torch.tensor([10.5]))
    assert not torch.allclose(whole, part)
    assert torch.equal(whole, network(x, torch.tensor([10.0])))


def test_no_class_has_a_zero_embedding():
    network = randomise(small(num_classes=3))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([5, 6])
    labeled = network.embed(x, t, torch.tensor([NO_CLASS, 2]))
    without = network.embed_time(x, t)
    assert torch.equal(labeled[0], without[0])
    torch.testing.assert_close(labeled[1], without[1] + network.label_emb.weight[2])


def test_no_class_sends_no_gradient_to_the_first_class():
    network = randomise(small(num_classes=3))
    network(torch.randn(2, 3, 8, 8), torch.zeros(2), torch.tensor([NO_CLASS, 2])).sum().backward()
    gradient = network.label_emb.weight.grad
    assert not gradient[:2].any()
    assert gradient[2].any()


def test_items_of_a_batch_do_not_see_each_other():
    network = randomise(small(attention_downsampling=(2,), num_classes=3)).eval()
    x, t, y = torch.randn(3, 3, 9, 8), torch.tensor([1, 500, 999]), torch.tensor([0, -1, 2])
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, t, y), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "size"), [(1, (15,)), (2, (9, 7)), (3, (3, 7, 6))])
def test_features_are_what_forward_computes(dims, size):
    network = randomise(small(dims=dims, channel_mult=(1, 2, 2), attention_downsampling=(2,)))
    x, t = torch.randn(2, 3, *size), torch.tensor([4, 40])
    features = network.features(x, t)
    assert torch.equal(network.out(features.up[-1]), network(x, t))
    assert [f.shape[1] for f in features.down] == network.stage_channels
    assert len(features.up) == len(network.output_blocks)
    emb = network.embed(x, t, None)
    assert torch.equal(network.middle_block(features.down[-1], emb), features.middle)
    joined = join_skip(features.middle, features.down[-1])
    assert torch.equal(network.output_blocks[0](joined, emb), features.up[0])


def test_a_skip_of_an_odd_size_crops_the_decoder():
    h, skip = torch.randn(1, 2, 8, 10), torch.randn(1, 3, 7, 9)
    joined = join_skip(h, skip)
    assert torch.equal(joined[:, :2], h[..., :7, :9])
    assert torch.equal(joined[:, 2:], skip)


# --- torch.compile and memory layout -------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "training"), [*itertools.product([1, 2, 3], ["no", "recomputing"]), (2, "yes")]
)
def test_compile_sees_one_graph(dims, training):
    torch._dynamo.reset()
    network = randomise(
        small(
            dims=dims,
            attention_downsampling=(2,),
            num_classes=2,
            dropout=0.0,
            use_checkpoint=training == "recomputing",
            checkpoint_engine="torch",
        )
    )
    network.train(training != "no")
    inputs = (
        torch.randn(2, 3, *{1: (15,), 2: (9, 7), 3: (3, 7, 6)}[dims]),
        torch.tensor([4, 40]),
        torch.tensor([0, -1]),
    )
    with torch.set_grad_enabled(training != "no"):
        compiled = torch.compile(network, fullgraph=True, backend="eager")  # refuses two graphs
        torch.testing.assert_close(compiled(*inputs), network(*inputs))
        if training != "no":
            compiled(*inputs).sum().backward()
            assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_compile_sees_one_graph_of_bfloat16_signals(training):
    torch._dynamo.reset()
    network = randomise(small(dims=1, attention_downsampling=(2,)))
    inputs = torch.randn(2, 3, 16), torch.tensor([4, 40])
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(*inputs), network(*inputs))
        if training:
            compiled(*inputs).sum().backward()


def test_compile_breaks_at_the_hand_written_function_and_stays_right():
    network = randomise(small(use_checkpoint=True, channel_mult=(1,)))
    x, t = torch.randn(1, 3, 8, 8), torch.zeros(1)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"autograd\.Function"):
        torch.compile(network, fullgraph=True, backend="eager")(x, t)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(network, backend="eager")(x, t), network(x, t))


@pytest.mark.parametrize("upsample", ["transpose", "nearest_conv"])
def test_channels_last_gives_the_same_numbers(upsample):
    network = randomise(small(attention_downsampling=(2,), upsample=upsample))
    x, t = torch.randn(2, 3, 9, 8), torch.tensor([4, 40])
    expected = network(x, t)
    found = network.to(memory_format=torch.channels_last)(x, t)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_autocast_keeps_every_activation_in_bfloat16():
    for dims, size in ((1, (16,)), (2, (8, 8)), (3, (3, 8, 8))):
        for options in (
            {},
            {"resblock_updown": True},
            {"downsample": "avg_pool", "upsample": "nearest"},
        ):
            network = randomise(
                small(dims=dims, attention_downsampling=(2,), num_classes=2, **options)
            )
            wrong = []

            def note(module, inputs, output, wrong=wrong, dims=dims):
                if output.dim() == dims + 2 and output.dtype != torch.bfloat16:
                    wrong.append(type(module).__name__)

            for module in network.modules():
                if not isinstance(module, nn.AvgPool3d):  # Downsample casts it back
                    module.register_forward_hook(note)
            with torch.autocast("cpu", torch.bfloat16):
                network(torch.randn(1, 3, *size), torch.zeros(1), torch.zeros(1, dtype=torch.long))
            assert wrong == []


def test_a_network_of_bfloat16_weights_is_near_its_float32_self():
    network = randomise(small(attention_downsampling=(2,)))
    x, t = torch.randn(2, 3, 9, 8), torch.tensor([4, 40])
    expected = network(x, t)
    found = network.bfloat16()(x.bfloat16(), t)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": 4}, r"dims=4"),
        ({"attention_downsampling": (2, 16)}, r"\(2, 16\).*2 levels.*\(1, 2\)"),
        ({"attention_downsampling": (2,), "num_heads": 3}, r"num_heads=3.*16 channels"),
        ({"num_head_channels": 5}, r"num_head_channels=5.*16 channels"),
        ({"stride": (2,)}, r"stride=\(2,\).*2 axes"),
        ({"stride": (2, 3)}, r"stride=\(2, 3\)"),
        ({"channel_mult": ()}, r"model_channels=8.*\(\)"),
        ({"channel_mult": (0.1, 1)}, r"model_channels=8.*\(0.1, 1\)"),
        ({"dims": 3, "stride": (2, 2)}, r"stride=\(2, 2\).*3 axes"),
    ],
)
def test_numbers_that_do_not_fit_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


@pytest.mark.parametrize(
    ("shape", "steps", "words"),
    [
        ((2, 4, 8, 8), 2, r"\[N, 3, H, W\].*\[2, 4, 8, 8\]"),
        ((2, 3, 8), 2, r"\[2, 3, 8\]"),
        ((2, 3, 8, 8), 3, r"2 items.*\[3\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(shape, steps, words):
    with pytest.raises(ValueError, match=words):
        small()(torch.randn(*shape), torch.zeros(steps))


def test_labels_missing_or_unwanted_are_refused():
    x, t = torch.randn(2, 3, 8, 8), torch.zeros(2)
    with pytest.raises(ValueError, match=r"3 classes.*without"):
        small(num_classes=3)(x, t)
    with pytest.raises(ValueError, match=r"no classes.*with"):
        small()(x, t, torch.tensor([0, 1]))


def test_a_size_too_small_is_refused_and_the_next_one_runs():
    network = small(channel_mult=(1, 1, 1))
    with pytest.raises(ValueError, match=r"\(4, 4\) shrinks to \(1, 1\) at level 2"):
        network(torch.randn(1, 3, 4, 4), torch.zeros(1))
    forward_backward(network, (4, 5))


def test_heads_of_the_decoder_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="num_heads_upsample=5"):
        UNet(
            in_channels=1, out_channels=1, model_channels=32, num_res_blocks=1,
            attention_downsampling=(1,), num_heads=4, num_heads_upsample=5,
        )  # fmt: skip


def test_blocks_stand_where_they_are_stated():
    """Blocks of each level are as wide as it, and the decoder has one more at each."""
    network = UNet(
        in_channels=1, out_channels=1, model_channels=4, num_res_blocks=(1, 3), channel_mult=(1, 2)
    )
    down, up = ([b[0] for b in blocks if isinstance(b[0], ResBlock)]
                for blocks in (network.input_blocks, network.output_blocks))  # fmt: skip
    assert [block.out_layers[-1].out_channels for block in down] == [4, 8, 8, 8]
    assert [block.out_layers[-1].out_channels for block in up] == [8] * 4 + [4] * 2
    assert network(torch.zeros(1, 1, 7, 6), torch.zeros(1)).shape == (1, 1, 7, 6)
    equal = UNet(
        in_channels=1, out_channels=1, model_channels=4, num_res_blocks=[2, 2], channel_mult=(1, 2)
    )
    plain = UNet(
        in_channels=1, out_channels=1, model_channels=4, num_res_blocks=2, channel_mult=(1, 2)
    )
    assert equal.state_dict().keys() == plain.state_dict().keys()
    for wrong in ([1], [1, 0], [1, 1, 1]):
        with pytest.raises(ValueError, match="each of the 2 levels"):
            UNet(in_channels=1, out_channels=1, model_channels=4, num_res_blocks=wrong,
                 channel_mult=(1, 2))  # fmt: skip

import pytest
import torch

from iddpm.interop.openai import build_published, constructor_from_flags, translate_arguments
from iddpm.networks import EncoderUNet, SuperResUNet, UNet

SMALL = {
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
}


def translated(source="id.UNetModel", **kwargs):
    return translate_arguments(source, {**SMALL, **kwargs})[1]


@pytest.mark.parametrize("family", ["id", "gd"])
@pytest.mark.parametrize(
    ("name", "ours"),
    [("UNetModel", UNet), ("SuperResModel", SuperResUNet), ("EncoderUNetModel", EncoderUNet)],
)
def test_classes(family, name, ours):
    assert translate_arguments(f"{family}.{name}", SMALL)[0] is ours


def test_published_defaults_are_not_ours():
    _, ours = translate_arguments("id.UNetModel", {})
    assert ours == {
        "use_scale_shift_norm": False,
        "channel_mult": (1, 2, 4, 8),
        "upsample": "nearest_conv",
        "downsample": "conv",
    }


def test_attention_resolutions_are_factors():
    ours = translated(attention_resolutions=[4, 8, 16], channel_mult=(1, 2, 2, 2))
    assert ours["attention_downsampling"] == (4, 8)
    assert "attention_resolutions" not in ours


def test_attention_stands_where_the_factor_says():
    network = build_published("id.UNetModel", {**SMALL, "attention_resolutions": (2,)})
    attention = {name.rsplit(".qkv", 1)[0] for name in network.state_dict() if ".qkv.w" in name}
    # channel_mult (1, 2), one block each: block 3 is the one at half the resolution.
    assert attention == {
        "input_blocks.3.1",
        "middle_block.1",
        "output_blocks.0.1",
        "output_blocks.1.1",
    }


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"conv_resample": True}, {"upsample": "nearest_conv", "downsample": "conv"}),
        ({"conv_resample": False}, {"upsample": "nearest", "downsample": "avg_pool"}),
        ({"num_heads_upsample": -1}, {"num_heads_upsample": None}),
        ({"num_heads_upsample": 2}, {"num_heads_upsample": 2}),
        ({"num_head_channels": -1}, {"num_head_channels": None}),
        ({"num_head_channels": 64}, {"num_head_channels": 64}),
        ({"use_new_attention_order": True}, {"qkv_order": "qkv_first"}),
        ({"use_new_attention_order": False}, {"qkv_order": "heads_first"}),
        ({"use_scale_shift_norm": True}, {"use_scale_shift_norm": True}),
        ({"dims": 3, "dropout": 0.1}, {"dims": 3, "dropout": 0.1}),
        ({"num_classes": 7, "num_heads": 4}, {"num_classes": 7, "num_heads": 4}),
        ({"resblock_updown": True}, {"resblock_updown": True}),
        ({"use_checkpoint": True}, {"use_checkpoint": True}),
    ],
)
def test_each_rule(given, ours):
    result = translated("gd.UNetModel", **given)
    assert {key: result[key] for key in ours} == ours
    assert not set(result) & (set(given) - set(ours))
    build_published("gd.UNetModel", {**SMALL, **given})


def test_what_has_no_effect_is_dropped():
    ours = translated("gd.UNetModel", use_fp16=True, image_size=64)
    assert "use_fp16" not in ours
    assert "image_size" not in ours


def test_an_encoder_has_a_size_and_no_upward_path():
    given = {
        "image_size": 16,
        "pool": "attention",
        "num_heads_upsample": -1,
        "num_head_channels": 16,
    }
    ours = translated("gd.EncoderUNetModel", **given)
    assert ours["image_size"] == 16
    assert ours["pool"] == "attention"
    assert not {"upsample", "num_heads_upsample"} & set(ours)
    encoder = build_published("gd.EncoderUNetModel", {**SMALL, **given, "out_channels": 5})
    assert encoder(torch.zeros(2, 3, 16, 16), torch.zeros(2)).shape == (2, 5)


@pytest.mark.parametrize("source", ["id.ResNet", "UNetModel", "hf.UNetModel", "", "gd."])
def test_an_unknown_class_is_named_beside_the_known_ones(source):
    with pytest.raises(ValueError, match=r"id\.UNetModel, gd\.UNetModel") as raised:
        translate_arguments(source, {})
    assert repr(source) in str(raised.value)


def test_an_unknown_argument_is_named():
    with pytest.raises(ValueError, match=r"id\.UNetModel has no argument 'num_layers'"):
        translated(num_layers=3)


IMPROVED = {"learn_sigma": True, "num_channels": 128, "num_res_blocks": 3}
GUIDED = {
    "attention_resolutions": "32,16,8",
    "class_cond": True,
    "learn_sigma": True,
    "resblock_updown": True,
    "use_fp16": True,
    "use_scale_shift_norm": True,
}


@pytest.mark.parametrize(
    ("family", "flags", "parameters"),
    [
        ("improved-diffusion", {**IMPROVED, "image_size": 32, "dropout": 0.3}, 52_546_438),
        ("improved-diffusion", {**IMPROVED, "image_size": 64}, 121_063_942),
        (
            "improved-diffusion",
            {
                "image_size": 256,
                "num_channels": 128,
                "num_res_blocks": 2,
                "num_heads": 1,
                "learn_sigma": True,
                "use_scale_shift_norm": False,
                "attention_resolutions": "16",
            },
            113_676_678,
        ),
        (
            "improved-diffusion",
            {"num_channels": 192, "num_res_blocks": 2, "learn_sigma": True, "class_cond": True},
            279_792_390,
        ),
        (
            "guided-diffusion",
            {
                **GUIDED,
                "image_size": 64,
                "num_channels": 192,
                "num_head_channels": 64,
                "num_res_blocks": 3,
                "use_new_attention_order": True,
                "dropout": 0.1,
            },
            295_904_454,
        ),
        (
            "guided-diffusion",
            {**GUIDED, "image_size": 128, "num_channels": 256, "num_heads": 4, "num_res_blocks": 2},
            421_529_606,
        ),
        (
            "guided-diffusion",
            {**GUIDED, "image_size": 256, "num_channels": 256, "num_head_channels": 64},
            553_838_086,
        ),
    ],
)
def test_published_models_have_their_number_of_parameters(family, flags, parameters):
    with torch.device("meta"):
        network = build_published(*constructor_from_flags(family, flags))
    assert sum(p.numel() for p in network.state_dict().values()) == parameters


def test_flags_hold_pixels_where_the_class_takes_factors():
    _, kwargs = constructor_from_flags(
        "guided-diffusion", {"image_size": 64, "attention_resolutions": "32,16,8"}
    )
    assert kwargs["attention_resolutions"] == (2, 4, 8)
    _, kwargs = constructor_from_flags("improved-diffusion", {"image_size": 32})
    assert kwargs["attention_resolutions"] == (2, 4)  # "16,8" by default


def test_an_upsampler_is_known_by_its_large_size_and_has_its_own_multipliers():
    source, kwargs = constructor_from_flags(
        "guided-diffusion", {"large_size": 512, "small_size": 128, "attention_resolutions": "32,16"}
    )
    assert source == "gd.SuperResModel"
    assert kwargs["channel_mult"] == (1, 1, 2, 2, 4, 4)
    assert kwargs["attention_resolutions"] == (16, 32)
    assert kwargs["in_channels"] == 3
    # The plain network of that size starts at half the width.
    source, kwargs = constructor_from_flags("guided-diffusion", {"image_size": 512})
    assert source == "gd.UNetModel"
    assert kwargs["channel_mult"] == (0.5, 1, 1, 2, 2, 4, 4)
    # A file of flags may name the default of the other command as well.
    source, _ = constructor_from_flags("improved-diffusion", {"image_size": 64, "large_size": 256})
    assert source == "id.SuperResModel"


def test_channel_multipliers_may_be_given_and_an_unknown_size_names_the_known():
    flags = {"image_size": 48, "channel_mult": "1,2,3"}
    assert constructor_from_flags("guided-diffusion", flags)[1]["channel_mult"] == (1, 2, 3)
    with pytest.raises(ValueError, match=r"size 48: known are 512, 256, 128, 64, 32"):
        constructor_from_flags("guided-diffusion", {"image_size": 48})
    with pytest.raises(ValueError, match=r"size 128: known are 512, 256, 64"):
        constructor_from_flags("guided-diffusion", {"large_size": 128})


def reference_names():
    """Names and shapes of the published class for SMALL with scale-shift, from its source."""
    shapes = {}

    def layer(name, *weight):
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    def res_block(name, before, after):
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * after, 128)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name, channels):
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    layer("time_embed.0", 128, 32)
    layer("time_embed.2", 128, 128)
    layer("input_blocks.0.0", 32, 3, 3, 3)
    res_block("input_blocks.1.0", 32, 32)
    layer("input_blocks.2.0.op", 32, 32, 3, 3)
    res_block("input_blocks.3.0", 32, 64)
    attention("input_blocks.3.1", 64)
    res_block("middle_block.0", 64, 64)
    attention("middle_block.1", 64)
    res_block("middle_block.2", 64, 64)
    res_block("output_blocks.0.0", 128, 64)
    attention("output_blocks.0.1", 64)
    res_block("output_blocks.1.0", 96, 64)
    attention("output_blocks.1.1", 64)
    layer("output_blocks.1.2.conv", 64, 64, 3, 3)
    res_block("output_blocks.2.0", 96, 32)
    res_block("output_blocks.3.0", 64, 32)
    layer("out.0", 32)
    layer("out.2", 6, 32, 3, 3)
    return shapes


def test_a_published_checkpoint_loads_by_its_own_names(tmp_path):
    generator = torch.Generator().manual_seed(0)
    published = {
        name: torch.randn(shape, generator=generator) for name, shape in reference_names().items()
    }
    torch.save(published, tmp_path / "model.pt")
    network = build_published("id.UNetModel", {**SMALL, "use_scale_shift_norm": True})
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    network.load_state_dict(loaded, strict=True)
    for name, value in network.state_dict().items():
        assert torch.equal(value, published[name]), name

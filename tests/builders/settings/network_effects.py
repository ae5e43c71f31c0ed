"""The settings of the network: each against the class of the network, called by hand."""

import torch

from iddpm.builders import (
    build_encoder,
    build_network,
    conditions_of,
    count_flops,
    resolve,
    task_of,
)
from iddpm.config import DataConfig, read_config
from iddpm.networks import EncoderUNet, MagnitudeSuperResUNet, MagnitudeUNet, SuperResUNet, UNet
from iddpm.runs.training_data import needs_data
from tests.builders.settings.effect import BASE, DIFFERS, Effect, numbers

PLAIN = {
    "dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": (1, 2),
    "attention_downsampling": (2,),
    "num_heads": 1,
}
SIZE = (8, 8)


def facts(network, size=SIZE):
    """What shows from outside: first weights, outputs, and how memory is saved."""
    first = {name: numbers(p.sum()) for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():  # zeroed layers would hide what is behind them
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    channels = network.input_blocks[0][0].in_channels
    conditioning = {}
    if isinstance(network, UNet):
        channels -= network.given_channels
        if network.num_classes is not None:
            conditioning["y"] = torch.tensor([network.num_classes - 1])
        if network.condition_emb is not None:
            conditioning["conditions"] = torch.full((1, len(network.condition_emb.kinds)), 1.0)
        if network.given_channels:
            conditioning["given"] = torch.linspace(-1, 1, 64).reshape(1, -1, *size)[:, :1]
            conditioning["given"] = conditioning["given"].expand(1, network.given_channels, *size)
    if isinstance(network, SuperResUNet):
        channels //= 2
        conditioning["low_res"] = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
        if network.noise_embed is not None:
            conditioning["low_res_noise"] = torch.tensor([0.3])
    x = torch.randn((1, channels, *size), generator=generator)
    torch.manual_seed(2)  # of dropout, which is on
    with torch.no_grad():
        output = network(x, torch.tensor([7.0]), **conditioning)
    saves = [(m.use_checkpoint, m.checkpoint_engine) for m in network.modules()
             if hasattr(m, "checkpoint_engine")]  # fmt: skip
    return [first, numbers(output), saves]


def by_hand(make, size=SIZE, **options):
    """Return what looks at a network that is called by hand."""

    def look():
        torch.manual_seed(0)
        return facts(make(**options), size)

    return look


def built(scene):
    torch.manual_seed(0)
    return facts(build_network(scene.config), scene.config.model.size)


def built_encoder(scene):
    torch.manual_seed(0)
    return facts(build_encoder(scene.config), scene.config.model.size)


def unet(text, changed, *, also=(), other="", size=SIZE, **more):
    """Return the effect of a value on the U-Net: the network with so changed arguments."""
    options = PLAIN | more
    seen = {text: by_hand(UNet, size, **(options | changed))}
    seen[other] = by_hand(UNet, **options) if size == SIZE else DIFFERS
    return Effect(built, seen, also)


def encoder(text, changed, other, **more):
    """Return the effect of a value on the classifier's network."""
    options = {k: v for k, v in PLAIN.items() if k != "out_channels"} | more
    options |= {"image_size": SIZE, "out_channels": 2, "pool": "attention"}
    return Effect(
        built_encoder,
        {text: by_hand(EncoderUNet, **(options | changed)), other: by_hand(EncoderUNet, **options)},
        ("task=classification", "class_names=[a,b]"),
    )


def asked_for(scene):
    """An own network is named in an error; the built-in one is built."""
    try:
        return type(build_network(scene.config)).__name__
    except ValueError as error:
        return str(error).split()[0]


HEADS = ("model.num_heads=2",)
NUMBER, ANGLE = "{kind: number, range: [0, 2]}", "{kind: number, period: 3}"

MODEL = {
    "model.network": [
        Effect(asked_for, {"null": "UNet", "a": "model.network=a", "b": "model.network=b"}),
    ],
    "model.channels": [
        Effect(built, {
            "1": by_hand(UNet, **PLAIN),
            "3": by_hand(UNet, **(PLAIN | {"in_channels": 3, "out_channels": 6})),
        }),
        Effect(lambda s: build_encoder(s.config).input_blocks[0][0].in_channels, {"1": 1, "3": 3},
               ("task=classification", "class_names=[a,b]")),
    ],
    "model.size": [
        Effect(built, {
            "[8,8]": by_hand(UNet, **PLAIN),
            "[8]": by_hand(UNet, (8,), **(PLAIN | {"dims": 1})),
            "[4,8,8]": by_hand(UNet, (4, 8, 8), **(PLAIN | {"dims": 3})),
        }),
        Effect(lambda s: count_flops(s.config), {"[8,8]": DIFFERS, "[16,16]": DIFFERS}),
    ],
    "model.class_conditional": [
        Effect(built, {
            "false": by_hand(UNet, **PLAIN),
            "true\nmodel.num_classes=3": DIFFERS,
        }),
    ],
    "model.num_classes": [
        unet("5", {"num_classes": 5}, also=("model.class_conditional=true",), other="3",
             num_classes=3),
    ],
    "model.conditions[name].kind": [
        Effect(built, {
            "{a: " + NUMBER + "}": by_hand(UNet, **(PLAIN | {"conditions": ["number"]})),
            "{a: {kind: class, names: [f, m]}}": by_hand(UNet, **(PLAIN | {"conditions": [2]})),
        }, key="model.conditions"),
    ],
    "model.conditions[name].period": [
        Effect(built, {
            "{a: " + ANGLE + "}": by_hand(UNet, **(PLAIN | {"conditions": ["periodic"]})),
            "{a: " + ANGLE + ", b: " + NUMBER + "}": by_hand(
                UNet, **(PLAIN | {"conditions": ["periodic", "number"]})),
        }, key="model.conditions"),
        Effect(lambda s: conditions_of(s.config)[0].period, {"3": 3, "360": 360},
               key="model.conditions.a.period", also=("model.conditions.a.kind=number",)),
    ],
    "model.conditions[name].range": [
        Effect(lambda s: [(c.low, c.high) for c in conditions_of(s.config)],
               {"[0, 2]": [(0, 2)], "[1, 9]": [(1, 9)]}, key="model.conditions.a.range",
               also=("model.conditions.a.kind=number",)),
    ],
    "model.conditions[name].names": [
        Effect(lambda s: [(c.name, c.names) for c in conditions_of(s.config)],
               {"[f, m]": [("a", ("f", "m"))], "[m, f]": [("a", ("m", "f"))]},
               key="model.conditions.a.names", also=("model.conditions.a.kind=class",)),
        Effect(built, {
            "[f, m]": by_hand(UNet, **(PLAIN | {"conditions": [2]})),
            "[f, m, d]": by_hand(UNet, **(PLAIN | {"conditions": [3]})),
        }, ("model.conditions.a.kind=class",), key="model.conditions.a.names"),
    ],
    "model.given_channels": [unet("2", {"given_channels": 2}, other="null")],
    "model.layers": [
        Effect(built, {
            "group_norm": by_hand(UNet, **PLAIN),
            "magnitude_preserving": by_hand(MagnitudeUNet, **PLAIN),
        }),
        Effect(built, {
            "group_norm": by_hand(SuperResUNet, **PLAIN),
            "magnitude_preserving": by_hand(MagnitudeSuperResUNet, **PLAIN),
        }, ("task=super_resolution", "scale=2")),
    ],
    "model.model_channels": [
        unet("16", {"model_channels": 16}, other="8"), encoder("16", {"model_channels": 16}, "8"),
    ],
    "model.num_res_blocks": [
        unet("2", {"num_res_blocks": 2}, other="1"), encoder("2", {"num_res_blocks": 2}, "1"),
        unet("[1,3]", {"num_res_blocks": (1, 3)}, other="1"),
        encoder("[1,3]", {"num_res_blocks": (1, 3)}, "1"),
    ],
    "model.channel_mult": [
        unet("[1,1,2]", {"channel_mult": (1, 1, 2)}, other="[1,2]"),
        encoder("[1,1,2]", {"channel_mult": (1, 1, 2)}, "[1,2]"),
    ],
    "model.attention_downsampling": [
        unet("[1]", {"attention_downsampling": (1,)}, other="[2]"),
        encoder("[1]", {"attention_downsampling": (1,)}, "[2]"),
    ],
    "model.num_heads": [
        unet("4", {"num_heads": 4}, other="1"), encoder("4", {"num_heads": 4}, "1"),
    ],
    "model.num_head_channels": [
        unet("4", {"num_head_channels": 4}, other="null"),
        encoder("4", {"num_head_channels": 4}, "null"),
    ],
    "model.num_heads_upsample": [unet("4", {"num_heads_upsample": 4}, other="null")],
    "model.qkv_order": [
        Effect(built, {
            order: by_hand(UNet, **(PLAIN | {"qkv_order": order, "num_heads": 2}))
            for order in ("heads_first", "qkv_first")
        }, HEADS),
        Effect(built_encoder, {"heads_first": DIFFERS, "qkv_first": DIFFERS},
               (*HEADS, "task=classification", "class_names=[a,b]")),
    ],
    "model.dropout": [
        unet("0.5", {"dropout": 0.5}, other="0"), encoder("0.5", {"dropout": 0.5}, "0"),
    ],
    "model.use_scale_shift_norm": [
        unet("false", {"use_scale_shift_norm": False}, other="true"),
        encoder("false", {"use_scale_shift_norm": False}, "true"),
    ],
    "model.upsample": [
        Effect(built, {
            kind: by_hand(UNet, **(PLAIN | {"upsample": kind, "channel_mult": (1, 1)}))
            for kind in ("transpose", "nearest_conv", "nearest")
        }, ("model.channel_mult=[1,1]",)),
    ],
    "model.smooth_start": [unet("false", {"smooth_start": False}, other="true")],
    "model.downsample": [
        unet("avg_pool", {"downsample": "avg_pool"}, other="conv"),
        encoder("avg_pool", {"downsample": "avg_pool"}, "conv"),
    ],
    "model.pool": [
        encoder(pool, {"pool": pool}, "attention")
        for pool in ("adaptive", "spatial", "spatial_v2")
    ],
    "model.resblock_updown": [
        unet("true", {"resblock_updown": True}, other="false"),
        encoder("true", {"resblock_updown": True}, "false"),
    ],
    "model.stride": [
        unet("[1,2]", {"stride": (1, 2)}, other="null"),
        encoder("[1,2]", {"stride": (1, 2)}, "null"),
    ],
    "model.circular": [
        unet("[true,false]", {"circular": (True, False)}, other="false"),
        unet("true", {"circular": True}, other="false"),
        encoder("true", {"circular": True}, "false"),
    ],
    "model.group_channels": [
        unet("4", {"group_channels": 4}, other="null"), encoder("4", {"group_channels": 4}, "null"),
    ],
    "model.wavelets": [
        Effect(lambda s: [type(net := build_network(s.config)).__name__,
                          getattr(net, "network", net).in_channels],
               {"0": ["UNet", 1], "1": ["WaveletNetwork", 4], "2": ["WaveletNetwork", 16]}),
    ],
    "model.patch": [
        Effect(lambda s: [getattr(net := build_network(s.config), "basis", "none"),
                          getattr(net, "network", net).in_channels],
               {"1": ["none", 1], "2": ["patch", 4], "4": ["patch", 16]}),
    ],
    "model.use_checkpoint": [
        unet("true", {"use_checkpoint": True}, other="false"),
        encoder("true", {"use_checkpoint": True}, "false"),
    ],
}  # fmt: skip


def kinds(scene):
    config = scene.config
    if config.task == "classification":
        return [type(build_encoder(config)).__name__, type(task_of(config).learner(None)).__name__]
    return [type(build_network(config)).__name__, type(task_of(config).learner(None)).__name__]


def preset_facts(scene):
    config = resolve(read_config(None, scene.assignments))
    network = type(build_network(config)).__name__
    return [config.diffusion.schedule, network, config.training.steps, config.diffusion.predicts]


TOP = {
    "task": [
        Effect(kinds, {
            "generation": ["UNet", "Denoiser"],
            "super_resolution\nscale=2": ["SuperResUNet", "Denoiser"],
            "classification\nclass_names=[a,b]": ["EncoderUNet", "NoisyClassifier"],
        }),
    ],
    "preset": [
        Effect(preset_facts,
               {"null": ["cosine", "UNet", 20_000, "v"],
                "likelihood": ["log_snr", "LevelHead", 20_000, "categorical"],
                "quick": ["cosine", "UNet", 800, "v"],
                "published": ["cosine", "UNet", 20_000, "eps"]},
               base=tuple(s for s in BASE if not s.startswith("diffusion.predicts"))),
    ],
    "imported_from": [
        Effect(
            lambda s: needs_data(s.config.model_copy(update={"data": DataConfig()})),
            {"null": False, "a file": True},
        ),
    ],
    "class_names": [
        Effect(lambda s: built_encoder(s)[1][0], {"[a,b]": [1, 2], "[a,b,c]": [1, 3]},
               ("task=classification",)),
    ],
}  # fmt: skip

SUPER = {
    "degradation.augment": [
        Effect(built, {
            text: by_hand(SuperResUNet, **(PLAIN | {"noise_levels": text != "0"}))
            for text in ("0", "0.5")
        }, ("task=super_resolution", "scale=2")),
    ],
}  # fmt: skip

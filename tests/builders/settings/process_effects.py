"""The settings of the process, of its loss, and of low resolutions."""

from functools import partial

import numpy as np
import torch

from iddpm.builders import (
    add_low_res,
    build_denoiser,
    build_diffusion,
    build_loss,
    build_network,
    build_sampling_plan,
    build_timesteps,
    held_out_low_res,
    low_res_size,
    training_low_res,
    values_of,
)
from iddpm.data.degrade import Degradation
from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    cosine,
    linear,
    log_snr,
    losses,
    show_log_snr,
    zero_terminal_snr,
)
from iddpm.diffusion.fourier import fourier_features
from iddpm.diffusion.weighting import log_normal, min_snr, sigmoid
from iddpm.training.timesteps import LogNormalTimesteps
from tests.builders.settings.effect import Effect, numbers

X = torch.linspace(-1, 1, 4 * 64).reshape(4, 1, 8, 8)
X = (X * 127.5 + 127.5).round() / 127.5 - 1
NOISE = torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0, 7, 25, 49])
UNIFORM = np.arange(16) / 16


def network(channels):
    """A network in a formula: what it says depends on its input and on the time it is shown."""

    def call(x, shown, **_):
        first = torch.tanh(0.7 * x[:, :1]) + 0.001 * shown.reshape(-1, 1, 1, 1).to(x)
        return torch.cat([first] * (channels - 1) + [0.1 * first], dim=1)[:, :channels]

    return call


def denoiser(scene):
    variance = scene.config.diffusion.variance
    return build_denoiser(scene.config, network(2 if variance.startswith("learned") else 1))


def curve(scene):
    schedule = build_diffusion(scene.config).schedule
    return [numbers(schedule.alpha_bar), numbers(schedule.shown)]


def curve_of(schedule):
    return [numbers(schedule.alpha_bar), numbers(schedule.shown)]


def said(scene):
    """What the model says of noisy data."""
    model = denoiser(scene)
    prediction = model(X, model.diffusion.schedule.at(torch.tensor([1, 7, 25, 48])))
    return [model.predicts, numbers(prediction.x0), numbers(prediction.eps)]


def said_by(predicts, **options):
    def look():
        model = Denoiser(network(2), GaussianDiffusion(cosine(50), "learned_range"), predicts,
                         **options)  # fmt: skip
        prediction = model(X, model.diffusion.schedule.at(torch.tensor([1, 7, 25, 48])))
        return [predicts, numbers(prediction.x0), numbers(prediction.eps)]

    return look


def loss(scene):
    return [numbers(v) for v in build_loss(scene.config)(denoiser(scene), X, T, NOISE)
            if v is not None]  # fmt: skip


def loss_by(call, variance="learned_range", predicts="eps", **options):
    def look():
        channels = 2 if variance.startswith("learned") else 1
        model = Denoiser(network(channels), GaussianDiffusion(cosine(50), variance), predicts)
        return [numbers(v) for v in call(model, X, T, NOISE, **options) if v is not None]

    return look


def input_of_network(scene):
    """What the network is given of some data, and how many channels it takes."""
    seen = []
    model = build_denoiser(scene.config, lambda x, shown: seen.append(x) or network(2)(x, shown))
    model(X, cosine(50).at(T))
    return [build_network(scene.config).input_blocks[0][0].in_channels, numbers(seen[0])]


def waves_of(count, bits):
    waves = [fourier_features(X, cosine(50).at(T), count, bits)] if count else []
    seen = torch.cat([X, *waves], dim=1)
    return [seen.shape[1], numbers(seen)]


def seen_by_network(scene):
    """How many channels go in and come out, and whether the plan hands on its estimates."""
    config = scene.config
    built = build_network(config)
    plan = build_sampling_plan(config, build_denoiser(config, built), config.sampling)
    return [built.input_blocks[0][0].in_channels, plan.self_condition,
            build_denoiser(config, built).self_condition]  # fmt: skip


def unit(scene):
    """The unit of the residual that the model diffuses."""
    scale = denoiser(scene).residual_scale
    return None if scale is None else scale.tolist()


SR = ("task=super_resolution", "scale=2")
FIXED = ("diffusion.variance=fixed_small",)
OF_FIXED = partial(loss_by, variance="fixed_small")
V = ("diffusion.predicts=v",)
SIMPLE, HYBRID, VLB = losses.simple, losses.hybrid, losses.vlb
WEIGHTED = {
    "constant": None, "min_snr": partial(min_snr, gamma=5.0), "sigmoid": partial(sigmoid, bias=0.0),
    "log_normal": partial(log_normal, num_steps=50),
}  # fmt: skip


def squared(kind, call, of, also):
    """The settings that the two squared losses share."""
    place = f"diffusion.loss[{kind}]"
    also = (f"diffusion.loss.kind={kind}", *also)

    def by_kind(own):
        other = "sigmoid" if own != "sigmoid" else "min_snr"
        return Effect(loss, {own: of(call, predicts="v", weighting=WEIGHTED[own]),
                             other: of(call, predicts="v", weighting=WEIGHTED[other])},
                      (*also, *V), key="diffusion.loss.weighting.kind")  # fmt: skip

    def by_option(name, *values):
        def weighting(value):
            return partial(WEIGHTED["log_normal"], **{name: float(value)})

        return Effect(loss, {value: of(call, predicts="v", weighting=weighting(value))
                             for value in values},
                      (*also, *V, "diffusion.loss.weighting=log_normal"),
                      key=f"diffusion.loss.weighting.{name}")  # fmt: skip

    def drawn(name, *values):
        def of_schedule(value):
            return lambda: numbers(LogNormalTimesteps(cosine(50), **{name: float(value)})
                                   .sample(UNIFORM).t)  # fmt: skip

        return Effect(lambda s: numbers(build_timesteps(s.config).sample(UNIFORM).t),
                      {value: of_schedule(value) for value in values},
                      (*also, *V, "diffusion.loss.weighting=log_normal",
                       "training.timestep_sampler=log_normal"),
                      key=f"diffusion.loss.weighting.{name}")  # fmt: skip

    return {
        f"{place}.space": [
            Effect(loss, {"null": of(call), "x0": of(call, space="x0"), "v": of(call, space="v")},
                   also, key="diffusion.loss.space"),
        ],
        **{f"{place}.weighting[{own}].kind": [by_kind(own)] for own in WEIGHTED},
        f"{place}.weighting[min_snr].gamma": [
            Effect(loss, {g: of(call, weighting=partial(min_snr, gamma=float(g)))
                          for g in ("0.5", "5.0", "2")},
                   also, key="diffusion.loss.weighting.gamma"),
        ],
        f"{place}.weighting[log_normal].log_sigma_mean": [
            by_option("log_sigma_mean", "-1.2", "0.5"), drawn("log_sigma_mean", "-1.2", "0.5"),
        ],
        f"{place}.weighting[log_normal].log_sigma_spread": [
            by_option("log_sigma_spread", "1.2", "2"), drawn("log_sigma_spread", "1.2", "2"),
        ],
        f"{place}.weighting[sigmoid].bias": [
            Effect(loss, {b: of(call, weighting=partial(sigmoid, bias=float(b)))
                          for b in ("0", "-2", "1")},
                   also, key="diffusion.loss.weighting.bias"),
        ],
    }  # fmt: skip


def asked_for(scene):
    """An own loss is named in an error; other losses are built."""
    try:
        return type(build_loss(scene.config)).__name__
    except ValueError as error:
        return str(error).split(", ")[1]


DIFFUSION = {
    "diffusion.loss[own].kind": [
        Effect(asked_for, {"own\ndiffusion.loss.name=mine": "mine", "vlb": "partial"},
               key="diffusion.loss.kind"),
    ],
    "diffusion.loss[own].name": [
        Effect(asked_for, {"mine": "mine", "yours": "yours"}, ("diffusion.loss.kind=own",),
               key="diffusion.loss.name"),
    ],
    "diffusion.schedule": [
        Effect(curve, {"cosine": lambda: curve_of(cosine(50)),
                       "linear": lambda: curve_of(linear(50)),
                       "log_snr": lambda: curve_of(log_snr(50))}),
    ],
    "diffusion.log_snr_max": [
        Effect(curve, {"13.3": lambda: curve_of(log_snr(50)),
                       "6": lambda: curve_of(log_snr(50, log_snr_max=6.0))},
               ("diffusion.schedule=log_snr",)),
    ],
    "diffusion.log_snr_min": [
        Effect(curve, {"-5": lambda: curve_of(log_snr(50)),
                       "-8": lambda: curve_of(log_snr(50, log_snr_min=-8.0))},
               ("diffusion.schedule=log_snr",)),
    ],
    "diffusion.num_steps": [
        Effect(curve, {"50": lambda: curve_of(cosine(50)), "40": lambda: curve_of(cosine(40))}),
        *(Effect(lambda s: build_timesteps(s.config).num_steps, {"50": 50, "40": 40}, (also,))
          for also in ("training.timestep_sampler=uniform",
                       "training.timestep_sampler=low_discrepancy",
                       "training.timestep_sampler=loss_second_moment", "task=classification")),
    ],
    "diffusion.rescale_timesteps": [
        Effect(lambda s: curve(s)[1][1][-1], {"true": 49 * 1000 / 50, "false": 49.0}),
        Effect(lambda s: curve(s)[1][1][-1], {"true": 49 * 1000 / 50, "false": 49.0},
               ("diffusion.schedule=linear",)),
        Effect(lambda s: curve(s)[1][1][-1], {"true": 1000.0, "false": 49.0},
               ("diffusion.schedule=log_snr",)),
    ],
    "diffusion.time_input": [
        Effect(curve, {"timestep": lambda: curve_of(cosine(50)),
                       "log_snr": lambda: curve_of(show_log_snr(cosine(50)))}),
        Effect(lambda s: round(curve(s)[1][1][-1], 3), {"timestep": 980.0, "log_snr": 1819.672},
               ("diffusion.zero_terminal_snr=true", *V)),
    ],
    "diffusion.zero_terminal_snr": [
        Effect(curve, {"false": lambda: curve_of(cosine(50)),
                       "true": lambda: curve_of(zero_terminal_snr(cosine(50)))}, V),
    ],
    "diffusion.predicts": [
        Effect(said, {name: said_by(name) for name in ("eps", "x0", "v", "edm", "previous")}),
        Effect(lambda s: [type(built := build_network(s.config)).__name__,
                          getattr(built, "network", built).out_channels],
               {"v": ["UNet", 2], "categorical": ["LevelHead", 25]}),
    ],
    "diffusion.sigma_data": [
        Effect(said, {"0.5": said_by("edm"), "1.5": said_by("edm", sigma_data=1.5)},
               ("diffusion.predicts=edm",)),
    ],
    "diffusion.decoder": [
        Effect(lambda s: [build_denoiser(s.config, network(2)).decoder,
                          type(build_timesteps(s.config)).__name__,
                          type(build_network(s.config)).__name__],
               {"null": ["gaussian", "UniformTimesteps", "UNet"],
                "levels": ["levels", "UniformTimesteps", "UNet"],
                "categorical": ["categorical", "DecoderTimesteps", "LevelHead"]}),
    ],
    "diffusion.neighborhood": [
        Effect(lambda s: [(built := build_network(s.config)).radius, built.circular,
                          built.network.out_channels],
               {"0": [0, (False, False), 24], "1": [1, (False, False), 24 + 10],
                "1\nmodel.circular=[true,false]": [1, (True, False), 24 + 10]},
               ("diffusion.predicts=categorical", *FIXED, "diffusion.loss=simple")),
    ],
    "diffusion.fourier_features": [
        Effect(input_of_network, {"0": lambda: waves_of(0, 8), "2": lambda: waves_of(2, 8),
                                  "2\nbits=4": lambda: waves_of(2, 4)}),
    ],
    "diffusion.residual": [
        Effect(unit, {"false": None, "true\ndiffusion.residual_scale=[0.5]": [0.5]}, SR),
    ],
    "diffusion.residual_scale": [
        Effect(unit, {"[0.5]": [0.5], "[0.25]": [0.25]}, (*SR, "diffusion.residual=true")),
    ],
    "diffusion.self_condition": [
        Effect(seen_by_network, {"false": [1, False, False], "true": [2, True, True]}),
    ],
    "diffusion.variance": [
        Effect(lambda s: [build_diffusion(s.config).variance, build_network(s.config).out_channels],
               {"learned_range": ["learned_range", 2], "learned": ["learned", 2],
                "fixed_small\ndiffusion.loss.kind=simple": ["fixed_small", 1],
                "fixed_large\ndiffusion.loss.kind=simple": ["fixed_large", 1]}),
    ],
    **squared("simple", SIMPLE, OF_FIXED, FIXED),
    **squared("hybrid", HYBRID, loss_by, ()),
    "diffusion.loss[simple].kind": [
        Effect(loss, {"simple": OF_FIXED(SIMPLE), "vlb": OF_FIXED(VLB)}, FIXED,
               key="diffusion.loss.kind"),
    ],
    "diffusion.loss[hybrid].kind": [
        Effect(loss, {"hybrid": loss_by(HYBRID), "vlb": loss_by(VLB)}, key="diffusion.loss.kind"),
    ],
    "diffusion.loss[vlb].kind": [
        Effect(loss, {"vlb": loss_by(VLB), "hybrid": loss_by(HYBRID)}, key="diffusion.loss.kind"),
    ],
    "diffusion.loss[hybrid].vb_weight": [
        Effect(loss, {"0.001": loss_by(HYBRID, vb_weight=0.001),
                      "3": loss_by(HYBRID, vb_weight=3.0)}, key="diffusion.loss.vb_weight"),
    ],
}  # fmt: skip


def made_low(scene):
    """The conditioning in training, for held-out items and for upscaling."""
    config = scene.config
    trained = training_low_res(config, X, range(4), 3)
    shown = add_low_res(config, held_out_low_res(config, X, range(4)), 0.0, range(4))
    return [numbers(trained["low_res"]), numbers(shown["low_res"])]


def low_by(scale=(2, 2), *options, circular=(False, False), bits=8):
    def look():
        degrade = Degradation(scale, *(options or ("box", None, 0.0)), bits, circular)
        return [numbers(degrade(X, range(4), 0, "degradation", 3)),
                numbers(degrade(X, range(4), 0, "held-out degradation"))]  # fmt: skip

    return look


BLUR = (*SR, "degradation.kind=blur")
RESOLUTION = {
    "scale": [
        Effect(made_low, {"2": low_by(), "[1,2]": low_by((1, 2)), "4": low_by((4, 4))}, SR),
        Effect(lambda s: low_res_size(s.config), {"2": (4, 4), "[1,2]": (8, 4)}, SR),
    ],
    "degradation.kind": [
        Effect(made_low, {kind: low_by((2, 2), kind, None, 0.0)
                          for kind in ("box", "bicubic", "blur")}, SR),
    ],
    "degradation.sigma": [
        Effect(made_low, {"null": low_by((2, 2), "blur", None, 0.0),
                          "3": low_by((2, 2), "blur", 3.0, 0.0)}, BLUR),
    ],
    "degradation.noise": [
        Effect(made_low, {"0": low_by((2, 2), "box", None, 0.0),
                          "0.3": low_by((2, 2), "box", None, 0.3)}, SR),
    ],
    "degradation.augment": [
        Effect(lambda s: sorted(training_low_res(s.config, X, range(4), 3)),
               {"0": ["low_res"], "0.5": ["low_res", "low_res_noise"]}, SR),
        Effect(lambda s: bool(training_low_res(
                   s.config, X, range(4), 3)["low_res_noise"].max() > 0.2),
               {"0.2": False, "1": True}, SR),
    ],
    "bits": [
        Effect(made_low, {"8": low_by(), "null": low_by(bits=None), "4": low_by(bits=4)}, SR),
        Effect(loss, {"8": loss_by(VLB, bits=8), "null": loss_by(VLB, bits=None)},
               ("diffusion.loss=vlb",)),
        Effect(loss, {"8": loss_by(HYBRID, bits=8), "null": loss_by(HYBRID, bits=None)}),
        Effect(lambda s: values_of(s.config).high, {"8": 255.0, "16": 65535.0, "null": 1.0}),
    ],
    "model.circular": [
        Effect(made_low, {"false": low_by((2, 2), "blur", None, 0.0),
                          "true": low_by((2, 2), "blur", None, 0.0, circular=(True, True))}, BLUR),
    ],
}  # fmt: skip

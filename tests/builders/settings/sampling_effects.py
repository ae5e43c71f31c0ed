"""The settings of sampling: what is drawn with them, from a model in a formula."""

from types import SimpleNamespace

import torch

from iddpm.builders import add_low_res, build_denoiser, build_sampling_plan
from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine
from iddpm.sampling import (
    DDIM,
    DDPM,
    ERSDE,
    IPNDM,
    DPMSolverPP,
    Heun,
    SampleNoise,
    UniPC,
    classifier_free,
    clip_x0,
    even_timesteps,
    karras_timesteps,
    log_snr_timesteps,
    sample,
    threshold_x0,
    trajectory,
)
from tests.builders.settings.effect import DIFFERS, Effect, numbers
from tests.builders.settings.training_looks import drawn_by_run

NOISE = SampleNoise(5, (3, 1, 8, 8))
CLASSES = torch.tensor([0, 1, 2])
TOLD = ("model.class_conditional=true", "model.num_classes=3")


def network(x, shown, y=None):
    """A wide and a narrow channel; the class moves the data, and -1 stands for none."""
    first = torch.tanh(0.7 * x) + 0.0001 * shown.reshape(-1, 1, 1, 1).to(x)
    if y is not None:
        first = first + 0.2 * (y + 1).reshape(-1, 1, 1, 1)
    return torch.cat([first, 0.1 * first], dim=1)


def walk_of(scene, table=None):
    config = scene.config
    return build_sampling_plan(
        config, build_denoiser(config, network), config.sampling, table=table
    )


def drawn(scene):
    """The samples that the settings give."""
    conditioning = {"y": CLASSES} if scene.config.model.class_conditional else {}
    *_, last = walk_of(scene).states(NOISE, **conditioning)
    return numbers(last.x)


def of_levels(x, shown):
    """Features that follow the data, and how they become logits."""
    weight = torch.sin(torch.arange(256.0) / 20).expand(1, 24, 256) / 9
    said = torch.tanh(x).repeat(1, 25, 1, 1)
    return said, weight, torch.zeros(1, 256)


def drawn_of_levels(scene):
    """The samples of a model of levels."""
    config = scene.config
    plan = build_sampling_plan(config, build_denoiser(config, of_levels), config.sampling)
    *_, last = plan.states(NOISE)
    return numbers(last.x)


def drawn_levels(choice):
    """The same, put together here: the last step takes the level that is named."""
    model = Denoiser(of_levels, GaussianDiffusion(cosine(50), "learned_range"), "categorical")
    schedule = cosine(50).respace(EVEN)
    *_, before, _ = trajectory(DDIM(), model, schedule, NOISE.initial(), noise=NOISE)
    found = model(before.x, schedule.at(torch.zeros(3, dtype=torch.int64))).levels
    if choice == "draw":
        return numbers(found.draw(torch.special.ndtr(NOISE(4))))
    return numbers(found.mode() if choice == "mode" else found.mean())


def by_hand(sampler, timesteps, around=clip_x0, **conditioning):
    """Samples of the same model with a sampler and its steps put together here."""

    def look():
        model = Denoiser(network, GaussianDiffusion(cosine(50), "learned_range"), "eps")
        steps = timesteps(cosine(50)) if callable(timesteps) else timesteps
        schedule = cosine(50).respace(steps)
        x = sample(sampler, around(model), schedule, NOISE.initial(), noise=NOISE, **conditioning)
        return numbers(x)

    return look


EVEN = even_timesteps(50, 5)
LOG_SNR = lambda schedule: log_snr_timesteps(schedule, 5, sigma_max=80.0)  # noqa: E731


def karras(steps=5, rho=7.0, sigma_max=80.0):
    return lambda schedule: karras_timesteps(schedule, steps, rho, sigma_max=sigma_max)


def guided(scale, **options):
    return lambda model: clip_x0(classifier_free(model, scale, **options))


SDE = by_hand(DPMSolverPP(2, stochastic=True), karras(rho=3.0, sigma_max=30.0))
DDIM_EVEN = ("sampling.sampler=ddim",)
IN_KARRAS = ("sampling.sampler=ipndm", "sampling.spacing=karras")
IN_LOG_SNR = ("sampling.sampler=unipc_3",)
OF_SDE = ("sampling.sampler=dpmpp_2m_sde",)


def with_table(scene):
    """Whether the plan goes by the table of steps: by its variance, and by its choice of steps."""
    calls = []

    def optimal(variance, count):
        calls.append((variance, count))
        return [0, 3, 11, 30, 49]

    def around(denoise):
        calls.append("variance")
        return denoise

    plan = walk_of(scene, SimpleNamespace(analytic=SimpleNamespace(around=around), optimal=optimal))
    return [plan.method.sampler, plan.schedule.index.tolist() == [0, 3, 11, 30, 49], calls]


SAMPLING = {
    "sampling.sampler": [
        Effect(drawn, {
            "auto": SDE,
            "ddpm": by_hand(DDPM(), EVEN),
            "ddim": by_hand(DDIM(0.0), EVEN),
            "ipndm": by_hand(IPNDM(), karras()),
            "heun": by_hand(Heun(), lambda s: log_snr_timesteps(s, 3, sigma_max=80.0)),
            "dpmpp_2m": by_hand(DPMSolverPP(2), LOG_SNR),
            "dpmpp_3m": by_hand(DPMSolverPP(3), LOG_SNR),
            "unipc_2": by_hand(UniPC(2), LOG_SNR),
            "unipc_3": by_hand(UniPC(3), LOG_SNR),
            "er_sde": by_hand(ERSDE(3), LOG_SNR),
        }),
        Effect(drawn, {"dpmpp_2m_sde": SDE, "dpmpp_2m": DIFFERS}),
    ],
    "sampling.spacing": [
        Effect(drawn, {
            "auto": by_hand(DDIM(0.0), EVEN),
            "log_snr": by_hand(DDIM(0.0), LOG_SNR),
            "karras": by_hand(DDIM(0.0), karras()),
            "ddim": by_hand(DDIM(0.0), list(range(0, 50, 10))),
            "2,3": DIFFERS,
        }, DDIM_EVEN),
        Effect(drawn, {"even": by_hand(IPNDM(), EVEN), "auto": by_hand(IPNDM(), karras())},
               ("sampling.sampler=ipndm",)),
        Effect(with_table, {"optimal": ["ddpm", True, [("learned_range", 5)]],
                            "even": ["ddpm", False, []]}, ("sampling.sampler=ddpm",)),
    ],
    "sampling.steps": [
        Effect(drawn, {
            "1": by_hand(DDIM(0.0), even_timesteps(50, 1)),
            "2": by_hand(IPNDM(), karras(2)),
            "4": by_hand(IPNDM(), karras(4)),
            "5": SDE,
            "9": by_hand(DPMSolverPP(2, stochastic=True), karras(9, 3.0, 30.0)),
        }),
    ],
    "sampling.sigma_max": [
        Effect(drawn, {"null": by_hand(IPNDM(), karras()),
                       "20": by_hand(IPNDM(), karras(sigma_max=20.0))}, IN_KARRAS),
        Effect(drawn, {"80": by_hand(UniPC(3), LOG_SNR), "20": DIFFERS}, IN_LOG_SNR),
        Effect(drawn, {"null": SDE, "20": DIFFERS}, OF_SDE),
    ],
    "sampling.rho": [
        Effect(drawn, {"null": by_hand(IPNDM(), karras()),
                       "2": by_hand(IPNDM(), karras(rho=2.0))}, IN_KARRAS),
        Effect(drawn, {"null": SDE, "2": DIFFERS}, OF_SDE),
    ],
    "sampling.eta": [
        Effect(drawn, {"0": by_hand(DDIM(0.0), EVEN), "0.7": by_hand(DDIM(0.7), EVEN)},
               DDIM_EVEN),
        Effect(drawn, {"0": SDE, "0.7": by_hand(DDIM(0.7), EVEN)}),
    ],
    "sampling.variance": [
        Effect(with_table, {"trained": ["ddpm", False, []],
                            "analytic": ["ddpm", False, ["variance"]]}, ("sampling.sampler=ddpm",)),
        Effect(with_table, {"trained": ["ddim", True, [("learned_range", 5)]],
                            "analytic": ["ddim", True, ["variance", ("analytic", 5)]]},
               (*DDIM_EVEN, "sampling.spacing=optimal")),
        Effect(with_table, {"trained": ["dpmpp_2m_sde", False, []],
                            "analytic": ["ddim", False, ["variance"]]}),
    ],
    "sampling.guidance": [
        Effect(drawn, {
            "1": by_hand(DDIM(0.0), EVEN, y=CLASSES),
            "0": by_hand(DDIM(0.0), EVEN, y=torch.full((3,), -1)),
            "2": by_hand(DDIM(0.0), EVEN, guided(2.0), y=CLASSES),
        }, (*DDIM_EVEN, *TOLD)),
    ],
    "sampling.guidance_interval": [
        Effect(drawn, {
            "null": by_hand(DDIM(0.0), EVEN, guided(3.0), y=CLASSES),
            "[0.2,4]": by_hand(DDIM(0.0), EVEN, guided(3.0, sigma_interval=(0.2, 4.0)), y=CLASSES),
        }, (*DDIM_EVEN, *TOLD, "sampling.guidance=3")),
    ],
    "sampling.guidance_rescale": [
        Effect(drawn, {
            "0": by_hand(DDIM(0.0), EVEN, guided(3.0), y=CLASSES),
            "0.7": by_hand(DDIM(0.0), EVEN, guided(3.0, rescale=0.7), y=CLASSES),
        }, (*DDIM_EVEN, *TOLD, "sampling.guidance=3")),
    ],
    "sampling.clip": [
        Effect(drawn, {"true": by_hand(DDIM(0.0), EVEN),
                       "false": by_hand(DDIM(0.0), EVEN, lambda model: model)}, DDIM_EVEN),
    ],
    "sampling.levels": [
        Effect(drawn_of_levels, {
            "mode": lambda: drawn_levels("mode"), "draw": lambda: drawn_levels("draw"),
            "mean": lambda: drawn_levels("mean"),
        }, ("diffusion.predicts=categorical", "sampling.sampler=ddim")),
    ],
    "sampling.threshold": [
        Effect(drawn, {"null": by_hand(DDIM(0.0), EVEN),
                       "0.8": by_hand(DDIM(0.0), EVEN, lambda m: threshold_x0(m, 0.8))}, DDIM_EVEN),
    ],
    "sampling.low_res_noise": [
        Effect(lambda s: [numbers(v) for v in add_low_res(
                   s.config, torch.zeros(2, 1, 4, 4), s.config.sampling.low_res_noise, [0, 1]
               ).values()],
               {"0": DIFFERS, "0.3": DIFFERS},
               ("task=super_resolution", "scale=2", "degradation.augment=0.5")),
    ],
    "sampling.batch_size": [
        Effect(lambda s: drawn_by_run(s)[0], {"2": [2, 2, 1], "64": [5], "3": [3, 2]}),
    ],
    "sampling.precision": [
        Effect(lambda s: drawn_by_run(s)[1],
               {"float32": ["torch.float32"], "bf16": ["torch.bfloat16"]}),
    ],
}  # fmt: skip

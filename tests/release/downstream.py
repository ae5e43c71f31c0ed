"""What a typed program of a user looks like: mypy --strict accepts it with iddpm installed.

Only read by mypy, never run. Each `type: ignore` is a wrong use that must be found, since strict
mypy reports those that are not needed: were the package's types not shipped, all would be reported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import Tensor, nn

import iddpm
from iddpm.interop.openai import build_published, constructor_from_flags, load_published
from iddpm.training.loop_settings import Reporter


class Net(nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise and the variance."""
        out: Tensor = self.layer(x)
        return out


def loss(denoiser: iddpm.Denoiser, x0: Tensor, t: Tensor, noise: Tensor) -> iddpm.LossTerms:
    """A loss of one's own."""
    terms = iddpm.hybrid(denoiser, x0, t, noise, vb_weight=1e-3)
    weighted = iddpm.simple(denoiser, x0, t, noise, weighting=iddpm.min_snr)
    bound = iddpm.vlb(denoiser, x0, t, noise)
    same: iddpm.LossTerms = iddpm.losses.vlb(denoiser, x0, t, noise)
    return iddpm.LossTerms(terms.loss + weighted.loss + bound.loss, terms.mse, same.vb)


def runs(data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> iddpm.Run:
    """From data to measurements."""
    run = iddpm.train(data, network=Net(), loss=loss, settings=["training.steps=4"], out="run")
    assert_type(run, iddpm.Run)
    run = iddpm.load(Path("run"), network=Net(), data=data)
    iddpm.likelihood(run)
    iddpm.evaluate(run, n=100)
    iddpm.tune(run, iddpm.TuneRequest(100, evaluations=[5]))
    iddpm.save_grid(run.sample(4, steps=5, seed=0), "grid.png")
    iddpm.train(data, step=4)  # type: ignore[call-arg]
    iddpm.load(4)  # type: ignore[arg-type]
    return iddpm.distill("run", out="distilled")


def networks() -> Iterator[nn.Module]:
    """Keywords of the constructors, right and wrong."""
    yield iddpm.UNet(in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1, dims=1)
    yield iddpm.SuperResUNet(in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1)
    yield iddpm.EncoderUNet(in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1)
    yield iddpm.LevelHead(Net(), channels=1, levels=256)
    iddpm.UNet(in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1, width=8)  # type: ignore[call-arg]
    iddpm.SuperResUNet(in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1, width=8)  # type: ignore[call-arg]
    iddpm.EncoderUNet(in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1, dims="1")  # type: ignore[arg-type]


def process() -> iddpm.Denoiser:
    """Schedules and the contract of a prediction."""
    schedule = iddpm.zero_terminal_snr(iddpm.linear(1000))
    schedule = iddpm.log_snr(1000).respace(iddpm.space_timesteps(1000, "ddim50"))
    schedule = iddpm.cosine(1000)
    assert_type(schedule, iddpm.NoiseSchedule)
    assert_type(schedule.alpha_bar, Tensor)
    diffusion = iddpm.GaussianDiffusion(schedule, variance="learned_range")
    denoiser = iddpm.Denoiser(Net(), diffusion, predicts="v")
    assert_type(denoiser.predicts, str)
    prediction = iddpm.Prediction(x0=torch.zeros(1), eps=torch.zeros(1))
    assert_type(prediction.x0, Tensor)
    iddpm.GaussianDiffusion(schedule, variance="learnt")  # type: ignore[arg-type]
    iddpm.Prediction(x0=torch.zeros(1))  # type: ignore[call-arg]
    return denoiser


def sampling(denoiser: iddpm.Denoiser, x: Tensor) -> Iterator[Tensor]:
    """Samplers, guidance, editing, restoration."""
    schedule = denoiser.diffusion.schedule
    denoise: iddpm.Denoise = iddpm.clip_x0(iddpm.classifier_free(denoiser, 2.0, rescale=0.5))
    denoise = iddpm.threshold_x0(iddpm.autoguided(denoise, denoiser, 2.0), 0.995)
    gradient = iddpm.classifier_gradient(lambda x, t: x.flatten(1))
    denoise = iddpm.classifier_guided(denoise, gradient, 1.0)
    denoise = iddpm.tiled(iddpm.keep_known(denoise, x, x > 0), (64, 64))
    samplers: list[iddpm.Sampler] = [
        iddpm.DDPM(), iddpm.DDIM(eta=0.0), iddpm.Heun(), iddpm.IPNDM(), iddpm.UniPC(),
        iddpm.DPMSolverPP(order=2), iddpm.Consistency(),
    ]  # fmt: skip
    for sampler in samplers:
        yield assert_type(iddpm.sample(sampler, denoise, schedule, x), Tensor)
        iddpm.inpaint(sampler, denoise, schedule, x, x > 0, x)
        for state in iddpm.trajectory(sampler, denoise, schedule, x):
            yield state.x
        for state in iddpm.redraw(sampler, denoise, schedule, x, x):
            yield state.x
    yield iddpm.slerp(x, iddpm.invert(denoise, schedule, x), torch.zeros(len(x)))
    yield next(iter(iddpm.inversion(denoise, schedule, x))).x
    operators: list[iddpm.Operator] = [
        iddpm.Mask((1, 8, 8), x[0] > 0), iddpm.Subsample((1, 8, 8), (2, 2)),
        iddpm.Downscale((1, 8, 8), (2, 2)), iddpm.Matrix((1, 8, 8), torch.zeros(4, 64)),
        iddpm.Convolution((1, 8, 8), iddpm.gaussian_kernel(1.0, 2)),
    ]  # fmt: skip
    for operator in operators:
        denoise = iddpm.mmps(iddpm.ddnm(iddpm.pigdm(denoise, operator), operator), operator)
    noise = iddpm.SampleNoise(0, (1, 8, 8))
    iddpm.sample(iddpm.DDIM(), denoise, schedule, x, noise=noise)
    iddpm.sample("ddim", denoise, schedule, x)  # type: ignore[arg-type]


def timesteps(schedule: iddpm.NoiseSchedule) -> list[float]:
    """Spacings."""
    even: list[float] = [float(t) for t in iddpm.even_timesteps(1000, 10)]
    return even + iddpm.karras_timesteps(schedule, 10) + iddpm.log_snr_timesteps(schedule, 10)


def loop(network: nn.Module, denoiser: iddpm.Denoiser, x: Tensor, reporter: Reporter) -> None:
    """A training loop of one's own, and the library's."""
    optimizer = torch.optim.AdamW(network.parameters())
    emas = [iddpm.EMA(network, 0.999)]
    average = iddpm.PowerEMA(network, 0.1)
    steps = iddpm.UniformTimesteps(1000)
    iddpm.LossSecondMomentTimesteps(1000), iddpm.LowDiscrepancyTimesteps(1000)
    precision = iddpm.Precision("auto", torch.device("cpu"))
    state = iddpm.TrainState(network, optimizer, emas, steps, precision)
    step = iddpm.TrainStep(denoiser, network, loss, steps, optimizer, emas, precision)
    settings = iddpm.LoopSettings(total_steps=4, learning_rate=1e-3)
    iddpm.train_loop(Path("run"), state, step, [(x, {})], settings, reporter=reporter)
    average.update(network)
    iddpm.LoopSettings(total_steps="4", learning_rate=1e-3)  # type: ignore[arg-type]


def measurements(denoiser: iddpm.Denoiser, x: Tensor) -> float:
    """Likelihood and distances."""
    bound = iddpm.bits_per_dim(denoiser.diffusion, denoiser, x)
    assert_type(bound, iddpm.BitsPerDim)
    variance = iddpm.AnalyticVariance(denoiser.diffusion.schedule, bound.eps_mse)
    extractor: iddpm.Extractor = iddpm.pixel_pca(x, 4)
    features = extractor.function(x)
    stats = iddpm.FrechetStats(features.mean(0), features.T.cov(), len(x))
    print(variance, iddpm.psnr(x, x), iddpm.ssim(x, x), iddpm.kernel_distance(x, x))
    print(iddpm.manifold(x, x), iddpm.frechet_estimate(features, stats), iddpm.measure)
    print(iddpm.onnx_file(Path("f.onnx")), iddpm.class_accuracy(x, x.long(), ("a", "b")))
    return iddpm.frechet_distance(stats, stats)


def level(at: iddpm.Level, process: iddpm.Gaussian) -> Tensor:
    """What a step knows of the noise."""
    return iddpm.sigmoid(at) * at.alpha_bar + process.mean


def files(x: Tensor) -> list[Path]:
    """What samples are written to."""
    iddpm.save_gif([x, x], "x.gif")
    return [iddpm.save_npz(x, "x.npz"), *iddpm.save_images(x, "pictures")]


def published(path: Path) -> iddpm.Denoiser:
    """Checkpoints of the published implementations."""
    source, keywords = constructor_from_flags("improved", {"image_size": 64})
    build_published(source, keywords)
    return load_published(path, "improved", {"image_size": 64})

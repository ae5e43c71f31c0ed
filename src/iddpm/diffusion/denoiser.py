"""The denoiser: from a network's output to a prediction."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from iddpm.diffusion.fourier import fourier_features
from iddpm.diffusion.gaussian import GaussianDiffusion
from iddpm.diffusion.level_distribution import distribution_of, likelihood_alone
from iddpm.diffusion.prediction import SIGMA_DATA, Prediction, prediction_type
from iddpm.diffusion.residual import Residual
from iddpm.diffusion.schedule import Level

DecoderKind = Literal["gaussian", "levels", "categorical"]
"""The source of the probability of the data at step 0."""


class Denoise(Protocol):
    """The contract between models and samplers: any function of this form can be sampled.

    Guidance, clipping and thresholding are functions from one such function to another.

    The exact one for standard normal data, as an example:

    >>> from iddpm import DDIM, cosine, sample
    >>> def denoise(x_t, level, /, **conditioning):
    ...     signal = level.alpha_bar.to(x_t).sqrt().reshape(-1, 1, 1)
    ...     return Prediction(x0=signal * x_t, eps=(1 - signal**2).sqrt() * x_t)
    >>> sample(DDIM(), denoise, cosine(10), torch.randn(2, 1, 8)).shape
    torch.Size([2, 1, 8])
    """

    def __call__(self, x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        """Estimate data and noise in ``x_t`` [N, C, *spatial] at noise levels ``level`` [N]."""


class Denoiser(nn.Module):
    """A network, its diffusion process and the meaning of its output.

    Args:
        network: called as ``network(x_t, shown, **conditioning)``; returns [N, C, *spatial], or
            [N, 2 C, *spatial] when the variance is learned: the variance channels come last.
        diffusion: the process, which determines whether the variance is learned.
        predicts: ``"eps"``, ``"x0"``, ``"v"``, ``"edm"`` (the preconditioned output F of Karras et
            al. 2022; the time input stays that of the schedule), ``"previous"`` (the mean of
            x_{t-1}), or ``"categorical"`` (logits of the levels of x0: a network in a
            :class:`~iddpm.networks.LevelHead`).
        sigma_data: standard deviation of the data that ``"edm"`` assumes.
        fourier: number of periods (1, 2, 4, ... levels) at which the network receives sines and
            cosines of x_t, as channels behind those of x_t (:mod:`iddpm.diffusion.fourier`).
        bits: depth of the data, for ``fourier`` and ``decoder``.
        decoder: the probability of the data at step 0: ``"gaussian"``, the last reverse step;
            ``"levels"``, the likelihood of each level alone (Kingma et al. 2021, equation 8);
            ``"categorical"``, logits of the network, which is then wrapped in a
            :class:`~iddpm.networks.LevelHead` and returns features before its output.
        self_condition: concatenate an earlier estimate of x0 to x_t (Chen et al. 2022): the
            network is called with [N, 2 C, *spatial].
        residual_scale: diffuse (x - interpolated) / scale instead of the data, with one scale per
            channel (:class:`~iddpm.diffusion.residual.Residual`). The denoiser is then called with
            ``interpolated``, which the network does not receive.

    Raises:
        ValueError: an unknown ``predicts``, one that is undefined at a step of pure noise, or
            levels of the data together with its residual.

    >>> from iddpm import UNet, cosine
    >>> network = UNet(
    ...     dims=1, in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1,),
    ... )
    >>> denoiser = Denoiser(network, GaussianDiffusion(cosine(1000), "learned_range"), "v")
    >>> level = denoiser.diffusion.schedule.at(torch.tensor([0, 999]))
    >>> denoiser(torch.randn(2, 1, 16), level).x0.shape
    torch.Size([2, 1, 16])
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        diffusion: GaussianDiffusion,
        predicts: str = "eps",
        *,
        sigma_data: float = SIGMA_DATA,
        fourier: int = 0,
        bits: int | None = 8,
        decoder: str = "gaussian",
        self_condition: bool = False,
        residual_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.prediction_type = prediction_type(predicts, sigma_data)
        if self.prediction_type.blind_at_pure_noise and diffusion.schedule.ends_in_pure_noise:
            raise ValueError(
                f"predicts={predicts!r} does not depend on the data at the schedule's last "
                "step, which is pure noise: predict v, x0 or edm"
            )
        if decoder not in get_args(DecoderKind):
            known = ", ".join(get_args(DecoderKind))
            raise ValueError(f"decoder={decoder!r} is unknown: use one of {known}")
        if bits is None and (fourier or decoder == "levels"):
            raise ValueError(
                f"fourier={fourier} and decoder={decoder!r} need data with levels, and "
                "bits=None means that it has none: leave them out"
            )
        self.decoder = decoder
        self.gives_levels = self.prediction_type.gives_levels or decoder == "categorical"
        if residual_scale is not None and (self.gives_levels or fourier or decoder == "levels"):
            raise ValueError(
                f"predicts={predicts!r}, decoder={decoder!r} and fourier={fourier} need data "
                "with levels, and a residual has none: predict v with decoder='gaussian', or "
                "leave residual_scale out"
            )
        self.network = network
        self.fourier = fourier
        self.bits = bits
        self.diffusion = diffusion
        self.predicts = predicts
        self.sigma_data = sigma_data
        self.self_condition = self_condition
        self.residual_scale: Tensor | None = None
        if residual_scale is not None:
            self.residual_scale = torch.tensor(list(residual_scale), dtype=torch.float64)

    def forward(
        self,
        x_t: Tensor,
        level: Level,
        /,
        *,
        estimate: Tensor | None = None,
        interpolated: Tensor | None = None,
        **conditioning: Any,
    ) -> Prediction:
        """Estimate data and noise in ``x_t``.

        ``estimate`` is an earlier estimate of x0 for a network with ``self_condition``; it is
        clamped to [-1, 1], the range of the data, and None stands for zeros. Other networks ignore
        it. ``interpolated`` is the interpolation of the low-resolution input, for models of the
        residual.

        Raises:
            ValueError: the network's channels do not fit the data and the variance, or the
                residual is diffused and ``interpolated`` is missing.
        """
        residual = self._residual(interpolated)
        shown = level.shown.to(device=x_t.device, dtype=torch.float32)
        # The network may compute in bfloat16. The rest subtracts large numbers and must not.
        scaling = self.prediction_type.input_scale
        scale = None if scaling is None else scaling(x_t, level)
        seen = self._input(x_t, level, estimate, scale)
        output = self.network(seen, shown, **conditioning)
        levels = None
        if self.gives_levels:
            levels, output = distribution_of(output, x_t, level, scale)
        elif self.decoder == "levels":
            assert self.bits is not None
            levels = likelihood_alone(x_t, level, 2**self.bits)
        if self.prediction_type.gives_levels:
            assert levels is not None
            output = torch.cat([levels.mean(), output.to(x_t.dtype)], dim=1)
        output = output.to(x_t.dtype)
        channels = x_t.shape[1]
        learns = self.diffusion.learns_variance
        if output.shape[1] != channels * (1 + learns):
            raise ValueError(
                f"variance={self.diffusion.variance!r} on data of {channels} channels needs a "
                f"network with {channels * (1 + learns)} output channels; this one has "
                f"{output.shape[1]}"
            )
        variance = output[:, channels:] if learns else None
        prediction = self.prediction_type.read(x_t, output[:, :channels], level)
        kind = self.diffusion.variance
        return replace(
            prediction, variance=variance, variance_kind=kind, levels=levels, residual=residual
        )

    def _input(
        self, x_t: Tensor, level: Level, estimate: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """Return the network's input: noisy data, Fourier features and an earlier estimate."""
        seen = [x_t if scale is None else scale * x_t]
        if self.fourier:
            assert self.bits is not None
            seen.append(fourier_features(x_t, level, self.fourier, self.bits))
        if self.self_condition:
            known = torch.zeros_like(x_t) if estimate is None else estimate.clamp(-1, 1)
            seen.append(known)
        return torch.cat(seen, dim=1) if len(seen) > 1 else seen[0]

    def _residual(self, interpolated: Tensor | None) -> Residual | None:
        if self.residual_scale is None:
            return None
        if interpolated is None:
            raise ValueError(
                "this model diffuses the residual of the data: call it with interpolated, "
                "to which the residual is added"
            )
        return Residual(interpolated, self.residual_scale)

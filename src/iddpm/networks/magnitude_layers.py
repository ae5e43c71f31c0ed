"""Layers that preserve the expected magnitude of what passes through them (EDM2).

The magnitude of a tensor is the root of its mean square. Of inputs that are uncorrelated and have
magnitude 1, each function here returns one of magnitude 1, so a network of them needs no group
normalization (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion
Models", sections 2.2 to 2.5 and appendix B). Written from the equations of the paper.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddpm.networks.convolution import conv_nd, convolve

SILU_MAGNITUDE = 0.596
"""Magnitude of silu(x) for standard normal x; rounded as in the paper (it is 0.59647)."""
TIME_UNIT = 400.0
"""Divides the time input. Its range of 1000 becomes 2.5; that of the paper's ln(sigma) / 4, for
sigma from 0.002 to 80, is 2.65."""


def to_unit(x: Tensor, dim: int) -> Tensor:
    """Return ``x`` with magnitude 1 along ``dim``: pixel normalization, for the channels.

    The norm is computed in float32 or better. A vector of zeros stays zero.
    """
    return _with_norm(x, math.sqrt(x.shape[dim]), (dim,))


def _with_norm(x: Tensor, norm: float, axes: Sequence[int]) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    found = torch.linalg.vector_norm(x, dim=tuple(axes), keepdim=True, dtype=wide)
    factor: Tensor = norm / found.clamp_min(1e-12)
    return x * factor.to(x.dtype)


def magnitude_silu(x: Tensor) -> Tensor:
    """Return silu(x) / 0.596, of magnitude 1 for standard normal x (appendix B.6)."""
    return F.silu(x) / SILU_MAGNITUDE


def sum_weights(share: float) -> tuple[float, float]:
    """Return the factors of a and b in :func:`magnitude_sum`."""
    norm = math.hypot(1 - share, share)
    return (1 - share) / norm, share / norm


def magnitude_sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), where t is the ``share`` of b (B.6)."""
    left, right = sum_weights(share)
    return left * a + right * b


def magnitude_cat(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """Concatenate [N, A, ...] and [N, B, ...] so that b's ``share`` t does not depend on A and B.

    a is multiplied by (1 - t) c / sqrt(A) and b by t c / sqrt(B), with
    c = sqrt((A + B) / ((1 - t)^2 + t^2)) (B.6).
    """
    left, right = sum_weights(share)
    total = a.shape[1] + b.shape[1]
    parts = [
        a * (left * math.sqrt(total / a.shape[1])),
        b * (right * math.sqrt(total / b.shape[1])),
    ]
    if a.dim() == 3:  # joined as pictures, whose layout PyTorch keeps
        return torch.cat([part.unsqueeze(2) for part in parts], dim=1).squeeze(2)
    return torch.cat(parts, dim=1)


def normal_frequencies(count: int) -> tuple[float, ...]:
    """Return quantiles of the normal distribution above its median, evenly spaced in probability.

    They are computed when a network is made, since torch.compile does not support the quantiles.
    """
    normal = NormalDist()
    return tuple(normal.inv_cdf(0.5 + (k + 0.5) / (2 * count)) for k in range(count))


def magnitude_embedding(timesteps: Tensor, frequencies: Sequence[float], width: int) -> Tensor:
    """Embed timesteps [N] by Fourier features of magnitude 1, float32 [N, width].

    The frequencies are normally distributed, as in the paper (B.6); they are the quantiles of that
    distribution instead of draws, and every frequency has a cosine and a sine instead of a random
    phase, so that each vector has magnitude 1 exactly. A last odd column is zero.

    Args:
        timesteps: [N], any real numbers.
        frequencies: half of ``width`` numbers, of :func:`normal_frequencies`.
        width: of the embedding.
    """
    scale = torch.tensor(frequencies, device=timesteps.device) * (2 * math.pi / TIME_UNIT)
    angles = timesteps[:, None].float() * scale[None]
    norm = math.sqrt(width / max(len(frequencies), 1))
    features = torch.cat([angles.cos(), angles.sin()], dim=1) * norm
    return F.pad(features, (0, width % 2))


def unit_weight(weight: Tensor, scale: float = 1.0) -> Tensor:
    """Return a weight [C', ...] whose norm is ``scale`` for every output channel.

    Each output is then a sum of uncorrelated inputs with weights of norm 1, whose magnitude is 1
    (section 2.2 and B.4).
    """
    return _with_norm(weight, scale, range(1, weight.dim()))


@torch.no_grad()
def force_unit_magnitude(weight: Tensor) -> None:
    """Scale each row of a weight [C', ...] to magnitude 1, in place (section 2.3).

    Rows of magnitude 1, whatever their length, let a step of Adam change all layers at the same
    relative rate. The rows of a sharded weight are whole on each process.
    """
    rows: Tensor = weight.to_local() if hasattr(weight, "to_local") else weight
    rows.copy_(unit_weight(rows, math.sqrt(weight[0].numel())))


class MagnitudeConv(nn.Module):
    """A convolution [N, C, *spatial] to [N, C', *spatial], of a weight with unit norm and no bias.

    Args:
        dims: 1, 2 or 3 spatial axes.
        channels, out_channels: channels of the input and of the output.
        kernel: an odd size; padding keeps the spatial size.
        circular: the axes that are periodic, one boolean each; none by default.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        out_channels: int,
        kernel: int,
        circular: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.conv = conv_nd(
            dims, channels, out_channels, kernel, padding=kernel // 2, bias=False, circular=circular
        )
        nn.init.normal_(self.conv.weight)  # type: ignore[arg-type]
        self.normalize_weights()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *spatial], times ``scale``."""
        return convolve(self.conv, x, unit_weight(self.conv.weight, scale))  # type: ignore[arg-type]

    def normalize_weights(self) -> None:
        """Give the stored weight magnitude 1; training calls this after every step."""
        force_unit_magnitude(self.conv.weight)  # type: ignore[arg-type]


class MagnitudeStem(MagnitudeConv):
    """The first convolution, of kernel 3; a channel of ones takes the place of biases (2.1)."""

    def __init__(
        self, dims: int, channels: int, out_channels: int, circular: Sequence[bool]
    ) -> None:
        super().__init__(dims, channels + 1, out_channels, 3, circular)
        self.in_channels = channels

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *spatial]."""
        return super().forward(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), scale)


class MagnitudeHead(nn.Module):
    """The last convolution, of kernel 3, times a learned gain that starts at zero."""

    def __init__(
        self, dims: int, channels: int, out_channels: int, circular: Sequence[bool]
    ) -> None:
        super().__init__()
        self.conv = MagnitudeConv(dims, channels, out_channels, 3, circular)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *spatial]."""
        y: Tensor = self.conv(x)
        return y * self.gain.to(y.dtype)


class MagnitudeLinear(nn.Module):
    """A linear map of [..., C] to [..., C'], of a weight with unit norm and no bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.normalize_weights()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Map [..., C] to [..., C'], times ``scale``."""
        return F.linear(x, unit_weight(self.weight, scale))

    def normalize_weights(self) -> None:
        """Give the stored weight magnitude 1; training calls this after every step."""
        force_unit_magnitude(self.weight)


class MagnitudeEmbedding(nn.Module):
    """A table of vectors of magnitude 1, one for each of the ``count`` classes."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width))
        self.normalize_weights()

    def forward(self, y: Tensor) -> Tensor:
        """Map classes [N] to [N, width]."""
        return to_unit(F.embedding(y, self.weight), 1)

    def normalize_weights(self) -> None:
        """Give the stored vectors magnitude 1; training calls this after every step."""
        force_unit_magnitude(self.weight)


class MagnitudeFeatures(nn.Module):
    """Two linear maps with a SiLU between, of features that are first brought to magnitude 1."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first = MagnitudeLinear(features, width)
        self.second = MagnitudeLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to [N, width]."""
        y: Tensor = self.second(magnitude_silu(self.first(to_unit(x, 1))))
        return y

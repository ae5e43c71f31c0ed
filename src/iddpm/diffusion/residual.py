"""Data as a known interpolation plus a scaled residual.

If most of the data is known, for example from its low resolution, a process can diffuse the
residual. Shifting and scaling by known numbers does not change information: a bound on the
likelihood of the residual is a bound on that of the data, with the decoder in units of the data.
"""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Residual:
    """The residual (x - interpolated) / scale that a process diffuses instead of the data.

    Attributes:
        interpolated: the interpolated low resolution, [N, C, *spatial], about [-1, 1].
        scale: float64 [C], positive: the unit of each channel's residual.
    """

    interpolated: Tensor
    scale: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """Return the residual of data ``x`` [N, C, *spatial]."""
        return (x - self.interpolated) / _of_channels(self.scale, self.interpolated)

    def decode(self, residual: Tensor) -> Tensor:
        """Return the data of a residual."""
        return self.interpolated.to(residual.dtype) + self.scaled(residual)

    def scaled(self, difference: Tensor) -> Tensor:
        """Return a difference of two residuals in units of the data."""
        return _of_channels(self.scale, difference) * difference

    def log_scale(self, like: Tensor) -> Tensor:
        """Return the logarithms of the scale, shaped to be added to residuals."""
        return _of_channels(self.scale.log(), like)

    def clamp(self, residual: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Return the nearest residual with data within [low, high]."""
        ends = (self.encode(residual.new_tensor(end)) for end in (low, high))
        return residual.clamp(*ends)

    def at(self, items: Tensor | slice) -> "Residual":
        """Return it for some of the items."""
        return replace(self, interpolated=self.interpolated[items])


def _of_channels(values: Tensor, like: Tensor) -> Tensor:
    """Return float64 values [C] shaped [1, C, 1, ...], of the type and device of ``like``."""
    values = values.to(device=like.device, dtype=like.dtype)
    return values.reshape(1, -1, *[1] * (like.dim() - 2))

"""A U-Net that also sees a low-resolution version of what it denoises."""

from typing import Any

import torch
from torch import Tensor

from iddpm.networks.layers import resize_linear
from iddpm.networks.unet import Features, UNet


class SuperResUNet(UNet):
    """Denoise data given its low-resolution version, in 1, 2 or 3 dimensions.

    ``low_res`` is resized to the size of ``x`` by (bi-, tri-) linear interpolation and joined as
    further channels (Nichol & Dhariwal 2021, section 4). Takes the arguments of :class:`UNet`;
    ``in_channels`` counts the channels of the data alone.
    """

    def __init__(self, *, in_channels: int, **kwargs: Any) -> None:
        super().__init__(in_channels=2 * in_channels, **kwargs)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
    ) -> Tensor:
        """Predict from ``x`` [N, C, *spatial] and ``low_res`` [N, C, *any spatial]."""
        return super().forward(self.join(x, low_res), timesteps, y, conditions, given)

    def features(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
    ) -> Features:
        """Return what every stage computed; see :meth:`UNet.features`."""
        return super().features(self.join(x, low_res), timesteps, y, conditions, given)

    def join(self, x: Tensor, low_res: Tensor) -> Tensor:
        """Return [N, 2 C, *spatial]: ``x`` and the resized ``low_res``."""
        if low_res.shape[:2] != x.shape[:2] or low_res.dim() != x.dim():
            raise ValueError(
                f"low_res of shape {list(low_res.shape)} must have the items, channels and number "
                f"of axes of x, which is {list(x.shape)}"
            )
        resized = resize_linear(low_res, x.shape[2:], self.circular)
        return torch.cat([x, resized], dim=1)

"""A U-Net that also sees a low-resolution version of what it denoises."""

from typing import Any

import torch
from torch import Tensor, nn

from iddpm.networks.layers import linear, resize_linear, timestep_embedding, zero_module
from iddpm.networks.unet import Features, UNet

NOISE_PERIODS = 1000.0
"""A noise level is embedded as a timestep of so many times its size."""


class SuperResUNet(UNet):
    """Denoise data given its low-resolution version, in 1, 2 or 3 dimensions.

    ``low_res`` is resized to the size of ``x`` by (bi-, tri-) linear interpolation and joined as
    further channels (Nichol & Dhariwal 2021, section 4). Takes the arguments of :class:`UNet`;
    ``in_channels`` counts the channels of the data alone.

    Args:
        noise_levels: whether the network is told how much noise was added to ``low_res`` (Ho et al.
            2021, section 4): a second embedding, which starts at zero, is added to the timestep's.
    """

    def __init__(self, *, in_channels: int, noise_levels: bool = False, **kwargs: Any) -> None:
        super().__init__(in_channels=2 * in_channels, **kwargs)
        self.noise_embed: nn.Sequential | None = None
        if noise_levels:
            self.noise_embed = nn.Sequential(
                linear(self.model_channels, self.emb_channels),
                nn.SiLU(),
                zero_module(linear(self.emb_channels, self.emb_channels)),
            )

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        low_res_noise: Tensor | None = None,
    ) -> Tensor:
        """Predict from ``x`` [N, C, *spatial] and ``low_res`` [N, C, *any spatial].

        ``low_res_noise`` [N] is the standard deviation of the noise that was added to ``low_res``;
        the others are those of :class:`UNet`.

        Raises:
            ValueError: a shape that does not fit, or something missing or unwanted.
        """
        h = self.joined(self.join(x, low_res), given)
        return self.predict(h, self._embed_all(h, timesteps, y, conditions, low_res_noise))

    def features(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        low_res_noise: Tensor | None = None,
    ) -> Features:
        """Return what every stage computed; see :meth:`UNet.features`."""
        h = self.joined(self.join(x, low_res), given)
        return self.stages(h, self._embed_all(h, timesteps, y, conditions, low_res_noise))

    def join(self, x: Tensor, low_res: Tensor) -> Tensor:
        """Return [N, 2 C, *spatial]: ``x`` and the resized ``low_res``."""
        if low_res.shape[:2] != x.shape[:2] or low_res.dim() != x.dim():
            raise ValueError(
                f"low_res of shape {list(low_res.shape)} must have the items, channels and number "
                f"of axes of x, which is {list(x.shape)}"
            )
        resized = resize_linear(low_res, x.shape[2:], self.circular)
        return torch.cat([x, resized], dim=1)

    def _embed_all(
        self,
        h: Tensor,
        timesteps: Tensor,
        y: Tensor | None,
        conditions: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        """Return the embedding with that of the noise level, where there is one."""
        emb = self.embed(h, timesteps, y, conditions)
        if (noise is not None) != (self.noise_embed is not None):
            raise ValueError(
                f"the network was {('not ' if self.noise_embed is None else '')}built with "
                f"noise_levels, and was called {('without' if noise is None else 'with')} "
                "low_res_noise"
            )
        if noise is None or self.noise_embed is None:
            return emb
        sinusoids = timestep_embedding(NOISE_PERIODS * noise, self.model_channels)
        told: Tensor = self.noise_embed(sinusoids.to(emb.dtype))
        return emb + told

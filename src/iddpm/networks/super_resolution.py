"""A U-Net that is conditioned on a low-resolution version of its data."""

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor, nn

from iddpm.networks.layers import linear, resize_linear, timestep_embedding, zero_module
from iddpm.networks.trunk import with_keywords_of
from iddpm.networks.unet import Features, UNet, UNetOptions

NOISE_PERIODS = 1000.0
"""A noise level is embedded as the timestep of this multiple of its size."""


class SuperResUNet(UNet):
    """Denoise data conditioned on its low-resolution version, in 1, 2 or 3 dimensions.

    ``low_res`` is resized to the size of ``x`` by (bi-, tri-) linear interpolation and concatenated
    as further channels (Nichol & Dhariwal 2021, section 4).

    Args:
        in_channels: channels of the data alone.
        out_channels: channels of the prediction; twice the data's when the variance is learned.
        noise_levels: whether the network is conditioned on the noise that was added to ``low_res``
            (Ho et al. 2021, section 4): a second embedding, which starts at zero, is added to that
            of the timestep.
        model_channels, num_res_blocks, channel_mult, attention_downsampling: widths and blocks of
            the levels, as in :class:`UNet`.
        dims, stride, circular: the spatial axes, as in :class:`UNet`.
        num_heads, num_head_channels, num_heads_upsample, qkv_order: attention, as in :class:`UNet`.
        num_classes, conditions, given_channels, numbers, augmentation: other conditioning, as in
            :class:`UNet`.
        dropout, use_scale_shift_norm, group_channels: the residual blocks, as in :class:`UNet`.
        upsample, downsample, smooth_start, resblock_updown: the resizing, as in :class:`UNet`.
        use_checkpoint, checkpoint_engine: gradient checkpointing, as in :class:`UNet`.

    Raises:
        ValueError: numbers that do not fit together, named in the message.

    >>> network = SuperResUNet(
    ...     dims=2, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1, 2),
    ... )
    >>> network(torch.randn(2, 1, 16, 16), torch.zeros(2), torch.randn(2, 1, 8, 8)).shape
    torch.Size([2, 1, 16, 16])
    """

    @with_keywords_of(UNet)
    def __init__(
        self, *, in_channels: int, noise_levels: bool = False, **options: Unpack[UNetOptions]
    ) -> None:
        super().__init__(in_channels=2 * in_channels, **options)
        self.noise_embed: nn.Module | None = None
        if noise_levels:
            self.noise_embed = self._noise_embed()

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        low_res_noise: Tensor | None = None,
        guidance: Tensor | None = None,
        end: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Predict from ``x`` [N, C, *spatial] and ``low_res`` [N, C, *any spatial].

        ``low_res_noise`` [N] is the standard deviation of the noise that was added to ``low_res``;
        the others are those of :class:`UNet`.

        Raises:
            ValueError: a shape does not fit, or an argument is missing or unexpected.
        """
        h = self.joined(self.join(x, low_res), given)
        return self.predict(
            h,
            self._embed_all(
                h,
                timesteps,
                y,
                conditions,
                low_res_noise,
                {"guidance": guidance, "end": end, "augment": augment},
            ),
        )

    def features(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        low_res: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        low_res_noise: Tensor | None = None,
        guidance: Tensor | None = None,
        end: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        """Return the output of every stage; see :meth:`UNet.features`."""
        h = self.joined(self.join(x, low_res), given)
        return self.stages(
            h,
            self._embed_all(
                h,
                timesteps,
                y,
                conditions,
                low_res_noise,
                {"guidance": guidance, "end": end, "augment": augment},
            ),
        )

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
        numbers: Mapping[str, Tensor | None],
    ) -> Tensor:
        """Return the embedding of everything, the noise level included if there is one."""
        emb = self.embed(h, timesteps, y, conditions, numbers)
        if (noise is not None) != (self.noise_embed is not None):
            raise ValueError(
                f"the network was {('not ' if self.noise_embed is None else '')}built with "
                f"noise_levels, and was called {('without' if noise is None else 'with')} "
                "low_res_noise"
            )
        if noise is None or self.noise_embed is None:
            return emb
        sinusoids = timestep_embedding(NOISE_PERIODS * noise, self.model_channels)
        noise_emb: Tensor = self.noise_embed(sinusoids.to(emb.dtype))
        return self._with_noise(emb, noise_emb)

    def _noise_embed(self) -> nn.Module:
        return nn.Sequential(
            linear(self.model_channels, self.emb_channels),
            nn.SiLU(),
            zero_module(linear(self.emb_channels, self.emb_channels)),
        )

    def _with_noise(self, emb: Tensor, noise_emb: Tensor) -> Tensor:
        return emb + noise_emb

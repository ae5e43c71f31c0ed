"""The released CIFAR-10 network of Improved DDPM, ours and diffusers' of the same widths.

128 channels, multipliers 1, 2, 2, 2, three residual blocks per level, attention of four heads at 16
and 8 pixels, learned variance.
"""

from torch import Tensor, nn

from iddpm.networks import UNet


def our_network() -> nn.Module:
    """Return our network, 52.5M parameters."""
    return UNet(
        in_channels=3,
        out_channels=6,
        model_channels=128,
        num_res_blocks=3,
        channel_mult=(1, 2, 2, 2),
        attention_downsampling=(2, 4),
        num_heads=4,
        dropout=0.3,
        upsample="nearest_conv",
    )


class Peer(nn.Module):
    """diffusers' network with the same widths, called like ours."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.unet = UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=6,
            layers_per_block=3,
            block_out_channels=(128, 256, 256, 256),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=64,
            resnet_time_scale_shift="scale_shift",
            dropout=0.3,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t, return_dict=False)[0]  # type: ignore[no-any-return]

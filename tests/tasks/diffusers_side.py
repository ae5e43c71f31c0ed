"""What diffusers does with exported folders, and pipelines of its own; run without iddpm.

    python diffusers_side.py FOLDER

opens each FOLDER/exported_*, calls it on FOLDER/inputs.pt and writes FOLDER/outputs.pt; and saves
pipelines with random weights as FOLDER/theirs_*, their outputs beside them.
"""

import sys
from pathlib import Path

import torch

sys.modules["iddpm"] = None  # type: ignore[assignment]  # an import would fail
from diffusers import (  # noqa: E402
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    UNet2DModel,
)

WIDTHS = {"block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 16}
PIPELINES = {
    "plain": (
        {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
         "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
        DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=400),
    ),
    "resized": (
        {"down_block_types": ("AttnDownBlock2D", "ResnetDownsampleBlock2D"),
         "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D"), "downsample_type": "resnet",
         "upsample_type": "resnet", "attention_head_dim": 16, "out_channels": 6,
         "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32},
        DDPMScheduler(variance_type="learned_range"),
    ),
    "ddim": (
        {"down_block_types": ("DownBlock2D", "DownBlock2D"), "in_channels": 1, "out_channels": 1,
         "up_block_types": ("UpBlock2D", "UpBlock2D"), "attention_head_dim": None},
        DDIMScheduler(prediction_type="v_prediction"),
    ),
}  # fmt: skip


def stepped(unet: UNet2DModel, scheduler, x, t, labels):
    """Return the network's output and a step, in float64.

    In float32 a scheduler's 1 - alpha loses four of seven digits at the first steps.
    """
    scheduler.alphas_cumprod = torch.cumprod(1 - betas(scheduler.config), 0)
    scheduler.one = scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    with torch.no_grad():
        out = unet.double()(x.double(), t, **labels).sample
    # DDIM's step from the clipped estimate, as Song et al. and the published code have it.
    clipped = {"use_clipped_model_output": True} if isinstance(scheduler, DDIMScheduler) else {}
    generator = torch.Generator().manual_seed(5)
    return out, scheduler.step(out, t, x.double(), generator=generator, **clipped).prev_sample


def betas(config):
    steps = config.num_train_timesteps
    if config.beta_schedule == "linear":
        return torch.linspace(config.beta_start, config.beta_end, steps, dtype=torch.float64)
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    left = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


def main(folder: Path) -> None:
    outputs = {}
    for name, given in torch.load(folder / "inputs.pt", weights_only=True).items():
        path = folder / f"exported_{name}"
        if (path / "model_index.json").exists():
            pipeline = DiffusionPipeline.from_pretrained(path)
            unet, scheduler = pipeline.unet, pipeline.scheduler
        else:
            unet = UNet2DModel.from_pretrained(path, subfolder="unet")
            scheduler = DDPMScheduler.from_pretrained(path, subfolder="scheduler")
        labels = {"class_labels": given["y"]} if "y" in given else {}
        scheduler.set_timesteps(scheduler.config.num_train_timesteps)
        outputs[name] = [stepped(unet, scheduler, given["x"], t, labels) for t in given["t"]]
    torch.save(outputs, folder / "outputs.pt")

    torch.manual_seed(0)
    theirs = {}
    for name, (config, scheduler) in PIPELINES.items():
        unet = UNet2DModel(**WIDTHS, **config).eval()
        kind = DDIMPipeline if isinstance(scheduler, DDIMScheduler) else DDPMPipeline
        kind(unet=unet, scheduler=scheduler).save_pretrained(folder / f"theirs_{name}")
        x = torch.randn(2, config.get("in_channels", 3), 16, 16)
        scheduler.set_timesteps(scheduler.config.num_train_timesteps)
        theirs[name] = {"x": x, "t": torch.tensor([3, 250])}
        theirs[name]["steps"] = [stepped(unet, scheduler, x, t, {}) for t in theirs[name]["t"]]
    torch.save(theirs, folder / "theirs.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

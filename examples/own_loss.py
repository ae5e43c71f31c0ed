"""Your own loss, the absolute error of the noise: python examples/own_loss.py OUT STEPS."""

import sys

from torch import Tensor

import iddpm


def absolute_error(
    denoiser: iddpm.Denoiser, x0: Tensor, t: Tensor, noise: Tensor, **conditioning: Tensor
) -> Tensor:
    """Return one value for each item [N]: x0 and noise [N, C, *spatial], steps t int64 [N]."""
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    prediction = denoiser(x_t, denoiser.diffusion.schedule.at(t), **conditioning)
    return (prediction.eps - noise).abs().flatten(1).mean(1)


if __name__ == "__main__":
    out, steps = sys.argv[1:] or ("runs/own_loss", "2000")
    settings = ["model.model_channels=16", "model.num_res_blocks=1", f"training.steps={steps}"]
    run = iddpm.train("mnist5k", loss=absolute_error, out=out, settings=settings)
    iddpm.save_grid(run.sample(16, steps=10), f"{out}/grid.png")

"""Compare samplers on two data sets whose denoisers are known exactly.

python -m benchmarks.exact_denoisers   # also: python -m benchmarks.samplers --exact

Prints both tables, and how far the automatic choice is behind the best, in a few minutes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iddpm.builders.sampling_plan import (
    Method,
    build_sampler,
    build_sampling_schedule,
    choose_method,
)
from iddpm.config import SamplingConfig
from iddpm.config.choices import SAMPLERS
from iddpm.diffusion import Level, Prediction, cosine
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import sample
from iddpm.sampling.fitted_spacing import FittedSteps, candidate_timesteps, step_errors

DIRECTIONS = 128


class Mixture(NamedTuple):
    """Gaussians of one spread around equally likely centers.

    The denoiser E[x0 | x_t] has a closed form. ``centers`` is float64 [K, D]; items are [N, D, 1].
    """

    centers: Tensor
    spread: float

    def __call__(self, x_t: Tensor, level: Level, /, **_: Tensor) -> Prediction:
        """Return the exact estimates of data and noise."""
        alpha_bar = broadcast(level.alpha_bar, x_t)[..., 0]
        signal, variance = alpha_bar.sqrt(), 1 - alpha_bar
        x = x_t[..., 0]
        total = alpha_bar * self.spread**2 + variance
        share = (-self._squares(x, signal) / (2 * total)).softmax(-1)
        near = share @ self.centers
        x0 = near + signal * self.spread**2 / total * (x - signal * near)
        eps = (x - signal * x0) / variance.sqrt()
        return Prediction(x0[..., None], eps[..., None])

    def _squares(self, x: Tensor, signal: Tensor | float = 1.0) -> Tensor:
        """Return squared distances from the scaled centers, but for a constant of each row."""
        lengths = self.centers.square().sum(-1)
        return signal**2 * lengths - 2 * signal * (x @ self.centers.T)

    def spread_within(self, x: Tensor) -> float:
        """Return the root mean square distance from the nearest center, per dimension."""
        flat = x[..., 0]
        nearest = self.centers[self._squares(flat).argmin(-1)]
        return float((flat - nearest).square().mean().sqrt())


def ring() -> Mixture:
    """Return eight modes on a circle of radius 0.8 in the plane."""
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    return Mixture(0.8 * torch.stack([angle.cos(), angle.sin()], 1), 0.05)


def many_pictures() -> Mixture:
    """Return 300 modes in 784 dimensions: smooth random pictures, black and white mostly."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.standard_normal((300, 1, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, (28, 28), mode="bicubic")
    return Mixture(torch.tanh(3 * smooth).flatten(1), 0.1)


def sliced_wasserstein(x: Tensor, y: Tensor) -> float:
    """Return the sliced 2-Wasserstein distance of two sets [N, D, 1] of one size."""
    random = torch.Generator().manual_seed(0)
    axes = torch.randn(x.shape[1], DIRECTIONS, generator=random, dtype=x.dtype)
    axes = axes / axes.norm(dim=0)
    a, b = ((each[..., 0] @ axes).sort(dim=0).values for each in (x, y))
    return float((a - b).square().mean().sqrt())


FITTED_UP_TO = 20
"""Evaluations that ``fitted`` steps are measured at: they are chosen among 40 levels or so."""
COUNTS = (5, 8, 10, 15, 20, 50)
METHODS = tuple(
    (sampler, spacing)
    for sampler in ("dpmpp_2m_sde", "er_sde", "unipc_2", "ipndm")
    for spacing in ("karras", "log_snr", "fitted")
)


def balanced(data: Mixture, count: int, seed: int) -> Tensor:
    """Return ``count`` items [N, D, 1], equally many of every center as far as that goes."""
    which = torch.arange(count) % len(data.centers)
    return (data.centers[which] + data.spread * noise_of(data, count, seed)[..., 0])[..., None]


def noise_of(data: Mixture, count: int, seed: int) -> Tensor:
    """Return standard normal noise [N, D, 1]; in the plane, turned by eighths of a circle.

    The ring is the same after such a turn, so that the samples fall on its modes equally often and
    chance in the number of each does not hide the error of a sampler.
    """
    random = torch.Generator().manual_seed(seed)
    size = data.centers.shape[1]
    if size != 2:
        return torch.randn(count, size, 1, generator=random, dtype=torch.float64)
    some = torch.randn(count // 8, 2, generator=random, dtype=torch.float64)
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    rows = [torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)]
    turned = torch.einsum("kij,nj->nki", torch.stack(rows, 1), some)
    return turned.reshape(count, 2, 1)


def exact_table(name: str, data: Mixture, count: int) -> str:
    """Return a Markdown table: distance x 1000 and spread by method and evaluations."""
    whole = cosine(1000)
    real = balanced(data, count, 1)
    positions = candidate_timesteps(whole)
    errors = step_errors(data, whole.respace(positions), noise_of(data, 32, 7))
    fitted = FittedSteps(torch.tensor(positions, dtype=torch.float64), errors)
    floor = 1000 * sliced_wasserstein(balanced(data, count, 2), real)
    lines = [
        f"{name}: sliced Wasserstein x 1000 (two sets of real items: {floor:.1f}) and the spread "
        f"within modes (true: {data.spread:.3f})",
        "",
        f"| sampler, spacing | {' | '.join(map(str, COUNTS))} |",
        f"|---|{'---|' * len(COUNTS)}",
    ]
    found: dict[tuple[str, int], float] = {}
    for sampler, spacing in METHODS:
        row, cells = SAMPLERS[sampler], []
        for evaluations in COUNTS:
            if spacing == "fitted" and evaluations > FITTED_UP_TO:
                cells.append("-")
                continue
            if spacing == "fitted":
                steps = fitted.timesteps(whole, evaluations, sigma_max=row.sigma_max)
                schedule = whole.respace(steps)
            else:
                schedule = build_sampling_schedule(whole, Method(sampler, spacing), evaluations)
            x = sample(
                build_sampler(sampler),
                data,
                schedule,
                noise_of(data, count, 3),
                noise=lambda number: noise_of(data, count, 1000 + number),
            )
            distance = 1000 * sliced_wasserstein(x, real)
            found[f"{sampler}, {spacing}", evaluations] = distance
            cells.append(f"{distance:.1f} ({data.spread_within(x):.3f})")
        lines.append(f"| {sampler}, {spacing} | {' | '.join(cells)} |")
    behind = []
    for evaluations in COUNTS:
        usual = ", ".join(choose_method(SamplingConfig(steps=evaluations), 2))
        best = min(value for (_, n), value in found.items() if n == evaluations)
        behind.append(f"x{found[usual, evaluations] / best:.2f} at {evaluations}")
    lines += ["", f"The automatic choice, of the nearest: {', '.join(behind)}."]
    return "\n".join(lines)


def exact_tables() -> str:
    """Return the tables of both data sets."""
    return "\n\n".join(
        [
            exact_table("Ring of 8 modes", ring(), 2000),
            exact_table("300 modes in 784 dimensions", many_pictures(), 300),
        ]
    )


if __name__ == "__main__":
    print(exact_tables())

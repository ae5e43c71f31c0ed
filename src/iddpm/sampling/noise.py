"""Noise that depends on the number of the sample, not on its batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.runtime.seeds import normal


def limited(std: Tensor, i: int, levels: float) -> Tensor:
    """Return the noise's standard deviation, limited at step 1.

    The noise of step 1 stays in the sample. The analytic variance there is optimal for the
    likelihood, but visible: E|noise| is limited to ``levels`` times 2 / 255 (Bao et al. 2022, who
    use 1 or 2). The last step adds no noise.
    """
    if i != 1:
        return std
    return std.clamp(max=levels * 2 / 255 * math.sqrt(math.pi / 2))


@dataclass(frozen=True)
class SampleNoise:
    """Standard normal noise of the images ``start``, ``start + 1``, ... of a seed.

    Attributes:
        seed: the user's seed.
        shape: [N, C, *spatial] of the batch.
        start: number of the first image; image k draws the same in every batch that holds it.
        device: of the result; the noise is drawn on the CPU, in float32.

    >>> from iddpm import SampleNoise
    >>> batch, alone = SampleNoise(7, (4, 1, 8, 8)), SampleNoise(7, (1, 1, 8, 8), start=3)
    >>> torch.equal(batch.initial()[3:], alone.initial())  # x_T of image 3
    True
    >>> torch.equal(batch(0)[3:], alone(0))  # its noise of the first step
    True
    """

    seed: int
    shape: Sequence[int]
    start: int = 0
    device: str | torch.device = "cpu"

    def initial(self) -> Tensor:
        """Return x_T, the noise that sampling starts from."""
        return self._draw(0)

    def __call__(self, number: int) -> Tensor:
        """Return the noise of the step with this number, counted from the noisiest."""
        return self._draw(number + 1)

    def _draw(self, step: int) -> Tensor:
        batch = normal(self.seed, "sample", self.shape, step=step, start=self.start)
        return torch.from_numpy(batch).to(self.device)

"""The classifier's loss and timesteps."""

import numpy as np
import torch

from iddpm.diffusion import GaussianDiffusion, cosine
from iddpm.training.classification import (
    CleanAndNoisyTimesteps,
    NoisyClassifier,
    cross_entropy,
)


def test_the_loss_is_the_cross_entropy_of_the_noisy_item_at_its_time():
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(cosine(100))
    seen = []

    def network(x_t, shown):
        seen.append((x_t, shown))
        return torch.stack([x_t.mean(dim=(1, 2)), x_t.amax(dim=(1, 2)), shown / 1000], dim=1)

    x0, noise = torch.randn(4, 2, 5), torch.randn(4, 2, 5)
    t, y = torch.tensor([0, 10, 50, 99]), torch.tensor([0, 1, 2, 0])
    terms = cross_entropy(NoisyClassifier(network, diffusion), x0, t, noise, y=y)

    alpha_bar = diffusion.schedule.alpha_bar[t].float()[:, None, None]
    x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    torch.testing.assert_close(seen[0][0], x_t)
    torch.testing.assert_close(seen[0][1], t.float() * 10)
    p = torch.softmax(network(x_t, t.float() * 10), dim=1)
    torch.testing.assert_close(terms.loss, -p[torch.arange(4), y].log())


def test_a_share_of_the_items_is_clean_and_the_rest_uniform():
    sampler = CleanAndNoisyTimesteps(10, clean_share=0.25)
    uniform = (np.arange(4000) + 0.5) / 4000
    t, weights = sampler.sample(uniform)
    counts = torch.bincount(t, minlength=10)
    assert counts.tolist() == [1300, *[300] * 9]
    assert (weights == 1).all()
    plain, _ = CleanAndNoisyTimesteps(10, clean_share=0.0).sample(uniform)
    assert torch.bincount(plain).tolist() == [400] * 10

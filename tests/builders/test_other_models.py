"""Other models join at the noise levels of the one they guide."""

import pytest
import torch

from iddpm.builders import build_gradient, build_weaker, resolve
from iddpm.config import validate
from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear
from iddpm.sampling import shown_by

CONFIG = resolve(validate({"model": {"channels": 1, "size": [4]}}))
X = torch.linspace(-1, 1, 8).reshape(2, 1, 4)


def denoiser(schedule, seen=None):
    def network(x, shown):
        if seen is not None:
            seen.append(shown)
        return 0.1 * x

    return Denoiser(network, GaussianDiffusion(schedule, "fixed_small"))


@pytest.mark.parametrize("theirs", [cosine(1000), cosine(500), linear(1000)], ids=len)
def test_another_schedule_is_shown_its_own_time(theirs):
    mine, seen = cosine(1000), []
    level = mine.respace([100.5, 700]).at(torch.tensor([0, 1]))

    def classifier(x, shown):
        seen.append(shown)
        return x.flatten(1)

    gradient = build_gradient(CONFIG, denoiser(mine), classifier, CONFIG, theirs)
    gradient(X, level, torch.tensor([0, 1]))
    weaker = denoiser(theirs, seen)
    prediction = build_weaker(CONFIG, denoiser(mine), CONFIG, weaker)(X, level)
    wanted = shown_by(theirs, level).shown.float()
    assert all(torch.allclose(shown, wanted) for shown in seen)
    same = torch.equal(theirs.alpha_bar, mine.alpha_bar)
    assert torch.allclose(wanted, level.shown.float()) == same
    torch.testing.assert_close(prediction.eps, 0.1 * X)  # read at the level of the state


def test_without_a_difference_the_model_itself_is_used():
    weaker = denoiser(cosine(50))
    assert build_weaker(CONFIG, denoiser(cosine(50)), CONFIG, weaker) is weaker

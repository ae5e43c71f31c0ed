import sys
from itertools import permutations

import pytest
import torch

from iddpm.diffusion import losses
from iddpm.runtime.processes import ALONE
from iddpm.runtime.seeds import normal
from iddpm.training.noise_assignment import NearestNoise, check_solver
from iddpm.training.timesteps import UniformTimesteps
from tests.training.test_step import data, gradients, make


def batch(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(count, 1, 2, 3, generator=generator) * 2 - 1
    return x0, torch.randn(count, 1, 2, 3, generator=generator)


def cost(x0, noise):
    return float(((x0 - noise) ** 2).sum())


def test_no_permutation_has_a_lower_cost():
    x0, noise = batch(6)
    ours = NearestNoise().assigned(x0, noise, torch.zeros(6, dtype=torch.bool))
    best = min(cost(x0, noise[list(order)]) for order in permutations(range(6)))
    assert cost(x0, ours) == pytest.approx(best, rel=1e-6)
    assert best < 0.9 * cost(x0, noise)


def rows_of(value):
    return sorted(value.flatten(1).tolist())


def test_it_is_a_permutation_and_independent_items_keep_their_noise():
    """So every item of the batch has one standard normal draw, and the noise its distribution."""
    x0, noise = batch(40)
    independent = torch.arange(40) % 5 == 0
    ours = NearestNoise(0.2).assigned(x0, noise, independent)
    assert rows_of(ours) == rows_of(noise)
    assert torch.equal(ours[independent], noise[independent])
    assert not torch.equal(ours, noise)


def test_items_keep_their_noise_as_a_function_of_the_step_and_their_number():
    nearest = NearestNoise(0.25)
    first = nearest.independent(0, 3, 4000)
    assert torch.equal(first, nearest.independent(0, 3, 4000))
    assert not torch.equal(first, nearest.independent(0, 4, 4000))
    assert torch.equal(first[:10], nearest.independent(0, 3, 10))
    # Within 5 standard errors.
    assert float(first.float().mean()) == pytest.approx(0.25, abs=5 * (0.1875 / 4000) ** 0.5)
    assert not NearestNoise().independent(0, 3, 4000).any()


def noise_of(microbatch=None, **options):
    """What the loss is given in a step, and the step's result."""
    seen = []

    def loss(denoiser, x0, t, noise):
        seen.append(noise)
        return losses.hybrid(denoiser, x0, t, noise)

    step = make(loss=loss, gradient_clip=None, microbatch=microbatch, **options)
    result = step(data(), 5)
    return torch.cat(seen), result, gradients(step)


def test_microbatches_share_the_noise_of_the_whole_batch():
    whole, *_ = noise_of(assignment=NearestNoise(0.5))
    parts, *_ = noise_of(assignment=NearestNoise(0.5), microbatch=2)
    assert torch.equal(whole, parts)
    drawn = torch.from_numpy(normal(0, "noise", (7, 1, 8, 8), step=5))
    independent = NearestNoise(0.5).independent(0, 5, 7)
    assert 0 < int(independent.sum()) < 7
    assert torch.equal(whole[independent], drawn[independent])
    assert rows_of(whole) == rows_of(drawn)


def test_the_bound_counts_where_the_noise_is_independent():
    share = 0.5
    independent = NearestNoise(share).independent(0, 5, 7)
    _, plain, _ = noise_of()
    _, ours, found = noise_of(assignment=NearestNoise(share))
    assert torch.equal(ours.vb[independent], plain.vb[independent] / share)
    assert not ours.vb[~independent].any()
    torch.testing.assert_close(ours.loss, ours.mse + ours.vb)

    def by_hand(denoiser, x0, t, noise):
        """The squared error of all, and the bound of some, one term after the other."""
        whole = losses.hybrid(denoiser, x0, t, noise, vb_weight=1e-3)
        simple = losses.simple(denoiser, x0, t, noise)
        bound = torch.where(independent, whole.vb / share, 0)
        return losses.LossTerms(simple.loss + bound, simple.mse, bound)

    step = make(loss=by_hand, gradient_clip=None, assignment=NearestNoise())
    step.assignment = Fixed(share)
    step(data(), 5)
    for ours_, expected in zip(found, gradients(step), strict=True):
        torch.testing.assert_close(ours_, expected, rtol=1e-4, atol=1e-6)


class Fixed(NearestNoise):
    """The same assignment, without the rule for the bound."""

    def counted(self, terms, independent):
        return terms


def test_a_loss_without_the_bound_takes_all_items():
    terms = losses.LossTerms(torch.ones(8), torch.ones(8), None)
    none = torch.zeros(8, dtype=torch.bool)
    assert NearestNoise().counted(terms, none) is terms


def test_ranks_assign_within_their_rows():
    """Two ranks draw the noise of one, and exchange it among their own items."""

    class Second(type(ALONE)):
        """The second of two, which talks to nobody."""

        def joined(self, value):
            return torch.cat([value, value])

    seen = []

    def loss(denoiser, x0, t, noise):
        seen.append(noise)
        return losses.simple(denoiser, x0, t, noise)

    x0 = data(6)
    step = make(loss=loss, assignment=NearestNoise(), ranks=Second(1, 2))
    step(x0[3:], 2)
    drawn = torch.from_numpy(normal(0, "noise", (6, 1, 8, 8), step=2))
    assert rows_of(seen[0]) == rows_of(drawn[3:])


def test_an_item_that_is_not_finite_is_skipped_as_before():
    step = make(assignment=NearestNoise(0.5), timesteps=UniformTimesteps(20))
    x0 = data()
    x0[2] = float("nan")
    assert step(x0, 0).bad


def test_one_item_keeps_its_noise():
    x0, noise = batch(1)
    assert torch.equal(NearestNoise().assigned(x0, noise, torch.tensor([False])), noise)
    assert torch.equal(NearestNoise(1.0).assigned(x0, noise, torch.tensor([True])), noise)


def test_a_missing_scipy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ValueError, match="needs scipy: pip install scipy"):
        check_solver()

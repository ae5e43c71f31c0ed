"""Tiles: a Gaussian's exact denoiser, so that what a seam holds is computed and not drawn."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, Prediction, cosine, linear
from iddpm.sampling import (
    DDIM,
    DDPM,
    Heun,
    UniPC,
    classifier_free,
    clip_x0,
    even_timesteps,
    sample,
    tiled,
)
from iddpm.sampling.tiles import tile_starts, tile_weights

STEPS = linear(1000).respace(even_timesteps(1000, 20))


def roots(level, x):
    shape = (-1, *[1] * (x.dim() - 1))
    alpha_bar = level.alpha_bar.reshape(shape)
    return alpha_bar.sqrt().to(x), (1 - alpha_bar).sqrt().to(x)


def local(x_t, level, /, y=None, low_res=None):
    """A denoiser that looks at one position alone; tiles can change nothing."""
    signal, noise = roots(level, x_t)
    x0 = 0.4 * x_t.tanh() * signal
    if low_res is not None:
        for axis in range(2, x_t.dim()):
            low_res = low_res.repeat_interleave(2, axis)
        x0 = x0 + 0.3 * low_res
    if y is not None:
        x0 = x0 + 0.1 * y.to(x_t).reshape(-1, *[1] * (x_t.dim() - 1))
    variance = (3 * x_t).sin()
    return Prediction(
        x0, (x_t - signal * x0) / noise, variance, x0 + x_t, "learned_range", variance - x0
    )


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("big", [(37,), (20, 13), (9, 6, 14)])
def test_what_looks_at_one_position_is_the_same_in_tiles(big):
    """Every member of the prediction, for any size, in 1, 2 and 3 dimensions, of several rows."""
    x_t, low_res = normal(3, 2, *(2 * n for n in big)), normal(3, 2, *big)
    y, t = torch.tensor([4, 0, 2]), torch.tensor([3, 9, 19])
    level = STEPS.at(t)
    size, seen = (12, 8, 10)[: len(big)], []

    def counted(x, level, /, **conditioning):
        seen.append((len(x), tuple(x.shape[2:])))
        return local(x, level, **conditioning)

    whole = local(x_t, level, y=y, low_res=low_res)
    joined = tiled(counted, size, at_once=5)(x_t, level, y=y, low_res=low_res)
    for name in ("x0", "eps", "variance", "mean", "slope"):
        assert torch.allclose(getattr(joined, name), getattr(whole, name), atol=1e-12), name
    assert joined.variance_kind == "learned_range"
    assert {shape for _, shape in seen} == {size}
    assert max(count for count, _ in seen) == 5
    # eps is the one that goes with x0 and x_t
    signal, noise = roots(level, x_t)
    assert torch.allclose(signal * joined.x0 + noise * joined.eps, x_t)


def test_the_variance_of_a_whole_batch_and_no_variance():
    def broadcast(x_t, level, /):
        return Prediction(x_t, x_t, torch.full((len(x_t), 1, 1), 0.5), variance_kind="analytic")

    joined = tiled(broadcast, (8,))(normal(2, 3, 30), STEPS.at(torch.tensor([1, 2])))
    assert torch.allclose(joined.variance, torch.full((2, 3, 30), 0.5).double())
    assert joined.mean is None
    assert joined.slope is None


@pytest.mark.parametrize("whole", [64, 65, 97, 128, 500])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("unit", [1, 4])
def test_tiles_cover_an_axis_evenly_and_their_weights_are_a_whole(whole, overlap, unit):
    tile, whole = 64, whole * unit
    starts = tile_starts(whole, tile, overlap, unit)
    moves = [b - a for a, b in pairwise(starts)]
    assert starts[0] == 0
    assert starts[-1] == whole - tile
    assert all(start % unit == 0 for start in starts)
    assert all(0 < move <= max(unit, (1 - overlap) * tile) for move in moves)
    assert not moves or max(moves) - min(moves) <= unit
    weights, total = tile_weights(whole, tile, starts), torch.zeros(whole, dtype=torch.float64)
    for start, values in zip(starts, weights, strict=True):
        total[start : start + tile] += values
    assert float(weights.min()) > 0
    assert torch.allclose(total, torch.ones_like(total), atol=1e-14)


def test_one_tile_is_the_model_itself_bit_for_bit():
    network = torch.nn.Conv2d(2, 2, 3, padding=1)
    denoiser = Denoiser(lambda x, shown: network(x), GaussianDiffusion(STEPS, "fixed_small"), "v")
    x_T = normal(2, 2, 8, 8).float()
    with torch.no_grad():
        alone = sample(DDIM(), clip_x0(denoiser), STEPS, x_T)
        assert torch.equal(sample(DDIM(), tiled(clip_x0(denoiser), (8, 8)), STEPS, x_T), alone)
        assert torch.equal(sample(DDIM(), tiled(clip_x0(denoiser), (9, 20)), STEPS, x_T), alone)


def test_guidance_and_every_kind_of_sampler_go_over_tiles():
    def without_slope(x_t, level, /, **conditioning):
        return replace(local(x_t, level, **conditioning), slope=None)

    guided = clip_x0(classifier_free(without_slope, 2.0))
    x_T, low_res, y = normal(2, 1, 24, 20), normal(2, 1, 12, 10), torch.tensor([1, 3])
    noise = [normal(2, 1, 24, 20) for _ in range(len(STEPS))]
    for sampler in (DDIM(0.5), DDPM(), UniPC(2), Heun()):
        whole, parts = (
            sample(sampler, denoise, STEPS, x_T, noise=noise.__getitem__, y=y, low_res=low_res)
            for denoise in (guided, tiled(guided, (8, 8), at_once=3))
        )
        assert torch.allclose(whole, parts, atol=1e-9)


def test_an_estimate_of_the_whole_is_cut_too():
    def conditioned(x_t, level, /, estimate):
        assert estimate.shape == x_t.shape
        return Prediction(estimate, x_t)

    x_t, estimate = normal(1, 1, 30), normal(1, 1, 30).flip(2)
    joined = tiled(conditioned, (8,))(x_t, STEPS.at(torch.tensor([5])), estimate=estimate)
    assert torch.allclose(joined.x0, estimate)


class Field:
    """A smooth stationary Gaussian signal, seen by tiles that know nothing beyond their ends.

    Given the means of every ``scale`` values (``low_res``) it is a Gaussian again: of a tile the
    exact denoiser is known, and a trajectory over tiles is linear in the noise that it starts from.
    """

    scale, tile = 4, 32

    def __init__(self, length):
        place = torch.arange(length, dtype=torch.float64)
        square = (place[:, None] - place).square()
        self.K = torch.exp(-square / (2 * 5.0**2)) + 1e-5 * torch.eye(length, dtype=torch.float64)
        self.length = length

    def given_low_res(self, length):
        """Return what multiplies low_res in the mean, and the covariance that is left."""
        K = self.K[:length, :length]
        pool = torch.eye(length // self.scale, dtype=torch.float64)
        pool = pool.repeat_interleave(self.scale, 1) / self.scale
        gain = torch.linalg.solve(pool @ K @ pool.T + 1e-4 * torch.eye(len(pool)), pool @ K).T
        return gain, K - gain @ pool @ K

    def denoise(self, x_t, level, /, low_res=None):
        signal, noise = (float(r.flatten()[0]) for r in roots(level, x_t))
        gain, K = self.given_low_res(x_t.shape[2])
        mean = torch.zeros_like(x_t)
        if low_res is None:
            K = self.K[: x_t.shape[2], : x_t.shape[2]]
        else:
            mean = low_res @ gain.T
        seen = signal**2 * K + noise**2 * torch.eye(len(K))
        x0 = mean + signal * (x_t - signal * mean) @ torch.linalg.solve(seen, K)
        return Prediction(x0, (x_t - signal * x0) / noise)

    def seams(self, overlap, *, given):
        """Return the mean square of second differences: across borders of tiles, elsewhere, true.

        The covariance of what is drawn follows from pushing unit noises and unit low_res through
        the trajectory; low_res is the means of the same field.
        """
        n = self.length
        denoise = tiled(self.denoise, (self.tile,), overlap=overlap, at_once=64)
        unit, none = torch.eye(n, dtype=torch.float64)[:, None], {}
        if given:
            none = {"low_res": torch.zeros(n, 1, n // self.scale, dtype=torch.float64)}
        A = sample(DDIM(), denoise, STEPS, unit, **none)[:, 0].T
        covariance = A @ A.T
        if given:
            each = torch.eye(n // self.scale, dtype=torch.float64)[:, None]
            zero = torch.zeros(len(each), 1, n, dtype=torch.float64)
            B = sample(DDIM(), denoise, STEPS, zero, low_res=each)[:, 0].T
            pool = each[:, 0].repeat_interleave(self.scale, 1) / self.scale
            covariance = covariance + B @ pool @ self.K @ pool.T @ B.T
        D = torch.eye(n, dtype=torch.float64)
        D = D[:-2] - 2 * D[1:-1] + D[2:]
        energy, true = ((D @ of @ D.T).diagonal() for of in (covariance, self.K))
        at = torch.zeros(n - 2, dtype=torch.bool)
        for start in tile_starts(n, self.tile, overlap, self.scale if given else 1):
            for border in (start, start + self.tile):
                if 0 < border < n:  # the second differences that look across it
                    at[border - 2 : border] = True
        return float(energy[at].mean()), float(energy[~at].mean()), float(true.mean())


@pytest.mark.parametrize("given", [False, True])
def test_overlapping_tiles_of_a_gaussian_leave_no_seam(given):
    """Each tile's denoiser is exact and ignorant of the others; the trajectory joins them."""
    field = Field(128)
    for overlap in (0.25, 0.5):
        across, inside, true = field.seams(overlap, given=given)
        assert across < 1.05 * inside
        assert 0.75 * true < across < true
    across, inside, true = field.seams(0.0, given=given)
    assert across > 15 * true  # the measure sees seams where there are some


def test_what_cannot_be_cut_is_named():
    denoise, level = tiled(local, (8, 8)), STEPS.at(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"low_res of size \(5, 9\) cannot be cut.*\(20, 20\)"):
        denoise(normal(1, 1, 20, 20), level, low_res=normal(1, 1, 5, 10)[..., :9])
    with pytest.raises(ValueError, match=r"low_res of size \(2, 2\).*tiles of \(8, 8\)"):
        denoise(normal(1, 1, 20, 20), level, low_res=normal(1, 1, 2, 2))
    with pytest.raises(ValueError, match="overlap=1 is a share of a tile"):
        tiled(local, (8,), overlap=1)
    with pytest.raises(ValueError, match="0 tiles per batch"):
        tiled(local, (8,), at_once=0)


def test_a_step_of_pure_noise_stays_finite():
    from iddpm.diffusion import zero_terminal_snr

    schedule = zero_terminal_snr(cosine(10))
    joined = tiled(local, (8,))(normal(1, 1, 20).float(), schedule.at(torch.tensor([9])))
    assert joined.x0.isfinite().all()
    assert joined.eps.isfinite().all()

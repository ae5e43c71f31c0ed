import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from iddpm.data.conditioned_augmentation import (
    augmented,
    count_parameters,
    draw,
    parameters,
)
from iddpm.runtime.seeds import stream

SIZES = [(9,), (8, 8), (7, 10), (4, 6, 6)]


def items(size, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, *size, generator=generator) * 2 - 1


def changed(x, **values):
    """An item changed by some parameters alone."""
    dims = x.dim() - 2
    vector = torch.zeros(1, count_parameters(dims))
    for name, value in values.items():
        vector[0, getattr(parameters(dims), name)] = torch.as_tensor(value, dtype=torch.float32)
    return augmented(x, vector)


def test_the_vectors_have_the_stated_lengths():
    assert [count_parameters(dims) for dims in (1, 2, 3)] == [4, 13, 17]


@pytest.mark.parametrize("size", SIZES)
def test_flips_turns_and_shifts_are_exact(size):
    x = items(size)
    for axis in range(len(size)):
        flips = [0.0] * len(size)
        flips[axis] = 1.0
        assert torch.equal(changed(x, flip=flips), x.flip(axis + 2))
        for whole in (1, -2):
            shift = [0.0] * len(size)
            shift[axis] = whole / size[axis] / 0.125
            padding = [(0, 0)] * x.dim()
            padding[axis + 2] = (max(whole, 0), max(-whole, 0))
            wanted = np.pad(x.numpy(), padding, mode="reflect")
            kept = [slice(None)] * x.dim()
            kept[axis + 2] = slice(0, size[axis]) if whole > 0 else slice(-size[axis], None)
            assert np.array_equal(changed(x, shift=shift).numpy(), wanted[tuple(kept)])
    if len(size) > 1 and size[-1] == size[-2]:
        for quarters, turn in {1: (-1, 1), 2: (-2, 0), 3: (-1, -1)}.items():
            wanted = np.rot90(x.numpy(), quarters, axes=(-2, -1))
            assert np.array_equal(changed(x, turn=turn).numpy(), wanted)


def test_changes_are_made_in_the_stated_order():
    x = items((8, 8))
    ours = changed(x, flip=[0, 1], turn=[-1, 1], shift=[1 / 8 / 0.125, 0])
    turned = np.rot90(np.flip(x.numpy(), -1), 1, axes=(-2, -1))
    wanted = np.pad(turned, [(0, 0), (0, 0), (1, 0), (0, 0)], mode="reflect")[:, :, :8]
    assert np.array_equal(ours.numpy(), wanted)


def test_periodic_axes_continue_at_the_other_end():
    x = items((6, 8))
    vector = torch.zeros(1, 13)
    vector[0, parameters(2).shift] = torch.tensor([0.0, 3 / 8 / 0.125])
    assert torch.equal(augmented(x, vector, (False, True)), x.roll(3, dims=-1))


def matrix_of(vector, size):
    """The map from an item to the output, composed forward: p -> M p + t, by the definitions."""
    at, dims = parameters(len(size)), len(size)
    plane = np.eye(dims)

    def rotated(cos, sin):
        found = plane.copy()
        if dims > 1:
            found[-2:, -2:] = [[cos, -sin], [sin, cos]]
        return found

    v, n, center = vector.astype(float), np.array(size), (np.array(size) - 1) / 2
    of_plane = [(v[s][0] + 1, v[s][1]) if dims > 1 else (1, 0) for s in (at.turn, at.rotation)]
    scale = np.full(dims, 2 ** (0.2 * v[at.scale][0]))
    if dims > 1:
        scale = scale * 2 ** (0.2 * v[at.stretch])
    first = rotated(*of_plane[0]) @ np.diag(1 - 2 * v[at.flip])
    second = rotated(*of_plane[1]) @ np.diag(scale)
    shift, move = np.round(v[at.shift] * 0.125 * n), v[at.move] * 0.125 * n
    return second @ first, center + move + second @ shift - second @ first @ center


def test_volumes_are_what_scipy_interpolates():
    """The inverse of the composed map, linear interpolation, the same edges."""
    size = (5, 7, 7)
    x = items(size, 4)
    drawn = [draw(stream(0, "t", index=k), 0.7, size) for k in range(4)]
    ours = augmented(x, torch.from_numpy(np.stack(drawn)))
    for item, vector, found in zip(x.numpy(), drawn, ours.numpy(), strict=True):
        assert vector.any()
        matrix, offset = matrix_of(vector, size)
        inverse = np.linalg.inv(matrix)
        for channel, result in zip(item, found, strict=True):
            wanted = ndimage.affine_transform(
                channel, inverse, -inverse @ offset, order=1, mode="mirror"
            )
            np.testing.assert_allclose(result, wanted, atol=2e-5)


@pytest.mark.parametrize("size", [(40,), (24, 30)])
def test_signals_and_pictures_are_interpolated_exactly_for_parabolas(size):
    """Wherever all neighbors lie inside: cubic convolution has the third order (Keys 1981)."""
    dims = len(size)
    grid = np.stack(np.meshgrid(*[np.arange(n) / 40 for n in size], indexing="ij"))

    def parabola(places):
        return 0.3 * (places**2).sum(0) - 0.4 * places.sum(0) + 0.2 * places[0] * places[-1]

    x = torch.from_numpy(parabola(grid))[None, None].float()
    for k in range(6):
        vector = draw(stream(1, "t", index=k), 0.8, size)
        matrix, offset = matrix_of(vector, size)
        inverse = np.linalg.inv(matrix)
        outputs = grid.reshape(dims, -1) * 40
        sources = (inverse @ (outputs - offset[:, None])).reshape(dims, *size)
        limits = np.array(size).reshape(dims, *[1] * dims)
        inside = ((sources >= 1) & (sources <= limits - 3)).all(0)
        ours = augmented(x, torch.from_numpy(vector)[None])[0, 0].numpy()
        assert inside.any()
        np.testing.assert_allclose(ours[inside], parabola(sources / 40)[inside], atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_each_change_has_its_probability(size):
    at, count = parameters(len(size)), 2000
    drawn = np.stack([draw(stream(0, "t", index=k), 0.25, size) for k in range(count)])
    spread = math.sqrt(0.25 * 0.75 / count)
    continuous = {"scale": at.scale, "move": at.move}
    if len(size) > 1:
        continuous |= {"stretch": at.stretch, "rotation": at.rotation}
    for name, place in continuous.items():
        share = (drawn[:, place] != 0).any(axis=1).mean()
        assert share == pytest.approx(0.25, abs=5 * spread), name
    # A drawn flip of one axis mirrors it half of the time.
    assert (drawn[:, at.flip] != 0).mean() == pytest.approx(0.125, abs=5 * spread)
    assert np.abs(drawn[:, at.shift]).max() <= 1.5
    if len(size) > 1:
        turns = {(float(a), float(b)) for a, b in drawn[:, at.turn]}
        square = {(0.0, 0.0), (-1.0, 1.0), (-2.0, 0.0), (-1.0, -1.0)}
        assert turns == (square if size[-1] == size[-2] else {(0.0, 0.0), (-2.0, 0.0)})
    assert not draw(stream(0, "t"), 0.0, size).any()


def test_items_without_a_change_stay_as_they_are():
    x = items((6, 6), 3)
    vectors = torch.zeros(3, 13)
    vectors[1, parameters(2).move] = 0.3
    ours = augmented(x, vectors)
    assert torch.equal(ours[[0, 2]], x[[0, 2]])
    assert not torch.equal(ours[1], x[1])
    assert float(ours.abs().max()) <= 1
    assert augmented(x, torch.zeros(3, 13)) is x

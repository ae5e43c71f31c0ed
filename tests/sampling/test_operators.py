"""Linear operators: adjoint, pseudo-inverse and regularized inverse against dense matrices."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from iddpm.sampling.conjugate_gradients import conjugate_gradients
from iddpm.sampling.operators import CUTOFF, Cropped, Downscale, Mask, Subsample
from iddpm.sampling.spectral_operators import Convolution, Matrix, gaussian_kernel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


SHAPES = [(2, 12), (2, 4, 6), (1, 2, 4, 4)]


def kernel(shape, even):
    """A kernel whose response has no zeros."""
    dims = len(shape) - 1
    weights = 0.1 * torch.rand((3,) * dims, generator=generator(), dtype=torch.float64)
    if even:
        for axis in range(dims):
            weights = weights + weights.flip(axis)
        weights = weights / weights.sum() * 0.5
    weights[(1,) * dims] += 1
    return weights


def operators(shape):
    dims, values = len(shape) - 1, math.prod(shape)
    factors = (2, *(1,) * (dims - 2), 2)[:dims] if dims > 1 else (3,)
    rings = (True, *(False,) * (dims - 1))
    inner = (shape[0], *(n - 1 for n in shape[1:]))
    return {
        "mask": Mask(shape, torch.rand(shape[1:], generator=generator())[None] < 0.5),
        "mask of channels": Mask(shape, torch.rand(shape, generator=generator(1)) < 0.5),
        "subsample": Subsample(shape, factors),
        "subsample unevenly": Subsample(shape, (3,) * dims),
        "downscale": Downscale(shape, factors),
        "blur": Convolution(shape, gaussian_kernel(0.6, dims)),
        "blur on a ring": Convolution(shape, gaussian_kernel(0.6, dims), rings),
        "even kernel": Convolution(shape, kernel(shape, True)),
        "any kernel": Convolution(shape, kernel(shape, False)),
        "any kernel on rings": Convolution(shape, kernel(shape, False), (True,) * dims),
        "wide matrix": Matrix(shape, normal(5, values)),
        "tall matrix of low rank": Matrix(shape, normal(values + 3, 4) @ normal(4, values)),
        "part": Cropped(Mask(inner, torch.rand(inner, generator=generator(2)) < 0.5),
                        shape[1:], (1,) * dims),
    }  # fmt: skip


CASES = [(shape, name) for shape in SHAPES for name in operators(shape)]
EACH = pytest.mark.parametrize(
    ("shape", "name"), CASES, ids=[f"{n}, {len(s) - 1}-D" for s, n in CASES]
)


def dense(apply, shape):
    """The matrix of a linear map of batches of this shape."""
    values = math.prod(shape)
    basis = torch.eye(values, dtype=torch.float64).reshape(values, *shape)
    return apply(basis).flatten(1).T.numpy()


def adjoint_error(operator):
    """The relative difference of <A x, y> and <x, A^T y>."""
    x, y = normal(3, *operator.shape), normal(3, *operator.measured_shape, seed=1)
    ax, aty = operator.forward(x), operator.adjoint(y)
    assert ax.shape == y.shape
    assert aty.shape == x.shape
    left, right = (ax * y).flatten(1).sum(1), (x * aty).flatten(1).sum(1)
    return float((left - right).abs().max() / left.abs().max())


def penrose_errors(operator):
    """How far the inverse is from each of the four conditions of Moore and Penrose."""
    a, p = dense(operator.forward, operator.shape), dense(operator.inverse, operator.measured_shape)
    pairs = [(a @ p @ a, a), (p @ a @ p, p), ((a @ p).T, a @ p), ((p @ a).T, p @ a)]
    return [float(np.abs(x - y).max()) for x, y in pairs]


@EACH
def test_adjoint_inverse_and_norm(shape, name):
    operator = operators(shape)[name]
    a = dense(operator.forward, shape)
    iterative = name == "any kernel"
    assert adjoint_error(operator) < 1e-12
    assert np.allclose(dense(operator.adjoint, operator.measured_shape), a.T, atol=1e-12)
    assert max(penrose_errors(operator)) < (1e-4 if iterative else 1e-9)
    largest = np.linalg.svd(a, compute_uv=False).max()
    assert operator.norm == pytest.approx(largest, rel=0.02 if "kernel" in name else 1e-9)
    ratio = torch.tensor([0.3, 0.0, 2.0], dtype=torch.float64)  # one for each row
    y = operator.forward(normal(3, *shape))
    found = operator.inverse(y, ratio).flatten(1).numpy()
    for row, lam in enumerate([0.3, 1e-12, 2.0]):
        wanted = np.linalg.lstsq(
            a.T @ a + lam * np.eye(a.shape[1]), a.T @ y[row].flatten().numpy(), rcond=1e-9
        )[0]
        assert np.allclose(found[row], wanted, atol=1e-4), (row, lam)
    x = normal(3, *shape, seed=5)
    placed = operator.place(x, y)
    assert torch.allclose(operator.forward(placed), y, atol=1e-4 if iterative else 1e-9)
    lost = (placed - x).flatten(1) @ torch.from_numpy(np.eye(a.shape[1]) - np.linalg.pinv(a) @ a)
    assert float(lost.abs().max()) < 1e-3  # nothing moves that is not measured
    assert str(operator)


@pytest.mark.parametrize("name", ["mask", "subsample", "part"])
def test_measured_values_are_placed_bit_for_bit(name):
    operator = operators((2, 4, 6))[name]
    x, y = normal(2, 2, 4, 6).float(), operator.forward(normal(2, 2, 4, 6, seed=1).float())
    assert torch.equal(operator.forward(operator.place(x, y)), y)


@EACH
def test_planted_mistakes_are_caught(shape, name):
    """The two checks above fail where an adjoint or an inverse is a little wrong."""
    operator = operators(shape)[name]

    class Wrong(type(operator)):
        def adjoint(self, y):
            return 1.01 * super().adjoint(y)

        def inverse(self, y, ratio=0.0):
            x = operator.inverse(y, ratio)
            return x + 0.01 * x.roll(1, -1)

    fields = {f: getattr(operator, f) for f in operator.__dataclass_fields__}
    wrong = Wrong(**fields)
    assert adjoint_error(wrong) > 1e-3
    assert max(penrose_errors(wrong)) > 1e-3


@pytest.mark.parametrize("shape", [(1, 9), (2, 5, 7), (1, 3, 4, 5)])
@pytest.mark.parametrize("ring", [False, True])
def test_convolutions_are_those_of_scipy(shape, ring):
    dims = len(shape) - 1
    x, weights = normal(1, *shape), normal(*(3, 4, 2)[:dims], seed=3)
    ours = Convolution(shape, weights, (ring,) * dims).forward(x)[0].numpy()
    blurred = Convolution(shape, gaussian_kernel(1.3, dims), (ring,) * dims).forward(x)[0].numpy()
    mode = "wrap" if ring else "reflect"
    for channel in range(shape[0]):
        theirs = scipy.ndimage.convolve(x[0, channel].numpy(), weights.numpy(), mode=mode)
        assert np.allclose(ours[channel], theirs, atol=1e-12)
        theirs = scipy.ndimage.gaussian_filter(x[0, channel].numpy(), 1.3, mode=mode, truncate=4)
        assert np.allclose(blurred[channel], theirs, atol=1e-12)


@pytest.mark.parametrize("name", operators((2, 4, 6)))
def test_the_precision_of_the_network_is_not_that_of_the_operator(name):
    operator, x = operators((2, 4, 6))[name], normal(2, 2, 4, 6).float()
    y = operator.forward(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = operator.forward(x), operator.adjoint(y), operator.inverse(y)
    for a, b in zip(half, (y, operator.adjoint(y), operator.inverse(y)), strict=True):
        assert torch.equal(a, b)


def test_what_a_blur_has_lost_is_not_inverted():
    """Below the cutoff nothing is magnified, in float32 either, and the rest is exact."""
    blur = Convolution((1, 64), gaussian_kernel(3.0, 1))
    x = normal(1, 1, 64).float()
    y = blur.forward(x)
    back = blur.inverse(y)
    assert float(back.abs().max()) < 2 * float(x.abs().max())
    assert float((blur.forward(back) - y).abs().max()) < CUTOFF * float(x.norm())
    a = dense(blur.forward, blur.shape)
    wanted = np.linalg.pinv(a, rcond=CUTOFF) @ y.flatten().double().numpy()
    assert np.allclose(back.flatten().numpy(), wanted, atol=1e-3)
    with pytest.raises(ValueError, match="a blur of width 0 is none"):
        gaussian_kernel(0.0, 2)


def test_wrong_shapes_are_said():
    with pytest.raises(ValueError, match=r"need a matrix of 8 columns"):
        Matrix((2, 4), normal(3, 7))
    with pytest.raises(ValueError, match=r"size \(5, 4\) cannot be parted into blocks of \(2, 2\)"):
        Downscale((1, 5, 4), (2, 2))
    with pytest.raises(ValueError, match=r"measurements of shape \(1, 4, 4\) were given"):
        Subsample((1, 4, 4), (2, 2)).check(normal(1, 1, 4, 4))


def test_conjugate_gradients_solve_each_row_by_itself():
    roots = normal(4, 6, 6)
    matrices = roots @ roots.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    b = normal(4, 6, seed=1)
    b[2] = 0

    def apply(z):
        return torch.einsum("nij,nj->ni", matrices[: len(z)], z)

    found = conjugate_gradients(apply, b, steps=50, tolerance=1e-10)
    assert torch.allclose(found, torch.linalg.solve(matrices, b), atol=1e-6)
    alone = conjugate_gradients(apply, b[:1], steps=50, tolerance=1e-10)
    assert torch.allclose(alone, found[:1], atol=1e-9)
    few = conjugate_gradients(apply, b, steps=2)
    assert float((few - found).abs().max()) > 1e-3
    matrices[1] = -matrices[1]  # not positive: the row stays where it is, the others go on
    found = conjugate_gradients(apply, b, steps=50, tolerance=1e-10)
    assert float(found[1].abs().max()) == 0
    assert torch.allclose(found[3], torch.linalg.solve(matrices[3], b[3]), atol=1e-6)

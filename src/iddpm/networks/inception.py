"""Inception v3 as of December 2015, whose features the Frechet inception distance is defined by.

It differs from the network of that name in libraries of vision: an average over a window leaves
out what lies beyond the border, the last block takes a maximum instead, and there are 1,008
classes. The names of its weights are those of the file ``pt_inception-2015-12-05``.

Source: Szegedy et al. 2016 ("Rethinking the Inception architecture"), figures 5 to 7 and table 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299
"""Height and width of the pictures that it takes."""
FEATURES = 2048
CLASSES = 1008
Kernel = int | tuple[int, int]


class _Layer(NamedTuple):
    """A convolution of a branch."""

    name: str
    channels: int
    kernel: Kernel = 1
    stride: int = 1

    def build(self, in_channels: int) -> "_Convolution":
        sides = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        padding = (sides[0] // 2, sides[1] // 2) if self.stride == 1 else 0
        return _Convolution(in_channels, self.channels, self.kernel, self.stride, padding)


Branch = Sequence[Sequence[_Layer]]
"""Groups of layers, one after the other; the layers of a group share their input."""


class _Convolution(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Kernel,
        stride: int = 1,
        padding: Kernel = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side, joined along the channels; the last is a pool.

    Args:
        in_channels: of the input.
        branches: all but the pool.
        pool: ``"average"`` or ``"maximum"`` of 3 x 3 around every place, or ``"halving"``: the
            maximum at every second place.
        pool_channels: of a convolution after the pool; None for no convolution.
    """

    def __init__(
        self,
        in_channels: int,
        branches: Sequence[Branch],
        pool: str,
        pool_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.names = [[[layer.name for layer in group] for group in each] for each in branches]
        self.channels = pool_channels or in_channels
        for branch in branches:
            width = in_channels
            for group in branch:
                for layer in group:
                    self.add_module(layer.name, layer.build(width))
                width = sum(layer.channels for layer in group)
            self.channels += width
        self.branch_pool = None
        if pool_channels is not None:
            self.branch_pool = _Convolution(in_channels, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.names:
            y = x
            for group in branch:
                y = torch.cat([self.get_submodule(name)(y) for name in group], dim=1)
            outputs.append(y)
        if self.pool == "average":
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        elif self.pool == "maximum":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.max_pool2d(x, 3, 2)
        outputs.append(pooled if self.branch_pool is None else self.branch_pool(pooled))
        return torch.cat(outputs, dim=1)


def _chain(name: str, *layers: tuple[int, Kernel], fork: int | None = None) -> Branch:
    """Return layers of (channels, kernel), then, with ``fork``, a row and a column side by side."""
    groups = [[_Layer(f"{name}_{k}", *layer)] for k, layer in enumerate(layers, 1)]
    if fork is not None:
        last = f"{name}_{len(layers) + 1}"
        groups.append([_Layer(f"{last}a", fork, (1, 3)), _Layer(f"{last}b", fork, (3, 1))])
    return groups


def _one(name: str, channels: int, kernel: Kernel = 1, stride: int = 1) -> Branch:
    return [[_Layer(name, channels, kernel, stride)]]


def _halved(branch: Branch, name: str, channels: int) -> Branch:
    """Return a branch with a layer after it that halves the size."""
    return [*branch, [_Layer(name, channels, 3, 2)]]


def _square(in_channels: int, pool_channels: int) -> _Mixed:
    branches = [
        _one("branch1x1", 64),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
    ]
    return _Mixed(in_channels, branches, "average", pool_channels)


def _first_halving(in_channels: int) -> _Mixed:
    double = _chain("branch3x3dbl", (64, 1), (96, 3))
    branches = [_one("branch3x3", 384, 3, 2), _halved(double, "branch3x3dbl_3", 96)]
    return _Mixed(in_channels, branches, "halving")


def _rows_and_columns(in_channels: int, inner: int) -> _Mixed:
    row, column = (1, 7), (7, 1)
    branches = [
        _one("branch1x1", 192),
        _chain("branch7x7", (inner, 1), (inner, row), (192, column)),
        _chain(
            "branch7x7dbl", (inner, 1), (inner, column), (inner, row), (inner, column), (192, row)
        ),
    ]
    return _Mixed(in_channels, branches, "average", 192)


def _second_halving(in_channels: int) -> _Mixed:
    wide = _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)))
    branches = [
        _halved(_chain("branch3x3", (192, 1)), "branch3x3_2", 320),
        _halved(wide, "branch7x7x3_4", 192),
    ]
    return _Mixed(in_channels, branches, "halving")


def _forked(in_channels: int, pool: str) -> _Mixed:
    branches = [
        _one("branch1x1", 320),
        _chain("branch3x3", (384, 1), fork=384),
        _chain("branch3x3dbl", (448, 1), (384, 3), fork=384),
    ]
    return _Mixed(in_channels, branches, pool, 192)


class InceptionV3(nn.Module):
    """Pictures to features; in evaluation mode.

    Its last layer, ``fc``, belongs to the file of weights and not to the features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _square(192, 32)
        self.Mixed_5c = _square(256, 64)
        self.Mixed_5d = _square(288, 64)
        self.Mixed_6a = _first_halving(288)
        self.Mixed_6b = _rows_and_columns(768, 128)
        self.Mixed_6c = _rows_and_columns(768, 160)
        self.Mixed_6d = _rows_and_columns(768, 160)
        self.Mixed_6e = _rows_and_columns(768, 192)
        self.Mixed_7a = _second_halving(768)
        self.Mixed_7b = _forked(1280, "average")
        self.Mixed_7c = _forked(2048, "maximum")
        self.fc = nn.Linear(FEATURES, CLASSES)
        self.eval()

    def forward(self, levels: Tensor) -> Tensor:
        """Map pictures to features [N, 2048].

        Args:
            levels: [N, 3, H, W], red, green and blue from 0 to 255 as floats, of any size.
        """
        x = (resize_without_shift(levels, SIZE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b):
            x = block(x)
        for block in (self.Mixed_6c, self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b):
            x = block(x)
        features: Tensor = self.Mixed_7c(x).mean(dim=(2, 3))
        return features


def resize_without_shift(x: Tensor, size: int) -> Tensor:
    """Resize pictures [N, C, H, W] to [N, C, size, size] as TensorFlow 1 did.

    Bilinear and without antialiasing, also where it makes smaller; pixel k is read at ``k * H /
    size``, where other programs read at ``(k + 1/2) * H / size - 1/2``. The network's weights and
    every published FID belong to this one.
    """
    for axis in (3, 2):
        count = x.shape[axis]
        place = torch.arange(size, dtype=x.dtype, device=x.device) * (count / size)
        low = place.long()
        high = (low + 1).clamp(max=count - 1)
        first, second = x.index_select(axis, low), x.index_select(axis, high)
        share = (place - low).reshape(-1, *[1] * (3 - axis))
        x = first + (second - first) * share
    return x

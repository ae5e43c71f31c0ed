"""Samples to files: single images, mosaics, animations and arrays."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from iddpm.data.levels import to_stored_range
from iddpm.data.sources.pixel_limit import any_size
from iddpm.data.values import Values, natural_values
from iddpm.runtime.atomic_files import write_atomically

_VISIBLE = 64  # pixels: smaller tiles are enlarged to about this
_FILM = 6  # frames of a clip
_PLOT = (96, 256)  # height and width of the plot of a signal
_PAPER, _GRAY = 255, 128
_INKS = ((31, 78, 160), (200, 60, 40), (40, 130, 70), (130, 70, 160), (190, 130, 20), (90, 90, 90))


def save_images(
    x: torch.Tensor,
    directory: Path | str,
    *,
    bits: int = 8,
    values: Values | None = None,
    start: int = 0,
    suffix: str = ".png",
) -> list[Path]:
    """Write each of ``x`` ``[N, C, H, W]`` in [-1, 1] as ``directory/000000.png`` and following.

    Args:
        x: C is 1 (gray), 3 (RGB) or 4 (RGBA); values outside [-1, 1] are clamped.
        directory: made when it is missing.
        bits: 8, or 16 for one channel.
        values: the numbers of the data instead: uint8, or uint16 for one channel.
        start: number of the first file.
        suffix: any 8-bit format of Pillow; ``.png`` keeps every value.

    Raises:
        ValueError: a shape, depth or value that cannot be written.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     [path.name for path in save_images(torch.zeros(2, 3, 8, 8), directory)]
    ['000000.png', '000001.png']
    """
    _check(x, dims=(2,))
    channels = x.shape[1]
    if channels not in (1, 3, 4):
        raise ValueError(
            f"images of {channels} channels cannot be pictures (1, 3 or 4 can); use save_npz"
        )
    stored = values or natural_values(bits)
    exact = fits_picture(stored, channels) and (stored.dtype == "uint8" or suffix == ".png")
    if not exact or (values is None and bits not in (8, 16)):
        raise ValueError(
            f"{stored.bits or 'floats, not'} bits with {channels} channels as {suffix} cannot be "
            "written; use 8 bits, or 16 bits with one channel as .png"
        )
    pixels = stored.restore(x).transpose(0, 2, 3, 1)
    paths = []
    for number, item in enumerate(pixels, start):
        path = Path(directory) / f"{number:06d}{suffix}"
        paths.append(_save(Image.fromarray(item[..., 0] if channels == 1 else item), path))
    return paths


def fits_picture(values: Values, channels: int) -> bool:
    """Return whether PNG files keep such numbers as they are."""
    return values.dtype == "uint8" or (values.dtype == "uint16" and channels == 1)


def save_grid(
    x: torch.Tensor,
    path: Path | str,
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int | None = None,
    film: bool = False,
    below: Image.Image | None = None,
) -> Path:
    """Write a mosaic of ``x`` ``[N, C, *spatial]`` in [-1, 1] for the eye, in 8 bits.

    Images are shown as they are, RGBA on white, the first channel where C is not 1, 3 or 4; signals
    as lines, one color a channel; volumes by the middle slices across their three axes, clips by
    up to six frames.

    Args:
        x: values outside [-1, 1] are clamped.
        path: the suffix chooses the format.
        columns: tiles in a row; by default about as many as rows, of clips fewer.
        padding: pixels around each tile.
        scale: how many times images and slices are enlarged, by repeating pixels; by default
            to a tile of about 64 pixels.
        film: whether ``x`` of three axes are clips.
        below: a picture to put under the mosaic.

    Returns:
        ``path``.

    Raises:
        ValueError: a shape, number or value that cannot be drawn.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = save_grid(torch.zeros(4, 1, 8, 8), f"{directory}/grid.png", columns=2, scale=1)
    ...     Image.open(path).size
    (22, 22)
    """
    mosaic = _mosaic(x, columns, padding, scale, film)
    if below is not None:
        size = (max(mosaic.width, below.width), mosaic.height + below.height)
        joined = Image.new("RGB", size, (_PAPER,) * 3)
        joined.paste(mosaic, (0, 0))
        joined.paste(below, (0, mosaic.height))
        mosaic = joined
    return _save(mosaic, Path(path))


def grid_picture(x: torch.Tensor, *, film: bool = False) -> Image.Image:
    """Return the picture that :func:`save_grid` writes; arguments and errors as there."""
    return _mosaic(x, None, 2, None, film)


def save_gif(
    frames: Sequence[torch.Tensor],
    path: Path | str,
    *,
    milliseconds: int = 80,
    hold: int = 1500,
    columns: int | None = None,
) -> Path:
    """Write an endless animation whose frames are mosaics of ``[N, C, *spatial]`` in [-1, 1].

    Each frame is shown for ``milliseconds`` and the last for ``hold``.

    Raises:
        ValueError: no frames, or one that `save_grid` would refuse.

    >>> import tempfile, torch
    >>> frames = [torch.full((4, 1, 8, 8), level) for level in (-1.0, 0.0, 1.0)]
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     Image.open(save_gif(frames, f"{directory}/frames.gif")).n_frames
    3
    """
    if not frames:
        raise ValueError("an animation needs at least one frame; 0 were given")
    first, *others = [_mosaic(frame, columns, 2, None) for frame in frames]
    durations = [*[milliseconds] * len(others), hold]

    def write(temporary: Path) -> None:
        with any_size():
            first.save(
                temporary, "GIF", save_all=True, append_images=others, duration=durations, loop=0
            )

    return write_atomically(Path(path), write)


def save_npz(
    x: torch.Tensor,
    path: Path | str,
    *,
    labels: torch.Tensor | None = None,
    bits: int | None = 8,
    values: Values | None = None,
    members: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write ``x`` ``[N, C, *spatial]`` in [-1, 1] as ``arr_0`` and int64 labels as ``arr_1``.

    Channels come last, as in the sample files of improved-diffusion; integers of ``bits`` bits
    (uint8 or uint16, clamped), or float32 as it is with ``bits=None``; or the numbers of
    ``values``. ``members`` are written beside them.

    Raises:
        ValueError: a shape, value or number of labels that does not fit.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     images = np.load(save_npz(torch.zeros(4, 3, 8, 8), f"{directory}/samples.npz"))["arr_0"]
    >>> images.shape, images.dtype
    ((4, 8, 8, 3), dtype('uint8'))
    """
    _check(x, dims=(1, 2, 3))
    stored = (values or natural_values(bits)).restore(x)
    arrays = [np.ascontiguousarray(np.moveaxis(stored, 1, -1))]
    if labels is not None:
        if labels.shape != (len(x),):
            raise ValueError(f"labels have shape {tuple(labels.shape)} for {len(x)} samples")
        arrays.append(labels.detach().cpu().numpy().astype(np.int64))
    named: dict[str, Any] = dict(members or {})
    return write_atomically(Path(path), lambda temporary: np.savez(temporary, *arrays, **named))


def square_columns(tiles: float) -> int:
    """Return how many tiles stand in a row by default: about as many as there are rows."""
    return math.ceil(math.sqrt(tiles))


def _mosaic(
    x: torch.Tensor, columns: int | None, padding: int, scale: int | None, film: bool = False
) -> Image.Image:
    """Return the picture of `save_grid`, of mode L or RGB."""
    _check(x, dims=(1, 2, 3))
    if columns is None:
        columns = square_columns(len(x) / (min(x.shape[2], _FILM) if film else 1))
    if columns < 1 or padding < 0 or (scale is not None and scale < 1):
        raise ValueError(
            f"columns={columns}, padding={padding}, scale={scale}: columns and scale must be "
            "positive, padding not negative"
        )
    columns = min(columns, len(x))
    levels = to_stored_range(x.detach(), 8).cpu().numpy()
    draw = {1: _line_tiles, 2: _image_tiles, 3: _film_tiles if film else _slice_tiles}[x.ndim - 2]
    tiles = draw(levels)
    _, height, width, bands = tiles.shape
    if x.ndim > 3:
        times = scale or max(1, round(_VISIBLE / max(x.shape[3 if film else 2 :])))
        tiles = tiles.repeat(times, axis=1).repeat(times, axis=2)
        height, width = height * times, width * times

    rows = math.ceil(len(tiles) / columns)
    shape = (padding + rows * (height + padding), padding + columns * (width + padding), bands)
    canvas = np.full(shape, _PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = padding + row * (height + padding), padding + column * (width + padding)
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas[..., 0] if bands == 1 else canvas)


def _image_tiles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[N, C, H, W]`` to ``[N, H, W, 1 or 3]``."""
    pixels = levels.transpose(0, 2, 3, 1)
    if pixels.shape[-1] == 4:
        opacity = pixels[..., 3:].astype(np.float32) / 255
        return (pixels[..., :3] * opacity + _PAPER * (1 - opacity)).round().astype(np.uint8)
    return pixels if pixels.shape[-1] == 3 else pixels[..., :1]


def _slice_tiles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[N, C, D, H, W]`` to tiles of the slices (H, W), (D, W) and (D, H), side by side."""
    depth, height, width = (size // 2 for size in levels.shape[2:])
    panels = [
        _image_tiles(levels[:, :, depth]),
        _image_tiles(levels[:, :, :, height]),
        _image_tiles(levels[:, :, :, :, width]),
    ]
    return _side_by_side(panels)


def _film_tiles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[N, C, T, H, W]`` to tiles of some frames, the first and the last among them."""
    count = levels.shape[2]
    shown = np.linspace(0, count - 1, min(count, _FILM)).round().astype(int)
    return _side_by_side([_image_tiles(levels[:, :, frame]) for frame in shown], line=_GRAY)


def _side_by_side(panels: list[NDArray[np.uint8]], line: int = _PAPER) -> NDArray[np.uint8]:
    """Join tiles ``[N, height, width, bands]`` of several heights, with a line between them."""
    count, *_, bands = panels[0].shape
    tallest = max(panel.shape[1] for panel in panels)
    gap = np.full((count, tallest, 1, bands), line, np.uint8)
    joined = []
    for panel in panels:
        below = ((0, 0), (0, tallest - panel.shape[1]), (0, 0), (0, 0))
        joined += [gap, np.pad(panel, below, constant_values=_PAPER)]
    return np.concatenate(joined[1:], axis=2)


def _line_tiles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[N, C, L]`` to tiles ``[N, height, width, 3]`` with 1 at the top and -1 at the bottom."""
    height, width = _PLOT
    across = np.linspace(0, width - 1, levels.shape[2])
    tiles = []
    for item in levels:
        tile = Image.new("RGB", (width, height), (240, 240, 240))
        draw = ImageDraw.Draw(tile)
        for channel, values in enumerate(item):
            down = (255 - values.astype(np.float64)) / 255 * (height - 1)
            points = list(zip(across.tolist(), down.round().tolist(), strict=True))
            # One value has no line to draw.
            draw.line(points if len(points) > 1 else points * 2, _INKS[channel % len(_INKS)])
        tiles.append(np.asarray(tile))
    return np.stack(tiles)


def _check(x: torch.Tensor, *, dims: tuple[int, ...]) -> None:
    if x.ndim - 2 not in dims or 0 in x.shape:
        wanted = " or ".join(("[N, C, L]", "[N, C, H, W]", "[N, C, D, H, W]")[d - 1] for d in dims)
        raise ValueError(f"samples have shape {tuple(x.shape)}; give {wanted}, none of them empty")
    if not x.is_floating_point():
        raise ValueError(f"samples are {x.dtype}; give floats in [-1, 1]")
    if not torch.isfinite(x).all():
        raise ValueError("samples hold NaN or infinity; they cannot be written")


def _save(image: Image.Image, path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix not in Image.registered_extensions():
        raise ValueError(f"{path} has no picture suffix Pillow knows; use .png")

    def write(temporary: Any) -> None:
        image.save(temporary)

    return write_atomically(path, write)

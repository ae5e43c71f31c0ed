"""Clips as files that keep each frame, also one that equals the last: GIF, WebP, TIFF and MP4.

The encoders of Pillow and libwebp join equal frames and leave out what did not change, so that a
clip would come back shorter. Here they code each frame, and the container is written around them.
"""

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from iddpm.data.sources.extras import needed

SUFFIXES = {"GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "MP4": ".mp4"}
"""Of the encodings that have a file for each clip."""

_GRAYS = np.arange(256, dtype=np.uint8).repeat(3).tobytes()
_FOREVER = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
_ANIMATED, _SEE_THROUGH, _AS_IT_IS = 0x02, 0x10, 0x02


def to_images(clip: NDArray[Any]) -> list[Image.Image]:
    """Return the frames of a clip ``[C, T, H, W]`` as Pillow's images."""
    frames = clip[0] if len(clip) == 1 else np.moveaxis(clip, 0, -1)
    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]


def write_clip(path: Path, clip: NDArray[Any], encoding: str, milliseconds: float | None) -> None:
    """Write a clip ``[C, T, H, W]``.

    Args:
        path: the file.
        clip: uint8 of 1 channel for GIF, of 1, 3 or 4 for WebP; for TIFF also one of uint16 or
            float32; for MP4 of 1 or 3.
        encoding: ``GIF``, ``WEBP`` (lossless), ``TIFF`` or ``MP4`` (lossless).
        milliseconds: how long a frame is shown; a GIF keeps multiples of ten.
    """
    images = to_images(clip)
    if encoding == "MP4":
        _write_video(path, images, milliseconds or 40)
    elif encoding == "TIFF":
        images[0].save(path, "TIFF", save_all=True, append_images=images[1:])
    else:
        coded = _gif if encoding == "GIF" else _webp
        path.write_bytes(coded(images, round(milliseconds or 0)))


def _write_video(path: Path, images: list[Image.Image], milliseconds: float) -> None:
    """Write an MP4 by x264 without loss: RGB, since gray would be kept at a lower range."""
    av: Any = needed("av", "video", f"writing {path.name}")
    rate = Fraction(1000 / milliseconds).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=rate)
        stream.width, stream.height = images[0].size
        stream.pix_fmt, stream.options = "rgb24", {"qp": "0"}
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _gif(images: list[Image.Image], milliseconds: int) -> bytes:
    size = struct.pack("<HH", *images[0].size)
    head = b"GIF89a" + size + b"\xf7\0\0" + _GRAYS + _FOREVER
    frames = [b"".join(GifImagePlugin.getdata(i, duration=milliseconds)) for i in images]
    return head + b"".join(frames) + b";"


def _webp(images: list[Image.Image], milliseconds: int) -> bytes:
    seen = _SEE_THROUGH if images[0].mode == "RGBA" else 0
    size = _three_bytes(images[0].width - 1) + _three_bytes(images[0].height - 1)
    chunks = [_chunk(b"VP8X", bytes([_ANIMATED | seen, 0, 0, 0]) + size)]
    chunks.append(_chunk(b"ANIM", bytes(6)))  # on nothing, for ever
    for image in images:
        alone = io.BytesIO()
        image.save(alone, "WEBP", lossless=True, exact=True)
        place = bytes(6) + size + _three_bytes(milliseconds) + bytes([_AS_IT_IS])
        chunks.append(_chunk(b"ANMF", place + alone.getvalue()[12:]))  # without RIFF, size, WEBP
    return _chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")

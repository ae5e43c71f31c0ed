"""Video files (MP4, MOV, WebM, MKV, AVI) as clips, decoded by PyAV when frames are needed."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.sources.animation import Facts
from iddpm.data.sources.clips import Clips
from iddpm.data.sources.extras import needed
from iddpm.data.sources.folder import find_files, whole_files
from iddpm.data.sources.pixel_limit import check_pixels
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.unreadable import UnreadablePictureError, UnsupportedPictureError

VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_UNEVEN = 0.02
"""Part of a frame's duration by which others may differ and count as equal, beside a tick."""


@dataclass(frozen=True)
class _Video:
    """What a file holds of frames.

    Attributes:
        facts: for clips.
        times: when each is shown, in ticks, int64 ``[T]``; None where only decoding tells them.
        turns: quarter turns, counter-clockwise, after which frames are upright.
        pixels: what frames are converted to: rgb24, rgba, gray or gray16le.
    """

    facts: Facts
    times: NDArray[np.int64] | None
    turns: int
    pixels: str


class Videos(Clips):
    """The video files below a folder, or one such file: their first video stream, frame by frame.

    Frames are upright, in RGB or gray as PyAV converts them, and taken as they are stored, however
    long each is shown.

    Args:
        path: a folder or a file.
        corrupt: ``"skip"`` decodes every file once and leaves out those that cannot be read.
        settings: as for `Clips`.

    Raises:
        ValueError: a damaged or truncated file, or what cannot be kept.
    """

    def __init__(
        self, path: Path, *, corrupt: Literal["error", "skip"] = "error", **settings: Any
    ) -> None:
        needed("av", "video", f"reading {path}")
        root = path.parent if path.is_file() else path
        keys = find_files(path, VIDEOS, skip_links=corrupt == "skip")
        if corrupt == "skip":
            keys = whole_files(
                str(path), keys, lambda key: _decode_all(root / key), UnreadablePictureError
            )
        self._videos = [_look(root / key) for key in keys]
        super().__init__(path, keys, [video.facts for video in self._videos], **settings)

    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file."""
        return (Stamp.of(self._root / key, key) for key in self._keys)

    def _frames(self, index: int, first: int, count: int) -> Iterator[tuple[str, Image.Image]]:
        path = self._root / self._keys[index]
        for number, image in enumerate(_decode(path, self._videos[index], first, count), first + 1):
            yield f"{path}, frame {number}", image


def read_video_facts(path: Path) -> Facts:
    """Return what a video says of its frames; errors as of `Videos`."""
    return _look(path).facts


def _look(path: Path) -> _Video:
    """Return what a file says of its frames; packets are counted, and a single frame decoded."""
    missing = _missing_bytes(path)
    if missing > 0:
        raise UnreadablePictureError(
            f"{path} is truncated: {missing} of the bytes that it promises are missing"
        )
    with _opened(path) as (container, stream):
        coded = stream.codec_context
        check_pixels(str(path), coded.height, coded.width)
        times = _times(path, container, stream)
    with _opened(path) as (container, stream):
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise UnreadablePictureError(f"{path} is damaged: its first frame cannot be decoded")
        turns = _turns(path, first)
        size = (first.height, first.width)
        pixels = _pixels(path, stream, first)
        tick, rate = float(stream.time_base or 0), stream.average_rate
    count = _count(path) if times is None else len(times)
    milliseconds = () if times is None else _milliseconds(times, tick)
    if not milliseconds and rate:
        milliseconds = (_rounded(float(1000 / rate)),)
    dtype = "uint16" if pixels == "gray16le" else "uint8"
    upright = size[::-1] if turns % 2 else size
    facts = Facts(count, upright, dtype, pixels.startswith("gray"), "MP4", milliseconds)
    return _Video(facts, times, turns, pixels)


def _decode(path: Path, video: _Video, first: int, count: int) -> Iterator[Image.Image]:
    """Yield some frames, decoded from the last key frame before them on, or else from the start."""
    found = 0
    ways = (True, False) if video.times is not None and first > 0 else (False,)
    for seeks in ways:
        for frame in _whole_frames(path, video, first, seeks):
            yield _image(frame, video)
            found += 1
            if found == count:
                return
        if found:
            break
    raise UnreadablePictureError(
        f"{path} is damaged: frame {first + found + 1} of {video.facts.count} cannot be decoded"
    )


def _whole_frames(path: Path, video: _Video, first: int, seeks: bool) -> Iterator[Any]:
    """Yield the decoded frames from a number on, up to one that is missing or damaged."""
    times, wanted = video.times, first
    with _opened(path) as (container, stream):
        if seeks and times is not None:
            container.seek(int(times[first]), stream=stream)
        for number, frame in enumerate(container.decode(stream)):
            if times is None:
                if number < first:
                    continue
            elif wanted == len(times) or (frame.pts is not None and frame.pts < times[first]):
                continue
            elif frame.pts != times[wanted]:
                return
            if frame.is_corrupt:
                return
            wanted += 1
            yield frame


def _decode_all(path: Path) -> None:
    video = _look(path)
    for _ in _decode(path, video, 0, video.facts.count):
        pass


def _image(frame: Any, video: _Video) -> Image.Image:
    pixels = np.rot90(frame.to_ndarray(format=video.pixels), video.turns)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _times(path: Path, container: Any, stream: Any) -> NDArray[np.int64] | None:
    """Return when frames are shown, by their packets; None where packets do not say it.

    Raises:
        UnreadablePictureError: packets are missing or cut short.
    """
    times: list[int | None] = []
    count = 0
    # An AVI has its frames in the order in which they are decoded, and no times.
    ordered = container.format.name != "avi" or stream.codec_context.codec.intra_only
    vp8 = stream.codec_context.name in ("vp8", "libvpx")
    for packet in container.demux(stream):
        if not packet.size:
            continue
        count += 1
        if packet.is_corrupt:
            raise UnreadablePictureError(f"{path} is truncated: its packet {count} is incomplete")
        if packet.is_discard:  # before the start of what is shown
            continue
        if vp8 and not bytes(packet)[0] & 16:  # a frame that others refer to, never shown
            continue
        times.append(packet.pts)
    if count < stream.frames:
        raise UnreadablePictureError(
            f"{path} is truncated: {count} of its {stream.frames} frames are there"
        )
    known = [time for time in times if time is not None]
    if not ordered or len(set(known)) < len(times) or not times:
        return None
    return np.sort(np.array(known, np.int64))


def _count(path: Path) -> int:
    with _opened(path) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def _milliseconds(times: NDArray[np.int64], tick: float) -> tuple[float, ...]:
    """Return how long frames are shown: the mean where all are equal but for rounding to ticks."""
    steps = np.diff(times)
    if not len(steps) or not tick:
        return ()
    mean = float((times[-1] - times[0]) / len(steps))
    if np.abs(steps - mean).max() <= 1 + _UNEVEN * mean:
        return (_rounded(1000 * tick * mean),)
    usual = Counter(steps.tolist()).most_common()
    return tuple(_rounded(1000 * tick * step) for step, times in usual for _ in range(times))


def _rounded(milliseconds: float) -> float:
    return round(milliseconds) if milliseconds == round(milliseconds) else round(milliseconds, 6)


def _turns(path: Path, frame: Any) -> int:
    degrees = frame.rotation
    if degrees % 90:
        raise UnsupportedPictureError(
            f"{path} is to be shown turned by {degrees} degrees: save it upright"
        )
    return int(degrees // 90) % 4


def _pixels(path: Path, stream: Any, frame: Any) -> str:
    """Return what frames are converted to, and warn of what that loses."""
    name = frame.format.name
    depth = max(part.bits for part in frame.format.components)
    if name in ("gray16le", "gray16be"):
        return "gray16le"
    if depth > 8:
        warnings.warn(f"{path} holds {depth}-bit video, read with 8 bits", stacklevel=5)
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1:
        warnings.warn(
            f"{path} has pixels {float(ratio):.4g} times as wide as high; they are read as they "
            "are stored",
            stacklevel=5,
        )
    if stream.metadata.get("alpha_mode") == "1":
        warnings.warn(f"{path} has transparency beside its colors, which is not read", stacklevel=5)
    if name.startswith(("gray", "mono")):
        return "gray"
    see_through = name.startswith(("yuva", "gbrap", "ya")) or name in (
        "rgba",
        "bgra",
        "argb",
        "abgr",
    )
    return "rgba" if see_through else "rgb24"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file and its first video stream; what FFmpeg finds becomes one sentence."""
    av: Any = needed("av", "video", f"reading {path}")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.best("video")  # and no picture of a cover
            if stream is None:
                raise UnreadablePictureError(f"{path} holds no video")
            if stream.codec_context is None:
                raise UnsupportedPictureError(f"{path} holds video of a coding that is not known")
            yield container, stream
    except (av.error.FileNotFoundError, av.error.PermissionError):
        raise
    except av.error.FFmpegError as error:
        what = "is empty" if path.stat().st_size == 0 else "is no video, or damaged"
        raise UnreadablePictureError(f"{path} {what} ({error.strerror})") from None


def _missing_bytes(path: Path) -> int:
    """Return how many bytes of its one segment a WebM or MKV promises and does not hold."""
    with path.open("rb") as file:
        start = file.read(64)
        if not start.startswith(_EBML):
            return 0
        length, used = _number(start[4:])
        file.seek(4 + used + length)
        segment = file.read(12)
        if not segment.startswith(_SEGMENT):
            return 0
        length, width = _number(segment[4:])
        unknown = length == (1 << 7 * width) - 1
        return 0 if unknown else length - (path.stat().st_size - file.tell() + 12 - 4 - width)


def _number(data: bytes) -> tuple[int, int]:
    """Return a number of EBML, whose first bit tells how many bytes it has, and these."""
    width = 9 - (data[0] if data else 0).bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return value, width

"""The chunks of a PNG that Pillow has opened."""

from collections.abc import Iterator
from typing import Any

from PIL import Image

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OF_TEXTS = (b"Raw profile type ", b"XML:com.adobe.xmp")


def has_other_facts(image: Image.Image) -> bool:
    """Tell whether a PNG may hold an orientation after its pixels, or in a text."""
    return any(
        kind == b"eXIf" or (kind in _TEXTS and start in _OF_TEXTS)
        for kind, start in png_chunks(image)
    )


def png_chunks(image: Image.Image) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of each chunk of an opened PNG and its first 17 bytes."""
    stream: Any = image.fp  # type: ignore[attr-defined]
    place = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
            start = stream.tell()
            length = int.from_bytes(head[:4], "big")
            yield head[4:], stream.read(min(17, length))
            stream.seek(start + length + 4)
    finally:
        stream.seek(place)

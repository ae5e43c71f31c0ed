import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iddpm.data.sources.gif import Gif
from iddpm.data.sources.picture import UnreadablePictureError

GRAYS = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)


def packed(indices):
    """Codes of 9 bits, with a clear code so often that they never grow longer."""
    codes = []
    for place, index in enumerate(indices.ravel().tolist()):
        codes += [256, index] if place % 200 == 0 else [index]
    bits = sum(code << 9 * place for place, code in enumerate([*codes, 257]))
    data = bits.to_bytes(-(-9 * (len(codes) + 1) // 8), "little")
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_of(size, frames, shared):
    """Return a GIF; a frame is (top, left, indices, palette or None, transparent, disposal)."""
    content = b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], 0xF7, 0, 0) + shared.tobytes()
    for top, left, indices, palette, transparent, disposal in frames:
        height, width = indices.shape
        flags = disposal << 2 | (transparent is not None)
        content += b"!\xf9\x04" + struct.pack("<BHB", flags, 4, transparent or 0) + b"\0"
        content += b"," + struct.pack("<HHHH", left, top, width, height)
        content += b"\0" if palette is None else b"\x87" + palette.tobytes()
        content += packed(indices)
    return content + b";"


def seen(size, frames, shared):
    """Compose one pixel at a time, by the letter of the specification."""
    canvas = [[(0, 0, 0, 0)] * size[1] for _ in range(size[0])]
    for top, left, indices, palette, transparent, disposal in frames:
        before = [list(row) for row in canvas]
        for (y, x), index in np.ndenumerate(indices):
            if index != transparent:
                color = (shared if palette is None else palette)[index]
                canvas[top + y][left + x] = (*color.tolist(), 255)
        yield np.array(canvas, np.uint8)
        for (y, x), _ in np.ndenumerate(indices):
            if disposal == 2:
                canvas[top + y][left + x] = (0, 0, 0, 0)
            elif disposal == 3:
                canvas[top + y][left + x] = before[top + y][left + x]


@st.composite
def animations(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    palettes = [GRAYS, random.integers(0, 256, (256, 3), dtype=np.uint8)]
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    frames = []
    for _ in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
        top, left = draw(st.integers(0, size[0] - height)), draw(st.integers(0, size[1] - width))
        indices = random.integers(0, 3, (height, width), dtype=np.uint8)
        own = draw(st.sampled_from([None, *palettes]))
        transparent = draw(st.sampled_from([None, 0, 1]))
        frames.append((top, left, indices, own, transparent, draw(st.integers(0, 3))))
    return size, frames, draw(st.sampled_from(palettes))


@settings(max_examples=300, deadline=None)
@given(animations())
def test_frames_are_composed_by_the_letter(animation):
    gif = Gif(gif_of(*animation), "a.gif")
    size, frames, _ = animation
    assert (gif.size, len(gif.frames), gif.frames[0].milliseconds) == (size, len(frames), 40)
    for found, expected in zip(gif.compose(), seen(*animation), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("shade", [True, False])
def test_rows_may_be_interlaced(shade):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    image = Image.fromarray(pixels) if shade else Image.fromarray(pixels).convert("RGB")
    content = io.BytesIO()
    image.save(content, "GIF", interlace=1)
    gif = Gif(content.getvalue(), "a.gif")
    assert gif.frames[0].flags == 0x40
    assert gif.gray
    assert np.array_equal(next(gif.compose())[..., 0], pixels)


def test_a_palette_of_few_grays_is_gray():
    few = np.array([[9, 9, 9], [200, 200, 200]], np.uint8).repeat(128, 0)
    frame = (0, 0, np.zeros((2, 2), np.uint8), None, None, 0)
    assert Gif(gif_of((2, 2), [frame], few), "a.gif").gray
    few[5, 0] = 10
    assert not Gif(gif_of((2, 2), [frame], few), "a.gif").gray


FRAME = (0, 0, np.zeros((4, 4), np.uint8), None, None, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", "truncated"),
        (b"PNG", "is not a GIF file"),
        (gif_of((4, 4), [FRAME, FRAME], GRAYS)[:-1], "truncated"),
        (gif_of((4, 4), [], GRAYS), "holds no frame"),
        (gif_of((3, 4), [FRAME], GRAYS), "outside the picture"),
        (gif_of((4, 4), [FRAME], GRAYS).replace(b";", b"?"), "unknown block"),
    ],
)
def test_what_is_damaged_is_said(content, message):
    with pytest.raises(UnreadablePictureError, match=rf"a\.gif .*{message}"):
        Gif(content, "a.gif")


def test_damaged_pixels_are_said_when_they_are_unpacked():
    content = gif_of((40, 40), [(0, 0, np.zeros((40, 40), np.uint8), None, None, 0)], GRAYS)
    start = content.index(b"\x08\xff")
    broken = content[: start + 2] + b"\xff" * 100 + content[start + 102 :]
    with pytest.raises(UnreadablePictureError, match=r"a\.gif is damaged"):
        list(Gif(broken, "a.gif").compose())
    few = np.array([[9, 9, 9]], np.uint8).repeat(2, 0).tobytes()
    outside = (0, 0, np.full((1, 1), 2, np.uint8), None, None, 0)
    content = gif_of((1, 1), [outside], GRAYS)
    content = content.replace(b"\xf7\0\0" + GRAYS.tobytes(), b"\x80\0\0" + few)
    with pytest.raises(UnreadablePictureError, match="no palette"):
        list(Gif(content, "a.gif").compose())

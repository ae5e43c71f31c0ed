"""Features of PNG, JPEG, GIF, WebP, BMP, PPM and PGM."""

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image

from tests.data.sources import raw_pictures as raw
from tests.data.sources.features import (
    RANDOM,
    SIZE,
    TURNS,
    File,
    Row,
    bits,
    first,
    over_white,
)
from tests.data.sources.test_color_profile import colors, expected, profile
from tests.data.sources.test_gif import GRAYS, gif_of


def of_png(x: np.ndarray, kind: int, count: int, values: Any = None, **more: Any) -> File:
    chunks = {k: more.pop(k) for k in ("interlaced", "before", "after") if k in more}
    return File(raw.png(x, kind, count, **chunks), first(x if values is None else values), **more)


def grays(**options: Any) -> list[File]:
    return [of_png(x := bits(b), raw.GRAY, b, x * (255 // (2**b - 1)), **options)
            for b in (1, 2, 4, 8)] + [of_png(bits(16), raw.GRAY, 16, **options)]  # fmt: skip


def color(**options: Any) -> list[File]:
    return [of_png(bits(8, 3), raw.RGB, 8, **options),
            of_png(bits(8, 4), raw.RGBA, 8, **options)]  # fmt: skip


def palettes(seen: str = "", **options: Any) -> list[File]:
    """Pictures of 1 to 8 bits with a palette; transparency is kept, or laid on white."""
    files = []
    for b in (1, 2, 4, 8):
        table, opacity = RANDOM.integers(0, 256, (2**b, 3)), RANDOM.integers(0, 255, 2**b)
        x = bits(b)
        chunks = raw.chunk(b"PLTE", bytes(table.ravel().tolist()))
        values, more = table[x], {}
        if seen:
            chunks += raw.chunk(b"tRNS", bytes(opacity.tolist()))
            kept = seen == "kept"
            alpha = opacity[x][..., None]
            values = np.concatenate([table[x], alpha], -1)
            values = values if kept else np.moveaxis(over_white(table[x], alpha), 0, -1)
            more = {"settings": {"channels": 4 if kept else 3}}
        files.append(of_png(x, raw.PALETTE, b, values, before=chunks, **more, **options))
    return files


def one_level() -> list[File]:
    """A level of gray, or a color, is transparent."""
    files = []
    for b in (1, 2, 4, 8):
        x = bits(b)
        alpha, gray = np.where(x == 1, 0, 255), x * (255 // (2**b - 1))
        mark = raw.chunk(b"tRNS", struct.pack(">H", 1))
        rgba = np.stack([gray, gray, gray, alpha], -1)
        files += [of_png(x, raw.GRAY, b, rgba, before=mark, settings={"channels": 4}),
                  of_png(x, raw.GRAY, b, np.where(alpha, gray, 255), before=mark,
                         settings={"channels": 1})]  # fmt: skip
    x = bits(8, 3)
    alpha = np.where((x == x[2, 2]).all(-1), 0, 255)[..., None]
    mark = raw.chunk(b"tRNS", struct.pack(">3H", *x[2, 2].tolist()))
    return [*files, of_png(x, raw.RGB, 8, np.concatenate([x, alpha], -1), before=mark)]


def gray_alpha() -> list[File]:
    x = bits(8, 2)
    rgba = np.stack([x[..., 0]] * 3 + [x[..., 1]], -1)
    white = np.moveaxis(over_white(x[..., :1], x[..., 1:]), 0, -1)
    return [of_png(x, raw.GRAY_ALPHA, 8, rgba),
            of_png(x, raw.GRAY_ALPHA, 8, white, settings={"channels": 1})]  # fmt: skip


def with_gamma(gamma: float, x: np.ndarray, kind: int) -> File:
    linear = (x / 255) ** (1 / gamma)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    mark = raw.chunk(b"gAMA", struct.pack(">I", round(gamma * 100000)))
    return of_png(x, kind, 8, 255 * seen, before=mark, off=0.51, warns="a gamma of")


def exif(turn: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, turn, 0, 0)


def turned(suffix: str) -> list[File]:
    x = bits(8, 3)
    if suffix == "png":
        return [of_png(x, raw.RGB, 8, TURNS[k](x), **{where: raw.chunk(b"eXIf", exif(k))})
                for k in TURNS for where in ("before", "after")]  # fmt: skip
    lossy = {"jpeg": 0, "avif": "4:4:4"}
    x = blocks(3) if suffix in lossy else x.astype(np.uint8)
    options = {"quality": 100, "subsampling": lossy.get(suffix)} if suffix in lossy else {
        "lossless": True}  # fmt: skip
    return [saved(x, suffix, TURNS[k](x), exif=b"Exif\0\0" + exif(k),
                  off={"jpeg": 1, "avif": 3}.get(suffix, 0), **options) for k in TURNS]  # fmt: skip


def said(name: bytes, body: bytes, warns: str = "") -> File:
    return of_png(bits(8, 3), raw.RGB, 8, before=raw.chunk(name, body), warns=warns)


def in_profile(kind: str, **options: Any) -> File:
    x = colors()
    values, off = expected(x), 2.0
    return saved(x, kind, values, icc_profile=profile(), off=off, warns="are converted to sRGB",
                 **options)  # fmt: skip


def saved(
    x: np.ndarray, kind: str, values: Any, *, off: float = 0, warns: str = "", **options: Any
) -> File:
    """A file by Pillow."""
    stream = io.BytesIO()
    Image.fromarray(x).save(stream, kind, **options)
    return File(stream.getvalue(), first(values), {}, off, warns)


def blocks(channels: int) -> np.ndarray:
    """Colors in blocks of 16 x 16, which JPEG keeps but for rounding."""
    x = RANDOM.integers(0, 256, (2, 3, channels)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    return x[..., 0] if channels == 1 else x


def inks() -> File:
    """CMYK as Adobe's programs write it: 255 is no ink."""
    x = blocks(4)
    return File(imagecodecs.jpeg8_encode(x, level=100, colorspace="cmyk", outcolorspace="cmyk"),
                first(np.round(x[..., :3] * (x[..., 3:] / 255))), off=2)  # fmt: skip


def jpegs() -> list[File]:
    x, one, g = blocks(3), one_color(), blocks(1)
    whole = {"quality": 100, "subsampling": 0}
    files = [saved(x, "jpeg", x, off=2, **whole, **options) for options in (
        {}, {"progressive": True}, {"restart_marker_blocks": 1}, {"keep_rgb": True})]  # fmt: skip
    files += [saved(one, "jpeg", one, off=2, quality=100, subsampling=k) for k in (1, 2)]
    return [*files, saved(g, "jpeg", g, off=1, quality=100)]


def one_color() -> np.ndarray:
    """A picture that no subsampling of colors changes."""
    return np.broadcast_to(RANDOM.integers(0, 256, 3).astype(np.uint8), (24, 40, 3)).copy()


def adobe_camera() -> File:
    """Cameras set to Adobe RGB embed no profile: EXIF says it, in its interoperability IFD."""
    x, block = blocks(3), Image.Exif()
    block.get_ifd(0x8769)[0xA005] = {1: "R03"}
    return saved(
        x, "jpeg", x, off=2, quality=100, subsampling=0, exif=block.tobytes(), warns="Adobe RGB"
    )


INDICES = RANDOM.integers(4, 256, SIZE)
INDICES[0, :3] = 3
COLORS = RANDOM.integers(0, 256, (256, 3)).astype(np.uint8)


def part_of_a_screen() -> File:
    rgba = np.zeros((*SIZE, 4), int)
    rgba[2:8, 4:10] = np.concatenate([COLORS[INDICES[:6, :6]], np.full((6, 6, 1), 255)], -1)
    return File(gif_of(SIZE, [(2, 4, INDICES[:6, :6], None, None, 0)], COLORS), first(rgba))


def gifs() -> list[File]:
    see = np.concatenate([COLORS[INDICES], np.where(INDICES == 3, 0, 255)[..., None]], -1)
    return [
        File(gif_of(SIZE, [(0, 0, INDICES, None, None, 0)], COLORS), first(COLORS[INDICES])),
        File(gif_of(SIZE, [(0, 0, INDICES, COLORS, None, 0)], GRAYS), first(COLORS[INDICES])),
        File(gif_of(SIZE, [(0, 0, INDICES, None, None, 0)], GRAYS), first(INDICES)),
        File(gif_of(SIZE, [(0, 0, INDICES, None, 3, 0)], COLORS), first(see)),
        part_of_a_screen(),
    ]


def webps() -> list[File]:
    x, see = bits(8, 3).astype(np.uint8), bits(8, 4).astype(np.uint8)
    return [saved(x, "webp", x, lossless=True),
            saved(see, "webp", see, lossless=True, exact=True),
            saved(b := one_color(), "webp", b, off=4, quality=100)]  # fmt: skip


def rows_of(x: np.ndarray, count: int) -> list[bytes]:
    if count > 8:
        return [row.astype("u1" if x.ndim > 2 else "<u2").tobytes() for row in x]
    spread = np.unpackbits(x.astype(np.uint8)[..., None], axis=-1)[..., 8 - count :]
    return [np.packbits(row.ravel()).tobytes() for row in spread]


def bmps() -> list[File]:
    def of(x: np.ndarray, count: int, values: Any, **options: Any) -> File:
        return File(raw.bmp(rows_of(x, count), SIZE, count, **options), first(values), off=off)

    off, files = 0.0, []
    table = np.pad(COLORS[:, ::-1], ((0, 0), (0, 1))).tobytes()
    files += [of(x := bits(b), b, COLORS[x], palette=table[: 4 * 2**b]) for b in (1, 4, 8)]
    gray = np.pad(GRAYS, ((0, 0), (0, 1))).tobytes()
    files.append(of(x := bits(8), 8, x, palette=gray))
    files += [
        of(x[..., ::-1], 24, x, down=down) for down in (False, True) if (x := bits(8, 3)).any()
    ]
    see = bits(8, 4)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    stored = see[..., [2, 1, 0, 3]]
    files.append(of(stored, 32, see[..., :3]))
    files.append(of(stored, 32, see, compression=3, masks=masks))
    coded = [b"".join(bytes([1, int(v)]) for v in row) + b"\0\0" for row in INDICES]
    content = raw.bmp(coded, SIZE, 8, compression=1, palette=table)
    files.append(File(content, first(COLORS[INDICES])))
    off = 1.0  # 5 bits spread over 8 may be cut or rounded
    v = bits(16)
    fives = np.stack([v >> 10 & 31, v >> 5 & 31, v & 31], -1) * 255 / 31
    files.append(of(v, 16, fives))
    sixes = np.stack([(v >> 11) / 31, (v >> 5 & 63) / 63, (v & 31) / 31], -1) * 255
    return [*files, of(v, 16, sixes, compression=3, masks=(0xF800, 0x7E0, 0x1F))]


def portable(letter: str, most: int, channels: int = 1) -> File:
    x = RANDOM.integers(0, most + 1, (*SIZE, channels))
    x = x[..., 0] if channels == 1 else x
    head = f"{letter}\n# a note\n{SIZE[1]} {SIZE[0]}\n{most}\n".encode()
    kind = "u1" if most < 256 else ">u2"
    text = " ".join(map(str, x.ravel().tolist())).encode()
    body = text if letter in ("P2", "P3") else x.astype(kind).tobytes()
    return File(head + body, first(x * ((255 if most < 256 else 65535) / most)), off=0.501)


def apngs() -> list[File]:
    """Clips by Pillow: of gray, of color, and behind a picture that is not a part of them."""
    files = []
    for channels in (1, 3):
        x = RANDOM.integers(0, 256, (3, *SIZE, channels)).astype(np.uint8)
        first_of, *others = [Image.fromarray(f[..., 0] if channels == 1 else f) for f in x]
        for apart in (False, True):
            stream = io.BytesIO()
            first_of.save(stream, "PNG", save_all=True, append_images=others, duration=90,
                          default_image=apart)  # fmt: skip
            shown = x[1:] if apart else x
            files.append(File(stream.getvalue(), np.moveaxis(shown, -1, 0)))
    return files


def deep_apng() -> File:
    stream = io.BytesIO()
    frames = [Image.fromarray(bits(16).astype(np.uint16)) for _ in range(2)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return File(stream.getvalue())


def avifs() -> list[File]:
    x = blocks(3)
    see = np.concatenate([x, blocks(1)[..., None]], -1)
    whole = {"quality": 100, "subsampling": "4:4:4"}
    return [saved(x, "avif", x, off=3, **whole), saved(see, "avif", see, off=3, **whole),
            saved(g := blocks(1), "avif", np.stack([g] * 3, -1), off=3, **whole)]  # fmt: skip


def deep_avifs() -> list[File]:
    x = blocks(3)
    return [File(imagecodecs.avif_encode((x.astype(np.uint16) << b - 8), level=100, bitspersample=b,
                                         pixelformat="444"), first(x), off=3,
                 warns=f"pictures of {b} bits in color") for b in (10, 12)]  # fmt: skip


def hdr() -> list[File]:
    """BT.2020 and PQ, as a box tells them."""
    x = blocks(3)
    content = imagecodecs.avif_encode(x, level=100, pixelformat="444", primaries=9, transfer=16)
    return [File(content, first(x), off=3, warns="the colors 9 and the transfer 16 of H.273")]


def heics() -> list[File]:
    x = blocks(3)
    see = np.concatenate([x, blocks(1)[..., None]], -1)
    return [heic(Image.fromarray(y), first(y), off=4) for y in (x, see)] + [
        heic(Image.fromarray(x), first(TURNS[k](x)), off=4, exif=exif(k)) for k in TURNS
    ]


def heic(
    image: Any, values: Any, *, off: float, exif: bytes | None = None, warns: str = ""
) -> File:
    stream = io.BytesIO()
    made = image if isinstance(image, pillow_heif.HeifFile) else pillow_heif.from_pillow(image)
    made.save(stream, quality=100, chroma=444, matrix_coefficients=0, exif=exif)
    return File(stream.getvalue(), values, off=off, warns=warns)


def deep_heics() -> list[File]:
    x = blocks(3)
    deep = (x.astype(np.uint16) << 8).tobytes()
    made = pillow_heif.from_bytes("RGB;16", (x.shape[1], x.shape[0]), deep)
    return [heic(made, first(x), off=4, warns="pictures of 10 bits in color")]


def jp2s() -> list[File]:
    return [saved(x := bits(8, c).astype(np.uint8), "jpeg2000", x) for c in (1, 3, 4)] + [
        saved(x := bits(16).astype(np.uint16), "jpeg2000", x)
    ]


def deep_jp2s() -> list[File]:
    return [File(imagecodecs.jpeg2k_encode(x := bits(b, 3).astype(np.uint16), reversible=True,
                                           bitspersample=b, level=0), first(x))
            for b in (12, 16)]  # fmt: skip


def tgas() -> list[File]:
    files = [saved(x := bits(8, c).astype(np.uint8), "tga", x, compression=k)
             for c in (1, 3, 4) for k in (None, "tga_rle")]  # fmt: skip
    stream = io.BytesIO()
    image = Image.fromarray(INDICES.astype(np.uint8), "P")
    image.putpalette(COLORS.tobytes())
    image.save(stream, "TGA")
    return [*files, File(stream.getvalue(), first(COLORS[INDICES]))]


PICTURE_ROWS = [
    Row("PNG", "gray of 1, 2, 4, 8 and 16 bits", grays, library="imagecodecs"),
    Row("PNG", "RGB and RGBA of 8 bits", color, library="imagecodecs"),
    Row("PNG", "palettes of 1, 2, 4 and 8 bits", palettes, library="imagecodecs"),
    Row("PNG", "gray with an alpha channel", gray_alpha),
    Row("PNG", "transparency of a palette, kept or composited on white (tRNS)",
        lambda: palettes("kept") + palettes("white")),
    Row("PNG", "a single transparent level or color (tRNS)", one_level),
    Row("PNG", "interlaced rows (Adam7)",
        lambda: [*grays(interlaced=True), *color(interlaced=True), *palettes(interlaced=True)],
        library="imagecodecs"),
    Row("PNG", "orientation, before and after the pixels (eXIf)", lambda: turned("png")),
    Row("PNG", "an ICC profile: converted to sRGB, with a warning", lambda: [in_profile("png")]),
    Row("PNG", "a gamma other than 1/2.2: converted to sRGB, with a warning",
        lambda: [with_gamma(1.0, bits(8), raw.GRAY), with_gamma(0.5556, bits(8, 3), raw.RGB)]),
    Row("PNG", "other primaries or transfers (cHRM, cICP): read as sRGB, with a warning",
        lambda: [said(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000,
                                           6000), "its own primaries"),
                 said(b"cICP", bytes([9, 16, 0, 1]), "the transfer 16")]),
    Row("PNG", "chunks that change no pixel: sBIT, bKGD, sRGB, a gamma of 1/2.2",
        lambda: [said(b"sBIT", bytes([5, 6, 5])), said(b"bKGD", bytes(6)), said(b"sRGB", b"\0"),
                 said(b"gAMA", struct.pack(">I", 45455))]),
    Row("PNG", "16 bits in color or with an alpha channel, as numbers",
        lambda: [of_png(bits(16, c), k, 16, interlaced=i)
                 for k, c in ((2, 3), (4, 2), (6, 4)) for i in (False, True)],
        library="imagecodecs"),
    Row("PNG", "16 bits with a transparent level",
        lambda: [of_png(bits(16), raw.GRAY, 16, before=raw.chunk(b"tRNS", b"\0\7"))],
        refused="16-bit gray with a transparent level"),
    Row("PNG", "animations (APNG), as clips", apngs),
    Row("PNG", "animations of 16 bits", lambda: [deep_apng()],
        refused="an animated PNG of 16 bits"),
    Row("JPEG", "gray and color, any subsampling, progressive, restart marks, stored as RGB",
        jpegs, library="imagecodecs"),
    Row("JPEG", "CMYK, as RGB", lambda: [inks()]),
    Row("JPEG", "orientation (EXIF)", lambda: turned("jpeg")),
    Row("JPEG", "an ICC profile: converted to sRGB, with a warning",
        lambda: [in_profile("jpeg", quality=100, subsampling=0)._replace(off=9)]),
    Row("JPEG", "Adobe RGB by EXIF alone: read as sRGB, with a warning",
        lambda: [adobe_camera()]),
    Row("JPEG", "12 bits", lambda: [File(imagecodecs.jpeg8_encode(
        bits(12).astype(np.uint16), bitspersample=12, level=100))],
        refused="is not a picture Pillow can read"),
    Row("GIF", "global and local palettes, gray, transparency, frames smaller than the canvas",
        gifs),
    Row("WebP", "lossless and lossy, with and without transparency", webps, library="imagecodecs"),
    Row("WebP", "orientation (EXIF)", lambda: turned("webp")),
    Row("WebP", "an ICC profile: converted to sRGB, with a warning",
        lambda: [in_profile("webp", lossless=True)]),
    Row("AVIF", "8 bits, with and without transparency", lambda: avifs() + turned("avif"),
        library="Pillow"),
    Row("AVIF", "10 and 12 bits, read with 8, with a warning", deep_avifs, library="Pillow"),
    Row("AVIF", "animations",
        lambda: [saved(x := blocks(3), "avif", x, save_all=True,
                       append_images=[Image.fromarray(255 - x)])], refused="an animated AVIF"),
    Row("AVIF", "other primaries or transfers, such as HDR: read as sRGB, with a warning", hdr,
        library="Pillow"),
    Row("HEIC", "8 bits, with and without transparency, turned", heics, library="Pillow"),
    Row("HEIC", "10 bits, read with 8, with a warning", deep_heics, library="Pillow"),
    Row("JPEG 2000", "gray and color of 8 bits, gray of 16, with and without transparency", jp2s,
        library="imagecodecs"),
    Row("JPEG 2000", "12 and 16 bits in color, as numbers", deep_jp2s, library="imagecodecs"),
    Row("TGA", "gray, color, palettes, alpha, RLE", tgas, library="Pillow"),
    Row("BMP", "palettes of 1, 4 and 8 bits, 16, 24 and 32 bits, masks, alpha, RLE, top-down rows",
        bmps),
    Row("PPM, PGM", "binary and text, any maximum value",
        lambda: [portable(p, m, 3 if p in ("P3", "P6") else 1)
                 for p in ("P2", "P5", "P3", "P6") for m in (255, 100)]
        + [portable(p, m) for p in ("P2", "P5") for m in (1023, 65535)], suffix=".ppm"),
    Row("PPM, PGM", "16 bits in color, floats (PFM)",
        lambda: [portable("P6", 65535, 3), File(b"Pf\n1 1\n-1.0\n" + bytes(4))],
        refused="16-bit color|32-bit samples", suffix=".ppm"),
]  # fmt: skip

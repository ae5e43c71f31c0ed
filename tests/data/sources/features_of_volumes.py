"""Features of NIfTI and TIFF."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.data.sources.features import RANDOM, TURNS, File, Row, bits, first
from tests.data.sources.features_of_arrays import ROWS
from tests.data.sources.test_volumes import nifti_bytes

VOXELS = np.arange(24).reshape(2, 3, 4)


def tiff(x: Any, **options: Any) -> Callable[[Path], None]:
    options = {"photometric": "minisblack", "metadata": None, **options}
    return lambda path: tifffile.imwrite(path, x, **options)


def tiff_numbers() -> list[File]:
    return [File(tiff(x := (ROWS - (0 if k[-2] == "u" else 50)).astype(k), byteorder=o,
                      bigtiff=big), first(x), off=1e-5)
            for k in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
            for o in "<>" for big in (False, True)]  # fmt: skip


def tiff_samples() -> list[File]:
    x = RANDOM.integers(0, 250, (9, 7, 5)).astype(np.uint8)
    kinds = ["unspecified"] * 2
    return [File(tiff(x if p == "contig" else np.moveaxis(x, -1, 0), photometric="rgb",
                      planarconfig=p, extrasamples=kinds), first(x))
            for p in ("contig", "separate")]  # fmt: skip


def tiff_packed() -> list[File]:
    x = RANDOM.integers(0, 250, (40, 33)).astype(np.uint16)
    options: list[dict[str, Any]] = [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}]
    codecs: tuple[str | None, ...] = (None, "zlib", "lzw", "packbits", "zstd", "lzma")
    return [File(tiff(x, compression=c, predictor=c in ("zlib", "lzw"), **o), first(x))
            for c in codecs for o in options]  # fmt: skip


def reduced(path: Path) -> None:
    x = np.arange(256).reshape(16, 16).astype(np.float32)
    with tifffile.TiffWriter(path) as file:
        file.write(x, photometric="minisblack", metadata=None)
        file.write(x[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)


def tiff_pictures() -> list[File]:
    x, light = bits(1).astype(bool), bits(8).astype(np.uint8)
    table = RANDOM.integers(0, 256, (3, 256)) * 256
    return [File(tiff(x), first(x * 255)), File(tiff(x, photometric="miniswhite"), first(~x * 255)),
            File(tiff(light, photometric="miniswhite"), first(255 - light)),
            File(tiff(light, photometric="palette", colormap=table.astype(np.uint16)),
                 first(np.moveaxis(table[:, light] >> 8, 0, -1)))]  # fmt: skip


STACK = RANDOM.integers(-900, 900, (3, 8, 6)).astype(np.int16)


def first4(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 0)


OTHER_ROWS = [
    Row("NIfTI", "versions 1 and 2, both byte orders, integers and floats",
        lambda: [File(nifti_bytes(VOXELS, kind=k, order=o, version=v), VOXELS[None], off=1e-5)
                 for k in ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8")
                 for o in "<>" for v in (1, 2)], library="nibabel"),
    Row("NIfTI", "slope and intercept, also 0 or NaN for none",
        lambda: [File(nifti_bytes(VOXELS, slope=s, inter=i), VOXELS[None] * f + g, off=1e-5)
                 for s, i, f, g in ((0.5, -10, 0.5, -10), (-2, 3, -2, 3), (1, -9, 1, -9),
                                    (0, 10, 1, 0), (np.nan, 10, 1, 0))], library="nibabel"),
    Row("NIfTI", "bytes before the voxels, a fourth axis as channels",
        lambda: [File(nifti_bytes(VOXELS, start=400), VOXELS[None], off=1e-5),
                 File(nifti_bytes(x := np.arange(48).reshape(2, 3, 4, 2)), first4(x))]),
    Row("NIfTI", "an intercept that is not a number, five axes",
        lambda: [File(nifti_bytes(VOXELS, slope=2, inter=np.nan)),
                 File(nifti_bytes(VOXELS.reshape(2, 3, 2, 1, 2)))],
        refused="invalid intercept|volumes have 3 axes"),
    Row("TIFF", "integers of 8 to 32 bits, floats of 16 to 64, both byte orders, BigTIFF",
        tiff_numbers, library="tifffile"),
    Row("TIFF", "any number of samples per pixel, interleaved or planar", tiff_samples),
    Row("TIFF", "tiles, strips, deflate, LZW, PackBits, Zstandard, LZMA, predictors", tiff_packed,
        library="tifffile"),
    Row("TIFF", "1 bit, white as 0, palettes", tiff_pictures),
    Row("TIFF", "pages as frames, reduced copies skipped",
        lambda: [File(tiff(STACK), STACK[None]),
                 File(reduced, np.arange(256.0).reshape(1, 16, 16), off=1e-4)]),
    Row("TIFF", "orientation", lambda: [File(tiff(x, extratags=[(274, 3, 1, k, True)]),
        first(TURNS[k](x))) for k in TURNS if (x := bits(8).astype(np.uint8)).any()]),
    Row("TIFF", "complex numbers", lambda: [File(tiff((ROWS * 1j).astype(np.complex64)))],
        refused="holds 1 sample of complex64|complex"),
]  # fmt: skip

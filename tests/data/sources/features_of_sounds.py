"""Features of WAV and FLAC."""

from typing import Any

import numpy as np

from tests.data.sources.features import RANDOM, File, Row, signed
from tests.data.sources.raw_sounds import ALAW, FLOAT, MULAW, chunk, flac, wav

WAVE = RANDOM.uniform(-1, 1, (40, 2)).astype(np.float32)


def whole(count: int, channels: int = 1, **options: Any) -> File:
    x = signed(count, channels)
    stored = x + 128 if count == 8 else x
    values = x.T if count == 16 else (x.T / 2.0 ** (count - 1)).astype(np.float32)
    return File(wav(stored, count, **options), values)


def companded(code: int) -> File:
    """ITU-T G.711: sign, exponent and mantissa of a sample of 14 or 13 bits."""
    coded = np.arange(256)
    u = (~coded if code == MULAW else coded ^ 0x55) & 0xFF
    exponent, mantissa = u >> 4 & 7, u & 15
    if code == MULAW:
        size = ((mantissa << 3) + 0x84 << exponent) - 0x84
        values = np.where(u & 0x80, -size, size)
    else:
        size = np.where(exponent, (mantissa << 4) + 0x108 << np.maximum(exponent, 1) - 1,
                        (mantissa << 4) + 8)  # fmt: skip
        values = np.where(u & 0x80, size, -size)
    return File(wav(coded[:, None], 8, code), values[None] / 32768)


def plain(**options: Any) -> File:
    return whole(16, 2, **options)


def rf64() -> File:
    x = signed(16, 2)
    return File(wav(x, 16, kind=b"RF64", data_size=0xFFFFFFFF), x.T)


def of_flac(count: int, channels: int, **options: Any) -> File:
    x = signed(count, channels)
    values = x.T if count == 16 else (x.T / 2.0 ** (count - 1)).astype(np.float32)
    return File(flac(x, count, **options), values)


def wide(count: int, valid: int) -> File:
    """Samples of fewer bits than their container, at its upper end."""
    x = signed(valid) * 2 ** (count - valid)
    return File(wav(x, count, valid=valid), x.T if count == 16 else x.T / 2.0 ** (count - 1))


WAV_ROWS = [
    Row("WAV", "integers of 8 (unsigned), 16, 24 and 32 bits",
        lambda: [whole(8), whole(16), whole(24), whole(32)._replace(off=1e-7)], library="scipy"),
    Row("WAV", "floats of 32 and 64 bits, also outside [-1, 1]",
        lambda: [File(wav(WAVE * s, b, FLOAT), WAVE.T * s, off=1e-6)
                 for b in (32, 64) for s in (1, 3)], library="scipy"),
    Row("WAV", "1 to 8 channels", lambda: [whole(16, 1), whole(16, 3), whole(16, 8)],
        library="scipy"),
    Row("WAV", "WAVE_FORMAT_EXTENSIBLE, also with fewer valid than stored bits",
        lambda: [wide(16, 16), wide(16, 12), wide(24, 24), wide(24, 20), wide(32, 24),
                 File(wav(WAVE, 32, FLOAT, valid=32), WAVE.T)], library="scipy"),
    Row("WAV", "other chunks before and after, chunks of an odd length",
        lambda: [plain(before=chunk(b"LIST", b"INFOabc"), after=chunk(b"note", b"12345"))],
        library="scipy"),
    Row("WAV", "RF64 and big-endian RIFX", lambda: [rf64(), plain(order=">", kind=b"RIFX"),
        whole(24, 2, order=">", kind=b"RIFX")], library="scipy"),
    Row("WAV", "a length that was unknown when the file was written",
        lambda: [plain(data_size=0xFFFFFFFF)]),
    Row("WAV", "A-law and mu-law", lambda: [companded(ALAW), companded(MULAW)],
        library="soundfile"),
    Row("WAV", "truncated, or without sound data",
        lambda: [plain(data_size=400), plain(data_size=0)],
        refused="is truncated: 240 of the bytes|holds no sound"),
]  # fmt: skip
FLAC_ROWS = [
    Row("FLAC", "8, 16 and 24 bits, 1 to 8 channels",
        lambda: [of_flac(b, c) for b in (8, 16, 24) for c in (1, 2, 8)], library="soundfile"),
    Row("FLAC", "mid-side stereo",
        lambda: [of_flac(16, 2, stereo=s) for s in ("left", "right", "mid")], library="soundfile"),
    Row("FLAC", "metadata blocks, and an ID3 tag in front",
        lambda: [of_flac(16, 1, blocks=b"\x84\0\0\x08" + bytes(8)),
                 of_flac(16, 1, front=b"ID3\3\0\0\0\0\0\x0a" + bytes(10))], library="soundfile"),
    Row("FLAC", "4, 12, 20 and 32 bits", lambda: [of_flac(b, 1) for b in (4, 12, 20, 32)],
        refused="is not a sound that can be read"),
]  # fmt: skip

"""WAV and FLAC files, written byte by byte after their specifications."""

import struct

import numpy as np

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_GUID = bytes.fromhex("000000001000800000aa00389b71")  # of KSDATAFORMAT_SUBTYPE_*, after its code


def chunk(name: bytes, body: bytes, order: str = "<", size: int | None = None) -> bytes:
    """A RIFF chunk; one of an odd number of bytes is padded, and its size does not count that."""
    return name + struct.pack(f"{order}I", len(body) if size is None else size) + body + (
        b"\0" * (len(body) % 2)
    )  # fmt: skip


def wav(
    samples: np.ndarray,
    bits: int,
    code: int = PCM,
    *,
    valid: int | None = None,
    order: str = "<",
    before: bytes = b"",
    after: bytes = b"",
    kind: bytes = b"RIFF",
    data_size: int | None = None,
) -> bytes:
    """A WAV of samples [frames, channels]: integers of ``bits`` bits, floats, or coded bytes.

    ``valid`` makes it WAVE_FORMAT_EXTENSIBLE with so many valid bits in each container.
    """
    frames, channels = samples.shape
    width = bits // 8
    if code == FLOAT:
        body = samples.astype(f"{order}f{width}").tobytes()
    elif bits == 24:
        whole = samples.astype(f"{order}i4")[..., None].view(np.uint8).reshape(frames, channels, 4)
        body = (whole[..., :3] if order == "<" else whole[..., 1:]).tobytes()
    else:
        body = samples.astype(f"{order}{'u' if bits == 8 else 'i'}{width}").tobytes()
    named = EXTENSIBLE if valid else code
    block = channels * width
    form = struct.pack(f"{order}HHIIHH", named, channels, 8000, 8000 * block, block, bits)
    if valid:
        form += struct.pack(f"{order}HHIH", 22, valid, 0, code) + _GUID
    size = len(body) if data_size is None else data_size
    chunks = before + chunk(b"fmt ", form, order) + chunk(b"data", body, order, size) + after
    total = 4 + len(chunks)
    if kind == b"RF64":  # whose sizes are in a chunk of 64 bits each
        chunks = chunk(b"ds64", struct.pack("<QQQI", total + 36, len(body), frames, 0)) + chunks
        total = 0xFFFFFFFF
    return kind + struct.pack(f"{order}I", total) + b"WAVE" + chunks


class _Bits:
    def __init__(self) -> None:
        self.number, self.count = 0, 0

    def put(self, value: int, bits: int) -> None:
        self.number = self.number << bits | (value & ((1 << bits) - 1))
        self.count += bits

    def bytes(self) -> bytes:
        self.put(0, -self.count % 8)
        return self.number.to_bytes(self.count // 8, "big")


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & ((1 << bits) - 1)
    return value


_SIZES = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}


def flac(
    samples: np.ndarray, bits: int, *, stereo: str = "", blocks: bytes = b"", front: bytes = b""
) -> bytes:
    """A FLAC of one frame of samples [frames, channels], stored without prediction.

    ``stereo`` keeps ``left``, ``right`` or ``mid`` beside the difference of two channels;
    ``blocks`` are metadata blocks after the first, ``front`` lies before the file.
    """
    frames, channels = samples.shape
    info = _Bits()
    for value, width in ((frames, 16), (frames, 16), (0, 24), (0, 24), (8000, 20),
                         (channels - 1, 3), (bits - 1, 5), (frames, 36)):  # fmt: skip
        info.put(value, width)
    first = bytes([0 if blocks else 0x80]) + (34).to_bytes(3, "big") + info.bytes() + bytes(16)
    head = _Bits()
    assignment = {"": channels - 1, "left": 8, "right": 9, "mid": 10}[stereo]
    for value, width in ((0b11111111111110, 14), (0, 2), (7, 4), (0, 4), (assignment, 4),
                         (_SIZES.get(bits, 0), 3), (0, 1), (0, 8), (frames - 1, 16)):  # fmt: skip
        head.put(value, width)
    header = head.bytes()
    columns = [(samples[:, c].tolist(), bits) for c in range(channels)]
    if stereo:
        left, right = samples.T.astype(np.int64)
        side = (left - right).tolist(), bits + 1
        columns = {
            "left": [(left.tolist(), bits), side],
            "right": [side, (right.tolist(), bits)],
            "mid": [((left + right >> 1).tolist(), bits), side],
        }[stereo]
    frame = _Bits()
    for byte in header + bytes([_crc(header, 0x07, 8)]):
        frame.put(byte, 8)
    for column, width in columns:
        frame.put(0b00000010, 8)  # verbatim, no wasted bits
        for value in column:
            frame.put(value, width)
    body = frame.bytes()
    return front + b"fLaC" + first + blocks + body + _crc(body, 0x8005, 16).to_bytes(2, "big")

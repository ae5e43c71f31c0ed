"""Videos that PyAV wrote, frame by frame against PyAV."""

import pickle
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from iddpm.data.sources import clips
from iddpm.data.sources.open import open_source
from iddpm.data.writers.data_files import save_files

RANDOM = np.random.default_rng(0)


def scene(count=12, size=(48, 64), channels=3):
    """Frames [T, H, W, C] of a block that moves over colors."""
    height, width = size
    still = RANDOM.integers(60, 190, (height // 8 + 1, width // 8 + 1, channels))
    still = still.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
    frames = np.stack([still] * count)
    for number in range(count):
        frames[number, 4:12, 3 + number : 11 + number] = 20 + 15 * (number % 12)
    return frames


def write(path, frames, codec, pixels, *, rate=25, times=None, options=None, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = frames.ndim == 3
    kind = "gray16le" if frames.dtype == np.uint16 else "gray" if gray else "rgb24"
    kind = "rgba" if frames.shape[-1] == 4 and not gray else kind
    with av.open(str(path), "w", options=more.get("container", {})) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = pixels, options or {}
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, format=kind)
            if times is not None:
                image.pts, image.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def by_library(path, kind="rgb24"):
    """Frames as PyAV decodes and converts them, [C, T, H, W]."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format=kind) for f in container.decode(video=0)])
    return frames[None] if frames.ndim == 3 else np.moveaxis(frames, -1, 0)


KINDS = {
    "a.mp4": ("libx264", "yuv420p"), "b.m4v": ("mpeg4", "yuv420p"), "c.mov": ("mjpeg", "yuvj422p"),
    "d.webm": ("libvpx-vp9", "yuv420p"), "e.webm": ("libvpx", "yuv420p"), "f.mkv": ("ffv1", "bgr0"),
    "g.avi": ("mjpeg", "yuvj420p"), "h.mp4": ("libx264", "yuv420p10le"),
    "i.avi": ("libx264", "yuv420p"), "j.mp4": ("libx265", "yuv420p"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_the_library(name, tmp_path):
    path = write(tmp_path / name, scene(), *KINDS[name])
    wanted = by_library(path)
    if "10" in KINDS[name][1]:
        with pytest.warns(UserWarning, match="holds 10-bit video, read with 8 bits"):
            source = open_source(path)
    else:
        source = open_source(path)
    assert (source.shape, len(source), source.bits) == ((3, 12, 48, 64), 1, 8)
    assert (source.form.kind, source.form.encoding) == ("clip", "MP4")
    assert source.form.milliseconds == 40
    assert (source.read(0) == wanted).all()


@pytest.mark.parametrize("name", ["a.mp4", "d.webm", "e.webm", "i.avi", "j.mp4"])
def test_windows_are_decoded_from_the_key_frame_before_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_KEPT", 1)
    options = {"g": "8", "bf": "2"} if "264" in KINDS[name][0] else {"g": "8"}
    if "265" in KINDS[name][0]:
        options = {"x265-params": "keyint=8:open-gop=1:log-level=none"}
    path = write(tmp_path / name, scene(30), *KINDS[name], options=options)
    shutil.copy(path, path.with_stem("z"))
    wanted = by_library(path)
    source = pickle.loads(pickle.dumps(open_source(tmp_path, window=(4, 48, 64), stride=1)))
    assert len(source) == 2 * 27
    for index in (26, 0, 9, 17, 40):
        start = int(source.key(index).partition(":")[2].partition(",")[0])
        assert (source.read(index) == wanted[:, start : start + 4]).all()


def test_a_rate_that_varies_is_said_and_frames_stay(tmp_path):
    times = [0, 40, 80, 200, 240, 280, 320, 500, 540, 580, 620, 660]
    path = write(tmp_path / "a.mp4", scene(), "libx264", "yuv420p", times=times)
    with pytest.warns(UserWarning, match="shows its frames for 40 to 180 ms"):
        source = open_source(path)
    assert source.form.milliseconds == 40
    assert (source.read(0) == by_library(path)).all()


def test_rates_are_kept(tmp_path):
    for number, rate in enumerate((Fraction(30000, 1001), Fraction(30), Fraction(12))):
        path = write(tmp_path / f"{number}.webm", scene(), "libvpx", "yuv420p", rate=rate)
        form = open_source(path).form  # though a tick of a WebM is a millisecond
        assert form.milliseconds == pytest.approx(float(1000 / rate), rel=2e-2)
    path = write(tmp_path / "a.mp4", scene(), "libx264", "yuv420p", rate=Fraction(30000, 1001))
    form = open_source(path).form
    (written,) = save_files(torch.zeros(1, 3, 4, 6, 8), tmp_path / "out", form)
    with av.open(str(written)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_frames_are_turned_upright(quarter, tmp_path):
    path = write(tmp_path / "a.mp4", scene(), "libx264", "yuv420p")
    stored = by_library(path)
    content = path.read_bytes()
    plain = b"".join(v.to_bytes(4, "big", signed=True) for v in (1 << 16, 0, 0, 0, 1 << 16, 0))
    at = content.index(plain, content.index(b"tkhd"))
    # Clockwise, as a phone that lay on its side says it: (x, y) -> (a x + c y, b x + d y).
    a, b = ((0, 1), (-1, 0), (0, -1))[quarter - 1]
    turned = [a << 16, b << 16, 0, -b << 16, a << 16, 0]
    matrix = b"".join(v.to_bytes(4, "big", signed=True) for v in turned)
    path.write_bytes(content[:at] + matrix + content[at + 24 :])
    source = open_source(path)
    upright = np.rot90(stored, -quarter, axes=(2, 3))
    assert source.shape == upright.shape
    assert (source.read(0) == upright).all()


def test_gray_and_deep_gray_stay_what_they_are(tmp_path):
    gray = scene(channels=1)[..., 0]
    path = write(tmp_path / "gray" / "a.mkv", gray, "ffv1", "gray")
    source = open_source(path)
    assert (source.shape, source.form.encoding) == ((1, 12, 48, 64), "MP4")
    assert (source.read(0)[0] == gray).all()
    deep = gray.astype(np.uint16) * 257 + np.arange(12, dtype=np.uint16)[:, None, None]
    path = write(tmp_path / "deep" / "a.mkv", deep, "ffv1", "gray16le")
    source = open_source(path)
    assert (source.bits, source.form.encoding) == (16, "TIFF")
    assert (source.read(0)[0] == deep).all()


def test_odd_sizes_and_transparency(tmp_path):
    odd = scene(5, (7, 5))
    path = write(tmp_path / "odd" / "a.mp4", odd, "libx264", "yuv444p")
    assert (open_source(path).read(0) == by_library(path)).all()
    clear = np.concatenate([scene(5), np.full((5, 48, 64, 1), 255, np.uint8)], -1)
    clear[:, :10, :, 3] = 0
    path = write(tmp_path / "clear" / "a.mov", clear, "qtrle", "argb")
    with pytest.raises(ValueError, match=r"frame 1 has transparent pixels.*channels=4"):
        open_source(path).read(0)
    source = open_source(path, channels=4)
    assert (source.read(0) == by_library(path, "rgba")).all()
    assert source.form.encoding == "WEBP"


def test_sizes_and_classes_are_those_of_clips(tmp_path):
    for name in ("up/a.mp4", "up/b.mp4", "down/c.mp4"):
        write(tmp_path / name, scene(5), "libx264", "yuv420p")
    source = open_source(tmp_path, image_size=16, channels=1)
    assert source.shape == (1, 5, 16, 16)
    assert (source.labels.tolist(), source.class_names) == ([0, 1, 1], ("down", "up"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (3, 3)])
def test_samples_are_written_without_loss(channels, size, tmp_path):
    suffix, codec = ("gray", "ffv1") if channels == 1 else ("bgr0", "ffv1")
    frames = scene(5) if channels == 3 else scene(5, channels=1)[..., 0]
    form = open_source(write(tmp_path / "in" / "a.mkv", frames, codec, suffix)).form
    x = torch.from_numpy(RANDOM.uniform(-1, 1, (2, channels, 4, *size))).float()
    paths = save_files(x, tmp_path / "out", form)
    assert [path.suffix for path in paths] == [".mp4"] * 2
    again = open_source(tmp_path / "out", channels=channels)
    assert (again.form, again.shape) == (form, (channels, 4, *size))
    assert (again.read_many([0, 1]) == form.values.restore(x)).all()


CUT: dict[str, tuple[str, str, dict[str, str]]] = {
    "late.mp4": ("libx264", "yuv420p", {}),
    "early.mp4": ("libx264", "yuv420p", {"movflags": "faststart"}),
    "a.webm": ("libvpx-vp9", "yuv420p", {}),
    "a.mkv": ("ffv1", "bgr0", {}),
    "a.avi": ("mjpeg", "yuvj420p", {}),
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("kept", [0, 0.5, 0.95])
def test_a_video_that_is_cut_off_gets_one_sentence(name, kept, tmp_path):
    codec, pixels, options = CUT[name]
    for number in range(3):
        write(tmp_path / f"{number}{name}", scene(), codec, pixels, container=options)
    content = (tmp_path / f"1{name}").read_bytes()
    (tmp_path / f"1{name}").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"1{name} is (truncated|damaged|empty|no video)") as e:
        open_source(tmp_path).read_many([0, 1, 2])
    assert "\n" not in str(e.value)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 3 files .*\(1{name}\)"):
        source = open_source(tmp_path, corrupt="skip")
    assert [source.key(k) for k in range(len(source))] == [f"0{name}", f"2{name}"]


def test_a_file_of_sound_alone_holds_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"a\.mp4 holds no video"):
        open_source(tmp_path / "a.mp4")


def test_a_coding_that_no_decoder_knows_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", scene(), "libx264", "yuv420p")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    with pytest.raises(ValueError, match=r"a\.mp4 (holds video of a coding|is no video)"):
        open_source(path).read(0)


def test_promised_sizes_are_bounded(tmp_path):
    path = write(tmp_path / "a.mkv", scene(2, (300, 300)), "ffv1", "bgr0")
    content = path.read_bytes()
    size = b"\xb0\x82\x01\x2c\xba\x82\x01\x2c"  # PixelWidth and PixelHeight
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, size.replace(b"\x01\x2c", b"\xea\x60")))
    with pytest.raises(ValueError, match=r"a\.mkv (has 60000x60000 pixels|is no video)"):
        open_source(path).read(0)

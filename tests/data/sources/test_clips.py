import pickle

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources import clips
from iddpm.data.sources.clips import Animations, FrameFolders
from iddpm.data.sources.open import open_source
from iddpm.data.split import held_out_mask
from tests.data.sources.test_gif import gif_of

RANDOM = np.random.default_rng(0)


def pixels(count=5, size=(6, 7), channels=1, dtype=np.uint8):
    """Frames [T, H, W] or [T, H, W, C]."""
    shape = (count, *size) if channels == 1 else (count, *size, channels)
    if dtype == np.float32:
        return RANDOM.normal(size=shape).astype(dtype)
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path, frames, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, frames)
    if path.suffix == ".webp":
        settings = {"lossless": True, "exact": True, **settings}
    first.save(path, save_all=True, append_images=others, **settings)
    return path


def save_frames(folder, frames, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / name.format(number))


def first(frames):
    """To [C, T, H, W]."""
    return frames[None] if frames.ndim == 3 else np.moveaxis(frames, -1, 0)


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype", "bits", "encoding"),
    [
        (".gif", 1, np.uint8, 8, "GIF"),
        (".webp", 3, np.uint8, 8, "WEBP"),
        (".webp", 4, np.uint8, 8, "WEBP"),
        (".tif", 1, np.uint8, 8, "TIFF"),
        (".tiff", 3, np.uint8, 8, "TIFF"),
        (".tif", 1, np.uint16, 16, "TIFF"),
        (".tif", 1, np.float32, None, "TIFF"),
    ],
)
def test_each_format_gives_its_pixels(suffix, channels, dtype, bits, encoding, tmp_path):
    stored = [pixels(channels=channels, dtype=dtype) for _ in range(3)]
    for number, frames in enumerate(stored):
        save(tmp_path / f"{number}{suffix}", frames, duration=40)
    source = open_source(tmp_path, channels=4 if channels == 4 else None)
    assert (source.shape, source.bits, len(source)) == ((channels, 5, 6, 7), bits, 3)
    assert (source.form.kind, source.form.encoding) == ("clip", encoding)
    assert source.form.milliseconds == (None if "tif" in suffix else 40)
    for index in (2, 0):
        read = source.read(index)
        if dtype == np.float32:
            values = source.form.values
            read = (read + 1) / 2 * (values.high - values.low) + values.low
            assert np.allclose(read, first(stored[index]), atol=1e-6)
        else:
            assert np.array_equal(read, first(stored[index]))
    one = open_source(tmp_path / f"1{suffix}", channels=4 if channels == 4 else None)
    assert (one.shape, len(one), one.key(0)) == (source.shape, 1, f"1{suffix}")


def test_colors_of_a_gif_are_exact_and_come_out_as_webp(tmp_path):
    frames = pixels(channels=3) // 128 * 255
    save(tmp_path / "a.gif", frames, duration=70)
    source = open_source(tmp_path / "a.gif")
    assert (source.shape, source.form.encoding, source.form.milliseconds) == (
        (3, 5, 6, 7),
        "WEBP",
        70,
    )
    assert np.array_equal(source.read(0), first(frames))


def test_windows_of_a_clip_are_held_out_together(tmp_path):
    stored = {f"{name}.gif": pixels(count) for name, count in (("a", 6), ("b", 8), ("c", 5))}
    for name, frames in stored.items():
        save(tmp_path / name, frames)
    with pytest.raises(ValueError, match=r"3 sizes.*data\.window"):
        open_source(tmp_path)
    source = open_source(tmp_path, window=(4, 6, 3), stride=2)
    assert (source.shape, len(source)) == ((1, 4, 6, 3), (2 + 3 + 1) * 3)
    for index in range(len(source)):
        name, _, start = source.key(index).partition(":")
        t, _, x = map(int, start.split(","))
        assert np.array_equal(source.read(index)[0], stored[name][t : t + 4, :, x : x + 3])
    mask = held_out_mask(source, 0.2)
    assert 0 < mask.sum() < len(mask)
    sides = {(source.key(i).partition(":")[0], bool(mask[i])) for i in range(len(source))}
    assert len(sides) == 3  # each clip on one side


@pytest.mark.parametrize("kept", [1 << 28, 1])
def test_parts_are_the_same_whatever_is_kept(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_KEPT", kept)
    stored = pixels(9, channels=3)
    save(tmp_path / "a/b.webp", stored)
    save(tmp_path / "a/c.webp", stored[::-1])
    save(tmp_path / "t/a.tif", stored)
    save_frames(tmp_path / "f/a", stored)
    for path, settings in (("a", {}), ("t", {}), ("f", {"layout": "frames"})):
        source = open_source(tmp_path / path, window=(3, 4, 5), stride=3, **settings)
        source = pickle.loads(pickle.dumps(source))
        for index in (len(source) - 1, 0, len(source) // 2):
            name, _, start = source.key(index).partition(":")
            t, y, x = map(int, start.split(","))
            whole = first(stored[::-1] if name == "c.webp" else stored)
            box = whole[:, t : t + 3, y : y + 4, x : x + 5]
            assert np.array_equal(source.read(index), box)


def test_folders_of_frames_are_clips_in_the_order_of_their_numbers(tmp_path):
    stored = {f"{c}/{name}": pixels(12) for c in ("run", "walk") for name in ("x", "y")}
    for key, frames in stored.items():
        save_frames(tmp_path / key, frames, "frame{}.png")
    assert open_source(tmp_path).shape == (1, 6, 7)  # pictures, when nothing is said
    with pytest.raises(ValueError, match=r"3 axes.*data\.layout=frames"):
        open_source(tmp_path, window=(4, 6, 7))
    source = open_source(tmp_path, layout="frames")
    assert (source.shape, source.class_names, source.form.encoding) == (
        (1, 12, 6, 7),
        ("run", "walk"),
        "frames",
    )
    assert [source.key(i) for i in range(4)] == sorted(stored)
    for index in range(4):
        assert np.array_equal(source.read(index)[0], stored[source.key(index)])
    assert len(list(source.stamps())) == 48
    alone = open_source(tmp_path / "run/x", layout="frames")
    assert np.array_equal(alone.read(0), source.read(0))


def test_frames_of_16_bits_are_kept(tmp_path):
    stored = pixels(dtype=np.uint16)
    save_frames(tmp_path / "a", stored)
    source = open_source(tmp_path, layout="frames", value_range="auto")
    assert (source.bits, source.form.values.dtype) == (16, "uint16")
    assert np.array_equal(source.read(0)[0], stored)


def test_frames_are_resized_as_pictures_are(tmp_path):
    save(
        tmp_path / "a.gif",
        np.full((3, 8, 12), 9, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None],
    )
    source = open_source(tmp_path, image_size=4)
    assert source.shape == (1, 3, 4, 4)
    assert [int(v) for v in source.read(0)[0, :, 0, 0]] == [9, 10, 11]


def test_a_stack_that_lies_on_its_side_is_turned_upright(tmp_path):
    stored = pixels(3)
    save(tmp_path / "a.tif", stored, tiffinfo={0x0112: 6})
    source = open_source(tmp_path / "a.tif")
    assert source.shape == (1, 3, 7, 6)
    assert np.array_equal(source.read(0)[0], np.rot90(stored, -1, (1, 2)))


def test_different_times_are_reported(tmp_path):
    save(tmp_path / "a.gif", pixels(4), duration=[40, 40, 40, 900])
    with pytest.warns(UserWarning, match="40 to 900 ms.*each frame for 40 ms"):
        assert open_source(tmp_path).form.milliseconds == 40


def still(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels()[0]).save(path)


def gif_with_holes(path):
    hole = (0, 0, np.zeros((6, 7), np.uint8), None, 0, 0)
    palette = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
    path.write_bytes(gif_of((6, 7), [hole, hole], palette))


def gray_then_color(path):
    save(path, [*pixels(2, channels=1)])
    again = path.with_name("b.tif")
    save(again, pixels(2, channels=3))


def pages_that_differ(path):
    images = [Image.fromarray(pixels(size=size)[0]) for size in ((6, 7), (3, 4))]
    images[0].save(path, save_all=True, append_images=images[1:])


def deep_color(path):
    save(path, pixels(2, channels=3))
    content = bytearray(path.read_bytes())
    # All 8s among the bits per sample become 16, as no program here writes them.
    eights = np.array([8, 8, 8], "<u2").tobytes()
    path.write_bytes(bytes(content).replace(eights, np.array([16, 16, 16], "<u2").tobytes()))


@pytest.mark.parametrize(
    ("make", "name", "settings", "message"),
    [
        (gif_with_holes, "a.gif", {}, r"a\.gif, frame 1 has transparent.*channels=4"),
        (pages_that_differ, "a.tif", {}, r"pages that differ.*6x7.*page 2 is 3x4"),
        (deep_color, "a.tif", {}, r"a\.tif is damaged \(failed to read"),
        (still, "a.gif", {}, r"a\.gif holds a single picture"),
        (still, "a.png", {}, r"a\.png is a \.png file; data is a folder of images"),
        (still, "a.tif", {"layout": "frames"}, "layout='frames' needs a folder"),
    ],
)
def test_what_cannot_be_kept_is_refused(make, name, settings, message, tmp_path):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / name, **settings).read(0)


def test_transparency_is_kept_or_laid_on_white_where_that_is_said(tmp_path):
    gif_with_holes(tmp_path / "a.gif")
    assert (open_source(tmp_path / "a.gif", channels=4).read(0)[3] == 0).all()
    assert (open_source(tmp_path / "a.gif", channels=1).read(0) == 255).all()


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"a.gif": pixels(2), "b.gif": pixels(1)}, {}, r"b\.gif holds a single picture"),
        ({"a.gif": pixels(1), "b.gif": pixels(2)}, {}, r"b\.gif holds several frames"),
        ({"a.gif": pixels(2), "b.png": pixels(1)}, {}, r"b\.png holds a single picture"),
        ({"a.png": pixels(1), "b.webp": pixels(2)}, {}, r"b\.webp holds several frames"),
        ({"a.png": pixels(1), "b.png": pixels(2)}, {}, r"b\.png holds several frames"),
        ({"a.png": pixels(2), "b.png": pixels(1)}, {}, r"b\.png holds a single picture"),
        ({"a.tif": pixels(2), "b.tif": pixels(2, dtype=np.uint16)}, {}, "one bit depth"),
        ({"a.tif": pixels(2, dtype=np.uint16)}, {"channels": 3}, r"data\.channels to 1"),
        ({"a.gif": pixels(2)}, {"layout": "NHW"}, "layout='NHW'"),
        ({"a.gif": pixels(2)}, {"layout": "frames"}, r"a\.gif holds several frames"),
        ({"a.gif": pixels(2)}, {"window": (3, 6, 7)}, "nothing as large"),
        ({"a/1.png": pixels(1), "1.png": pixels(1)}, {"layout": "frames"}, "its own folder"),
        (
            {"a/1.png": pixels(1), "a/2.png": pixels(1, size=(3, 3))},
            {"layout": "frames"},
            r"a/2\.png has 3x3 pixels of 8 bits and a/1\.png 6x7",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(files, settings, message, tmp_path):
    for name, frames in files.items():
        save(tmp_path / name, frames)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path, **settings).read_many([0, 1])


def test_color_met_late_is_not_dropped_silently(tmp_path, monkeypatch):
    save(tmp_path / "a.webp", pixels(2))
    facts = clips.read_facts
    monkeypatch.setattr(
        clips, "read_facts", lambda path: facts(path).__class__(2, (6, 7), "uint8", True, "WEBP")
    )
    assert Animations(tmp_path).channels == 1
    assert open_source(tmp_path).read(0).shape == (1, 2, 6, 7)  # gray, whatever the mode says
    save(tmp_path / "a.webp", pixels(2, channels=3))
    with pytest.raises(ValueError, match=r"a\.webp, frame 1 is in color"):
        open_source(tmp_path).read(0)


def test_a_stack_is_labeled_by_its_folder(tmp_path):
    for name in ("up/a.tif", "up/b.tif", "down/c.tif"):
        save(tmp_path / name, pixels(2))
    source = Animations(tmp_path)
    assert (source.labels.tolist(), source.class_names) == ([0, 1, 1], ("down", "up"))
    with pytest.raises(FileNotFoundError, match="no frame of a clip"):
        FrameFolders(tmp_path / "none")


def test_promises_are_bounded(tmp_path):
    content = bytearray(save(tmp_path / "a.gif", pixels(3)).read_bytes())
    content[6:10] = b"\xff\xff\xff\x0f"
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(ValueError, match="promises 3 frames of 4095x65535"):
        open_source(tmp_path / "a.gif")

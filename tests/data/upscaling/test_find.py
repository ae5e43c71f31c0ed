"""Files in, upscaled files out: each kind comes back as what it was."""

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
import torch
from PIL import Image

from iddpm.data.file_format import Form
from iddpm.data.levels import to_model_range
from iddpm.data.sources.clips import Animations
from iddpm.data.sources.videos import Videos
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import Target
from iddpm.data.upscaling.whole_volumes import upscaled_affine
from iddpm.data.values import Values, natural_values
from iddpm.data.writers.clip_encoding import write_clip
from iddpm.data.writers.raster_files import write_raster


def target(channels, scale, values, **facts):
    labels = facts.pop("labels", "auto")
    return Target(channels, scale, Form(values=values, **facts), labels)


def upscaled_file(path, out, wanted):
    """Open one file, repeat its values and write it; return both and the path."""
    ((name, opened),) = open_low_res([path], wanted).items()
    x = opened.read(0, opened.count)
    upscaled = x
    for axis, factor in enumerate(wanted.scale, start=2):
        upscaled = upscaled.repeat_interleave(factor, axis)
    opened.write(upscaled, out / name)
    return x, opened, out / name


BITS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [("L", ".png", 1), ("RGB", ".tiff", 3), ("RGBA", ".PNG", 4), ("I;16", ".png", 1)],
)
def test_pictures_keep_their_mode_and_depth(tmp_path, mode, suffix, channels):
    pixels = BITS[..., 0].astype(np.uint16) * 257 if mode == "I;16" else BITS[..., :channels]
    pixels = pixels[..., 0] if mode == "L" else pixels
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    wanted = target(channels, (2, 3), natural_values(16 if mode == "I;16" else 8))
    (tmp_path / "out").mkdir()
    x, opened, path = upscaled_file(tmp_path / f"a{suffix}", tmp_path / "out", wanted)
    assert opened.shape == tuple(x.shape[1:]) == (channels, 6, 5)
    assert path.name == "a.png"
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), pixels.repeat(2, 0).repeat(3, 1))


def test_a_palette_becomes_colors_and_a_jpeg_a_png(tmp_path):
    (tmp_path / "out").mkdir()
    Image.fromarray(BITS[..., :3]).quantize(8).save(tmp_path / "a.gif")
    Image.fromarray(BITS[..., :3]).save(tmp_path / "b.jpeg")
    for name in ("a.gif", "b.jpeg"):
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        _, _, path = upscaled_file(
            tmp_path / name, tmp_path / "out", target(3, (2, 2), natural_values(8))
        )
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert np.array_equal(np.asarray(image), pixels.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Image.fromarray(BITS[..., :3]).save(p / "a.png"), "mode RGB, 3 channels, and"),
        (lambda p: Image.fromarray(BITS[..., 0].astype(np.uint16)).save(p / "a.png"), "uint16 num"),
        (lambda p: Image.fromarray(BITS[..., :2], "LA").save(p / "a.png"), "LA with transparency"),
        (lambda p: Image.new("CMYK", (4, 4)).save(p / "a.jpg"), "mode CMYK, which would be lost"),
        (
            lambda p: Image.new("L", (4, 4)).save(
                p / "a.gif", save_all=True, append_images=[Image.new("L", (4, 4), 9)]
            ),
            "holds several frames",
        ),
        (lambda p: (p / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing"), "damaged|not a pict"),
        (lambda p: np.save(p / "a.npy", BITS.astype(np.float32)), "holds floats, and the model"),
        (lambda p: np.save(p / "a.npy", np.zeros((2, 2, 2, 2, 2), np.uint8)), "has shape"),
        (lambda p: np.save(p / "a.npy", np.zeros((2, 1, 9, 1), np.uint8)), "is ambiguous"),
        (lambda p: np.savez(p / "a.npz", b=BITS, c=BITS), "holds the arrays b, c"),
        (lambda p: (p / "a.wav").write_bytes(b""), "has no file of"),
    ],
)
def test_what_a_gray_model_of_8_bits_does_not_take(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        open_low_res([tmp_path], target(1, (2, 2), natural_values(8)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("shape", "wanted_shape", "count"),
    [
        ((7, 6), (1, 7, 6), 1),
        ((5, 7, 6), (1, 7, 6), 5),
        ((1, 7, 6), (1, 7, 6), 1),
        ((7, 6, 1), (1, 7, 6), 1),
        ((5, 1, 7, 6), (1, 7, 6), 5),
        ((5, 7, 6, 1), (1, 7, 6), 5),
        ((3, 7, 6), (3, 7, 6), 1),
        ((7, 6, 3), (3, 7, 6), 1),
        ((5, 3, 7, 6), (3, 7, 6), 5),
        ((5, 7, 6, 3), (3, 7, 6), 5),
    ],
)
def test_arrays_keep_their_axes_and_dtype(tmp_path, suffix, shape, wanted_shape, count):
    (tmp_path / "out").mkdir()
    stored = np.random.default_rng(1).uniform(-1, 1, shape).astype(">f8")
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stored)
    else:
        np.savez(path, images=stored, labels=np.arange(count))
    wanted = target(wanted_shape[0], (2, 2), natural_values(None))
    x, opened, path = upscaled_file(path, tmp_path / "out", wanted)
    assert (opened.count, opened.shape) == (count, wanted_shape)
    assert x.shape == (count, *wanted_shape)
    again = np.load(path)
    if suffix == ".npz":
        assert again["labels"].tolist() == list(range(count))
        again = again["images"]
    upscaled = stored
    for axis in np.flatnonzero(np.isin(shape, (7, 6))):
        upscaled = upscaled.repeat(2, axis)
    assert again.dtype == stored.dtype
    assert np.array_equal(again, upscaled.astype(np.float32))


def test_numbers_of_a_range_come_back_in_it(tmp_path):
    (tmp_path / "out").mkdir()
    stored = np.random.default_rng(1).integers(-1000, 3095, (3, 8), dtype=np.int16)
    np.save(tmp_path / "a.npy", stored)
    wanted = target(1, (2,), Values("int16", -1000.0, 3095.0))
    x, _, path = upscaled_file(tmp_path / "a.npy", tmp_path / "out", wanted)
    assert np.array_equal(np.load(path), stored.repeat(2, 1))
    assert float(x.abs().max()) <= 1
    for other, message in (
        (stored + np.int16(2000), r"numbers in \[.*\], and the model was trained on \[-1000, 3095"),
        (stored.astype(np.int32), "holds int32 numbers, and the model was trained on int16"),
        (stored.astype(float), "holds floats, and the model was trained on int16 numbers"),
    ):
        np.save(tmp_path / "a.npy", other)
        with pytest.raises(ValueError, match=message):
            open_low_res([tmp_path / "a.npy"], wanted)
    np.save(tmp_path / "a.npy", np.full((2, 8), np.nan))
    with pytest.raises(ValueError, match=r"a\.npy holds NaN"):
        open_low_res([tmp_path / "a.npy"], target(1, (2,), natural_values(None)))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sounds_have_a_higher_rate_and_the_same_coding(tmp_path, suffix):
    (tmp_path / "out").mkdir()
    stored = np.random.default_rng(1).integers(-32768, 32767, (50, 2)).astype(np.int16)
    soundfile.write(tmp_path / f"a{suffix}", stored, 8000, subtype="PCM_16")
    whole = Values("int16", -32768.0, 32767.0)
    wanted = target(2, (3,), whole, sample_rate=24_000, kind="signal")
    _, _, path = upscaled_file(tmp_path / f"a{suffix}", tmp_path / "out", wanted)
    again, rate = soundfile.read(path, dtype="int16")
    assert (path.suffix, rate, soundfile.info(path).subtype) == (suffix, 24_000, "PCM_16")
    assert np.array_equal(again, stored.repeat(3, 0))
    with pytest.raises(ValueError, match="has 8000 Hz, and the model upscales 4000 Hz to 12000 Hz"):
        open_low_res([tmp_path], target(2, (3,), whole, sample_rate=12_000))
    with pytest.raises(ValueError, match="a sound, 2 channels, and the model takes 1 chan"):
        open_low_res([tmp_path], target(1, (3,), whole))
    soundfile.write(tmp_path / f"a{suffix}", stored, 8000, subtype="PCM_24")
    with pytest.raises(ValueError, match="holds floats, and the model was trained on int16"):
        open_low_res([tmp_path], wanted)
    upscaled_file(tmp_path / f"a{suffix}", tmp_path / "out", target(2, (3,), natural_values(None)))
    assert soundfile.info(tmp_path / f"out/a{suffix}").subtype == "PCM_24"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_volumes_fill_the_same_box(tmp_path, suffix, dtype):
    (tmp_path / "out").mkdir()
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -4], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    voxels = np.random.default_rng(1).integers(0, 1000, (4, 5, 6)).astype(dtype)
    image = nibabel.Nifti1Image(voxels, affine)
    image.header["descrip"] = b"a scan"
    image.set_qform(affine, 1)
    image.set_sform(affine, 3)
    nibabel.save(image, tmp_path / f"a{suffix}")
    values = Values(np.dtype(dtype).name, 0.0, 1023.0)
    wanted = target(1, (1, 2, 2), values, kind="volume")
    _, opened, path = upscaled_file(tmp_path / f"a{suffix}", tmp_path / "out", wanted)
    assert opened.shape == (1, 4, 5, 6)
    again = nibabel.load(path)
    assert path.name == f"a{suffix}"
    assert again.get_data_dtype() == dtype
    assert np.allclose(np.asarray(again.dataobj), voxels.repeat(2, 1).repeat(2, 2), atol=1e-3)
    assert (again.header["qform_code"], again.header["sform_code"]) == (1, 3)
    assert bytes(again.header["descrip"]).startswith(b"a scan")
    assert np.allclose(again.header.get_zooms(), np.array(image.header.get_zooms()) / (1, 2, 2))
    # The corners of the box: half a voxel beyond the middle of the outermost voxels.
    for low, high in (((-0.5, -0.5, -0.5), (-0.5,) * 3), ((3.5, 4.5, 5.5), (3.5, 9.5, 11.5))):
        assert np.allclose(affine @ [*low, 1], again.affine @ [*high, 1], atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaled_volumes_are_read_and_written_in_their_unit(tmp_path, suffix):
    (tmp_path / "out").mkdir()
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / f"a{suffix}")
    wanted = target(1, (1, 1, 2), Values("float32", -10.0, 20.0), kind="volume")
    _, _, path = upscaled_file(tmp_path / f"a{suffix}", tmp_path / "out", wanted)
    again = nibabel.load(path)
    assert (again.dataobj.slope, again.dataobj.inter) == (1, 0)
    expected = (stored * 0.5 - 10).repeat(2, 2)
    assert np.allclose(np.asarray(again.dataobj), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [("a.gif", np.uint8, 1), ("a.webp", np.uint8, 1), ("a.webp", np.uint8, 3),
     ("a.tif", np.uint16, 1), ("a.tif", np.float32, 1), ("b.webp", np.uint8, 4)],
)  # fmt: skip
def test_clips_keep_their_frames_and_take_as_long(tmp_path, name, dtype, channels):
    (tmp_path / "out").mkdir()
    clip = np.random.default_rng(1).integers(0, 256, (channels, 3, 4, 5)).astype(dtype)
    clip[:, 2] = clip[:, 1]  # equal frames stay two
    encoding = {".gif": "GIF", ".tif": "TIFF"}.get(name[1:], "WEBP")
    write_clip(tmp_path / name, clip, encoding, 80)
    values = Values("float32", 0.0, 255.0)
    if dtype != np.float32:
        values = natural_values(8 * np.dtype(dtype).itemsize)
    wanted = target(channels, (2, 1, 2), values, kind="clip")
    _, opened, path = upscaled_file(tmp_path / name, tmp_path / "out", wanted)
    assert (opened.shape, path.name) == ((channels, 3, 4, 5), name)
    again = Animations(path, channels=None if dtype == np.float32 else channels)
    stored = again.form.values.restore(
        to_model_range(again.read_box(0, (0, 0, 0), (6, 4, 10))[None], again.bits)
    )
    assert np.allclose(stored[0], clip.repeat(2, 1).repeat(2, 3), atol=1e-3)
    assert again.form.milliseconds == (None if encoding == "TIFF" else 40)
    if channels == 1:
        with pytest.raises(ValueError, match=r"a clip, . channels?, and the model takes 2"):
            open_low_res([tmp_path / name], target(2, (2, 1, 2), values))
    Image.fromarray(BITS[..., 0]).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"holds a single picture|trained on"):
        open_low_res([tmp_path / name], wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_videos_keep_their_frames_and_take_as_long(tmp_path, channels):
    (tmp_path / "out").mkdir()
    clip = np.random.default_rng(1).integers(0, 256, (channels, 3, 4, 5)).astype(np.uint8)
    write_clip(tmp_path / "a.mp4", clip, "MP4", 100 / 3)
    wanted = target(channels, (2, 1, 2), natural_values(8), kind="clip")
    _, opened, path = upscaled_file(tmp_path / "a.mp4", tmp_path / "out", wanted)
    assert (opened.shape, path.name) == ((channels, 3, 4, 5), "a.mp4")
    again = Videos(path, channels=channels)
    assert (again.read_box(0, (0, 0, 0), (6, 4, 10)) == clip.repeat(2, 1).repeat(2, 3)).all()
    assert again.form.milliseconds == pytest.approx(50 / 3, abs=1e-2)


def test_a_clip_whose_times_a_gif_cannot_keep_becomes_a_webp(tmp_path):
    write_clip(tmp_path / "a.gif", BITS.transpose(2, 0, 1)[None], "GIF", 50)
    (name,) = open_low_res([tmp_path / "a.gif"], target(1, (2, 2, 2), natural_values(8)))
    assert name == "a.webp"


def test_upscaled_voxels_lie_around_the_middle_of_the_coarse_one():
    affine = upscaled_affine(np.diag([4.0, 4, 4, 1]), (2, 4, 1))
    middles = [affine @ [i, j, 0, 1] for i in range(2) for j in range(4)]
    assert np.allclose(np.mean(middles, axis=0), [0, 0, 0, 1])
    assert np.allclose(affine[:3, :3], np.diag([2, 1, 4]))


def test_tables_keep_their_classes(tmp_path):
    (tmp_path / "out").mkdir()
    rows = np.column_stack([[2, 1, 2], np.random.default_rng(1).uniform(-1, 1, (3, 4))])
    np.savetxt(tmp_path / "a.tsv", rows, delimiter="\t")
    wanted = target(1, (2,), natural_values(None), labels="first")
    _, opened, path = upscaled_file(tmp_path / "a.tsv", tmp_path / "out", wanted)
    assert (opened.count, opened.shape) == (3, (1, 4))
    again = np.loadtxt(path, delimiter=",")
    assert again[:, -1].tolist() == [2, 1, 2]
    assert np.allclose(again[:, :-1], rows[:, 1:].repeat(2, 1), atol=1e-6)


def test_folders_keep_their_places_and_no_two_files_one_name(tmp_path):
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("a.png", "b/c/a.png", "b/d.bmp"):
        Image.fromarray(BITS[..., 0]).save(tmp_path / name)
    (tmp_path / "b/notes.md").write_text("not data")
    wanted = target(1, (2, 2), natural_values(8))
    assert list(open_low_res([tmp_path], wanted)) == ["a.png", "b/c/a.png", "b/d.png"]
    Image.fromarray(BITS[..., 0]).save(tmp_path / "b/d.tif")
    with pytest.raises(ValueError, match=r"b/d\.bmp and .*b/d\.tif would both become b/d\.png"):
        open_low_res([tmp_path], wanted)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_low_res([tmp_path / "e.png"], wanted)
    with pytest.raises(ValueError, match=r"notes\.md cannot be read for a model of 2-D data"):
        open_low_res([tmp_path / "b/notes.md"], wanted)


def test_several_items_are_read_in_parts(tmp_path):
    np.save(tmp_path / "a.npy", BITS)
    (opened,) = open_low_res([tmp_path], target(1, (2, 2), natural_values(8))).values()
    parts = [opened.read(k, k + 2) for k in range(0, 6, 2)]
    assert torch.equal(torch.cat(parts), opened.read(0, 6))


def test_what_a_model_wrote_at_the_end_of_its_range_is_taken(tmp_path):
    """As float32 it lies a rounding beyond the range that was measured."""
    wanted = target(1, (2,), Values("float32", 0.0, 0.3))
    np.save(tmp_path / "a.npy", wanted.values.restore(torch.ones(1, 8)))
    (opened,) = open_low_res([tmp_path / "a.npy"], wanted).values()
    assert torch.equal(opened.read(0, 1), torch.ones(1, 1, 8))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "float16", "float64"])
@pytest.mark.parametrize("shape", [(1, 6, 4), (3, 6, 4), (5, 6, 4), (2, 3, 6, 4)])
def test_tiffs_of_numbers_keep_their_samples_and_numbers(tmp_path, dtype, shape):
    floats = dtype.startswith("float")
    values = Values("float32", 0, 1000) if floats else Values(dtype, 0, 1023)
    x = np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)
    write_raster(
        tmp_path / "a.tif", x, Form("raster", encoding="rgb" if shape[0] == 3 else "minisblack")
    )
    scale = (2,) * (len(shape) - 1)
    (tmp_path / "out").mkdir()
    _, opened, path = upscaled_file(
        tmp_path / "a.tif", tmp_path / "out", target(shape[0], scale, values)
    )
    assert (opened.shape, path.name) == (shape, "a.tif")
    with tifffile.TiffFile(path) as file:
        found = np.stack([page.asarray() for page in file.pages])
        rgb = file.pages[0].photometric.name == "RGB"
    assert (found.dtype, rgb) == (dtype, shape[0] == 3)
    found = found[..., None] if shape[0] == 1 else found
    wanted = x if x.ndim == 4 else x[:, None]
    for axis in range(1 if x.ndim == 4 else 2, 4):
        wanted = wanted.repeat(2, axis)
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), wanted, atol=1e-3, rtol=1e-3)


def test_a_tiff_of_numbers_that_the_model_does_not_fit_is_refused(tmp_path):
    x = np.zeros((2, 3, 6, 4), np.int16)
    write_raster(tmp_path / "a.tif", x, Form("raster"))
    values = Values("int16", -32768, 32767)
    for wanted, message in (
        (target(2, (2, 2), values), "holds 3 pages, and the model takes TIFFs of one"),
        (target(1, (2, 2, 2), values), "a TIFF of 2 samples of int16 per pixel, 2 channels"),
        (target(2, (2, 2, 2), natural_values(16)), "holds int16 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            open_low_res([tmp_path / "a.tif"], wanted)

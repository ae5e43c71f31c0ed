import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iddpm.data.levels import to_model_range
from iddpm.data.sources.arrays import open_array
from iddpm.data.sources.images import ImageFolder
from iddpm.data.writers.histogram import draw_histogram
from iddpm.data.writers.image_files import save_gif, save_grid, save_images, save_npz

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def levels(shape, bits=8, seed=0):
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype)


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 4),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    bits=st.sampled_from([8, 16]),
    seed=st.integers(0, 100),
)
def test_images_come_back_exactly(n, channels, height, width, bits, seed, tmp_path_factory):
    channels = 1 if bits == 16 else channels
    stored = levels((n, channels, height, width), bits, seed)
    directory = tmp_path_factory.mktemp("images") / "new"
    paths = save_images(to_model_range(stored, bits), directory, bits=bits)
    assert [path.name for path in paths] == [f"{i:06d}.png" for i in range(n)]
    source = ImageFolder(directory, channels=channels)
    assert source.bits == bits
    assert np.array_equal(source.read_many(range(n)), stored)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_the_plain_mode(channels, tmp_path):
    (path,) = save_images(torch.zeros(1, channels, 2, 3), tmp_path, start=41)
    with Image.open(path) as image:
        assert (path.name, image.mode, image.size) == ("000041.png", MODES[channels], (3, 2))


def test_values_outside_are_clamped(tmp_path):
    (path,) = save_images(torch.tensor([[[[-9.0, 9.0]]]]), tmp_path)
    assert np.asarray(Image.open(path)).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 2, 4, 4), {}, "2 channels"),
        ((1, 3, 4, 4), {"bits": 16}, "16 bits with 3 channels"),
        ((1, 1, 4, 4), {"bits": 12}, "12 bits"),
        ((1, 4, 4), {}, r"shape \(1, 4, 4\); give \[N, C, H, W\]"),
        ((0, 1, 4, 4), {}, "none of them empty"),
        ((1, 1, 4, 4), {"suffix": ".xyz"}, "no picture suffix"),
    ],
)
def test_what_cannot_be_an_image_is_refused(shape, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_images(torch.zeros(shape), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("save", [save_grid, save_npz, save_images, save_gif])
def test_values_that_are_not_finite_are_refused(value, save, tmp_path):
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        save([x] if save is save_gif else x, tmp_path / "a.gif")


def test_integers_are_not_samples(tmp_path):
    with pytest.raises(ValueError, match=r"torch\.uint8; give floats"):
        save_grid(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), tmp_path / "a.png")


def test_a_grid_shows_every_image_enlarged(tmp_path):
    x = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 28, 28)
    path = save_grid(x, tmp_path / "new/a.png")
    image = np.asarray(Image.open(path))
    assert path == tmp_path / "new/a.png"
    assert image.shape == (2 + 2 * 58, 2 + 3 * 58)  # 28 x 2 and padding; 3 columns, 2 rows
    centers = [image[30 + 58 * row, 30 + 58 * column] for row in (0, 1) for column in (0, 1, 2)]
    assert centers == [0, 64, 128, 191, 255, 255]
    assert (image[:2] == 255).all()


def test_enlarging_repeats_pixels(tmp_path):
    stored = levels((1, 3, 4, 5))
    path = save_grid(to_model_range(stored, 8), tmp_path / "a.png", padding=0, scale=3)
    expected = stored[0].transpose(1, 2, 0).repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(np.asarray(Image.open(path)), expected)


@pytest.mark.parametrize(("columns", "shape"), [(1, (4 * 8, 8)), (4, (8, 4 * 8)), (9, (8, 4 * 8))])
def test_columns_may_be_chosen(columns, shape, tmp_path):
    path = save_grid(
        torch.zeros(4, 1, 8, 8), tmp_path / "a.png", columns=columns, padding=0, scale=1
    )
    assert np.asarray(Image.open(path)).shape == shape


def test_a_grid_lays_transparency_on_white_and_takes_the_first_of_odd_channels(tmp_path):
    clear = -torch.ones(1, 4, 2, 2)
    path = save_grid(clear, tmp_path / "a.png", scale=1)
    assert (np.asarray(Image.open(path)) == 255).all()
    two = torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), -1.0)])[None]
    image = np.asarray(Image.open(save_grid(two, tmp_path / "b.png", scale=1)))
    assert image.ndim == 2
    assert (image == 255).all()


def test_a_grid_of_signals_draws_each_channel(tmp_path):
    x = torch.stack([torch.full((50,), 0.9), torch.full((50,), -0.9)])[None]
    image = np.asarray(Image.open(save_grid(x, tmp_path / "a.png", padding=0)))
    assert image.shape == (96, 256, 3)
    drawn = (image != 240).any(axis=(1, 2))
    assert np.flatnonzero(drawn).tolist() == [5, 90]  # 1 is at the top
    assert (image[5, 100] != image[90, 100]).any()
    save_grid(torch.zeros(2, 1, 1), tmp_path / "b.png")


def test_a_grid_of_volumes_shows_the_middle_slices(tmp_path):
    stored = levels((1, 1, 5, 6, 7))
    path = save_grid(to_model_range(stored, 8), tmp_path / "a.png", padding=0, scale=1)
    image, volume = np.asarray(Image.open(path)), stored[0, 0]
    assert image.shape == (6, 7 + 1 + 7 + 1 + 6)
    assert np.array_equal(image[:, :7], volume[2])
    assert np.array_equal(image[:5, 8:15], volume[:, 3])
    assert np.array_equal(image[:5, 16:], volume[:, :, 3])


def test_a_grid_of_clips_shows_frames(tmp_path):
    stored = levels((1, 1, 11, 6, 7))
    path = save_grid(to_model_range(stored, 8), tmp_path / "a.png", padding=0, scale=1, film=True)
    image, clip = np.asarray(Image.open(path)), stored[0, 0]
    assert image.shape == (6, 6 * 8 - 1)
    for place, frame in enumerate((0, 2, 4, 6, 8, 10)):
        assert np.array_equal(image[:, 8 * place : 8 * place + 7], clip[frame])
    assert (image[:, 7::8] == 128).all()
    short = save_grid(torch.zeros(3, 3, 1, 6, 7), tmp_path / "b.png", film=True)
    assert Image.open(short).size == (2 + 2 * (7 * 9 + 2), 2 + 2 * (6 * 9 + 2))


@pytest.mark.parametrize("arguments", [{"columns": 0}, {"padding": -1}, {"scale": 0}])
def test_impossible_numbers_for_a_grid_are_refused(arguments, tmp_path):
    with pytest.raises(ValueError, match="must be positive"):
        save_grid(torch.zeros(1, 1, 4, 4), tmp_path / "a.png", **arguments)


def test_an_animation_holds_its_last_frame(tmp_path):
    frames = [torch.full((1, 1, 8, 8), value) for value in (-1.0, 0.0, 1.0)]
    path = save_gif(frames, tmp_path / "a.gif", milliseconds=50, hold=900)
    with Image.open(path) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 0)
        shown = []
        for frame in range(3):
            image.seek(frame)
            shown.append((image.info["duration"], image.convert("L").getpixel((20, 20))))
    assert shown == [(50, 0), (50, 128), (900, 255)]
    with pytest.raises(ValueError, match="at least one frame"):
        save_gif([], path)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 2, 9), "NLC"), ((3, 3, 9, 8), "NHWC"), ((3, 1, 5, 9, 8), "NDHWC")],
)
def test_arrays_come_back_exactly(bits, shape, layout, tmp_path):
    stored = levels(shape, bits)
    labels = torch.tensor([2, 0, 1])
    path = save_npz(to_model_range(stored, bits), tmp_path / "a.npz", labels=labels, bits=bits)
    source = open_array(path, layout=layout)
    assert source.bits == bits
    assert np.array_equal(source.read_many([0, 1, 2]), stored)
    assert source.labels.tolist() == [2, 0, 1]


def test_an_npz_has_the_layout_of_improved_diffusion(tmp_path):
    path = save_npz(torch.zeros(2, 3, 4, 5), tmp_path / "a.npz", labels=torch.tensor([1, 0]))
    with np.load(path) as file:
        assert file.files == ["arr_0", "arr_1"]
        assert (file["arr_0"].shape, file["arr_0"].dtype) == ((2, 4, 5, 3), np.uint8)
        assert file["arr_1"].dtype == np.int64


def test_continuous_samples_stay_floats(tmp_path):
    x = torch.rand(3, 2, 9) * 2 - 1
    source = open_array(save_npz(x, tmp_path / "a.npz", bits=None), layout="NLC")
    assert source.bits is None
    assert np.array_equal(source.read_many([0, 1, 2]), x.numpy())


def test_labels_must_fit(tmp_path):
    with pytest.raises(ValueError, match="for 2 samples"):
        save_npz(torch.zeros(2, 1, 4, 4), tmp_path / "a.npz", labels=torch.tensor([1]))


def test_samples_with_gradients_and_half_precision_are_written(tmp_path):
    x = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    save_images(x, tmp_path)
    save_grid(x, tmp_path / "a.png")
    save_npz(x, tmp_path / "a.npz", bits=None)


def test_a_small_limit_on_pictures_that_are_read_is_none_on_those_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32)
    frames = [torch.rand(2, 1, 8, 8) * 2 - 1 for _ in range(3)]
    path = save_gif(frames, tmp_path / "a.gif")
    drawn = draw_histogram(np.arange(256), (0.0, 255.0), (0.0, 255.0))
    assert Image.MAX_IMAGE_PIXELS == 32
    assert path.stat().st_size
    assert drawn.width * drawn.height > 32

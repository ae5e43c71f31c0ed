import numpy as np
import pytest
import tifffile
from PIL import Image

from iddpm.data.sources.animation import read_facts
from iddpm.data.sources.open import open_source
from iddpm.data.sources.tiff import page_axes

OME = '<?xml version="1.0"?><OME><Image><Pixels SizeC="{}" SizeZ="{}" SizeT="{}" SizeX="4"/>'


@pytest.mark.parametrize(
    ("text", "colors", "axes"),
    [
        ("", 1, {}),
        ("a note", 1, {}),
        ("ImageJ=1.53\nimages=6\nslices=6\n", 1, {"slices": 6}),
        ("ImageJ=1.53\nimages=6\nchannels=2\nframes=3\nmode=color\n", 1,
         {"channels": 2, "frames": 3}),
        (OME.format(1, 5, 1), 1, {"slices": 5}),
        (OME.format(3, 1, 5), 3, {"frames": 5}),
        (OME.format(3, 2, 5), 1, {"channels": 3, "slices": 2, "frames": 5}),
        ('{"shape": [6, 4, 5]}', 1, {"axis 0": 6}),
        ('{"shape": [2, 3, 4, 5]}', 1, {"axis 0": 2, "axis 1": 3}),
        ('{"shape": [6, 4, 5, 3]}', 3, {"axis 0": 6}),
        ('{"shape": "?', 1, {}),
    ],
)  # fmt: skip
def test_notes_tell_what_pages_run_through(text, colors, axes):
    assert page_axes(text, colors) == axes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageJ=1.53\nimages=6\nchannels=6\n", r"pages of .*a\.tif are ordered by 6 channels"),
        ("ImageJ=1.53\nimages=6\nslices=2\nframes=3\n", "2 slices x 3 frames"),
        ("ImageJ=1.53\nimages=900\nslices=900\n", "6 pages listed of 900"),
    ],
)
def test_a_stack_of_several_axes_is_refused(text, message, tmp_path):
    first, *others = [Image.fromarray(np.full((4, 5), k, np.uint8)) for k in range(6)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, description=text)
    with pytest.raises(ValueError, match=message):
        read_facts(tmp_path / "a.tif")


STACK = np.arange(144, dtype=np.uint8).reshape(3, 8, 6)
METAMORPH = (33629, 5, 4, [1] * 8, True)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate": True}, "1 page listed of 3"),
        (
            {"metadata": None, "description": "ImageJ=1.53\nimages=9\nslices=9\n"},
            "3 pages listed of 9",
        ),
        ({"metadata": None, "extratags": [METAMORPH]}, "3 pages listed of 4"),
    ],
)
def test_pages_that_no_list_names_are_missed(options, message, kind, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK.astype(kind), photometric="minisblack", **options)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_several_images_of_one_ome_file_are_no_clip(kind, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as file:
        for _ in range(2):
            file.write(STACK.astype(kind), photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(ValueError, match="holds 6 pages and its OME metadata gives the axes of 3"):
        open_source(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", STACK.astype(kind), ome=True, metadata={"axes": "TYX"})
    assert open_source(tmp_path).shape == (1, 3, 8, 6)


@pytest.mark.parametrize("suffix", ["uint8", "float32"])
def test_a_page_without_pixels_is_damaged(suffix, tmp_path):
    """Its height is another one than what it holds."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), suffix))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    at = content.index(bytes([0x01, 0x01]), 8)  # ImageLength, 257, in little endian
    assert content[at + 8] == 8
    content[at + 8] = 0
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif is damaged \(a page has no pixels"):
        open_source(tmp_path / "a.tif").read(0)


PLANES = np.random.default_rng(0).integers(0, 250, (2, 3, 8, 6))  # [C, Z, Y, X]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
def test_channels_of_microscopes_are_channels(options, kind, tmp_path):
    """As ImageJ and OME order pages, by the library that wrote them."""
    x = PLANES.astype(kind)
    axes = "ZCYX" if "imagej" in options else "CZYX"
    pages = np.moveaxis(x, 0, 1) if "imagej" in options else x
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata={"axes": axes}, **options)
    series = tifffile.TiffFile(tmp_path / "a.tif").series[0]
    expected = np.moveaxis(series.asarray(), series.axes.index("C"), 0)
    assert np.array_equal(expected, x)
    source = open_source(tmp_path)
    low, high = source.form.values.low, source.form.values.high
    assert source.shape == (2, 3, 8, 6)
    found = source.read(0)
    found = (found + 1) / 2 * (high - low) + low if source.bits is None else found
    assert np.abs(found - x).max() < 1e-3
    tifffile.imwrite(tmp_path / "a.tif", x[:, 0], metadata={"axes": "CYX"}, **options)
    assert open_source(tmp_path).shape == (2, 8, 6)


@pytest.mark.parametrize("order", ["XYCZT", "XYZCT", "XYTZC", "XYCTZ"])
def test_the_order_of_pages_that_ome_states(order, tmp_path):
    x = PLANES.astype(np.uint8)
    fast = [letter for letter in order[2:] if letter in "CZ"]
    pages = x.reshape(6, 8, 6) if fast == ["Z", "C"] else np.moveaxis(x, 0, 1).reshape(6, 8, 6)
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint8" '
        'SizeX="6" SizeY="8" SizeC="2" SizeZ="3" SizeT="1"><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata=None, description=text,
                     photometric="minisblack")  # fmt: skip
    series = tifffile.TiffFile(tmp_path / "a.tif").series[0]
    assert np.array_equal(np.moveaxis(series.asarray(), series.axes.index("C"), 0), x)
    assert np.array_equal(open_source(tmp_path).read(0), x)

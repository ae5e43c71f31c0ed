import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.animation import read_facts
from iddpm.data.sources.tiff import page_axes, promised_pages

OME = '<?xml version="1.0"?><OME><Image><Pixels SizeC="{}" SizeZ="{}" SizeT="{}" SizeX="4"/>'


@pytest.mark.parametrize(
    ("text", "colours", "axes"),
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
def test_notes_tell_what_pages_run_through(text, colours, axes):
    assert page_axes(text, colours) == axes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageJ=1.53\nimages=6\nchannels=6\n", r"pages of .*a\.tif run through 6 channels"),
        ("ImageJ=1.53\nimages=6\nslices=2\nframes=3\n", "2 slices x 3 frames"),
        ("ImageJ=1.53\nimages=900\nslices=900\n", "6 pages listed of 900"),
    ],
)
def test_a_stack_of_several_axes_is_refused(text, message, tmp_path):
    first, *others = [Image.fromarray(np.full((4, 5), k, np.uint8)) for k in range(6)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, description=text)
    with pytest.raises(ValueError, match=message):
        read_facts(tmp_path / "a.tif")
    assert promised_pages(text) >= 6

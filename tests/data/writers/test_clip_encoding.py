import io

import numpy as np
import pytest
from PIL import Image

from iddpm.data.writers.clip_encoding import write_clip


@pytest.mark.parametrize(("encoding", "channels"), [("GIF", 1), ("WEBP", 1), ("WEBP", 3)])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (40, 33)])
def test_other_readers_see_each_frame_for_its_time(tmp_path, encoding, channels, size):
    clip = np.random.default_rng(0).integers(0, 256, (channels, 4, *size), dtype=np.uint8)
    clip[:, 2] = clip[:, 1]
    write_clip(tmp_path / "a", clip, encoding, 130)
    with Image.open(tmp_path / "a") as image:
        assert (image.format, image.n_frames, image.info["loop"]) == (encoding, 4, 0)
        for number in range(4):
            image.seek(number)
            seen = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            assert image.info["duration"] == 130
            assert (seen == clip[:, number]).all()


def test_pages_of_a_tiff_are_plain(tmp_path):
    clip = np.random.default_rng(0).integers(0, 65536, (1, 3, 4, 5), dtype=np.uint16)
    write_clip(tmp_path / "a", clip, "TIFF", None)
    with Image.open(io.BytesIO((tmp_path / "a").read_bytes())) as image:
        assert (image.n_frames, image.mode, image.info["compression"]) == (3, "I;16", "raw")

"""Animated PNG against FFmpeg, whose frames are composed as the specification says."""

import av
import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)


def frames(soft):
    """Frames [T, H, W, 4] of a block that moves, and of a corner that is half transparent."""
    x = np.zeros((5, 24, 30, 4), np.uint8)
    for k in range(5):
        x[k, 4 + k : 12 + k, 3 + 2 * k : 15 + 2 * k] = [200, 40 * k, 90, 255]
        x[k, :3, :3, :3] = RANDOM.integers(0, 256, (3, 3, 3))
        x[k, :3, :3, 3] = RANDOM.integers(1, 255, (3, 3)) if soft else 255
    return x


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_every_way_to_draw_and_to_clear_a_frame(soft, blend, disposal, tmp_path):
    path = tmp_path / "a.png"
    first, *others = map(Image.fromarray, frames(soft))
    first.save(path, save_all=True, append_images=others, disposal=disposal, blend=blend,
               duration=70)  # fmt: skip
    with av.open(str(path)) as container:
        wanted = np.stack([f.to_ndarray(format="rgba") for f in container.decode(video=0)])
    source = open_source(path, channels=4)
    assert (source.form.milliseconds, source.shape) == (70, (4, 5, 24, 30))
    read = np.moveaxis(source.read(0), 0, -1).astype(int)
    assert np.abs(read[..., 3] - wanted[..., 3]).max() <= 1
    seen = (read - wanted.astype(int))[..., :3] * (wanted[..., 3:] / 255)  # where it is opaque
    assert np.abs(seen).max() <= 2
    window = open_source(path, channels=4, window=(2, 24, 30))
    assert (np.moveaxis(window.read(1), 0, -1) == read[2:4]).all()


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_a_truncated_one_is_refused(kept, tmp_path):
    path = tmp_path / "a.png"
    first, *others = map(Image.fromarray, frames(True))
    first.save(path, save_all=True, append_images=others)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"a\.png is (truncated|damaged|not a|a \.png)"):
        open_source(path).read(0)

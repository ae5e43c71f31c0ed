"""Settings of data that do not apply to its kind are refused."""

from pathlib import Path

import numpy as np
import pytest

from iddpm.builders.data_facts import form_of, open_data
from iddpm.config import read_config


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sample_rate=8000", "sample_rate=8000"),
        ("stride=2", "set data.window too"),
    ],
)
def test_settings_of_other_kinds_are_refused(tmp_path: Path, setting: str, said: str) -> None:
    path = tmp_path / "items.npy"
    np.save(path, np.zeros((6, 8, 8, 1), np.uint8))
    plain = [f"data.path={path}", "data.layout=NHWC"]
    assert open_data(read_config(None, plain)).shape == (1, 8, 8)
    with pytest.raises(ValueError, match=said):
        open_data(read_config(None, [*plain, f"data.{setting}"]))


@pytest.mark.parametrize("setting", ["image_size=4", "channels=1"])
def test_a_table_has_no_size_or_channels_to_set(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "series.csv"
    rows = np.linspace(-1, 1, 48).reshape(6, 8)
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    with pytest.raises(ValueError, match=r"image_size|channels"):
        open_data(read_config(None, [f"data.path={path}", f"data.{setting}", "data.labels=none"]))


def test_an_unknown_kind_of_files_is_refused_by_name() -> None:
    assert form_of(read_config(None, ["form.kind=volume"])).kind == "volume"
    with pytest.raises(ValueError, match=r"form\.kind=sculpture is unknown: use .*volume"):
        form_of(read_config(None, ["form.kind=sculpture"]))

"""Series in the .ts format of the UEA and UCR archives."""

import numpy as np
import pytest

from iddpm.data.sources.open import open_source

HEAD = """# a comment
@problemName Example
@timeStamps {times}
@missing false
@univariate {univariate}
@dimensions 2
@equalLength true
@seriesLength 3
@classLabel {labels}
@data
"""


def write(path, lines, labels="true walk run", times="false", head=HEAD):
    text = head.format(times=times, labels=labels, univariate="true") + "\n".join(lines) + "\n"
    (path / "a.ts").write_text(text)
    return path / "a.ts"


def numbers(source, index):
    low, high = source.form.values.low, source.form.values.high
    return (source.read(index).astype(np.float64) + 1) / 2 * (high - low) + low


def test_channels_and_classes(tmp_path):
    source = open_source(write(tmp_path, ["1,2,3:4,5,-6:walk", "7,8,9.5:1e1,0,1:run"]))
    assert (source.shape, source.class_names) == ((2, 3), ("run", "walk"))
    assert list(source.labels) == [1, 0]
    assert np.abs(numbers(source, 1) - [[7, 8, 9.5], [10, 0, 1]]).max() < 1e-5
    assert open_source(tmp_path / "a.ts", labels="none").labels is None
    without = open_source(write(tmp_path, ["1,2,3:4,5,6", "7,8,9:1,2,3"], labels="false"))
    assert (without.shape, without.labels) == ((2, 3), None)


def test_unequal_lengths_are_cut_into_windows(tmp_path):
    path = write(tmp_path, ["1,2,3,4,5:walk", "6,7:run", "8,9,10,11:walk"])
    with pytest.raises(ValueError, match="holds 3 sizes"):
        open_source(path)
    source = open_source(path, window=2)
    assert [source.group(k) for k in range(len(source))] == ["0", "0", "1", "2", "2"]
    assert list(source.labels) == [1, 1, 0, 1, 1]
    assert np.abs(numbers(source, 4) - [[10, 11]]).max() < 1e-5


def test_missing_numbers_are_filled(tmp_path):
    path = write(tmp_path, ["1,?,3:walk", "4,NaN,6:run"])
    with pytest.raises(ValueError, match=r"NaN or infinity, first in item 0.*data\.fill"):
        open_source(path)
    with pytest.warns(UserWarning, match="2 of 6 numbers are NaN"):
        source = open_source(path, fill=2.0)
    assert np.abs(numbers(source, 1) - [[4, 2, 6]]).max() < 1e-5


def test_numbers_that_are_to_be_predicted_are_no_classes(tmp_path):
    head = HEAD.replace("@classLabel {labels}", "@targetlabel true")
    source = open_source(write(tmp_path, ["1,2,3:0.25", "4,5,6:0.5"], head=head))
    assert (source.shape, source.labels) == ((1, 3), None)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (["1,2,3:walk", "1,2,x:run"], {}, r"line 12, channel 1: could not convert.*'x'"),
        (["1,2,3:walk", "1,2"], {}, r"line 12 ends with '1,2', which is none of the classes"),
        (["1,2,3:4,5:walk"], {}, r"channels of several lengths \(3, 2\)"),
        (["1,2:3,4:walk", "1,2:run"], {}, "has 1 channels and the first 2"),
        (["(0,1),(1,2):walk"], {"times": "true"}, "time stamps are not read"),
        ([], {}, "holds no series"),
    ],
)
def test_lines_that_do_not_follow_the_format(tmp_path, lines, settings, message):
    with pytest.raises(ValueError, match=message):
        open_source(write(tmp_path, lines, **settings))


@pytest.mark.parametrize("text", ["", "@problemName x\n", "1,2,3\n", "\x00\xff\n"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "a.ts").write_text(text)
    with pytest.raises(ValueError, match=r"no \.ts file"):
        open_source(tmp_path / "a.ts")

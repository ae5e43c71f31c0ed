import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from iddpm.data.levels import to_model_range
from iddpm.data.values import array_chunks, find_values, natural_values, range_hint


def found(array, wanted=None):
    return find_values(
        "a", array.dtype, wanted, array.nbytes, lambda whole: array_chunks(array, 64, None)
    )


def there_and_back(values, array):
    levels = values.read(array, "a", range(len(array)))
    assert levels.dtype in (np.uint8, np.uint16, np.float32)
    x = to_model_range(levels, values.bits)
    assert x.abs().max() <= 1
    return values.restore(x)


@given(
    st.sampled_from(
        ["int8", "uint8", "int16", "uint16", ">i2", "int32", "uint32", "int64"]
    ).flatmap(
        lambda dtype: npst.arrays(
            dtype,
            (3, 5),
            elements=st.integers(
                max(int(np.iinfo(dtype).min), -(2**15)), min(int(np.iinfo(dtype).max), 2**15 - 1)
            ),
        )
    )
)
def test_integers_come_back_bit_for_bit(array):
    values = found(array, "auto")
    back = there_and_back(values, array)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(back, array)
    assert values.high - values.low + 1 == 2**values.bits
    limits = np.iinfo(array.dtype)
    assert limits.min <= values.low <= values.high <= limits.max  # every level can be written
    span = int(array.max()) - int(array.min())
    assert 2 ** (values.bits - 1) <= max(span, 1)  # no bit too many


@given(npst.arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_come_back_but_for_rounding(array):
    if array.min() == array.max():
        return
    values = found(array, "auto")
    assert (values.low, values.high, values.bits) == (array.min(), array.max(), None)
    back = there_and_back(values, array)
    assert back.dtype == np.float32
    assert np.allclose(back, array, atol=2e-7 * (array.max() - array.min()), rtol=2e-7)


@given(npst.arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6), unique=True))
def test_what_was_written_at_the_ends_of_a_range_is_read_by_it(array):
    values = found(array, "auto")
    written = values.restore(torch.tensor([[-1.0, 1.0]]))  # may round out of the range
    assert np.abs(values.read(written, "b", [0])).max() <= 1
    beyond = written + np.float32([-3, 3]) * np.spacing(np.abs(written).max())
    with pytest.raises(ValueError, match="wider"):
        values.read(beyond, "c", [0])


@pytest.mark.parametrize(
    ("dtype", "low", "high", "levels"),
    [
        ("uint16", 3, 4001, (0, 4095)),  # a scanner of 12 bits
        ("int16", -1024, 2900, (-1024, 3071)),  # Hounsfield units
        ("int16", -9000, 8000, (-16384, 16383)),  # a wave around zero
        ("int16", 100, 32767, (0, 32767)),
        ("uint8", 0, 1, (0, 1)),  # a mask
        ("uint8", 7, 7, (7, 8)),
        ("int32", 70_000, 70_100, (70_000, 70_127)),
    ],
)
def test_a_measured_range_is_one_that_a_person_would_state(dtype, low, high, levels):
    values = found(np.array([[low], [high]], dtype), "auto")
    assert (values.low, values.high) == levels


def test_known_ranges_are_not_looked_for():
    def never(whole):
        raise AssertionError

    for dtype, bits in (("uint8", 8), (">u2", 16)):
        values = find_values("a", np.dtype(dtype), None, 1 << 50, never)
        assert values == natural_values(bits)
        assert values.natural


def test_floats_in_the_models_range_stay_as_they_are():
    array = np.array([[-0.5, 0.25]])
    values = found(array)
    assert values.natural
    assert np.array_equal(values.read(array, "a", [0]), array.astype(np.float32))
    outside = torch.tensor([1.25])
    assert torch.equal(torch.from_numpy(values.restore(outside)), outside)


@pytest.mark.parametrize(
    ("array", "wanted", "message"),
    [
        (np.array([[0, 5]], "int16"), (0, 2), r"power of two, such as \[0, 3\] \(2 bits\)"),
        (np.array([[0, 5]], "int16"), (0.5, 1.5), "power of two"),
        (np.array([[0, 5]], "int32"), (0, 2**17 - 1), r"\[0, 65535\] \(16 bits\)"),
        (np.array([[0, 5]], "int8"), (0, 255), "exceeds the int8"),
        (np.array([[0, 5]], "int16"), (0, 3), r"integers in \[0, 5\].*\[0, 3\]: set a wider"),
        (np.array([[0, 5.5]]), (0, 3), r"floats in \[0, 5.5\].*data.range=auto"),
        (np.array([[0, np.nan]]), (0, 3), "first in item 0"),
        (np.array([[0, 70_000]]), None, "more than 16 bits"),
        (np.array([[5.0, 5.0]]), None, "holds only 5"),
    ],
)
def test_what_does_not_fit_is_refused(array, wanted, message):
    with pytest.raises(ValueError, match=message):
        found(array, wanted)


def test_what_is_read_later_is_checked_then():
    values = found(np.array([[0, 5]], "int16"), (0, 7))
    with pytest.raises(ValueError, match=r"\[0, 8\]"):
        values.read(np.array([[0, 8]], "int16"), "a", [3])


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1])
def test_floats_of_tiny_scale_are_warned_of(scale):
    with pytest.warns(UserWarning, match=r"percent of the range.*data\.range=auto"):
        found(np.linspace(-scale, scale, 24).reshape(3, 8))


@pytest.mark.parametrize("high", [1.0, 0.9, 0.3])
def test_floats_in_half_of_the_range_are_warned_of(high):
    with pytest.warns(UserWarning, match=r"half of \[-1, 1\].*data\.range=\[0,1\]"):
        found(np.linspace(0, high, 24).reshape(3, 8))


@pytest.mark.parametrize(
    ("bits", "highest", "warns"),
    [(16, 4095, True), (16, 16383, False), (8, 3, True), (8, 255, False), (8, 100, False)],
)
def test_integers_that_use_a_sliver_of_their_depth_have_a_hint(bits, highest, warns):
    hint = range_hint(natural_values(bits), 0, highest)
    assert (hint is not None) == warns

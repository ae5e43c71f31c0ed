"""WFDB records, held against the wfdb library that wrote them."""

import warnings

import numpy as np
import pytest
import scipy.io
import wfdb

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
SIGNALS = RANDOM.normal(0, 1, (400, 2))


def write(path, name, signals=SIGNALS, fmt=("16", "16"), fs=250, **options):
    wfdb.wrsamp(name, fs=fs, units=["mV", "mmHg"], sig_name=["MLII", "ABP"], p_signal=signals,
                fmt=list(fmt), write_dir=str(path), **options)  # fmt: skip


def physical(source, index=0):
    low, high = source.form.values.low, source.form.values.high
    return (source.read(index).astype(np.float64) + 1) / 2 * (high - low) + low


@pytest.mark.parametrize("fmt", ["16", "212", "80", "32", "24"])
def test_physical_numbers_by_gain_and_baseline(tmp_path, fmt):
    for name in ("a", "b"):
        write(tmp_path, name, SIGNALS * (1 if name == "a" else 2), (fmt, fmt))
    (tmp_path / "a.atr").write_bytes(b"")
    source = open_source(tmp_path)
    assert (source.shape, source.key(1)) == ((2, 400), "b.hea")
    assert np.abs(physical(source, 1) - wfdb.rdrecord(str(tmp_path / "b")).p_signal.T).max() < 1e-5
    form = source.form
    facts = (form.sample_rate, form.channel_names, form.units)
    assert facts == (250, ("MLII", "ABP"), ("mV", "mmHg"))
    windows = open_source(tmp_path, window=100, column="ABP")
    assert windows.shape == (1, 100)
    assert np.abs(physical(windows, 5) - wfdb.rdrecord(str(tmp_path / "b")).p_signal.T[1:, 100:200]
                  ).max() < 1e-5  # fmt: skip


def test_missing_samples_are_nan(tmp_path):
    signals = SIGNALS.copy()
    signals[5:9, 1] = np.nan
    write(tmp_path, "a", signals)
    with pytest.raises(ValueError, match="NaN"):
        open_source(tmp_path / "a.hea")
    with pytest.warns(UserWarning, match="4 of 800 numbers are NaN and read as 0"):
        source = open_source(tmp_path / "a.hea", fill=0.0)
    assert np.abs(physical(source)[1, 5:9]).max() < 1e-5


def test_segments_of_a_record(tmp_path):
    for k in range(3):
        write(tmp_path, f"seg{k}", SIGNALS[100 * k : 100 * k + 100], fmt=("16", "16"),
              adc_gain=[1000, 1000], baseline=[0, 0])  # fmt: skip
    (tmp_path / "all.hea").write_text("all/3 2 250 300\nseg0 100\nseg1 100\nseg2 100\n")
    source = open_source(tmp_path / "all.hea", window=150)
    expected = wfdb.rdrecord(str(tmp_path / "all")).p_signal.T
    assert np.abs(physical(source, 1) - expected[:, 150:]).max() < 1e-5
    assert [open_source(tmp_path).key(0)] == ["all.hea"]


def test_records_whose_segments_hold_several_signals_and_gaps(tmp_path):
    """As monitors write them: a layout, segments with some of its signals, and gaps."""
    for k, count in enumerate((100, 80, 60)):
        write(tmp_path, f"s{k}", SIGNALS[:count])
    layout = (
        "lay 3 250 0\n~ 0 1/mV 0 0 0 0 0 MLII\n~ 0 1/mV 0 0 0 0 0 V\n~ 0 1/mmHg 0 0 0 0 0 ABP\n"
    )
    (tmp_path / "lay.hea").write_text(layout)
    (tmp_path / "all.hea").write_text("all/5 3 250 290\nlay 0\ns0 100\ns1 80\n~ 50\ns2 60\n")
    expected = wfdb.rdrecord(str(tmp_path / "all")).p_signal.T
    assert np.isnan(expected[1]).all()
    with pytest.warns(UserWarning, match="100 of 580 numbers are NaN"):
        source = open_source(tmp_path, column="ABP,MLII", fill=0.5)
    assert (len(source), source.form.units) == (1, ("mmHg", "mV"))
    assert np.abs(physical(source) - np.nan_to_num(expected[[2, 0]], nan=0.5)).max() < 1e-5


@pytest.mark.parametrize("count", [1, 4])
def test_the_record_of_a_challenge(tmp_path, count):
    """A header beside a MATLAB file with its samples after 24 bytes."""
    x = (SIGNALS * 300).astype(np.int16).T
    for k in range(count):
        scipy.io.savemat(tmp_path / f"A{k}.mat", {"val": x}, format="4")
        lines = [f"A{k} 2 500 400 12-May-2020 12:33:59"]
        lines += [f"A{k}.mat 16+24 1000/mV 16 0 0 0 0 {name}" for name in ("I", "II")]
        (tmp_path / f"A{k}.hea").write_text("\n".join([*lines, "#Age: 74", "#Dx: 59118001"]) + "\n")
    (tmp_path / "RECORDS").write_text("".join(f"A{k}\n" for k in range(count)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is skipped
        source = open_source(tmp_path)
    assert (len(source), source.form.channel_names) == (count, ("I", "II"))
    assert np.abs(physical(source) - x / 1000).max() < 1e-6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.dat", "../a.dat", r"a\.hea is not a WFDB header .*invalid syntax"),
        ("a.dat", "gone.dat", r"a\.hea is damaged \(.*gone\.dat"),
        ("250 400", "250 4000000000", "a.hea"),
        ("a 2 250", "a 900000000 250", "a.hea"),
        ("a 2 250", "a x 250", "a.hea is not a WFDB header"),
    ],
)
def test_hostile_headers(tmp_path, old, new, message):
    write(tmp_path, "a")
    text = (tmp_path / "a.hea").read_text()
    assert old in text, text
    (tmp_path / "a.hea").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        open_source(tmp_path / "a.hea")
    assert "\n" not in str(caught.value)


def test_a_truncated_record_is_left_out(tmp_path):
    for name in "abc":
        write(tmp_path, name)
    content = (tmp_path / "b.dat").read_bytes()
    (tmp_path / "b.dat").write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"b\.hea is"):
        open_source(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 files .*b\.hea"):
        assert len(open_source(tmp_path, corrupt="skip")) == 2

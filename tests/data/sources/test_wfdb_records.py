"""WFDB records, held against the wfdb library that wrote them."""

import numpy as np
import pytest
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

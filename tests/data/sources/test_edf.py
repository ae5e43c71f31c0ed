"""EDF and BDF recordings, held against pyedflib and written back as such."""

import numpy as np
import pyedflib
import pytest
import torch

from iddpm.data.file_format import Form
from iddpm.data.sources.open import open_source
from iddpm.data.values import Values
from iddpm.data.writers.data_files import save_files

RANDOM = np.random.default_rng(0)
SIGNALS = RANDOM.normal(0, 50, (3, 500))
NAMES, UNITS = ("Fpz-Cz", "EOG", "SpO2"), ("uV", "uV", "%")


def write(path, signals=SIGNALS, rates=(100, 100, 100), names=NAMES, annotated=False):
    kind = pyedflib.FILETYPE_BDFPLUS if path.suffix == ".bdf" else pyedflib.FILETYPE_EDFPLUS
    most = 8388607 if path.suffix == ".bdf" else 32767
    with pyedflib.EdfWriter(str(path), len(signals), file_type=kind) as file:
        for k, (name, unit, rate) in enumerate(zip(names, UNITS, rates, strict=True)):
            file.setSignalHeader(k, {
                "label": name, "dimension": unit, "sample_frequency": rate, "physical_min": -400,
                "physical_max": 400 + k, "digital_min": -most - 1, "digital_max": most,
                "transducer": "", "prefilter": "",
            })  # fmt: skip
        file.writeSamples([np.ascontiguousarray(x[: 5 * r]) for x, r in
                           zip(signals, rates, strict=True)])  # fmt: skip
        if annotated:
            file.writeAnnotation(1.5, 0.5, "spindle")


def physical(source, index=0):
    low, high = source.form.values.low, source.form.values.high
    return (source.read(index).astype(np.float64) + 1) / 2 * (high - low) + low


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_physical_numbers_with_names_and_units(tmp_path, suffix):
    for folder in ("wake", "sleep"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / f"a{suffix}", annotated=folder == "wake")
    source = open_source(tmp_path)
    assert (source.shape, source.class_names) == ((3, 500), ("sleep", "wake"))
    with pyedflib.EdfReader(str(tmp_path / f"wake/a{suffix}")) as file:
        expected = np.stack([file.readSignal(k) for k in range(3)])
    assert np.abs(physical(source, 1) - expected).max() < 1e-4
    assert np.abs(expected - SIGNALS).max() < 800 / 65535
    form = source.form
    assert (form.sample_rate, form.channel_names, form.units) == (100, NAMES, UNITS)
    windows = open_source(tmp_path, window=200, column="SpO2,Fpz-Cz")
    assert (len(windows), windows.form.channel_names) == (4, ("SpO2", "Fpz-Cz"))
    assert np.abs(physical(windows, 3) - expected[[2, 0], 200:400]).max() < 1e-4


def test_signals_of_several_rates_are_selected(tmp_path):
    write(tmp_path / "a.edf", rates=(100, 100, 1))
    with pytest.raises(ValueError, match=r"SpO2 1 Hz\).*-s 'data\.column=Fpz-Cz,EOG'"):
        open_source(tmp_path)
    assert open_source(tmp_path, column="Fpz-Cz,EOG").shape == (2, 500)
    slow = open_source(tmp_path, column="SpO2")
    assert (slow.shape, slow.form.sample_rate) == ((1, 5), 1)
    with pytest.raises(ValueError, match=r"holds no signal 'EMG': name signals of it.*Fpz-Cz"):
        open_source(tmp_path, column="EMG")


def test_recordings_that_differ_are_refused(tmp_path):
    write(tmp_path / "a.edf")
    write(tmp_path / "b.edf", rates=(50, 50, 50))
    with pytest.raises(ValueError, match=r"differ in sampling rate \(Hz\): 100.0 and 50.0"):
        open_source(tmp_path)
    write(tmp_path / "b.edf", names=("Pz-Oz", "EOG", "SpO2"))
    with pytest.raises(ValueError, match="differ in signals: Fpz-Cz, EOG, SpO2 and Pz-Oz"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"sampled at 100 Hz, and data\.sample_rate=200"):
        open_source(tmp_path / "a.edf", sample_rate=200)
    with pytest.raises(ValueError, match=r"holds 3 signals, and data\.channels=1"):
        open_source(tmp_path / "a.edf", channels=1)


@pytest.mark.parametrize("kept", [0, 0.05, 0.5, 0.99])
def test_damaged_recordings_are_left_out(tmp_path, capfd, kept):
    for k in range(3):
        write(tmp_path / f"{k}.edf")
    content = (tmp_path / "1.edf").read_bytes()
    (tmp_path / "1.edf").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"1\.edf is (truncated|not an EDF)") as caught:
        open_source(tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""  # where the library prints what it also raises
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 files .*1\.edf"):
        assert len(open_source(tmp_path, corrupt="skip")) == 2


@pytest.mark.parametrize(("rate", "length"), [(100, 500), (256, 256), (0.5, 7), (250, 333)])
def test_samples_are_written_as_edf(tmp_path, rate, length):
    form = Form("signal", Values("float32", -123.456, 1234.56), sample_rate=rate, container="EDF",
                channel_names=("a", "b"), units=("mV", "mmHg"))  # fmt: skip
    x = torch.linspace(-1, 1, 2 * length).reshape(1, 2, length)
    (path,) = save_files(x, tmp_path / "out", form)
    assert path.suffix == ".edf"
    source = open_source(path)
    assert (source.form.sample_rate, source.shape) == (rate, (2, length))
    assert (source.form.channel_names, source.form.units) == (("a", "b"), ("mV", "mmHg"))
    found, expected = physical(source), form.values.restore(x)[0]
    assert np.abs(found - expected).max() < 2 * 1400 / 65535  # at the ends a level more

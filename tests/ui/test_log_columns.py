"""The log as columns: read once, read on, thinned without losing an extreme."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iddpm.training.monitoring.log_files import COLUMNS, read_log
from iddpm.ui.log_columns import RECENT, LogColumns, moving_average, thinned
from tests.ui.conftest import record_line


def expected(directory, name):
    return np.array([r.get(name, np.nan) for r in read_log(directory)], dtype=float)


@pytest.mark.filterwarnings("ignore:.*without a record")
def test_a_log_that_grows_is_the_same_as_one_that_is_read_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    log = LogColumns(tmp_path)
    log.update()
    assert log.count == 0
    with path.open("w") as file:
        for k in range(1, 201):
            file.write(record_line(k))
            if k % 37 == 0:  # also in the middle of a line, and around one that is none
                file.write('{"step": "x"}\nnonsense\n{"step": 5, "loss"')
                file.flush()
                log.update()
                file.write(': "text"}\n')
    log.update()
    for name in COLUMNS:
        np.testing.assert_array_equal(log.column(name), expected(tmp_path, name))
    whole = read_log(tmp_path)
    assert log.records()[-RECENT:] == whole[-RECENT:]
    held_out = [r["held_out_loss"] for r in log.records() if "held_out_loss" in r]
    assert held_out == [r["held_out_loss"] for r in whole if "held_out_loss" in r]


def test_a_log_that_was_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(map(record_line, range(1, 50))))
    log = LogColumns(tmp_path)
    log.update()
    new = tmp_path / "new"
    new.write_text("".join(map(record_line, range(1, 80))))
    new.replace(path)  # a run that goes on keeps what is before its checkpoint
    log.update()
    assert log.count == 79
    path.write_text("".join(map(record_line, range(1, 5))))
    log.update()
    assert log.count == 4
    path.unlink()
    log.update()
    assert log.count == 0


def test_only_the_new_part_is_parsed(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(map(record_line, range(1, 1000))))
    log = LogColumns(tmp_path)
    log.update()
    seen = []
    take = LogColumns._take
    monkeypatch.setattr(
        LogColumns, "_take", lambda self, records: (seen.append(len(records)), take(self, records))
    )
    log.update()
    with path.open("a") as file:
        file.write(record_line(1000))
    log.update()
    assert seen == [1]
    assert log.count == 1000


values = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=300)


@given(values, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_no_extreme_is_lost(column, points):
    column = np.array(column)
    steps = np.arange(len(column), dtype=float) * 3
    x, (thin,) = thinned(steps, [column], points)
    assert len(x) == len(thin) <= max(2 * points, len(column) if len(column) <= 2 * points else 0)
    assert (np.diff(x) >= 0).all()
    if np.isfinite(column).any():
        assert np.nanmin(thin) == np.nanmin(column)
        assert np.nanmax(thin) == np.nanmax(column)
    else:
        assert np.isnan(thin).all()
    assert set(thin[np.isfinite(thin)]) <= set(column[np.isfinite(column)])


@given(values, st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_the_moving_average_is_that_of_the_last_known_values(column, width):
    smooth = moving_average(np.array(column), width)
    known = []
    for value, mean in zip(column, smooth, strict=True):
        if np.isnan(value):
            assert np.isnan(mean)
            continue
        known.append(value)
        np.testing.assert_allclose(mean, np.mean(known[-width:]), rtol=1e-9, atol=1e-6)


def test_lines_of_other_json_are_left_out(tmp_path):
    lines = [
        '{"step": 1, "loss": 1.0}',
        "[1]",
        '{"step": true}',
        '{"step": 2, "loss": "x"}',
        '{"step": 3, "loss": NaN}',
        '{"step": 4}, {"step": 5}',
        "[" * 5000,
        f'{{"step": 6, "loss": {10**400}}}',
        f'{{"step": {10**400}}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    log = LogColumns(tmp_path)
    log.update()
    assert [int(v) for v in log.column("step")] == [1, 3]
    assert json.dumps(log.records()[0]) == lines[0]

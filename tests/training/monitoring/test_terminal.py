import io
import math

from rich.console import Console

from iddpm.training.monitoring.terminal import TerminalReporter

RECORD = {
    "step": 10,
    "loss": 0.5,
    "loss_q0": 0.125,
    "loss_q3": 2.0,
    "held_out_loss": math.nan,
    "gradient_norm": 1.5,
    "items_per_second": 100.0,
    "data_wait_share": 0.01,
    "memory_mb": 512.3,
    "skipped": 0,
}


def report(terminal: bool) -> str:
    file = io.StringIO()
    reporter = TerminalReporter(Console(file=file, force_terminal=terminal, width=200))
    reporter.start(0, 100)
    reporter.advance(10)
    reporter.record(RECORD)
    reporter.record(RECORD | {"step": 20, "skipped": 2, "data_wait_share": 0.25})
    reporter.close()
    return file.getvalue()


def test_lines_in_a_pipe_stay_plain():
    text = report(terminal=False)
    assert "\x1b" not in text
    first, second = text.splitlines()
    assert first.startswith(
        "step 10/100  loss 0.5000  by quarter 0.125 - - 2.000  held-out nan  grad 1.500"
    )
    assert first.endswith("left")
    assert "100 items/s  512 MB" in first
    assert "skipped" not in first
    assert "skipped 2" in second
    assert "waiting for data 25%" in second


def test_a_silence_without_a_bar_ends_with_the_pace(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    file = io.StringIO()
    reporter = TerminalReporter(Console(file=file, width=200))
    reporter.limit = 120.0
    reporter.start(0, 100)
    for step in range(1, 13):
        clock[0] = 10.0 * step
        reporter.advance(step)
    reporter.record({"step": 12})
    assert file.getvalue().splitlines() == [
        "step 2/100  10.0 s per step  16m20s left, stops in 1m40s",
        "step 6/100  10.0 s per step  15m40s left, stops in 1m00s",
        "step 12/100  14m40s left",
    ]


def test_the_distance_of_a_distilled_run_is_called_so():
    file = io.StringIO()
    reporter = TerminalReporter(Console(file=file, width=200))
    reporter.start(0, 10)
    reporter.record({"step": 10, "held_out_loss": 12.5, "frechet_1": 15.0, "frechet_2": 10.0})
    assert file.getvalue() == "step 10/10  Frechet distance 12.5000\n"


def test_a_terminal_gets_a_bar():
    text = report(terminal=True)
    assert "\x1b" in text
    assert "training" in text
    assert "grad" in text

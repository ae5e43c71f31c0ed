"""The check of a GPU: it says where there is none, reports what fails, and runs on a CPU."""

import json
import time

import pytest
import torch

from benchmarks.gpu_check.__main__ import SECTIONS, main
from benchmarks.gpu_check.outcomes import Machine, Skipped, markdown, perform


def test_without_a_gpu_one_sentence_and_status_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "report")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "finds no GPU here" in said
    assert list(tmp_path.iterdir()) == []


def test_a_section_that_fails_is_reported_and_the_others_go_on(tmp_path):
    def fails(machine):
        raise RuntimeError("a kernel is missing\nand more")

    def skips(machine):
        raise Skipped("no meaning here")

    machine = Machine(torch.device("cpu"), True, tmp_path, time.monotonic() + 60)
    late = Machine(torch.device("cpu"), True, tmp_path, time.monotonic())
    outcomes = [perform("a", fails, machine), perform("b", skips, machine),
                perform("c", lambda machine: {"share": 0.123456}, machine),
                perform("d", fails, late)]  # fmt: skip
    assert [outcome.state for outcome in outcomes] == ["failed", "skipped", "passed", "skipped"]
    assert outcomes[0].why.startswith("RuntimeError at test_gpu_check.py:")
    text = markdown(outcomes, "a machine")
    assert "1 passed, 1 failed, 2 skipped" in text
    assert "a kernel is missing" in text
    assert "and more" not in text
    assert "| share | 0.1235 |" in text


def test_a_wrong_result_fails_its_section(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.kernels.FLOAT32", -1.0)
    command = ["--device", "cpu", "--short", "--only", "adamw", "--out", str(tmp_path / "r")]
    assert main(command) == 1
    (section,) = json.loads((tmp_path / "r.json").read_text())["sections"]
    assert section["state"] == "failed"
    assert "forms of AdamW differ" in section["why"]


@pytest.mark.slow  # a minute
def test_every_section_on_a_cpu(tmp_path):
    command = ["--device", "cpu", "--short", "--minutes", "60", "--out", str(tmp_path / "report")]
    assert main(command) == 0
    sections = json.loads((tmp_path / "report.json").read_text())["sections"]
    skipped = {section["name"] for section in sections if section["state"] == "skipped"}
    assert [section["name"] for section in sections] == list(SECTIONS)
    assert skipped == {"transfer", "memory"}

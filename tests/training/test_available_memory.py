import torch

from iddpm.training import available_memory
from iddpm.training.available_memory import free_memory


def test_a_machine_tells_what_is_available(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  32 kB\nMemFree:  1 kB\nMemAvailable:   16 kB\n")
    assert available_memory._available(meminfo) == 16 * 1024
    whole = available_memory._available(tmp_path / "missing")  # not Linux: all there is
    assert whole is None or whole > 2**26


def test_the_limit_of_a_container_counts_less_what_is_taken(tmp_path):
    assert available_memory._left_of_limit(tmp_path) is None
    for name, text in (
        ("memory.max", "1000\n"),
        ("memory.current", "700\n"),
        ("memory.stat", "anon 300\ninactive_file 150\n"),
    ):
        (tmp_path / name).write_text(text)
    assert available_memory._left_of_limit(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory._left_of_limit(tmp_path) is None


def test_version_1_limits_are_read_too(tmp_path):
    (tmp_path / "memory").mkdir()
    for name, text in (
        ("memory.limit_in_bytes", "1000\n"),
        ("memory.usage_in_bytes", "700\n"),
        ("memory.stat", "total_inactive_file 100\n"),
    ):
        (tmp_path / "memory" / name).write_text(text)
    assert available_memory._left_of_limit(tmp_path) == 400


def test_processes_of_a_machine_share_its_memory(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(available_memory, "_available", lambda: 8e9)
    monkeypatch.setattr(available_memory, "_left_of_limit", lambda root: None)
    assert free_memory(cpu) == 8e9
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(cpu) == 2e9
    monkeypatch.setattr(available_memory, "_left_of_limit", lambda root: 4e9)
    assert free_memory(cpu) == 1e9
    assert free_memory(torch.device("meta")) is None

import pytest

from iddpm.runtime import processor


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_a_container_in_both_versions(files, cores, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert processor._quota(tmp_path) == cores
    monkeypatch.setattr(processor, "_CGROUPS", tmp_path)
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processor.usable_cores() == (8 if cores is None else int(cores))


@pytest.mark.parametrize(
    ("text", "name", "sets"),
    [
        ("model name\t: A CPU\nflags\t\t: fpu avx2 avx512_bf16\n\nmodel name\t: B\n",
         "A CPU", ["avx2", "avx512_bf16"]),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None, ["asimd", "bf16"]),
    ],
)  # fmt: skip
def test_name_and_instruction_sets(text, name, sets, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    assert processor.instruction_sets() == sets
    assert processor.processor_name() == (
        name or processor.platform.processor() or processor.platform.machine()
    )
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    assert processor.instruction_sets() == []
    assert processor.processor_name()

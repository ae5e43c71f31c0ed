"""Sections that use iddpm as a user does: training in each precision, memory, sampling, tests."""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import iddpm
from benchmarks.common import processor
from benchmarks.gpu_check.outcomes import Facts, Machine, Skipped
from iddpm.runtime.errors import OutOfMemory
from iddpm.tasks.doctor import examine
from iddpm.training.monitoring.terminal import SilentReporter

ROOT = Path(__file__).parents[2]
CLOSE = 0.1
"""Largest relative difference of the loss of the first step between precisions."""
TESTS = (
    "tests/tasks/test_train.py", "tests/tasks/test_precision.py", "tests/tasks/test_resume.py",
    "tests/tasks/test_train_memory.py", "tests/training/test_precision.py",
    "tests/runs/test_run.py", "tests/tasks/test_edit.py", "tests/tasks/test_likelihood.py",
    "tests/tasks/test_distill.py",
)  # fmt: skip
"""Tests of runs, whose device is a GPU where there is one."""
SHORT_TESTS = ("tests/training/test_precision.py",)
MEMORY = 2e9
"""Bytes of the GPU that may be used in the section on little memory."""


def installation(machine: Machine) -> Facts:
    """What is installed, and on what machine."""
    found = examine(machine.folder)
    facts: dict[str, float | str] = {"processor and threads": processor(), **dict(found.facts)}
    if machine.gpu:
        facts["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    return {**facts, **{f"warning {k + 1}": text for k, text in enumerate(found.problems)}}


def settings(machine: Machine, *more: str) -> list[str]:
    """Return the settings of a run of some seconds."""
    channels, steps, batch = (8, 3, 8) if machine.short else (64, 60, 128)
    return [
        f"training.device={machine.device}", f"training.steps={steps}",
        f"training.batch_size={batch}", f"model.model_channels={channels}", "data.held_out=0",
        "model.channel_mult=[1,2]", "model.num_res_blocks=1", "model.attention_downsampling=[2]",
        "model.num_heads=2", "diffusion.num_steps=100", "training.log_every=1",
        "training.preview_every=0", "training.validate_every=0", *more,
    ]  # fmt: skip


def pictures(machine: Machine) -> np.ndarray:
    """Return smooth pictures [N, H, W, C] of 8 bits."""
    items, size = (16, 8) if machine.short else (2048, 32)
    y, x = np.mgrid[:size, :size] / size
    rate = np.random.default_rng(0).uniform(1, 3, (items, 1, 1, 3))
    return np.uint8(127.5 + 127 * np.sin(2 * np.pi * rate * (x + y)[None, :, :, None]))


def records(out: Path) -> list[dict[str, float]]:
    """Return the log of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def train(machine: Machine, name: str, *more: str) -> list[dict[str, float]]:
    """Train and return the log."""
    out = machine.folder / name
    iddpm.train(pictures(machine), out=out, settings=settings(machine, *more),
                reporter=SilentReporter())  # fmt: skip
    return records(out)


def precisions(machine: Machine) -> Facts:
    """Train in float32, bf16 and fp16 and compiled: the same first loss; items per second."""
    cases = {p: (f"training.precision={p}",) for p in ("float32", "bf16", "fp16")}
    if not machine.short:
        cases["bf16, compiled"] = ("training.precision=bf16", "training.compile=true")
    facts: dict[str, float | str] = {}
    expected = math.nan
    for name, more in cases.items():
        log = train(machine, name.replace(", ", "_"), *more)
        found = [record["loss"] for record in log if "loss" in record]
        expected = found[0] if name == "float32" else expected
        assert all(map(math.isfinite, found)), f"the loss in {name} is not finite: {found}"
        assert abs(found[0] / expected - 1) <= CLOSE, f"first loss {found[0]} in {name}, {expected}"
        facts[f"{name}, first loss"], facts[f"{name}, last loss"] = found[0], found[-1]
        late = log[len(log) // 2 :]
        for key in ("items_per_second", "memory_mb", "data_wait_share", "compute_share"):
            values = [record[key] for record in late if key in record]
            if values:
                facts[f"{name}, {key}"] = statistics.median(values)
    return facts


def little_memory(machine: Machine) -> Facts:
    """Memory that runs out: a sentence with advice, or a smaller microbatch that then fits."""
    if not machine.gpu:
        raise Skipped("the memory of a CPU is the machine's")
    whole = torch.cuda.get_device_properties(machine.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(MEMORY / whole, machine.device)
    large = ("training.batch_size=2048", "training.microbatch=2048", "training.steps=2",
             "model.model_channels=128", "training.precision=float32")  # fmt: skip
    try:
        try:
            train(machine, "stopped", *large)
        except OutOfMemory as error:
            said = str(error)
        else:
            raise AssertionError("2048 items fit into the memory, so that nothing was tested")
        torch.cuda.empty_cache()
        log = train(machine, "halved", *large, "training.on_out_of_memory=halve")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, machine.device)
    assert "microbatch" in said, said
    assert log[-1]["step"] == 2
    return {"said": said, "peak with halving, MB": log[-1].get("memory_mb", math.nan)}


def sampling(machine: Machine) -> Facts:
    """Sample from the run that was trained in float32: finite, the same again, how fast."""
    run = iddpm.load(machine.folder / "float32", device=str(machine.device))
    n, steps = (2, 2) if machine.short else (256, 20)
    first = run.sample(n, steps=steps, seed=0)
    machine.restart_memory()
    start = time.perf_counter()
    again = run.sample(n, steps=steps, seed=0)
    machine.wait()
    seconds = time.perf_counter() - start
    assert bool(torch.isfinite(again).all())
    error = float((first - again).abs().max())
    assert error <= 1e-2, f"the same seed gave samples that differ by {error}"
    return {"samples": n, "evaluations": steps, "samples per second": n / seconds,
            "largest difference of the same seed": error, **machine.peak_memory()}  # fmt: skip


def tests(machine: Machine) -> Facts:
    """The tests of runs, on the device that they take by themselves."""
    if find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    files = SHORT_TESTS if machine.short else TESTS
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    here = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--tb=line", *files]
    if not machine.gpu:
        here["CUDA_VISIBLE_DEVICES"] = ""
    try:
        done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True,
                              check=False, timeout=min(150.0, machine.seconds_left))  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"the tests took more than {late.timeout:.0f} s") from None
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    failed = "; ".join(line for line in lines if line.startswith(("FAILED", "ERROR")))
    assert done.returncode == 0, f"{re.sub('=', '', lines[-1]).strip()}: {failed}"
    return {"files": len(files), "result": lines[-1]}

"""The processor of this machine: its name, its instruction sets, the cores a process may use."""

import os
import platform
from contextlib import suppress
from pathlib import Path

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "bf16")
"""Those that decide how fast networks are, by the names that Linux gives them."""
_CPUINFO = Path("/proc/cpuinfo")
_CGROUPS = Path("/sys/fs/cgroup")


def processor_name() -> str:
    """Return the model of the processor, or its architecture if the system does not say."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return which of :data:`INSTRUCTION_SETS` the processor has, if the system says so."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return [name for name in INSTRUCTION_SETS if name in flags]


def usable_cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    The affinity of the process and the limit of its container count, and not only the machine.
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    quota = _quota(_CGROUPS)
    return count if quota is None else max(1, min(count, int(quota)))


def _cpuinfo() -> dict[str, str]:
    """Return the facts of a core; of those with several values the first one."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return facts


def _quota(root: Path) -> float | None:
    """Return the cores that a control group, of version 2 or 1, may use; None without a limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        most, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else float(most) / float(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        most = (root / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (root / "cpu/cpu.cfs_period_us").read_text(encoding="ascii")
        return float(most) / float(period) if float(most) > 0 else None
    return None

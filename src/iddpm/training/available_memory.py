"""Available memory of a device."""

import os
from contextlib import suppress
from pathlib import Path

import torch

_CGROUPS = (  # the limit, the used memory, and the part of it that is releasable file cache
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(device: torch.device) -> float | None:
    """Return the bytes that this process can take on a device, or None if unknown.

    On a GPU this is the free memory. On a CPU it is the available memory of the machine, or the
    rest of a container's limit, divided among the processes that torchrun started on the machine.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    if device.type != "cpu":
        return None
    here = [size for size in (_available(), _left_of_limit(Path("/sys/fs/cgroup"))) if size]
    return min(here) / int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if here else None


def _available(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Return the available memory on Linux; the total memory on other systems."""
    with suppress(OSError, ValueError):
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_of_limit(root: Path) -> float | None:
    """Return the rest of a control group's limit, version 2 or 1, if there is one."""
    for limit, used, files in _CGROUPS:
        try:
            most = (root / limit).read_text(encoding="ascii").strip()
            taken = float((root / used).read_text(encoding="ascii"))
            stat = ((root / limit).parent / "memory.stat").read_text(encoding="ascii")
            facts = dict(line.split() for line in stat.splitlines())
            if most != "max":
                return max(float(most) - taken + float(facts.get(files, 0)), 1.0)
        except (OSError, ValueError):
            continue
    return None

"""``iddpm doctor``: what this machine and this installation are, to paste into a report."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iddpm import __version__
from iddpm.runtime.processor import instruction_sets, processor_name, usable_cores
from iddpm.tasks.installed_packages import (
    installed_version,
    packages_by_extra,
    required_packages,
)

VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "WORLD_SIZE", "RANK",
    "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "IDDPM_CACHE", "IDDPM_DEBUG",
    "PYTHONPATH",
)  # fmt: skip
"""Those that change what is computed, where, or how fast."""
LEAST_DISK = 1e9
"""Free bytes below which checkpoints may not fit."""


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        facts: a name and a text for each line.
        problems: a sentence for each thing that will fail or be slow.
    """

    facts: list[tuple[str, str]]
    problems: list[str]


def examine(directory: Path) -> Examination:
    """Look at the installation, the machine and the directory of runs. Nothing stays written.

    Args:
        directory: where runs are or will be written.
    """
    problems: list[str] = []
    facts = [
        *_packages(problems),
        *_torch(problems),
        *_processor(problems),
        *_disk(directory, problems),
        *_extras(problems),
        *_environment(os.environ),
    ]
    return Examination(facts, problems)


def _packages(problems: list[str]) -> Iterator[tuple[str, str]]:
    recorded = installed_version("iddpm")
    yield "iddpm", __version__
    if recorded is None:
        problems.append("iddpm runs from a folder and is not installed, so that its packages are "
                        "not checked: pip install it")  # fmt: skip
    elif recorded != __version__:
        problems.append(f"the installation is recorded as {recorded}, but the code is "
                        f"{__version__}: install it again")  # fmt: skip
    environment = "a virtual environment" if sys.prefix != sys.base_prefix else "no environment"
    yield "Python", f"{platform.python_version()} ({environment}), {platform.platform()}"
    required = required_packages()
    yield "packages", ", ".join(map(str, required)) or "not known"
    problems += [f"{p.fault}: pip install '{p.name}{p.wanted}'" for p in required if p.fault]


def _torch(problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        import torch

        from iddpm.training.available_memory import free_memory
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported ({str(error).splitlines()[0]}): install it anew")
        return
    cuda, hip = torch.version.cuda, torch.version.hip
    build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPUs only"
    yield "PyTorch", f"{torch.__version__}, built for {build}"
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [_gpu(number) for number in range(torch.cuda.device_count())]
        yield "cuDNN", f"{torch.backends.cudnn.version()}"
    elif nvidia_devices() and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        reason = (
            "PyTorch cannot use it: the driver may be older than CUDA " + cuda
            if cuda
            else "PyTorch is built for CPUs only: install the build for CUDA"
        )
        problems.append(f"this machine has an NVIDIA device, but {reason} (see pytorch.org)")
    if torch.backends.mps.is_available():
        names.append("mps")
    yield "devices", "; ".join(names)
    free = free_memory(torch.device("cpu"))
    yield "memory", "not known" if free is None else f"{free / 1e9:.1f} GB available"
    yield "threads", f"{torch.get_num_threads()}, kernels for {_capability()}"
    yield "precision", _precision()


def _capability() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def _gpu(number: int) -> str:
    import torch

    facts = torch.cuda.get_device_properties(number)
    bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
    return (f"cuda:{number} {facts.name}, {facts.total_memory / 1e9:.0f} GB, compute capability "
            f"{facts.major}.{facts.minor}, {bf16}")  # fmt: skip


def _precision() -> str:
    """Return what training.precision=auto uses on the CPU, as far as it is known."""
    from iddpm.builders.measured_precision import MARGIN, kept_shares
    from iddpm.training.precision import computes_bfloat16

    if not computes_bfloat16():
        return "float32 on this CPU, which has no bf16 instructions"
    shares = kept_shares()
    if not shares:
        return "not yet measured on this CPU: training.precision=auto measures it once"
    faster = sum(share * MARGIN < 1 for share in shares)
    return (f"bf16 for {faster} of {len(shares)} networks measured on this CPU (convolutions take "
            f"{min(shares):.2f} to {max(shares):.2f} times as long as in float32)")  # fmt: skip


def nvidia_devices(root: Path = Path("/dev")) -> list[str]:
    """Return the NVIDIA devices that the system shows, such as ``nvidia0``."""
    return sorted(path.name for path in root.glob("nvidia[0-9]*"))


def _processor(problems: list[str]) -> Iterator[tuple[str, str]]:
    cores, everywhere = usable_cores(), os.cpu_count() or 1
    yield "processor", processor_name()
    yield "instructions", ", ".join(instruction_sets()) or "not known"
    yield "cores", f"{cores} usable" + (f" of {everywhere}" if everywhere != cores else "")
    asked = os.environ.get("OMP_NUM_THREADS")
    if asked is None:
        return
    if not asked.isdecimal() or int(asked) < 1:
        problems.append(f"OMP_NUM_THREADS={asked} is not a number of threads; use 1 to {cores}")
    elif int(asked) > cores:
        problems.append(f"OMP_NUM_THREADS={asked}, but only {cores} cores can be used: more "
                        "threads than cores are slow")  # fmt: skip


def _disk(directory: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    shown = without_home(str(directory))
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        problems.append(f"{without_home(str(place))} is a file: runs need a directory")
        return
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError as error:
        writable = False
        problems.append(f"nothing can be written in {without_home(str(place))}: {error.strerror}")
    free = shutil.disk_usage(place).free
    yield "disk", f"{free / 1e9:.1f} GB free in {shown}{'' if writable else ', not writable'}"
    if free < LEAST_DISK:
        problems.append(f"{shown} has {free / 1e6:.0f} MB left: checkpoints may not fit")


def _extras(problems: list[str]) -> Iterator[tuple[str, str]]:
    missing = []
    for extra, packages in packages_by_extra().items():
        faults = [package.fault for package in packages if package.fault]
        found = [package for package in packages if package.version is not None]
        if not faults:
            yield extra, ", ".join(map(str, packages))
            continue
        missing.append(extra)
        old = [p.fault for p in found if p.fault]
        problems += [f"{fault}: pip install --upgrade 'iddpm[{extra}]'" for fault in old]
    if missing:
        yield "not installed", f"{', '.join(missing)}: pip install 'iddpm[{','.join(missing)}]'"


def _environment(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    found = [f"{name}={without_home(variables[name])}" for name in VARIABLES if name in variables]
    yield "environment", " ".join(found) or "none of the variables that matter is set"


def without_home(text: str) -> str:
    """Return a text with the user's home directory written as ``~``."""
    home = re.escape(str(Path.home()))
    return re.sub(rf"(?<![^:]){home}(?=[/:]|$)", "~", text) if home != "/" else text

"""``python -m benchmarks.gpu_check``: one report on the GPU of this machine, in at most 8 minutes.

It needs no network. ``--device cpu --short`` runs each section that has a meaning on a CPU with the
smallest case, which checks the check itself.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

import iddpm
from benchmarks.gpu_check import kernels, runs
from benchmarks.gpu_check.outcomes import Machine, Outcome, Section, perform, write

SECTIONS: dict[str, Section] = {
    "installation": runs.installation,
    "training": runs.precisions,
    "sampling": runs.sampling,
    "layouts": kernels.layouts,
    "compile": kernels.compiled,
    "adamw": kernels.adamw,
    "transfer": kernels.transfer,
    "processes": kernels.one_rank,
    "memory": runs.little_memory,
    "diffusers": kernels.peer,
    "tests": runs.tests,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the sections and return 0, 1 if one failed, or 2 if there is no such device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--short", action="store_true", help="the smallest case of each section")
    parser.add_argument("--minutes", type=float, default=8.0, help="no section starts after that")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="report, .md and .json")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"error: PyTorch {torch.__version__} finds no GPU here; --device cpu --short runs "
              "what has a meaning on a CPU", file=sys.stderr)  # fmt: skip
        return 2
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        until = time.monotonic() + 60 * options.minutes
        gpu = options.device == "cuda"
        device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        machine = Machine(device, options.short, Path(folder), until)
        outcomes: list[Outcome] = []
        for name in options.only:
            outcomes.append(perform(name, SECTIONS[name], machine))
            last = outcomes[-1]
            print(f"{name:<14}{last.state:<9}{last.seconds:5.0f} s  {last.why}", flush=True)
    name = torch.cuda.get_device_name() if gpu else "a CPU"
    write(outcomes, f"iddpm {iddpm.__version__} on {name}", options.out)
    print(f"wrote {options.out.with_suffix('.md')} and {options.out.with_suffix('.json')}")
    return int(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

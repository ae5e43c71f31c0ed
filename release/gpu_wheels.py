"""Collect the wheels that a machine with PyTorch for CUDA, and nothing else, needs for gpu-check.

python -m release.gpu_wheels --python-version 3.11

That machine may reach nothing, so the wheels travel with the checkout: ``dist/gpu_wheels``.
"""

import argparse
import sys
from pathlib import Path

from release.distributions import ROOT, CheckFailed, call, project_table
from release.third_party import pinned_versions, with_their_own

BESIDES = ("diffusers", "numpy", "pytest", "pytest-timeout", "hypothesis")
"""What the sections use that iddpm does not need."""
LARGEST = 64 * 2**20
"""Bytes that travel at once."""


def needed() -> list[str]:
    """Return the requirements, with versions, of all that PyTorch does not bring."""
    project = project_table()
    names = with_their_own([*project["dependencies"], *BESIDES]) - with_their_own(["torch"])
    pinned = pinned_versions()
    # typing-extensions comes with PyTorch, but perhaps an older one than pydantic needs.
    return [f"{n}=={pinned[n]}" for n in sorted({*names, "typing-extensions"}) if n in pinned]


def main() -> None:
    """Download the wheels."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--python-version", default="3.11", help="of the other machine")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/gpu_wheels")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    command += [str(options.out), "--only-binary", ":all:", "--python-version"]
    try:
        call([*command, options.python_version, *needed()])
    except CheckFailed as error:
        sys.exit(f"error: {error}")
    wheels = list(options.out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    print(f"{len(wheels)} wheels in {options.out}, {size / 2**20:.0f} MiB")
    if size > LARGEST:
        sys.exit(f"error: these are more than {LARGEST / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()

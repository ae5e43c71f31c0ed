"""Build a wheel and an sdist, check what is in them, and use both in new virtual environments.

python -m release.distributions

``dist/`` holds both and ``release.md``, the report. Exit status 1 if a check fails.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from iddpm.tasks.installed_packages import DEVELOPERS

ROOT = Path(__file__).parents[1]
SMOKE = Path(__file__).with_name("smoke.py")
DOWNSTREAM = ROOT / "tests/release/downstream.py"
LICENSES = {
    "LICENSE",
    "src/iddpm/ui/static/vendor/htmx/LICENSE",
    "src/iddpm/ui/static/vendor/uplot/LICENSE",
}
NEEDED = {"py.typed", "__init__.pyi", "ui/catalogs/en.json", "ui/templates/base.html"} | {
    f"ui/static/{name}" for name in ("app.js", "style.css", "vendor/htmx/htmx.min.js",
                                     "vendor/uplot/uPlot.iife.min.js", "vendor/uplot/uPlot.min.css")
}  # fmt: skip
"""What must be in the wheel besides the modules, below ``iddpm/``."""


class CheckFailed(Exception):  # noqa: N818 - it says what happened
    """A distribution is not what it must be."""


def wheel_faults(wheel: Path, source: Path, version: str) -> list[str]:
    """Return what is wrong with a wheel, one sentence each.

    Args:
        wheel: the file.
        source: the package's folder, whose files must all be in it.
        version: the version it must have.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        text = archive.read(f"iddpm-{version}.dist-info/METADATA").decode()
    metadata: Message = Parser().parsestr(text)
    files = [path for path in source.rglob("*") if path.is_file()]
    wanted = {f"iddpm/{p.relative_to(source).as_posix()}" for p in files if p.suffix != ".pyc"}
    wanted |= {f"iddpm/{name}" for name in NEEDED}
    wanted |= {f"iddpm-{version}.dist-info/licenses/{name}" for name in LICENSES}
    faults = [f"{name} is missing" for name in sorted(wanted - names)]
    faults += [f"{name} does not belong there" for name in sorted(names - wanted)
               if not name.startswith(f"iddpm-{version}.dist-info/")]  # fmt: skip
    if metadata["Version"] != version:
        faults.append(f"its version is {metadata['Version']}, iddpm.__version__ is {version}")
    if metadata["License-Expression"] != "MIT AND 0BSD":
        faults.append(f"its license is {metadata['License-Expression']}, not MIT AND 0BSD")
    if "Typing :: Typed" not in metadata.get_all("Classifier", []):
        faults.append("it has no classifier for types")
    return faults


def package_version(init: Path = ROOT / "src/iddpm/__init__.py") -> str:
    """Return ``__version__`` of a package's text, without importing it."""
    lines = init.read_text(encoding="utf-8").splitlines()
    found = [line.partition("=")[2].strip(" \"'") for line in lines if line.startswith("__version")]
    return found[0]


def project_table() -> dict[str, Any]:
    """Return the table ``project`` of ``pyproject.toml``."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def user_extras() -> list[str]:
    """Return the extras of ``pyproject.toml`` but those of developers."""
    return [name for name in project_table()["optional-dependencies"] if name not in DEVELOPERS]


def call(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    """Run a command without this checkout on Python's path and return what it printed.

    Raises:
        CheckFailed: it failed; with the end of its output.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        shown = " ".join(map(str, command))
        raise CheckFailed(f"{shown} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def build(dist: Path) -> tuple[Path, Path]:
    """Build a wheel and an sdist of the checkout, and return both."""
    for old in (*dist.glob("iddpm-*.whl"), *dist.glob("iddpm-*.tar.gz")):
        old.unlink()
    call([sys.executable, "-m", "build", "--wheel", "--sdist", "--outdir", dist, ROOT])
    version = package_version()
    return dist / f"iddpm-{version}-py3-none-any.whl", dist / f"iddpm-{version}.tar.gz"


def check_same_wheel(wheel: Path, sdist: Path, scratch: Path) -> None:
    """Build a wheel from the sdist alone; it must have the same bytes."""
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    tree = scratch / sdist.name.removesuffix(".tar.gz")
    call([sys.executable, "-m", "build", "--wheel", "--outdir", scratch, tree], scratch)
    if (scratch / wheel.name).read_bytes() != wheel.read_bytes():
        raise CheckFailed("the sdist builds another wheel than the checkout")


def use(distribution: Path, scratch: Path, torch: str, constraints: Path | None) -> list[str]:
    """Install a distribution into a new environment, use it there, and return what was seen.

    Args:
        distribution: a wheel or an sdist.
        scratch: a folder outside the checkout.
        torch: the requirement that selects a build of PyTorch for CPUs.
        constraints: versions of the dependencies; None for the newest.
    """
    home = scratch / f"environment_{distribution.suffix.strip('.')}"
    work = scratch / f"work_{distribution.suffix.strip('.')}"
    work.mkdir()
    venv.create(home, with_pip=True)
    python = home / "bin/python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    install += ["--constraint", constraints] if constraints else []
    program, types = work / "smoke.py", work / "downstream.py"
    program.write_text(SMOKE.read_text())
    types.write_text(DOWNSTREAM.read_text())
    smoke = [python, "-I", program, package_version(), ROOT]
    call([*install, torch], work)
    call([*install, distribution], work)
    seen = call([*smoke, "bare"], work).splitlines()
    call([*install, f"{distribution}[ui]", "mypy"], work)
    seen += call([*smoke, "ui"], work).splitlines()
    call([python, "-m", "mypy", "--strict", "--cache-dir", work / "cache", types], work)
    return [*seen, "mypy --strict accepts a program that uses every public name"]


def main() -> None:
    """Build, check, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where both are written")
    parser.add_argument("--torch", default="torch==2.13.0", help="a build of PyTorch for CPUs")
    options = parser.parse_args()
    lines = [f"# iddpm {package_version()}", ""]
    try:
        wheel, sdist = build(options.dist)
        if faults := wheel_faults(wheel, ROOT / "src/iddpm", package_version()):
            raise CheckFailed(f"{wheel.name}: " + "; ".join(faults))
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            check_same_wheel(wheel, sdist, scratch)
            lines += [f"- {wheel.name}: all files of the package, no others, all licenses",
                      f"- {sdist.name} builds the same bytes"]  # fmt: skip
            for made, pinned in ((wheel, None), (sdist, ROOT / "constraints.txt")):
                known = "versions of constraints.txt" if pinned else "the newest dependencies"
                lines += ["", f"## {made.name} with {known}", ""]
                lines += [f"- {line}" for line in use(made, scratch, options.torch, pinned)]
    except CheckFailed as error:
        sys.exit(f"error: {error}")
    report = "\n".join(lines) + "\n"
    (options.dist / "release.md").write_text(report)
    print(report, end="")


if __name__ == "__main__":
    main()

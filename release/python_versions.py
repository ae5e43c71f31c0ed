"""Check newer Pythons without having them: types, and wheels of all that iddpm needs.

python -m release.python_versions

mypy reads the package as each Python would, and uv (which evaluates the conditions of requirements
for another Python, as pip does not) looks for wheels of it and of each extra, on this system. The
report is ``release/python_versions.md``; the classifiers of pyproject.toml follow from it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from release.distributions import ROOT, CheckFailed, build, call, user_extras

VERSIONS = ("3.12", "3.13", "3.14")
REPORT = Path(__file__).with_name("python_versions.md")
ACCEPTED = "no errors"


def types(version: str) -> str:
    """Return what mypy finds when it reads the package as a version of Python would."""
    command = [sys.executable, "-m", "mypy", "--python-version", version, "src"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    return ACCEPTED if done.returncode == 0 else last


def wheels(wheel: Path, version: str, extras: list[str]) -> dict[str, str]:
    """Return the version of each package that would be installed, from wheels alone.

    Raises:
        CheckFailed: some package has no wheel that fits.
    """
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-config"]
    command += ["--only-binary", ":all:", "--python-version", version, "-"]
    chosen = f"[{','.join(extras)}]" if extras else ""
    done = subprocess.run(
        [sys.executable, "-m", *command], input=f"iddpm{chosen} @ {wheel.as_uri()}", cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CheckFailed(done.stderr.strip())
    lines = (line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return {name: number for name, number in lines}  # noqa: C416 - pairs of a list


def row(wheel: Path, version: str) -> str:
    """Return the line of the report for a version of Python."""
    found = types(version)
    try:
        alone = wheels(wheel, version, [])
    except CheckFailed as error:
        return f"| {version} | {found} | none: {error} | - | - |"
    fitting, lacking = [], []
    for extra in user_extras():
        try:
            wheels(wheel, version, [extra])
            fitting.append(extra)
        except CheckFailed:
            lacking.append(extra)
    own = f"{len(alone)} packages, torch {alone['torch']}"
    others = f"{len(fitting)} extras, {len(wheels(wheel, version, fitting))} packages"
    return f"| {version} | {found} | {own} | {others} | {', '.join(lacking) or 'none'} |"


def passed(report: str) -> list[str]:
    """Return the versions of Python whose line in a report has no errors and wheels."""
    lines = [line.split(" | ") for line in report.splitlines() if line.startswith("| 3.")]
    return [line[0].strip("| ") for line in lines
            if line[1] == ACCEPTED and not line[2].startswith("none")]  # fmt: skip


def main() -> None:
    """Check all versions and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where a wheel is built")
    options = parser.parse_args()
    try:
        wheel, _ = build(options.dist.resolve())
        rows = [row(wheel, version) for version in VERSIONS]
    except CheckFailed as error:
        sys.exit(f"error: {error}")
    system = call([sys.executable, "-c", "import platform as p; print(p.system(), p.machine())"])
    report = f"""\
# Newer versions of Python

Written by `make python-versions` on {system.strip()}. The tests run on Python 3.11. For newer
versions, mypy reads the package as that version would, and every package has to have a wheel.

| Python | types | wheels of iddpm | of its extras together | extras without wheels |
|---|---|---|---|---|
{chr(10).join(rows)}
"""
    REPORT.write_text(report, encoding="utf-8")
    print(report, end="")
    if len(passed(report)) < len(VERSIONS):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Who may import whom: the table for people and the contracts for the linter are one thing."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "iddpm"
ROOMS = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
ROW = re.compile(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$")


def table() -> dict[str, set[str]]:
    """Return what each room may import, as CONTRIBUTING.md says."""
    rows: dict[str, set[str]] = {}
    for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines():
        if found := ROW.match(line):
            room, cell = found.groups()
            names = set(re.findall(r"`([\w.]+)`", cell))
            if cell.endswith("and what it may import"):
                (below,) = names
                names |= rows[below]
            rows[room] = names
    return rows


def forbidden() -> dict[str, set[str]]:
    """Return what each room may not import, as the contracts say."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {
        contract["source_modules"][0].removeprefix("iddpm."): {
            name.removeprefix("iddpm.") for name in contract["forbidden_modules"]
        }
        for contract in settings["contracts"]
        if " may import " in contract["name"]
    }


def modules_not_allowed(room: str, allowed: set[str]) -> set[str]:
    """Return the other rooms, or their modules where some are allowed, that are left."""
    left: set[str] = set()
    for other in ROOMS - {room} - allowed:
        some = {name for name in allowed if name.startswith(f"{other}.")}
        modules = {f"{other}.{path.stem}" for path in (SOURCE / other).glob("[a-z]*.py")}
        left |= modules - some if some else {other}
    return left


def test_the_root_holds_packages_only() -> None:
    files = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert files <= {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


def test_the_contracts_say_what_the_table_says() -> None:
    rows = table()
    assert rows.keys() == ROOMS
    wanted = {room: modules_not_allowed(room, allowed) for room, allowed in rows.items()}
    assert forbidden() == {room: names for room, names in wanted.items() if names}


def test_no_module_name_stands_twice() -> None:
    where: dict[str, list[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            where.setdefault(path.stem, []).append(path.parent.name)
    twice = {name: sorted(rooms) for name, rooms in where.items() if len(rooms) > 1}
    assert {name: rooms for name, rooms in twice.items() if rooms != ["cli", "tasks"]} == {}


@pytest.mark.timeout(600)
def test_every_forbidden_import_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "src" / "iddpm"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = set()
    for room, names in forbidden().items():
        module = "ema" if room == "training" else "__init__"
        with (copy / room / f"{module}.py").open("a") as file:
            for name in names:
                file.write(f"import iddpm.{name}\n")
                source = f"iddpm.{room}" + (".ema" if room == "training" else "")
                planted.add((source, f"iddpm.{name}"))
    assert ("iddpm.training.ema", "iddpm.networks") in planted
    code = (
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports;"
        "sys.exit(lint_imports(no_cache=True))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, result.stderr
    found = set(re.findall(r"-\s+(iddpm[\w.]*) -> (iddpm[\w.]*)", result.stdout))
    assert planted - found == set()

"""List the packages that iddpm and its extras bring, and the vendored JavaScript, with licenses.

python -m release.third_party

Writes ``THIRD_PARTY.md`` from the metadata of what is installed, with versions of constraints.txt.
Exit status 1 if a license is not known.
"""

import re
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.distributions import ROOT, project_table, user_extras

LIST = ROOT / "THIRD_PARTY.md"
VENDORED = {"iddpm": ROOT / "src/iddpm/ui/static/vendor", "its tests": ROOT / "tests/ui/vendor"}
"""Folders of JavaScript, by what they are part of."""
ELSEWHERE = {"wandb": "MIT"}
"""Packages of extras that are not part of the development environment."""
KNOWN = {"Zero-Clause BSD": "0BSD", "The MIT License (MIT)": "MIT",
         "Mozilla Public License, version 2.0": "MPL-2.0"}  # fmt: skip
"""First lines of licenses of JavaScript."""
NOTE = """\
# Packages of others

Written by `python -m release.third_party`. iddpm itself has the MIT license ([LICENSE](LICENSE)).

Licenses are those that each package states in its metadata. Many wheels contain further libraries
under licenses of their own, which lie beside them: for example, FFmpeg in av, the codecs in
pillow-heif, and libsndfile in soundfile. Builds of PyTorch for GPUs also bring NVIDIA's libraries
under NVIDIA's terms.
"""


class Package(NamedTuple):
    """A package of others: its name, its license, and the extras that bring it."""

    name: str
    license: str
    brought_by: str


def packages() -> list[Package]:
    """Return all packages that iddpm needs, directly or not, from what is installed."""
    project = project_table()
    core = with_their_own(project["dependencies"])
    by_extra: dict[str, list[str]] = {}
    for extra in sorted(user_extras()):
        for name in with_their_own(project["optional-dependencies"][extra]) - core:
            by_extra.setdefault(name, []).append(extra)
    found = [Package(name, _license(name), "iddpm") for name in sorted(core)]
    return found + [Package(n, _license(n), ", ".join(by_extra[n])) for n in sorted(by_extra)]


def with_their_own(requirements: Iterable[str]) -> set[str]:
    """Return the names of what is required, and of all that these require in turn."""
    found: set[str] = set()
    waiting = [(Requirement(text), {""}) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, extras = waiting.pop()
        marker, name = requirement.marker, canonicalize_name(requirement.name)
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        found.add(name)
        own = {"", *requirement.extras}
        if (name, frozenset(own)) not in seen and name not in ELSEWHERE:
            seen.add((name, frozenset(own)))
            waiting += [(Requirement(text), own) for text in metadata.requires(name) or []]
    return found


def _license(name: str) -> str:
    """Return the license that a package states, in one line; empty if it states none."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    facts = metadata.metadata(name)
    if facts.get("License-Expression"):
        return str(facts["License-Expression"])
    named = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or []
             if c.startswith("License :: OSI Approved ::")]  # fmt: skip
    first = (facts.get("License") or "").strip().partition("\n")[0]
    return ", ".join(named) or re.sub(r"\s+", " ", first)


class Script(NamedTuple):
    """JavaScript of others in this tree: name, version, license, and what it is part of."""

    name: str
    version: str
    license: str
    part_of: str


def scripts() -> list[Script]:
    """Return the vendored JavaScript; what is not known of it is empty."""
    found = []
    folders = ((whole, path) for whole, root in VENDORED.items() for path in sorted(root.iterdir()))
    for whole, folder in folders:
        text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.js")))
        version = re.search(r'(?:\(v|version:"|^/\*! \w+ v)(\d+\.\d+\.\d+)', text)
        title = (folder / "LICENSE").read_text(encoding="utf-8").partition("\n")[0].strip()
        number = version[1] if version else ""
        found.append(Script(folder.name, number, KNOWN.get(title, ""), whole))
    return found


def pinned_versions() -> dict[str, str]:
    """Return the versions of constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.partition("==") for line in lines[1:])
    return {canonicalize_name(name): version for name, _, version in parts}


def listing() -> str:
    """Return the whole list as Markdown."""
    pinned = pinned_versions()
    rows = [f"| {p.name} | {pinned.get(p.name, '-')} | {p.license} | {p.brought_by} |"
            for p in packages()]  # fmt: skip
    vendored = [f"| {' | '.join(script)} |" for script in scripts()]
    return "\n".join([
        NOTE, "## JavaScript in this repository", "", "The license lies beside each script.", "",
        "| name | version | license | part of |", "|---|---|---|---|", *vendored, "",
        "## Installed beside iddpm", "",
        "The versions are those that the tests ran with. The last column names the extras that",
        "bring a package, or iddpm for what is always installed.", "",
        "| package | version | license | brought by |", "|---|---|---|---|", *rows, "",
    ])  # fmt: skip


def unknown() -> list[str]:
    """Return the names without a known license or, of vendored ones, without a version."""
    return [p.name for p in packages() if not p.license] + [
        script.name for script in scripts() if not (script.version and script.license)
    ]


def main() -> None:
    """Write the list."""
    LIST.write_text(listing(), encoding="utf-8")
    if names := unknown():
        sys.exit(f"error: no license is known of {', '.join(names)}")


if __name__ == "__main__":
    main()

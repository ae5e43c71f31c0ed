"""Which of the packages that iddpm names are installed, from its own metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

DEVELOPERS = ("dev", "docs")
"""Extras for work on iddpm itself."""


@dataclass(frozen=True)
class Package:
    """A package that iddpm requires, and what is installed of it.

    Attributes:
        name: of the distribution.
        version: the installed one; None if it is missing.
        wanted: the versions that work, such as ``>=2.6``.
    """

    name: str
    version: str | None
    wanted: str

    @property
    def fault(self) -> str | None:
        """A clause that says what is wrong; None if it is installed in a version that works."""
        if self.version is None:
            return f"{self.name} is missing"
        requirement = Requirement(f"{self.name}{self.wanted}")
        if not requirement.specifier.contains(self.version, prereleases=True):
            return f"{self.name} is {self.version}, needed is {self.wanted}"
        return None

    def __str__(self) -> str:
        return f"{self.name} {self.version or 'missing'}"


def required_packages() -> list[Package]:
    """Return the packages that iddpm cannot run without; empty if it is not installed."""
    return [_package(r) for r in _requirements() if r.marker is None]


def packages_by_extra() -> Mapping[str, list[Package]]:
    """Return the packages of each extra of users, in the order of the metadata."""
    try:
        extras = metadata.metadata("iddpm").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    optional = [r for r in _requirements() if r.marker is not None]
    return {
        extra: [_package(r) for r in optional if r.marker and r.marker.evaluate({"extra": extra})]
        for extra in extras
        if extra not in DEVELOPERS
    }


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(text) for text in metadata.requires("iddpm") or []]
    except metadata.PackageNotFoundError:
        return []


def _package(requirement: Requirement) -> Package:
    return Package(requirement.name, installed_version(requirement.name),
                   str(requirement.specifier))  # fmt: skip


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""Names from requests to paths, which never leave the directory of the runs."""

from pathlib import Path, PurePosixPath

LONGEST = 1_000
"""Characters of a name."""


class UnknownNameError(LookupError):
    """There is no such run or file here, or it lies elsewhere."""


def confined(root: Path, name: str) -> Path:
    """Return the path of a name below ``root``, which exists.

    Args:
        root: a directory, its links resolved.
        name: a relative posix path.

    Returns:
        The path with all links resolved; it lies in ``root``.

    Raises:
        UnknownNameError: it is absolute, has parts such as ``..``, leads out of the directory
            through a link, or does not exist.
    """
    pure = PurePosixPath(name)
    hostile = (
        not name
        or len(name) > LONGEST
        or any(ord(c) < 32 for c in name)
        or "\\" in name
        or pure.is_absolute()
        or ".." in pure.parts
    )
    if hostile:
        raise UnknownNameError("there is no such file")
    try:
        path = (root / pure).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # absent, endless links, lone surrogates
        raise UnknownNameError("there is no such file") from None
    if not path.is_relative_to(root):
        raise UnknownNameError("there is no such file")
    return path

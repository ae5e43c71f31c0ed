"""NRRD and MetaImage volumes, read by SimpleITK and placed as nibabel places volumes."""

import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.extras import needed
from iddpm.data.sources.source import DENSEST

ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.M | re.I)
_PACKED = re.compile(rb"^(?:CompressedData\s*=\s*True|encoding:\s*(?:gz|gzip|bz2|bzip2)\s*$)",
                     re.M | re.I)  # fmt: skip
_TEXT = re.compile(rb"^(?:BinaryData\s*=\s*False|encoding:\s*(?:txt|text|ascii|hex)\s*$)",
                   re.M | re.I)  # fmt: skip
_HEADER = 1 << 20  # bytes in which a header ends
_FLIPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From ITK's axes (left, back, up) to those of NIfTI (right, front, up)."""


class ItkVoxels:
    """The voxels of a file ``[X, Y, Z]`` or ``[X, Y, Z, C]``, read when they are needed.

    It offers what nibabel's array proxies do.

    Raises:
        ValueError: a file that SimpleITK cannot read, or one that promises more than it holds.
    """

    slope, inter, offset = 1.0, 0.0, 0

    def __init__(self, path: Path) -> None:
        self._path, sitk = path, _sitk(path)
        data, room = _data_file(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise ValueError(f"{path} is not a volume that can be read ({_why(error)})") from None
        axes, samples = reader.GetSize(), reader.GetNumberOfComponents()
        if len(axes) < 3:
            raise ValueError(f"{path} holds a picture of {len(axes)} axes: save it as a picture")
        self.dtype = _dtype(path, sitk.GetPixelIDValueAsString(reader.GetPixelID()))
        self.shape = (*axes, samples) if samples > 1 else tuple(axes)
        self.ndim = len(self.shape)
        promised = prod(self.shape) * self.dtype.itemsize
        if promised > room:
            raise ValueError(
                f"{path} is truncated: its header promises {promised} bytes of voxels, and "
                f"{data.name} holds {data.stat().st_size}"
            )
        turn = np.array(reader.GetDirection()).reshape(len(axes), len(axes))
        placed = np.eye(4)
        n = min(len(axes), 3)
        placed[:n, :n] = (turn * np.array(reader.GetSpacing()))[:n, :n]
        placed[:n, 3] = reader.GetOrigin()[:n]
        self.affine: NDArray[np.float64] = _FLIPS @ placed

    def get_unscaled(self) -> NDArray[Any]:
        """Return the voxels; ValueError where they are damaged."""
        sitk = _sitk(self._path)
        try:
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(self._path)))
        except RuntimeError as error:
            raise ValueError(_why(error)) from None
        spatial = self.ndim - (array.ndim == self.ndim and array.shape[-1] == self.shape[-1]
                               and array.shape != self.shape[::-1])  # fmt: skip
        order = (*range(spatial - 1, -1, -1), *range(spatial, array.ndim))
        return np.asarray(array.transpose(order))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        """Return the voxels, as numpy asks for them."""
        return self.get_unscaled().astype(dtype or self.dtype, copy=False)


def open_itk(path: Path) -> Any:
    """Return a NRRD or MetaImage file as an image of nibabel, its voxels not read yet."""
    nib: Any = needed("nibabel", "itk", f"reading {path}")
    voxels = ItkVoxels(path)
    return nib.spatialimages.SpatialImage(voxels, voxels.affine)


def _data_file(path: Path) -> tuple[Path, int]:
    """Return the file with the voxels, and the most bytes of them that it can hold."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    named = _DATA_FILE.search(header)
    header = header if named is None else header[: named.end()]
    data = path
    if named is not None and named.group(1).upper() != b"LOCAL":
        name = named.group(1).decode("utf-8", "replace").removeprefix("./")
        if re.match(r"LIST\b", name) or "%" in name:
            raise ValueError(f"{path} takes its voxels from several files: save it as one file")
        if Path(name).is_absolute() or ".." in Path(name).parts or re.match(r"\w+:", name):
            raise ValueError(f"{path} takes its voxels from {name}: put that file beside it")
        data = path.parent / name
        if not data.is_file():
            raise ValueError(f"{path} takes its voxels from {name}, which is missing")
    size = data.stat().st_size
    factor = DENSEST if _PACKED.search(header) else 8 if _TEXT.search(header) else 1
    return data, size * factor


def _dtype(path: Path, kind: str) -> np.dtype[Any]:
    """Return the dtype of pixels that SimpleITK calls so, such as ``vector of 32-bit float``."""
    found = re.fullmatch(r"(?:vector of )?(\d+)-bit (unsigned|signed|float)(?: integer)?", kind)
    if found is None:
        raise ValueError(f"{path} holds {kind}; save integers or floats")
    letter = {"unsigned": "u", "signed": "i", "float": "f"}[found.group(2)]
    return np.dtype(f"{letter}{int(found.group(1)) // 8}")


def _sitk(path: Path) -> Any:
    sitk: Any = needed("SimpleITK", "itk", f"reading {path}")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what is wrong is raised
    return sitk


def _why(error: Exception) -> str:
    """Return the last line of ITK's message, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__

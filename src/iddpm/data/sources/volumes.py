"""Volumes (NIfTI, MGH, Analyze, MINC, NRRD, MetaImage), whole or as patches, and their affine."""

import gzip
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.extras import needed
from iddpm.data.sources.folder import RecordingFiles
from iddpm.data.sources.itk_volumes import ITK, open_itk
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.sources.source import DENSEST
from iddpm.data.values import Chunk, Wanted, find_values

Affine = Sequence[Sequence[float]] | NDArray[Any]
"""From voxel indices to millimetres right, front and up, 4 x 4."""
NIFTI = (".nii", ".nii.gz")
_PAIRS, _PACKED = (".hdr", ".img"), (".gz", ".mgz")
VOLUMES = (*NIFTI, ".mgz", ".mgh", ".hdr", ".mnc", *ITK)
VOLUME_PARTS = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Of files with the voxels to which another is the header."""
_KEPT = 1 << 30  # bytes of unpacked volumes that stay in memory
_BEFORE = 1 << 26  # bytes that may lie before the voxels


class Volumes(RecordingFiles):
    """The volumes below a folder, or one file, as ``[C, X, Y, Z]`` in their own orientation.

    Integers without scaling stay integers; others are floats. An uncompressed file is mapped, a
    compressed one unpacked into memory. A fourth axis is the channels.

    Args:
        path: a folder or a file.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.
        value_range: see `iddpm.data.values.find_values`.
        corrupt: see `iddpm.data.sources.folder.RecordingFiles`.

    Raises:
        ValueError: a damaged file, or files that differ in channels or orientation.
    """

    def __init__(
        self,
        path: Path,
        *,
        labels: str = "auto",
        value_range: Wanted = None,
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        nib: Any = needed("nibabel", "nifti", f"reading {path}")
        super().__init__(path, VOLUMES, corrupt)
        opened = [open_volume(self._root / key) for key in self._keys]
        self._scaled = [is_scaled(image) for image in opened]
        shapes = [tuple(map(int, image.shape)) for image in opened]
        channels = {shape[3] if len(shape) == 4 else 1 for shape in shapes}
        if len(channels) > 1:
            raise ValueError(f"{self.name} holds volumes of {sorted(channels)} channels")
        axes = {
            tuple(code or "?" for code in nib.aff2axcodes(image.affine)): key
            for image, key in zip(opened, self._keys, strict=True)
        }
        if len(axes) > 1:
            (one, first), (other, second) = list(axes.items())[:2]
            raise ValueError(
                f"{first} is stored in the orientation {''.join(one)} and {second} in "
                f"{''.join(other)}: convert them to one, for example with "
                "nibabel.as_closest_canonical"
            )
        spacings = np.array([image.header.get_zooms()[:3] for image in opened])
        if not np.allclose(spacings, spacings[0], rtol=0.01):
            warnings.warn(
                f"{self.name} holds volumes of different voxel sizes, from {spacings.min(0)} to "
                f"{spacings.max(0)} mm; they are not resampled",
                stacklevel=3,
            )
        self.channels = channels.pop()
        self.sizes = [shape[:3] for shape in shapes]
        dtypes = {image.get_data_dtype().newbyteorder("=") for image in opened}
        integers = len(dtypes) == 1 and not any(self._scaled)
        self._dtype = dtypes.pop() if integers else np.dtype(np.float32)
        if self._dtype.kind not in "iuf":
            raise ValueError(f"{self.name} holds {self._dtype}; save integers or floats")
        self._unpacked: dict[int, NDArray[Any]] = {}
        self.labels, self.class_names = labels_of_files(labels, self._keys, self._root)
        nbytes = sum(map(prod, shapes)) * self._dtype.itemsize
        self._values = find_values(self.name, self._dtype, value_range, nbytes, self._chunks)
        self.bits = self._values.bits
        affine = tuple(tuple(map(float, row)) for row in opened[0].affine)
        self.form = Form("volume", self._values, affine=affine)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind."""
        return {**self.__dict__, "_unpacked": {}}

    def _read_whole(self, key: str) -> None:
        path = self._root / key
        read_voxels(path, open_volume(path))

    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        patch = np.asarray(self._volume(index)[box])
        return patch[None] if patch.ndim == 3 else np.moveaxis(patch, -1, 0)

    def _volume(self, index: int) -> Any:
        if index in self._unpacked:
            return self._unpacked[index]
        path = self._root / self._keys[index]
        unpacked = read_voxels(path, open_volume(path))
        if self._scaled[index] or not isinstance(unpacked, np.memmap):
            unpacked = unpacked.astype(self._dtype, copy=False)
            kept = [v for v in self._unpacked.values() if not isinstance(v, np.memmap)]
            if sum(v.nbytes for v in kept) + unpacked.nbytes > _KEPT:
                self._unpacked.clear()
        self._unpacked[index] = unpacked
        return unpacked

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, size in enumerate(self.sizes):
            step = max(1, (1 << 24) // max(1, prod(size[1:])))
            starts = range(0, size[0], step)
            for start in starts if whole else starts[:1]:
                part = (min(step, size[0] - start), *size[1:])
                yield [index], self._raw(index, (start, 0, 0), part)[None]


def open_volume(path: Path) -> Any:
    """Return the image of nibabel that a file holds, its voxels not read yet.

    Raises:
        ValueError: no volume, one cut short, or neither a volume nor one with channels.
    """
    name = path.name.lower()
    image = open_itk(path) if name.endswith(ITK) else _open_by_nibabel(path)
    shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()  # some are of 32 bits
    promised, before = prod(shape) * dtype.itemsize, int(getattr(image.dataobj, "offset", 0))
    held = path
    if name.endswith(_PAIRS):
        held = Path(image.file_map["image"].filename)
        if not held.is_file():
            raise ValueError(f"{path} is a header, and {held.name} with its voxels is missing")
    room = held.stat().st_size * (DENSEST if _dense(held) else 1)
    if name.endswith(ITK):
        room = promised  # looked at where the voxels are known to lie
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} has shape {shape}; volumes have 3 axes, or 4 with channels")
    if promised > room or before > min(room, _BEFORE):
        raise ValueError(
            f"{path} is truncated: its header promises {promised} bytes of voxels, {before} "
            "bytes in"
        )
    return image


def _open_by_nibabel(path: Path) -> Any:
    nib = needed("nibabel", "nifti", f"reading {path}")
    nifti = path.name.lower().endswith(NIFTI)
    try:
        with _silent(nib.imageglobals.logger):  # one sentence is enough for what is refused
            if nifti:
                return _image_class(nib, path).from_filename(path, mmap=True)
            return nib.load(path)
    except Exception as error:  # nibabel raises ImageFileError, HeaderDataError, OSError, ...
        reason = " ".join(str(error).split())
        what = "NIfTI file" if nifti else "volume"
        raise ValueError(f"{path} is not a {what} that can be read ({reason})") from None


def _dense(path: Path) -> bool:
    """Say whether what a file holds may be compressed: that in MINC is where it is HDF5."""
    return path.name.lower().endswith((*_PACKED, ".mnc"))


@contextmanager
def _silent(logger: Any) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _image_class(nib: Any, path: Path) -> Any:
    """Return the class of images, NIfTI-1 or 2, whose extensions are not read.

    Nothing here needs them, and what they promise would be allocated, which in a compressed file
    can be any size.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start = file.read(4)
    second = 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
    image = nib.Nifti2Image if second else nib.Nifti1Image
    plain = nib.nifti1.Nifti1Extensions
    none = type("NoExtensions", (plain,), {"from_fileobj": classmethod(lambda cls, *rest: cls())})
    header = type("Header", (image.header_class,), {"exts_klass": none})
    return type("Image", (image,), {"header_class": header})


def read_voxels(path: Path, image: Any) -> Any:
    """Return the voxels of an opened volume: floats where they are scaled, else what is stored.

    Those of a file that is not compressed are mapped.
    """
    try:
        return np.asarray(image.dataobj) if is_scaled(image) else image.dataobj.get_unscaled()
    except Exception as error:  # nibabel and gzip raise OSError, EOFError, zlib.error, ...
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason})") from None


def is_scaled(image: Any) -> bool:
    """Return whether a volume's numbers are stored times a slope or with an intercept.

    A slope of 0 or NaN means neither (NIfTI-1, scl_slope). The image holds them, not its header,
    where nibabel blanks them when it opens a file.
    """
    voxels = image.dataobj  # that of MINC scales each slice, and has neither
    return (getattr(voxels, "slope", None), getattr(voxels, "inter", None)) != (1.0, 0.0)


def orientation(affine: Affine) -> tuple[str, ...]:
    """Return the direction in which each axis of voxels runs, such as ``("R", "A", "S")``.

    Oblique axes have the nearest direction, so that each of the three is named once.

    Raises:
        ValueError: an affine by which some axis runs nowhere.
    """
    nib = needed("nibabel", "nifti", "telling left from right")
    codes: tuple[str | None, ...] = nib.aff2axcodes(np.asarray(affine, dtype=np.float64))
    named = tuple(code for code in codes if code is not None)
    if len(named) < 3:
        raise ValueError(f"the affine {np.asarray(affine).tolist()} does not say where axes run")
    return named


def left_right_axis(affine: Affine) -> int:
    """Return the axis of voxels, 0 to 2, that runs between the patient's left and right."""
    return next(axis for axis, code in enumerate(orientation(affine)) if code in "LR")

"""Volumes to upscale."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iddpm.data.sources.extras import needed
from iddpm.data.sources.volumes import is_scaled, open_volume, read_voxels
from iddpm.data.upscaling.low_res import LowRes, Target


class Volume(LowRes):
    """One NIfTI file; the upscaled one fills the same box with smaller voxels.

    Raises:
        ValueError: a damaged file, or channels or numbers that are not the model's.
    """

    count = 1

    def __init__(self, path: Path, target: Target) -> None:
        image = open_volume(path)
        *size, channels = image.shape if len(image.shape) == 4 else (*image.shape, 1)
        target.check(path, channels, "a volume")
        self._dtype = image.get_data_dtype().newbyteorder("=")
        if is_scaled(image):
            self._dtype = np.dtype(np.float32)
        target.check_numbers(path, self._dtype)
        self.path, self._target = path, target
        self.output = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
        self.shape = (channels, *size)
        self._header, self._affine = image.header.copy(), image.affine

    def read(self, start: int, stop: int) -> Tensor:
        """Return the volume."""
        voxels = np.asarray(read_voxels(self.path, open_volume(self.path)))
        voxels = voxels[None] if len(voxels.shape) == 3 else np.moveaxis(voxels, -1, 0)
        return self._target.to_model(self.path, voxels[None])[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write a volume of the same numbers, its header but for the size of voxels kept."""
        self._save(self._target.values.restore(x[0]).astype(self._dtype), path)

    def spread_name(self, name: str) -> str:
        """Return the name of a volume in the same space."""
        return f"{name.removesuffix(self.output)}.std{self.output}"

    def write_spread(self, spread: Tensor, path: Path) -> None:
        """Write a float32 volume in the same space."""
        self._save(self._target.spread(spread[0]), path)

    def _save(self, stored: NDArray[Any], path: Path) -> None:
        nibabel: Any = needed("nibabel", "nifti", f"writing {path.name}")
        voxels = stored[0] if len(stored) == 1 else np.moveaxis(stored, 0, -1)
        target, header = self._target, self._header.copy()
        affine = upscaled_affine(self._affine, target.scale, target.corners)
        header.set_data_dtype(stored.dtype)
        header.set_slope_inter(1, 0)
        second = isinstance(header, nibabel.Nifti2Header)
        make = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        image = make(np.ascontiguousarray(voxels), affine, header)
        for name in ("sform", "qform"):  # in the space that each was said to be in
            code = int(self._header[f"{name}_code"])
            if code or (name == "sform" and not int(self._header["qform_code"])):
                getattr(image, f"set_{name}")(affine, code or 2)
        data = image.to_bytes()
        path.write_bytes(gzip.compress(data, 6, mtime=0) if self.output.endswith(".gz") else data)


def upscaled_affine(
    affine: NDArray[Any], scale: Sequence[int], corners: bool = False
) -> NDArray[np.float64]:
    """Return the affine of voxels that are ``scale`` times smaller and fill the same box.

    The center of voxel j of the upscaled volume is at (j + 1/2) / scale - 1/2 of the other one;
    with ``corners`` at j / scale, where every so many-th voxel was kept.
    """
    step = 1 / np.array(scale, dtype=np.float64)
    within = np.eye(4)
    within[:3, :3] = np.diag(step)
    if not corners:
        within[:3, 3] = step / 2 - 0.5
    return np.asarray(affine, dtype=np.float64) @ within

"""Volumes as NIfTI files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.extras import needed


def write_volume(path: Path, item: NDArray[Any], form: Form) -> None:
    """Write a volume ``[C, *spatial]`` with the affine of the data."""
    nibabel = needed("nibabel", "nifti", f"writing {path.name}")
    voxels = item[0] if len(item) == 1 else np.moveaxis(item, 0, -1)
    affine = np.eye(4) if form.affine is None else np.array(form.affine)
    image = nibabel.Nifti1Image(np.ascontiguousarray(voxels), affine, dtype=item.dtype)
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))

"""Crops of a brain scan (MNI152), 32 voxels a side, beside a Gaussian with their main directions.

make run-volumes
"""

import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.runs.common import (
    DATA,
    PICTURES,
    bound,
    compare,
    finish,
    installed,
    items,
    packed,
    prepared,
    spread,
    table,
    trained,
)
from benchmarks.runs.gaussian import of_levels
from benchmarks.runs.picture import beside
from iddpm.runtime.atomic_files import write_atomically

COMMAND = "pip install --no-deps nilearn==0.14.1"
FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
EXAMPLE = "examples/mri_crops.yaml"
SHOWN = 12


def prepare(to: Path = DATA / "mni_icbm152_t1.nii") -> Path:
    """Write the scan without the air around it, front to back along its first axis.

    A split parts slabs across the first axis. The template is its own mirror image, left to right,
    so that slabs across that axis would show each other.
    """
    scan = nib.load(installed("nilearn", FILE, COMMAND))
    inside = np.nonzero(np.asarray(scan.dataobj))
    scan = scan.slicer[tuple(slice(int(at.min()), int(at.max()) + 1) for at in inside)]
    voxels = np.asarray(scan.dataobj).astype(np.uint8).transpose(1, 0, 2)
    turned = nib.Nifti1Image(voxels, scan.affine[:, [1, 0, 2, 3]])
    return write_atomically(to, turned.to_filename)


def run(
    data: Path,
    out: Path,
    picture: Path,
    *,
    settings: Sequence[str] = (),
    n: int = 300,
    steps: int = 20,
    looks: int = 8,
    measured: int = 100,
) -> None:
    """Train, measure and draw.

    Args:
        data: the scan.
        out: the run directory.
        picture: where to draw.
        settings: of training, beside the example's.
        n: samples to measure.
        steps: network evaluations for each.
        looks: network evaluations for each item's likelihood.
        measured: held-out crops whose likelihood is measured.
    """
    started = time.monotonic()
    model = trained(data, out, EXAMPLE, settings)
    train, held_out = items(model.config)
    other = of_levels(train, held_out, 8, n)
    likelihood = bound(model, samples_per_item=looks, max_items=measured)
    alone = packed(spread(held_out, measured))
    rows = compare(model, likelihood, [other], features="pca", n=n, steps=steps, xz=alone)
    drawn = model.sample(SHOWN, steps=steps, seed=1, precision="auto")
    mosaics = {
        "held out": spread(held_out, SHOWN),
        "drawn by the model": drawn,
        other.name: other.samples[:SHOWN],
    }
    print(f"wrote {beside(mosaics, picture, columns=2, scale=2)}")
    finish(["Likelihood in bits/dim.\n", table(rows)], out, started)


if __name__ == "__main__":
    run(prepared(prepare), Path("runs/volumes"), PICTURES / "volumes.png")

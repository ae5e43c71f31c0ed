"""Patches of photographs that scikit-image and scikit-learn carry, for super-resolution.

make run-photos-sr
"""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.runs.common import DATA, installed
from iddpm.runtime.atomic_files import write_atomically

COMMAND = "pip install --no-deps scikit-image==0.26.0 scikit-learn==1.9.1"
PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "palace": ("sklearn", "datasets/images/china.jpg"),
}
SIZE, STRIDE = 64, 32


def prepare(to: Path = DATA / "photos") -> Path:
    """Write the patches, a folder for each photograph: the split keeps photographs whole."""
    for name, (package, path) in PHOTOGRAPHS.items():
        pixels = np.asarray(Image.open(installed(package, path, COMMAND)).convert("RGB"))
        height, width = pixels.shape[:2]
        for top in range(0, height - SIZE + 1, STRIDE):
            for left in range(0, width - SIZE + 1, STRIDE):
                patch = pixels[top : top + SIZE, left : left + SIZE]
                file = to / name / f"{name}_{top:03d}_{left:03d}.png"
                write_atomically(file, Image.fromarray(patch).save)
    return to

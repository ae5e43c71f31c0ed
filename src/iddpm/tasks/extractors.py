"""The features that data is compared by, opened by name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from iddpm.data.sources.source import Source
from iddpm.evaluation.features import PCA_ITEMS, Extractor, onnx_file, pixel_pca
from iddpm.runs.classifier import Classifier, load_classifier
from iddpm.runs.step_tables import spread
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.inception_features import inception_features
from iddpm.tasks.real_statistics import read_items

PCA, INCEPTION = "pca", "inception"
PCA_VALUES = 2**27
"""Numbers that a PCA is fitted to: fewer items where they are large (1 GiB in float64)."""
_STEM = "Conv2d_1a_3x3.conv.weight"
_WORKS = (
    "give pca, the directory of a classifier, an .onnx or .safetensors file, or inception with "
    "--weights FILE"
)


@dataclass(frozen=True, eq=False)
class Compared:
    """What the features have to serve.

    Attributes:
        where: whose items they are, for messages.
        source: real data.
        items: positions of those that a PCA is fitted to.
        device: where networks compute.
    """

    where: str
    source: Source
    items: NDArray[np.int64]
    device: torch.device


def open_extractor(
    name: str, weights: Path | None, compared: Compared, ranks: Ranks = ALONE
) -> tuple[Extractor, Classifier | None]:
    """Return the features of that name, and the classifier where they are one's.

    Args:
        name: ``pca``, ``inception``, or a path.
        weights: the file of weights that ``inception`` needs.
        compared: what the features have to serve.
        ranks: who computes them.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: it is there and does not serve, or is for items of another shape.
    """
    if weights is not None and name != INCEPTION:
        raise ValueError(f"--weights {weights} needs --features inception, not {name}")
    if name == PCA:  # fitted once, since the directions' last bits depend on the machine
        most = max(PCA_VALUES // int(np.prod(compared.source.shape)), 2)
        items = spread(compared.items, min(PCA_ITEMS, most))
        return ranks.by_first(lambda: pixel_pca(read_items(compared.source, items))), None
    with ranks.together():
        if name == INCEPTION:
            if weights is None:
                raise ValueError(
                    "--features inception needs --weights FILE, such as "
                    "pt_inception-2015-12-05-6726825d.pth: nothing is downloaded"
                )
            return _inception(weights, compared), None
        return _open_network(Path(name).expanduser(), compared)


def _open_network(path: Path, compared: Compared) -> tuple[Extractor, Classifier | None]:
    if path.is_dir():
        return _classifier(path, compared)
    if not path.is_file() and path.suffix != ".onnx":
        raise FileNotFoundError(f"there are no features {path}: {_WORKS}")
    if path.suffix == ".onnx":
        extractor = onnx_file(path)
        # Another size is refused before anything is drawn.
        extractor(torch.zeros(2, *compared.source.shape))
        return extractor, None
    if path.suffix == ".safetensors" and _STEM not in _names(path):
        return _classifier(path, compared)
    return _inception(path, compared), None


def _inception(path: Path, compared: Compared) -> Extractor:
    return inception_features(path, compared.source.shape, compared.device)


def _classifier(path: Path, compared: Compared) -> tuple[Extractor, Classifier]:
    classifier, shape = load_classifier(path, str(compared.device)), compared.source.shape
    if classifier.shape != shape:
        raise ValueError(
            f"the classifier in {path} takes items of shape {classifier.shape}, and "
            f"{compared.where} has items of shape {shape}"
        )
    judge = Extractor("classifier", classifier.hash, classifier.features, whiten=True)
    return judge, classifier


def _names(path: Path) -> set[str]:
    """Return the names of a safetensors file's tensors; none where it is damaged."""
    try:
        with safe_open(path, "np") as file:
            return set(file.keys())
    except (SafetensorError, OSError):
        return set()

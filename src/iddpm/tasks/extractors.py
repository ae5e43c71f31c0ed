"""The features that a run's samples are compared by, opened by name."""

from pathlib import Path

import torch

from iddpm.builders.run_data import Split
from iddpm.evaluation.features import PCA_ITEMS, Extractor, onnx_file, pixel_pca
from iddpm.runs.classifier import Classifier, load_classifier
from iddpm.runs.run import Run
from iddpm.runs.step_tables import spread
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.real_statistics import read_items


def open_extractor(
    name: str, run: Run, split: Split, ranks: Ranks = ALONE
) -> tuple[Extractor, Classifier | None]:
    """Return the features of that name, and the classifier where they are one's.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: it is there and does not serve, or is for items of another shape.
    """
    if name == "pca":  # fitted once, since the directions' last bits depend on the machine
        items = spread(split.train, PCA_ITEMS)
        return ranks.by_first(lambda: pixel_pca(read_items(split.source, items))), None
    with ranks.together():
        return _open_network(Path(name), run)


def _open_network(path: Path, run: Run) -> tuple[Extractor, Classifier | None]:
    if path.is_dir():
        classifier = load_classifier(path, str(run.device))
        if classifier.shape != run.shape:
            raise ValueError(
                f"the classifier in {path} takes items of shape {classifier.shape}, and "
                f"{run.directory} has items of shape {run.shape}"
            )
        judge = Extractor("classifier", classifier.hash, classifier.features, whiten=True)
        return judge, classifier
    if path.is_file() and path.suffix != ".onnx":
        raise ValueError(
            f"{path} is not an .onnx file: TorchScript and pickles can run code and are not "
            "read; convert them with torch.onnx.export"
        )
    if path.suffix != ".onnx":
        raise FileNotFoundError(
            f"there are no features {path}: give pca, the directory of a classifier, or an "
            ".onnx file"
        )
    extractor = onnx_file(path)
    extractor(torch.zeros(2, *run.shape))  # another size is refused before anything is drawn
    return extractor, None

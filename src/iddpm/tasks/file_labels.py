"""The classes of files that are upscaled or restored."""

from collections.abc import Mapping

import torch
from torch import Tensor

from iddpm.builders import check_class_left_open
from iddpm.data.upscaling.low_res import LowRes
from iddpm.runs.run import Run
from iddpm.sampling import NO_CLASS


def labels_of(
    run: Run, opened: Mapping[str, LowRes], class_name: str | int | None
) -> Tensor | None:
    """Return the classes of all items by their labels; None where there are none or one is given.

    A class that is given instead becomes the label of the files that have labels.

    Raises:
        ValueError: an unknown class, or none for a model that always had one in training.
    """
    if run.classes is None:
        return None
    if class_name is not None:
        for file in opened.values():
            file.drawn_as = run.classes.number(class_name)
            file.drawn_name = run.classes.name(file.drawn_as)
        return None
    if all(file.classes is None for file in opened.values()):
        return None
    y = []
    for file in opened.values():
        names = file.classes or [NO_CLASS] * file.count
        y += [NO_CLASS if name == NO_CLASS else run.classes.number(name) for name in names]
    if NO_CLASS in y:
        check_class_left_open(run.config, run.directory)
    return torch.tensor(y)

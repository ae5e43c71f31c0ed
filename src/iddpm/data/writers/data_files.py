"""Samples as files like those of the data: sounds, tables of numbers, volumes and clips."""

import csv
import io
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iddpm.data.conditioning.conditions import GROUP, Condition
from iddpm.data.file_format import Form
from iddpm.data.formats import WRITERS, Writer
from iddpm.data.values import natural_values
from iddpm.data.writers.clip_encoding import to_images
from iddpm.runtime.atomic_files import write_atomically, write_text


def save_files(x: torch.Tensor, directory: Path | str, form: Form, *, start: int = 0) -> list[Path]:
    """Write each of ``x`` ``[N, C, *spatial]`` in [-1, 1] as a file of the data's kind.

    Sounds become .wav, .flac or .aiff files of the data's rate and coding, volumes .nii.gz files
    with its affine, clips .gif, .webp or .tif files or folders of .png frames, rasters .tif files.

    Args:
        x: finite samples.
        directory: made when it is missing.
        form: what the data is, of a kind in `iddpm.data.formats.WRITERS`.
        start: number of the first file.

    Returns:
        The files, or the folders.

    Raises:
        ValueError: samples that are not finite, or a library that is missing.
    """
    paths, writer = [], WRITERS[form.kind]
    for number, item in enumerate(_stored(x, form), start):
        path = Path(directory) / f"{number:06d}{writer.suffix(form)}"
        if form.encoding == "frames":
            for place, image in enumerate(to_images(item)):
                write_atomically(path / f"{place:04d}.png", partial(image.save, format="PNG"))
        else:
            write_atomically(path, partial(_write, writer, form, item))
        paths.append(path)
    return paths


def save_table(
    x: torch.Tensor, path: Path | str, form: Form, *, labels: list[str] | None = None
) -> Path:
    """Write signals ``[N, 1, L]`` in [-1, 1] as rows of a .csv, the class last.

    Raises:
        ValueError: samples of several channels, or that are not finite.
    """
    if x.ndim != 3 or x.shape[1] != 1:
        raise ValueError(f"samples of shape {tuple(x.shape)} cannot be rows of a table")
    rows = _stored(x, form)[:, 0]
    digits = "%d" if rows.dtype.kind in "iu" else "%.9g"

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            for number, row in enumerate(rows):
                end = "" if labels is None else f",{labels[number]}"
                file.write(",".join(digits % value for value in row) + end + "\n")

    return write_atomically(Path(path), write)


def save_labels(labels: Sequence[str], path: Path, names: Sequence[str]) -> Path:
    """Write the classes of samples as a table that data.labels reads; names are those of files."""
    return _write_csv(path, [("file", "label"), *zip(names, labels, strict=True)])


def save_conditions(
    conditions: Sequence[Condition], encoded: NDArray[np.float64], path: Path, names: Sequence[str]
) -> Path:
    """Write the requested conditions of samples [N, K] as a table that data.conditions reads.

    Args:
        conditions: those of the model.
        encoded: the network's input; NaN leaves a cell empty.
        path: the .csv file.
        names: of the samples' files, or their numbers.
    """
    rows = [["file", *(condition.name for condition in conditions)]]
    for name, values in zip(names, encoded.tolist(), strict=True):
        cells = [c.decode(value) for c, value in zip(conditions, values, strict=True)]
        rows.append([name, *cells])
    return _write_csv(path, rows)


def condition_members(
    conditions: Sequence[Condition], encoded: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Return the requested conditions of samples [N, K] as members of a .npz file."""
    members: dict[str, NDArray[Any]] = {}
    for condition, column in zip(conditions, encoded.T, strict=True):
        cells = [condition.decode(value) for value in column.tolist()]
        numbers = condition.names is None
        values = np.array([float(cell or "nan") for cell in cells]) if numbers else np.array(cells)
        members[GROUP + condition.name] = values
    return members


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return write_text(path, text.getvalue())


def _stored(x: torch.Tensor, form: Form) -> NDArray[Any]:
    if not torch.isfinite(x).all():
        raise ValueError("samples hold NaN or infinity; they cannot be written")
    return (form.values or natural_values(8)).restore(x)


def _write(writer: Writer, form: Form, item: NDArray[Any], path: Path) -> None:
    writer.write(path, item, form)

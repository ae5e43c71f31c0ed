"""The items of DICOM files: series of slices as volumes, and other files each by itself."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.dicom_headers import Header, Plane
from iddpm.data.sources.unreadable import UnreadablePictureError

Affine = tuple[tuple[float, ...], ...]
_PROJECTIONS = frozenset(("CR", "DX", "MG", "IO", "PX", "RG", "XA", "RF", "US", "ES", "XC", "OP"))
"""Modalities whose files are pictures by themselves, whatever series they are in."""
_JITTER, _GAP = 0.01, 0.1
"""Parts of the distance between slices by which one may differ in silence, and at all."""
_NAMED = 5


@dataclass(frozen=True)
class Item:
    """A volume, or a picture.

    Attributes:
        key: the folder of a series, or a file, relative to the data.
        headers: of its files.
        planes: in their order along the normal of the slices, or as a file has them.
        affine: from indices of slice, row and column to mm right, front and up, as NIfTI has it;
            None where positions are unknown.
    """

    key: str
    headers: tuple[Header, ...]
    planes: tuple[Plane, ...]
    affine: Affine | None

    @property
    def header(self) -> Header:
        """The first, for what all agree in."""
        return self.headers[0]

    @property
    def files(self) -> list[Path]:
        """Where it lies, in the order of names."""
        return sorted(header.path for header in self.headers)

    @property
    def deep(self) -> bool:
        """Whether it has an axis of slices or frames."""
        return len(self.planes) > 1


def arrange(
    root: Path,
    folders: dict[str, list[Header]],
    column: str | None,
    left_out: Callable[[str, UnreadablePictureError], None] | None,
) -> list[Item]:
    """Return the items of the files of each folder.

    Args:
        root: of the keys.
        folders: headers by the folder that the files lie in, relative to the root.
        column: the number, description or UID of the series to read where folders hold several.
        left_out: called with a series that cannot be used; None raises.

    Raises:
        UnreadablePictureError: a series that lacks slices, or has several at a position.
        ValueError: a folder of several series of slices, or none of the name.
    """
    items: list[Item] = []
    for folder, headers in folders.items():
        series: dict[str, list[Header]] = {}
        for header in headers:
            if column is None or column in header.names:
                series.setdefault(header.series, []).append(header)
        stacks = [part for part in series.values() if _is_stack(part)]
        if stacks and len(series) > 1:
            raise ValueError(_several(root / folder, list(series.values())))
        makes: list[tuple[str, Callable[[], Item]]] = (
            [(folder, partial(_volume, root, folder, stacks[0]))]
            if stacks
            else [
                (_key(root, header.path), partial(_alone, root, header))
                for part in series.values()
                for header in part
            ]
        )
        for key, make in makes:
            try:
                items.append(make())
            except UnreadablePictureError as error:
                if left_out is None:
                    raise
                left_out(key, error)
    if not items and column is not None:
        parts: dict[str, list[Header]] = {}
        for header in (header for headers in folders.values() for header in headers):
            parts.setdefault(header.series, []).append(header)
        raise ValueError(
            f"{root} has no series called {column}: it holds {_listed(list(parts.values()))}"
        )
    return items


def _is_stack(headers: list[Header]) -> bool:
    """Say whether files of a series are slices of a volume."""
    return len(headers) > 1 and all(
        len(h.planes) == 1
        and h.planes[0].position is not None
        and h.directions is not None
        and h.modality not in _PROJECTIONS
        for h in headers
    )


def _several(folder: Path, series: list[list[Header]]) -> str:
    name = series[0][0].names[0]
    return (
        f"{folder} holds {len(series)} series: {_listed(series)}; put each into its own folder, or "
        f"choose one by its number, description or UID, such as -s data.column={name}"
    )


def _listed(series: list[list[Header]]) -> str:
    names = [
        f"{part[0].title!r} ({part[0].modality}, {len(part)} file{'s' * (len(part) > 1)})"
        for part in sorted(series, key=lambda part: part[0].title)[:_NAMED]
    ]
    more = f" and {len(series) - _NAMED} more" if len(series) > _NAMED else ""
    return ", ".join(names) + more


def _alone(root: Path, header: Header) -> Item:
    key = _key(root, header.path)
    placed = all(plane.position is not None for plane in header.planes)
    if len(header.planes) == 1 or not placed or header.directions is None:
        return Item(key, (header,), header.planes, None)
    planes, affine = _sorted(key, header, header.planes)
    return Item(key, (header,), planes, affine)


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _volume(root: Path, folder: str, headers: list[Header]) -> Item:
    first = headers[0]
    where = root / folder
    for other in headers[1:]:
        for what, one, two in (
            ("size", first.size, other.size),
            ("kind of pixel", (first.light, first.samples), (other.light, other.samples)),
        ):
            if one != two:
                raise UnreadablePictureError(
                    f"{where} holds slices that differ in {what}: {first.path.name} has {one} and "
                    f"{other.path.name} {two}"
                )
        if not np.allclose(first.directions or (), other.directions or (), atol=1e-3):
            raise UnreadablePictureError(
                f"{where} holds slices of several orientations, such as {first.path.name} and "
                f"{other.path.name}: put those of each into its own folder"
            )
    planes, affine = _sorted(str(where), first, tuple(h.planes[0] for h in headers))
    key = folder if folder != "." else root.resolve().name
    return Item(key, tuple(headers), planes, affine)


def _sorted(
    name: str, header: Header, planes: tuple[Plane, ...]
) -> tuple[tuple[Plane, ...], Affine | None]:
    """Return slices in the order of their positions along the normal, and what places them.

    Raises:
        UnreadablePictureError: several slices at a position, or a gap between them.
    """
    assert header.directions is not None
    row, column = np.array(header.directions[:3]), np.array(header.directions[3:])
    positions = np.array([plane.position for plane in planes])
    heights = positions @ np.cross(row, column)
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    usual = float(np.median(steps))
    if steps.min() <= 1e-3 * max(usual, 1e-3):
        same = int(np.argmin(steps))
        one, two = (planes[k].path.name for k in order[same : same + 2])
        raise UnreadablePictureError(
            f"{name} holds several slices at one position, such as {one} and {two}: put each "
            "time point, echo or copy into its own folder"
        )
    off = np.abs(steps - usual) / usual
    if off.max() > _GAP:
        at = int(np.argmax(off))
        one, two = (planes[k].path.name for k in order[at : at + 2])
        raise UnreadablePictureError(
            f"{name} lacks slices: {one} and {two} are {steps[at]:.4g} mm apart, others "
            f"{usual:.4g} mm"
        )
    if off.max() > _JITTER:
        warnings.warn(
            f"{name} has slices {steps.min():.4g} to {steps.max():.4g} mm apart, which are taken "
            f"for {float(steps.mean()):.4g} mm",
            stacklevel=2,
        )
    placed = tuple(planes[k] for k in order)
    if header.spacing is None:
        return placed, None
    step = (positions[order[-1]] - positions[order[0]]) / (len(planes) - 1)
    down, right = header.spacing
    return placed, _affine(step, column * down, row * right, positions[order[0]])


def _affine(
    step: NDArray[np.float64],
    down: NDArray[np.float64],
    right: NDArray[np.float64],
    start: NDArray[np.float64],
) -> Affine:
    """Return an affine of NIfTI, whose first two directions are opposite to DICOM's."""
    matrix = np.eye(4)
    matrix[:3] = np.stack([step, down, right, start], 1)
    matrix[:2] *= -1
    return tuple(tuple(map(float, line)) for line in matrix + 0.0)

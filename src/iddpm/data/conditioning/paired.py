"""Paired data: another source whose items belong to those of the first, by name or number."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import DerivedSource, Source
from iddpm.data.sources.volumes import orientation


class Paired(DerivedSource):
    """The items of a source in the order of those of another that they go with.

    Names of files are compared, with or without their suffix; rows of arrays go by their number,
    and what is cut out of a single file by where it starts.

    Args:
        given: the source to read from.
        source: what its items go with, of the same spatial size.

    Raises:
        ValueError: another size, another number of rows, or an item with nothing to go with it.
    """

    def __init__(self, given: Source, source: Source) -> None:
        if given.shape[1:] != source.shape[1:]:
            raise ValueError(
                f"{given.name} has items of size {_by(given)} and {source.name} of "
                f"{_by(source)}: paired data must have the same size"
            )
        _refuse_turned(given, source)
        keys, wanted = _keys(given), _keys(source)
        numbered = keys[0] == "0" and wanted[0] == "0"
        if numbered and len(keys) != len(wanted):
            raise ValueError(
                f"{given.name} has {len(keys)} rows and {source.name} {len(wanted)}: paired "
                "data needs one row for each item"
            )
        by_key = {key: row for row, key in enumerate(keys)}
        by_stem: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            by_stem.setdefault(_stem(key), []).append(row)
        rows = []
        for key in wanted:
            fitting = [by_key[key]] if key in by_key else by_stem.get(_stem(key), [])
            if len(fitting) != 1:
                some = "several items" if fitting else "no item"
                raise ValueError(
                    f"{given.name} holds {some} to pair with {key or source.key(0)} of "
                    f"{source.name}: name its files like those of the data, with any suffix"
                )
            rows += fitting
        self._source = given
        self._rows = np.array(rows, dtype=np.int64)
        self.name, self.shape, self.bits = given.name, given.shape, given.bits
        self.labels, self.class_names = None, ()
        self.ready, self.form = given.ready, given.form

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """Return the key in the other source."""
        return self._source.key(int(self._rows[index]))

    def group(self, index: int) -> str:
        """Return the group in the other source."""
        return self._source.group(int(self._rows[index]))

    def recording(self, index: int) -> str:
        """Return the recording in the other source."""
        return self._source.recording(int(self._rows[index]))

    def read(self, index: int) -> NDArray[Any]:
        """Return the item that goes with item ``index``."""
        return self._source.read(int(self._rows[index]))

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return items as ``[N, C, *spatial]``."""
        return self._source.read_many(self._rows[np.asarray(indices, dtype=np.int64)])


def _refuse_turned(given: Source, source: Source) -> None:
    """Refuse volumes whose axes run in other directions than those of the data."""
    if given.form.affine is None or source.form.affine is None:
        return
    one, other = orientation(given.form.affine), orientation(source.form.affine)
    if one != other:
        raise ValueError(
            f"{given.name} is stored in the orientation {''.join(one)} and {source.name} in "
            f"{''.join(other)}: convert them to one orientation, for example with "
            "nibabel.as_closest_canonical"
        )


def _keys(source: Source) -> list[str]:
    """Return the names for pairing items: for windows of a single file, their starts."""
    keys = [source.key(index) for index in range(len(source))]
    only = source.recording(0)
    if len({source.recording(index) for index in range(len(source))}) == 1:
        return [key.removeprefix(only) for key in keys]
    return keys


def _stem(key: str) -> str:
    name, colon, place = key.partition(":")
    return str(PurePosixPath(name).with_suffix("")) + colon + place if name else key


def _by(source: Source) -> str:
    return " x ".join(map(str, source.shape[1:]))

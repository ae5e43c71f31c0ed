"""Tables with a column of pictures or arrays: Hugging Face datasets on disk, and Parquet files.

All are read by pyarrow alone: what a dataset says of itself is JSON, and nothing that it brings
along is run.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrow import as_arrow, features_of, map_table, pyarrow, table_paths
from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.label_tables import Labels, class_table
from iddpm.data.sources.picture import UnreadablePictureError
from iddpm.data.sources.source import Stamp

_LABELS = ("label", "labels")
_SOUND = re.compile(rb"RIFF|RF64|fLaC|OggS|FORM|ID3|\xff[\xe2-\xff]")
"""How files of sounds start: WAV, FLAC, Ogg, AIFF and MP3."""


class TableFiles(Files):
    """One column of a table, an item in each row.

    Labels are a column of integers or words: the one that the features call a class label, else
    ``label`` or ``labels``, or the one that the rule names.

    Args:
        where: a folder that ``datasets`` saved to disk, a folder of .arrow or of .parquet files,
            one such file, or a pattern such as ``train-{00000..00012}-of-00013.parquet``.
        column: the column of the items; None when one can be.

    Attributes:
        arrays: whether the items are arrays; else they are pictures or sounds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: pyarrow is missing, a damaged file, or columns whose meaning is not clear.
    """

    def __init__(self, where: Path, column: str | None = None) -> None:
        self.where = str(where)
        self.name = where.name.partition(".")[0]
        self._paths = table_paths(where)
        self._mapped = as_arrow(self._paths, self.name)
        tables = [map_table(path) for path in self._mapped]
        self._first_rows = np.cumsum([0, *(len(table) for table in tables)])
        if not len(self):
            raise ValueError(f"{where} has no rows")
        schema = tables[0].schema
        for path, table in zip(self._paths, tables, strict=True):
            if not table.schema.equals(schema):
                raise ValueError(
                    f"{path} has the columns {_listed(table.schema)} and {self._paths[0]} has "
                    f"{_listed(schema)}: give files of one table"
                )
        self._features = features_of(where, schema)
        self._types = dict(zip(schema.names, schema.types, strict=True))
        self._column, self.arrays = self._chosen(column)
        self._chunks: tuple[list[Any], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped column behind: a worker process maps it again."""
        return {**self.__dict__, "_chunks": None}

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return list(self._types)

    @property
    def column(self) -> str:
        """Name of the column of the items."""
        return self._column

    @property
    def sounds(self) -> bool:
        """Whether the items are sounds: by the features, else by how the first one starts."""
        stated = self._features.get(self._column, {}).get("_type")
        if self.arrays or stated is not None:
            return bool(stated == "Audio")
        value = self._cell(0)[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        start = data[:12] if isinstance(data, bytes) else b""
        return bool(_SOUND.match(start)) and start[8:] != b"WEBP"

    def key(self, index: int) -> str:
        """Return the row number."""
        return str(index)

    def title(self, index: int) -> str:
        """Return the file, the row and the column."""
        file = int(np.searchsorted(self._first_rows, index, side="right")) - 1
        row = index - int(self._first_rows[file])
        return f"{self._paths[file]}: row {row} of {self._column}"

    def content(self, index: int) -> bytes:
        """Return the bytes of the picture's file."""
        value = self._cell(index)[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            only_path = isinstance(value, dict) and value.get("path")
            stated = self._features.get(self._column, {}).get("_type")
            what = "sound" if stated == "Audio" else "picture"
            raise UnreadablePictureError(
                f"{self.title(index)} holds "
                + (f"the path of a {what} and not the {what}" if only_path else f"no {what}")
            )
        return data

    def array(self, index: int) -> NDArray[Any]:
        """Return the nested list of a row as an array."""
        compute = pyarrow().compute
        values, shape = self._cell(index), []
        while _is_list(values.type):
            lengths = compute.list_value_length(values).unique().to_pylist()
            if len(lengths) != 1 or lengths[0] is None:
                raise ValueError(f"{self.title(index)} is not an array: its lists differ in length")
            shape.append(lengths[0])
            values = values.flatten()
        flat: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return flat.reshape(shape)

    def labels(self, rule: str, chosen: Sequence[int]) -> Labels:
        """Return the labels in a column: by ``auto`` the class labels, else ``label``."""
        if rule == "none":
            return None, ()
        name = self._label_column() if rule == "auto" else rule
        if name is None:
            return None, ()
        if name not in self._types:
            raise ValueError(
                f"labels={rule!r} does not go with {self.where}; use 'auto', 'none' or a column: "
                f"{', '.join(self._types)}"
            )
        values = self._values(name)
        for index in chosen:
            if not isinstance(values[index], str | int):
                raise ValueError(
                    f"{self.title(index)} has the {name} {values[index]}; classes are integers or "
                    "words: set data.labels to another column, or to none"
                )
        found = [values[index] for index in chosen]
        names = self._features.get(name, {}).get("names")
        if not names:
            return class_table([str(value) for value in found])
        numbers = np.array(found, dtype=np.int64)
        if numbers.min() < -1 or numbers.max() >= len(names):  # -1 stands for no class
            bad = chosen[int(np.argmax((numbers < -1) | (numbers >= len(names))))]
            raise ValueError(
                f"{self.title(bad)} has the {name} {values[bad]}, which is none of the "
                f"{len(names)} classes: leave such rows out, or set data.labels=none"
            )
        return numbers, tuple(map(str, names))

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of each file."""
        return (Stamp.of(path, path.name) for path in self._paths)

    def _cell(self, index: int) -> Any:
        """Return the row of the column as an array of one."""
        if self._chunks is None:
            tables = [map_table(path) for path in self._mapped]
            chunks = [chunk for table in tables for chunk in table.column(self._column).chunks]
            starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
            self._chunks = chunks, starts
        chunks, starts = self._chunks
        number = int(np.searchsorted(starts, index, side="right")) - 1
        cell = chunks[number].slice(index - int(starts[number]), 1)
        _check(cell, self.title(index))
        return cell

    def _values(self, name: str) -> list[Any]:
        columns = [map_table(path).column(name) for path in self._mapped]
        for column in columns:
            _check(column, f"{self.where}: {name}")
        return [value for column in columns for value in column.to_pylist()]

    def _chosen(self, column: str | None) -> tuple[str, bool]:
        """Return the column of the items and whether they are arrays."""
        pictures = [name for name in self._types if self._is_picture(name)]
        arrays = [name for name, kind in self._types.items() if _is_array(kind)]
        if column is not None and column in (*pictures, *arrays):
            return column, column in arrays
        possible = pictures or arrays
        if column is None and len(possible) == 1:
            return possible[0], not pictures
        named = ", ".join(pictures + arrays)
        if column is None and possible:
            raise ValueError(
                f"{self.where} has several columns that can be the items ({named}); select one "
                f"with -s data.column={possible[0]}"
            )
        raise ValueError(
            f"{self.where} has the columns {', '.join(self._types)}, and "
            f"{'none of them' if column is None else column} holds pictures or arrays"
            + (f"; use {named}" if named else "")
        )

    def _is_picture(self, name: str) -> bool:
        """Tell by the features, else by the type: encoded pictures are bytes."""
        types, kind = pyarrow().types, self._types[name]
        if types.is_struct(kind):
            return any(field.name == "bytes" for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def _label_column(self) -> str | None:
        marked = [name for name, kind in self._features.items() if kind.get("names")]
        marked = [name for name in marked if name in self._types]
        if len(marked) > 1:
            raise ValueError(
                f"{self.where} has several columns of classes ({', '.join(marked)}); select "
                f"one with -s data.labels={marked[0]}"
            )
        return next(iter(marked), next((name for name in _LABELS if name in self._types), None))


def _check(values: Any, title: str) -> None:
    """Refuse offsets that lead out of the file, which pyarrow itself follows into a crash."""
    try:
        values.validate(full=True)
    except pyarrow().ArrowException as error:
        raise ValueError(f"{title} is damaged ({error}): copy the file again") from error


def _is_list(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_array(kind: Any) -> bool:
    nested = _is_list(kind)
    while _is_list(kind):
        kind = kind.value_type
    types = pyarrow().types
    return nested and bool(types.is_integer(kind) or types.is_floating(kind))


def _listed(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)

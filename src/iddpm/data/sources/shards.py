"""Shards of samples in plain .tar files, in the layout of WebDataset.

Members of one stem are one sample: ``000123.jpg``, ``000123.cls``, ``000123.json``. An index of the
members' offsets makes every sample readable on its own, so that order, held-out items and resuming
are exact as for any source: a stream with a shuffle buffer, the usual way to read such shards,
could promise none of them.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.label_tables import (
    RULES,
    Labels,
    class_table,
    labels_of_files,
    table_and_column,
)
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.shard_paths import shard_paths
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.tar_index import Member, read_index
from iddpm.runtime.console import open_console, progress_bar

_ITEMS = frozenset(suffix[1:] for suffix in SUFFIXES) | {"npy"}
_PICKLES = frozenset(("pkl", "pickle", "pyd", "pth", "pt"))
_READERS = 8  # threads that read small members


class TarFiles(Files):
    """One file of each sample in some shards.

    Labels are those of ``.cls`` members, the values of a key of ``.json`` members (``label``, or
    the one that the rule names), or follow the rules for files.

    Args:
        where: a .tar, a folder of them, or a pattern such as ``{000..012}.tar``.
        column: the suffix of the items, such as ``jpg``; None when each sample has one that can be.

    Attributes:
        arrays: whether the files are .npy arrays; else they are pictures.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: a damaged shard, or samples whose item is not clear.
    """

    def __init__(self, where: str | Path, column: str | None = None) -> None:
        self._shards = shard_paths(Path(where), ".tar")
        self.where = str(where)
        self.name = Path(self.where).name.removesuffix(".tar")
        self._keys: list[str] = []
        self._suffixes: list[str] = []
        self._classes: list[str | None] = []
        places: list[tuple[int, int, int]] = []
        tables: list[tuple[int, int]] = []
        without: list[str] = []
        with progress_bar(open_console(stderr=True), "reading shards") as progress:
            for number, shard in enumerate(progress.track(self._shards)):
                for key, members in _samples(read_index(shard)).items():
                    suffix = self._item_suffix(f"{shard}: {key}", members, column)
                    if suffix is None:
                        without.append(f"{shard}: {key}")
                        continue
                    item, table = members[suffix], members.get("json")
                    self._keys.append(key)
                    self._suffixes.append(suffix)
                    self._classes.append(members["cls"].text if "cls" in members else None)
                    places.append((number, item.offset, item.size))
                    tables.append((table.offset, table.size) if table else (0, -1))
        if without and self._keys:
            raise ValueError(
                f"{len(without)} samples of {self.where} have no item, first {without[0]}: add "
                "one to each, or name the member with -s data.column=jpg"
            )
        if not self._keys:
            raise ValueError(self._nothing_in_it(column))
        self._places: NDArray[np.int64] = np.array(places, np.int64)
        self._tables: NDArray[np.int64] = np.array(tables, np.int64)
        self.arrays = self._suffixes[0].endswith("npy")
        for key, suffix in zip(self._keys, self._suffixes, strict=True):
            if suffix.endswith("npy") != self.arrays:
                raise ValueError(
                    f"{self.where} mixes pictures and arrays "
                    f"({self._keys[0]}.{self._suffixes[0]}, {key}.{suffix}): select one with "
                    f"-s data.column={self._suffixes[0]}"
                )

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return the stem of the sample."""
        return self._keys[index]

    def title(self, index: int) -> str:
        """Return the shard and the member."""
        return f"{self._shards[self._places[index, 0]]}: {self._file_name(index)}"

    def content(self, index: int) -> bytes:
        """Return what the member holds."""
        shard, offset, size = map(int, self._places[index])
        return self._read(shard, offset, size, self._file_name(index))

    def labels(self, rule: str, chosen: Sequence[int]) -> Labels:
        """Return the labels: by ``auto`` of ``.cls``, of the JSON key ``label``, or of folders."""
        has_class = [self._classes[index] is not None for index in chosen]
        if rule == "cls" or (rule == "auto" and any(has_class)):
            if not all(has_class):
                lacking = self.title(chosen[has_class.index(False)])
                raise ValueError(f"{lacking} has no .cls: add one, or set data.labels")
            return class_table([str(self._classes[index]) for index in chosen])
        if rule == "auto" and "label" in self._table(chosen[0]):
            rule = "label"
        if rule in RULES or table_and_column(rule)[0].lower().endswith(".csv"):
            files = [self._file_name(index) for index in chosen]
            return labels_of_files(rule, files, self._shards[0].parent)
        with ThreadPoolExecutor(_READERS) as pool:
            return class_table(list(pool.map(lambda index: self._value(index, rule), chosen)))

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of each shard."""
        return (Stamp.of(shard, shard.name) for shard in self._shards)

    def _file_name(self, index: int) -> str:
        return f"{self._keys[index]}.{self._suffixes[index]}"

    def _read(self, shard: int, offset: int, size: int, name: str) -> bytes:
        # Opened each time: nothing to hand to workers, no limit on the number of shards.
        with open(self._shards[shard], "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise ValueError(f"{self._shards[shard]} is truncated in {name}: copy it again")
        return data

    def _table(self, index: int) -> dict[str, Any]:
        offset, size = map(int, self._tables[index])
        if size < 0:
            return {}
        name = f"{self._keys[index]}.json"
        shard = int(self._places[index, 0])
        try:
            table = json.loads(self._read(shard, offset, size, name))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self._shards[shard]}: {name} is not JSON ({error})") from error
        return table if isinstance(table, dict) else {}

    def _value(self, index: int, key: str) -> str:
        value = self._table(index).get(key)
        if not isinstance(value, str | int):
            raise ValueError(
                f"labels={key!r}, but the JSON of {self.title(index)} holds "
                f"{('no such key' if value is None else value)} as the class; use 'auto', "
                "'none', 'cls' or a key that all samples have"
            )
        return str(value)

    def _item_suffix(
        self, title: str, members: dict[str, Member], column: str | None
    ) -> str | None:
        """Return which member of a sample is the item; None when none is."""
        if column is not None:
            column = column.removeprefix(".").lower()
            if column.rpartition(".")[2] not in _ITEMS:
                raise ValueError(
                    f"data.column={column} is not a picture or .npy array; items can be "
                    f"{', '.join(sorted(_ITEMS))}"
                    + (" (pickles are never loaded)" if column in _PICKLES else "")
                )
            return column if column in members else None
        possible = [suffix for suffix in members if suffix.rpartition(".")[2] in _ITEMS]
        if len(possible) > 1:
            raise ValueError(
                f"{title} has several members that can be the item ({', '.join(possible)}); "
                f"select one with -s data.column={possible[0]}"
            )
        return possible[0] if possible else None

    def _nothing_in_it(self, column: str | None) -> str:
        if not self._shards:
            return f"{self.where} has no .tar file"
        found = sorted({suffix for shard in self._shards for suffix in _suffixes(shard)})
        pickled = " (pickles are never loaded)" if _PICKLES & set(found) else ""
        return (
            f"no sample of {self.where} has {'an item' if column is None else 'a ' + column}; "
            f"members end in {', '.join(found) or 'nothing'}{pickled}, and items can be "
            f"{', '.join(sorted(_ITEMS))}"
        )


def _samples(members: Sequence[Member]) -> dict[str, dict[str, Member]]:
    """Group members by their stem, up to the first dot of the file's name, and by what follows."""
    samples: dict[str, dict[str, Member]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        stem, dot, suffix = path.name.partition(".")
        # Hidden files, and "__key__"-like names, are of the packer, not of the data.
        if stem and dot and not stem.startswith("__"):
            samples.setdefault((path.parent / stem).as_posix(), {})[suffix.lower()] = member
    return samples


def _suffixes(shard: Path) -> set[str]:
    return {suffix for sample in _samples(read_index(shard)).values() for suffix in sample}

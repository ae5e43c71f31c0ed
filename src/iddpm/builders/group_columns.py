"""Groups of items by a column beside them, such as the patient of each scan."""

from pathlib import Path

from iddpm.config import Config
from iddpm.data.conditioning.conditions import is_unknown, read_columns
from iddpm.data.sources.by_name import find_table
from iddpm.data.sources.hdf5 import HDF5, read_members
from iddpm.data.sources.label_tables import table_and_column
from iddpm.data.sources.npy import read_npz
from iddpm.data.sources.open import files_at
from iddpm.data.sources.source import Source
from iddpm.data.sources.tables import TableFiles
from iddpm.data.sources.text_tables import TABLES, open_table


def grouping_column(config: Config, source: Source) -> list[str] | None:
    """Return the group of each item by the column of ``data.group``; None if it is not a column.

    The column is searched in the tables of ``data.labels`` and ``data.conditions``, in the members
    of an array file, and in the columns of a table.

    Raises:
        ValueError: an item whose cell is empty, or that has no row.
    """
    name, path = config.data.group, Path(config.data.path or ".").expanduser()
    if name is None or config.data.path is None:
        return None
    folder = path if path.is_dir() else path.parent
    labels, _ = table_and_column(config.data.labels)
    for where in (labels, config.data.conditions):
        if isinstance(where, str) and where.lower().endswith(TABLES):
            table = find_table(where, folder, "table")
            if name in (open_table(table, named=True).header or [])[1:]:
                return _known(read_columns(where, [name], path, source)[name], where, name, source)
    if path.is_file() and path.suffix.lower() in (".npz", *HDF5):
        members = read_npz(path) if path.suffix.lower() == ".npz" else read_members(path)
        if name in members:
            cells = read_columns([name], [name], path, source)[name]
            return _known(cells, str(path), name, source)
    files = files_at(path, config.data.column)
    if isinstance(files, TableFiles) and name in files.columns:
        numbers, names = files.labels(name, range(len(files)))
        assert numbers is not None
        by_key = {files.key(k): names[n] if n >= 0 else "" for k, n in enumerate(numbers.tolist())}
        cells = [by_key[source.recording(index)] for index in range(len(source))]
        return _known(cells, str(path), name, source)
    return None


def _known(cells: list[str], where: str, name: str, source: Source) -> list[str]:
    for index, cell in enumerate(cells):
        if is_unknown(cell):
            raise ValueError(
                f"data.group={name} needs a value for every item, and {where} has none for "
                f"{source.recording(index)}: fill it in"
            )
    return cells

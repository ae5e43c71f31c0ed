"""Arrow files, memory-mapped; and Parquet files, which are rewritten as such once.

Parquet is compressed in blocks of many rows: reading one at random would decode a block each time.
"""

import json
from pathlib import Path
from typing import Any

from iddpm.data.cache import built_once, digest, user_cache
from iddpm.data.sources.shard_paths import pattern_of, shard_paths
from iddpm.data.sources.source import Stamp
from iddpm.runtime.atomic_files import fsync_file
from iddpm.runtime.console import open_console, progress_bar

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def pyarrow() -> Any:
    """Return the optional package; one sentence says how to install it."""
    try:
        import pyarrow as package
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
        import pyarrow.types
    except ImportError:
        raise ValueError(
            "Arrow and Parquet tables need pyarrow; run: pip install 'iddpm[datasets]'"
        ) from None
    return package


def table_paths(where: Path) -> list[Path]:
    """Return the files of a table in their order.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: a folder of several tables.
    """
    if not where.is_dir():
        return shard_paths(where, where.suffix)
    if (where / SPLITS).is_file():
        splits = sorted(path.parent.name for path in where.glob(f"*/{STATE}"))
        if not splits:
            raise ValueError(f"{where} is a dataset of several splits, and none of them exists")
        raise ValueError(
            f"{where} holds the splits {', '.join(splits)}: give one, such as {where / splits[0]}"
        )
    if (where / STATE).is_file():
        names = _named_files(where / STATE)
        paths = [where / Path(name).name for name in names]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"there is no file {path}, which {where / STATE} names")
        return paths
    paths = shard_paths(where, ".arrow") or shard_paths(where, ".parquet")
    splits = sorted({path.name.partition("-")[0] for path in paths if "-of-" in path.name})
    if len(splits) > 1:
        first = [path for path in paths if path.name.startswith(f"{splits[0]}-")]
        raise ValueError(
            f"{where} holds files of several splits ({', '.join(splits)}): give those of one, such "
            f"as {pattern_of(first)}"
        )
    return paths


def map_table(path: Path) -> Any:
    """Return a .arrow file as a table whose columns stay on the disk.

    Raises:
        ValueError: it is damaged, or pyarrow is missing.
    """
    arrow = pyarrow()
    try:
        mapped = arrow.memory_map(str(path))
        try:
            table = arrow.ipc.open_stream(mapped).read_all()
        except arrow.ArrowInvalid:
            mapped.seek(0)
            table = arrow.ipc.open_file(mapped).read_all()  # the other layout of such files
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is no complete Arrow file ({_first_line(error)})") from error
    for number, field in enumerate(table.schema):
        if isinstance(field.type, arrow.ExtensionType):  # where datasets has been imported
            chunks = [chunk.storage for chunk in table.column(number).chunks]
            stored = arrow.chunked_array(chunks, field.type.storage_type)
            table = table.set_column(number, field.name, stored)
    return table


def features_of(where: Path, schema: Any) -> dict[str, dict[str, Any]]:
    """Return what a dataset says of its columns, by name; empty for plain tables."""
    if (where / INFO).is_file():
        info: Any = _read_json(where / INFO)
    else:
        stored = (schema.metadata or {}).get(b"huggingface", b"{}")
        info = _facts(stored, f"what {where} says of its columns").get("info")
    features = info.get("features") if isinstance(info, dict) else None
    found = features if isinstance(features, dict) else {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)}


def as_arrow(paths: list[Path], name: str) -> list[Path]:
    """Return .arrow files as they are, and .parquet files as those that they were rewritten to."""
    pyarrow()  # which may be missing
    if all(path.suffix.lower() == ".arrow" for path in paths):
        return paths
    facts = {"version": 1, "files": digest(*(Stamp.of(path, path.name) for path in paths))}
    console = open_console(stderr=True)
    directory = user_cache() / "tables" / f"{name}-{digest(*(path.resolve() for path in paths))}"
    files = [f"{number:05}.arrow" for number in range(len(paths))]

    def rewrite(temporary: Path) -> None:
        console.print(f"rewriting {len(paths)} Parquet files of {name} once into {directory}")
        with progress_bar(console, "rewriting") as progress:
            for path, file in progress.track(list(zip(paths, files, strict=True))):
                _rewrite(path, temporary / file)

    return [built_once(directory, facts, rewrite, console.print) / file for file in files]


def _rewrite(source: Path, target: Path) -> None:
    arrow = pyarrow()
    try:
        with (
            arrow.parquet.ParquetFile(source) as table,
            arrow.ipc.new_stream(str(target), table.schema_arrow) as writer,
        ):
            for batch in table.iter_batches(batch_size=256):  # rows of pictures are large
                writer.write_batch(batch)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{source} is no complete Parquet file ({_first_line(error)})") from error
    fsync_file(target)


def _named_files(state: Path) -> list[str]:
    entries = _read_json(state).get("_data_files")
    found = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in found]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{state} is damaged: it does not name the files of the dataset")
    return [str(name) for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    return _facts(path.read_bytes(), str(path))


def _facts(text: bytes, title: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{title} is damaged ({error}): copy it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{title} is damaged: it is not a JSON object")
    return value


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

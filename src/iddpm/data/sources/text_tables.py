"""The one reader of text tables: of time series, of labels and of conditions."""

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

TABLES = (".csv", ".tsv", ".txt")
MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "-", "?", ".")
_SAMPLE = 50  # rows by which delimiter and decimal mark are chosen
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_EXCEL = re.compile(r"sep=.")  # a first line by which Excel knows what parts cells
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "blanks"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass
class TextTable:
    """The rows of a text file, read once from first to last.

    Attributes:
        path: the file.
        header: names of the columns: the first row, if it holds no number; else None.
        delimiter: what parts the cells.
        comma: whether decimals are written with a comma.
        comments: lines left out because they start with ``#`` or ``%``, so far.
        trailing: whether every row ended with an empty cell, which is left out.
    """

    path: Path
    header: list[str] | None
    delimiter: str
    comma: bool
    trailing: bool
    _rows: Iterator[tuple[int, list[str]]]
    _passed: list[int]
    _columns: int = field(default=0, init=False)

    @property
    def comments(self) -> int:
        """Number of comments that were left out so far."""
        return self._passed[0]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number and the cells of each row; ValueError where lengths differ."""
        self._columns = len(self.header or ())
        for line, cells in self._rows:
            self._columns = self._columns or len(cells) - self.trailing
            if self.trailing and len(cells) == self._columns + 1 and not cells[-1]:
                cells.pop()
            if len(cells) != self._columns:
                raise ValueError(
                    f"{self.path}, line {line} has {len(cells)} cells and the first row "
                    f"{self._columns}: all rows must have the same number of cells, separated "
                    f"by {_NAMES[self.delimiter]}"
                )
            yield line, cells

    def taken(self) -> str:
        """Return what was found beside the cells, in words."""
        names = f"{len(self.header)} names" if self.header is not None else "none"
        parts = [f"header {names}", f"cells separated by {_NAMES[self.delimiter]}"]
        if self.comma:
            parts.append("decimal commas")
        if self.comments:
            parts.append(f"{self.comments} comments skipped")
        if self.trailing:
            parts.append("empty last cells skipped")
        return ", ".join(parts)


def open_table(path: Path, *, named: bool = False) -> TextTable:
    """Open a text file as a table; ``.gz`` is unpacked.

    UTF-8 and UTF-16 are read. Cells are parted by tabs, semicolons, commas or blanks, whichever
    makes rows of one length out of the first lines, and may be quoted. Lines that start with ``#``
    or ``%`` are comments; the last one before the rows is the header if it has a name for each
    column.

    Args:
        path: the file.
        named: whether the first row names the columns whatever it holds.

    Raises:
        ValueError: no text, or quotes that do not match; rows of another length while they are
            read.
    """
    passed = [0]
    comment: list[str] = []
    lines = _lines(path, passed, comment)
    first = list(islice(lines, _SAMPLE))
    if not first:
        return TextTable(path, None, ",", False, False, iter(()), passed)
    delimiter = _delimiter([line for _, line in first])
    sample = list(_cells(path, iter(first), delimiter))
    header = None
    trailing = len(sample) > 0 and all(len(c) > 1 and not c[-1] for _, c in sample[1:] or sample)
    if sample and (named or _is_header(sample[0][1])):
        header = sample[0][1]
        if trailing and not header[-1]:
            header = header[:-1]
    comma = _decimal_comma(path, sample, delimiter)
    rows = _cells(path, chain(iter(first), lines), delimiter)
    if header is not None:
        next(rows)
    elif comment and sample:
        names = next(csv.reader([comment[0]], delimiter=delimiter, skipinitialspace=True), [])
        names = [name.strip() for name in (comment[0].split() if delimiter == " " else names)]
        if len(names) == len(sample[0][1]) - trailing and len(names) > 1 and _is_header(names):
            header = names
            passed[0] -= 1
    return TextTable(path, header, delimiter, comma, trailing, rows, passed)


def number(cell: str, comma: bool = False) -> float | None:
    """Return the number that a cell holds, if it holds one; NaN and infinity are none."""
    text = cell.replace(",", ".", 1) if comma and "." not in cell else cell
    if not _POINT.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) < float("inf") else None


def is_missing(cell: str) -> bool:
    """Say whether a cell means that nothing is known: empty, NA, nan, null and the like."""
    return cell.lower() in MISSING


def points_for_commas(cells: Sequence[str]) -> list[str] | None:
    """Return the cells of a column with decimal points, if they are numbers with commas."""
    known = [cell for cell in cells if not is_missing(cell)]
    commas = any(_COMMA.fullmatch(cell) for cell in known)
    if not commas or any("." in cell or number(cell, True) is None for cell in known):
        return None
    return [cell.replace(",", ".") for cell in cells]


def _lines(path: Path, passed: list[int], comment: list[str]) -> Iterator[tuple[int, str]]:
    """Yield numbered lines that are no comments; keep the last comment before the first of them."""
    found = False
    try:
        with _opened(path) as file:
            for count, line in enumerate(file, 1):
                text = line.strip(" \r\n\ufeff")
                if not text or not text.strip() or (count == 1 and _EXCEL.fullmatch(text)):
                    continue
                if text[0] in "#%":
                    passed[0] += 1
                    if not found:
                        comment[:] = [text.lstrip("#% ")]
                    continue
                found = True
                yield count, text
    except UnicodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 or UTF-16 ({error}): save it as UTF-8"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    with open(path, "rb") as file:
        head = file.read(512)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in head:  # UTF-16 without its mark: every other byte is zero
        encoding = "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return open(path, encoding=encoding, newline="")


def _delimiter(lines: Sequence[str]) -> str:
    """Return what parts cells: the mark that leaves most numbers, then rows most alike."""
    best, score = ",", (-1.0, -1.0)
    for mark in "\t;, ":
        rows = [cells for _, cells in _split(iter(enumerate(lines)), mark)]
        if not rows or all(len(cells) < 2 for cells in rows):
            continue
        lengths = [len(cells) for cells in rows]
        filled = [cell for row in rows for cell in row if cell]
        numbers = sum(number(cell, True) is not None for cell in filled)
        alike = lengths.count(max(lengths, key=lengths.count)) / len(lengths)
        this = (numbers / max(len(filled), 1), alike)
        if this > score:
            best, score = mark, this
    return best


def _cells(
    path: Path, lines: Iterator[tuple[int, str]], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row with the number of its last line."""
    try:
        yield from _split(lines, delimiter, strict=True)
    except csv.Error as error:
        raise ValueError(f"{path} has unmatched quotes, or too long a cell: {error}") from (None)


def _split(
    lines: Iterator[tuple[int, str]], delimiter: str, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    at = [0]

    def texts() -> Iterator[str]:
        for count, line in lines:
            at[0] = count
            # A comment may follow the numbers of a row.
            text = line if "#" not in line or '"' in line else re.sub(r"\s#.*", "", line)
            yield re.sub(r"\s+", " ", text) if delimiter == " " else text

    try:
        for cells in csv.reader(texts(), delimiter=delimiter, skipinitialspace=True, strict=strict):
            yield at[0], [cell.strip() for cell in cells]
    except csv.Error:
        if strict:
            raise


def _is_header(cells: Sequence[str]) -> bool:
    """Say whether a first row names columns: it holds no number, and words."""
    words = [cell for cell in cells if not is_missing(cell)]
    return bool(words) and all(number(c) is None and number(c, True) is None for c in words)


def _decimal_comma(path: Path, sample: Sequence[tuple[int, list[str]]], delimiter: str) -> bool:
    cells = [cell for _, row in sample for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas:
        return False
    points = next((c for c in cells if "." in c and _POINT.fullmatch(c)), None)
    if points is not None or all(_THOUSANDS.fullmatch(cell) for cell in commas):
        beside = f" beside {points}" if points else ""
        raise ValueError(
            f"{path} holds {commas[0]}{beside}, in which a decimal comma and a thousands "
            "separator look the same: write decimal points and no commas in numbers"
        )
    return True

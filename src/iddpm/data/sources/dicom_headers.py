"""What the header of a DICOM file says of its frames, without decoding any."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from iddpm.data.sources.extras import ModuleNotInstalledError, needed
from iddpm.data.sources.pixel_limit import check_pixels
from iddpm.data.sources.unreadable import UnreadablePictureError, UnsupportedPictureError

DICOM = (".dcm", ".dicom", ".ima")
_BARE = re.compile(r"[^.]+|.*\.[0-9]+")
"""Names without a suffix, and those that are numbers with dots (UIDs)."""
_INDEX = "dicomdir"
_MOST_FRAMES = 1 << 16
_ROOM = (1 << 28, 1 << 12)
"""Bytes of pixels that any compressed file may promise, and for each of its bytes, if more."""
_WITH_PIXELS = ("Image Storage", "Segmentation Storage", "Dose Storage")
"""Parts of the names of kinds of DICOM files."""
_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "GridFrameOffsetVector", "NumberOfFrames", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "DoseGridScaling",
    "ModalityLUTSequence", "RedPaletteColorLookupTableDescriptor",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """One frame.

    Attributes:
        path: of its file.
        number: among the frames of the file.
        slope, intercept: from stored numbers to those that are meant.
        position: of the middle of its first pixel, in mm left, back and up; None where unknown.
    """

    path: Path
    number: int
    slope: float
    intercept: float
    position: tuple[float, ...] | None


@dataclass(frozen=True)
class Header:
    """A file.

    Attributes:
        path: of the file.
        planes: its frames, in their order.
        size: (rows, columns).
        directions: of a row and of a column of pixels, six cosines; None where unknown.
        spacing: between rows and between columns, in mm; None where unknown.
        samples: in a pixel: 1, or 3 of a color.
        light: the photometric interpretation.
        bits, signed, floats: of a stored number.
        table: whether a table that is no line leads to the numbers that are meant.
        patient, series: identifiers; empty where there is none.
        instance: identifier of the file.
        title: what messages call the series, its number and description.
        names: by which ``data.column`` selects the series.
        modality: such as CT.
    """

    path: Path
    planes: tuple[Plane, ...]
    size: tuple[int, int]
    directions: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    samples: int
    light: str
    bits: int
    signed: bool
    floats: bool
    table: bool
    patient: str
    series: str
    instance: str
    title: str
    names: tuple[str, ...]
    modality: str


def may_be_dicom(path: Path) -> bool:
    """Say whether a file has a suffix of DICOM, or none and the mark of DICOM in it."""
    name = path.name.lower()
    if name == _INDEX:  # a table of contents
        return False
    if name.endswith(DICOM):
        return True
    if not _BARE.fullmatch(name):
        return False
    return _has_mark(path)


def _has_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path) -> Header | None:
    """Return what a file says of its frames; None of a file without any, such as a report.

    Raises:
        UnreadablePictureError: a damaged file, or one that promises more than it can hold.
        UnsupportedPictureError: too many pixels or frames.
        ModuleNotInstalledError: it is compressed, and no decoder for that is installed.
    """
    with _sentences(path):
        dataset = _read(path)
        if "Rows" not in dataset or "Columns" not in dataset:
            kind = dataset.get("SOPClassUID")
            if kind is None or any(word in kind.name for word in _WITH_PIXELS):
                raise UnreadablePictureError(f"{path} is truncated: its header ends too early")
            return None
        header = _header(path, dataset)
        _check_promise(path, dataset, header)
    return header


def _read(path: Path) -> Any:
    pydicom: Any = needed("pydicom", "dicom", f"reading {path}")
    with pydicom.config.disable_value_validation():
        try:
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except pydicom.errors.InvalidDicomError:
            if path.stat().st_size == 0:
                raise UnreadablePictureError(f"{path} is empty") from None
        # Without the 128 bytes and the mark in front, as some old programs write it.
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True
        )
        if "Rows" not in dataset:
            raise UnreadablePictureError(f"{path} is not a DICOM file")
        return dataset


def _header(path: Path, dataset: Any) -> Header:
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    check_pixels(str(path), rows, columns)
    if count > _MOST_FRAMES:
        raise UnreadablePictureError(f"{path} promises {count} frames, more than {_MOST_FRAMES}")
    allocated = int(dataset.BitsAllocated)
    number, title = dataset.get("SeriesNumber"), str(dataset.get("SeriesDescription") or "")
    series = str(dataset.get("SeriesInstanceUID") or "")
    light = str(dataset.get("PhotometricInterpretation") or "")
    palette = dataset.get("RedPaletteColorLookupTableDescriptor")
    shared = _first(dataset.get("SharedFunctionalGroupsSequence"))
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    facts = [_Facts.of(dataset, shared, groups[k] if k < len(groups) else None)
             for k in range(count)]  # fmt: skip
    if not groups:
        facts = _by_offsets(dataset, facts)
    directions = {fact.directions for fact in facts}
    is_palette = light == "PALETTE COLOR"
    return Header(
        path=path,
        planes=tuple(
            Plane(path, k, fact.slope, fact.intercept, fact.position)
            for k, fact in enumerate(facts)
        ),
        size=(rows, columns),
        directions=directions.pop() if len(directions) == 1 else None,
        spacing=facts[0].spacing,
        samples=3 if is_palette else int(dataset.get("SamplesPerPixel") or 1),
        light=light,
        bits=int(palette[2]) if is_palette else int(dataset.get("BitsStored") or allocated),
        signed=not is_palette and int(dataset.get("PixelRepresentation") or 0) == 1,
        floats=allocated >= 32 and "PixelRepresentation" not in dataset,
        table="ModalityLUTSequence" in dataset,
        patient=str(dataset.get("PatientID") or "").strip(),
        series=series,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        title=" ".join(filter(None, (str(number if number is not None else ""), title))) or series,
        names=(str(number), title, series),
        modality=str(dataset.get("Modality") or ""),
    )


@dataclass(frozen=True)
class _Facts:
    """Where a frame lies, and what its numbers mean."""

    slope: float
    intercept: float
    position: tuple[float, ...] | None
    directions: tuple[float, ...] | None
    spacing: tuple[float, float] | None

    @classmethod
    def of(cls, dataset: Any, shared: Any, own: Any) -> "_Facts":
        """Read them from the group of the frame, that of all frames, or the data set itself."""

        def found(group: str, name: str) -> Any:
            for where in (own, shared):
                part = _first(where.get(group)) if where is not None else None
                if part is not None and part.get(name) is not None:
                    return part.get(name)
            return dataset.get(name)

        slope = found("PixelValueTransformationSequence", "RescaleSlope")
        if slope is None:
            slope = dataset.get("DoseGridScaling")
        intercept = found("PixelValueTransformationSequence", "RescaleIntercept")
        return cls(
            slope=1.0 if slope is None else float(slope),
            intercept=0.0 if intercept is None else float(intercept),
            position=_numbers(found("PlanePositionSequence", "ImagePositionPatient"), 3),
            directions=_numbers(found("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
            spacing=_numbers(found("PixelMeasuresSequence", "PixelSpacing"), 2),  # type: ignore[arg-type]
        )


def _by_offsets(dataset: Any, facts: list[_Facts]) -> list[_Facts]:
    """Return frames of a dose, which lie at offsets from the first; of others none has a place."""
    if len(facts) == 1:
        return facts
    first, offsets = facts[0], dataset.get("GridFrameOffsetVector")
    if offsets is None or len(offsets) != len(facts) or None in (first.position, first.directions):
        return [_Facts(f.slope, f.intercept, None, None, f.spacing) for f in facts]
    assert first.position is not None
    assert first.directions is not None
    normal = np.cross(first.directions[:3], first.directions[3:])
    start = np.array(first.position)
    places = [start + normal * (float(offset) - float(offsets[0])) for offset in offsets]
    return [
        _Facts(f.slope, f.intercept, tuple(map(float, p)), f.directions, f.spacing)
        for f, p in zip(facts, places, strict=True)
    ]


def _check_promise(path: Path, dataset: Any, header: Header) -> None:
    pydicom: Any = needed("pydicom", "dicom", f"reading {path}")
    meta = getattr(dataset, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    nbytes = path.stat().st_size
    samples = 2 if header.light == "YBR_FULL_422" else int(dataset.get("SamplesPerPixel") or 1)
    promised = prod(header.size) * samples * len(header.planes) * int(dataset.BitsAllocated) // 8
    packed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
    floor, dense = _ROOM
    if promised > (max(floor, dense * nbytes) if packed else nbytes):
        raise UnreadablePictureError(
            f"{path} is truncated: its header promises {promised} bytes of pixels"
        )
    if syntax is None or not syntax.is_compressed:
        return
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise UnsupportedPictureError(
            f"{path} is compressed by {syntax.name}, which is not supported: decompress it first"
        ) from None
    if not decoder.is_available:
        ways = decoder.missing_dependencies
        known = any("gdcm" in way for way in ways)
        needs = "gdcm: pip install 'iddpm[dicom]'" if known else f"one of: {'; '.join(ways)}"
        raise ModuleNotInstalledError(f"{path} is compressed by {syntax.name}, which needs {needs}")


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers; None where they are missing or others."""
    if value is None or isinstance(value, str | int | float) or len(value) != count:
        return None
    numbers = tuple(float(part) for part in value)
    return numbers if all(map(np.isfinite, numbers)) else None


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises on damaged bytes into one sentence with a name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that a field should not have
            yield
    except (UnreadablePictureError, ModuleNotInstalledError, MemoryError):
        raise
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # pydicom raises InvalidDicomError, EOFError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadablePictureError(f"{path} is damaged ({reason})") from error


def read_pixels(plane: Plane, light: str) -> Any:
    """Return the stored numbers of a frame, ``[H, W]`` or ``[H, W, 3]``, as pydicom decodes them.

    Colors are RGB, also those of a palette.

    Raises:
        UnreadablePictureError: a damaged file.
    """
    pydicom: Any = needed("pydicom", "dicom", f"reading {plane.path}")
    with _sentences(plane.path):
        if light != "PALETTE COLOR" and _has_mark(plane.path):
            return pydicom.pixels.pixel_array(plane.path, index=plane.number)
        dataset = pydicom.dcmread(plane.path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            uid = pydicom.uid
            plain = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else plain
        stored = pydicom.pixels.pixel_array(dataset, index=plane.number)
        return (
            pydicom.pixels.apply_color_lut(stored, dataset) if light == "PALETTE COLOR" else stored
        )


def apply_table(plane: Plane, stored: Any) -> Any:
    """Return the numbers that a modality table stands for."""
    pydicom: Any = needed("pydicom", "dicom", f"reading {plane.path}")
    with _sentences(plane.path):
        dataset = pydicom.dcmread(plane.path, stop_before_pixels=True)
        return pydicom.pixels.apply_modality_lut(stored, dataset)

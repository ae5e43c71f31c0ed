"""What the data was on disk: facts that are found, not chosen."""

from typing import Literal

from iddpm.config.section import Section


class FormConfig(Section):
    """How samples are written, so that they are files like those of the data."""

    kind: str = "array"
    """As iddpm.data.file_format.Form has it."""
    dtype: str | None = None
    """Numbers that are stored, where data.range says which of them become -1 and 1."""
    sample_rate: int | float | None = None
    """Of signals, in Hz."""
    encoding: str | None = None
    """Of sound files, such as PCM_16; of clips GIF, WEBP, TIFF, MP4 or frames; of rasters rgb or
    minisblack."""
    container: Literal["FLAC", "AIFF", "PNG", "EDF"] | None = None
    """Of sound files that are no WAV, of rasters that are no TIFF, and of physiological
    recordings."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """Of volumes: from voxel indices to millimetres, 4 x 4."""
    milliseconds: int | float | None = None
    """Of clips: how long a frame is shown."""
    channel_names: tuple[str, ...] | None = None
    """Of physiological recordings."""
    units: tuple[str, ...] | None = None
    """Of their channels, or of a NetCDF or Zarr variable."""

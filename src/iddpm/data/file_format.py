"""What the items of a data set were on disk, so that samples can be written the same way."""

from dataclasses import dataclass

from iddpm.data.values import Values


@dataclass(frozen=True)
class Form:
    """Facts of the files that a model needs none of, and a writer all.

    Attributes:
        kind: what one item is: ``array`` (.npy, .npz, HDF5), ``picture``, ``signal`` (a sound
            file), ``table`` (a row of text), ``volume``, ``clip``, or ``raster`` (a picture
            file of numbers).
        values: the numbers that are stored; None when the depth says it all.
        sample_rate: of signals, in Hz.
        encoding: of sound files, such as ``PCM_16``; of clips ``GIF``, ``WEBP``,
            ``TIFF``, ``MP4`` or ``frames``; of rasters ``rgb``, or ``minisblack`` for samples that
            are no colors.
        container: of sound files, ``FLAC`` or ``AIFF`` where they all are; else they are written
            as .wav. Of rasters ``PNG`` where they all are; else they are written as .tif.
            ``EDF`` of physiological recordings.
        channel_names, units: of the channels of such recordings; the unit of a NetCDF variable too.
        affine: of volumes: from voxel indices to millimetres, 4 x 4.
        milliseconds: of clips: how long a frame is shown.
    """

    kind: str = "array"
    values: Values | None = None
    sample_rate: int | float | None = None
    encoding: str | None = None
    container: str | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    milliseconds: float | None = None
    channel_names: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None

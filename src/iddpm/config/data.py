"""The data's settings."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from iddpm.config.section import Finite, Length, Section, Whole

Pixels = Annotated[Whole, Field(gt=0, le=65_536)]


class DataConfig(Section):
    """Where the data is and how it is read."""

    path: str | None = None
    """A folder of images or clips, a .npy or .npz file, .tar shards, a Hugging Face dataset saved
    to disk, .parquet files, or the name of an embedded set."""
    image_size: Pixels | tuple[Pixels, Pixels] | None = None
    """Crop and resize images to this size; needed if they have different sizes."""
    channels: Literal[1, 3, 4] | None = None
    """Convert images to gray, RGB or RGBA; by default they are not converted. 1 averages the
    channels of sounds."""
    labels: str = "auto"
    """``auto``, ``none``, ``folder``, ``prefix``, or the path of a CSV file (file,label),
    or a column of it (table.csv:diagnosis); for shards also ``cls`` or a key of their JSON; for
    tables a column; for time series first, last or a name in the header; for a MATLAB file a
    variable."""
    conditions: str | tuple[str, ...] | None = None
    """Numbers, angles and categories of each item that condition the network: a CSV table whose
    first column names the items, or members of an array file."""
    given: str | None = None
    """Paired data that conditions the network: its item with the same name or number goes with each
    item."""
    given_range: Literal["auto"] | tuple[Finite, Finite] | None = None
    """As range, for the paired data."""
    column: str | None = None
    """Which member of the samples in shards, such as jpg, which column of a table or which array of
    a .npz, HDF5, MATLAB or NetCDF file holds the items; by default the only possible one."""
    layout: str | None = None
    """Axes of an array, such as NHWC; by default recognized, and an error if ambiguous. For folders
    of pictures: frames, if each folder is a clip. For text tables: rows, or columns, which reads a
    signal from each column."""
    window: Length | tuple[Length, ...] | None = None
    """Cut signals, volumes and clips into windows of this size, such as 256 or [32, 32, 32]."""
    stride: Length | None = None
    """Distance between windows; by default the window, and a quarter of it for volumes and
    clips."""
    pad_short: bool = False
    """Pad sounds shorter than the window with zeros at their end; by default they are skipped. A
    warning says how many."""
    sample_rate: Annotated[Whole, Field(gt=0, le=10**9)] | None = None
    """Resample sounds to this rate in Hz; needed if their rates differ."""
    range: Literal["auto"] | tuple[Finite, Finite] | None = None
    """Stored numbers that become -1 and 1: [low, high], or auto to measure them; by default known
    for uint8, uint16 and floats in [-1, 1] and measured for others. A run keeps them."""
    fill: Finite | None = None
    """Number that NaN is read as, such as outside a brain or where a sensor was off; by default NaN
    raises an error."""
    corrupt: Literal["error", "skip"] = "error"
    """error, or skip: skip files that cannot be read, damaged ones and unsupported kinds."""
    max_pixels: Annotated[Whole, Field(gt=0, le=10**10)] | None = None
    """Largest number of pixels of an image; by default 89 million, Pillow's limit."""
    cache: str = "none"
    """``none``, ``auto`` or a folder: decode, crop and resize once, then read from an array there;
    ``auto`` is the user's cache."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the items that training never uses, chosen by a hash of the item."""
    group: str | None = None
    """Items to keep on one side of the split: ``folder`` (items of one folder); a column of the
    table of labels or conditions, or of the data; or a pattern for the start of file names, such as
    [^_]+ for the patient in p01_slice3.png."""
    identical: Literal["together", "apart"] | None = None
    """together or apart: whether identical items are detected and kept on one side of the split; by
    default together. A run keeps its split."""
    flip: bool = False
    """Mirror items left to right at random; volumes along the left-right axis of their affine."""
    augment: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of each change of an augmentation that is shown to the network, so that samples
    are not augmented: flips, turns, shifts, scales, rotations (Karras et al. 2022, whose value is
    0.12)."""
    random_crop: bool = False
    """Train on random crops (at least 0.8 of each side), resized back."""
    workers: Annotated[Whole, Field(ge=0, le=1024)] = 0
    """Processes that read data ahead of training."""
    worker_timeout: Annotated[float, Field(gt=0, le=1e9)] = 300.0
    """Seconds after which a worker that does not answer counts as hung."""

    @field_validator("range", "given_range")
    @classmethod
    def _rising(cls, value: Any) -> Any:
        if isinstance(value, tuple) and value[0] >= value[1]:
            raise ValueError(
                f"range={value[0]:g}, {value[1]:g} is empty: give the number that becomes -1 first"
            )
        return value

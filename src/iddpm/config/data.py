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
    """Crop and resize images to this size; needed when they differ in size."""
    channels: Literal[1, 3, 4] | None = None
    """Convert images to gray, RGB or RGBA; by default what they are. 1 mixes a sound's channels."""
    labels: str = "auto"
    """``auto``, ``none``, ``folder``, ``prefix``, the path of a CSV file (file,label); of shards
    also ``cls`` or a key of their JSON; of tables a column; of time series first, last or a name in
    the header."""
    conditions: str | tuple[str, ...] | None = None
    """Numbers, angles and words to tell the network of each item: a CSV table whose first column
    names the items, or members of an array file."""
    given: str | None = None
    """Other data, whose item of the same name or number is given to the network with each item."""
    given_range: Literal["auto"] | tuple[Finite, Finite] | None = None
    """As range, of the data that is given."""
    column: str | None = None
    """Which member of the samples in shards, such as jpg, which column of a table or which array of
    a .npz or HDF5 file holds the items; by default the only one that can."""
    layout: str | None = None
    """Axes of an array, such as NHWC; by default recognised, refused when ambiguous. Of folders of
    pictures: frames, when each folder is a clip. Of text tables: rows, or columns, which reads a
    signal down each column."""
    window: Length | tuple[Length, ...] | None = None
    """Cut signals, volumes and clips into pieces of this size, such as 256 or [32, 32, 32]."""
    stride: Length | None = None
    """Distance between pieces; by default the window, of volumes and clips a quarter of it."""
    sample_rate: Annotated[Whole, Field(gt=0, le=10**9)] | None = None
    """Resample sounds to so many Hz; needed when they differ."""
    range: Literal["auto"] | tuple[Finite, Finite] | None = None
    """Stored numbers that become -1 and 1: [low, high], or auto to measure them; by default known
    for uint8, uint16 and floats in [-1, 1] and measured for others. A run keeps them."""
    corrupt: Literal["error", "skip"] = "error"
    """What to do about images that cannot be read: damaged ones, and kinds that are not read."""
    max_pixels: Annotated[Whole, Field(gt=0, le=10**10)] | None = None
    """The most pixels that an image may have; by default 89 million, as Pillow takes for safe."""
    cache: str = "none"
    """``none``, ``auto`` or a folder: decode, crop and resize once, then read from an array there;
    ``auto`` is the user's cache."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the items that is never trained on, chosen by a hash of the item."""
    group: str | None = None
    """What may not lie on both sides of the split: ``folder`` (items of one folder); a column of
    the table of labels or conditions, or of the data; or a pattern that file names start with,
    such as [^_]+ for the patient in p01_slice3.png."""
    identical: Literal["together", "apart"] | None = None
    """Whether identical items are found and kept on one side of the split; by default together. A
    run keeps how it was split."""
    flip: bool = False
    """Mirror items left to right at random; volumes along the axis that their affine says."""
    random_crop: bool = False
    """Train on random crops (at least 0.8 of each side), resized back."""
    workers: Annotated[Whole, Field(ge=0, le=1024)] = 0
    """Processes that read data beside the training process."""
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

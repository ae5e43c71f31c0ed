"""The data's settings."""

from typing import Annotated, Literal

from pydantic import Field

from iddpm.config.section import Section

Positive = Annotated[int, Field(gt=0)]


class DataConfig(Section):
    """Where the data is and how it is read."""

    path: str | None = None
    """A folder of images, a .npy or .npz file, .tar shards, a Hugging Face dataset saved to disk,
    .parquet files, or the name of an embedded set."""
    image_size: Positive | tuple[Positive, Positive] | None = None
    """Crop and resize images to this size; needed when they differ in size."""
    channels: Literal[1, 3, 4] | None = None
    """Convert images to gray, RGB or RGBA; by default what they are."""
    labels: str = "auto"
    """``auto``, ``none``, ``folder``, ``prefix``, the path of a CSV file (file,label); of shards
    also ``cls`` or a key of their JSON; of tables a column."""
    column: str | None = None
    """Which member of the samples in shards, such as jpg, or which column of a table holds the
    items; by default the only one that can."""
    layout: str | None = None
    """Axes of an array, such as NHWC; by default recognised, refused when ambiguous."""
    corrupt: Literal["error", "skip"] = "error"
    """What to do about images that cannot be read."""
    cache: str = "none"
    """``none``, ``auto`` or a folder: decode, crop and resize once, then read from an array there;
    ``auto`` is the user's cache."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the items that is never trained on, chosen by a hash of the item."""
    flip: bool = False
    """Mirror items left to right at random."""
    random_crop: bool = False
    """Train on random crops (at least 0.8 of each side), resized back."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read data beside the training process."""
    worker_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a worker that does not answer counts as hung."""

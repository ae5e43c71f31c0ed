"""Gray data that is stored in three channels, where one would do."""

import numpy as np

from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.source import DerivedSource, Source

CHECKED_ITEMS = 32
"""Items spread over the data, of which the first in color ends the search."""


def gray_note(source: Source) -> str:
    """Return a note where all of some items have three equal channels; empty elsewhere."""
    if source.shape[0] != 3 or len(source.shape) < 3 or not len(source):
        return ""
    looked = np.unique(np.linspace(0, len(source) - 1, CHECKED_ITEMS).astype(int)).tolist()
    for index in looked:
        item = source.read(index)
        if (item != item[:1]).any():
            return ""
    while isinstance(source, DerivedSource):
        source = source.original
    converts = isinstance(source, Pictures) or source.form.kind == "clip"
    way = "-s data.channels=1 reads one" if converts else "save one of them"
    return (
        f"note: {source.name} is gray and stored in 3 equal channels (checked {len(looked)} of "
        f"{len(source)} items): {way}, which trains faster"
    )

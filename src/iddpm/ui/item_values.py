"""The values of an item as a page takes them: a signal as JSON, others as levels."""

import json
from typing import TYPE_CHECKING

import numpy as np
from starlette.responses import Response

from iddpm.ui.log_columns import thinned

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 64_000_000
"""Bytes of the levels that are sent to a page."""
POINTS = 2_000
"""Intervals that a signal is thinned to."""


def values_response(x: "Tensor", low: int | None = None, high: int | None = None) -> Response:
    """Return an item [C, *spatial] in [-1, 1]: JSON of a signal, thinned; else uint8 levels.

    Args:
        x: the item.
        low, high: the part of a signal, of which nothing else is sent.

    Raises:
        ValueError: it is too large for a page.
    """
    values = x.numpy()
    if values.ndim == 2:
        places = np.arange(values.shape[1], dtype=np.float64)[low:high]
        parts = [channel[low:high].astype(np.float64) for channel in values]
        at, channels = thinned(places, parts, POINTS)
        sent = {"at": [int(v) for v in at], "length": values.shape[1]}
        sent["channels"] = [[round(float(v), 5) for v in c] for c in channels]
        return Response(json.dumps(sent), media_type="application/json")
    if values.size > LARGEST:
        raise ValueError(f"an item of {values.size} values is too large for a page: open its file")
    levels = ((values.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    headers = {"X-Shape": ",".join(map(str, levels.shape))}
    return Response(levels.tobytes(), media_type="application/octet-stream", headers=headers)

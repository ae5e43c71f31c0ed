"""What data is, what will be done to it, and a picture of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iddpm.builders import conditions_of, propose, resolve
from iddpm.builders.run_data import Split, open_conditioned
from iddpm.config import Config, ResolvedConfig, read_config
from iddpm.data.file_format import Form
from iddpm.data.gray_in_color import gray_note
from iddpm.data.identical import identical_items, in_words
from iddpm.data.levels import to_model_range
from iddpm.data.sources.source import Source
from iddpm.data.values import Values, natural_values
from iddpm.data.writers.histogram import draw_histogram
from iddpm.data.writers.image_files import save_grid
from iddpm.runs.step_tables import spread
from iddpm.training.precision import choose_device

SHOWN = 25
_CLIPS = {
    "GIF": "GIF",
    "WEBP": "lossless WebP",
    "TIFF": "TIFF of many pages",
    "MP4": "lossless MP4",
    "frames": "folders of PNG",
}
COMPARED = 100_000
"""Items that are all read to find identical ones, where they are no files."""
CHECKED_ITEMS = 1000
"""Items whose range is measured and printed."""
FEW = 20
"""Items below which windows are recommended, where they can be cut."""
_BINS = 128
"""Bars of the histogram; integers of fewer levels have one a level."""


def inspect(
    path: str,
    settings: Sequence[str],
    out: Path,
    on_proposal: Callable[[ResolvedConfig], None] | None = None,
) -> Iterator[str]:
    """Open data as training does, write a picture of some items, and yield lines about it.

    Args:
        path: the data.
        settings: assignments such as ``"data.image_size=64"``.
        out: the picture.
        on_proposal: called with the settings that training would take, where it is possible.

    Raises:
        ValueError, OSError: data or settings that do not work, as in training.
    """
    config = read_config(None, ["data.cache=none", *settings, f"data.path={path}"])
    config, split = open_conditioned(config)
    source = split.source
    shown = spread(np.arange(len(source)), SHOWN)
    items = to_model_range(source.read_many(shown), source.bits)
    values = source.form.values or natural_values(source.bits)

    shape = f"{_by(source.shape)} ({_what(source)})"
    count = f"{len(source)} item{'s' if len(source) > 1 else ''}"
    yield f"found      {source.name}: {count}, each {shape}"
    yield f"values     {values}"
    used = _look(source, values)
    yield f"used       {used.say(len(source))}"
    note = gray_note(source) if config.data.channels is None else ""
    if note:
        yield note
    yield f"labels     {_labels(source)}"
    if source.taken:
        yield f"table      {source.taken}"
    if source.conditions is not None:
        for condition, column in zip(conditions_of(config), source.conditions.T, strict=True):
            unknown = int(np.isnan(column).sum())
            yield f"condition  {condition}" + (f", unknown for {unknown} items" if unknown else "")
    if source.given is not None:
        yield f"paired     {source.given.name}: {_by(source.given.shape)} with each item"
    yield f"split      {len(split.train)} training items, {len(split.held_out)} held out"
    if len(source) < FEW and (window := _window(config, source)):
        yield f"few items  -s data.window={window} cuts windows out of them"
    yield f"identical  {_identical(source)}"
    size = len(source) * int(np.prod(source.shape)) * (4 if source.bits is None else _bytes(source))
    item = size / len(source)
    yield f"memory     {size / 1e6:.3g} MB in total, {item / 1000.0:.3g} kB per item as read"
    yield f"training   {_training(config, split, on_proposal)}"
    for name, value in _facts(source):
        yield f"{name:<10} {value}"
    histogram = draw_histogram(used.counts, (values.low, values.high), (used.low, used.high))
    save_grid(items, out, film=source.form.kind == "clip", below=histogram)
    yield f"wrote {out}"


def _training(
    config: Config, split: Split, on_proposal: Callable[[ResolvedConfig], None] | None
) -> str:
    """Return what training would take with the settings that it would propose."""
    device = choose_device(config.training.device)
    try:
        resolved = resolve(config, split.source, len(split.train))
        proposal = propose(config, resolved, device)
    except ValueError as error:  # the data is shown all the same
        return f"not possible with these settings: {error}"
    if on_proposal is not None:
        on_proposal(resolved if proposal is None else proposal.config)
    return "the memory for training cannot be estimated here" if proposal is None else str(proposal)


def _identical(source: Source) -> str:
    """Return how many items repeat another; all are read for it where they are no files."""
    found = identical_items(source)
    if found is not None:
        return in_words(source, found) or "none"
    if len(source) > COMPARED:
        return f"not compared: more than {COMPARED} items that are not separate files"
    found = identical_items(source, None)
    if not found:
        return "none" if found is not None else "not looked for among windows"
    return f"{in_words(source, found)}; the split does not keep them on one side"


class _Used(NamedTuple):
    """The stored numbers that items use.

    Attributes:
        low, high: the lowest and the highest.
        counts: how many lie in each part ``[bins]`` of the range that becomes [-1, 1].
        items: how many items were looked at.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    items: int

    def say(self, total: int) -> str:
        some = "" if self.items == total else f", of {self.items} items checked"
        return f"{self.low:.6g} to {self.high:.6g}{some}"


def _look(source: Source, values: Values) -> _Used:
    """Check all items, or `CHECKED_ITEMS` spread over the data."""
    chosen = spread(np.arange(len(source)), CHECKED_ITEMS)
    lowest, highest = np.inf, -np.inf
    counts = np.zeros(_BINS if values.bits is None else min(_BINS, 2**values.bits), np.int64)
    for start in range(0, len(chosen), SHOWN):
        x = to_model_range(source.read_many(chosen[start : start + SHOWN]), source.bits).numpy()
        lowest, highest = min(lowest, float(x.min())), max(highest, float(x.max()))
        places = ((x.ravel().astype(np.float64) + 1) / 2 * len(counts)).astype(np.int64)
        counts += np.bincount(places.clip(0, len(counts) - 1), minlength=len(counts))
    half = (values.high - values.low) / 2
    low, high = ((end + 1) * half + values.low for end in (lowest, highest))
    if values.bits is not None:
        low, high = round(low), round(high)
    return _Used(low, high, counts, len(chosen))


def _labels(source: Source) -> str:
    if source.labels is None:
        return "none"
    known = source.labels[source.labels >= 0]
    counts = np.bincount(known, minlength=len(source.class_names))
    parts = [f"{n} ({c})" for n, c in zip(source.class_names, counts.tolist(), strict=True)]
    more = f", and {len(parts) - 12} more" if len(parts) > 12 else ""
    without = f"; {source.unlabeled} items without a class (-1)" if source.unlabeled else ""
    return f"{len(parts)} classes: {', '.join(parts[:12])}{more}{without}"


def _facts(source: Source) -> Iterator[tuple[str, str]]:
    form = source.form
    if form.sample_rate is not None:
        seconds = source.shape[1] / form.sample_rate
        yield "rate", f"{form.sample_rate} Hz, {seconds:.3g} s per item, written as {_coding(form)}"
    if form.affine is not None:
        spacing = np.linalg.norm(np.array(form.affine)[:3, :3], axis=0)
        yield "voxels", " x ".join(f"{s:.3g}" for s in spacing) + " mm"
    if form.kind == "raster":
        yield "samples", f"written as {form.container or 'TIFF'} files with such numbers"
    if form.kind == "clip":
        pace = f"{form.milliseconds:g} ms each, " if form.milliseconds is not None else ""
        yield (
            "frames",
            (f"{source.shape[1]} per item, {pace}written as {_CLIPS[form.encoding or '']}"),
        )


def _coding(form: Form) -> str:
    return f"{form.encoding} in {form.container or 'WAV'}"


def _window(config: Config, source: Source) -> str:
    """Return a window for recordings and volumes, or nothing for what has or takes none."""
    if config.data.window is not None or source.form.kind not in ("signal", "volume"):
        return ""
    most = 32 if source.form.kind == "volume" else 1024
    sizes = [max(1 << (n // 2).bit_length() - 1, 1) for n in source.shape[1:]]
    return f"[{','.join(str(min(n, most)) for n in sizes)}]"


def _what(source: Source) -> str:
    channels = source.shape[0]
    axes = ("signals", "images", "volumes")[len(source.shape) - 2]
    axes = "clips" if source.form.kind == "clip" else axes
    return f"{axes} of {channels} channel{'s' if channels > 1 else ''}"


def _bytes(source: Source) -> int:
    return 1 if source.bits is not None and source.bits <= 8 else 2


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))

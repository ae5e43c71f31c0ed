"""Open data, and resolve the settings that follow from it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from iddpm.builders.decided import STEPS, decide
from iddpm.builders.guides import check_guidance
from iddpm.builders.low_resolution import check_low_res_noise
from iddpm.builders.network import halvings
from iddpm.builders.proposal import MOST_ITEMS, batch_for, propose_network
from iddpm.builders.task import TASKS, task_of
from iddpm.config import Config, DataConfig, ResolvedConfig, settle, validate
from iddpm.config.choices import listed
from iddpm.data.cache import user_cache
from iddpm.data.file_format import Form
from iddpm.data.formats import KINDS
from iddpm.data.sources.cached import cached
from iddpm.data.sources.label_tables import NotClassesError
from iddpm.data.sources.memory import open_memory
from iddpm.data.sources.open import open_source
from iddpm.data.sources.source import Source
from iddpm.data.sources.windows import Rows, Windows
from iddpm.data.values import Values, natural_values, with_fill
from iddpm.diffusion import log_snr_of_levels
from iddpm.diffusion.schedule import LOG_SNR_MAX, LOG_SNR_MIN
from iddpm.networks.layers import MAX_GROUPS, num_groups
from iddpm.networks.trunk import (
    check_circular,
    check_size,
    check_stride,
    level_blocks,
    level_widths,
)

PURE_NOISE_SHARE = 0.125
"""Share of the training items of a residual at pure noise, where one evaluation makes a sample."""


def open_data(config: Config, memory: Any = None) -> Source:
    """Open the data that the settings name, or an object in memory."""
    data = config.data
    if memory is not None:
        return _open_in_memory(data, memory)
    if data.path is None:
        raise ValueError(
            "no data: name a folder of images, a .npy or .npz file, .tar shards, or an "
            "embedded data set"
        )
    try:
        source = open_path(data, data.path)
    except NotClassesError:
        if config.form is None:
            raise
        # A run of an earlier version used these folders as classes, and keeps them.
        source = open_path(data.model_copy(update={"labels": "folder"}), data.path)
    if config.form is None:  # the settings of a run were checked, and may be older
        _refuse_other_kinds(data, source)
    return source


_CUT_TO_SIZE = ("array", "picture", "clip", "raster")
"""Kinds of data whose items are cropped, resized and converted to other channels."""


def _refuse_other_kinds(data: DataConfig, source: Source) -> None:
    """Raise ValueError for settings that do not apply to this kind of data."""
    kind = source.form.kind
    whole = kind not in _CUT_TO_SIZE
    refused = {
        "sample_rate": (kind != "signal", "is for sound files"),
        "stride": (data.window is None, "is the distance between windows: set data.window too"),
        "pad_short": (data.window is None, "pads what is shorter than data.window: set that too"),
        "image_size": (whole, "is for pictures, clips and arrays"),
        "channels": (whole and kind != "signal", "is for pictures, clips, arrays and sounds"),
    }
    for name, (applies_not, why) in refused.items():
        value = getattr(data, name)
        if applies_not and value not in (None, False):
            raise ValueError(
                f"data.{name}={value} does not apply to {source.name}, which holds items of kind "
                f"{kind}: it {why}; leave it out"
            )


def _open_in_memory(data: DataConfig, memory: Any) -> Source:
    """Open an array, a tensor or a dataset with these settings."""
    if data.path is not None:
        raise ValueError(
            f"data was passed in memory and data.path={data.path} is set too: use one of them"
        )
    defaults = DataConfig()
    for name in ("column", "cache", "sample_rate", "corrupt", "max_pixels", "pad_short"):
        value = getattr(data, name)
        if value != getattr(defaults, name):
            raise ValueError(f"data.{name}={value} is for files, and data was passed in memory")
    source = open_memory(
        memory,
        layout=data.layout,
        labels=data.labels,
        image_size=data.image_size,
        channels=data.channels,
        value_range=with_fill(data.range, data.fill),
        given_range=with_fill(data.given_range, data.fill),
    )
    if data.window is None:
        return source
    if source.columns is not None or source.given is not None:
        raise ValueError(
            "data.window cannot cut items in memory that have conditions or paired data"
        )
    windows = Windows(Rows(source), data.window, data.stride)
    windows.memory = source.memory
    return windows


def open_path(data: DataConfig, path: str) -> Source:
    """Open the data at a path with these settings, through a cache if set."""
    source = open_source(
        path,
        image_size=data.image_size,
        channels=data.channels,
        labels=data.labels,
        corrupt=data.corrupt,
        layout=data.layout,
        column=data.column,
        value_range=data.range,
        window=data.window,
        stride=data.stride,
        pad_short=data.pad_short,
        sample_rate=data.sample_rate,
        max_pixels=data.max_pixels,
        fill=data.fill,
    )
    if data.cache == "none":
        return source
    folder = user_cache() / "items" if data.cache == "auto" else Path(data.cache).expanduser()
    return cached(source, folder, Path(path).resolve(), data.layout, data.column)


def values_of(config: Config) -> Values:
    """Return how the numbers of the data are stored, from resolved settings."""
    if config.data.range is None or config.data.range == "auto":
        return natural_values(config.bits)
    dtype = config.form.dtype if config.form else None
    dtype = dtype or natural_values(config.bits).dtype
    return Values(dtype, *config.data.range, fill=config.data.fill)


def form_of(config: Config) -> Form:
    """Return the file form of the data, from resolved settings; ValueError for an unknown kind."""
    if config.form is not None and config.form.kind not in KINDS:
        raise ValueError(f"form.kind={config.form.kind} is unknown: use {listed(KINDS)}")
    facts = config.form.model_dump(exclude={"dtype"}) if config.form else {}
    return Form(**facts, values=values_of(config))


def _keep_form(values: dict[str, Any], source: Source) -> None:
    """Record the file form of the data, and its range if the depth does not determine it."""
    form = asdict(source.form)
    stored = source.form.values or natural_values(source.bits)
    del form["values"]
    values["form"] = {**form, "dtype": stored.dtype}
    values["data"]["range"] = None if stored.natural else (stored.low, stored.high)
    if source.given is not None:
        stored = source.given.form.values or natural_values(source.given.bits)
        values["data"]["given_range"] = None if stored.natural else (stored.low, stored.high)


def resolve(config: Config, source: Source | None = None, train_items: int = 0) -> ResolvedConfig:
    """Return the settings with all derived values filled in.

    Args:
        config: settings as the user gave them.
        source: the data, or None to build from the stated facts alone.
        train_items: items to train on, when there is data.

    Raises:
        ValueError: a stated fact that the data contradicts, or one that is missing.
    """
    values = config.model_dump()
    model, training = values["model"], values["training"]
    if source is not None:
        _take_facts(values, config, source)
    for name in ("channels", "size", *(["num_classes"] if model["class_conditional"] else [])):
        if model[name] is None:
            raise ValueError(f"model.{name} must be set to build a network without data")
    for name, condition in (config.model.conditions or {}).items():
        if not condition.resolved:
            raise ValueError(
                f"model.conditions.{name} must set its kind and its range, period or names to "
                "build a network without data"
            )
    if training["batch_size"] is None:
        training["batch_size"] = batch_for(
            model["size"], train_items if source is not None else MOST_ITEMS
        )
    if source is not None and training["epochs"] is not None:
        steps = round(training["epochs"] * train_items / training["batch_size"])
        training["steps"] = max(steps, 1)
        training["epochs"] = None  # stored in steps, which a resume may change
    if is_new(config):
        decide(values, train_items if source is not None else 0)
    posthoc = training["posthoc_ema"]
    if posthoc is not None and posthoc["every"] is None:
        posthoc["every"] = max((training["steps"] or STEPS) // 20, 1)
    if model["network"] is None:
        _resolve_unet(model, config.model.model_fields_set)
    _resolve_schedule(values["diffusion"], values["bits"])
    if is_new(config):
        _resolve_residual(values, config)
        _check_time_input(values["diffusion"])
    resolved = settle(validate(values))
    check_guidance(resolved, resolved.sampling.guidance)
    check_low_res_noise(resolved, resolved.sampling.low_res_noise)
    task_of(resolved).check()
    return resolved


def _check_time_input(diffusion: dict[str, Any]) -> None:
    """Refuse to leave timesteps as they are where the network receives none."""
    if diffusion["time_input"] == "log_snr" and not diffusion["rescale_timesteps"]:
        raise ValueError(
            "diffusion.rescale_timesteps=false has no effect with diffusion.time_input=log_snr, "
            "where the network receives the log-SNR on one scale: leave it out"
        )


def is_new(config: Config) -> bool:
    """Say whether settings are those of a new run; other runs keep what they are."""
    return config.form is None and config.imported_from is None


def _resolve_schedule(diffusion: dict[str, Any], bits: int | None) -> None:
    """Fill in the ends of a log-SNR schedule, the least noise from the depth of the data."""
    if diffusion["schedule"] != "log_snr":
        return
    if diffusion["log_snr_max"] is None:
        diffusion["log_snr_max"] = LOG_SNR_MAX if bits is None else log_snr_of_levels(bits)
    if diffusion["log_snr_min"] is None:
        diffusion["log_snr_min"] = LOG_SNR_MIN


def _resolve_residual(values: dict[str, Any], config: Config) -> None:
    """For new runs of super-resolution, learn the residual, with more pure noise."""
    training = values["training"]
    predicts = values["diffusion"]["predicts"]
    diffusion = config.diffusion.model_copy(update={"predicts": predicts})
    learned = diffusion.residual
    if learned is None:
        learned = TASKS[config.task].takes_low_res and not diffusion.goes_by_levels
    if diffusion.residual_scale is not None and not learned:
        raise ValueError("diffusion.residual_scale needs diffusion.residual=true: leave it out")
    values["diffusion"]["residual"] = learned
    if training["pure_noise_share"] is None:
        worth = learned and diffusion.sees_pure_noise
        training["pure_noise_share"] = PURE_NOISE_SHARE if worth else 0.0


def _take_facts(values: dict[str, Any], config: Config, source: Source) -> None:
    """Fill in the facts of the data; raise ValueError for data that does not fit the settings."""
    model = values["model"]
    _hold(model, "channels", source.shape[0], source.name)
    _hold(model, "size", tuple(source.shape[1:]), source.name)
    if source.given is not None:
        _hold(model, "given_channels", source.given.shape[0], source.given.name)
    values["class_names"] = source.class_names
    values["bits"] = source.bits
    if config.form is None:  # runs of earlier versions, without this choice, keep their split
        values["data"]["identical"] = config.data.identical or "together"
    _keep_form(values, source)
    TASKS[config.task].check_labels(config, source)
    if model["class_conditional"]:
        _hold(model, "num_classes", len(source.class_names), source.name)


def _resolve_unet(model: dict[str, Any], stated: set[str]) -> None:
    """Fill in the settings of the U-Net that follow from the size, or raise ValueError."""
    coarser = halvings(model["wavelets"], model["patch"])
    if coarser and model["stride"] is None:  # the proposal for the data's own size
        draft = dict(model)
        propose_network(draft, stated)
        model["stride"] = check_stride(draft["stride"], len(model["size"]))
    size = grid_of(model)
    inside = {**model, "size": size}
    propose_network(inside, stated)
    model |= {**inside, "size": model["size"]}
    widths = level_widths(model["model_channels"], model["channel_mult"])
    level_blocks(model["num_res_blocks"], len(widths))
    least = (model["group_channels"] or 1) if model["layers"] == "group_norm" else None
    if not model["use_scale_shift_norm"] and all(num_groups(w, least or 1) == w for w in widths):
        raise ValueError(
            f"model.use_scale_shift_norm=false needs a level of more than {MAX_GROUPS} "
            "channels or model.group_channels=4, and the levels have "
            f"{', '.join(map(str, widths))}: with one channel per group, normalization removes "
            "the timestep embedding"
        )
    stride = check_stride(model["stride"], len(size))
    check_size(size, stride, widths, check_circular(model["circular"], len(stride)), least)


def grid_of(model: dict[str, Any]) -> tuple[int, ...]:
    """Return the spatial size of the U-Net: that of the data, or smaller by wavelets or patches.

    Raises:
        ValueError: they do not divide the size.
    """
    size, levels = tuple(model["size"]), halvings(model["wavelets"], model["patch"])
    if not levels:
        return size
    stride = check_stride(model["stride"], len(size))
    factors = [2**levels if s == 2 else 1 for s in stride]
    if any(n % factor for n, factor in zip(size, factors, strict=True)):
        nearest = [max(n // f, 1) * f for n, f in zip(size, factors, strict=True)]
        stated, less = f"model.wavelets={levels} halves each axis {levels} times", "fewer levels"
        if not model["wavelets"]:
            stated, less = f"model.patch={2**levels} divides each axis", "a smaller patch"
        raise ValueError(
            f"{stated}, and the data is {' x '.join(map(str, size))}: use data of "
            f"{' x '.join(map(str, nearest))}, or {less}"
        )
    return tuple(n // factor for n, factor in zip(size, factors, strict=True))


def _hold(model: dict[str, Any], name: str, found: Any, where: str) -> None:
    """Fill in a fact of the data, or check a stated one."""
    stated = model[name]
    if stated is not None and stated != found:
        raise ValueError(f"model.{name}={stated} is set, but {where} has {found}")
    model[name] = found


def default_run_directory(path: str) -> Path:
    """Return the default directory of a run on this data: ``runs/NAME``."""
    if "{" in path:  # a pattern of shards
        return Path("runs") / (Path(path).resolve().parent.name or "shards")
    name = Path(path).resolve().stem if Path(path).exists() else path
    return Path("runs") / name

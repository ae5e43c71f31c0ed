"""Editing a user's items with a trained model, before and after side by side."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import (
    SamplingPlan,
    build_sample_tiling,
    build_sampling_schedule,
    check_class_left_open,
)
from iddpm.builders.sampling_plan import check_part_of_process, settings_for_inpainting
from iddpm.data.item import Item, read_mask
from iddpm.data.levels import to_model_range
from iddpm.data.writers.image_files import save_gif, save_grid
from iddpm.diffusion import NoiseSchedule
from iddpm.evaluation.fidelity import psnr_of_all
from iddpm.runs.run import Run
from iddpm.runtime.console import open_console, progress_bar
from iddpm.sampling import (
    DDIM,
    NO_CLASS,
    OVERLAP,
    SampleNoise,
    State,
    even_timesteps,
    inversion,
    noisiest_step,
    redraw,
    slerp,
    trajectory,
)
from iddpm.sampling import inpaint as fill_in
from iddpm.tasks.drawn_items import (
    open_whole,
    read_file,
    save_before_and_after,
    save_items,
    say_written,
    shown_states,
)

INTERPOLATION_STEPS = 250
"""Steps each way; the round trip's error falls as one over them."""


def open_item(run: Run, what: Path | str | int) -> Item:
    """Return an item: a file, or the number of an item that was held out of the run's training.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such item, or a file that does not fit the model.
    """
    run.task.check_edits(run.directory)
    if not str(what).isdecimal() or Path(str(what)).exists():
        return read_file(run.config, Path(str(what)))
    split = run.open_split()
    number = int(str(what))
    if number >= len(split.held_out):
        raise ValueError(
            f"item {number} was requested, and {split.source.name} has {len(split.held_out)} "
            "held-out items, counted from 0"
        )
    stored = split.source.read(int(split.held_out[number]))
    return Item(to_model_range(stored, split.source.bits), None)


def interpolate(
    run: Run,
    a: Path | str | int,
    b: Path | str | int,
    *,
    frames: int = 9,
    steps: int | None = None,
    class_name: str | int | None = None,
    out: Path | None = None,
    console: Console | None = None,
) -> list[Path]:
    """Go from one item to another through the noise that they are decoded from.

    Both are inverted by DDIM without clipping, joined along a great circle and decoded; the ends
    reproduce the items.

    Args:
        run: the model.
        a, b: files, or numbers of held-out items.
        frames: number of frames, both ends included.
        steps: network evaluations each way, 250 by default.
        class_name: the class to invert and decode with; none by default.
        out: the directory, ``RUN/samples/interpolation`` by default.
        console: for progress.

    Returns:
        The files written: ``before_after.png`` (a, the frames, b), ``interpolation.gif`` and the
        frames.

    Raises:
        ValueError, FileNotFoundError: an argument does not fit.
    """
    if frames < 2:
        raise ValueError(f"frames={frames} must be at least 2, for the two ends")
    console = console or open_console()
    ends = torch.stack([open_item(run, item).x for item in (a, b)])
    schedule = interpolation_schedule(run, steps)
    total = 2 * len(schedule)
    console.print(f"{frames} frames: {total} evaluations, ddim", markup=False)
    with progress_bar(console, "interpolating") as progress:
        up = inversion(
            run.denoiser,
            schedule,
            ends.to(run.device),
            **_conditioning(run, 2, class_name),
        )
        noises = _last(progress.track(up, total=total))
        noise = slerp(noises[0], noises[1], torch.linspace(0, 1, frames))
        down = trajectory(
            DDIM(),
            partial(run.denoiser, **_conditioning(run, frames, class_name)),
            schedule,
            noise,
        )
        x = _last(progress.track(down, total=total, completed=len(schedule))).cpu()
    first, final = psnr_of_all(x[0], ends[0]), psnr_of_all(x[-1], ends[1])
    console.print(f"the ends reproduce the items at {first:.1f} and {final:.1f} dB", markup=False)
    directory = out or run.directory / "samples" / "interpolation"
    written = [
        save_grid(
            torch.cat([ends[:1], x, ends[1:]]), directory / "before_after.png", columns=frames + 2
        ),
        save_gif([frame[None] for frame in x], directory / "interpolation.gif"),
    ]
    return say_written(console, written, save_items(run, x, directory))


def interpolation_schedule(run: Run, steps: int | None = None) -> NoiseSchedule:
    """Return the steps that items are inverted and decoded by, evenly in time.

    They end where hardly anything is left of the data; from the noisiest step, where sigma may be
    2e4, small errors would be magnified.
    """
    whole = run.denoiser.diffusion.schedule
    whole = whole.respace(range(noisiest_step(whole) + 1))
    count = min(INTERPOLATION_STEPS, len(whole)) if steps is None else steps
    return whole.respace(even_timesteps(len(whole), count))


def inpaint(
    run: Run,
    file: Path | str | int,
    mask: Path | str,
    *,
    n: int = 4,
    resample: int = 1,
    jump: int = 10,
    tiled: bool = False,
    overlap: float = OVERLAP,
    seed: int = 0,
    class_name: str | int | None = None,
    out: Path | None = None,
    console: Console | None = None,
    on_state: Callable[[int, Tensor], None] | None = None,
    **settings: Any,
) -> list[Path]:
    """Fill in what a mask marks; everything else stays exactly as it is.

    Args:
        run: the model.
        file: the item, or the number of a held-out one.
        mask: a picture or array of the same size, white or 1 where to fill in.
        n: number of versions.
        resample, jump: RePaint, see :func:`~iddpm.sampling.inpaint`.
        tiled: keep the file's own size, which is drawn as tiles of the size of the training; a file
            of any kind that ``iddpm upscale`` reads, and the versions are such files. By default a
            picture is cropped and resized.
        overlap: share of a tile that neighbors share, at the least.
        seed: version k depends on the seed and k alone.
        class_name: the class to fill in; none by default.
        out: the directory, ``RUN/samples/inpainting`` by default.
        console: for progress.
        on_state: called with the number of states before and the state [n, C, *spatial].
        settings: of sampling, as for :meth:`~iddpm.runs.run.Run.plan`. By default DDIM with fresh
            noise (eta 1) at even timesteps, which fits the rest to the known part best.

    Returns:
        The files written: ``before_after.png`` (the item, what is kept of it, the versions) and
        the versions.

    Raises:
        ValueError, FileNotFoundError: an argument does not fit.
    """
    settings = settings_for_inpainting(settings)
    console = console or open_console()
    _check_number(n)
    whole = open_whole(run, file) if tiled else None
    item = open_item(run, file) if whole is None else Item(whole.read(0, 1)[0], None)
    fill = read_mask(Path(mask), tuple(item.x.shape[1:]), item.picture_size)
    tiling = build_sample_tiling(run.config, item.x.shape[1:], overlap)
    plan = tiling.around(_plan(run, class_name, settings))
    known = tiling.pad(item.x[None]).expand(n, -1, *tiling.size).to(run.device)
    where = tiling.pad(fill[None]).to(run.device)
    noise = SampleNoise(seed, known.shape, device=run.device)
    states = fill_in(
        plan.sampler,
        plan.denoise,
        plan.schedule,
        known,
        where,
        noise.initial(),
        resample=resample,
        jump=jump,
        noise=noise,
        self_condition=plan.self_condition,
        levels=plan.levels,
        **_conditioning(run, n, class_name),
    )
    passes = f", {resample} passes over jumps of {jump}" if resample > 1 else ""
    tiles = f" in {tiling.count} tiles" if tiling.count > 1 else ""
    what = f"{n} versions, each {plan}{passes}{tiles}"
    x = _drawn(run, plan, shown_states(states, on_state), console, what)
    before = torch.stack([item.x, torch.where(fill, torch.zeros_like(item.x), item.x)])
    directory = out or run.directory / "samples/inpainting"
    return save_before_and_after(run, before, tiling.crop(x), directory, console, whole)


def edit(
    run: Run,
    file: Path | str | int,
    *,
    strength: float = 0.5,
    n: int = 4,
    seed: int = 0,
    class_name: str | int | None = None,
    out: Path | None = None,
    console: Console | None = None,
    on_state: Callable[[int, Tensor], None] | None = None,
    **settings: Any,
) -> list[Path]:
    """Vary an item: add noise up to a level and denoise (SDEdit, Meng et al. 2022).

    Args:
        run: the model.
        file: the item, or the number of a held-out one.
        strength: share of the diffusion time: near 0 nothing changes, at 1 nothing is kept. The
            same share of ``steps`` is taken.
        n: number of versions.
        seed: version k depends on the seed and k alone.
        class_name: the class to draw; none by default.
        out: the directory, ``RUN/samples/edit`` by default.
        console: for progress.
        on_state: called with the number of states before and the state [n, C, *spatial].
        settings: of sampling, as for :meth:`~iddpm.runs.run.Run.plan`.

    Returns:
        The files written: ``before_after.png`` (the item, then the versions) and the versions.

    Raises:
        ValueError, FileNotFoundError: an argument does not fit.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength={strength} must lie above 0 and be at most 1, such as 0.5")
    check_part_of_process(settings.get("spacing") or run.config.sampling.spacing)
    console = console or open_console()
    _check_number(n)
    x0 = open_item(run, file).x
    plan = _plan(run, class_name, settings)
    whole = run.denoiser.diffusion.schedule
    lower = whole.respace(range(max(1, round(strength * len(whole)))))
    steps = min(max(1, round(strength * plan.sampling.steps)), len(lower))
    plan = _plan(run, class_name, {**settings, "steps": steps})
    levels = {"sigma_max": plan.sampling.sigma_max, "rho": plan.sampling.rho}
    plan = replace(plan, schedule=build_sampling_schedule(lower, plan.method, steps, **levels))
    start = x0.expand(n, *run.shape).to(run.device)
    noise = SampleNoise(seed, start.shape, device=run.device)
    states = redraw(
        plan.sampler,
        plan.denoise,
        plan.schedule,
        start,
        noise.initial(),
        noise=noise,
        self_condition=plan.self_condition,
        levels=plan.levels,
        **_conditioning(run, n, class_name),
    )
    x = _drawn(run, plan, shown_states(states, on_state), console, f"{n} versions, each {plan}")
    return save_before_and_after(run, x0[None], x, out or run.directory / "samples/edit", console)


def _check_number(n: int) -> None:
    if n < 1:
        raise ValueError(f"cannot draw {n} versions: use 1 or more")


def _plan(run: Run, class_name: str | int | None, settings: dict[str, Any]) -> SamplingPlan:
    """Return the plan of these settings, without guidance if there is no class."""
    if class_name is None:
        guidance = settings.get("guidance")
        if guidance not in (None, 1) and run.config.model.conditioned:
            raise ValueError(
                f"guidance={guidance:g} needs a class: give --class, or leave --guidance out"
            )
        settings = {**settings, "guidance": 1.0 if guidance is None else guidance}
    return run.plan(**settings)


def _conditioning(run: Run, n: int, class_name: str | int | None) -> dict[str, Tensor]:
    """Return the conditioning of ``n`` items: one class or none, and no conditions."""
    conditioning = {"conditions": run.ask(n).float().to(run.device)} if run.conditions else {}
    if run.classes is None:
        if class_name is not None:
            raise ValueError(
                f"class {class_name!r} was requested, and {run.directory} was trained without "
                "classes (model.class_conditional=false)"
            )
        return conditioning
    if class_name is not None:
        return conditioning | {"y": run.classes.labels(n, 0, class_name).to(run.device)}
    check_class_left_open(run.config, run.directory)
    return conditioning | {"y": torch.full((n,), NO_CLASS, device=run.device)}


def _drawn(
    run: Run, plan: SamplingPlan, states: Iterator[State], console: Console, what: str
) -> Tensor:
    """Sample to the end with a progress bar and return the data, on the CPU."""
    console.print(what, markup=False)
    precision = run.precision(plan.sampling.precision)
    with progress_bar(console, "drawing") as progress, precision.autocast():
        return _last(progress.track(states)).cpu()


def _last(states: Iterable[State]) -> Tensor:
    """Sample to the end and return the last state."""
    return deque(states, maxlen=1)[0].x

"""Samples of an opened run, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from iddpm.builders import SamplingPlan, Tiling, check_given
from iddpm.data.conditioning.labels import Wanted
from iddpm.data.conditioning.requested import RequestedConditions, ask
from iddpm.networks.cast_weights import cast_weights
from iddpm.runs.opened_run import OpenedRun
from iddpm.sampling import NO_CLASS, SampleNoise


@dataclass(frozen=True)
class SampleBatch:
    """Some of the requested samples.

    Attributes:
        x: [N, C, *spatial] on the CPU; about [-1, 1].
        y: [N] classes, or None.
        start: number of the first.
    """

    x: Tensor
    y: Tensor | None
    start: int


@dataclass(frozen=True)
class Requested:
    """Which samples are drawn.

    Attributes:
        n: number of samples.
        seed: any integer; sample k depends on it and k alone.
        classes: one class for all, or one per sample, by name or number; None draws them.
        given: other conditioning, a tensor [n, ...] for each name; row 0 belongs to ``start``.
        size: spatial size; that of the data by default.
        start: number of the first sample, for continuing a set.
    """

    n: int
    seed: int = 0
    classes: Wanted = None
    given: Mapping[str, Tensor] | None = None
    size: Sequence[int] | None = None
    start: int = 0


def draw_batches(
    run: OpenedRun,
    plan: SamplingPlan,
    requested: Requested,
    *,
    turns: slice = slice(None),
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Iterator[SampleBatch]:
    """Draw samples and yield each batch when it is finished; the first batch follows all checks.

    Args:
        run: the model.
        plan: the sampling plan.
        requested: the samples.
        turns: selects batches, for sharing them among processes.
        on_step: called after every step with the number of steps taken and the state,
            [N, C, *spatial]; first with 0 and the noise.

    Raises:
        ValueError: no samples, or conditioning that does not fit the model or their number.
    """
    n, start = requested.n, requested.start
    shape = run.shape if requested.size is None else (run.shape[0], *requested.size)
    conditioning = _conditioning(run, plan, requested, shape)
    labels, at_once = conditioning.get("y"), plan.sampling.batch_size
    context = run.precision(plan.sampling.precision)

    def batches() -> Iterator[SampleBatch]:
        for first in range(start, start + n, at_once)[turns]:
            count = min(at_once, start + n - first)
            rows = slice(first - start, first - start + count)
            noise = SampleNoise(requested.seed, (count, *shape), first, run.device)
            part = {name: value[rows].to(run.device) for name, value in conditioning.items()}
            level, numbers = plan.sampling.low_res_noise, range(first, first + count)
            part |= run.task.sampling_inputs(part, level, numbers, requested.seed)
            if on_step is not None:
                on_step(0, noise.initial())
            with context.autocast(), cast_weights(run.denoiser, context.dtype):
                for state in plan.states(noise, **part):
                    x = state.x
                    if on_step is not None:
                        on_step(state.number, x)
            yield SampleBatch(x.cpu(), None if labels is None else labels[rows], first)

    return batches()


def sized(requested: Requested, tiling: Tiling) -> Requested:
    """Return the request for what is drawn in tiles; paired data is mirrored up to a tile."""
    given = dict(requested.given or {})
    if given.get("given") is not None:
        given["given"] = tiling.pad(given["given"])
    return replace(requested, given=given, size=tiling.size)


def requested_conditions(
    run: OpenedRun, n: int, conditions: RequestedConditions | None = None
) -> Tensor:
    """Return the requested conditions of ``n`` samples, float64 [n, K].

    Raises:
        ValueError: an unknown condition or class, text where a number belongs, or a condition
            without a value that always had one in training (training.label_dropout=0).
    """
    values = ask(run.conditions, conditions or {}, n, run.directory)
    open_ = np.isnan(values).any(axis=0)
    if open_.any() and not run.config.training.label_dropout:
        name = run.conditions[int(np.argmax(open_))].name
        raise ValueError(
            f"{run.directory} was trained with training.label_dropout=0 and needs a value of "
            f"{name} for every sample: request it, such as with --condition {name}=..."
        )
    return torch.from_numpy(values)


def _conditioning(
    run: OpenedRun, plan: SamplingPlan, requested: Requested, shape: Sequence[int]
) -> dict[str, Tensor]:
    """Return the checked conditioning of the network, n rows each, on the CPU."""
    n = requested.n
    if n < 1:
        raise ValueError(f"cannot draw {n} samples: use 1 or more")
    conditioning = dict(requested.given or {})
    if run.conditions and "conditions" not in conditioning:
        conditioning["conditions"] = requested_conditions(run, n)
    for name, value in conditioning.items():
        if len(value) != n:
            raise ValueError(f"{name} has {len(value)} rows for {n} samples: give one for each")
    check_given(run.config, run.directory, conditioning.get("given"), shape[1:])
    run.task.check_inputs(run.directory, conditioning, shape)
    if conditioning.get("y") is None:
        labels = _labels(run, plan, requested)
        if labels is not None:
            conditioning["y"] = labels
    _check_something_to_guide(run, plan, conditioning)
    if "conditions" in conditioning:  # float64 for writing them to files
        conditioning["conditions"] = conditioning["conditions"].float()
    return conditioning


def _labels(run: OpenedRun, plan: SamplingPlan, requested: Requested) -> Tensor | None:
    n, seed, wanted, start = requested.n, requested.seed, requested.classes, requested.start
    if plan.classes is not None:
        if wanted is None:  # drawn by number
            return plan.classes.labels(start + n, seed)[start:]
        return plan.classes.labels(n, seed, wanted)
    if wanted is not None:
        raise ValueError(
            f"class {wanted!r} was requested, and {run.directory} was trained without classes "
            "(model.class_conditional=false)"
        )
    return None


def _check_something_to_guide(
    run: OpenedRun, plan: SamplingPlan, conditioning: Mapping[str, Tensor]
) -> None:
    """Raise ValueError if guidance was requested for samples without class and conditions.

    The run's own guidance setting has no effect there.
    """
    guidance, model = plan.sampling.guidance, run.config.model
    if guidance in (1, run.config.sampling.guidance) or not model.conditioned:
        return
    y, conditions = conditioning.get("y"), conditioning.get("conditions")
    if y is not None and model.class_conditional and bool((y != NO_CLASS).any()):
        return
    if conditions is not None and not bool(conditions.isnan().all()):
        return
    known = ["a class"] * model.class_conditional
    known += [f"--condition {condition.name}=..." for condition in run.conditions]
    raise ValueError(
        f"guidance={guidance:g} needs a class or conditions: give {' or '.join(known)}, or "
        "leave --guidance out"
    )

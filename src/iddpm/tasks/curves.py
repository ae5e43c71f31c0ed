"""Pictures of numbers: a run's losses, and the terms of a likelihood."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iddpm.runtime.atomic_files import write_atomically
from iddpm.training.monitoring.log_files import held_out_measure, read_log


def save_curves(directory: Path, path: Path) -> Path:
    """Draw the losses in a run's log and return the picture's path.

    Raises:
        ValueError: nothing has been logged, or matplotlib is not installed.
    """
    records = read_log(directory)
    if not records:
        raise ValueError(f"{directory} has no log records to plot yet")
    figure = _figure("loss curves")
    whole, quartiles = figure.subplots(1, 2)
    _plot(whole, records, "loss", "training")
    measured = next((held_out_measure(r) for r in records if "held_out_loss" in r), "")
    label = measured.replace("-", " ").removesuffix(" loss")
    _plot(whole, records, "held_out_loss", label, marker="o")
    whole.set(title="loss", xlabel="step", yscale="log")
    whole.legend()
    names = ("least noise", "second", "third", "most noise")
    for q, name in enumerate(names):
        _plot(quartiles, records, f"loss_q{q}", name)
    quartiles.set(title="loss by quarter of the timesteps", xlabel="step", yscale="log")
    quartiles.legend()
    return write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def save_terms(rows: Sequence[Mapping[str, float]], unit: str, path: Path) -> Path:
    """Draw the terms of a bound and the estimates' errors over the timesteps.

    Args:
        rows: with ``step``, ``mean``, ``error``, ``x0_mse`` and ``eps_mse``; one per timestep.
        unit: of the terms.
        path: where the picture goes; returned.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure = _figure("the terms of a likelihood")
    terms, errors = figure.subplots(1, 2)
    step = [row["step"] + 1 for row in rows]  # a logarithmic axis has no 0
    mean = np.array([row["mean"] for row in rows])
    spread = np.array([row["error"] for row in rows])
    terms.plot(step, mean, ".-", markersize=3, linewidth=0.8)
    floor = mean[mean > 0].min(initial=np.inf) / 2
    terms.fill_between(step, np.maximum(mean - spread, floor), mean + spread, alpha=0.3)
    terms.set(title="terms of the bound", xlabel="timestep + 1", ylabel=unit, xscale="log")
    terms.set_yscale("log" if bool((mean > 0).all()) else "linear")
    for key, label in (("x0_mse", "data"), ("eps_mse", "noise")):
        errors.plot(step, [row[key] for row in rows], ".-", markersize=3, label=label)
    errors.set(title="mean squared error of the estimates", xlabel="timestep + 1")
    errors.set(xscale="log", yscale="log")
    errors.legend()
    return write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _figure(what: str) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(f"{what} need matplotlib: pip install 'iddpm[plots]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plot(axes: Any, records: list[dict[str, Any]], key: str, label: str, **style: Any) -> None:
    points = [(r["step"], r[key]) for r in records if key in r]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, markersize=3, **style)

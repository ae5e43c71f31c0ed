"""Loss curves of a run as a picture."""

from pathlib import Path
from typing import Any

from iddpm.files import write_atomically
from iddpm.training.log import read_log


def save_curves(directory: Path, path: Path) -> Path:
    """Draw the losses in a run's log and return the picture's path.

    Raises:
        ValueError: nothing has been logged, or matplotlib is not installed.
    """
    records = read_log(directory)
    if not records:
        raise ValueError(f"{directory} has logged nothing to draw yet")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("loss curves need matplotlib: pip install 'iddpm[plots]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    whole, quartiles = figure.subplots(1, 2)
    _plot(whole, records, "loss", "training")
    _plot(whole, records, "held_out_loss", "held out", marker="o")
    whole.set(title="loss", xlabel="step", yscale="log")
    whole.legend()
    names = ("least noise", "second", "third", "most noise")
    for q, name in enumerate(names):
        _plot(quartiles, records, f"loss_q{q}", name)
    quartiles.set(title="loss by quarter of the timesteps", xlabel="step", yscale="log")
    quartiles.legend()
    return write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _plot(axes: Any, records: list[dict[str, Any]], key: str, label: str, **style: Any) -> None:
    points = [(r["step"], r[key]) for r in records if key in r]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, markersize=3, **style)

"""A picture of a run's data: ``iddpm data inspect``."""

from pathlib import Path
from typing import ClassVar

from iddpm.ui.actions.action import Action, Bench

PICTURE = "data.png"
"""The picture in the run directory."""


class InspectAction(Action):
    """Read the data of a run as its training did, and draw some items and a histogram."""

    kind: ClassVar[str] = "inspect"

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        path, settings = data_settings(run)
        words = ["data", "inspect", path]
        for setting in settings:
            words += ["-s", setting]
        return [*words, "--out", str(run / PICTURE)]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        path, settings = data_settings(run)
        return (
            "from pathlib import Path\n\nfrom iddpm.tasks.inspect import inspect\n\n"
            f"lines = list(inspect({path!r}, {settings!r}, Path({str(run / PICTURE)!r})))"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Describe the data and draw the picture."""
        from iddpm.tasks.inspect import inspect

        path, settings = data_settings(run)
        for number, line in enumerate(inspect(path, settings, run / PICTURE)):
            bench.console.print(line)
            bench.console.on_progress(number, None)
        return [run / PICTURE]


def data_settings(run: Path) -> tuple[str, list[str]]:
    """Return the path of a run's data, and its settings of data that are not the defaults.

    Raises:
        ValueError: the data was an object in memory, or an import brought none.
    """
    import json

    from iddpm.config import DataConfig
    from iddpm.config.run_config import read_run_config

    config = read_run_config(run)
    if config.data.path is None:
        raise ValueError(f"{run} does not say where its data is: it was passed from Python")
    fresh, own = DataConfig().model_dump(mode="json"), config.data.model_dump(mode="json")
    settings = [
        f"data.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in own.items()
        if value != fresh[name] and name not in ("path", "cache", "workers", "worker_timeout")
    ]
    if config.model.class_conditional:
        settings.append("model.class_conditional=true")
    return config.data.path, settings

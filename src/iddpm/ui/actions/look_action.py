"""A look at data before training: ``iddpm data inspect``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from iddpm.runtime.atomic_files import write_text
from iddpm.ui.actions.action import Action, Bench, Text
from iddpm.ui.setting_fields import shown, values_by_name

if TYPE_CHECKING:
    from iddpm.config import ResolvedConfig

PROPOSED = "proposed.json"
"""Beside the picture: the settings that training would take, as texts by their names."""


class LookAction(Action):
    """Describe data and draw some items.

    Attributes:
        path: the data.
        settings: assignments such as ``data.image_size=64``.
        out: the picture, which the server has chosen.
    """

    kind: ClassVar[str] = "look"

    run: Text = ""
    path: Text
    settings: tuple[Text, ...] = ()
    out: Text

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        settings = [word for setting in self.settings for word in ("-s", setting)]
        return ["data", "inspect", *settings, *data_word(self.path), "--out", self.out]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        return (
            "from pathlib import Path\n\nfrom iddpm.tasks.inspect import inspect\n\n"
            f"lines = list(inspect({self.path!r}, {list(self.settings)!r}, Path({self.out!r})))"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Describe the data, draw the picture, and write what is proposed for it."""
        from iddpm.tasks.inspect import inspect

        proposed: list[ResolvedConfig] = []
        lines = inspect(self.path, self.settings, Path(self.out), proposed.append)
        for number, line in enumerate(lines):
            bench.console.print(line)
            bench.console.on_progress(number, None)
        written = [Path(self.out)]
        for config in proposed:
            values = {name: shown(value) for name, value in values_by_name(config).items()}
            text = json.dumps({name: value for name, value in values.items() if value})
            written.append(write_text(Path(self.out).with_name(PROPOSED), text))
        return written


def data_word(path: str) -> list[str]:
    """Return data as an argument, which no option can be taken for."""
    return [f"./{path}" if path.startswith("-") else path]

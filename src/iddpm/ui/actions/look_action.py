"""A look at data before training: ``iddpm data inspect``."""

from pathlib import Path
from typing import ClassVar

from iddpm.ui.actions.action import Action, Bench, Text


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
        """Describe the data and draw the picture."""
        from iddpm.tasks.inspect import inspect

        for number, line in enumerate(inspect(self.path, self.settings, Path(self.out))):
            bench.console.print(line)
            bench.console.on_progress(number, None)
        return [Path(self.out)]


def data_word(path: str) -> list[str]:
    """Return data as an argument, which no option can be taken for."""
    return [f"./{path}" if path.startswith("-") else path]

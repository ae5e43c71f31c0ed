"""The training items nearest to one sample: ``iddpm nearest``."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from iddpm.ui.actions.action import Action, Bench, Text, keywords, option


class NearestAction(Action):
    """Find the training items nearest to a sample.

    Attributes:
        file: the sample, or the samples, which the server has found.
        number: of the sample in these.
        out: the output directory, which the server has chosen.
    """

    kind: ClassVar[str] = "nearest"

    file: Text
    number: Annotated[int, Field(ge=0, le=10**7)] | None = None
    n: Annotated[int, Field(ge=1, le=100)] = 5
    out: Text

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["nearest", str(run), self.file, *option("--number", self.number)]
        return [*words, "-n", str(self.n), "--out", self.out]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        how = keywords({"number": self.number, "n": self.n})
        return (
            "from pathlib import Path\n\nimport iddpm\nfrom iddpm.tasks.nearest import nearest\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"found = nearest(run, {self.file!r}, {how}, out=Path({self.out!r}))"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm nearest`` does."""
        from iddpm.tasks.nearest import nearest

        out, opened = Path(self.out), bench.open_run(run)
        nearest(opened, self.file, number=self.number, n=self.n, out=out, console=bench.console)
        return [out / "nearest.png", out / "nearest.json"]

"""Upscaling of files: ``iddpm upscale``."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from iddpm.config.choices import SAMPLERS, OneOf
from iddpm.ui.actions.action import Action, Bench, Text, keywords, option

SAMPLING = ("steps", "sampler", "spacing", "guidance", "low_res_noise")


class UpscaleAction(Action):
    """Upscale a file that the server has.

    Attributes:
        file: the file.
        out: the output directory, which the server has chosen.
    """

    kind: ClassVar[str] = "upscale"

    file: Text
    out: Text
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    sampler: Annotated[str, OneOf(SAMPLERS, "auto")] | None = None
    spacing: Text | None = None
    guidance: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    low_res_noise: Annotated[float, Field(ge=0, le=1e6)] | None = None
    average: Annotated[int, Field(ge=1, le=1_000)] = 1
    class_name: Text | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0

    @property
    def _how(self) -> dict[str, Any]:
        names = ("seed", "class_name", "average", *SAMPLING)
        return {name: getattr(self, name) for name in names}

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["upscale", str(run), self.file, "--out", self.out, "--seed", str(self.seed)]
        words += option("--class", self.class_name)
        words += ["--average", str(self.average)]
        for name in SAMPLING:
            words += option(f"--{name.replace('_', '-')}", getattr(self, name))
        return words

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        return (
            "from pathlib import Path\n\nimport iddpm\nfrom iddpm.tasks.upscale import upscale\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"upscale(run, [{self.file!r}], out=Path({self.out!r}), {keywords(self._how)})"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm upscale`` does, and show the estimates of the tiles on the way."""
        from iddpm.tasks.upscale import upscale

        opened = bench.open_run(run)
        how = self._how | {"out": Path(self.out), "console": bench.console}
        return upscale(opened, [self.file], **how, on_state=lambda x: bench.show(1, x))

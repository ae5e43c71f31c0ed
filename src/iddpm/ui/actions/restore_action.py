"""Restoring what is blurred, incomplete or coarse: ``iddpm restore``."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from iddpm.config.choices import OPERATORS, RESTORATIONS, SAMPLERS, OneOf
from iddpm.ui.actions.action import Action, Bench, Extent, Text, keywords, option, read_extent


class RestoreAction(Action):
    """Restore an item that a known linear operator has measured.

    Attributes:
        item: a measured file that the server has; to simulate also the number of a held-out item.
        operator: what has measured it; of ``width``, ``factor`` and ``mask`` it takes one.
        out: the output directory, which the server has chosen.
    """

    kind: ClassVar[str] = "restore"

    item: Text
    out: Text
    operator: Annotated[str, OneOf(OPERATORS)] = "blur"
    width: Annotated[float, Field(gt=0, le=1_000)] | None = None
    factor: Extent | None = None
    mask: Text | None = None
    noise: Annotated[float, Field(ge=0, le=100)] | None = None
    simulate: bool = False
    method: Annotated[str, OneOf(RESTORATIONS)] | None = None
    n: Annotated[int, Field(ge=1, le=256)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    sampler: Annotated[str, OneOf(SAMPLERS, "auto")] | None = None
    spacing: Text | None = None
    guidance: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    class_name: Text | None = None

    @property
    def _measured(self) -> dict[str, Any]:
        """The option of the operator by its name."""
        name = OPERATORS[self.operator].settings
        return {name: getattr(self, name)}

    @property
    def _how(self) -> dict[str, Any]:
        sampling = ("steps", "sampler", "spacing", "guidance")
        names = ("noise", "method", "n", "seed", *sampling, "class_name")
        return {name: getattr(self, name) for name in names}

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["restore", str(run), self.item, "--operator", self.operator]
        for name, value in (self._measured | self._how).items():
            words += option({"n": "-n", "class_name": "--class"}.get(name, f"--{name}"), value)
        return [*words, *option("--simulate", self.simulate), "--out", self.out]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        operator = keywords(_read(self._measured))
        return (
            "from pathlib import Path\n\nimport iddpm\n"
            "from iddpm.builders.linear_operator import OperatorRequest\n"
            "from iddpm.tasks.restore import restore\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"operator = OperatorRequest({self.operator!r}, {operator})\n"
            f"restore(run, [{self.item!r}], operator, simulate={self.simulate}, "
            f"out=Path({self.out!r}), {keywords(self._how)})"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm restore`` does."""
        from iddpm.builders.linear_operator import OperatorRequest
        from iddpm.tasks.restore import restore

        request = OperatorRequest(self.operator, **_read(self._measured))
        opened = bench.open_run(run)
        how = self._how | {"simulate": self.simulate, "out": Path(self.out)}
        return restore(opened, [self.item], request, **how, console=bench.console)


def _read(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the option of an operator as the task takes it."""
    read: dict[str, Any] = {"factor": read_extent, "mask": Path}
    return {k: v if v is None else read.get(k, float)(v) for k, v in measured.items()}

"""Editing of items: ``iddpm edit``, ``iddpm inpaint`` and ``iddpm interpolate``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from iddpm.config.choices import SAMPLERS, OneOf
from iddpm.ui.actions.action import Action, Bench, Text, keywords, option

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Evaluations = Annotated[int, Field(ge=1, le=100_000)]
MOST_VERSIONS = 256
SAMPLING = ("steps", "sampler", "spacing", "guidance")


class ItemAction(Action):
    """Draw an item anew in several versions.

    Attributes:
        item: the number of a held-out item, or a file that the server has found.
    """

    item: Text
    n: Annotated[int, Field(ge=1, le=MOST_VERSIONS)] = 4
    seed: Seed = 0
    class_name: Text | None = None
    steps: Evaluations | None = None
    sampler: Annotated[str, OneOf(SAMPLERS, "auto")] | None = None
    spacing: Text | None = None
    guidance: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    folder: ClassVar[str]
    """Where the versions are written, in ``RUN/samples``."""

    @property
    def _own(self) -> dict[str, Any]:
        """What this action alone takes."""
        return {}

    @property
    def _versions(self) -> dict[str, Any]:
        names = ("n", "seed", "class_name", *SAMPLING)
        return {name: getattr(self, name) for name in names}

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = [self.kind, str(run), self.item, "-n", str(self.n), "--seed", str(self.seed)]
        rest = {"class": self.class_name} | {name: getattr(self, name) for name in SAMPLING}
        for name, value in (self._own | rest).items():
            words += option(f"--{name}", value)
        return words

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        own = {name: value for name, value in self._own.items() if name != "mask"}
        mask = f", {self._own['mask']!r}" if "mask" in self._own else ""
        return (
            f"import iddpm\nfrom iddpm.tasks.edit import {self.kind}\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"{self.kind}(run, {self.item!r}{mask}, {keywords(own | self._versions)})"
        )


class EditAction(ItemAction):
    """Vary an item: add noise up to a level and denoise again."""

    kind: ClassVar[str] = "edit"
    folder: ClassVar[str] = "edit"
    strength: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def _own(self) -> dict[str, Any]:
        return {"strength": self.strength}

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm edit`` does."""
        from iddpm.tasks.edit import edit

        opened = bench.open_run(run)
        how = self._own | self._versions
        return edit(opened, self.item, **how, console=bench.console, on_state=bench.show)


class InpaintAction(ItemAction):
    """Fill in a region; the rest stays unchanged.

    Attributes:
        mask: a file that the server has.
        resample, jump: passes over each interval of so many steps.
        tiled: keep the size of the file, which is drawn in tiles.
    """

    kind: ClassVar[str] = "inpaint"
    folder: ClassVar[str] = "inpainting"
    mask: Text
    resample: Annotated[int, Field(ge=1, le=100)] = 1
    jump: Annotated[int, Field(ge=1, le=10_000)] | None = None
    tiled: bool = False

    @property
    def _own(self) -> dict[str, Any]:
        own = {"mask": self.mask, "resample": self.resample, "jump": self.jump}
        return own | ({"tiled": True} if self.tiled else {})

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm inpaint`` does."""
        from iddpm.tasks.edit import inpaint

        draw: Callable[..., list[Path]] = inpaint
        opened = bench.open_run(run)
        own = {name: value for name, value in self._own.items() if value is not None}
        how = own | self._versions
        return draw(opened, self.item, **how, console=bench.console, on_state=bench.show)


class InterpolateAction(Action):
    """Go from one item to another through the noise that they are decoded from."""

    kind: ClassVar[str] = "interpolate"
    folder: ClassVar[str] = "interpolation"
    item: Text
    other: Text
    frames: Annotated[int, Field(ge=2, le=200)] = 9
    steps: Evaluations | None = None
    class_name: Text | None = None

    @property
    def _how(self) -> dict[str, Any]:
        return {"frames": self.frames, "steps": self.steps, "class_name": self.class_name}

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["interpolate", str(run), self.item, self.other, "--frames", str(self.frames)]
        return [*words, *option("--steps", self.steps), *option("--class", self.class_name)]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        return (
            "import iddpm\nfrom iddpm.tasks.edit import interpolate\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"interpolate(run, {self.item!r}, {self.other!r}, {keywords(self._how)})"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do what ``iddpm interpolate`` does."""
        from iddpm.tasks.edit import interpolate

        opened = bench.open_run(run)
        return interpolate(opened, self.item, self.other, **self._how, console=bench.console)

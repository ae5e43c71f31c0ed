"""What every action has: its parameters, the commands that do the same, and the work itself."""

import shlex
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:  # they bring torch, which the server does without
    from torch import Tensor

    from iddpm.runs.run import Run
    from iddpm.runtime.console import WatchedConsole

Text = Annotated[str, Field(max_length=1_000)]

Extent = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,2}$")]
"""A size such as 64 or 64x48."""


def read_extent(text: str) -> tuple[int, ...]:
    """Return an :data:`Extent` as numbers."""
    return tuple(map(int, text.split("x")))


@dataclass(frozen=True)
class Bench:
    """What an action works with, in the process that computes.

    Attributes:
        root: the directory of the runs.
        console: takes its lines and its progress.
        open_run: opens a run, or returns the one that is open already; arguments as for
            :func:`iddpm.load`.
        show: shows a state [N, C, *spatial] of samples that are being drawn.
    """

    root: Path
    console: "WatchedConsole"
    open_run: Callable[..., "Run"]
    show: "Callable[[int, Tensor], None]"


class Action(BaseModel):
    """The parameters of an action, checked; unknown ones are refused.

    Attributes:
        run: the name of the run, relative to the directory of the runs.
        device: where to compute.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: ClassVar[str]
    """Its name in addresses, messages and the table of actions."""

    run: Text
    device: Text = "auto"

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Read the fields of a form, in which an empty one is left to its default.

        Raises:
            ValueError: one sentence that names the field.
        """
        given = {name: value for name, value in values.items() if value not in ("", None, {})}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or cls.kind
            shown = str(first["input"])[:80]
            raise ValueError(f"{name}={shown!r} does not work: {first['msg']}") from None

    @abstractmethod
    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""

    @abstractmethod
    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""

    @abstractmethod
    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Do it, by the task of the command, and return the files that were written."""

    def command(self, run: Path) -> str:
        """Return the command line, to be copied into a shell."""
        return shlex.join(["iddpm", *self.arguments(run)])


def option(name: str, value: object) -> list[str]:
    """Return an option and its value; nothing for None and False, the name alone for True."""
    if value is None or value is False:
        return []
    return [name] if value is True else [name, str(value)]


def keywords(values: Mapping[str, Any]) -> str:
    """Return values as keyword arguments of Python, those that are None left out."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)

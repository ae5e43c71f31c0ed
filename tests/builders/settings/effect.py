"""How the effect of a setting is seen: what is looked at, and what must be seen for which value."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from iddpm.config import Config, read_config, settle
from iddpm.config.resolved import what_is_missing
from tests.conftest import TINY

BASE = (*TINY, "model.channels=1", "model.size=[8,8]", "model.num_heads=1")


class Differs:
    """What must be seen is not known beforehand: it differs from what other values give."""


DIFFERS = Differs()


@dataclass(frozen=True)
class Scene:
    """Where the effect of settings is looked for.

    Attributes:
        assignments: the settings.
        folder: an empty folder.
        patch: undone after the test.
    """

    assignments: tuple[str, ...]
    folder: Path
    patch: pytest.MonkeyPatch

    @property
    def config(self) -> Config:
        """The settings, validated, and resolved where they state all facts."""
        config = read_config(None, self.assignments)
        return config if what_is_missing(config) else settle(config)


@dataclass(frozen=True)
class Effect:
    """What a setting changes.

    Attributes:
        look: returns what is seen, made of Python's own values.
        seen: by the text of the setting, what must be seen, or what returns it; two
            or more. Lines after the first are
            assignments that this value needs beside it.
        also: assignments beside it.
        before: makes files in the folder, which ``{folder}`` stands for in assignments.
        key: the setting as it is written, where the plan names it otherwise.
    """

    look: Callable[[Scene], Any]
    seen: Mapping[str, Any]
    also: tuple[str, ...] = ()
    before: Callable[[Path], None] = field(default=lambda folder: None)
    key: str | None = None
    base: tuple[str, ...] = BASE

    def check(self, leaf: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        """Look at every value; each must be seen, and no two may look alike."""
        assert len(self.seen) > 1, leaf
        self.before(folder)
        found = []
        for number, (text, wanted) in enumerate(self.seen.items()):
            own, *needs = f"{self.key or leaf}={text}".split("\n")
            assignments = (*self.base, *self.also, *needs, own)
            assignments = tuple(a.replace("{folder}", str(folder)) for a in assignments)
            place = folder / f"value_{number}"
            place.mkdir()
            with patch.context() as inner:
                found.append(self.look(Scene(assignments, place, inner)))
            if not isinstance(wanted, Differs):
                wanted = wanted() if callable(wanted) else wanted
                assert found[-1] == wanted, f"{own}: {found[-1]!r} and not {wanted!r}"
        for number, one in enumerate(found):
            assert one not in found[:number], f"{leaf}: two of {list(self.seen)} look alike"


def numbers(value: torch.Tensor | np.ndarray) -> list[Any]:
    """Return an array as lists, which compare as a whole."""
    return [list(value.shape), value.flatten().tolist()]


def leaves(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every setting by its dotted name, whatever it lies in.

    A section that is one of several kinds stands as ``[kind]``, and a section under a name of the
    user's as ``[name]``.
    """
    for name, info in section.model_fields.items():
        inner = list(_sections(info.annotation))
        if not inner:
            yield prefix + name
        for model, named in inner:
            place = f"{prefix}{name}"
            if named:
                place += "[name]"
            elif sum(not is_named for _, is_named in inner) > 1:
                place += f"[{model.model_fields['kind'].default}]"
            yield from leaves(model, f"{place}.")


def _sections(annotation: Any, named: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Yield the sections in an annotation, and whether they lie under names in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, named
    elif get_origin(annotation) is not Literal:
        named = named or get_origin(annotation) is dict
        for part in get_args(annotation):
            yield from _sections(part, named)


__all__ = ["BASE", "DIFFERS", "Effect", "Scene", "leaves", "numbers"]

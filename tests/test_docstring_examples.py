"""The examples in docstrings print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import iddpm

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
WITHOUT = {
    "distill": "needs a trained run and many steps: the docstring shows the call, which is not run",
    "train_loop": "joins TrainState, TrainStep and LoopSettings, which have examples",
    "tune": "as distill",
}
"""Public names whose docstrings have no example, and why."""


def test_every_public_name_has_an_example():
    examples = doctest.DocTestParser().get_examples
    names = {name for name in iddpm.__all__ if not name.startswith("_")}
    assert {name for name in names if not examples(getattr(iddpm, name).__doc__ or "")} == set(
        WITHOUT
    )


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert done.attempted
    assert not done.failed

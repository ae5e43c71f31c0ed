"""From a row of the tables of choices to the class or function that it names."""

from functools import reduce
from importlib import import_module
from typing import Any


def load(home: str) -> Any:
    """Return what ``module:name`` stands for; rows come from :mod:`iddpm.config.choices` alone."""
    module, _, name = home.partition(":")
    return reduce(getattr, name.split("."), import_module(module))

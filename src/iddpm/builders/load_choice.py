"""Loading the class or function of a row in the tables of choices."""

from functools import reduce
from importlib import import_module
from typing import Any


def load(home: str) -> Any:
    """Return the object of ``module:name``; rows come from :mod:`iddpm.config.choices` alone."""
    module, _, name = home.partition(":")
    return reduce(getattr, name.split("."), import_module(module))

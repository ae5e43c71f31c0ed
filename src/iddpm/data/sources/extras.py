"""Libraries that are installed only by those who need them."""

import importlib
from typing import Any


def needed(module: str, extra: str, what: str) -> Any:
    """Import and return a module of an optional extra; `what` is what needs it, for the message."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModuleNotInstalledError(
            f"{what} needs {module}: pip install 'iddpm[{extra}]'"
        ) from None


class ModuleNotInstalledError(ValueError):
    """An optional library is missing."""

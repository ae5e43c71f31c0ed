"""No number among the settings is NaN or infinite."""

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from iddpm.config import Config, read_config


def _floats(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the keys of all settings that take one float."""
    keys = []
    for name, field in section.model_fields.items():
        kinds: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if inner:
            keys += _floats(inner[0], f"{prefix}{name}.")
        elif "float" in str(field.annotation) and "tuple" not in str(field.annotation):
            keys.append(prefix + name)
    return keys


KEYS = [key for key in _floats(Config) if not key.startswith("diffusion.loss")]


def test_the_list_is_not_empty() -> None:
    assert {"training.learning_rate", "training.epochs", "sampling.guidance"} <= set(KEYS)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", KEYS)
def test_numbers_that_are_not_finite_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key.rpartition(".")[2]):
        read_config(None, [f"{key}={value}"])


@pytest.mark.parametrize(
    "setting",
    ["sampling.guidance_interval=[0, .inf]", "training.betas=[0.9, .nan]", "data.range=[0, .inf]"],
)
def test_nor_within_pairs(setting: str) -> None:
    with pytest.raises(ValueError, match=setting.partition("=")[0].rpartition(".")[2]):
        read_config(None, [setting])

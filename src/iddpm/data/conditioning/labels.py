"""Classes by name or number."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.runtime.seeds import stream

NO_CLASS = -1
"""The number of no class, in labels and for networks."""

Wanted = Sequence[int | str] | int | str | None
"""Requested classes: one for all, or one per sample, by name or number; None draws them."""


@dataclass(frozen=True)
class Classes:
    """The classes that a model knows.

    Attributes:
        count: how many.
        names: their names in the order of their numbers; may be empty.
        where: the model, for messages.
    """

    count: int
    names: tuple[str, ...]
    where: str

    def labels(self, n: int, seed: int, wanted: Wanted = None) -> Tensor:
        """Return the class of each of ``n`` samples, int64 [n]; drawn from ``seed`` by default.

        Raises:
            ValueError: a class that does not exist, or another number of them than ``n``.
        """
        if wanted is None:
            drawn = [int(stream(seed, "class", index=k).integers(self.count)) for k in range(n)]
            return torch.tensor(drawn)
        if isinstance(wanted, int | str):
            wanted = [wanted] * n
        if len(wanted) != n:
            raise ValueError(f"{len(wanted)} classes were given for {n} samples")
        return torch.tensor([self.number(name) for name in wanted])

    def name(self, number: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return self.names[number] if self.names and number != NO_CLASS else str(number)

    def number(self, name: int | str) -> int:
        """Return the number of a class; the number -1 is that of no class.

        Raises:
            ValueError: no class of that name or number.
        """
        if name == NO_CLASS:
            return NO_CLASS
        if isinstance(name, str) and name in self.names:
            return self.names.index(name)
        try:
            number = int(name)
        except ValueError:
            number = -1
        if not 0 <= number < self.count:
            shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise ValueError(
                f"class {name!r} is not one of the {self.count} classes of {self.where}"
                + (f": {shown}" if self.names else f": use 0 to {self.count - 1}")
            )
        return number

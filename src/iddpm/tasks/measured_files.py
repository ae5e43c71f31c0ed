"""Files to restore: what was measured of them, and by which operator."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from iddpm.builders import form_of
from iddpm.builders.linear_operator import OperatorRequest, build_operator, is_matrix
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.upscaling.measured_items import Measurements, StoredItem
from iddpm.runs.run import Run
from iddpm.runtime.seeds import normal
from iddpm.sampling.operators import Operator, size_of
from iddpm.tasks.edit import open_item

ROUNDING = 1 / math.sqrt(12)
"""Standard deviation of rounding, in steps of a level."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One file to restore: what was measured of its items, and by which operator."""

    name: str
    file: LowRes
    operator: Operator
    measured: Tensor
    noise: float
    truth: Tensor | None

    def names(self, n: int) -> list[str]:
        """Return the names of what is written of ``n`` samples."""
        if n == 1:
            return [self.name]
        return [*(self.part(str(k)) for k in range(n)), self.part("mean"), self.spread_name]

    def part(self, which: str) -> str:
        """Return the name of one of the files."""
        return f"{self.name.removesuffix(self.file.output)}.{which}{self.file.output}"

    @property
    def spread_name(self) -> str:
        """The name of the map of the standard deviation."""
        return self.file.spread_name(self.name)


def open_files(
    run: Run, files: Iterable[Path | str], request: OperatorRequest, simulate: bool
) -> dict[str, LowRes]:
    """Open the files by the name of what becomes of each."""
    dims, values = len(run.shape) - 1, form_of(run.config)
    factors = (1,) * dims if simulate else request.factors(dims)
    corners = request.name == "subsample"
    target = Target(run.shape[0], factors, values, run.config.data.labels, simulate, corners)
    found: dict[str, LowRes] = {}
    for file in files:
        some: dict[str, LowRes]
        number = str(file).isdecimal() and not Path(file).exists()
        if number and not simulate:
            raise FileNotFoundError(
                f"there is no file {file}: to measure and restore held-out item {file}, add "
                "--simulate"
            )
        if number:
            item = StoredItem(open_item(run, file).x, f"item {file}", target)
            some = {f"{int(str(file)):06d}{item.output}": item}
        elif not simulate and is_matrix(request, run.config):
            operator = build_operator(run.config, request, run.shape[1:])
            measured = Measurements(Path(file), target, operator.measured_shape[0])
            some = {f"{Path(file).stem}.npy": measured}
        else:
            some = open_low_res([file], target)
        if twice := sorted(found.keys() & some.keys()):
            raise ValueError(
                f"two files would both become {twice[0]}: restore one of them separately, with "
                "another --out"
            )
        found |= some
    if not found:
        raise ValueError("there is nothing to restore: give a file")
    return found


def measure_files(
    run: Run,
    opened: dict[str, LowRes],
    request: OperatorRequest,
    noise: float | None,
    simulate: bool,
    seed: int,
) -> list[Measured]:
    """Return what was measured of each file, or measure it."""
    jobs, start, dims = [], 0, len(run.shape) - 1
    for name, file in opened.items():
        read = file.read(0, file.count)
        if simulate:
            operator = build_operator(run.config, request, file.shape[1:])
            level = noise or 0.0
            y = operator.forward(read)
            drawn = normal(seed, "measurement", tuple(y.shape), start=start)
            y = y + level * torch.from_numpy(drawn)
            jobs.append(Measured(name, file, operator, y, level, read))
        else:
            size = run.shape[1:]  # of what a matrix has measured
            if not isinstance(file, Measurements):
                size = size_of(file.shape[1:], request.factors(dims))
            operator = build_operator(run.config, request, size)
            level = _rounding(run, request) if noise is None else noise
            y = _in_units_of_the_model(run, operator, read)
            operator.check(y)
            jobs.append(Measured(name, file, operator, y, level, None))
        start += file.count
    return jobs


def _rounding(run: Run, request: OperatorRequest) -> float:
    """Return the noise of measurements that are stored as the levels of the data."""
    if run.config.bits is None or request.name in ("mask", "subsample"):
        return 0.0
    return ROUNDING * 2 / float(2**run.config.bits - 1)


def _in_units_of_the_model(run: Run, operator: Operator, y: Tensor) -> Tensor:
    """Return measurements of items in [-1, 1] from those of items in the data's own numbers.

    An item x of the model is (numbers - middle) / half; so are measurements, as they were read. But
    the operator measures the middle, too.
    """
    values = form_of(run.config).values
    assert values is not None
    middle, half = (values.high + values.low) / 2, (values.high - values.low) / 2
    ones = torch.ones((1, *operator.shape), dtype=torch.float64)
    return (y + middle / half * (1 - operator.forward(ones))).to(y)

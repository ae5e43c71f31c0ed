"""Which bound on the likelihood is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from iddpm.diffusion import NoiseSchedule
from iddpm.diffusion.prediction import VarianceKind
from iddpm.evaluation.bound_terms import Process, process
from iddpm.evaluation.continuous_bound import continuous_process
from iddpm.evaluation.step_costs import StepTable
from iddpm.runs.run import Run
from iddpm.runtime.processes import Ranks
from iddpm.sampling import even_timesteps

Method = Literal["steps", "continuous"]
Stride = Literal["even", "optimal"]
FewSteps = Literal["importance", "stratified"]


@dataclass(frozen=True, eq=False)
class Bound:
    """Which bound is measured, checked.

    Attributes:
        whole: the process that was trained, of T steps.
        continuous: the process of infinitely many steps, where its bound is measured.
        even: K of them, evenly.
        stride: ``"even"`` or ``"optimal"``.
        variance: of the reverse process.
        looks: network evaluations for an item.
        few_steps: how the steps of those are drawn.
    """

    whole: NoiseSchedule
    continuous: Process | None
    even: list[int]
    stride: str
    variance: VarianceKind
    looks: int
    few_steps: str

    @property
    def count(self) -> int:
        """K, the steps of the reverse process."""
        return len(self.even)

    @property
    def draws(self) -> bool:
        """Whether the bound is estimated from some of its steps."""
        return self.looks < self.count

    @property
    def chooses(self) -> bool:
        """Whether the steps are those with the least bound."""
        return self.stride == "optimal" and 1 < self.count < len(self.whole)

    def process(self, table: StepTable | None, ranks: Ranks) -> Process:
        """Return the reverse process, whose steps and variance a table may decide."""
        if self.continuous is not None:
            return self.continuous
        variance, count = self.variance, self.count
        kept = ranks.by_first(
            lambda: table.optimal(variance, count) if self.chooses and table else self.even
        )
        analytic = table.analytic if table is not None and variance == "analytic" else None
        return process(self.whole, kept, variance, analytic)

    def facts(self, samples_per_item: int | None) -> dict[str, Any]:
        """Return what defines the bound, for JSON."""
        return {
            "method": "steps" if self.continuous is None else "continuous",
            "trained_steps": len(self.whole),
            "steps": self.count,
            "stride": self.stride,
            "variance": self.variance,
            "samples_per_item": samples_per_item,
            "few_steps": self.few_steps if self.draws else None,
        }


def choose_bound(
    run: Run,
    method: str,
    steps: int | None,
    stride: str,
    variance: str | None,
    samples_per_item: int | None,
    few_steps: str,
) -> Bound:
    """Check which bound was asked for; arguments as for :func:`iddpm.likelihood`."""
    check_choice(method, Method, "method")
    check_choice(stride, Stride, "stride")
    check_choice(few_steps, FewSteps, "few_steps")
    kind = _variance(run, variance)
    whole = run.denoiser.diffusion.schedule
    if method == "continuous":
        _check_continuous(run, {"steps": steps, "stride": stride, "variance": variance})
    continuous = continuous_process(whole, kind) if method == "continuous" else None
    count = len(whole) if steps is None else steps
    if continuous is not None:
        count = len(continuous.kept)
    even = even_timesteps(len(whole), count)  # refuses a count out of range
    looks = count if samples_per_item is None else samples_per_item
    if not min(2, count) <= looks <= count:
        raise ValueError(
            f"samples_per_item={looks} does not fit a process of {count} steps: use "
            f"{min(2, count)} to {count}, the decoder among them"
        )
    return Bound(whole, continuous, even, stride, kind, looks, few_steps)


def _check_continuous(run: Run, stated: Mapping[str, Any]) -> None:
    """Raise ValueError for what the limit of infinitely many steps has not."""
    usual = {"steps": None, "stride": "even", "variance": None}
    for name, value in stated.items():
        if value != usual[name]:
            raise ValueError(
                f"method=continuous is the limit of infinitely many steps, which no {name} "
                f"changes, and {name}={value} was stated: leave it out, or use method=steps"
            )
    if run.denoiser.predicts == "previous":
        raise ValueError(
            f"method=continuous looks between steps, and {run.directory} predicts the mean of the "
            "step before: use method=steps"
        )


def _variance(run: Run, asked: str | None) -> VarianceKind:
    own = run.denoiser.diffusion.variance
    if asked is None or asked == own:
        return own
    if asked == "learned":
        if not own.startswith("learned"):
            raise ValueError(
                f"{run.directory} was trained with variance={own}, so none is learned: use "
                "analytic, fixed_small or fixed_large"
            )
        return own
    kinds: dict[str, VarianceKind] = {
        "analytic": "analytic",
        "fixed_small": "fixed_small",
        "fixed_large": "fixed_large",
    }
    if asked not in kinds:
        raise ValueError(f"variance {asked!r} is unknown: use learned, {', '.join(kinds)}")
    return kinds[asked]


def check_choice(value: str, known: Any, what: str) -> None:
    """Raise ValueError unless a value is one of those that a Literal names."""
    if value not in get_args(known):
        raise ValueError(f"{what} {value!r} is unknown: use {' or '.join(get_args(known))}")
